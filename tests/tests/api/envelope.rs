//! What every route of the API has in common: credentials, versions, errors, tags, pages, permissions.

use paas_server::api::{Access, Permission, declared};
use paas_tests::api_world::{ApiWorld, Ask, Key};
use paas_tests::database::Database;
use paas_tests::stories;
use serde_json::{Value, json};

fn basic(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::from("Basic ");
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// A path of a route with something in each placeholder.
fn path(route: &str, app: &str) -> String {
    let part = |part: &str| match part {
        "{app}" => app.to_owned(),
        part if part.starts_with('{') => "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
        part => part.to_owned(),
    };
    route.split('/').map(part).collect::<Vec<_>>().join("/")
}

async fn credentials_of_every_kind(database: Database) {
    let world = ApiWorld::still(database).await;
    let token = &world.dev.token;
    for (good, header) in [
        ("bearer", format!("Bearer {token}")),
        ("lower case", format!("bearer {token}")),
        ("empty user", basic(&format!(":{token}"))),
        ("e-mail", basic(&format!("dev@example.com:{token}"))),
        ("docker", basic(&format!("_:{token}"))),
    ] {
        let answer = world.send(&Ask::new("GET", "/account").header("Authorization", &header)).await;
        assert_eq!((answer.status, &answer.json()["email"]), (200, &json!("dev@example.com")), "{good}");
    }
    for (bad, header) in [
        ("none", String::new()),
        ("no token", "Bearer".to_owned()),
        ("another scheme", format!("Digest {token}")),
        ("the hash", format!("Bearer {}", paas_server::token::token_hash(token))),
        ("too short", format!("Bearer {}", &token[..20])),
        ("too long", format!("Bearer {token}x")),
        ("token as user", basic(&format!("{token}:"))),
    ] {
        let answer = world.send(&Ask::new("GET", "/account").header("Authorization", &header)).await;
        assert_eq!(answer.short(), "401 unauthorized", "{bad}");
        assert_eq!(answer.json()["message"], "Invalid credentials provided.");
    }
    let none = world.send(&Ask::new("GET", "/account")).await;
    assert_eq!(none.short(), "401 unauthorized");
    let twice = world.ask("GET", "/account").header("authorization", "Bearer other");
    assert_eq!(world.send(&twice).await.short(), "400 bad_request");
    world.end().await;
}

async fn every_route_asks_for_its_permission(database: Database) {
    let world = ApiWorld::still(database).await;
    world.create_app("mine").await;
    let identity = world.key(&["identity"]).await;
    let read = world.key(&["read"]).await;
    let write = world.key(&["write"]).await;
    let read_protected = world.key(&["read-protected"]).await;
    let routes = declared();
    assert!(routes.len() > 80, "{}", routes.len());
    for (method, route, permission) in routes {
        let (mine, missing) = (path(route, "mine"), path(route, "nobodys"));
        let what = format!("{method} {route}");
        let ask = |path: &str, key: &Key| Ask::new(method.as_str(), path).of(key);
        let Some(access) = permission_access(permission) else {
            let answer = world.send(&Ask::new(method.as_str(), &mine)).await;
            assert_eq!(answer.short(), "403 forbidden", "{what}: a guessed token");
            continue;
        };
        let anonymous = world.send(&Ask::new(method.as_str(), &mine)).await;
        assert_eq!(anonymous.short(), "401 unauthorized", "{what}");
        for (key, allowed) in [
            (&identity, access == Access::Identity),
            (&read, matches!(access, Access::Identity | Access::Read)),
            (&write, matches!(access, Access::Identity | Access::Read | Access::Write)),
            (&read_protected, matches!(access, Access::Identity | Access::Read | Access::ReadProtected)),
        ] {
            if !allowed {
                assert_eq!(world.send(&ask(&mine, key)).await.short(), "403 forbidden", "{what}");
            }
        }
        if matches!(permission, Permission::App(_)) {
            let foreign = world.send(&ask(&mine, &world.other)).await;
            let absent = world.send(&ask(&missing, &world.other)).await;
            assert_eq!(foreign.short(), "404 not_found", "{what}");
            assert_eq!(foreign.body, absent.body, "{what}: nobody learns which apps there are");
            assert_eq!(
                foreign.json(),
                json!({"resource": "app", "id": "not_found", "message": "Couldn't find that app."})
            );
        }
    }
    assert_eq!(world.get("/apps/mine").await.status, 200, "and all of that changed nothing");
    world.end().await;
}

fn permission_access(permission: Permission) -> Option<Access> {
    match permission {
        Permission::Capability => None,
        Permission::Account(access) | Permission::App(access) => Some(access),
    }
}

async fn what_is_not_there_says_so(database: Database) {
    let world = ApiWorld::still(database).await;
    world.create_app("mine").await;
    for path in ["/", "/nothing", "/apps/", "//apps", "/./apps", "/apps/%2e%2e/account", "/apps/mine/", "/apps/mine/x"]
    {
        assert_eq!(world.get(path).await.short(), "404 not_found", "{path}");
    }
    for path in ["/apps/%ff", "/apps/%00", "/apps/..", "/apps/mine%20", "/apps/MINE", "/apps/mine/dynos/%00"] {
        assert_eq!(world.get(path).await.short(), "404 not_found", "{path}");
    }
    for method in ["PUT", "OPTIONS", "TRACE", "PROPFIND"] {
        assert_eq!(world.send(&world.ask(method, "/apps")).await.short(), "405 method_not_allowed", "{method}");
    }
    for head in ["GET /apps HTTP/1.1\r\n\r\n", "GET /apps HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"] {
        let answer = world.raw(head.as_bytes()).await.expect("an answer");
        assert_eq!(answer.short(), "400 bad_request", "{head}");
    }
    let resource = async |path: &str| world.get(path).await.json()["resource"].clone();
    assert_eq!(resource("/apps/mine/pipeline-couplings").await, "pipeline_coupling");
    assert_eq!(resource("/apps/mine/builds/x").await, "build");
    assert_eq!(resource("/apps/mine/releases/99").await, "release");
    assert_eq!(resource("/oauth/authorizations/x").await, "authorization");
    assert_eq!(world.delete("/oauth/sessions/~").await.json()["resource"], "session");
    world.end().await;
}

async fn answers_carry_what_clients_look_for(database: Database) {
    let world = ApiWorld::still(database).await;
    world.create_app("mine").await;
    let chain = "11111111-1111-1111-1111-111111111111,22222222-2222-2222-2222-222222222222";
    let answer = world.send(&world.ask("GET", "/apps").header("Request-Id", chain)).await;
    let id = answer.header("request-id").expect("an id");
    assert!(id.ends_with(&format!(",{chain}")) && id.len() == chain.len() + 37, "{id}");
    assert!(answer.header("content-type").expect("a type").starts_with("application/vnd.heroku+json"));
    let long = "x".repeat(90) + ",";
    let answer = world.send(&world.ask("GET", "/apps").header("Request-Id", &long.repeat(110))).await;
    assert_eq!(answer.status, 200, "a head of 10 KB");

    let tag = answer.header("etag").expect("a tag").to_owned();
    let with = |value: &str| world.ask("GET", "/apps").header("If-None-Match", value);
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let again = world.send(&with(&known)).await;
        assert_eq!((again.status, again.body.len()), (304, 0), "{known}");
        assert_eq!(again.header("etag"), Some(tag.as_str()));
    }
    assert_eq!(world.send(&with("\"x\"")).await.status, 200);
    world.create_app("another").await;
    assert_eq!(world.send(&with(&tag)).await.status, 200, "it has changed");
    // The same body of two accounts has two tags.
    let none = |key: &Key| Ask::new("GET", "/pipelines").of(key);
    let (dev, other) = (world.send(&none(&world.dev)).await, world.send(&none(&world.other)).await);
    assert_eq!(dev.body, other.body);
    assert_ne!(dev.header("etag"), other.header("etag"));

    let get = world.get("/apps").await;
    let head = world.send(&world.ask("HEAD", "/apps")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for name in ["content-type", "etag", "content-length", "accept-ranges"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
    for (accept, status) in [
        ("application/vnd.heroku+json; version=3.sdk", 200),
        ("application/json", 200),
        ("*/*", 200),
        ("application/vnd.heroku+json; version=2", 406),
        ("text/html", 406),
    ] {
        let answer = world.send(&world.ask("GET", "/apps").without("Accept").header("Accept", accept)).await;
        assert_eq!(answer.status, status, "{accept}");
    }
    assert_eq!(world.send(&world.ask("GET", "/apps").without("Accept")).await.status, 200);
    world.end().await;
}

async fn requests_are_counted(database: Database) {
    let world = ApiWorld::still(database).await;
    let left = async |path: &str| {
        let answer = world.get(path).await;
        (answer.status, answer.header("ratelimit-remaining").expect("a number").parse::<u32>().expect("a number"))
    };
    assert_eq!(left("/apps").await, (200, 4_499));
    assert_eq!(left("/account/rate-limits").await, (200, 4_499), "asking is free");
    assert_eq!(left("/apps/nothing").await, (404, 4_498), "errors count");
    let head = world.send(&world.ask("HEAD", "/apps")).await;
    assert_eq!(head.header("ratelimit-remaining"), Some("4497"));
    // One connection for the thousands.
    let request = format!("GET /regions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", world.dev.token);
    drain(world.address, &request, 4_497).await;
    let empty = world.get("/apps").await;
    assert_eq!((empty.short().as_str(), empty.header("ratelimit-remaining")), ("429 rate_limit", Some("0")));
    assert!(empty.json()["url"].is_string());
    assert_eq!(world.get("/account/rate-limits").await.json(), json!({"remaining": 0}));
    assert_eq!(world.send(&Ask::new("GET", "/apps").of(&world.other)).await.status, 200, "others are not concerned");
    world.clock.as_ref().expect("it stands still").advance_ms(60_000);
    assert_eq!(left("/apps").await, (200, 74));
    world.end().await;
}

async fn drain(address: std::net::SocketAddr, request: &str, times: usize) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server listens");
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..times {
        stream.write_all(request.as_bytes()).await.expect("sent");
        let n = stream.read(&mut buffer).await.expect("an answer");
        assert!(buffer[..n].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..n]));
    }
}

