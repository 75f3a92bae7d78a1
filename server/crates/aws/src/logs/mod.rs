//! The ports for log lines and outputs on AWS.
//!
//! What an app's dynos say is stored by the `awslogs` driver of their containers, in a stream per task of the
//! foundation's log group; it comes here over the dyno link ([`CloudWatchLogs::said`]) for those who read along, and
//! is not stored twice. What the platform says is stored here, in a stream per app. Nobody's reading ever polls
//! CloudWatch: storage is read once when the first reader of an app comes ([`stored`]), and for lines that the link
//! lost.
//!
//! Numbers go with time (microseconds). The platform's lines keep theirs over a restart; a dyno's line gets one of
//! the millisecond at which it was stored, so that a reader that resumes over a restart may see lines of a few
//! milliseconds again.
//!
//! Outputs are objects ([`outputs`]): they outlive the log group's retention, go when they are removed, and any
//! server can follow them.

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
use paas_ports::{LogLine, LogSource, LogStore, PortError, Tail, TailQuery, outside};
use tokio::sync::OnceCell;

use crate::ledger::Ledger;
use crate::{Aws, Call};
use writer::{Kept, Writer};

pub use outputs::ObjectOutputs;

/// When a lost line is looked for in storage: the driver sends what it has every five seconds.
const LOOK_AFTER: [Duration; 3] = [Duration::from_secs(7), Duration::from_secs(15), Duration::from_secs(30)];

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
}

#[derive(Default)]
struct Apps {
    open: HashMap<AppId, Arc<AppLines>>,
    removed: HashSet<AppId>,
}

struct AppLines {
    live: Arc<Live>,
    /// Set once what is stored was put before what is in memory.
    read_back: OnceCell<()>,
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
        let since = SystemClock.now();
        Self(Arc::new(Inner { aws, ledger, apps: Mutex::default(), look_after: LOOK_AFTER, since }))
    }

    /// The same with other times at which lost lines are looked for.
    #[must_use]
    pub fn looking_after(self, look_after: [Duration; 3]) -> Self {
        let Inner { aws, ledger, since, .. } = &*self.0;
        let (aws, ledger) = (aws.clone(), Arc::clone(ledger));
        Self(Arc::new(Inner { aws, ledger, apps: Mutex::default(), look_after, since: *since }))
    }

    /// Shows lines that a dyno's container has stored by itself, in their order. Lines of a removed app are dropped.
    pub fn said(&self, app: &AppId, lines: Vec<LogLine>) {
        let Some(app) = self.0.lines(app) else { return };
        let Ok(()) = app.live.append(whole(lines), |_| Ok::<(), Infallible>(()));
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
        if missed.count.is_none()
            && let Some(lines) = self.0.lines(app)
        {
            // Some of them, or all, may have come over the link.
            let mut said = lines.live.look(|tails| stored::Said::of(tails));
            found = whole(found);
            found.retain(|line| !said.take(line));
        }
        let lost = missed.count.map_or(0, |count| count.saturating_sub(found.len() as u64));
        if lost > 0 {
            let now = SystemClock.now();
            let since = missed.after.unwrap_or(now).to_logplex();
            let message = format!("Error L10 (output buffer overflow) -> {lost} messages dropped since {since}.");
            found.push(LogLine { at: now, source: LogSource::Heroku, process: "logplex".to_owned(), message });
        }
        self.said(app, found);
    }
}

impl Inner {
    fn apps(&self) -> MutexGuard<'_, Apps> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what is stored before what is in memory.
    async fn read_back(&self, app: &AppId, live: &Live) -> Result<(), PortError> {
        let mut stored = stored::newest(&self.aws, self.ledger.as_ref(), app).await?;
        // What dynos said since came here, or was looked for.
        stored.retain(|line| line.is_before(self.since));
        live.put_before(|here| stored::before(stored, here));
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
            Arc::new(AppLines { live: Arc::new(Live::new([])), read_back: OnceCell::new(), writer: Writer::new(app) })
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
        lines_of.live.append(whole(lines), |tails| lines_of.writer.queue(tails).map(|queued| ticket = Some(queued)))?;
        let Some(ticket) = ticket else { return Ok(()) };
        if lines_of.writer.store(&self.0.aws, self.0.ledger.as_ref(), app, ticket).await? == Kept::Never {
            self.0.forget(app);
        }
        Ok(())
    }

    async fn tail(&self, app: &AppId, query: TailQuery) -> Result<BoxStream<'static, Tail>, PortError> {
        outside::check("LogStore::tail");
        let Some(lines) = self.0.lines(app) else { return Ok(stream::empty().boxed()) };
        lines.read_back.get_or_try_init(|| self.0.read_back(app, &lines.live)).await?;
        Ok(Arc::clone(&lines.live).read(query))
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
}
