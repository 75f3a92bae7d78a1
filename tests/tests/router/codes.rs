//! Every H code the router can give: provoked on purpose, with its status, its page and its log line.

use std::time::Duration;

use paas_ports::{MemberState, Pools as _};
use paas_tests::router::{Reply, Rig, TestApp, absent, dyno, member, says, shows};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const HOST: &str = "app.example.com";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn request(id: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: {HOST}\r\nX-Request-Id: the-request-with-{id}-in-it\r\n\r\n")
}

/// Sends one request and checks the page and the line.
async fn gets(rig: &Rig, code: &str, status: u16, description: &str, dyno: &str) -> (Reply, String) {
    let reply = rig.send(request(code)).await;
    assert_eq!(reply.status, status, "{reply:?}");
    assert!(reply.whole && reply.header("content-type") == Some("text/html; charset=utf-8"), "{reply:?}");
    let line = rig.line(&format!("the-request-with-{code}-in-it")).await;
    let level = if matches!(code, "H80" | "H81") { "info" } else { "error" };
    assert!(
        line.starts_with(&format!(
            "at={level} code={code} desc=\"{description}\" method=GET path=\"/x\" host={HOST} \
             request_id=the-request-with-{code}-in-it fwd=\"127.0.0.1\" dyno={dyno} connect="
        )),
        "{line}"
    );
    assert!(line.contains(&format!(" status={status} bytes=0 protocol=http")), "{line}");
    (reply, line)
}

#[tokio::test]
async fn h10_when_the_app_crashed() {
    let rig = Rig::start().await;
    rig.app(HOST, &[absent("web.1", MemberState::Crashed)]).await;
    let (reply, line) = gets(&rig, "H10", 503, "App crashed", "").await;
    assert!(reply.text().contains("<title>Application error</title>"), "{}", reply.text());
    assert!(line.ends_with("dyno= connect= service= status=503 bytes=0 protocol=http"), "{line}");
}

#[tokio::test]
async fn h11_when_too_many_wait() {
    let rig = Rig::with(|limits| {
        limits.requests_per_dyno = 1;
        limits.backlog_per_dyno = 1;
    })
    .await;
    rig.app(HOST, &[dyno("web.1", |peer| async move { hold(peer).await }).await]).await;
    let mut first = rig.connect().await;
    first.send(request("H00")).await;
    let mut second = rig.connect().await;
    second.send(request("H01")).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    gets(&rig, "H11", 503, "Backlog too deep", "").await;
}

async fn hold(mut peer: paas_tests::router::Peer) {
    while peer.more().await {}
}

#[tokio::test]
async fn h12_when_the_dyno_does_not_answer() {
    let rig = Rig::with(|limits| limits.first_byte_ms = 200).await;
    rig.app(HOST, &[dyno("web.1", hold).await]).await;
    let (_, line) = gets(&rig, "H12", 503, "Request timeout", "web.1").await;
    let service: u64 = field(&line, "service=").trim_end_matches("ms").parse().expect("a number");
    assert!((200..2_000).contains(&service), "{line}");
}

#[tokio::test]
async fn h12_when_a_queue_does_not_move() {
    let rig = Rig::with(|limits| {
        limits.first_byte_ms = 200;
        limits.requests_per_dyno = 0;
    })
    .await;
    rig.app(HOST, &[says("web.1", OK).await]).await;
    gets(&rig, "H12", 503, "Request timeout", "").await;
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split(' ').find_map(|part| part.strip_prefix(name)).expect("the field")
}

#[tokio::test]
async fn h13_when_the_dyno_closes_without_a_byte() {
    let rig = Rig::start().await;
    let closes = dyno("web.1", |mut peer| async move { drop(peer.head().await) }).await;
    rig.app(HOST, &[closes]).await;
    gets(&rig, "H13", 503, "Connection closed without response", "web.1").await;
}

