//! The server's side of the control socket: [`RouterClient`], which is the local platform's `Ingress` and `Pools`.
//!
//! One task owns the connection and makes it anew when it breaks. Nothing is sent again blindly: the router's
//! table is its own, and a caller that heard nothing asks again, as with every port.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::Stream;
use paas_domain::{AppId, DynoId, HostName, InstallId, ProcessType, Timestamp};
use paas_ports::{Attachment, Ingress, LogLine, LogSource, Member, Pools, PortError, Route, outside};
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::ensure::Launcher;
use crate::frame::{self, Answer, Ask, Hello, LineFrame, PROTOCOL, Refused, Request, Say};

/// How long a call waits for its answer, a new connection or a new router included.
const WITHIN: Duration = Duration::from_secs(10);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);

/// Router log lines of one app, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineBatch {
    /// Whose requests they were.
    pub app: AppId,
    /// The lines, `heroku[router]`; a line of `heroku[logplex]` says how many were lost (L12).
    pub lines: Vec<LogLine>,
}

/// What the router says of its own accord.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// A dyno that left its pool serves nothing any more.
    Drained {
        /// The pool it left.
        pool: Attachment,
        /// Which dyno.
        dyno: DynoId,
    },
    /// Another router process answers than before: its table is as old as its disk, so every app is to be
    /// reconciled.
    Restarted,
}

/// A connection to the router that heals itself.
pub struct RouterClient {
    asks: mpsc::Sender<Pending>,
    hello: watch::Receiver<Hello>,
    events: broadcast::Sender<RouterEvent>,
    lines: Mutex<Option<mpsc::Receiver<LineBatch>>>,
    link: tokio::task::JoinHandle<()>,
}

struct Pending {
    ask: Ask,
    answer: oneshot::Sender<Result<Answer, Refused>>,
}

impl RouterClient {
    /// Connects to the router of this installation.
    ///
    /// # Errors
    /// When none answers on `socket`, or one of another installation or another protocol does.
    pub async fn connect(socket: &Path, install: &InstallId) -> Result<Self, PortError> {
        let (stream, hello) = greet(socket).await.map_err(|e| PortError::transient("connecting to the router", e))?;
        check(&hello, install)?;
        Ok(Self::new(socket.to_owned(), stream, hello, None))
    }

    pub(crate) fn new(
        socket: PathBuf,
        stream: BufReader<UnixStream>,
        hello: Hello,
        launcher: Option<Launcher>,
    ) -> Self {
        let (asks, pending) = mpsc::channel(1024);
        let (lines, line_batches) = mpsc::channel(256);
        let (took, taken) = mpsc::channel(1);
        let (events, _) = broadcast::channel(1024);
        let (hello_sender, hello_receiver) = watch::channel(hello);
        let (frames, frame_receiver) = mpsc::channel(1);
        tokio::spawn(deliver(frame_receiver, lines, took));
        let link = Link {
            socket,
            launcher,
            pending,
            taken,
            frames,
            events: events.clone(),
            hello: hello_sender,
            number: 0,
            open: HashMap::new(),
        };
        let link = tokio::spawn(link.run(stream));
        Self { asks, hello: hello_receiver, events, lines: Mutex::new(Some(line_batches)), link }
    }

    /// The router's log lines, app by app. They wait in the router, bounded, while nobody reads here.
    /// `None` when it was taken before.
    pub fn lines(&self) -> Option<impl Stream<Item = LineBatch> + Send + use<>> {
        let taken = self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(ReceiverStream::new)
    }

    /// What the router says from now on. A reader that is more than 1,024 events behind loses the oldest.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<RouterEvent> {
        self.events.subscribe()
    }

    /// Where the router listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.hello.borrow().listen.clone()
    }

    /// The process that answers.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.hello.borrow().pid
    }

    /// Ends the router: it takes nothing new and lets requests go on for as long as `grace`. Answers when it has
    /// begun to stop; it is gone when its socket is.
    ///
    /// # Errors
    /// Transient, when the router does not answer.
    pub async fn shut_down(&self, grace: Duration) -> Result<(), PortError> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.ask("stopping the router", Ask::Shutdown { grace_ms }).await.map(drop)
    }

    async fn ask(&self, doing: &'static str, ask: Ask) -> Result<Answer, PortError> {
        let (answer, answered) = oneshot::channel();
        let silent = || PortError::transient(doing, "the router does not answer");
        let ask = async {
            self.asks.send(Pending { ask, answer }).await.map_err(|_| silent())?;
            answered.await.map_err(|_| PortError::transient(doing, "the router went away"))
        };
        let result = tokio::time::timeout(WITHIN, ask).await.map_err(|_| silent())??;
        result.map_err(Into::into)
    }
}

