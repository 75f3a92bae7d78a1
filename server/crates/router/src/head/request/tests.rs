use proptest::prelude::*;

use super::*;
use crate::head::{Head, Scan, SizeLimits};

const ID: [u8; 36] = *b"00000000-0000-4000-8000-000000000000";
const LIMITS: SizeLimits = SizeLimits { first_line: 8192, line: 8192, lines: 1000, total: 65536 };

fn read(head: &str) -> Result<Request, Refusal> {
    let mut request = Request::default();
    let origin = Origin { peer: "10.0.0.9", port: 80, at_ms: 1_700_000_000_123, fresh_id: &|| ID };
    request.read(head.as_bytes(), &origin).map(|()| request)
}

fn status(head: &str) -> u16 {
    read(head).map_or_else(|refusal| refusal.status, |_| 0)
}

fn written(request: &Request) -> String {
    let mut out = Vec::new();
    request.write_head(&mut out, 1, 2);
    String::from_utf8(out).expect("text")
}

#[test]
fn herokus_headers_are_added_and_hops_removed() {
    let request = read(
        "GET /a?b HTTP/1.1\r\nHost: App.Example.com:80\r\nConnection: close, X-Secret-Hop, X-Forwarded-For\r\nX-Secret-Hop: 1\r\n\
         X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX_Forwarded_Proto: https\r\nVia: 1.0 x\r\nTE: trailers\r\n\
         X-Request-Start: 5\r\nAccept: */*\r\nX-Forwarded-Host: other\r\n\r\n",
    )
    .expect("good");
    assert_eq!(request.host_key, "app.example.com");
    assert!(!request.keep_alive && request.repeatable);
    assert_eq!(
        written(&request),
        "GET /a?b HTTP/1.1\r\nHost: App.Example.com:80\r\nAccept: */*\r\nX-Forwarded-Host: other\r\n\
         X-Request-Id: 00000000-0000-4000-8000-000000000000\r\nX-Forwarded-For: 1.1.1.1, 10.0.0.9\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\nX-Request-Start: 1700000000123\r\nVia: 1.0 x, 1.1 paas\r\n\
         Connect-Time: 1\r\nTotal-Route-Time: 2\r\n\r\n"
    );
}

#[test]
fn request_ids_follow_herokus_rule() {
    let with = |id: &str| {
        let request = read(&format!("GET / HTTP/1.1\r\nHost: a.b\r\nX-Request-Id: {id}\r\n\r\n")).expect("good");
        String::from_utf8(request.id().to_vec()).expect("text")
    };
    let good = "abcDEF0123456789+/=-";
    assert_eq!(with(good), good);
    assert_eq!(with(&"x".repeat(200)), "x".repeat(200));
    for bad in [&good[1..], &"x".repeat(201), "abcDEF0123456789 abcdef", "abcDEF0123456789_abcdef"] {
        assert_eq!(with(bad).as_bytes(), ID, "{bad}");
    }
}

#[test]
fn framing_is_one_thing_only() {
    let post = |headers: &str| status(&format!("POST / HTTP/1.1\r\nHost: a.b\r\n{headers}\r\n"));
    assert_eq!(post("Content-Length: 5\r\n"), 0);
    assert_eq!(post("Content-Length:5\r\n"), 0);
    assert_eq!(post("Transfer-Encoding: Chunked\r\n"), 0);
    for bad in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5 \r\n",
        "Content-Length:  5\r\n",
        "Content-Length:\t5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding: chunked\r\n folded\r\n",
        " Transfer-Encoding: chunked\r\n",
        "Tr\u{e4}nsfer: x\r\n",
        ": x\r\n",
        "X Y: z\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
    ] {
        assert_eq!(post(bad), 400, "{bad:?}");
    }
    assert_eq!(status("POST / HTTP/1.0\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    assert!(read("POST / HTTP/1.0\r\nHost: a.b\r\n\r\n").expect("good").body.is_done());
}

#[test]
fn hosts_are_one_and_well_formed() {
    assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a.b\r\nHost: a.b\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400);
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 0);
    let absolute = read("GET http://victim/x HTTP/1.1\r\nHost: mine\r\n\r\n").expect("good");
    assert_eq!((absolute.host_key.as_str(), absolute.path()), ("victim", &b"/x"[..]));
    assert!(written(&absolute).starts_with("GET /x HTTP/1.1\r\nHost: victim\r\n"));
    let query = read("GET HTTP://victim?q HTTP/1.1\r\nHost: mine\r\n\r\n").expect("good");
    assert_eq!(query.path(), b"/?q");
    for bad in ["http://u@victim/", "ftp://victim/", "victim", "", "/a#b", "http:///x", "*"] {
        assert_eq!(status(&format!("GET {bad} HTTP/1.1\r\nHost: mine\r\n\r\n")), 400, "{bad}");
    }
}