#[tokio::test]
async fn h14_when_no_web_dyno_is_wanted() {
    let rig = Rig::start().await;
    let app = rig.app(HOST, &[says("web.1", OK).await]).await;
    rig.client().set(&app.pool, 0, &[]).await.expect("set");
    gets(&rig, "H14", 503, "No web processes running", "").await;
}

#[tokio::test]
async fn h15_when_the_answer_stops() {
    let rig = Rig::with(|limits| limits.idle_ms = 200).await;
    let stops = dyno("web.1", |mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
        hold(peer).await;
    });
    rig.app(HOST, &[stops.await]).await;
    let reply = rig.send(request("H15")).await;
    assert_eq!((reply.status, reply.whole, reply.text().as_str()), (200, false, "abc"));
    let line = rig.line("the-request-with-H15-in-it").await;
    assert!(line.starts_with("at=error code=H15 desc=\"Idle connection\" "), "{line}");
    assert!(line.contains("dyno=web.1") && line.contains(" status=200 bytes=3 "), "{line}");
}

#[tokio::test]
async fn h17_when_the_answer_is_not_http() {
    for nonsense in [
        "hello, I am not HTTP\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a\rb\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ] {
        let rig = Rig::start().await;
        rig.app(HOST, &[says("web.1", nonsense).await]).await;
        gets(&rig, "H17", 503, "Poorly formatted HTTP response", "web.1").await;
    }
}

#[tokio::test]
async fn h18_when_the_dyno_closes_in_the_middle() {
    let rig = Rig::start().await;
    let cuts = dyno("web.1", |mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").await;
    });
    rig.app(HOST, &[cuts.await]).await;
    let reply = rig.send(request("H18")).await;
    assert_eq!((reply.status, reply.whole), (200, false));
    let line = rig.line("the-request-with-H18-in-it").await;
    assert!(line.starts_with("at=error code=H18 desc=\"Server Request Interrupted\" "), "{line}");
    assert!(line.ends_with(" status=200 bytes=3 protocol=http sock=backend"), "{line}");
}

#[tokio::test]
async fn h18_page_when_the_head_is_cut_off() {
    let rig = Rig::start().await;
    let cuts = dyno("web.1", |mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Le").await;
    });
    rig.app(HOST, &[cuts.await]).await;
    gets(&rig, "H18", 503, "Server Request Interrupted", "web.1").await;
}

/// A listener that takes no connection: its queue is full.
async fn deaf() -> (std::net::SocketAddr, TcpListener, Vec<tokio::task::JoinHandle<()>>) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let listener = socket.listen(1).expect("listens");
    let address = listener.local_addr().expect("an address");
    let fill = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let _kept = TcpStream::connect(address).await;
                std::future::pending::<()>().await;
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    (address, listener, fill)
}

#[tokio::test]
async fn h19_when_the_dyno_takes_no_connection() {
    let rig = Rig::with(|limits| limits.connect_ms = 200).await;
    let (address, _listener, fill) = deaf().await;
    rig.app(HOST, &[member("web.1", address)]).await;
    let (_, line) = gets(&rig, "H19", 503, "Backend connection timeout", "web.1").await;
    assert!(field(&line, "connect=").trim_end_matches("ms").parse::<u64>().expect("a number") >= 200, "{line}");
    fill.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn h20_when_no_dyno_comes_up() {
    let rig = Rig::with(|limits| limits.boot_ms = 200).await;
    rig.app(HOST, &[absent("web.1", MemberState::Starting)]).await;
    gets(&rig, "H20", 503, "App boot timeout", "").await;
}

async fn refusing() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("an address")
}

#[tokio::test]
async fn h21_when_the_dyno_refuses() {
    let rig = Rig::start().await;
    rig.app(HOST, &[member("web.1", refusing().await)]).await;
    gets(&rig, "H21", 503, "Backend connection refused", "web.1").await;
}

#[tokio::test]
async fn h25_when_a_cookie_is_too_long() {
    let rig = Rig::start().await;
    let cookie = "x".repeat(8_200);
    rig.app(HOST, &[says("web.1", format!("HTTP/1.1 200 OK\r\nSet-Cookie: {cookie}\r\n\r\n")).await]).await;
    gets(&rig, "H25", 502, "HTTP Restriction", "web.1").await;
}

