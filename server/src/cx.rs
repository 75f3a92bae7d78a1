//! What every operation, job and loop works with: the store, the clock, and one driver for each port.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use paas_domain::{AppId, Architecture, Clock, DynoSize, InstallId, OutputId, Timestamp};
use paas_ports::{Builder, Ingress, LogLine, LogSource, LogStore, OutputStore, PortError, Registry, Runtime};
use paas_store::{Store, StoreError, Uow};
use tokio::sync::Notify;

use crate::git::Repositories;
use crate::objects::Objects;

/// One installation on one platform.
#[derive(Clone)]
pub struct Cx(Arc<Parts>);

/// The parts of a [`Cx`].
pub struct Parts {
    /// What was promised.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Which installation.
    pub install: InstallId,
    /// Where dynos run.
    pub runtime: Arc<dyn Runtime>,
    /// Where requests come in.
    pub ingress: Arc<dyn Ingress>,
    /// Where images are kept.
    pub registry: Arc<dyn Registry>,
    /// Source to image.
    pub builder: Arc<dyn Builder>,
    /// Where log lines are kept.
    pub logs: Arc<dyn LogStore>,
    /// Where the output of builds and release phases is kept.
    pub outputs: Arc<dyn OutputStore>,
    /// Sources.
    pub objects: Objects,
    /// The apps' git repositories.
    pub repositories: Repositories,
    /// What this installation was told at its start.
    pub settings: Settings,
    /// Wakes the loops.
    pub kicks: Kicks,
    /// Where a test stops a job or a loop, as a crash would.
    pub crash_points: crate::crash_point::CrashPoints,
}

/// What an installation is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API's own URL, as clients see it: `http://localhost:5000`.
    pub api_url: String,
    /// Host and port of git remotes: `localhost:5000`.
    pub git_host: String,
    /// What follows an app's name in its own host name: `localhost`.
    pub app_domain: String,
    /// `http` or `https`: what apps' URLs start with.
    pub app_scheme: &'static str,
    /// The port that apps' URLs show; none when it is the scheme's own.
    pub app_port: Option<u16>,
    /// Host and port where clients of `run` meet their dynos.
    pub rendezvous: (String, u16),
    /// Where dynos link to this server, when they do.
    pub link: Option<String>,
    /// What apps may be placed on.
    pub offer: Offer,
    /// What a dyno of a size costs in a month, in US dollars, where it costs something.
    pub usd_per_month: Option<fn(DynoSize, Architecture) -> f64>,
    /// How long a build may take.
    pub build_timeout: Duration,
    /// How long a release phase may take (Heroku: 1 hour).
    pub release_timeout: Duration,
    /// How long a push waits for the new code to serve.
    pub rollout_wait: Duration,
    /// How often every app is looked at without a reason.
    pub sweep: Duration,
    /// How often everything outside is listed, for what no row names any more. Where a list is many calls, rarely.
    pub orphans: Duration,
}

/// What a platform has to place apps on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// One machine of this architecture.
    OneMachine(Architecture),
    /// Fargate: both architectures, on demand and Spot.
    Fargate,
}

impl Offer {
    /// What an app is built for that says nothing.
    #[must_use]
    pub fn architecture(self) -> Architecture {
        match self {
            Self::OneMachine(architecture) => architecture,
            Self::Fargate => Architecture::X86,
        }
    }
}

impl Settings {
    /// Heroku's own limits, for the given addresses.
    #[must_use]
    pub fn new(
        api_url: &str,
        git_host: &str,
        app_domain: &str,
        app_port: Option<u16>,
        rendezvous: (String, u16),
    ) -> Self {
        Self {
            api_url: api_url.to_owned(),
            git_host: git_host.to_owned(),
            app_domain: app_domain.to_owned(),
            app_scheme: "http",
            app_port,
            rendezvous,
            link: None,
            offer: Offer::OneMachine(Architecture::of_this_machine()),
            usd_per_month: None,
            build_timeout: Duration::from_secs(15 * 60),
            release_timeout: Duration::from_secs(60 * 60),
            rollout_wait: Duration::from_secs(75),
            sweep: Duration::from_secs(30),
            orphans: Duration::from_secs(30),
        }
    }

    /// The URL of an app of this host name.
    #[must_use]
    pub fn web_url(&self, hostname: &str) -> String {
        match self.app_port {
            Some(port) => format!("{}://{hostname}:{port}/", self.app_scheme),
            None => format!("{}://{hostname}/", self.app_scheme),
        }
    }
}