#[test]
fn methods_and_versions() {
    assert_eq!(status("GE T / HTTP/1.1\r\nHost: a.b\r\n\r\n"), 400);
    assert_eq!(status("get / HTTP/1.1\r\nHost: a.b\r\n\r\n"), 501);
    assert_eq!(status(&format!("{} / HTTP/1.1\r\nHost: a.b\r\n\r\n", "A".repeat(1024))), 501);
    assert_eq!(status("CONNECT a.b:443 HTTP/1.1\r\nHost: a.b\r\n\r\n"), 405);
    assert_eq!(status("M-SEARCH / HTTP/1.1\r\nHost: a.b\r\n\r\n"), 0);
    assert_eq!(status("GET / HTTP/2.0\r\nHost: a.b\r\n\r\n"), 505);
    assert_eq!(status("GET / HTTP/1.1 \r\nHost: a.b\r\n\r\n"), 400);
    assert_eq!(status("GET  / HTTP/1.1\r\nHost: a.b\r\n\r\n"), 400);
    assert_eq!(status("GET /\r\n\r\n"), 400);
    assert_eq!(status("POST / HTTP/1.1\r\nHost: a.b\r\nExpect: magic\r\n\r\n"), 417);
    let many = "X: y\r\n".repeat(999);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a.b\r\n{many}\r\n")), 0);
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a.b\r\n{many}X: y\r\n\r\n")), 431);
}

#[test]
fn upgrades_need_an_empty_body() {
    let upgrade = |extra: &str, to: &str| {
        read(&format!("GET / HTTP/1.1\r\nHost: a.b\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {to}\r\n{extra}\r\n"))
            .expect("good")
    };
    let websocket = upgrade("Sec-WebSocket-Version: nonsense\r\n", "websocket");
    assert!(websocket.upgrade && !websocket.repeatable);
    assert!(written(&websocket).contains("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
    assert!(!upgrade("Content-Length: 3\r\n", "websocket").upgrade);
    let h2c = upgrade("HTTP2-Settings: x\r\n", "h2c");
    assert!(!h2c.upgrade && !written(&h2c).to_lowercase().contains("h2c") && !written(&h2c).contains("HTTP2"));
}

proptest! {
    /// Whatever is accepted goes out as one head that we would read the same way again.
    #[test]
    fn what_goes_out_reads_back_the_same(
        lines in proptest::collection::vec(
            prop_oneof![
                "[A-Za-z_-]{1,12}: ?[ -~]{0,20}",
                Just("Content-Length: 7".to_owned()),
                Just("Transfer-Encoding: chunked".to_owned()),
                Just("Host: a.b".to_owned()),
                Just("Connection: Host, upgrade, x".to_owned()),
                Just("Upgrade: websocket".to_owned()),
                Just("X-Forwarded-For: 1.2.3.4".to_owned()),
            ], 0..8),
        method in "[A-Z]{1,7}", path in "/[!-\"$-~]{0,20}", http10: bool,
    ) {
        let version = if http10 { "1.0" } else { "1.1" };
        let head = format!("{method} {path} HTTP/{version}\r\nHost: a.b\r\n{}\r\n", lines.iter().map(|l| format!("{l}\r\n")).collect::<String>());
        if let Ok(first) = read(&head) {
            let out = written(&first);
            prop_assert_eq!(Scan::default().look(out.as_bytes(), &LIMITS), Head::Whole(out.len()));
            prop_assert_eq!(out.matches("\r\nHost: ").count(), 1);
            prop_assert_eq!(out.to_lowercase().matches("\r\nx-forwarded-for: ").count(), 1);
            let second = read(&out).expect("ours is good");
            prop_assert_eq!(&second.body, &first.body);
            prop_assert_eq!(&second.host_key, &first.host_key);
            prop_assert_eq!(second.path(), first.path());
            prop_assert_eq!(second.upgrade, first.upgrade);
        }
    }

    /// No bytes make the reader panic, and nothing is written for what is refused twice differently.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut request = Request::default();
        let origin = Origin { peer: "::1", port: 1, at_ms: 0, fresh_id: &|| ID };
        let mut whole = bytes;
        whole.extend_from_slice(b"\r\n\r\n");
        if let Head::Whole(end) = Scan::default().look(&whole, &LIMITS) {
            let _ = request.read(&whole[..end], &origin);
        }
    }
}
