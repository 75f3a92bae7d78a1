//! Bytes through the router: both directions, every framing, upgrades, kept connections, Heroku's headers.

use std::time::Duration;

use paas_tests::router::{LATE, Rig, dyno, header, says, shows};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

const HOST: &str = "app.example.com";

#[tokio::test]
async fn the_dyno_sees_herokus_headers() {
    let rig = Rig::start().await;
    rig.app(HOST, &[shows("web.1").await]).await;
    let reply = rig
        .send(format!(
            "GET /a?b=c HTTP/1.1\r\nHost: {HOST}:8080\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Port: 1\r\nX-Request-Start: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
             Accept: text/html\r\nx-CamelCase: Kept\r\n\r\n"
        ))
        .await;
    let seen = reply.text();
    let seen = seen.strip_prefix("web.1\n").expect("the dyno's answer");
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\nHost: app.example.com:8080\r\n"), "{seen}");
    assert_eq!(header(seen, "x-forwarded-for"), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(header(seen, "x-forwarded-proto"), Some("http"));
    assert_eq!(header(seen, "x-forwarded-port"), Some(rig.address.port().to_string().as_str()));
    assert_eq!(header(seen, "via"), Some("1.1 paas"));
    assert_eq!(header(seen, "x-request-id").map(str::len), Some(36));
    assert!(header(seen, "x-request-start").expect("there").parse::<u64>().expect("milliseconds") > 1_700_000_000_000);
    assert!(header(seen, "connect-time").is_some() && header(seen, "total-route-time").is_some());
    assert!(seen.contains("x-CamelCase: Kept\r\n"), "names keep their case");
    for gone in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(header(seen, gone), None, "{gone}");
    }
    assert_eq!(reply.header("via"), Some("1.1 paas"));
    let id = header(seen, "x-request-id").expect("there");
    assert!(rig.line("at=info").await.contains(&format!("request_id={id}")));
}