async fn lists_come_in_pages(database: Database) {
    let world = ApiWorld::still(database).await;
    for i in 0..25 {
        world.create_app(&format!("app-{i:02}")).await;
    }
    world.send(&Ask::new("POST", "/apps").of(&world.other).json(&json!({"name": "not-mine"}))).await;
    for (range, page) in [("id ..; max=10", 10), ("name ..; order=desc,max=7", 7), ("id ..; max=1", 1)] {
        let (mut seen, mut next) = (Vec::new(), range.to_owned());
        let mut removed = false;
        loop {
            let answer = world.send(&world.ask("GET", "/apps").header("Range", &next)).await;
            let names = answer.json().as_array().expect("a list").clone();
            seen.extend(names.iter().map(|app| app["name"].as_str().expect("a name").to_owned()));
            assert!(names.len() <= page);
            match (answer.status, answer.header("next-range")) {
                (206, Some(header)) => next = header.to_owned(),
                (200, None) => break,
                other => panic!("{other:?}"),
            }
            // What comes and goes meanwhile moves nobody else.
            if !removed {
                world.create_app("aaa-between").await;
                world.delete("/apps/aaa-between").await;
                removed = true;
            }
        }
        seen.retain(|name| name != "aaa-between");
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!((seen.len(), sorted.len()), (25, 25), "{range}");
        assert!(!seen.contains(&"not-mine".to_owned()));
    }
    // A page mark of one account shows another one nothing.
    let marked = Ask::new("GET", "/apps").of(&world.other).header("Range", "name ]app-03..; max=200");
    assert_eq!(world.send(&marked).await.json().as_array().map(Vec::len), Some(1));
    let empty = world.send(&world.ask("GET", "/apps").header("Range", "name ]zzz..;")).await;
    assert_eq!((empty.status, empty.json()), (200, json!([])));
    for lenient in ["", "id ..; ;", "id ..; max=1000;", "id ..; max=1001", "name ..,max=200,order=asc"] {
        let answer = world.send(&world.ask("GET", "/apps").header("Range", lenient)).await;
        assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (200, Some(25)), "{lenient}");
    }
    // heroku-client sends it with everything.
    let posted = world.send(&world.ask("POST", "/apps").header("Range", "id ..; max=1000")).await;
    assert_eq!(posted.status, 201);
    let releases = world.ask("GET", "/apps/app-01/releases").header("Range", "version ..; order=desc,max=1");
    let newest: Value = world.send(&releases).await.json();
    assert_eq!((newest[0]["version"].as_u64(), newest.as_array().map(Vec::len)), (Some(2), Some(1)));
    world.end().await;
}

stories!(
    answers_carry_what_clients_look_for,
    credentials_of_every_kind,
    every_route_asks_for_its_permission,
    lists_come_in_pages,
    requests_are_counted,
    what_is_not_there_says_so,
);
