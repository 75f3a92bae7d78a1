//! Log lines between servers that share a database: each is read at every server, once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paas_domain::{AppId, Clock as _, SystemClock};
use paas_logs::Live;
use paas_ports::{LogLine, LogSource, Tail};
use paas_server::line_exchange::{Are, Exchange, LineExchange as _, Lines};
use paas_store::Store;
use paas_tests::database::Database;
use tokio::sync::watch;

/// A server: its lines in memory, and its end of the exchange.
struct Server {
    exchange: Arc<Exchange>,
    memory: Arc<Memory>,
    stop: watch::Sender<bool>,
}

#[derive(Default)]
struct Memory {
    apps: Mutex<HashMap<AppId, Arc<Live>>>,
    /// How many lines of this text came from other servers: not all of them stay in memory.
    large: AtomicUsize,
}

/// A line of which 600 are more than may wait.
fn large() -> String {
    "x".repeat(10_000)
}

impl Memory {
    fn of(&self, app: &AppId) -> Arc<Live> {
        Arc::clone(self.apps.lock().expect("a lock").entry(app.clone()).or_insert_with(|| Arc::new(Live::new([]))))
    }

    fn texts(&self, app: &AppId) -> Vec<String> {
        self.of(app).look(|tails| tails.map(|tail| tail.line.message.clone()).collect())
    }
}

impl Lines for Memory {
    fn heard(&self, app: &AppId, mut lines: Vec<LogLine>, are: Are) {
        if are != Are::New {
            let here: Vec<LogLine> = self.of(app).look(|tails| tails.map(|tail| tail.line.clone()).collect());
            lines.retain(|line| !here.contains(line));
        }
        self.large.fetch_add(lines.iter().filter(|line| line.message == large()).count(), Ordering::Relaxed);
        let Ok(()) = self.of(app).append(lines, |_| Ok::<(), Infallible>(()));
    }

    fn newest(&self, app: &AppId, show: &mut dyn FnMut(&[Tail])) {
        self.of(app).look(|tails| show(&tails.cloned().collect::<Vec<_>>()));
    }
}

impl Server {
    fn start(store: &Store) -> Self {
        // What is told is told to every server of the database, those of other tests included.
        let (exchange, memory) = (Arc::new(Exchange::new(AppId::new().to_string())), Arc::new(Memory::default()));
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(Arc::clone(&exchange).run(store.clone(), memory.clone(), stopped));
        Self { exchange, memory, stop }
    }

    fn says(&self, app: &AppId, text: &str) {
        let line = LogLine {
            at: SystemClock.now(),
            source: LogSource::App,
            process: "web.1".to_owned(),
            message: text.to_owned(),
        };
        let Ok(()) = self.memory.of(app).append([line], |tails| {
            self.exchange.hand_on(app, tails, Are::New);
            Ok::<(), Infallible>(())
        });
    }

    /// Waits until exactly these lines are here.
    async fn has(&self, app: &AppId, texts: &[&str]) {
        let here = async {
            while self.memory.texts(app) != texts {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), here).await.is_err() {
            panic!("here is {:?}, not {texts:?}", self.memory.texts(app));
        }
    }

    /// Waits until the other server is heard here.
    async fn hears(&self, other: &Self) {
        let app = AppId::new();
        let _following = self.exchange.follow(&app);
        let heard = async {
            while self.memory.texts(&app).is_empty() {
                other.says(&app, "hello");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), heard).await.expect("the other server is heard");
    }
}

/// Servers that hear each other.
async fn servers<const N: usize>(store: &Store) -> [Server; N] {
    let servers = std::array::from_fn(|_| Server::start(store));
    for one in 0..N {
        for other in (0..N).filter(|other| *other != one) {
            servers[one].hears(&servers[other]).await;
        }
    }
    servers
}

/// What was said at one server is read at the other: the newest of before included, in its order, nothing twice, and
/// of no app that nobody reads there.
#[tokio::test]
async fn what_one_server_hears_is_read_at_another() {
    let database = Database::postgres().await;
    let store = database.open().await;
    let [one, other, third] = servers(&store).await;
    let (app, unread) = (AppId::new(), AppId::new());
    one.says(&app, "before");
    one.says(&unread, "nobody reads this");
    let _following = other.exchange.follow(&app);
    other.has(&app, &["before"]).await;
    one.says(&app, "first");
    one.says(&unread, "nor this");
    one.says(&app, "second");
    other.has(&app, &["before", "first", "second"]).await;
    other.says(&app, "from here");
    // Who begins to read later is shown everything by each of the others, and sees it once.
    let _third = third.exchange.follow(&app);
    let expected = ["before", "first", "from here", "second"];
    let sorted = async {
        loop {
            let mut texts = third.memory.texts(&app);
            texts.sort();
            if texts == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), sorted).await.expect("each line once");
    let large: Vec<String> = (0..40).map(|n| format!("{n} {}", "large ".repeat(1_600))).collect();
    large.iter().for_each(|text| one.says(&app, text));
    let mut all: Vec<&str> = vec!["before", "first", "second", "from here"];
    all.extend(large.iter().map(String::as_str));
    other.has(&app, &all).await;
    let end = async {
        while third.memory.texts(&app).last() != large.last() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("the third server hears it, too");
    assert_eq!(third.memory.texts(&app).len(), 44, "nothing came twice");
    assert_eq!(other.memory.texts(&unread), Vec::<String>::new());
    assert_eq!(one.memory.texts(&app).len(), 43, "who does not read is told nothing");
    for server in [&one, &other, &third] {
        let _ = server.stop.send(true);
    }
    store.close().await;
    database.remove().await;
}

/// Lines that are not told, because too many wait, are counted where they are missed.
#[tokio::test]
async fn lines_that_are_lost_between_servers_are_counted() {
    let database = Database::postgres().await;
    let store = database.open().await;
    let [one, other] = servers(&store).await;
    let app = AppId::new();
    let _following = other.exchange.follow(&app);
    one.says(&app, "hello");
    other.has(&app, &["hello"]).await;
    // Without a pause in which something could be told.
    (0..600).for_each(|_| one.says(&app, &large()));
    let last = async {
        loop {
            one.says(&app, "the end");
            tokio::time::sleep(Duration::from_millis(50)).await;
            let texts = other.memory.texts(&app);
            if texts.iter().any(|text| text == "the end") {
                return texts;
            }
        }
    };
    let texts = tokio::time::timeout(Duration::from_secs(20), last).await.expect("it goes on");
    let came = other.memory.large.load(Ordering::Relaxed);
    let lost = texts.iter().find(|text| text.contains("L10")).unwrap_or_else(|| panic!("{came} came, nothing is said"));
    assert!((300..600).contains(&came), "{came} came");
    let expected = format!("Error L10 (output buffer overflow) -> {} messages dropped", 600 - came);
    assert!(lost.starts_with(&expected), "{lost}, not {expected}");
    for server in [&one, &other] {
        let _ = server.stop.send(true);
    }
    store.close().await;
    database.remove().await;
}
