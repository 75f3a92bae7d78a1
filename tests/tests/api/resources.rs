//! Each resource of the API, as clients use it.

use paas_tests::api_world::{ApiWorld, Ask};
use paas_tests::database::Database;
use paas_tests::stories;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const WEB: &[(&str, &str)] = &[("Procfile", "web: serve\nworker: worker\n"), ("index.html", "hello")];

fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().expect("a list").iter().map(|item| item[field].as_str().unwrap_or("-")).collect()
}

async fn an_app_from_create_to_destroy(database: Database) {
    let world = ApiWorld::still(database).await;
    let app = world.create_app("hello").await;
    assert_eq!(app["git_url"], format!("https://127.0.0.1:{}/hello.git", world.address.port()));
    assert_eq!(app["web_url"], "http://hello.localhost:80/");
    assert_eq!((&app["stack"]["name"], &app["region"]["name"]), (&json!("heroku-24"), &json!("us")));
    assert_eq!((&app["generation"]["name"], &app["create_status"]), (&json!("cedar"), &json!("complete")));
    assert_eq!(app["owner"]["email"], "dev@example.com");
    let id = app["id"].as_str().expect("an id");
    for same in ["hello", id, &id.to_uppercase()] {
        assert_eq!(world.get(&format!("/apps/{same}")).await.json()["id"], app["id"], "{same}");
    }
    let releases = world.get("/apps/hello/releases").await.json();
    assert_eq!(column(&releases, "description"), ["Initial release", "Enable Logplex"]);
    assert_eq!(releases[1]["current"], true);

    let renamed = world.patch("/apps/hello", &json!({"name": "goodbye"})).await.json();
    assert_eq!((&renamed["name"], &renamed["id"]), (&json!("goodbye"), &app["id"]));
    assert_eq!(world.get("/apps/hello").await.status, 404);
    let domains = world.get("/apps/goodbye/domains").await.json();
    assert_eq!(column(&domains, "hostname"), ["goodbye.localhost"]);
    world.create_app("hello").await;
    let taken = world.patch("/apps/hello", &json!({"name": "goodbye"})).await;
    assert_eq!(taken.json()["message"], "Name goodbye is already taken");
    assert_eq!(world.patch("/apps/hello", &json!({"maintenance": true})).await.json()["maintenance"], true);
    assert_eq!(
        world.patch("/apps/hello", &json!({})).await.json()["maintenance"],
        true,
        "nothing said, nothing changed"
    );
    assert_eq!(world.patch("/apps/hello", &json!({"build_stack": "heroku-24"})).await.status, 200);

    let made_up = world.send(&world.ask("POST", "/apps")).await;
    assert_eq!(made_up.status, 201, "no body, no content type");
    let made_up = made_up.json()["name"].as_str().expect("a name").to_owned();
    assert!(made_up.split('-').count() == 3, "{made_up}");
    assert_eq!(
        world.post("/apps", &json!({"name": "old-client", "stack": "cedar", "new_field": [1]})).await.status,
        201
    );
    let names = world.get("/apps").await.json();
    assert_eq!(column(&names, "name"), column(&world.get("/users/~/apps").await.json(), "name"));
    assert_eq!(names.as_array().map(Vec::len), Some(4));
    assert_eq!(world.get("/users/other@example.com/apps").await.status, 404);

    assert_eq!(world.delete("/apps/hello").await.json()["name"], "hello");
    assert_eq!(world.delete("/apps/hello").await.short(), "404 not_found");
    world.create_app("hello").await;
    world.end().await;
}

