//! What an app runs on, and how clients come back to it: `features` and, below `/paas`, `placement`.

use paas_domain::{AppId, Architecture, Capacity, ProcessType};
use paas_server::cx::Offer;
use paas_tests::api_world::{ApiWorld, Ask};
use paas_tests::database::Database;
use paas_tests::stories;
use serde_json::{Value, json};

const WEB: &[(&str, &str)] = &[("Procfile", "web: serve\nworker: worker\n"), ("index.html", "hello")];

async fn session_affinity_is_a_feature(database: Database) {
    let world = ApiWorld::still(database).await;
    let app = world.create_app("hello").await;
    let list = world.get("/apps/hello/features").await.json();
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert_eq!(list[0]["name"], "http-session-affinity");
    assert_eq!((&list[0]["enabled"], &list[0]["state"]), (&json!(false), &json!("general")));
    let id = list[0]["id"].as_str().expect("an id");
    let path = "/apps/hello/features/http-session-affinity";
    for one in [path.to_owned(), format!("/apps/hello/features/{id}")] {
        assert_eq!(world.get(&one).await.json(), list[0], "{one}");
    }
    let before = world.state().await;
    for body in [json!({}), json!({"enabled": null}), json!({"enabled": "yes"}), json!({"enabled": 1})] {
        assert_eq!(world.patch(path, &body).await.short(), "422 invalid_params", "{body}");
    }
    assert_eq!(world.patch(path, &json!({"enabled": false})).await.json()["enabled"], false);
    assert_eq!(world.patch("/apps/hello/features/spdy", &json!({"enabled": true})).await.short(), "404 not_found");
    assert_eq!(world.get("/apps/hello/features/spdy").await.short(), "404 not_found");
    assert_eq!(world.state().await, before, "nothing was asked for");
    assert_eq!(world.patch(path, &json!({"enabled": true})).await.json()["enabled"], true);
    assert_eq!(world.get(path).await.json()["enabled"], true);
    assert_ne!(world.state().await, before, "the app's generation is raised");
    let theirs = format!("/apps/{}/features", app["id"].as_str().expect("an id"));
    assert_eq!(world.send(&Ask::new("GET", &theirs).of(&world.other)).await.short(), "404 not_found");
    world.end().await;
}

async fn placement_is_what_the_platform_has(database: Database) {
    let world = ApiWorld::still(database).await;
    let app = world.create_app("hello").await;
    let path = "/paas/apps/hello/placement";
    let here = Architecture::of_this_machine();
    let foreign = if here == Architecture::X86 { Architecture::Arm } else { Architecture::X86 };
    let plain = json!({"architecture": here, "capacity": "on_demand"});
    assert_eq!(world.get(path).await.json(), plain);
    let before = world.state().await;
    for (body, about) in [
        (json!({"architecture": foreign}), "one machine"),
        (json!({"capacity": "spot"}), "Spot"),
        (json!({"architecture": "amd64"}), "architecture"),
        (json!({"architecture": 1}), "architecture"),
        (json!({"capacity": "SPOT"}), "capacity"),
        (json!({"capacity": "on_demand", "zone": "a"}), "zone"),
    ] {
        let refused = world.patch(path, &body).await;
        assert_eq!(refused.short(), "422 invalid_params", "{body}");
        assert!(refused.text().contains(about), "{body}: {}", refused.text());
    }
    for same in [json!({}), json!({"capacity": "on_demand"}), json!({"architecture": null})] {
        assert_eq!(world.patch(path, &same).await.json(), plain, "{same}");
    }
    assert_eq!(world.state().await, before, "nothing was asked for");
    assert_eq!(world.patch(path, &json!({"architecture": here})).await.json(), plain);
    let theirs = format!("/paas/apps/{}/placement", app["id"].as_str().expect("an id"));
    assert_eq!(world.send(&Ask::new("GET", &theirs).of(&world.other)).await.short(), "404 not_found");
    world.end().await;
}

async fn an_image_runs_on_what_it_is_built_for(database: Database) {
    let world = ApiWorld::live_on(database, Offer::Fargate).await;
    world.add_builder(Architecture::X86).await;
    let app = world.create_app("hello").await["id"].as_str().expect("an id").parse::<AppId>().expect("an id");
    let path = "/paas/apps/hello/placement";
    assert_eq!(world.get(path).await.json(), json!({"architecture": "x86_64", "capacity": "on_demand"}));
    world.deploy("hello", WEB).await;
    let web = ProcessType::web();
    let placed = async |architecture, capacity| {
        let as_wished = |_: &Value| world.dynos.placement_of(&app, &web) == Some((architecture, capacity));
        world.until("/apps/hello", as_wished).await;
    };
    placed(Architecture::X86, Capacity::OnDemand).await;
    let wish = json!({"architecture": "arm64", "capacity": "spot"});
    assert_eq!(world.patch(path, &wish).await.json(), wish);
    // What it costs is what that costs.
    assert_eq!(world.get("/dyno-sizes").await.json()[2]["cost"], json!({"cents": 1802, "unit": "month"}));
    let size = world.get("/apps/hello/available-dyno-sizes").await.json()[2].clone();
    assert_eq!((&size["architecture"], &size["cost"]), (&json!("arm64"), &json!({"cents": 1442, "unit": "month"})));
    // The image is what it was; where its dynos are taken from is not the image's affair.
    placed(Architecture::X86, Capacity::Spot).await;
    world.builds.builds_for(Architecture::Arm);
    // Nobody is there who builds for that, and the push says so.
    let url = world.upload(&[("Procfile", "web: serve\n"), ("index.html", "it waits")]).await;
    let build = world.post("/apps/hello/builds", &json!({"source_blob": {"url": url}})).await.json();
    let output = world.path_of(build["output_stream_url"].as_str().expect("a URL"));
    let build = format!("/apps/hello/builds/{}", build["id"].as_str().expect("an id"));
    // Whoever takes jobs takes the oldest first: this one was passed over.
    world.create_app("second").await;
    world.deploy("second", WEB).await;
    assert_eq!(world.get(&build).await.json()["status"], "pending");
    world.add_builder(Architecture::Arm).await;
    world.until(&build, |build| build["status"] == "succeeded").await;
    let text = world.send(&Ask::new("GET", &output)).await.text().to_owned();
    assert!(text.starts_with(" !     Waiting for a builder for arm64: "), "{text}");
    placed(Architecture::Arm, Capacity::Spot).await;
    world.deploy("hello", &[("Procfile", "web: serve\n"), ("index.html", "for another processor")]).await;
    placed(Architecture::Arm, Capacity::Spot).await;
    world.patch(path, &json!({"architecture": "x86_64", "capacity": "on_demand"})).await;
    placed(Architecture::Arm, Capacity::OnDemand).await;
    // Back to the first image: a release knows what its image is for.
    let releases = world.get("/apps/hello/releases").await.json();
    let first = json!({"release": releases[2]["id"]});
    assert_eq!(world.post("/apps/hello/releases", &first).await.status, 201);
    placed(Architecture::X86, Capacity::OnDemand).await;
    world.end().await;
}

stories!(an_image_runs_on_what_it_is_built_for, placement_is_what_the_platform_has, session_affinity_is_a_feature);
