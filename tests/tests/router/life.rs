//! The router's life: changes under load, its own death, its server's death, another server's arrival.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paas_domain::{AppId, InstallId, ProcessType};
use paas_ports::{Ingress, MemberState, Pools, PortError};
use paas_router::{RouterClient, RouterEvent, RouterOptions, ensure_router};
use paas_tests::router::{LATE, Peer, Rig, TestApp, absent, dyno, member, says, shows};
use tokio::net::TcpStream;
use tokio::time::timeout;

const HOST: &str = "app.example.com";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_changes_under_load_fail_no_request() {
    let rig = Arc::new(Rig::start().await);
    let generations = [dyno_generation(1).await, dyno_generation(2).await];
    let app = rig.app(HOST, &generations[0]).await;
    let done = Arc::new(AtomicBool::new(false));
    let (served, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..16)
        .map(|n| {
            let (rig, done, served, failed) = (rig.clone(), done.clone(), served.clone(), failed.clone());
            tokio::spawn(async move {
                let mut peer = rig.connect().await;
                while !done.load(Ordering::Relaxed) {
                    let request = if n % 2 == 0 {
                        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")
                    } else {
                        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello")
                    };
                    peer.send(request).await;
                    let reply = peer.reply().await;
                    if reply.status == 200 && reply.whole {
                        served.fetch_add(1, Ordering::Relaxed);
                    } else {
                        failed.fetch_add(1, Ordering::Relaxed);
                        peer = rig.connect().await;
                    }
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for n in 0..200_usize {
        // As a deploy does it: the new dynos come up, then the old ones drain, then they are gone.
        let (mut old, new) = (generations[n % 2].clone(), generations[(n + 1) % 2].clone());
        let began = Instant::now();
        rig.set(&app, &[old.clone(), new.clone()].concat()).await;
        slowest = slowest.max(began.elapsed());
        old.iter_mut().for_each(|m| m.state = MemberState::Draining);
        rig.set(&app, &[old, new.clone()].concat()).await;
        rig.set(&app, &new).await;
        let host = format!("other-{n}.example.com");
        rig.publish(&app, 2 + i64::try_from(n).expect("small"), |route| {
            route.hosts.push(host.parse().expect("a host name"));
        })
        .await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no panic");
    }
    let (served, failed) = (served.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    println!("{served} served, {failed} failed, slowest change {slowest:?}");
    assert_eq!(failed, 0, "of {}", served + failed);
    assert!(served > 1_000, "{served}");
}

async fn dyno_generation(n: usize) -> Vec<paas_ports::Member> {
    vec![shows(&format!("web.{n}")).await, shows(&format!("web.{}", n + 2)).await]
}

#[tokio::test]
async fn a_change_is_live_within_five_milliseconds_at_ten_thousand_hosts() {
    let rig = Rig::start().await;
    let web = shows("web.1").await;
    let app = rig.app(HOST, &[web]).await;
    for app_number in 0..100 {
        let other = rig.app(&format!("a{app_number}.example.com"), &[]).await;
        rig.publish(&other, 2, |route| {
            route.hosts =
                (0..100).map(|n| format!("h{n}.a{app_number}.example.com").parse().expect("a host name")).collect();
        })
        .await;
    }
    let mut took = Vec::new();
    for n in 0..50 {
        let began = Instant::now();
        rig.publish(&app, 2 + n, |route| route.hosts.push(format!("n{n}.example.com").parse().expect("a host name")))
            .await;
        took.push(began.elapsed());
        assert_eq!(rig.get(&format!("n{n}.example.com"), "/").await.status, 200);
    }
    took.sort();
    println!("publishing one host among 10,000: median {:?}, slowest {:?}", took[25], took[49]);
    // An unoptimised build on a busy machine; the release build is far below.
    assert!(took[25] < Duration::from_millis(50), "{:?}", took[25]);
}

/// Waits until the table on disk names all of these.
async fn is_saved(state: &std::path::Path, names: &[&str]) {
    let saved = async {
        loop {
            let table = std::fs::read_to_string(state.join("table.json")).unwrap_or_default();
            if names.iter().all(|name| table.contains(name)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LATE, saved).await.expect("the table is on disk");
}

#[tokio::test]
async fn it_serves_from_its_disk_after_a_crash() {
    let rig = Rig::with(|limits| limits.persist_ms = 20).await;
    let app = rig.app(HOST, &[shows("web.1").await]).await;
    let wild = rig.app("*.example.net", &[shows("web.2").await]).await;
    let mut events = rig.client().events();
    is_saved(&rig.options.state_dir, &[app.id.as_str(), wild.id.as_str(), "web.1", "web.2"]).await;
    rig.crash_and_restart();
    assert!(rig.get(HOST, "/").await.text().starts_with("web.1\n"), "served before anybody said anything");
    assert!(rig.get("x.example.net", "/").await.text().starts_with("web.2\n"));
    assert_eq!(timeout(LATE, events.recv()).await.expect("said").expect("an event"), RouterEvent::Restarted);
    let mut apps = vec![app.id.clone(), wild.id.clone()];
    apps.sort();
    assert_eq!(rig.client().apps().await.expect("the client found the new one"), apps);
    let stale = app.route(0);
    assert!(matches!(rig.client().publish(&stale).await, Err(PortError::Superseded)), "generations are on disk");
    rig.line("at=info").await;
}

#[tokio::test]
async fn a_second_router_is_kept_out() {
    let rig = Rig::start().await;
    let mut options = rig.options.clone();
    options.listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let second = paas_router::Router::start(&options);
    assert!(matches!(second, Err(paas_router::RouterError::Taken(_))));
    let other = InstallId::random();
    assert!(matches!(
        RouterClient::connect(&rig.options.control_socket, &other).await,
        Err(PortError::Permanent { .. })
    ));
    assert!(rig.client().apps().await.is_ok());
}

#[tokio::test]
async fn another_dyno_gets_what_the_first_could_not_take() {
    let rig = Rig::start().await;
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("an address");
    let mut members: Vec<_> = (2..6).map(|n| member(&format!("web.{n}"), gone)).collect();
    members.push(shows("web.1").await);
    rig.app(HOST, &members).await;
    for _ in 0..30 {
        let reply = rig.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello")).await;
        assert!(reply.text().starts_with("web.1\n") && reply.text().ends_with("hello"), "{reply:?}");
    }
    rig.line("at=info").await;
    assert!(rig.lines().iter().all(|(_, line)| line.message.contains("dyno=web.1")), "{:?}", rig.lines());
}

#[tokio::test]
async fn a_free_dyno_is_found_behind_those_who_wait_for_another() {
    let rig = Rig::with(|limits| limits.requests_per_dyno = 1).await;
    let busy = |name: &'static str, until: Arc<tokio::sync::Notify>| {
        dyno(name, move |mut peer| {
            let until = until.clone();
            async move {
                while let Some(head) = peer.head().await {
                    if head.starts_with("GET /hold ") {
                        until.notified().await;
                    }
                    peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{name}")).await;
                }
            }
        })
    };
    let (first, second) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let app = rig.app(HOST, &[busy("web.1", first.clone()).await, busy("web.2", second).await]).await;
    rig.publish(&app, 2, |route| route.session_affinity = true).await;
    let mut cookies = std::collections::BTreeMap::new();
    while cookies.len() < 2 {
        let reply = rig.get(HOST, "/").await;
        let cookie = reply.header("set-cookie").expect("a cookie").split(';').next().expect("its pair").to_owned();
        cookies.insert(reply.text(), cookie);
    }
    let ask = async |name: &str, path: &str| {
        let mut peer = rig.connect().await;
        let cookie = &cookies[name];
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n")).await;
        // Whoever is asked first is there first.
        tokio::time::sleep(Duration::from_millis(50)).await;
        peer
    };
    let (mut held, _hung) = (ask("web.1", "/hold").await, ask("web.2", "/hold").await);
    let _stuck = [ask("web.2", "/").await, ask("web.2", "/").await, ask("web.2", "/").await];
    let mut waits = ask("web.1", "/").await;
    first.notify_one();
    assert_eq!(held.reply().await.text(), "web.1");
    let reply = timeout(LATE, waits.reply()).await.expect("a free dyno is found");
    assert_eq!(reply.text(), "web.1");
}

#[tokio::test]
async fn drained_is_said_when_the_last_request_ends() {
    let rig = Rig::start().await;
    let release = Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let holds = dyno("web.1", move |mut peer| {
        let held = held.clone();
        async move {
            peer.head().await;
            peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n").await;
            held.notified().await;
        }
    })
    .await;
    let app = rig.app(HOST, std::slice::from_ref(&holds)).await;
    let mut events = rig.client().events();
    let mut peer = rig.connect().await;
    peer.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")).await;
    peer.head().await.expect("an answer");
    assert_eq!(rig.client().in_flight(&app.pool, &holds.dyno).await.expect("counted"), 1, "a tunnel counts");
    rig.set(&app, &[]).await;
    assert!(timeout(Duration::from_millis(200), events.recv()).await.is_err(), "not yet");
    release.notify_one();
    let said = timeout(LATE, events.recv()).await.expect("said").expect("an event");
    assert_eq!(said, RouterEvent::Drained { pool: app.pool.clone(), dyno: holds.dyno.clone() });
    assert_eq!(rig.client().in_flight(&app.pool, &holds.dyno).await.expect("counted"), 0);
    // A dyno that serves nothing is drained at once.
    let idle = says("web.2", OK).await;
    rig.set(&app, std::slice::from_ref(&idle)).await;
    rig.set(&app, &[]).await;
    let said = timeout(LATE, events.recv()).await.expect("said").expect("an event");
    assert_eq!(said, RouterEvent::Drained { pool: app.pool.clone(), dyno: idle.dyno });
}

#[tokio::test]
async fn lines_wait_for_the_server_and_losses_are_said() {
    let rig = Rig::with(|limits| limits.log_lines = 10).await;
    let app = rig.app(HOST, &[says("web.1", OK).await]).await;
    rig.get(HOST, "/before").await;
    rig.line("/before").await;
    // The server is gone, and its client with it.
    rig.drop_client();
    for n in 0..25 {
        assert_eq!(rig.get(HOST, &format!("/away-{n}")).await.status, 200);
    }
    let _client = rig.another_client().await;
    let lost = rig.line("L12").await;
    let count = lost.strip_prefix("Error L12 (Local buffer overflow): ").expect("its words");
    let (count, rest) = count.split_once(' ').expect("a number");
    assert!(rest.starts_with("messages dropped since 20"), "{lost}");
    let lines = rig.lines();
    let came = (0..25).filter(|n| lines.iter().any(|(_, l)| l.message.contains(&format!("/away-{n}\"")))).count();
    assert_eq!(came + count.parse::<usize>().expect("a number"), 25, "each line came or was counted: {lines:?}");
    // The line before may not have been known to have arrived.
    assert!((9..=10).contains(&came), "{came}");
    assert!(lines.iter().all(|(id, _)| *id == app.id));
    assert_eq!(lines.iter().filter(|(_, line)| line.process == "logplex").count(), 1);
    rig.get(HOST, "/after").await;
    rig.line("/after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_outlives_its_server_and_is_adopted() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = dir.path().join("router");
    let install = InstallId::random();
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let options = RouterOptions::new(install.clone(), listen, state.clone(), state.join("control.sock"));
    let program = std::path::PathBuf::from(env!("CARGO_BIN_EXE_router_process"));

    let first = ensure_router(program.clone(), options.clone()).await.expect("started");
    let (pid, address) = (first.pid(), first.addresses()[0]);
    assert_ne!(pid, std::process::id());
    assert_eq!(std::fs::read_to_string(state.join("router.pid")).expect("a pid file").trim(), pid.to_string());
    let app = publish(&first, HOST, 1).await;
    assert_eq!(get(address).await, 200);
    drop(first);
    assert_eq!(get(address).await, 200, "without a server");

    let second = ensure_router(program.clone(), options.clone()).await.expect("adopted");
    assert_eq!((second.pid(), second.addresses()[0]), (pid, address));
    assert_eq!(second.apps().await.expect("listed"), vec![app.clone()]);
    let other = RouterOptions { install: InstallId::random(), ..options.clone() };
    assert!(matches!(ensure_router(program.clone(), other).await, Err(PortError::Permanent { .. })));

    // Killed: the client starts another one, on the table from disk.
    is_saved(&state, &[app.as_str(), HOST]).await;
    let mut events = second.events();
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill runs");
    assert!(killed.success());
    assert_eq!(timeout(LATE, events.recv()).await.expect("said").expect("an event"), RouterEvent::Restarted);
    assert_ne!(second.pid(), pid);
    assert_eq!(second.apps().await.expect("listed"), vec![app]);
    assert_eq!(get(second.addresses()[0]).await, 200);

    // Another listening address is a reason to replace it; asking it to stop ends it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    let moved = RouterOptions { listen: vec![free], ..options };
    let before = second.pid();
    drop(second);
    let third = ensure_router(program, moved).await.expect("replaced");
    assert_ne!(third.pid(), before);
    assert_eq!(third.addresses(), vec![free]);
    assert_eq!(get(free).await, 200);
    third.shut_down(Duration::from_secs(1)).await.expect("stops");
    drop(third);
    let gone = async {
        while state.join("control.sock").exists() || state.join("router.pid").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LATE, gone).await.expect("it cleans up");
    let closed = async {
        while TcpStream::connect(free).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LATE, closed).await.expect("nobody listens");
}

#[tokio::test]
async fn a_router_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let listen = vec![taken.local_addr().expect("an address")];
    let state = dir.path().join("router");
    let options = RouterOptions::new(InstallId::random(), listen, state.clone(), state.join("control.sock"));
    let program = std::path::PathBuf::from(env!("CARGO_BIN_EXE_router_process"));
    let Err(error) = ensure_router(program, options).await else { panic!("it started") };
    assert!(error.to_string().contains("in use") || error.to_string().contains("InUse"), "{error}");
}

async fn publish(client: &RouterClient, host: &str, generation: i64) -> AppId {
    let id = AppId::new();
    let pool = client.place(&id, &ProcessType::web()).await.expect("placed");
    client.set(&pool, 2, &[says("web.1", OK).await, absent("web.2", MemberState::Starting)]).await.expect("set");
    client
        .publish(&TestApp { id: id.clone(), pool, host: host.to_owned() }.route(generation))
        .await
        .expect("published");
    id
}

async fn get(address: std::net::SocketAddr) -> u16 {
    let mut peer = Peer::new(TcpStream::connect(address).await.expect("connected"));
    peer.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")).await;
    peer.reply().await.status
}
