//! A router on loopback for tests: raw HTTP on both sides of it, and its log lines.
//!
//! Nothing here knows HTTP beyond what a test needs to see: bytes go out as written and come back as they are.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use paas_domain::{AppId, DynoId, Generation, InstallId, ProcessType};
use paas_ports::{Attachment, Ingress as _, LogLine, Member, MemberState, Pools as _, Route};
use paas_router::{Limits, Router, RouterClient, RouterOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

/// Long enough for anything that is to happen at all.
pub const LATE: Duration = Duration::from_secs(20);

/// A router in this process, and the client that a server would have of it.
pub struct Rig {
    router: Mutex<Option<Router>>,
    client: Mutex<Option<Arc<RouterClient>>>,
    /// Where HTTP goes.
    pub address: SocketAddr,
    /// How it was started.
    pub options: RouterOptions,
    lines: Arc<Mutex<Vec<(AppId, LogLine)>>>,
    _dir: tempfile::TempDir,
}

/// An app of a [`Rig`].
#[derive(Clone)]
pub struct TestApp {
    /// Its id.
    pub id: AppId,
    /// Its pool of `web`.
    pub pool: Attachment,
    /// Its only host.
    pub host: String,
}

impl TestApp {
    /// Its route: released, without anything special.
    ///
    /// # Panics
    /// When its host is none.
    #[must_use]
    pub fn route(&self, generation: i64) -> Route {
        Route {
            app: self.id.clone(),
            app_name: "example-app".parse().expect("a name"),
            generation: Generation(generation),
            hosts: vec![self.host.parse().expect("a host name")],
            attachment: Some(self.pool.clone()),
            released: true,
            maintenance: false,
            session_affinity: false,
        }
    }
}

impl Rig {
    /// A router with Heroku's limits.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A router with other limits.
    pub async fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let state = dir.path().join("router");
        let mut options = RouterOptions::new(InstallId::random(), listen, state.clone(), state.join("control.sock"));
        options.workers = 2;
        change(&mut options.limits);
        let router = Router::start(&options).expect("the router starts");
        let address = router.addresses()[0];
        options.listen = vec![address];
        let client = RouterClient::connect(&options.control_socket, &options.install).await.expect("connected");
        let lines = Arc::default();
        collect(&client, &lines);
        let client = Mutex::new(Some(Arc::new(client)));
        Self { router: Mutex::new(Some(router)), client, address, options, lines, _dir: dir }
    }

    /// The server's side.
    ///
    /// # Panics
    /// When it was dropped.
    pub fn client(&self) -> Arc<RouterClient> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("a client")
    }

    /// The server goes away.
    pub fn drop_client(&self) {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Another client, as a server that was killed and started again makes it.
    pub async fn another_client(&self) -> RouterClient {
        let client =
            RouterClient::connect(&self.options.control_socket, &self.options.install).await.expect("connected");
        collect(&client, &self.lines);
        client
    }

    /// Ends the router as a crash would, and starts another on the same disk.
    pub fn crash_and_restart(&self) {
        self.take().abandon();
        let router = Router::start(&self.options).expect("the router starts again");
        self.router.lock().unwrap_or_else(PoisonError::into_inner).replace(router);
    }

    /// The router itself, out of the rig.
    ///
    /// # Panics
    /// When it was taken before.
    pub fn take(&self) -> Router {
        self.router.lock().unwrap_or_else(PoisonError::into_inner).take().expect("a router")
    }

    /// An app at `host` with these members, all wanted.
    pub async fn app(&self, host: &str, members: &[Member]) -> TestApp {
        let id = AppId::new();
        let pool = self.client().place(&id, &ProcessType::web()).await.expect("placed");
        let app = TestApp { id, pool, host: host.to_owned() };
        self.set(&app, members).await;
        self.publish(&app, 1, |_| {}).await;
        app
    }

    /// Makes these the members of the app, all wanted.
    pub async fn set(&self, app: &TestApp, members: &[Member]) {
        let wanted = u16::try_from(members.len()).expect("few members").max(1);
        self.client().set(&app.pool, wanted, members).await.expect("set");
    }

    /// Publishes the app's route, changed somehow.
    pub async fn publish(&self, app: &TestApp, generation: i64, change: impl FnOnce(&mut Route)) {
        let mut route = app.route(generation);
        change(&mut route);
        self.client().publish(&route).await.expect("published");
    }

    /// A client's connection.
    pub async fn connect(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).await.expect("connected"))
    }

    /// Sends these bytes on a connection of their own and reads one answer.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> Reply {
        let mut peer = self.connect().await;
        peer.send(bytes).await;
        peer.reply().await
    }

    /// `GET path` of a host.
    pub async fn get(&self, host: &str, path: &str) -> Reply {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
    }

    /// Every log line so far.
    pub fn lines(&self) -> Vec<(AppId, LogLine)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first line that contains `part`, once it is there.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn line(&self, part: &str) -> String {
        let deadline = Instant::now() + LATE;
        loop {
            if let Some((_, line)) = self.lines().into_iter().find(|(_, line)| line.message.contains(part)) {
                return line.message;
            }
            assert!(Instant::now() < deadline, "no line with {part:?} in {:#?}", self.lines());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(router) = self.router.lock().unwrap_or_else(PoisonError::into_inner).take() {
            router.abandon();
        }
    }
}

