//! Class Q of the bad inputs, HTTP/1.1 part, driven from the file: the right answer, nothing smuggled, and a
//! good request behind it is served as ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paas_tests::router::{Reply, Rig, dyno, header, member, says};

const MINE: &str = "mine.example.com";
const VICTIM: &str = "victim.example.com";

/// Entries about TLS and HTTP/2, which this router does not speak.
const NOT_SPOKEN: [&str; 11] = ["Q55", "Q57", "Q62", "Q65", "Q66", "Q67", "Q68", "Q70", "Q71", "Q72", "Q73"];
/// Driven in `codes.rs`: they need a dyno or a time-out of their own.
const ELSEWHERE: [(&str, &str); 2] = [
    ("Q91", "tests/tests/router/codes.rs::h17_when_the_answer_is_not_http"),
    ("Q93", "tests/tests/router/codes.rs::h28_when_the_client_stops_sending"),
];

struct World {
    rig: Rig,
    /// Requests that any dyno got.
    reached: Arc<AtomicUsize>,
}

impl World {
    async fn new() -> Self {
        let rig = Rig::with(|limits| {
            limits.connect_ms = 300;
            limits.header_read_ms = 300;
        })
        .await;
        let reached = Arc::new(AtomicUsize::new(0));
        for (host, name) in [(MINE, "web.1"), (VICTIM, "web.2")] {
            let reached = reached.clone();
            let web = dyno(name, move |mut peer| {
                let reached = reached.clone();
                async move {
                    while let Some(head) = peer.head().await {
                        reached.fetch_add(1, Ordering::SeqCst);
                        let (body, _) = peer.body(&head, false).await;
                        let shown = format!("{name}\n{head}{}", String::from_utf8_lossy(&body));
                        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{shown}", shown.len())).await;
                    }
                }
            });
            rig.app(host, &[web.await]).await;
        }
        Self { rig, reached }
    }

    fn reached(&self) -> usize {
        self.reached.load(Ordering::SeqCst)
    }

    /// Sends bytes that no dyno may see a request of, and checks that the answer is `status` and the end, within a
    /// second. Other tests run on the same cores, so that one late answer says nothing; bytes that take long do so
    /// every time.
    async fn refused(&self, status: &[u16], bytes: impl AsRef<[u8]>) {
        let mut took = Vec::new();
        while took.len() < 4 {
            took.push(self.refused_in(status, bytes.as_ref()).await);
            if took.last().is_some_and(|took| *took < Duration::from_secs(1)) {
                return;
            }
        }
        panic!("{:?} took {took:?}", String::from_utf8_lossy(bytes.as_ref()));
    }

    async fn refused_in(&self, status: &[u16], bytes: &[u8]) -> Duration {
        let before = self.reached();
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let began = Instant::now();
        let mut peer = self.rig.connect().await;
        peer.send(bytes).await;
        // Were the connection left open, this would be answered.
        peer.send(format!("GET /smuggled HTTP/1.1\r\nHost: {VICTIM}\r\n\r\n")).await;
        let reply = peer.reply().await;
        assert!(status.contains(&reply.status), "{shown:?}: {reply:?}");
        assert_eq!(reply.header("connection"), Some("close"), "{shown:?}");
        assert!(peer.closes().await, "{shown:?}: the connection stays open");
        let took = began.elapsed();
        assert_eq!(self.reached(), before, "{shown:?} reached a dyno");
        took
    }