async fn config_vars_come_back_byte_for_byte(database: Database) {
    let world = ApiWorld::still(database).await;
    world.create_app("hello").await;
    assert_eq!(world.get("/apps/hello/config-vars").await.json(), json!({}));
    let values =
        json!({"LINES": "a\nb\r\n\tc ", "EMPTY": "", "SHELL_WORDS": "$(id) ${OTHER} `x`", "EMOJI": "\u{1F600}é"});
    assert_eq!(world.patch("/apps/hello/config-vars", &values).await.json(), values);
    assert_eq!(world.get("/apps/hello/config-vars").await.json(), values);
    let releases = world.get("/apps/hello/releases").await.json();
    assert_eq!(releases[2]["description"], "Set EMOJI, EMPTY, LINES, SHELL_WORDS config vars");
    assert_eq!(world.patch("/apps/hello/config-vars", &values).await.status, 200);
    let unset = world.patch("/apps/hello/config-vars", &json!({"EMPTY": null, "LINES": null, "NEVER": null})).await;
    assert_eq!(unset.json().as_object().map(serde_json::Map::len), Some(2));
    let releases = world.get("/apps/hello/releases").await.json();
    assert_eq!(releases.as_array().map(Vec::len), Some(4), "no change, no release");
    assert_eq!(releases[3]["description"], "Remove EMPTY, LINES config vars");
    assert_eq!(world.get("/apps/hello/releases/v3/config-vars").await.json(), values, "a release keeps its own");
    world.end().await;
}

async fn domains_lead_to_one_app(database: Database) {
    let world = ApiWorld::still(database).await;
    world.create_app("hello").await;
    world.create_app("other").await;
    let body = json!({"hostname": "WWW.Example.com.", "sni_endpoint": null});
    let domain = world.post("/apps/hello/domains", &body).await.json();
    assert_eq!((&domain["hostname"], &domain["kind"]), (&json!("www.example.com"), &json!("custom")));
    assert_eq!((&domain["cname"], &domain["status"]), (&json!("hello.localhost"), &json!("succeeded")));
    let again = world.post("/apps/other/domains", &json!({"hostname": "www.example.com"})).await;
    assert_eq!(again.short(), "422 invalid_params");
    // What the platform could not lead to the app is refused before it is written down.
    world.routes.refuse_host("example.xn--p1ai".parse().expect("a host name"));
    let before = world.database.dump().await;
    let refused = world.post("/apps/hello/domains", &json!({"hostname": "example.xn--p1ai"})).await;
    assert_eq!(refused.short(), "422 invalid_params");
    assert_eq!(refused.json()["message"], "example.xn--p1ai can't be routed here.");
    assert_eq!(world.database.dump().await, before);
    world.post("/apps/hello/domains", &json!({"hostname": "*.example.com"})).await;
    let list = world.get("/apps/hello/domains").await.json();
    assert_eq!(column(&list, "hostname"), ["*.example.com", "hello.localhost", "www.example.com"]);
    let id = domain["id"].as_str().expect("an id");
    for one in [id, "www.example.com", "WWW.example.com"] {
        assert_eq!(world.get(&format!("/apps/hello/domains/{one}")).await.json()["id"], domain["id"], "{one}");
    }
    assert_eq!(world.get("/apps/hello/domains/%2A.example.com").await.status, 200);
    assert_eq!(world.delete(&format!("/apps/other/domains/{id}")).await.short(), "404 not_found");
    assert_eq!(world.delete("/apps/hello/domains/hello.localhost").await.short(), "422 invalid_params");
    let patched = world.patch("/apps/hello/domains/www.example.com", &json!({"sni_endpoint": null})).await;
    assert_eq!(patched.json()["id"], domain["id"]);
    assert_eq!(world.delete("/apps/hello/domains/www.example.com").await.json()["id"], domain["id"]);
    assert_eq!(world.delete("/apps/hello/domains/www.example.com").await.short(), "404 not_found");
    world.end().await;
}