/// Wakes the loops when there is something to do.
#[derive(Debug, Default)]
pub struct Kicks {
    /// A job was written or its turn has come.
    pub jobs: Notify,
    /// An app's wish or its dynos changed.
    pub apps: Notify,
    /// Something that somebody waits for has changed (a release's status, a rollout).
    pub changed: Notify,
    /// Other servers of the same database want to know.
    pub others: Notify,
    /// An app was destroyed: whoever works for one looks whether it still may.
    pub destroyed: Notify,
}

impl Cx {
    /// Puts the parts together. Where the objects are elsewhere, so are the repositories' packs.
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        if parts.objects.are_elsewhere() {
            parts.repositories = parts.repositories.with_packs(parts.objects.clone());
        }
        Self(Arc::new(parts))
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Starts a change. See [`Store::begin`].
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin(&self) -> Result<Uow, StoreError> {
        self.store.begin().await
    }

    /// Wakes every loop; called after a change was saved.
    pub fn kick(&self) {
        self.wake_loops();
        self.kicks.others.notify_one();
    }

    /// [`Self::kick`] after an app was destroyed: who works for it ends at once.
    pub fn kick_destroyed(&self) {
        self.kick();
        self.kicks.destroyed.notify_waiters();
    }

    /// Wakes every loop of this server; called after another server's change, whatever it was.
    pub fn kick_here(&self) {
        self.wake_loops();
        self.kicks.destroyed.notify_waiters();
    }

    fn wake_loops(&self) {
        self.kicks.jobs.notify_one();
        self.kicks.apps.notify_one();
        self.kicks.changed.notify_waiters();
    }

    /// Says something in the app's log as the platform: `app[api]` or `heroku[…]`. Never fails a caller: a line
    /// that cannot be written is logged by the server itself.
    pub async fn say(&self, app: &AppId, source: LogSource, process: &str, message: impl Into<String>) {
        self.say_all(app, vec![(source, process.to_owned(), message.into())]).await;
    }

    /// [`Self::say`] for several lines, each with its source and process: storing may be a call to another machine.
    pub async fn say_all(&self, app: &AppId, lines: Vec<(LogSource, String, String)>) {
        let at = self.now();
        let line = |(source, process, message)| LogLine { at, source, process, message };
        if let Err(error) = self.logs.append(app, lines.into_iter().map(line).collect()).await {
            tracing::warn!(%app, %error, "lines of the platform were lost");
        }
    }

    /// [`OutputStore::follow`] for an output that may not have begun: looks again until it has, every `pause` in the
    /// end. Each look may be a call to another machine.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn follow_output(&self, id: &OutputId, pause: Duration) -> Result<BoxStream<'static, Bytes>, PortError> {
        let mut wait = Duration::from_millis(10);
        loop {
            match self.outputs.follow(id).await {
                Err(PortError::NotFound(_)) => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(pause);
                }
                followed => return followed,
            }
        }
    }

    /// Stops every loop at its next step; for a graceful stop of the server.
    pub fn wake_all(&self) {
        self.kicks.jobs.notify_waiters();
        self.kicks.apps.notify_waiters();
        self.kick();
    }
}

impl std::ops::Deref for Cx {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Why an operation did not happen; nothing was changed. What the API makes of it is decided in `api`.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The thing named is not there, or not the caller's: `Couldn't find that app.`
    #[error("Couldn't find that {0}.")]
    NotFound(&'static str),
    /// What was asked for makes no sense; says which part.
    #[error("{0}")]
    Invalid(String),
    /// It makes sense but not now.
    #[error("{0}")]
    Conflict(String),
    /// The caller may not.
    #[error("{0}")]
    Forbidden(String),
    /// The database.
    #[error(transparent)]
    Store(StoreError),
    /// A driver.
    #[error(transparent)]
    Port(#[from] PortError),
}

impl OpError {
    /// Something that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Taken(what) => Self::Invalid(format!("{what} is already taken")),
            StoreError::NotFound("app") => Self::NotFound("app"),
            StoreError::NotFound("build") => Self::NotFound("build"),
            StoreError::NotFound("release") => Self::NotFound("release"),
            StoreError::NotFound("dyno") => Self::NotFound("dyno"),
            StoreError::NotFound("authorization") => Self::NotFound("authorization"),
            other => Self::Store(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_herokus() {
        let settings = Settings::new("http://localhost", "localhost", "localhost", None, ("localhost".to_owned(), 1));
        let Settings { build_timeout, release_timeout, rollout_wait, .. } = settings;
        assert_eq!([build_timeout, release_timeout, rollout_wait].map(|time| time.as_secs()), [900, 3600, 75]);
    }
}
