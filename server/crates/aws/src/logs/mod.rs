//! The ports for log lines and outputs on AWS.
//!
//! What an app's dynos say is stored by the `awslogs` driver of their containers, in a stream per task of the
//! foundation's log group; it comes here over the dyno link ([`CloudWatchLogs::said`]) for those who read along, and
//! is not stored twice. What the platform says is stored here, in a stream per app. Nobody's reading ever polls
//! CloudWatch: storage is read once when the first reader of an app comes ([`stored`]), and for lines that the link
//! lost. Where servers share an installation, each shows the others what comes to it while somebody reads there
//! ([`LineExchange`]); the first reader after a while without any has storage read again.
//!
//! Numbers go with time (microseconds). The platform's lines keep theirs over a restart; a dyno's line gets one of
//! the millisecond at which it was stored, so that a reader that resumes over a restart may see lines of a few
//! milliseconds again. So may one that resumes at another server, or after a while without readers: each server
//! gives a line the number of its own time.
//!
//! Outputs are objects ([`outputs`]): they outlive the log group's retention, go when they are removed, and any
//! server can follow them.

mod exchange;
mod outputs;
mod stored;
mod writer;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use paas_domain::{AppId, Clock as _, SystemClock, Timestamp};
use paas_logs::Live;
use paas_ports::{LogLine, LogStore, PortError, Tail, TailQuery, outside};
use tokio::sync::Mutex as AsyncMutex;

use crate::ledger::Ledger;
use crate::{Aws, Call};
use writer::{Kept, Writer};

pub use exchange::{Are, Following, LineExchange};
pub use outputs::ObjectOutputs;

/// When a lost line is looked for in storage: the driver sends what it has every five seconds.
const LOOK_AFTER: [Duration; 3] = [Duration::from_secs(7), Duration::from_secs(15), Duration::from_secs(30)];

/// Up to what age lines are shown to another server that begins to ask, in milliseconds: older ones are in storage by then.
const NEWEST_MS: i64 = 60_000;

/// Up to what age the last lines of a dyno are looked for that may have been linked to another server, in
/// milliseconds: it had a minute to boot, and they are looked for twice as long as the driver takes.
const LAST_MS: i64 = 150_000;

/// How many streams of a removed app are removed at the same time: an app has one for each dyno that it ever had.
const REMOVED_AT_ONCE: usize = 8;

/// Every app's lines: the newest in memory, all of them in CloudWatch Logs.
#[derive(Clone)]
pub struct CloudWatchLogs(Arc<Inner>);

struct Inner {
    aws: Aws,
    ledger: Arc<dyn Ledger>,
    apps: Mutex<Apps>,
    look_after: [Duration; 3],
    /// Since when lines come here.
    since: Timestamp,
    exchange: Option<Arc<dyn LineExchange>>,
}

#[derive(Default)]
struct Apps {
    open: HashMap<AppId, Arc<AppLines>>,
    removed: HashSet<AppId>,
}

struct AppLines {
    live: Arc<Live>,
    /// In which period what is stored was put before what is in memory.
    read_back: AsyncMutex<Option<u64>>,
    writer: Writer,
}

/// Lines of a dyno that did not come over its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// What the dyno is called in the app's log.
    pub process: String,
    /// The container's name: the process type.
    pub container: String,
    /// The task's id or ARN.
    pub task: String,
    /// How many; `None` for whatever of its last lines did not come: its link never told its end.
    pub count: Option<u64>,
    /// When the line before them was read; `None` when they are the first.
    pub after: Option<Timestamp>,
    /// When the line behind them was read; `None` when they are the last.
    pub before: Option<Timestamp>,
}

impl CloudWatchLogs {
    /// Keeps lines in the foundation's log group. The ledger knows which dyno a task was.
    #[must_use]
    pub fn new(aws: Aws, ledger: Arc<dyn Ledger>) -> Self {
        let (since, look_after) = (SystemClock.now(), LOOK_AFTER);
        Self(Arc::new(Inner { aws, ledger, apps: Mutex::default(), look_after, since, exchange: None }))
    }

    /// The same with other times at which lost lines are looked for.
    #[must_use]
    pub fn looking_after(self, look_after: [Duration; 3]) -> Self {
        Self(Arc::new(Inner { look_after, ..self.0.settings() }))
    }

    /// The same for one of the servers that share an installation.
    #[must_use]
    pub fn exchanging(self, exchange: Arc<dyn LineExchange>) -> Self {
        Self(Arc::new(Inner { exchange: Some(exchange), ..self.0.settings() }))
    }