    /// Bytes whose body is bad: the dyno may see the head, but never a second request.
    async fn bad_body(&self, body: &str) {
        let before = self.reached();
        let mut peer = self.rig.connect().await;
        peer.send(format!("POST / HTTP/1.1\r\nHost: {MINE}\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        peer.send(format!("GET /smuggled HTTP/1.1\r\nHost: {VICTIM}\r\n\r\n")).await;
        let reply = peer.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (400, Some("close")), "{body:?}: {reply:?}");
        assert!(peer.closes().await, "{body:?}: the connection stays open");
        assert!(self.reached() <= before + 1, "{body:?}");
    }

    async fn with_headers(&self, headers: &str) -> Reply {
        self.rig.send(format!("GET / HTTP/1.1\r\nHost: {MINE}\r\n{headers}\r\n")).await
    }

    async fn host(&self, host: &str) -> Reply {
        self.rig.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
    }
}

/// One entry of the file. Panics on an id that is not known here, so that a new entry cannot be overlooked.
async fn drive(world: &World, id: &str) {
    let post = |headers: &str| format!("POST / HTTP/1.1\r\nHost: {MINE}\r\n{headers}\r\n\r\n0\r\n\r\n");
    match id {
        "Q01" => world.refused(&[400], post("Content-Length: 5\r\nTransfer-Encoding: chunked")).await,
        "Q04" => world.refused(&[400], post("Content-Length: 5\r\nContent-Length: 5")).await,
        "Q06" => {
            for value in
                [" +5", " -5", " 5 ", "  5", " 0x5", " 5,5", " 5 5", "\t5", " ", " 1e1", " 99999999999999999999"]
            {
                world.refused(&[400], post(&format!("Content-Length:{value}"))).await;
            }
        }
        "Q08" => {
            for value in
                ["xchunked", "chunkedx", "gzip", "chun ked", ",chunked", "chunked;x", "\u{b}chunked", "\"chunked\""]
            {
                world.refused(&[400], post(&format!("Transfer-Encoding: {value}"))).await;
            }
        }
        "Q09" => {
            world.refused(&[400], post("Transfer-Encoding: chunked, identity")).await;
            world.refused(&[400], post("Transfer-Encoding: identity, chunked")).await;
            world.refused(&[400], post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")).await;
            world.refused(&[400], post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")).await;
        }
        "Q14" => {
            let old = format!("POST / HTTP/1.0\r\nHost: {MINE}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
            world.refused(&[400], old).await;
        }
        "Q15" => {
            let before = world.reached();
            let mut peer = world.rig.connect().await;
            peer.send(format!(
                "POST / HTTP/1.0\r\nHost: {MINE}\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: {VICTIM}\r\n\r\n"
            ))
            .await;
            let reply = peer.reply().await;
            assert!(reply.status == 200 && reply.text().ends_with("\r\n\r\n"), "no body: {reply:?}");
            assert!(peer.closes().await);
            assert_eq!(world.reached(), before + 1);
        }
        "Q20" => {
            for name in ["X Y", "X-A ", " X-A", "X\u{e4}", "", "X\u{0}", "X(", "\tX", "X\r"] {
                world.refused(&[400], format!("GET / HTTP/1.1\r\nHost: {MINE}\r\n{name}: 1\r\n\r\n")).await;
            }
            let seen =
                world.with_headers("X_Forwarded_For: 6.6.6.6\r\nX_My_Own: kept\r\nContent_Length: 3\r\n").await.text();
            assert!(
                !seen.contains("6.6.6.6") && !seen.contains("Content_Length") && seen.contains("X_My_Own: kept"),
                "{seen}"
            );
        }
        "Q25" => {
            for size in ["-1", "0x5", "5 ", "5 ;", "FFFFFFFFFFFFFFFFF", "", " 5", "+5", "5_0", ";"] {
                world.bad_body(&format!("{size}\r\nhello\r\n0\r\n\r\n")).await;
            }
        }
        "Q27" => {
            world.bad_body("3\r\nhello\r\n0\r\n\r\n").await;
            world.bad_body("7\r\nhello\r\n0\r\n\r\n").await;
        }
        "Q29" => {
            for body in [
                "5\nhello\r\n0\r\n\r\n",
                "5\r\nhello\n0\r\n\r\n",
                "5\r\nhello\r\n0\n\r\n",
                "5\r\nhello\r\n0\r\n\n",
                "5;a\nb\r\nhello",
            ] {
                world.bad_body(body).await;
            }
            // The same in heads.
            for head in [
                "GET / HTTP/1.1\nHost: x\r\n\r\n",
                "GET / HTTP/1.1\r\nHost: x\n\r\n",
                "GET / HTTP/1.1\r\nHost: x\r\n\n",
            ] {
                world.refused(&[400], head.replace('x', MINE)).await;
            }
            world.refused(&[400], format!("GET / HTTP/1.1\r\nHost: {MINE}\r\nA: b\r\n folded\r\n\r\n")).await;
            world.refused(&[400], format!("GET / HTTP/1.1\r\nHost: {MINE}\r\nA: b\rc\r\n\r\n")).await;
        }
        "Q30" => {
            let body = "5\r\nhello\r\n0\r\nContent-Length: 3\r\nHost: other\r\nTransfer-Encoding: x\r\nX-T: 1\r\n\r\n";
            let head =
                format!("POST / HTTP/1.1\r\nHost: {MINE}\r\nTransfer-Encoding: chunked\r\nTrailer: Host\r\n\r\n");
            let mut peer = world.rig.connect().await;
            peer.send(format!("{head}{body}GET /next HTTP/1.1\r\nHost: {MINE}\r\n\r\n")).await;
            let seen = peer.reply().await.text();
            assert!(seen.ends_with("\r\n\r\nhello"), "{seen}");
            assert_eq!((header(&seen, "content-length"), header(&seen, "trailer")), (None, None));
            assert!(peer.reply().await.text().contains("GET /next "), "the connection goes on behind the trailers");
        }
        "Q31" => {
            // The dyno answers a GET with a body before it has read it; the body looks like a request.
            let early = dyno("web.3", |mut peer| async move {
                while peer.head().await.is_some() {
                    peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly").await;
                }
            });
            world.rig.app("early.example.com", &[early.await]).await;
            let mut peer = world.rig.connect().await;
            peer.send("GET / HTTP/1.1\r\nHost: early.example.com\r\nContent-Length: 44\r\n\r\n").await;
            assert_eq!(peer.reply().await.text(), "early");
            let before = world.reached();
            peer.send(format!("GET /smuggled HTTP/1.1\r\nHost: {VICTIM}\r\n\r\n")).await;
            assert!(peer.closes().await);
            assert_eq!(world.reached(), before);
            // And the connection to the dyno was not used again: the next answer is for the next request.
            assert_eq!(world.rig.get("early.example.com", "/").await.text(), "early");
        }
        "Q38" => {
            let seen = world
                .with_headers(
                    "X-Forwarded-For: 1.1.1.1\r\nX-Request-Id: abcdefghijklmnopqrstuvwxyz\r\nCookie: a=b\r\n\
                     Authorization: x\r\nConnection: Host, X-Request-Id, Content-Length\r\n\
                     Connection: close, X-Forwarded-For, cookie, authorization\r\n",
                )
                .await
                .text();
            assert!(seen.contains(&format!("Host: {MINE}\r\n")), "{seen}");
            assert_eq!(header(&seen, "x-forwarded-for"), Some("1.1.1.1, 127.0.0.1"));
            assert_eq!(header(&seen, "x-request-id"), Some("abcdefghijklmnopqrstuvwxyz"));
            assert_eq!((header(&seen, "cookie"), header(&seen, "authorization")), (Some("a=b"), Some("x")));
        }
        "Q39" => {
            let mut peer = world.rig.connect().await;
            let requests: String = (0..100)
                .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: {}\r\n\r\n", if n % 3 == 0 { VICTIM } else { MINE }))
                .collect();
            peer.send(requests).await;
            for n in 0..100 {
                let seen = peer.reply().await.text();
                let name = if n % 3 == 0 { "web.2" } else { "web.1" };
                assert!(seen.starts_with(&format!("{name}\nGET /{n} HTTP/1.1\r\n")), "{n}: {seen}");
            }
        }
        "Q41" => world.refused(&[400], "GET / HTTP/1.1\r\n\r\n").await,
        "Q42" => {
            world.refused(&[400], format!("GET / HTTP/1.1\r\nHost: {MINE}\r\nHost: {VICTIM}\r\n\r\n")).await;
            world.refused(&[400], format!("GET / HTTP/1.1\r\nHost: {MINE}\r\nhost: {MINE}\r\n\r\n")).await;
        }
        "Q44" => {
            for host in ["a.com, b.com", "a.com b.com", "a.com\tb.com", "", "a.com;b", "a.com\\b"] {
                world.refused(&[400], format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            }
        }
        "Q45" => {
            let seen = world.rig.send(format!("GET http://{VICTIM}/x HTTP/1.1\r\nHost: {MINE}\r\n\r\n")).await.text();
            assert!(seen.starts_with(&format!("web.2\nGET /x HTTP/1.1\r\nHost: {VICTIM}\r\n")), "{seen}");
            assert!(!seen.contains(MINE), "{seen}");
            world.refused(&[400], format!("GET http://u@{VICTIM}/x HTTP/1.1\r\nHost: {MINE}\r\n\r\n")).await;
            world.refused(&[400], format!("GET gopher://{VICTIM}/ HTTP/1.1\r\nHost: {MINE}\r\n\r\n")).await;
        }
        "Q46" => {
            for host in [":443", ":99999", ".", ".:80", ":"].map(|end| format!("{VICTIM}{end}")) {
                assert!(world.host(&host).await.text().starts_with("web.2\n"), "{host}");
            }
            assert!(world.host(&VICTIM.to_uppercase()).await.text().starts_with("web.2\n"));
        }
        "Q47" => {
            for host in ["user@x", "x/", "x#", "x?a", "http://x", "x:80:80", "x:port", "x%2e", "[::1", "x\u{e4}"] {
                world.refused(&[400], format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host.replace('x', VICTIM))).await;
            }
        }
        "Q48" => {
            for host in ["127.0.0.1", "[::1]", "[::1]:80", &world.rig.address.to_string()] {
                assert_eq!(world.host(host).await.status, 404, "{host}");
            }
        }
        "Q49" => {
            let reply = world.host("unknown.example").await;
            assert!(reply.status == 404 && reply.text().contains("No such app"));
        }
        "Q51" => {
            let headers = format!("X-Forwarded-Host: {VICTIM}\r\nForwarded: host={VICTIM}\r\nX-Host: {VICTIM}\r\n");
            assert!(world.with_headers(&headers).await.text().starts_with("web.1\n"));
        }
        "Q54" => {
            let seen = world
                .with_headers("X-Request-Start: 1\r\nX-Request-Start: 2\r\nVia: 1.0 a\r\nVia: 1.1 b\r\n")
                .await
                .text();
            assert_eq!(header(&seen, "via"), Some("1.0 a, 1.1 b, 1.1 paas"));
            assert_eq!(seen.matches("X-Request-Start: 1").count(), 1, "{seen}");
            assert!(!seen.contains("X-Request-Start: 1\r\n") && !seen.contains("X-Request-Start: 2\r\n"), "{seen}");
        }
        "Q74" => {
            let upgrade =
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 1\r\n";
            let seen = world.with_headers(upgrade).await.text();
            assert!(seen.contains(upgrade) || header(&seen, "sec-websocket-version") == Some("1"), "{seen}");
            // Bytes behind the request, before anybody accepted it.
            let mut early = format!("GET / HTTP/1.1\r\nHost: {MINE}\r\n{upgrade}\r\n");
            early.push_str("\u{1}\u{2}");
            world.refused(&[400], early).await;
        }
        "Q77" => {
            world.refused(&[400], format!("GE T / HTTP/1.1\r\nHost: {MINE}\r\n\r\n")).await;
            for method in ["get", "Get", &"A".repeat(1024), "G\u{e4}T", "CONNECT", "GET\u{0}"] {
                world.refused(&[400, 405, 501], format!("{method} / HTTP/1.1\r\nHost: {MINE}\r\n\r\n")).await;
            }
            for (line, status) in [
                (format!("GET /{} HTTP/1.1", "x".repeat(8_200)), 414),
                ("GET / HTTP/2.0".to_owned(), 505),
                ("GET / HTTP/1.2".to_owned(), 505),
                ("GET /".to_owned(), 400),
                ("GET /  HTTP/1.1".to_owned(), 400),
                ("GET /a#b HTTP/1.1".to_owned(), 400),
                ("GET nothing HTTP/1.1".to_owned(), 400),
            ] {
                world.refused(&[status], format!("{line}\r\nHost: {MINE}\r\n\r\n")).await;
            }
            let long = format!("GET / HTTP/1.1\r\nHost: {MINE}\r\nX: {}\r\n\r\n", "x".repeat(8_200));
            world.refused(&[431], long).await;
            let many = format!("GET / HTTP/1.1\r\nHost: {MINE}\r\n{}\r\n", "X: y\r\n".repeat(1_001));
            world.refused(&[431], many).await;
            let much =
                format!("GET / HTTP/1.1\r\nHost: {MINE}\r\n{}\r\n", format!("X: {}\r\n", "x".repeat(8_000)).repeat(9));
            world.refused(&[431], much).await;
            let mut slow = world.rig.connect().await;
            slow.send("GET / HTT").await;
            assert_eq!(slow.reply().await.status, 408);
        }
        "Q81" => {
            let cuts = dyno("web.3", |mut peer| async move {
                peer.head().await;
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
            });
            world.rig.app("cuts.example.com", &[cuts.await]).await;
            let mut peer = world.rig.connect().await;
            peer.send("GET /cut HTTP/1.1\r\nHost: cuts.example.com\r\n\r\n").await;
            assert!(!peer.reply().await.whole && peer.closes().await);
            assert!(world.rig.line("/cut").await.contains("code=H18"));
        }
        "Q84" => {
            let floods = says("web.3", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000)).await;
            world.rig.app("floods.example.com", &[floods]).await;
            let reply = world.rig.get("floods.example.com", "/flood").await;
            assert_eq!(reply.status, 503);
            assert!(world.rig.line("/flood").await.contains("code=H17"));
        }
        "Q87" => {
            let closes = dyno("web.3", |mut peer| async move { drop(peer.head().await) }).await;
            world.rig.app("closes.example.com", &[closes]).await;
            assert_eq!(world.rig.get("closes.example.com", "/closed").await.status, 503);
            assert!(world.rig.line("/closed").await.contains("code=H13"));
        }
        "Q88" => {
            let gone =
                tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("an address");
            let app = world.rig.app("refuses.example.com", &[member("web.3", gone)]).await;
            assert_eq!(world.rig.get(&app.host, "/refused").await.status, 503);
            assert!(world.rig.line("/refused").await.contains("code=H21"));
            let good = says("web.4", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            world.rig.set(&app, &[member("web.3", gone), good]).await;
            for _ in 0..20 {
                assert_eq!(world.rig.get(&app.host, "/").await.status, 200, "another dyno has it");
            }
        }
        "Q89" => {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
            let deaf = socket.listen(1).expect("listens");
            let address = deaf.local_addr().expect("an address");
            let fill: Vec<_> = (0..8)
                .map(|_| {
                    tokio::spawn(async move {
                        let _kept = tokio::net::TcpStream::connect(address).await;
                        std::future::pending::<()>().await;
                    })
                })
                .collect();
            tokio::time::sleep(Duration::from_millis(100)).await;
            world.rig.app("deaf.example.com", &[member("web.3", address)]).await;
            assert_eq!(world.rig.get("deaf.example.com", "/deaf").await.status, 503);
            assert!(world.rig.line("/deaf").await.contains("code=H19"));
            fill.iter().for_each(tokio::task::JoinHandle::abort);
        }
        "Q92" => {
            let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
            let waits = dyno("web.3", move |mut peer| {
                let told = told.clone();
                async move {
                    peer.head().await;
                    peer.rest().await;
                    let _ = told.send(());
                }
            });
            world.rig.app("left.example.com", &[waits.await]).await;
            let mut peer = world.rig.connect().await;
            peer.send("POST /left HTTP/1.1\r\nHost: left.example.com\r\nContent-Length: 9\r\n\r\nabc").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(peer);
            tells.recv().await.expect("the dyno is told");
            let line = world.rig.line("/left").await;
            assert!(line.contains("code=H27") && line.contains("status=499"), "{line}");
        }
        "Q94" => {
            let before = world.reached();
            for _ in 0..3 {
                assert_eq!(world.rig.get(MINE, "/secret").await.status, 200);
            }
            assert_eq!(world.reached(), before + 3, "each one reached the dyno");
        }
        _ => panic!("{id} is new in the file: drive it here"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_listed_case_gets_its_answer() {
    let file = include_str!("../../fixtures/bad-inputs.jsonl");
    let ids: BTreeSet<String> = file
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"))
        .filter(|entry| entry["cls"] == "Q")
        .map(|entry| entry["id"].as_str().expect("an id").to_owned())
        .collect();
    assert!(ids.len() > 40, "{}", ids.len());
    let world = World::new().await;
    let mut driven = 0;
    for id in &ids {
        if NOT_SPOKEN.contains(&id.as_str()) {
            continue;
        }
        if let Some((_, place)) = ELSEWHERE.iter().find(|(known, _)| known == id) {
            paas_tests::shown::assert_is_there(id, place);
            continue;
        }
        drive(&world, id).await;
        assert!(world.host(MINE).await.text().starts_with("web.1\n"), "after {id}, another client is served");
        driven += 1;
    }
    println!("class Q: {driven} driven here, {} in codes.rs, {} not spoken", ELSEWHERE.len(), NOT_SPOKEN.len());
    assert_eq!(driven + NOT_SPOKEN.len() + ELSEWHERE.len(), ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once_get_the_same_answer() {
    let world = Arc::new(World::new().await);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move {
                let bad = format!(
                    "POST / HTTP/1.1\r\nHost: {MINE}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
                );
                world.rig.send(bad).await.status
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), 400);
    }
    assert_eq!(world.reached(), 0);
}