async fn keys_are_shown_once(database: Database) {
    let world = ApiWorld::still(database).await;
    let body = json!({"description": "Heroku CLI login from here", "expires_in": 3600, "scope": ["global"]});
    let made = world.post("/oauth/authorizations", &body).await.json();
    let token = made["access_token"]["token"].as_str().expect("a token").to_owned();
    assert!(token.starts_with("HRKU-") && token.len() > 40);
    assert_eq!(
        (&made["access_token"]["expires_in"], &made["user"]["email"]),
        (&json!(3600), &json!("dev@example.com"))
    );
    let path = format!("/oauth/authorizations/{}", made["id"].as_str().expect("an id"));
    let key = paas_tests::api_world::Key { email: world.dev.email.clone(), token: token.clone() };
    let mine = Ask::new("GET", "/account").of(&key);
    assert_eq!(world.send(&mine).await.status, 200);
    for shown in [world.get("/oauth/authorizations").await, world.get(&path).await] {
        assert!(!shown.text().contains(&token) && shown.text().contains("**********"));
    }
    assert_ne!(world.get("/oauth/authorizations/~").await.json()["id"], made["id"], "the first one is the default");
    assert_eq!(world.patch(&path, &json!({"description": "desk"})).await.json()["description"], "desk");
    let renewed = world.send(&world.ask("POST", &format!("{path}/actions/regenerate-tokens"))).await.json();
    assert_ne!(renewed["access_token"]["token"], token);
    assert_eq!(world.send(&mine).await.status, 401, "the old one is worth nothing");
    let key = paas_tests::api_world::Key {
        token: renewed["access_token"]["token"].as_str().expect("a token").to_owned(),
        ..key
    };
    let mine = Ask::new("GET", "/account").of(&key);
    assert_eq!(world.send(&mine).await.status, 200);
    world.clock.as_ref().expect("it stands still").advance_ms(3_600_000);
    assert_eq!(world.send(&mine).await.status, 401, "it has expired");
    let foreign = world.get("/oauth/authorizations").await.json()[0]["id"].as_str().expect("an id").to_owned();
    let theirs = Ask::new("DELETE", &format!("/oauth/authorizations/{foreign}")).of(&world.other);
    assert_eq!(world.send(&theirs).await.short(), "404 not_found");
    world.end().await;
}

async fn what_the_platform_has_none_of_is_empty(database: Database) {
    let world = ApiWorld::still(database).await;
    world.create_app("hello").await;
    for path in [
        "/account/features",
        "/account/keys",
        "/addons",
        "/addon-attachments",
        "/teams",
        "/pipelines",
        "/spaces",
        "/apps/hello/addons",
        "/apps/hello/addon-attachments",
        "/apps/hello/log-drains",
        "/apps/hello/sni-endpoints",
        "/apps/hello/buildpack-installations",
        "/apps/hello/formation",
        "/apps/hello/dynos",
        "/apps/hello/builds",
    ] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.json()), (200, json!([])), "{path}");
    }
    for (path, names) in [("/regions", vec!["us"]), ("/stacks", vec!["heroku-24"])] {
        let list = world.get(path).await.json();
        assert_eq!(column(&list, "name"), names, "{path}");
        assert_eq!(world.get(&format!("{path}/{}", names[0])).await.status, 200);
    }
    assert_eq!(world.get("/dyno-sizes").await.json().as_array().map(Vec::len), Some(6));
    let size = world.get("/dyno-sizes/standard-1x").await.json();
    assert_eq!((&size["name"], &size["cost"]), (&json!("Standard-1X"), &Value::Null), "it is one's own machine");
    let owner = world.get("/apps/hello/collaborators").await.json();
    assert_eq!((&owner[0]["role"], &owner[0]["user"]["email"]), (&json!("owner"), &json!("dev@example.com")));
    for (path, body) in [
        ("/apps/hello/log-drains", json!({"url": "https://example.com"})),
        ("/apps/hello/sni-endpoints", json!({"certificate_chain": "x", "private_key": "y"})),
        ("/apps/hello/acm", json!({})),
        ("/apps/hello/collaborators", json!({"user": "new@example.com"})),
        ("/apps/hello/slugs", json!({"process_types": {"web": "x"}})),
        ("/account/keys", json!({"public_key": "ssh-rsa AAAA"})),
    ] {
        assert_eq!(world.post(path, &body).await.short(), "422 invalid_params", "{path}");
    }
    assert_eq!(world.post("/apps/hello/addons", &json!({"plan": "heroku-postgresql"})).await.short(), "404 not_found");
    let put = world.ask("PUT", "/apps/hello/buildpack-installations");
    assert_eq!(world.send(&put.clone().json(&json!({"updates": []}))).await.json(), json!([]));
    let refused = world.send(&put.json(&json!({"updates": [{"buildpack": "heroku/ruby"}]}))).await;
    assert_eq!(refused.short(), "422 invalid_params");
    world.end().await;
}

