//! Releases, as clients use them: how they come about, what they carry on, and how they are gone back to.

use std::time::Duration;

use paas_ports::{TailQuery, outside};
use paas_tests::api_world::ApiWorld;
use paas_tests::database::Database;
use paas_tests::stories;
use serde_json::{Value, json};

const WEB: &[(&str, &str)] = &[("Procfile", "web: serve\nworker: worker\n"), ("index.html", "hello")];

fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().expect("a list").iter().map(|item| item[field].as_str().unwrap_or("-")).collect()
}

/// Builds a Procfile and waits until its release has ended one way or the other.
async fn release(world: &ApiWorld, procfile: &str) -> Value {
    let before = world.get("/apps/hello/releases").await.json().as_array().map_or(0, Vec::len);
    let url = world.upload(&[("Procfile", procfile)]).await;
    let build = world.post("/apps/hello/builds", &json!({"source_blob": {"url": url}})).await;
    assert_eq!(build.status, 201, "{}", build.text());
    ended(world, before).await
}

/// The release behind the first `before` ones, once it is no longer pending.
async fn ended(world: &ApiWorld, before: usize) -> Value {
    let ended = |releases: &Value| releases[before]["status"].as_str().is_some_and(|status| status != "pending");
    world.until("/apps/hello/releases", ended).await[before].clone()
}

/// Each change of config makes one release, also while an older one's release phase runs.
async fn config_during_a_release_phase(database: Database) {
    let world = ApiWorld::live(database).await;
    world.create_app("hello").await;
    let files = &[("Procfile", "web: serve\nrelease: sleep 3000\n")];
    let url = world.upload(files).await;
    let body = json!({"source_blob": {"url": url, "version": "v1"}});
    assert_eq!(world.post("/apps/hello/builds", &body).await.status, 201);
    let pending = |releases: &Value| releases[2]["status"] == "pending";
    world.until("/apps/hello/releases", pending).await;
    for n in 0..3 {
        assert_eq!(world.patch("/apps/hello/config-vars", &json!({ "N": n.to_string() })).await.status, 200);
    }
    let all = |releases: &Value| column(releases, "status") == ["succeeded"; 6];
    let releases = world.until("/apps/hello/releases", all).await;
    assert_eq!(releases[5]["current"], true);
    assert!(releases[2]["output_stream_url"].is_string());
    world.end().await;
}

