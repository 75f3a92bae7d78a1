//! Four real apps with their dependencies: pushed, changed and pushed again, scaled, rolled back. And one that speaks
//! websockets.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use paas_tests::on_each_platform;
use paas_tests::platform::{Kind, Platform, Ran, SEEN_WITHIN};

on_each_platform!(flask, express, go, static_site, websockets);

struct Case {
    fixture: &'static str,
    /// What the first push says.
    detected: &'static str,
    /// What the second push says of dependencies that have not changed.
    reused: Option<&'static str>,
    /// What only the first push says.
    fetched: Option<&'static str>,
    /// The file with the answer.
    answer: &'static str,
}

fn flask(kind: Kind) {
    let case = Case {
        fixture: "flask",
        detected: "remote: -----> Python app detected",
        reused: Some("remote: -----> Using cached dependencies"),
        fetched: Some("Installing dependencies"),
        answer: "app.py",
    };
    goes_its_way(kind, &case);
}

fn express(kind: Kind) {
    let case = Case {
        fixture: "express",
        detected: "remote: -----> Node.js app detected",
        reused: Some("remote:        - node_modules: dependencies have not changed"),
        fetched: Some("Installing dependencies"),
        answer: "index.js",
    };
    goes_its_way(kind, &case);
}

fn go(kind: Kind) {
    let case = Case {
        fixture: "go",
        detected: "remote: -----> Go app detected",
        reused: Some("remote: -----> Using go1."),
        fetched: Some("remote: -----> Installing go1."),
        answer: "main.go",
    };
    goes_its_way(kind, &case);
}

fn static_site(kind: Kind) {
    let case = Case {
        fixture: "static",
        detected: "remote: -----> Static HTML app detected",
        reused: None,
        fetched: None,
        answer: "public/index.html",
    };
    goes_its_way(kind, &case);
}

fn goes_its_way(kind: Kind, case: &Case) {
    let platform = Platform::on(kind);
    let fixture = case.fixture;
    let name = &format!("my-{fixture}");
    let app = platform.repository(fixture);
    app.paas(&format!("create {name}")).done();

    let first = app.push();
    in_herokus_form(&first, 3);
    if !app.folder().join("Procfile").exists() {
        let types = "Procfile declares types -> (none)        \nremote:        Default types for buildpack -> web";
        assert!(first.stderr.contains(types), "{first}");
    }
    let first = case.fetched.into_iter().fold(first.done().tells(case.detected), Ran::tells);
    platform.serves(name, &format!("Hello from {fixture} v1"), SEEN_WITHIN);

    app.replace(case.answer, &format!("{fixture} v1"), &format!("{fixture} v2"));
    app.commit("Second");
    let second = app.push();
    in_herokus_form(&second, 4);
    let second = second.done().tells(case.detected);
    let second = case.fetched.into_iter().fold(case.reused.into_iter().fold(second, Ran::tells), Ran::lacks);
    platform.serves(name, &format!("Hello from {fixture} v2"), SEEN_WITHIN);
    eprintln!("{name} ({kind:?}): first push {:.1?}, second push {:.1?}", first.took, second.took);

    app.paas("ps:scale web=2").done().tells("Scaling dynos... done, now running web at 2:");
    platform.are_up(name, "web", 2);
    let ps = app.paas("ps").done();
    assert_eq!(ps.stdout.matches(": up ").count(), 2, "{ps}");

    app.paas("rollback v3").done().tells(&format!("Rolling back {name} to v3... done, v5"));
    platform.serves(name, &format!("Hello from {fixture} v1"), platform.soon());
    platform.are_up(name, "web", 2);
    platform.finish();
}

/// The lines that people and their scripts know from Heroku.
fn in_herokus_form(push: &Ran, version: u32) {
    let version = format!("remote:        Released v{version}");
    let mut rest = push.stderr.as_str();
    for line in [
        "remote: -----> ",
        "remote: -----> Discovering process types",
        "remote: -----> Compressing...",
        "remote:        Done: ",
        "remote: -----> Launching...",
        &version,
        "remote:        http",
        "remote: Verifying deploy... done.",
    ] {
        let at = rest.find(line).unwrap_or_else(|| panic!("no {line:?} where it belongs: {push}"));
        rest = &rest[at + line.len()..];
    }
}

/// Answers each message of a websocket with itself, and says bye when it is told so.
const ECHO: &str = r#"
import base64, hashlib, os, socketserver

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        head = {}
        self.rfile.readline()
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin1").partition(":")
            head[name.lower()] = value.strip()
        if head.get("upgrade", "").lower() != "websocket":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nan echo\r\n")
            return
        key = head["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.wfile.write(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          f"Sec-WebSocket-Accept: {accept}\r\n\r\n").encode())
        while len(start := self.rfile.read(2)) == 2:
            kind, size, mask = start[0] & 15, start[1] & 127, self.rfile.read(4)
            said = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(size)))
            self.wfile.write(bytes([0x80 | kind, size]) + said)
            if kind == 8:
                return

socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", int(os.environ["PORT"])), Echo).serve_forever()
"#;

fn websockets(kind: Kind) {
    let platform = Platform::on(kind);
    let app = platform.repository("flask");
    app.write("Procfile", "web: python echo.py\n");
    app.write("echo.py", ECHO);
    app.commit("An echo");
    app.paas("create echo").done();
    app.push().done();
    platform.serves("echo", "an echo", platform.soon());

    let mut first = Socket::open(&platform, "echo");
    let mut second = Socket::open(&platform, "echo");
    for text in ["hello", "", "a message of some length that no proxy has reason to keep to itself until more comes"] {
        assert_eq!(first.echo(text), text);
    }
    // Neither the other one nor an ordinary request is in its way, and it is still there when it was silent.
    assert_eq!(second.echo("me too"), "me too");
    assert_eq!(platform.get("echo").status, 200);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(first.echo("still here"), "still here");
    second.close();
    assert_eq!(first.echo("alone"), "alone");
    first.close();
    platform.finish();
}

/// A client's end of a websocket (RFC 6455), as far as short messages need it.
struct Socket(TcpStream);

impl Socket {
    fn open(platform: &Platform, app: &str) -> Self {
        let port = platform.front_port();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the front door");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let host = platform.host(app);
        // Key and answer are the RFC's own example.
        let ask = format!(
            "GET /chat HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(ask.as_bytes()).expect("asked");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        Self(stream)
    }

    fn send(&mut self, kind: u8, text: &[u8]) {
        let mask = [7, 1, 9, 2];
        let mut frame = vec![0x80 | kind, 0x80 | u8::try_from(text.len()).expect("a short message")];
        frame.extend(mask);
        frame.extend(text.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        self.0.write_all(&frame).expect("sent");
    }

    fn read(&mut self) -> (u8, Vec<u8>) {
        let mut start = [0; 2];
        self.0.read_exact(&mut start).expect("a frame");
        let mut text = vec![0; usize::from(start[1])];
        self.0.read_exact(&mut text).expect("a message");
        (start[0], text)
    }

    fn echo(&mut self, text: &str) -> String {
        self.send(1, text.as_bytes());
        let (kind, said) = self.read();
        assert_eq!(kind, 0x81, "a whole text");
        String::from_utf8(said).expect("text")
    }

    /// Says bye, hears bye, and then there is nobody.
    fn close(mut self) {
        self.send(8, &1000_u16.to_be_bytes());
        assert_eq!(self.read(), (0x88, 1000_u16.to_be_bytes().to_vec()));
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).expect("an end");
        assert!(rest.is_empty(), "{rest:?}");
    }
}