async fn a_deploy_by_archive(database: Database) {
    let world = ApiWorld::live(database).await;
    world.create_app("hello").await;
    world.patch("/apps/hello/config-vars", &json!({"GREETING": "hi"})).await;
    world.deploy("hello", WEB).await;

    let builds = world.get("/apps/hello/builds").await.json();
    let output = world.path_of(builds[0]["output_stream_url"].as_str().expect("a URL"));
    let text = world.send(&Ask::new("GET", &output)).await;
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(text.text().contains("-----> Fake app detected"), "{}", text.text());
    let result = world.get(&format!("/apps/hello/builds/{}/result", builds[0]["id"].as_str().expect("an id"))).await;
    assert_eq!(result.json()["exit_code"], 0);

    let releases = world.get("/apps/hello/releases").await.json();
    let deploy = &releases[3];
    assert_eq!(
        (&deploy["version"], &deploy["current"], &deploy["status"]),
        (&json!(4), &json!(true), &json!("succeeded"))
    );
    assert_eq!(builds[0]["release"]["id"], deploy["id"]);
    let slug = deploy["slug"]["id"].as_str().expect("a slug");
    let slug = world.get(&format!("/apps/hello/slugs/{slug}")).await.json();
    assert_eq!(slug["process_types"]["web"], "serve");
    let deploy_id = deploy["id"].as_str().expect("an id");
    for one in ["4", "v4", deploy_id] {
        assert_eq!(world.get(&format!("/apps/hello/releases/{one}")).await.json()["id"], deploy["id"], "{one}");
    }

    let id = world.get("/apps/hello").await.json()["id"].as_str().expect("an id").parse().expect("an id");
    for enabled in [true, false] {
        world.patch("/apps/hello/features/http-session-affinity", &json!({ "enabled": enabled })).await;
        let routed =
            |world: &ApiWorld| world.routes.published(&id).is_some_and(|route| route.session_affinity == enabled);
        world.until("/apps/hello", |_| routed(&world)).await;
    }

    let formation = world.get("/apps/hello/formation").await.json();
    assert_eq!(column(&formation, "type"), ["web", "worker"]);
    assert_eq!((&formation[0]["quantity"], &formation[0]["command"]), (&json!(1), &json!("serve")));
    let updates = json!({"updates": [
        {"type": "web", "quantity": "+1", "size": "standard-1x"},
        {"type": "worker", "quantity": 1, "dyno_size": {"name": "Standard-2X"}},
    ]});
    let formation = world.patch("/apps/hello/formation", &updates).await.json();
    assert_eq!(column(&formation, "size"), ["Standard-1X", "Standard-2X"]);
    assert_eq!((&formation[0]["quantity"], &formation[1]["quantity"]), (&json!(2), &json!(1)));
    let one = world.patch("/apps/hello/formation/web", &json!({"quantity": "-1"})).await.json();
    assert_eq!((&one["quantity"], &one["type"]), (&json!(1), &json!("web")));
    let id = one["id"].as_str().expect("an id");
    assert_eq!(world.get(&format!("/apps/hello/formation/{id}")).await.json()["type"], "web");
    let up = |dynos: &Value| {
        let types: Vec<_> = column(dynos, "type").into_iter().zip(column(dynos, "state")).collect();
        types == [("web", "up"), ("worker", "up")]
    };
    let dynos = world.until("/apps/hello/dynos", up).await;
    assert_eq!((&dynos[0]["release"]["version"], &dynos[0]["size"]), (&json!(4), &json!("Standard-1X")));
    let web = dynos[0]["id"].as_str().expect("an id").to_owned();
    let name = dynos[0]["name"].as_str().expect("a name").to_owned();
    assert_eq!(world.get(&format!("/apps/hello/dynos/{web}")).await.json()["name"], name);

    for (method, path) in [
        ("POST", "/apps/hello/dynos/worker.1/actions/stop"),
        ("DELETE", &*format!("/apps/hello/dynos/{name}")),
        ("DELETE", "/apps/hello/dynos"),
        ("DELETE", "/apps/hello/formations/web"),
        ("POST", "/apps/hello/formations/worker/actions/stop"),
    ] {
        let answer = world.send(&world.ask(method, path)).await;
        assert_eq!((answer.status, answer.json()), (202, json!({})), "{method} {path}");
    }
    world.until("/apps/hello/dynos", |dynos| up(dynos) && dynos[0]["id"] != web.as_str()).await;
    world.end().await;
}