impl Drop for RouterClient {
    fn drop(&mut self) {
        self.link.abort();
    }
}

#[async_trait]
impl Ingress for RouterClient {
    async fn place(&self, app: &AppId, process_type: &ProcessType) -> Result<Attachment, PortError> {
        outside::check("Ingress::place");
        let ask = Ask::Place { app: app.clone(), process_type: process_type.clone() };
        match self.ask("placing a pool", ask).await? {
            Answer::Pool(pool) => Ok(pool),
            _ => Err(misunderstood("placing a pool")),
        }
    }

    /// Any host name is one to the router, and it takes any number of them.
    async fn check_hosts(&self, _: &AppId, _: &[HostName]) -> Result<(), PortError> {
        outside::check("Ingress::check_hosts");
        Ok(())
    }

    async fn publish(&self, route: &Route) -> Result<(), PortError> {
        outside::check("Ingress::publish");
        self.ask("publishing a route", Ask::Publish { route: route.clone() }).await.map(drop)
    }

    async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Ingress::remove");
        self.ask("removing a route", Ask::Remove { app: app.clone() }).await.map(drop)
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Ingress::apps");
        match self.ask("listing routes", Ask::Apps).await? {
            Answer::Apps(apps) => Ok(apps),
            _ => Err(misunderstood("listing routes")),
        }
    }
}

#[async_trait]
impl Pools for RouterClient {
    async fn set(&self, pool: &Attachment, wanted: u16, members: &[Member]) -> Result<(), PortError> {
        outside::check("Pools::set");
        let ask = Ask::SetPool { pool: pool.clone(), wanted, members: members.to_vec() };
        self.ask("setting a pool", ask).await.map(drop)
    }

    async fn in_flight(&self, pool: &Attachment, dyno: &DynoId) -> Result<u32, PortError> {
        outside::check("Pools::in_flight");
        match self.ask("counting requests", Ask::InFlight { pool: pool.clone(), dyno: dyno.clone() }).await? {
            Answer::InFlight(count) => Ok(count),
            _ => Err(misunderstood("counting requests")),
        }
    }
}

fn misunderstood(doing: &str) -> PortError {
    PortError::permanent(doing, "the router gave an answer of another kind")
}