fn collect(client: &RouterClient, into: &Arc<Mutex<Vec<(AppId, LogLine)>>>) {
    let mut batches = Box::pin(client.lines().expect("not taken"));
    let into = into.clone();
    tokio::spawn(async move {
        while let Some(batch) = batches.next().await {
            let mut lines = into.lock().unwrap_or_else(PoisonError::into_inner);
            lines.extend(batch.lines.into_iter().map(|line| (batch.app.clone(), line)));
        }
    });
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status; 0 when the connection ended without one.
    pub status: u16,
    /// The head as it came.
    pub head: String,
    /// The body, unchunked.
    pub body: Vec<u8>,
    /// Whether the body ended as the head said.
    pub whole: bool,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// A header's value in a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
}

/// One end of a connection, with what was read too far.
pub struct Peer {
    /// The socket.
    pub stream: TcpStream,
    /// Read, not used.
    pub ahead: Vec<u8>,
}

impl Peer {
    /// Around a socket.
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        Self { stream, ahead: Vec::new() }
    }

    /// Sends bytes; an end that is gone is found out by reading.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Reads more; false at the end.
    pub async fn more(&mut self) -> bool {
        let read = timeout(LATE, self.stream.read_buf(&mut self.ahead)).await.expect("something comes, or the end");
        matches!(read, Ok(1..))
    }

    /// The next head, up to and with its empty line; `None` when the connection ends before.
    pub async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Exactly `n` bytes; fewer when the connection ends before.
    pub async fn exactly(&mut self, n: usize) -> Vec<u8> {
        while self.ahead.len() < n {
            if !self.more().await {
                break;
            }
        }
        let n = n.min(self.ahead.len());
        self.ahead.drain(..n).collect()
    }

    /// Everything to the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.ahead)
    }

    /// A line without its end.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).take(end).collect();
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The body behind this head, and whether it was whole. `until_close`: what a missing length means.
    pub async fn body(&mut self, head: &str, until_close: bool) -> (Vec<u8>, bool) {
        if header(head, "transfer-encoding").is_some() {
            let mut body = Vec::new();
            loop {
                let Some(line) = self.line().await else { return (body, false) };
                let Ok(size) = usize::from_str_radix(&line, 16) else { return (body, false) };
                let chunk = self.exactly(size).await;
                let whole = chunk.len() == size;
                body.extend(chunk);
                if !whole || self.line().await.is_none() {
                    return (body, false);
                }
                if size == 0 {
                    return (body, true);
                }
            }
        }
        match header(head, "content-length").map(|n| n.parse::<usize>().expect("a length")) {
            Some(n) => {
                let body = self.exactly(n).await;
                let whole = body.len() == n;
                (body, whole)
            }
            None if until_close => (self.rest().await, true),
            None => (Vec::new(), true),
        }
    }

    /// The next answer that is not interim.
    pub async fn reply(&mut self) -> Reply {
        self.reply_to("GET").await
    }

    /// The next answer that is not interim, to this method.
    pub async fn reply_to(&mut self, method: &str) -> Reply {
        loop {
            let Some(head) = self.head().await else {
                return Reply { status: 0, head: String::new(), body: Vec::new(), whole: false };
            };
            let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let (body, whole) = if bodiless { (Vec::new(), true) } else { self.body(&head, true).await };
            return Reply { status, head, body, whole };
        }
    }

    /// Whether the other side closes (before it sends anything).
    pub async fn closes(&mut self) -> bool {
        self.ahead.is_empty() && !self.more().await
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|w| w == what)
}

/// A dyno whose connections are served by `serve`, as a member that is up.
pub async fn dyno<F, W>(name: &str, serve: F) -> Member
where
    F: Fn(Peer) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(Peer::new(stream)));
        }
    });
    member(name, address)
}

/// A dyno that sends `answer` for each request (whose body it reads first) and keeps the connection.
pub async fn says(name: &str, answer: impl Into<Vec<u8>>) -> Member {
    let answer: Arc<Vec<u8>> = Arc::new(answer.into());
    dyno(name, move |mut peer| {
        let answer = answer.clone();
        async move {
            while let Some(head) = peer.head().await {
                peer.body(&head, false).await;
                peer.send(&*answer).await;
            }
        }
    })
    .await
}

/// A dyno that answers each request with its name, and shows the request's head as it came.
pub async fn shows(name: &str) -> Member {
    let said = name.to_owned();
    dyno(name, move |mut peer| {
        let name = said.clone();
        async move {
            while let Some(head) = peer.head().await {
                let (body, _) = peer.body(&head, false).await;
                let shown = format!("{name}\n{head}{}", String::from_utf8_lossy(&body));
                let length = if head.starts_with("HEAD ") { String::new() } else { shown.clone() };
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{length}", shown.len())).await;
            }
        }
    })
    .await
}

/// A member that is up at an address.
pub fn member(name: &str, address: SocketAddr) -> Member {
    Member {
        dyno: DynoId::new(),
        name: name.parse().expect("a dyno name"),
        address: Some(address),
        state: MemberState::Up,
    }
}

/// A member in another state, without an address.
pub fn absent(name: &str, state: MemberState) -> Member {
    Member { dyno: DynoId::new(), name: name.parse().expect("a dyno name"), address: None, state }
}
