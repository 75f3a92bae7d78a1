//! Log sessions over HTTP, as clients read them that lose their connection.

use paas_domain::Timestamp;
use paas_ports::{LogLine, LogSource, outside};
use paas_tests::api_world::ApiWorld;
use paas_tests::database::Database;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A client of an event stream.
struct Events {
    stream: TcpStream,
    text: String,
}

impl Events {
    async fn open(world: &ApiWorld, path: &str, last: Option<&str>) -> Self {
        let mut stream = TcpStream::connect(world.address).await.expect("the server listens");
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        Self { stream, text: String::new() }
    }

    /// Reads until this was said.
    async fn until(&mut self, part: &str) {
        while !self.text.contains(part) {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(std::time::Duration::from_secs(10), self.stream.read(&mut buffer));
            let n = read.await.unwrap_or_else(|_| panic!("{part} does not come: {}", self.text)).expect("reads");
            assert!(n > 0, "the stream ends before {part}: {}", self.text);
            self.text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }

    /// The id of the event that says this.
    fn id_of(&self, part: &str) -> &str {
        let before = &self.text[..self.text.find(part).expect("it was said")];
        let id = before.rfind("id: ").map(|at| &before[at + 4..]).expect("an id");
        id.lines().next().expect("a line").trim()
    }
}

#[tokio::test]
async fn a_tail_that_was_cut_is_taken_up_behind_its_last_line() {
    let world = ApiWorld::live(Database::sqlite()).await;
    let app = world.create_app("hello").await;
    let app = app["id"].as_str().expect("an id").parse().expect("an app's id");
    let say = async |message: &str| {
        let line = LogLine {
            at: Timestamp(1_800_000_000_000),
            source: LogSource::App,
            process: "web.1".to_owned(),
            message: message.to_owned(),
        };
        outside::task(async { world.cx.logs.append(&app, vec![line]).await }).await.expect("stored");
    };
    let session = world.post("/apps/hello/log-sessions", &json!({"lines": 100, "tail": true, "source": "app"})).await;
    let path = world.path_of(session.json()["logplex_url"].as_str().expect("a URL"));

    say("the first line").await;
    let mut events = Events::open(&world, &path, None).await;
    events.until("the first line").await;
    say("the second line").await;
    events.until("the second line").await;
    let last = events.id_of("the second line").to_owned();
    assert_ne!(last, events.id_of("the first line"));
    // Cut, and meanwhile more is said.
    drop(events);
    say("the third line").await;
    let mut events = Events::open(&world, &path, Some(&last)).await;
    events.until("the third line").await;
    say("the fourth line").await;
    events.until("the fourth line").await;
    for old in ["the first line", "the second line"] {
        assert!(!events.text.contains(old), "{}", events.text);
    }
    assert_eq!(events.text.matches("the third line").count(), 1, "{}", events.text);
    drop(events);
    world.end().await;
}