/// Connects, and reads who answers.
pub(crate) async fn greet(socket: &Path) -> io::Result<(BufReader<UnixStream>, Hello)> {
    let meet = async {
        let mut stream = BufReader::new(UnixStream::connect(socket).await?);
        match frame::read::<Say>(&mut stream).await? {
            Some(Say::Hello(hello)) => Ok((stream, hello)),
            _ => Err(io::Error::other("what answers is no router")),
        }
    };
    tokio::time::timeout(Duration::from_secs(2), meet).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether this is a router that we may talk to.
pub(crate) fn check(hello: &Hello, install: &InstallId) -> Result<(), PortError> {
    let doing = "adopting the router";
    if hello.install != *install {
        return Err(PortError::permanent(doing, format!("it belongs to installation {}", hello.install)));
    }
    if hello.protocol != PROTOCOL {
        return Err(PortError::permanent(doing, format!("it speaks protocol {}, not {PROTOCOL}", hello.protocol)));
    }
    Ok(())
}

/// The task that owns the connection.
struct Link {
    socket: PathBuf,
    launcher: Option<Launcher>,
    pending: mpsc::Receiver<Pending>,
    /// Batches that were delivered.
    taken: mpsc::Receiver<u64>,
    /// To the task that delivers lines.
    frames: mpsc::Sender<LineFrame>,
    events: broadcast::Sender<RouterEvent>,
    hello: watch::Sender<Hello>,
    number: u64,
    open: HashMap<u64, oneshot::Sender<Result<Answer, Refused>>>,
}

impl Link {
    async fn run(mut self, mut stream: BufReader<UnixStream>) {
        loop {
            match self.talk(stream).await {
                // The client was dropped.
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "the connection to the router broke"),
            }
            // Whoever waits for an answer asks again: the router may or may not have done it.
            self.open.clear();
            stream = self.reconnect().await;
        }
    }

    async fn reconnect(&mut self) -> BufReader<UnixStream> {
        loop {
            if let Ok((stream, hello)) = greet(&self.socket).await
                && check(&hello, &self.hello.borrow().install).is_ok()
            {
                let restarted = hello.boot != self.hello.borrow().boot;
                self.hello.send_replace(hello);
                if restarted {
                    let _ = self.events.send(RouterEvent::Restarted);
                }
                return stream;
            }
            if let Some(launcher) = &mut self.launcher
                && let Err(error) = launcher.start_if_dead()
            {
                tracing::error!(%error, "starting the router again");
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn talk(&mut self, stream: BufReader<UnixStream>) -> io::Result<()> {
        let (read, mut write) = tokio::io::split(stream);
        // Frames are read by a task of their own, since half a frame cannot be given back.
        let (say_sender, mut says) = mpsc::channel(64);
        let reader = tokio::spawn(read_says(read, say_sender));
        let _abort = AbortOnDrop(reader);
        self.number += 1;
        frame::write(&mut write, &Request { number: self.number, ask: Ask::Subscribe }).await?;
        loop {
            tokio::select! {
                say = says.recv() => match say {
                    Some(say) => self.heard(say?),
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
                batch = self.taken.recv() => {
                    let Some(batch) = batch else { return Ok(()) };
                    self.number += 1;
                    let request = Request { number: self.number, ask: Ask::TookLines { batch } };
                    frame::write(&mut write, &request).await?;
                }
                pending = self.pending.recv() => {
                    let Some(Pending { ask, answer }) = pending else { return Ok(()) };
                    // Whoever asked may have given up while there was no connection.
                    if !answer.is_closed() {
                        self.number += 1;
                        self.open.insert(self.number, answer);
                        frame::write(&mut write, &Request { number: self.number, ask }).await?;
                    }
                }
            }
        }
    }

    fn heard(&mut self, say: Say) {
        match say {
            Say::Hello(_) => {}
            Say::Answer { number, result } => {
                if let Some(answer) = self.open.remove(&number) {
                    let _ = answer.send(result);
                }
            }
            // One batch is under way at a time, so there is room; after a reconnect the router sends it again,
            // and what is being delivered already need not be.
            Say::Lines(lines) => drop(self.frames.try_send(lines)),
            Say::Drained { pool, dyno } => drop(self.events.send(RouterEvent::Drained { pool, dyno })),
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn read_says(mut read: tokio::io::ReadHalf<BufReader<UnixStream>>, says: mpsc::Sender<io::Result<Say>>) {
    loop {
        let say = match frame::read(&mut read).await {
            Ok(Some(say)) => Ok(say),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let last = say.is_err();
        if says.send(say).await.is_err() || last {
            return;
        }
    }
}

/// Hands batches of lines to whoever reads them, and says so when they are taken.
async fn deliver(mut frames: mpsc::Receiver<LineFrame>, lines: mpsc::Sender<LineBatch>, took: mpsc::Sender<u64>) {
    while let Some(frame) = frames.recv().await {
        let batch = frame.batch;
        for group in by_app(frame) {
            if lines.send(group).await.is_err() {
                return;
            }
        }
        if took.send(batch).await.is_err() {
            return;
        }
    }
}

/// The lines of a frame, app by app, what was lost at the end.
fn by_app(frame: LineFrame) -> Vec<LineBatch> {
    let mut groups: Vec<LineBatch> = Vec::new();
    let mut places: HashMap<AppId, usize> = HashMap::new();
    let mut add = |app: AppId, line: LogLine| {
        let place = *places.entry(app.clone()).or_insert_with(|| {
            groups.push(LineBatch { app, lines: Vec::new() });
            groups.len() - 1
        });
        groups[place].lines.push(line);
    };
    for (app, at_ms, message) in frame.lines {
        let line = LogLine { at: Timestamp(at_ms), source: LogSource::Heroku, process: "router".to_owned(), message };
        add(app, line);
    }
    for (app, count, since_ms) in frame.lost {
        let since = Timestamp(since_ms).to_logplex();
        let message = format!("Error L12 (Local buffer overflow): {count} messages dropped since {since}.");
        let at = Timestamp(since_ms);
        add(app, LogLine { at, source: LogSource::Heroku, process: "logplex".to_owned(), message });
    }
    groups
}