    /// Shows lines that a dyno's container has stored by itself, in their order. Lines of a removed app are dropped.
    pub fn said(&self, app: &AppId, lines: Vec<LogLine>) {
        let Some(lines_of) = self.0.lines(app) else { return };
        let Ok(()) = lines_of.live.append(whole(lines), |tails| {
            self.0.hand_on(app, tails, Are::New);
            Ok::<(), Infallible>(())
        });
    }

    /// Shows lines that came to another server, and are kept by it; none that is here already.
    pub fn heard(&self, app: &AppId, lines: Vec<LogLine>, are: Are) {
        let Some(lines_of) = self.0.lines(app) else { return };
        let lines = self.0.unknown(&lines_of.live, lines, are);
        let Ok(()) = lines_of.live.append(lines, |_| Ok::<(), Infallible>(()));
    }

    /// Shows the newest lines that are here to who hands them on. Nothing else of the app is said meanwhile.
    pub fn newest(&self, app: &AppId, show: impl FnOnce(&[Tail])) {
        let Some(lines) = self.0.lines(app) else { return };
        let since = SystemClock.now().plus_ms(-NEWEST_MS);
        lines.live.look(|tails| {
            let newest: Vec<Tail> = tails.filter(|tail| tail.line.at >= since).cloned().collect();
            show(&newest);
        });
    }

    /// Looks for lost lines in storage, for as long as they may still arrive there; shows those that are found and
    /// says how many are not (L10). Returns at once.
    pub fn missed(&self, app: &AppId, missed: Missed) {
        let (this, app) = (self.clone(), app.clone());
        tokio::spawn(outside::task(async move { this.recover(&app, &missed).await }));
    }

    /// What [`Self::missed`] does, to its end.
    pub async fn recover(&self, app: &AppId, missed: &Missed) {
        let mut found = Vec::new();
        for wait in self.0.look_after {
            tokio::time::sleep(wait).await;
            let looked = match missed.count {
                Some(_) => stored::missed(&self.0.aws, app, missed).await,
                None => stored::last_of_task(&self.0.aws, app, missed).await,
            };
            match looked {
                Ok(lines) => found = lines,
                Err(error) => tracing::warn!(%app, %error, "lost lines cannot be looked for"),
            }
            if missed.count.is_some_and(|count| found.len() as u64 >= count) {
                break;
            }
        }
        let Some(lines_of) = self.0.lines(app) else { return };
        let mut found = whole(found);
        let lost = missed.count.map_or(0, |count| count.saturating_sub(found.len() as u64));
        if lost > 0 {
            let now = SystemClock.now();
            found.push(LogLine::drain_overflow(lost, missed.after.unwrap_or(now), now));
        }
        let are = if missed.count.is_some() { Are::Lost } else { Are::Found };
        if self.0.exchange.is_some() && are == Are::Found {
            // Of a dyno that was linked to another server nothing need be here.
            let since = SystemClock.now().plus_ms(-LAST_MS);
            found.retain(|line| line.at >= since);
        }
        if let Some(exchange) = &self.0.exchange {
            // Each server knows for itself what it has.
            let tails: Vec<Tail> = found.iter().map(|line| Tail { id: 0, line: line.clone() }).collect();
            lines_of.live.look(|_| exchange.hand_on(app, &tails, are));
        }
        let shown = self.0.unknown(&lines_of.live, found, are);
        let Ok(()) = lines_of.live.append(shown, |_| Ok::<(), Infallible>(()));
    }
}

impl Inner {
    fn apps(&self) -> MutexGuard<'_, Apps> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same without any lines.
    fn settings(&self) -> Self {
        Self {
            aws: self.aws.clone(),
            ledger: Arc::clone(&self.ledger),
            apps: Mutex::default(),
            look_after: self.look_after,
            since: self.since,
            exchange: self.exchange.clone(),
        }
    }

    fn hand_on(&self, app: &AppId, tails: &[Tail], are: Are) {
        if let Some(exchange) = &self.exchange {
            exchange.hand_on(app, tails, are);
        }
    }

    /// Those of the lines that are not here.
    fn unknown(&self, live: &Live, lines: Vec<LogLine>, are: Are) -> Vec<LogLine> {
        match are {
            Are::New => lines,
            // Where no other server can have shown them, they are not here.
            Are::Lost if self.exchange.is_none() => lines,
            Are::Lost => live.look(|here| stored::unlike(lines, here)),
            Are::Found => {
                let here: Vec<Tail> = live.look(|here| here.cloned().collect());
                stored::unknown(lines, &here)
            }
        }
    }

