//! Where dynos run.

use std::time::Duration;

use async_trait::async_trait;
use paas_domain::{
    AppId, Architecture, Capacity, ConfigId, ConfigVars, DynoId, DynoKind, DynoName, DynoSize, DynoState, Generation,
    ProcessType, Quantity, ReleaseVersion, Timestamp,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Attachment, ImageRef, PortError};

/// Where dynos run.
///
/// Every call says how things should be, so repeating one is harmless. A call that times out may still
/// take effect: look again with [`Runtime::observe`].
#[async_trait]
pub trait Runtime: Send + Sync {
    /// Moves this process type one bounded step (at most about a second) towards `spec`, and says where it stands.
    ///
    /// New dynos are healthy in `spec.attachment` before old ones are drained and stopped. When new dynos
    /// do not come to serve, the answer is [`Progress::Failed`], the old ones stay, and the failed ones stay
    /// visible as crashed until `spec.revive` is true, a newer spec comes, or `remove`.
    /// A dyno of the current release that crashed after it served is left crashed until `spec.revive`.
    /// A dyno is a crash's casualty at most once: `ensure` never restarts by itself.
    ///
    /// # Errors
    /// [`PortError::Superseded`] when the platform already carries a higher generation of this process type.
    async fn ensure(&self, spec: &ServiceSpec) -> Result<Progress, PortError>;

    /// Stops every dyno of this process type whose generation is lower than or equal to `up_to`
    /// (SIGTERM, 30 s, SIGKILL). Returns at once while they stop; call until `observe` shows none.
    /// Succeeds when there is none.
    ///
    /// # Errors
    /// [`PortError::Superseded`] when the platform already carries a higher generation of this process type.
    async fn remove(&self, app: &AppId, process_type: &ProcessType, up_to: Generation) -> Result<(), PortError>;

    /// What is there now of this app, one-off dynos, older releases and crashed dynos included.
    async fn observe(&self, app: &AppId) -> Result<Observed, PortError>;

    /// One dyno as [`Self::observe`] shows it, for the job that started it. A job works beside the app's passes, which
    /// may be another server's: a driver that writes down what it sees writes of nothing else here.
    async fn observe_one(&self, app: &AppId, dyno: &DynoId) -> Result<Option<ObservedDyno>, PortError> {
        Ok(self.observe(app).await?.dynos.into_iter().find(|seen| seen.id == *dyno))
    }

    /// Starts a one-off dyno, at most once ever for this id. Its exit comes by `observe`, where it stays
    /// `Ended` with its exit code until it is forgotten.
    ///
    /// A dyno with `spec.attach` is made here and started by the first [`Runtime::attach`], so that nothing
    /// it writes is missed.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when this id was used before and is gone.
    async fn start_once(&self, dyno: &DynoId, spec: &OneOffSpec) -> Result<(), PortError>;

    /// The bytes of a one-off dyno that was started with `attach`: what it writes can be read (stdout and
    /// stderr merged), what is written goes to its stdin; shutting down the write half ends its stdin.
    /// Reading starts at the dyno's first byte and ends with its last one.
    ///
    /// Any one-off dyno can be attached to, also again and also after it ended; what is written to one that
    /// was not started with `attach`, or that ended, goes nowhere.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when there is no such dyno, or it was stopped before it ever started.
    async fn attach(&self, dyno: &DynoId) -> Result<Duplex, PortError>;

    /// SIGHUP, for a one-off dyno whose client is gone. Whether it ends by that is its own affair: [`Runtime::stop`]
    /// has to follow. Nothing happens where there is no such dyno, or it does not run.
    async fn hang_up(&self, dyno: &DynoId) -> Result<(), PortError>;

    /// SIGTERM, 30 s, SIGKILL, for one dyno. Returns at once while it stops. Succeeds when it is gone.
    async fn stop(&self, dyno: &DynoId) -> Result<(), PortError>;

    /// Forgets an ended one-off dyno and all that is kept of it, once its log was drained. Succeeds when it is gone.
    async fn forget(&self, dyno: &DynoId) -> Result<(), PortError>;

    /// Removes everything of this app that this driver keeps. Repeat until it answers `true`.
    async fn remove_app(&self, app: &AppId) -> Result<bool, PortError>;

    /// Removes what releases before the one that is wanted have left of this app, some of it at a time. Nobody else may
    /// be at work on the app; calling again goes on.
    async fn collect(&self, app: &AppId) -> Result<(), PortError> {
        let _ = app;
        Ok(())
    }

    /// What this driver remembers of having seen of an app's dynos may be out of date: another server has worked on
    /// the app, or has heard of something. A driver that always looks has nothing to do.
    fn doubt(&self, app: &AppId) {
        let _ = app;
    }

