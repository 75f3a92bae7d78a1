//! Log lines between the servers of one installation. A dyno is linked to one server; who reads its app's lines may be
//! at another one. A server at which somebody reads asks the others for the app's lines, again and again while that is
//! so; each of them shows its newest at once, and from then on whatever comes to it, over the database's own channel
//! ([`Channel::Lines`]), which keeps nothing. Each server numbers what it hands on of an app, so that lines which did
//! not arrive are counted and said.

mod message;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use paas_aws::logs::CloudWatchLogs;
pub use paas_aws::logs::{Are, Following, LineExchange};
use paas_domain::{AppId, Clock as _, SystemClock, Timestamp};
use paas_ports::{LogLine, Tail};
use paas_store::{Channel, Store, StoreError};
use tokio::sync::{Notify, watch};

use message::{Message, Pieces, What};

/// How often a server says that it still wants an app's lines.
const ASK: Duration = Duration::from_secs(10);
/// For how long that holds.
const ASKED_FOR: Duration = Duration::from_secs(30);
/// How long lines are asked for when nobody reads any more: whoever comes within this time misses none.
const KEPT_ON: Duration = Duration::from_secs(90);
/// How long the first reader waits for the other servers' newest lines.
const MOMENT: Duration = Duration::from_millis(300);
/// For how long lines are gathered before they are told.
const GATHER: Duration = Duration::from_millis(20);
/// How many lines that wait are told together.
const TOGETHER: usize = 500;
/// How many bytes of lines may wait while the database does not take them.
const WAITING_BYTES: usize = 4 << 20;
/// How long to wait before connecting again.
const AGAIN: Duration = Duration::from_secs(1);

/// Where an app's lines are.
pub trait Lines: Send + Sync + 'static {
    /// Lines that came to another server, and what is known of them.
    fn heard(&self, app: &AppId, lines: Vec<LogLine>, are: Are);
    /// Shows the newest lines. Nothing else of the app is said meanwhile.
    fn newest(&self, app: &AppId, show: &mut dyn FnMut(&[Tail]));
}

impl Lines for CloudWatchLogs {
    fn heard(&self, app: &AppId, lines: Vec<LogLine>, are: Are) {
        Self::heard(self, app, lines, are);
    }

    fn newest(&self, app: &AppId, show: &mut dyn FnMut(&[Tail])) {
        Self::newest(self, app, show);
    }
}

/// This server's end.
pub struct Exchange {
    /// This server's id.
    me: String,
    state: Mutex<State>,
    /// Something waits to be told.
    waiting: Notify,
    /// How many servers there are.
    servers: AtomicUsize,
}

#[derive(Default)]
struct State {
    read_here: HashMap<AppId, ReadHere>,
    /// By app, as it is asked with every line; and by server.
    read_there: HashMap<AppId, HashMap<String, ReadThere>>,
    /// How many lines of an app were ever handed on.
    handed_on: HashMap<AppId, u64>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    heard: HashMap<(AppId, String), Heard>,
    /// Since when the other servers are heard without a break.
    connected: u64,
    /// The last moment that was given.
    moment: u64,
}

impl State {
    /// The time in milliseconds, as a number that was not given before.
    fn moment(&mut self) -> u64 {
        let now = u64::try_from(SystemClock.now().0).unwrap_or(0);
        self.moment = now.max(self.moment + 1);
        self.moment
    }
}

/// An app that somebody reads here.
struct ReadHere {
    following: Following,
    until: Instant,
}

/// An app that somebody reads at another server.
struct ReadThere {
    /// Since when it hears all that is handed on.
    since: u64,
    until: Instant,
}

/// How far another server's lines are here.
struct Heard {
    next: u64,
    at: Timestamp,
}

/// What is to be told next.
enum Waiting {
    Want { app: AppId, since: u64 },
    Lines { app: AppId, what: What, tails: Vec<Tail> },
}

fn bytes_of(tails: &[Tail]) -> usize {
    tails.iter().map(|tail| tail.line.message.len() + 100).sum()
}

impl Exchange {
    /// The end of the server `me`.
    #[must_use]
    pub fn new(me: String) -> Self {
        Self { me, state: Mutex::default(), waiting: Notify::new(), servers: AtomicUsize::new(1) }
    }