#[tokio::test]
async fn h26_when_the_body_is_badly_framed() {
    let rig = Rig::start().await;
    rig.app(HOST, &[dyno("web.1", hold).await]).await;
    let mut peer = rig.connect().await;
    peer.send(format!("POST /x HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")).await;
    peer.send("nonsense\r\n").await;
    let reply = peer.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (400, Some("close")));
    assert!(peer.closes().await);
    let line = rig.line("code=H26").await;
    assert!(line.contains("desc=\"Request Error\" method=POST") && line.contains(" dyno=web.1 "), "{line}");
    assert!(line.ends_with(" status=400 bytes=0 protocol=http sock=client"), "{line}");
}

#[tokio::test]
async fn h27_when_the_client_leaves() {
    // Whoever closes at all has left.
    let rig = Rig::with(|limits| limits.half_close_ms = 0).await;
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let waits = dyno("web.1", move |mut peer| {
        let told = told.clone();
        async move {
            peer.head().await;
            let _ = told.send("asked");
            while peer.more().await {}
            let _ = told.send("closed");
        }
    });
    let app = rig.app(HOST, &[waits.await]).await;
    let mut peer = rig.connect().await;
    peer.send(request("H27")).await;
    assert_eq!(tells.recv().await, Some("asked"));
    drop(peer);
    assert_eq!(tells.recv().await, Some("closed"), "the dyno is told");
    let line = rig.line("the-request-with-H27-in-it").await;
    assert!(line.starts_with("at=error code=H27 desc=\"Client Request Interrupted\" "), "{line}");
    assert!(line.ends_with(" status=499 bytes=0 protocol=http sock=client"), "{line}");

    // In the middle of its body, and while it waits for a dyno.
    let mut peer = rig.connect().await;
    peer.send(format!("POST /mid-body HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nabc")).await;
    assert_eq!(tells.recv().await, Some("asked"));
    drop(peer);
    assert!(rig.line("path=\"/mid-body\"").await.contains("code=H27"));
    rig.set(&app, &[absent("web.1", MemberState::Starting)]).await;
    let mut peer = rig.connect().await;
    peer.send(format!("GET /waiting HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(peer);
    assert!(rig.line("path=\"/waiting\"").await.contains("code=H27"));
}

/// An app that takes a moment to answer what it was asked.
async fn thoughtful(rig: &Rig) {
    let web = dyno("web.1", |mut peer| async move {
        while let Some(head) = peer.head().await {
            peer.body(&head, false).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
        }
    });
    rig.app(HOST, &[web.await]).await;
}

#[tokio::test]
async fn a_client_that_closes_its_half_behind_its_request_is_answered() {
    use tokio::io::AsyncWriteExt as _;
    let rig = Rig::start().await;
    thoughtful(&rig).await;
    for (request, path) in [
        (format!("GET /half HTTP/1.1\r\nHost: {HOST}\r\n\r\n"), "/half"),
        (format!("POST /half-body HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\nabc"), "/half-body"),
    ] {
        let mut peer = rig.connect().await;
        peer.send(request).await;
        peer.stream.shutdown().await.expect("shut down");
        let reply = peer.reply().await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
        assert!(peer.closes().await, "nothing more can come");
        let line = rig.line(&format!("path=\"{path}\"")).await;
        assert!(line.starts_with("at=info ") && line.contains(" status=200 bytes=5 "), "{line}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_behind_two_requests_gets_two_answers() {
    use tokio::io::AsyncWriteExt as _;
    let rig = Rig::start().await;
    thoughtful(&rig).await;
    let mut peer = rig.connect().await;
    peer.send(["/one", "/two"].map(|path| format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).concat()).await;
    peer.stream.shutdown().await.expect("shut down");
    for path in ["/one", "/two"] {
        assert_eq!(peer.reply().await.text(), "hello");
        assert!(rig.line(&format!("path=\"{path}\"")).await.starts_with("at=info "));
    }
    assert!(peer.closes().await, "nothing more can come");
}

#[tokio::test]
async fn a_client_that_has_closed_its_half_waits_for_a_dyno() {
    use tokio::io::AsyncWriteExt as _;
    let rig = Rig::with(|limits| limits.half_close_ms = 1_000).await;
    let app = rig.app(HOST, &[absent("web.1", MemberState::Starting)]).await;
    let mut peer = rig.connect().await;
    peer.send(request("WAIT")).await;
    peer.stream.shutdown().await.expect("shut down");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    rig.set(&app, &[says("web.1", OK).await]).await;
    assert_eq!(peer.reply().await.text(), "ok");
}

#[tokio::test]
async fn h27_also_when_only_the_answer_shows_that_the_client_has_left() {
    let rig = Rig::start().await;
    thoughtful(&rig).await;
    let mut peer = rig.connect().await;
    peer.send(format!("GET /left HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    drop(peer);
    let line = rig.line("path=\"/left\"").await;
    assert!(line.contains(" code=H27 ") && line.contains(" status=499 "), "{line}");
}

#[tokio::test]
async fn h28_when_the_client_stops_sending() {
    let rig = Rig::with(|limits| limits.idle_ms = 200).await;
    rig.app(HOST, &[dyno("web.1", hold).await]).await;
    let mut peer = rig.connect().await;
    peer.send(format!("POST /x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\nabc")).await;
    let reply = peer.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (499, Some("close")));
    let line = rig.line("code=H28").await;
    assert!(line.contains("desc=\"Client Connection Idle\""), "{line}");
    assert!(line.ends_with(" status=499 bytes=0 protocol=http sock=client"), "{line}");
}

#[tokio::test]
async fn h80_in_maintenance() {
    let rig = Rig::start().await;
    let app: TestApp = rig.app(HOST, &[says("web.1", OK).await]).await;
    rig.publish(&app, 2, |route| route.maintenance = true).await;
    let (reply, line) = gets(&rig, "H80", 503, "Maintenance mode", "").await;
    assert!(reply.text().contains("<title>Offline for Maintenance</title>"), "{}", reply.text());
    assert!(line.ends_with("dyno= connect= service= status=503 bytes=0 protocol=http"), "{line}");
}

#[tokio::test]
async fn h81_before_the_first_release() {
    let rig = Rig::start().await;
    let app = rig.app(HOST, &[]).await;
    rig.publish(&app, 2, |route| {
        route.released = false;
        route.attachment = None;
    })
    .await;
    gets(&rig, "H81", 503, "Blank app", "").await;
}

#[tokio::test]
async fn no_such_app_is_a_404_and_nobodys_line() {
    let rig = Rig::start().await;
    rig.app(HOST, &[shows("web.1").await]).await;
    for host in ["other.example.com", "127.0.0.1", "[::1]", "localhost"] {
        let reply = rig.get(host, "/").await;
        assert_eq!(reply.status, 404, "{host}");
        assert!(reply.text().contains("<title>No such app</title>"));
    }
    assert_eq!(rig.get(HOST, "/last").await.status, 200);
    rig.line("/last").await;
    assert_eq!(rig.lines().len(), 1, "{:?}", rig.lines());
}

#[tokio::test]
async fn a_served_request_has_exactly_one_line() {
    let rig = Rig::start().await;
    let app = rig.app(HOST, &[shows("web.1").await]).await;
    let reply = rig.send(request("info")).await;
    let line = rig.line("the-request-with-info-in-it").await;
    assert!(line.starts_with("at=info method=GET path=\"/x\" host=app.example.com request_id="), "{line}");
    assert!(line.contains(" fwd=\"127.0.0.1\" dyno=web.1 connect="), "{line}");
    assert!(line.ends_with(&format!(" status=200 bytes={} protocol=http", reply.body.len())), "{line}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let lines = rig.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0].0, lines[0].1.process.as_str()), (&app.id, "router"));
}