#[tokio::test]
async fn bodies_go_up_in_either_framing() {
    let rig = Rig::start().await;
    rig.app(HOST, &[shows("web.1").await]).await;
    let length = rig.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello")).await.text();
    assert!(length.ends_with("\r\n\r\nhello") && length.contains("Content-Length: 5\r\n"), "{length}");
    let mut peer = rig.connect().await;
    peer.send(format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    for part in ["3\r\nhel", "\r\n2;x=y\r\nlo\r\n0", "\r\nX-Trailer: 1\r\nContent-Length: 99\r\n", "\r\n"] {
        peer.send(part).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let chunked = peer.reply().await.text();
    assert!(chunked.ends_with("\r\n\r\nhello") && chunked.contains("Transfer-Encoding: chunked\r\n"), "{chunked}");
    assert!(!chunked.contains("Trailer") && !chunked.contains("Content-Length"), "{chunked}");
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let rig = Rig::start().await;
    // Answers each byte as it comes.
    let echo = dyno("web.1", |mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        for _ in 0..5 {
            let byte = peer.exactly(1).await;
            peer.send(b"1\r\n").await;
            peer.send(byte.to_ascii_uppercase()).await;
            peer.send(b"\r\n").await;
        }
        peer.send("0\r\n\r\n").await;
        peer.head().await;
    });
    rig.app(HOST, &[echo.await]).await;
    let mut peer = rig.connect().await;
    peer.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\r\n\r\n")).await;
    let head = peer.head().await.expect("the answer begins before the request ends");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for byte in [b'a', b'b', b'c', b'd', b'e'] {
        peer.send([byte]).await;
        let chunk = timeout(LATE, peer.exactly(6)).await.expect("echoed at once");
        assert_eq!(chunk, [b'1', b'\r', b'\n', byte.to_ascii_uppercase(), b'\r', b'\n']);
    }
    assert_eq!(peer.exactly(5).await, b"0\r\n\r\n");
    peer.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
}

#[tokio::test]
async fn a_slow_reader_holds_the_dyno_back() {
    let rig = Rig::start().await;
    const SIZE: usize = 64 * 1024 * 1024;
    let (sent, counts) = tokio::sync::watch::channel(0_usize);
    let floods = dyno("web.1", move |mut peer| {
        let sent = sent.clone();
        async move {
            peer.head().await;
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
            let block = vec![b'x'; 64 * 1024];
            for n in 1..=SIZE / block.len() {
                if peer.stream.write_all(&block).await.is_err() {
                    return;
                }
                sent.send_replace(n * block.len());
            }
            peer.head().await;
        }
    });
    rig.app(HOST, &[floods.await]).await;
    let mut peer = rig.connect().await;
    peer.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    peer.head().await.expect("a head");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let held = *counts.borrow();
    assert!(held < SIZE / 2, "{held} bytes were taken although nobody read them");
    let mut read = peer.ahead.len();
    while read < SIZE {
        peer.ahead.clear();
        assert!(peer.more().await, "all of it comes: {read}");
        read += peer.ahead.len();
    }
    assert!(rig.line("at=info").await.contains(&format!(" bytes={SIZE} ")));
}

#[tokio::test]
async fn answers_come_in_every_framing_for_every_client() {
    let rig = Rig::start().await;
    let app = rig.app(HOST, &[]).await;
    for (answer, closes) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\nT: x\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", true),
        ("HTTP/1.0 200 OK\r\n\r\nhello", true),
    ] {
        let web = dyno("web.1", move |mut peer| async move {
            while peer.head().await.is_some() {
                peer.send(answer).await;
                if closes {
                    return;
                }
            }
        });
        rig.set(&app, &[web.await]).await;
        let mut peer = rig.connect().await;
        for _ in 0..2 {
            peer.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            let reply = peer.reply().await;
            assert_eq!((reply.text().as_str(), reply.whole), ("hello", true), "{answer:?}: {reply:?}");
        }
        let reply = rig.send(format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!((reply.text().as_str(), reply.header("transfer-encoding")), ("hello", None), "{answer:?}");
        assert_eq!(reply.header("connection"), Some("close"));
        let mut peer = rig.connect().await;
        peer.send(format!("HEAD / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")).await;
        let rest = peer.rest().await;
        let rest = String::from_utf8(rest).expect("text");
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\n"), "{rest:?}");
    }
}

#[tokio::test]
async fn an_old_client_may_keep_its_connection() {
    let rig = Rig::start().await;
    rig.app(HOST, &[shows("web.1").await]).await;
    let mut peer = rig.connect().await;
    for _ in 0..2 {
        peer.send(format!("GET / HTTP/1.0\r\nHost: {HOST}\r\nConnection: Keep-Alive\r\n\r\n")).await;
        let reply = peer.reply().await;
        assert_eq!((reply.status, reply.header("connection")), (200, Some("keep-alive")));
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let rig = Rig::start().await;
    let app = rig.app(HOST, &[]).await;
    for (answer, status) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\nETag: x\r\n\r\n", 304),
    ] {
        rig.set(&app, &[says("web.1", answer).await]).await;
        let mut peer = rig.connect().await;
        for _ in 0..3 {
            peer.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            assert_eq!(peer.reply().await.status, status);
        }
    }
}

#[tokio::test]
async fn continue_is_between_client_and_dyno() {
    let rig = Rig::start().await;
    let web = dyno("web.1", |mut peer| async move {
        let head = peer.head().await.expect("a head");
        assert_eq!(header(&head, "expect"), Some("100-continue"));
        peer.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        let body = peer.exactly(5).await;
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
        peer.send(body).await;
        peer.head().await;
    });
    rig.app(HOST, &[web.await]).await;
    let mut peer = rig.connect().await;
    peer.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")).await;
    assert!(peer.head().await.expect("an interim answer").starts_with("HTTP/1.1 100 Continue\r\n"));
    peer.send("hello").await;
    assert!(peer.head().await.expect("hints").starts_with("HTTP/1.1 103 Early Hints\r\n"));
    assert_eq!(peer.reply().await.text(), "hello");
}

#[tokio::test]
async fn a_refused_body_is_not_waited_for() {
    let rig = Rig::start().await;
    let web = dyno("web.1", |mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        peer.rest().await;
    });
    rig.app(HOST, &[web.await]).await;
    let mut peer = rig.connect().await;
    peer.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\nabc")).await;
    let reply = peer.reply().await;
    assert_eq!((reply.status, reply.text().as_str()), (413, "no"));
    // The rest of the body must never be taken for a request.
    peer.send(format!("GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    assert!(peer.closes().await);
}

#[tokio::test]
async fn connections_to_dynos_are_kept_and_checked() {
    let rig = Rig::start().await;
    let (opened, opens) = tokio::sync::watch::channel(0);
    // Closes each connection after three answers, without saying so.
    let web = dyno("web.1", move |mut peer| {
        opened.send_modify(|n| *n += 1);
        async move {
            for _ in 0..3 {
                peer.head().await;
                peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    });
    rig.app(HOST, &[web.await]).await;
    let mut peer = rig.connect().await;
    for _ in 0..12 {
        peer.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        let reply = peer.reply().await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let opens = *opens.borrow();
    assert!((4..=5).contains(&opens), "{opens} connections for twelve requests");
}

#[tokio::test]
async fn an_early_end_of_a_kept_connection_is_not_repeated_for_a_post() {
    let rig = Rig::start().await;
    // Answers one request, takes a second and closes.
    let web = dyno("web.1", |mut peer| async move {
        let head = peer.head().await.expect("a head");
        peer.body(&head, false).await;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        peer.head().await;
    });
    rig.app(HOST, &[web.await]).await;
    let mut peer = rig.connect().await;
    for expected in [200, 503] {
        peer.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi")).await;
        assert_eq!(peer.reply().await.status, expected);
    }
    rig.line("code=H13").await;
    for _ in 0..2 {
        peer.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        assert_eq!(peer.reply().await.status, 200, "a GET is asked again");
    }
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: app.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: any nonsense\r\nSec-WebSocket-Version: 99\r\n\r\n";

#[tokio::test]
async fn websockets_are_carried_as_they_are() {
    let rig = Rig::start().await;
    let web = dyno("web.1", |mut peer| async move {
        let head = peer.head().await.expect("a head");
        assert_eq!(header(&head, "connection"), Some("Upgrade"));
        assert_eq!(header(&head, "upgrade"), Some("websocket"));
        assert_eq!(header(&head, "sec-websocket-key"), Some("any nonsense"));
        // The first bytes of the new protocol come with the answer.
        peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX: y\r\n\r\nhi ")
            .await;
        for _ in 0..3 {
            let bytes = peer.exactly(4).await;
            peer.send(bytes).await;
        }
        assert!(peer.closes().await, "the client's end reaches the dyno");
        peer.send("bye").await;
    });
    let app = rig.app(HOST, &[web.await]).await;
    let mut peer = rig.connect().await;
    peer.send(UPGRADE).await;
    let head = peer.head().await.expect("an answer");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n") && head.contains("X: y\r\n"), "{head}");
    assert_eq!((header(&head, "upgrade"), header(&head, "connection")), (Some("websocket"), Some("Upgrade")));
    assert_eq!(peer.exactly(3).await, b"hi ");
    for bytes in [b"\x00\xff\r\n", b"GET ", b"\x81\x02ab"] {
        peer.send(bytes).await;
        assert_eq!(peer.exactly(4).await, bytes);
    }
    peer.stream.shutdown().await.expect("shut down");
    assert_eq!(peer.rest().await, b"bye");
    let line = rig.line("status=101").await;
    assert!(line.starts_with("at=info") && line.contains("path=\"/ws\"") && line.contains("bytes=18 "), "{line}");
    assert_eq!(app.host, HOST);
}

#[tokio::test]
async fn a_silent_websocket_is_closed() {
    let rig = Rig::with(|limits| limits.idle_ms = 200).await;
    let web = dyno("web.1", |mut peer| async move {
        peer.head().await;
        peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").await;
        peer.rest().await;
    });
    rig.app(HOST, &[web.await]).await;
    let mut peer = rig.connect().await;
    peer.send(UPGRADE).await;
    peer.head().await.expect("an answer");
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.send("x").await;
    }
    assert!(peer.closes().await);
    let line = rig.line("code=H15").await;
    assert!(line.contains("status=101"), "{line}");
}

#[tokio::test]
async fn a_refused_upgrade_is_an_ordinary_answer() {
    let rig = Rig::start().await;
    rig.app(HOST, &[says("web.1", "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno").await]).await;
    let mut peer = rig.connect().await;
    for _ in 0..2 {
        peer.send(UPGRADE).await;
        assert_eq!(peer.reply().await.status, 400);
    }
}

#[tokio::test]
async fn a_big_upload_arrives_whole() {
    let rig = Rig::start().await;
    const SIZE: usize = 20 * 1024 * 1024;
    let web = dyno("web.1", |mut peer| async move {
        while let Some(head) = peer.head().await {
            let (body, whole) = peer.body(&head, false).await;
            let right = whole && body.len() == SIZE && body.iter().enumerate().all(|(i, b)| *b == (i % 251) as u8);
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{right}", right.to_string().len())).await;
        }
    });
    rig.app(HOST, &[web.await]).await;
    let body: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    let mut peer = rig.connect().await;
    peer.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {SIZE}\r\n\r\n")).await;
    peer.send(&body).await;
    assert_eq!(peer.reply().await.text(), "true");
    peer.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
    for chunk in body.chunks(99_991) {
        peer.send(format!("{:x}\r\n", chunk.len())).await;
        peer.send(chunk).await;
        peer.send("\r\n").await;
    }
    peer.send("0\r\n\r\n").await;
    assert_eq!(peer.reply().await.text(), "true");
}