    /// How many servers there are: one alone waits for nobody.
    pub fn share_with(&self, servers: usize) {
        self.servers.store(servers, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells and hears until `stop` says so.
    pub async fn run(self: Arc<Self>, store: Store, lines: Arc<dyn Lines>, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.tell(&store) => {}
            () = self.hear(&store, lines.as_ref()) => {}
            () = self.ask_on() => {}
            _ = stop.changed() => {}
        }
    }

    async fn tell(&self, store: &Store) {
        loop {
            self.waiting.notified().await;
            tokio::time::sleep(GATHER).await;
            while let Some(waiting) = self.next_waiting() {
                let begins = match &waiting {
                    Waiting::Lines { app, what: What::Newest { to, .. }, .. } => Some((app.clone(), to.clone())),
                    _ => None,
                };
                if let Err(error) = self.tell_one(store, waiting).await {
                    tracing::warn!(%error, "who reads log lines at another server misses some");
                    // When it asks the next time, it begins anew.
                    begins.and_then(|(app, to)| self.state().read_there.get_mut(&app)?.remove(&to));
                }
            }
        }
    }

    fn next_waiting(&self) -> Option<Waiting> {
        let mut state = self.state();
        let next = state.waiting.pop_front();
        if let Some(Waiting::Lines { tails, .. }) = &next {
            state.waiting_bytes -= bytes_of(tails);
        }
        next
    }

    async fn tell_one(&self, store: &Store, waiting: Waiting) -> Result<(), StoreError> {
        let messages = match waiting {
            Waiting::Want { app, since } => vec![Message::Want { from: self.me.clone(), app, since }],
            Waiting::Lines { app, what, tails } => message::lines(&self.me, &app, &what, &tails),
        };
        for message in messages {
            store.tell(Channel::Lines, &message.to_text()).await?;
        }
        Ok(())
    }

    async fn hear(&self, store: &Store, lines: &dyn Lines) {
        let mut pieces = Pieces::default();
        loop {
            let heard = async {
                let Some(mut heard) = store.hear(Channel::Lines).await? else { return Ok(()) };
                self.ask_anew();
                loop {
                    match tokio::time::timeout(ASKED_FOR, heard.next()).await {
                        Ok(next) => match next? {
                            Some(text) => self.take(&text, &mut pieces, lines),
                            None => self.ask_anew(),
                        },
                        // Not even this server's own words come back: the connection is none any more.
                        Err(_) if !self.state().read_here.is_empty() => return Ok(()),
                        Err(_) => {}
                    }
                }
            };
            let ended: Result<(), StoreError> = heard.await;
            if let Err(error) = ended {
                tracing::warn!(%error, "other servers' log lines are not heard; listening again");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Asks as who did not hear what was told meanwhile: the newest lines are shown again.
    fn ask_anew(&self) {
        let mut state = self.state();
        state.connected = state.moment();
        drop(state);
        self.ask_again();
    }

    /// Asks for every app that is read here, and for no other one any more.
    fn ask_again(&self) {
        let mut state = self.state();
        let now = Instant::now();
        state.read_here.retain(|_, read| {
            if Arc::strong_count(&read.following.kept) > 1 {
                read.until = now + KEPT_ON;
            }
            read.until > now
        });
        state.read_there.retain(|_, servers| {
            servers.retain(|_, read| read.until > now);
            !servers.is_empty()
        });
        let State { read_here, read_there, handed_on, heard, waiting, connected, .. } = &mut *state;
        heard.retain(|(app, _), _| read_here.contains_key(app));
        handed_on.retain(|app, _| read_there.contains_key(app));
        waiting.retain(|waiting| !matches!(waiting, Waiting::Want { .. }));
        for (app, read) in read_here.iter() {
            // Before lines, of which there may be many: who is not asked stops telling.
            waiting.push_front(Waiting::Want { app: app.clone(), since: read.following.period.max(*connected) });
        }
        drop(state);
        self.waiting.notify_one();
    }

    async fn ask_on(&self) {
        loop {
            tokio::time::sleep(ASK).await;
            self.ask_again();
        }
    }

    fn take(&self, text: &str, pieces: &mut Pieces, lines: &dyn Lines) {
        match Message::from_text(text) {
            Some(Message::Want { from, app, since }) if from != self.me => self.wanted(from, app, since, lines),
            Some(Message::Lines { from, app, what, piece, is_first, is_last }) if from != self.me => {
                let Some(tails) = pieces.add(&from, &piece, is_first, is_last) else { return };
                let are = if let What::From(_, are) = what { are } else { Are::Found };
                if let Some(heard) = self.heard(&app, from, &what, tails) {
                    lines.heard(&app, heard, are);
                }
            }
            Some(_) => {}
            None => tracing::debug!("another server's words are not understood"),
        }
    }

    /// Another server wants an app's lines. One that begins to is shown the newest.
    fn wanted(&self, from: String, app: AppId, since: u64, lines: &dyn Lines) {
        let until = Instant::now() + ASKED_FOR;
        let known = |state: &mut State| {
            let known = state.read_there.get_mut(&app)?.get_mut(&from).filter(|known| known.since == since)?;
            known.until = until;
            Some(())
        };
        if known(&mut self.state()).is_some() {
            return;
        }
        // While nothing is said: what is said next is handed on behind these.
        lines.newest(&app, &mut |newest| {
            let mut state = self.state();
            state.read_there.entry(app.clone()).or_default().insert(from.clone(), ReadThere { since, until });
            let next = *state.handed_on.entry(app.clone()).or_default();
            // The newest of the newest, where all are too many.
            let mut bytes = state.waiting_bytes;
            let fits = |tail: &&Tail| {
                bytes += bytes_of(std::slice::from_ref(*tail));
                bytes <= WAITING_BYTES
            };
            let fitting = newest.iter().rev().take_while(fits).count();
            let tails = newest[newest.len() - fitting..].to_vec();
            state.waiting_bytes += bytes_of(&tails);
            let what = What::Newest { to: from.clone(), next };
            state.waiting.push_back(Waiting::Lines { app: app.clone(), what, tails });
        });
        self.waiting.notify_one();
    }

    /// What there is to show of another server's lines, if they are asked for.
    fn heard(&self, app: &AppId, from: String, what: &What, lines: Vec<LogLine>) -> Option<Vec<LogLine>> {
        let mut state = self.state();
        if !state.read_here.contains_key(app) {
            return None;
        }
        let (first, next) = match what {
            What::From(first, _) => (Some(*first), first + lines.len() as u64),
            What::Newest { to, next } if *to == self.me => (None, *next),
            What::Newest { .. } => return None,
        };
        let now = SystemClock.now();
        let before = state.heard.insert((app.clone(), from), Heard { next, at: now });
        let mut shown = Vec::with_capacity(lines.len() + 1);
        if let (Some(before), Some(first)) = (before, first)
            && before.next < first
        {
            shown.push(LogLine::drain_overflow(first - before.next, before.at, now));
        }
        shown.extend(lines);
        Some(shown)
    }
}

impl LineExchange for Exchange {
    fn hand_on(&self, app: &AppId, lines: &[Tail], are: Are) {
        let mut state = self.state();
        if !state.read_there.contains_key(app) {
            return;
        }
        let handed_on = state.handed_on.entry(app.clone()).or_default();
        let first = *handed_on;
        *handed_on += lines.len() as u64;
        // Those that do not fit are missed there, and counted.
        let bytes = bytes_of(lines);
        if state.waiting_bytes + bytes <= WAITING_BYTES {
            state.waiting_bytes += bytes;
            match state.waiting.back_mut() {
                Some(Waiting::Lines { app: last, what: What::From(begin, last_are), tails })
                    if (&*last, *last_are, *begin + tails.len() as u64) == (app, are, first)
                        && tails.len() < TOGETHER =>
                {
                    tails.extend_from_slice(lines);
                }
                _ => {
                    let (app, tails) = (app.clone(), lines.to_vec());
                    state.waiting.push_back(Waiting::Lines { app, what: What::From(first, are), tails });
                }
            }
            drop(state);
            self.waiting.notify_one();
        }
    }

    fn follow(&self, app: &AppId) -> Following {
        let mut state = self.state();
        let now = Instant::now();
        let until = now + KEPT_ON;
        if let Some(read) = state.read_here.get_mut(app) {
            read.until = until;
            return read.following.clone();
        }
        let period = state.moment();
        let following = Following { period, kept: Arc::new(()) };
        state.read_here.insert(app.clone(), ReadHere { following: following.clone(), until });
        state.waiting.push_front(Waiting::Want { app: app.clone(), since: period });
        drop(state);
        self.waiting.notify_one();
        following
    }

    fn moment(&self) -> Duration {
        if self.servers.load(Ordering::Relaxed) > 1 { MOMENT } else { Duration::ZERO }
    }
}