    /// Every app that has anything here, for the collection of what no row names any more.
    async fn apps(&self) -> Result<Vec<AppId>, PortError>;
}

/// A stream of bytes both ways.
pub type Duplex = Box<dyn DuplexStream>;

/// Anything that can be read and written.
pub trait DuplexStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> DuplexStream for T {}

/// How one process type of an app should run.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Whose.
    pub app: AppId,
    /// Which.
    pub process_type: ProcessType,
    /// The wish this spec was read from.
    pub generation: Generation,
    /// The release whose image and config these are.
    pub release: ReleaseVersion,
    /// What to run.
    pub image: ImageRef,
    /// How to start it: a shell command line, run inside the dyno.
    pub command: String,
    /// The app's config vars at that release.
    pub config: ConfigVars,
    /// Which version of them: what a secret that holds them is named after.
    pub config_id: ConfigId,
    /// How large each dyno is.
    pub size: DynoSize,
    /// What the image is built for.
    pub architecture: Architecture,
    /// What to take the dynos from, where there is a choice.
    pub capacity: Capacity,
    /// How many.
    pub quantity: Quantity,
    /// Where web dynos are registered once they are healthy; `None` for other process types.
    pub attachment: Option<Attachment>,
    /// Counts restarts asked for by people: a dyno with a lower number is replaced.
    pub restart: i64,
    /// Whether crashed dynos of this very release may be replaced now (the crash ladder says so).
    pub revive: bool,
}

/// Where a process type stands on its way to its spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Every dyno is as the spec says and serves; nothing older is left.
    Settled,
    /// Every dyno of the spec serves; older ones are still draining or stopping.
    Serving {
        /// When to ask again.
        look_again: Duration,
    },
    /// New dynos are on their way.
    Moving {
        /// When to ask again.
        look_again: Duration,
    },
    /// New dynos are wanted, and the platform starts none of them for now; it goes on trying by itself.
    HeldUp {
        /// Why, in words for the person who pushed.
        cause: String,
        /// When to ask again.
        look_again: Duration,
    },
    /// At least one dyno of this release did not come to serve, or crashed and may not be revived yet.
    Failed {
        /// The first of them.
        reason: RolloutFailure,
    },
}

/// Why a dyno does not serve, in words for the person who pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutFailure {
    /// The dyno.
    pub dyno: Option<DynoName>,
    /// `R10`, `R14`, …, when Heroku has a code for it.
    pub code: Option<&'static str>,
    /// A sentence, as "Process exited with status 3".
    pub message: String,
    /// When it ended.
    pub at: Timestamp,
}

/// What an app has on a platform.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Every dyno, in no order.
    pub dynos: Vec<ObservedDyno>,
}

/// One dyno as the platform sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedDyno {
    /// Its id, chosen before it was made.
    pub id: DynoId,
    /// Its name.
    pub name: DynoName,
    /// Why it runs.
    pub kind: DynoKind,
    /// Its release.
    pub release: ReleaseVersion,
    /// Of which wish.
    pub generation: Generation,
    /// Its command line.
    pub command: String,
    /// Its size.
    pub size: DynoSize,
    /// What it does.
    pub state: DynoState,
    /// How it ended (128 + signal number when a signal ended it), when it did.
    pub exit_code: Option<i32>,
    /// Since when it is in this state, as well as the platform knows.
    pub since: Timestamp,
    /// The platform's own name for it.
    pub platform_ref: String,
}

/// A dyno that is started once.
#[derive(Clone, Debug)]
pub struct OneOffSpec {
    /// Whose.
    pub app: AppId,
    /// `run.4821` or `release.4821`.
    pub name: DynoName,
    /// `Run` or `Release`.
    pub kind: DynoKind,
    /// The release whose image and config these are.
    pub release: ReleaseVersion,
    /// What to run.
    pub image: ImageRef,
    /// A shell command line, run inside the dyno.
    pub command: String,
    /// The app's config vars, with those of the request on top.
    pub config: ConfigVars,
    /// Which version of them; `None` when the request brought some of its own.
    pub config_id: Option<ConfigId>,
    /// How large it is.
    pub size: DynoSize,
    /// What the image is built for.
    pub architecture: Architecture,
    /// What the app's services take their dynos from. A driver may take better: nobody is cut off who is at work.
    pub capacity: Capacity,
    /// Whether someone will attach: stdin is open, and output goes to them and not to the app's log.
    pub attach: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Where its link leads ([`Runtime::attach`] works there), when that is not the server that starts it.
    pub link: Option<String>,
}