async fn one_off_dynos_and_logs(database: Database) {
    let world = ApiWorld::live(database).await;
    world.create_app("hello").await;
    let early = world.post("/apps/hello/dynos", &json!({"command": "bash"})).await;
    assert_eq!(early.short(), "409 conflict", "the CLI asks again on 409");
    world.deploy("hello", WEB).await;
    let run = json!({"attach": true, "command": "cat", "env": {"TERM": "xterm", "COLUMNS": 80, "LINES": 24},
        "force_no_tty": true, "size": null, "type": "web"});
    let dyno = world.post("/apps/hello/dynos", &run).await.json();
    let name = dyno["name"].as_str().expect("a name");
    assert!(name.starts_with("run.") && dyno["type"] == "run", "{name}");
    assert!(dyno["attach_url"].as_str().expect("a URL").starts_with("rendezvous://localhost:5002/"));
    assert_eq!(world.get(&format!("/apps/hello/dynos/{name}")).await.json()["attach_url"], Value::Null);
    let detached = world.post("/apps/hello/dynos", &json!({"command": "say a line of mine"})).await.json();
    assert_eq!(detached["attach_url"], Value::Null);

    let body = json!({"lines": 100, "tail": false, "source": "app", "dyno": detached["name"]});
    let said = async || {
        let session = world.post("/apps/hello/log-sessions", &body).await;
        assert_eq!(session.status, 201);
        let path = world.path_of(session.json()["logplex_url"].as_str().expect("a URL"));
        world.send(&Ask::new("GET", &path).without("Accept").header("Accept", "text/event-stream")).await
    };
    let mut answer = said().await;
    for _ in 0..200 {
        if answer.text().contains("a line of mine") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        answer = said().await;
    }
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    let line = format!("app[{}]: a line of mine", detached["name"].as_str().expect("a name"));
    assert!(answer.text().contains(&line), "{}", answer.text());
    let session = world.send(&world.ask("POST", "/apps/hello/log-sessions")).await.json();
    let path = world.path_of(session["logplex_url"].as_str().expect("a URL"));
    let plain = world.send(&Ask::new("GET", &path).without("Accept")).await;
    assert_eq!(plain.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(plain.text().contains("app[api]: Build started by user dev@example.com"), "{}", plain.text());
    world.delete("/apps/hello").await;
    assert_eq!(world.send(&Ask::new("GET", &path)).await.short(), "403 forbidden", "the app is gone");
    world.end().await;
}

/// One build of an app runs; a newer one takes the place of one that waits; an output is followed to its end.
async fn builds_wait_for_each_other(database: Database) {
    let world = ApiWorld::live(database).await;
    world.create_app("hello").await;
    let script = paas_ports::fake::builder::FakeScript::says("-----> Begun\n").waits("gate").then_says("-----> Done\n");
    world.builds.script(script);
    let build = async || {
        let body = json!({"source_blob": {"url": world.upload(WEB).await}});
        let build = world.post("/apps/hello/builds", &body).await.json();
        let path = format!("/apps/hello/builds/{}", build["id"].as_str().expect("an id"));
        (path, world.path_of(build["output_stream_url"].as_str().expect("a URL")))
    };
    let (first, output) = build().await;
    let begun = async {
        while world.builds.started().len() != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), begun).await.expect("the first build begins");
    let (second, superseded) = build().await;
    let (third, _) = build().await;
    assert_eq!(world.get(&second).await.json()["status"], "failed");
    let text = world.send(&Ask::new("GET", &superseded)).await.text();
    assert_eq!(text, " !     Build superseded by a newer one.\n");
    let ask = Ask::new("GET", &output);
    let (followed, ()) = tokio::join!(world.send(&ask), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert_eq!(world.get(&first).await.json()["status"], "pending");
        world.builds.open("gate");
    });
    assert!(followed.text().contains("-----> Begun") && followed.text().contains("-----> Done"), "{}", followed.text());
    for path in [&first, &third] {
        world.until(path, |build| build["status"] == "succeeded").await;
    }
    world.end().await;
}