/// What earlier releases left is collected when nothing is under way, and never while a job is.
async fn leftovers_are_collected_in_quiet_times(database: Database) {
    let world = ApiWorld::live(database).await;
    let app = world.create_app("hello").await["id"].as_str().expect("an id").parse().expect("an id");
    world.deploy("hello", WEB).await;
    let collected = async |within: Duration| {
        let before = world.dynos.collected(&app);
        let again = async {
            while world.dynos.collected(&app) == before {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(within, again).await.is_ok()
    };
    assert!(collected(Duration::from_secs(60)).await, "nothing is under way");
    let url = world.upload(&[("Procfile", "web: serve\nrelease: sleep 600000\n")]).await;
    let body = json!({"source_blob": {"url": url, "version": "v1"}});
    assert_eq!(world.post("/apps/hello/builds", &body).await.status, 201);
    world.until("/apps/hello/releases", |releases| releases[3]["status"] == "pending").await;
    assert!(!collected(Duration::from_secs(1)).await, "a release phase is under way");
    world.end().await;
}

async fn releases_go_back_and_again(database: Database) {
    let world = ApiWorld::live(database).await;
    world.create_app("hello").await;
    world.deploy("hello", WEB).await;
    world.patch("/apps/hello/config-vars", &json!({"GREETING": "hi"})).await;
    let back = world.post("/apps/hello/releases", &json!({"release": "v3"})).await.json();
    assert_eq!((&back["version"], &back["description"]), (&json!(5), &json!("Rollback to v3")));
    assert_eq!(back["current"], true);
    assert_eq!(world.get("/apps/hello/config-vars").await.json(), json!({}), "the config went back too");
    let id = world.get("/apps/hello/releases/4").await.json()["id"].clone();
    assert_eq!(world.post("/apps/hello/releases", &json!({"release": id})).await.json()["version"], 6);
    assert_eq!(world.post("/apps/hello/releases", &json!({"release": 3})).await.json()["version"], 7);
    let retry = json!({"slug": back["slug"]["id"], "description": "Retry of v3: Deploy"});
    let retry = world.post("/apps/hello/releases", &retry).await.json();
    assert_eq!((&retry["version"], &retry["description"]), (&json!(8), &json!("Retry of v3: Deploy")));
    let nowhere = world.post("/apps/hello/releases", &json!({"release": "v1"})).await;
    assert_eq!(nowhere.short(), "422 invalid_params", "v1 has no code");
    assert_eq!(world.post("/apps/hello/releases", &json!({"release": "v99"})).await.json()["resource"], "release");
    world.end().await;
}

/// The code of a release whose phase failed: a change of config or a retry carries it on, the first and a later one.
async fn what_a_release_phase_refused_is_carried_on(database: Database) {
    let world = ApiWorld::live(database).await;
    world.create_app("hello").await;
    let retry = async |release: &Value| {
        // What `releases:retry` sends once it has found the line of the release phase.
        let formation = world.get("/apps/hello/formation").await.json();
        assert!(column(&formation, "type").contains(&"release"), "{formation}");
        let body = json!({"slug": release["slug"]["id"], "description": "Retry"});
        let retried = world.post("/apps/hello/releases", &body).await;
        assert_eq!(retried.status, 201, "{}", retried.text());
        ended(&world, usize::try_from(retried.json()["version"].as_u64().expect("a version")).expect("small") - 1).await
    };

    world.dynos.when_command_has("migrate", "exit 3");
    let first = release(&world, "web: serve\nrelease: migrate\n").await;
    assert_eq!((&first["status"], &first["current"]), (&json!("failed"), &json!(false)));
    let formation = world.get("/apps/hello/formation").await.json();
    assert_eq!((column(&formation, "type"), column(&formation, "command")), (vec!["release"], vec!["migrate"]));
    assert_eq!(retry(&first).await["status"], "failed");
    world.dynos.when_command_has("migrate", "exit 0");
    let good = retry(&first).await;
    assert_eq!((&good["status"], &good["current"], &good["version"]), (&json!("succeeded"), &json!(true), &json!(5)));
    let formation = world.get("/apps/hello/formation").await.json();
    assert_eq!(column(&formation, "type"), ["release", "web"]);
    assert_eq!(formation[1]["quantity"], 1, "the first code that is released gets a web dyno");

    world.dynos.when_command_has("migrate", "exit 4");
    let later = release(&world, "web: serve\nworker: worker\nrelease: migrate\n").await;
    assert_eq!((&later["status"], &later["version"]), (&json!("failed"), &json!(6)));
    assert_ne!(later["slug"], good["slug"]);
    world.dynos.when_command_has("migrate", "exit 0");
    assert_eq!(world.patch("/apps/hello/config-vars", &json!({"MISSING": "there"})).await.status, 200);
    let carried = ended(&world, 6).await;
    assert_eq!((&carried["slug"], &carried["current"]), (&later["slug"], &json!(true)));
    assert_eq!(column(&world.get("/apps/hello/formation").await.json(), "type"), ["release", "web", "worker"]);

    // Going back is a choice that the next change of config does not undo.
    assert_eq!(world.post("/apps/hello/releases", &json!({"release": "v5"})).await.json()["version"], 8);
    assert_eq!(ended(&world, 7).await["slug"], good["slug"]);
    assert_eq!(world.patch("/apps/hello/config-vars", &json!({"OTHER": "one"})).await.status, 200);
    assert_eq!(ended(&world, 8).await["slug"], good["slug"]);
    world.end().await;
}

/// The lines of the app's log that the platform wrote about this dyno.
async fn said_of(world: &ApiWorld, app: &Value, dyno: &str) -> Vec<String> {
    use futures_util::StreamExt as _;
    let app = app["id"].as_str().expect("an id").parse().expect("an id");
    let query = TailQuery { lines: 1_000, process: Some(dyno.to_owned()), ..TailQuery::default() };
    let lines = outside::task(world.cx.logs.tail(&app, query)).await.expect("a log");
    lines.map(|tail| format!("{}: {}", tail.line.source.as_str(), tail.line.message)).collect().await
}

async fn a_restart_is_told(database: Database) {
    let world = ApiWorld::live(database).await;
    let app = world.create_app("hello").await;
    world.deploy("hello", &[("Procfile", "web: serve\nworker: worker\n")]).await;
    let restarting = ["heroku: Restarting".to_owned(), "heroku: State changed from up to starting".to_owned()];
    let restarts = async |dyno: &str| {
        let said = said_of(&world, &app, dyno).await;
        said.windows(2).filter(|two| **two == restarting).count()
    };
    let only_one = |dynos: &Value| dynos.as_array().is_some_and(|all| all.len() == 1 && all[0]["state"] == "up");
    let mut names = Vec::new();
    for path in ["/apps/hello/dynos", "/apps/hello/dynos/*"] {
        let name = world.until("/apps/hello/dynos", only_one).await[0]["name"].as_str().expect("a name").to_owned();
        let before = restarts(&name).await;
        let id = world.get("/apps/hello/dynos").await.json()[0]["id"].clone();
        let answer = world.send(&world.ask("DELETE", &path.replace('*', &name))).await;
        assert_eq!(answer.status, 202, "{path}");
        world.until("/apps/hello/dynos", |dynos| only_one(dynos) && dynos[0]["id"] != id).await;
        assert_eq!(restarts(&name).await, before + 1, "{path}: {:#?}", said_of(&world, &app, &name).await);
        names.push(name);
    }
    // What does not run does not restart, and a one-off dyno does not come back.
    let run = world.post("/apps/hello/dynos", &json!({"command": "sleep 60000"})).await.json();
    let run = run["name"].as_str().expect("a name");
    let up = |dynos: &Value| {
        dynos.as_array().is_some_and(|all| all.iter().any(|d| d["type"] == "run" && d["state"] == "up"))
    };
    world.until("/apps/hello/dynos", up).await;
    world.send(&world.ask("DELETE", &format!("/apps/hello/dynos/{run}"))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let said = said_of(&world, &app, run).await;
    assert!(!said.iter().any(|line| line.contains("Restarting")), "{said:#?}");
    assert!(said_of(&world, &app, "worker").await.is_empty());
    world.end().await;
}

stories!(
    a_restart_is_told,
    config_during_a_release_phase,
    leftovers_are_collected_in_quiet_times,
    releases_go_back_and_again,
    what_a_release_phase_refused_is_carried_on,
);
