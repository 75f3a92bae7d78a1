//! The words between the hub and those around it: who may link, what dynos say, what the ECS driver asks.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, DynoId, DynoName, ProcessType, Timestamp};
use paas_ports::{Duplex, PortError};

/// What a dyno says about itself when it links. Only `app` is proven by then (its token was right).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose token it showed.
    pub app: AppId,
    /// Its task's ARN, or what stands for one where there is no task metadata: the dyno's id.
    pub task: String,
    /// What it runs.
    pub process_type: ProcessType,
    /// Which one-off dyno it is; `None` for a dyno of the formation.
    pub dyno: Option<DynoId>,
    /// The name that its command was started with, when it runs already.
    pub started_as: Option<DynoName>,
    /// Where it calls from.
    pub peer: IpAddr,
}

/// A dyno that may link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The dyno's id in the database.
    pub dyno: DynoId,
    /// Its name with the slot that it takes. When [`Claim::started_as`] is set, that one has to be taken: the
    /// command knows itself by it.
    pub name: DynoName,
}

/// Why a dyno may not link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such task, it is another app's, it has ended, or it calls from another address.
    /// It is told to come back after a minute at the earliest.
    Unknown,
    /// Nothing can be said now (the task may be too young to be seen). It comes back soon.
    NotNow,
}

/// Says who may link.
#[async_trait]
pub trait LinkAdmission: Send + Sync + 'static {
    /// Whether this task exists, belongs to this app, runs this process type (or is this one-off dyno), and has
    /// this private address. The token was checked before.
    ///
    /// A dyno of the formation waits 500 ms for its slot and then starts without: answer as soon as possible.
    /// The same task asks again each time it links again and has to get the same answer.
    ///
    /// # Errors
    /// The [`Refusal`].
    async fn admit(&self, claim: &Claim) -> Result<Admitted, Refusal>;
}

/// A dyno that has linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedDyno {
    /// Whose.
    pub app: AppId,
    /// Its id.
    pub dyno: DynoId,
    /// Its task's ARN.
    pub task: String,
    /// Its name.
    pub name: DynoName,
}

/// Which of its two outputs a dyno wrote to.
pub use paas_link_frames::Stream;

/// One line of a dyno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberedLine {
    /// Counts the dyno's lines from 1, in the order in which they were also written to its log stream.
    /// (CloudWatch keeps no empty line.)
    pub number: u64,
    /// When the launcher read it.
    pub at: Timestamp,
    /// Where it was written to.
    pub stream: Stream,
    /// Its bytes without the line end: at most [`paas_link_frames::MAX_LINE`], not always text.
    pub bytes: Bytes,
}

/// Lines of a dyno that did not come over the link. They are in its log stream in storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Their numbers.
    pub lines: RangeInclusive<u64>,
    /// When the line before them was read; `None` when they are the first.
    pub after: Option<Timestamp>,
    /// When the line behind them was read; `None` when they are the last.
    pub before: Option<Timestamp>,
}

/// Hears what dynos say. Calls for one dyno come one at a time and in order.
#[async_trait]
pub trait LinkEvents: Send + Sync + 'static {
    /// It linked, for the first time or again.
    async fn connected(&self, dyno: &LinkedDyno);

    /// Its command starts, knowing itself by this name: another than [`LinkedDyno::name`] when the slot was told
    /// too late, and then the one it has from here on. May come again after a cut.
    async fn started(&self, dyno: &LinkedDyno, name: &DynoName);

    /// Its next lines. Taken over once this answers `Ok`: then the dyno forgets them.
    ///
    /// # Errors
    /// When they could not be stored: the link is cut, and the dyno sends them again.
    async fn lines(&self, dyno: &LinkedDyno, lines: Vec<NumberedLine>) -> Result<(), PortError>;

    /// Lines are missing here; the next call of [`LinkEvents::lines`] goes on behind them.
    async fn gap(&self, dyno: &LinkedDyno, gap: Gap);

    /// Its command ended with this status (128 + signal number when a signal ended it). Every line before came.
    async fn exited(&self, dyno: &LinkedDyno, code: u8);

    /// Its link is down: it may come back.
    async fn disconnected(&self, dyno: &LinkedDyno);
}

/// What the runtime driver asks of the dynos' links.
#[async_trait]
pub trait DynoLinks: Send + Sync {
    /// The bytes of a one-off dyno, with the promises of [`paas_ports::Runtime::attach`]. The first attach starts
    /// the command of a dyno that was started with `PAAS_ATTACH`.
    ///
    /// What a dyno wrote stays readable from its first byte up to the hub's limit (1 MiB): a later reader of more
    /// begins where the kept bytes begin. Dropping the last duplex of an attached dyno hangs it up (SIGHUP) after
    /// a few seconds, unless someone attaches again.
    ///
    /// # Errors
    /// [`PortError::Transient`] while this dyno has not linked. (Whether it ever will, only the driver knows.)
    async fn attach(&self, dyno: &DynoId) -> Result<Duplex, PortError>;

    /// How it ended, when its link said so. Kept for minutes, not for ever.
    async fn exit_code(&self, dyno: &DynoId) -> Option<u8>;

    /// Sends SIGHUP to its command, when it is linked, also while its output is still read.
    async fn hang_up(&self, dyno: &DynoId);

    /// Sends SIGTERM to its command, or ends it before its command started (status 143). `false` when it is not
    /// linked. The platform's own stop has to follow: this one is only sooner.
    async fn stop(&self, dyno: &DynoId) -> bool;

    /// The platform says that its task is gone: readers get what came, and then the end, instead of waiting for a
    /// link that never comes back.
    async fn over(&self, dyno: &DynoId);

    /// Drops all that is kept of it. What links again later is as new.
    async fn forget(&self, dyno: &DynoId);
}