async fn what_cannot_be_built_is_a_failed_build(database: Database) {
    let world = ApiWorld::live(database).await;
    world.create_app("hello").await;
    let build = async |bytes: &[u8], checksum: Value| {
        let url = world.upload_bytes(bytes).await;
        let body = json!({"source_blob": {"url": url, "version": "v1", "checksum": checksum}});
        world.post("/apps/hello/builds", &body).await
    };
    let good = paas_tests::api_world::tgz(WEB);
    for (what, bytes, checksum) in [
        ("empty", Vec::new(), Value::Null),
        ("no gzip", b"hello".to_vec(), Value::Null),
        ("truncated", good[..good.len() / 2].to_vec(), Value::Null),
        ("another checksum", good.clone(), json!(format!("SHA256:{}", "0".repeat(64)))),
    ] {
        let answer = build(&bytes, checksum).await;
        assert_eq!((answer.status, &answer.json()["status"]), (201, &json!("failed")), "{what}");
        let output = world.path_of(answer.json()["output_stream_url"].as_str().expect("a URL"));
        let text = world.send(&Ask::new("GET", &output)).await.text();
        assert!(text.starts_with(" !     Bad source archive: "), "{what}: {text}");
    }
    assert_eq!(world.get("/apps/hello/releases").await.json().as_array().map(Vec::len), Some(2));

    let source = world.post("/apps/hello/sources", &json!({})).await.json();
    let (get, put) =
        (&source["source_blob"]["get_url"], world.path_of(source["source_blob"]["put_url"].as_str().expect("a URL")));
    let body = json!({"source_blob": {"url": get}});
    assert_eq!(world.post("/apps/hello/builds", &body).await.short(), "422 invalid_params", "nothing there yet");
    // Who brings it first has the place for as long as that takes, and gives it back by leaving.
    let mut first = tokio::net::TcpStream::connect(world.address).await.expect("the server listens");
    let head = format!("PUT {put} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n");
    first.write_all(head.as_bytes()).await.expect("sent");
    let mut goes_on = [0; 12];
    first.read_exact(&mut goes_on).await.expect("it is waited for");
    assert_eq!(&goes_on, b"HTTP/1.1 100");
    let put_good = async || world.send(&Ask::new("PUT", &put).body(&good)).await;
    let mut taken = put_good().await;
    assert_eq!(taken.short(), "409 conflict", "two uploads to one place at once");
    drop(first);
    while taken.short() == "409 conflict" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        taken = put_good().await;
    }
    assert_eq!(taken.status, 200);
    assert_eq!(world.send(&Ask::new("PUT", &put).body(b"evil")).await.short(), "409 conflict", "a second upload");
    let app = world.send(&Ask::new("POST", "/apps").of(&world.other).json(&json!({"name": "theirs"}))).await.json();
    let theirs = Ask::new("POST", &format!("/apps/{}/builds", app["id"].as_str().expect("an id")));
    let theirs = world.send(&theirs.of(&world.other).json(&body)).await;
    assert_eq!(theirs.short(), "422 invalid_params", "somebody else's source");
    world.create_app("second").await;
    assert_eq!(world.post("/apps/second/builds", &body).await.short(), "422 invalid_params", "another app's source");
    assert_eq!(world.post("/apps/hello/builds", &body).await.status, 201);
    world.end().await;
}

stories!(
    a_deploy_by_archive,
    an_app_from_create_to_destroy,
    builds_wait_for_each_other,
    config_vars_come_back_byte_for_byte,
    domains_lead_to_one_app,
    keys_are_shown_once,
    one_off_dynos_and_logs,
    what_cannot_be_built_is_a_failed_build,
    what_the_platform_has_none_of_is_empty,
);