    /// Puts what is stored before what is in memory.
    async fn read_back(&self, app: &AppId, live: &Live) -> Result<(), PortError> {
        // Before storage is read: what is not in it by then is here.
        let since = SystemClock.now().plus_ms(-NEWEST_MS);
        let mut stored = stored::newest(&self.aws, self.ledger.as_ref(), app).await?;
        if self.exchange.is_some() {
            // Of older lines some may have come to another server only.
            live.rebuild(|here| stored::behind(stored, stored::newer(here, since)));
        } else {
            // What dynos said since came here, or was looked for.
            stored.retain(|line| line.is_before(self.since));
            live.rebuild(|here| stored::behind(stored, here));
        }
        Ok(())
    }

    /// Takes no more lines of a removed app, and ends its readers; answers what there was of it.
    fn forget(&self, app: &AppId) -> Option<Arc<AppLines>> {
        let mut apps = self.apps();
        apps.removed.insert(app.clone());
        let lines = apps.open.remove(app)?;
        drop(apps);
        lines.live.remove();
        Some(lines)
    }

    async fn remove_stream(&self, app: &AppId, name: String) -> Result<(), PortError> {
        let request = self.aws.logs.delete_log_stream().log_group_name(&self.aws.foundation.log_group);
        let request = request.log_stream_name(name).send();
        match self.aws.call(Call::DeleteLogStream, Some(app), "removing log lines", request).await {
            Ok(_) => Ok(()),
            Err(error) if error.is(&["ResourceNotFoundException"]) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// `None` when the app was removed.
    fn lines(&self, app: &AppId) -> Option<Arc<AppLines>> {
        let mut apps = self.apps();
        if apps.removed.contains(app) {
            return None;
        }
        let new = || {
            Arc::new(AppLines {
                live: Arc::new(Live::new([])),
                read_back: AsyncMutex::default(),
                writer: Writer::new(app),
            })
        };
        Some(Arc::clone(apps.open.entry(app.clone()).or_insert_with(new)))
    }
}

/// Lines as they are kept: none longer than Logplex's, none with a line end in it.
fn whole(lines: Vec<LogLine>) -> Vec<LogLine> {
    let mut whole = Vec::with_capacity(lines.len());
    lines.into_iter().for_each(|line| line.split_into(&mut whole));
    whole
}

#[async_trait]
impl LogStore for CloudWatchLogs {
    async fn append(&self, app: &AppId, lines: Vec<LogLine>) -> Result<(), PortError> {
        outside::check("LogStore::append");
        let Some(lines_of) = self.0.lines(app) else { return Ok(()) };
        let mut ticket = None;
        lines_of.live.append(whole(lines), |tails| {
            ticket = Some(lines_of.writer.queue(tails)?);
            self.0.hand_on(app, tails, Are::New);
            Ok::<(), PortError>(())
        })?;
        let Some(ticket) = ticket else { return Ok(()) };
        if lines_of.writer.store(&self.0.aws, self.0.ledger.as_ref(), app, ticket).await? == Kept::Never {
            self.0.forget(app);
        }
        Ok(())
    }

    async fn tail(&self, app: &AppId, query: TailQuery) -> Result<BoxStream<'static, Tail>, PortError> {
        outside::check("LogStore::tail");
        let Some(lines) = self.0.lines(app) else { return Ok(stream::empty().boxed()) };
        let following = self.0.exchange.as_ref().map(|exchange| (exchange, exchange.follow(app)));
        let period = following.as_ref().map_or(0, |(_, following)| following.period);
        let mut read_back = lines.read_back.lock().await;
        if *read_back != Some(period) {
            if let Some((exchange, _)) = &following {
                tokio::time::sleep(exchange.moment()).await;
            }
            self.0.read_back(app, &lines.live).await?;
            *read_back = Some(period);
        }
        drop(read_back);
        let tails = Arc::clone(&lines.live).read(query);
        let Some((_, following)) = following else { return Ok(tails) };
        // The stream's for as long as somebody reads.
        let kept = following.kept;
        Ok(tails.inspect(move |_| _ = Arc::strong_count(&kept)).boxed())
    }

    fn look_for_rest(&self, app: &AppId, process: &str, container: &str, task: &str) {
        let missed = Missed {
            process: process.to_owned(),
            container: container.to_owned(),
            task: task.to_owned(),
            count: None,
            after: None,
            before: None,
        };
        self.missed(app, missed);
    }

    async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("LogStore::remove");
        if let Some(lines) = self.0.forget(app) {
            lines.writer.end().await;
        }
        let mut removing = Vec::new();
        for stream in stored::streams(&self.0.aws, app).await? {
            removing.push(self.0.remove_stream(app, stream.name));
        }
        stream::iter(removing).buffer_unordered(REMOVED_AT_ONCE).try_collect().await
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("LogStore::apps");
        stored::apps(&self.0.aws).await
    }
}
