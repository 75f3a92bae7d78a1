//! Finite work, one durable step after the other.
//!
//! A step is an effect that may be repeated, then one transaction that writes its result and names the next
//! step. A worker that dies leaves a row that the next one claims; it repeats the step it finds. Every step
//! passes two [`Side`]s of a crash point, and a test iterates all of them.

mod build_app;
mod output;
mod release_phase;
pub(crate) mod rollout;
mod run_release_phase;

use std::sync::Arc;
use std::time::Duration;

use paas_ports::{PortError, outside};
use paas_store::{JobKind, JobLease, StoreError, Takes};
use tokio::sync::{Semaphore, watch};

pub use build_app::{BuildMemo, BuildStep};
pub(crate) use build_app::{VERDICT, WAIT};
pub use run_release_phase::ReleasePhaseStep;

use crate::crash_point::Side;
use crate::cx::{Cx, OpError};

/// How long a worker that has died holds its job.
const LEASE: Duration = Duration::from_secs(15);
/// How many jobs run at the same time. Builds are what is heavy among them; the engine's limits hold them.
const WORKERS: usize = 16;
/// For how long what a dropped worker last asked for may still happen: an engine ends what it was told to begin.
const LATE: Duration = Duration::from_secs(2);
/// A step that fails for a passing reason is tried this often before the job gives up.
const MAX_ATTEMPTS: i64 = 8;

/// How a step ended.
enum Next {
    /// The job goes on with the step that its row names.
    Step,
    /// Nothing more to do for now; the job's row says whether it is over.
    Done,
    /// Something else has to happen first; try the step again then. Counts as no failure.
    Wait(Duration),
}

/// Why a step did not end.
enum JobError {
    /// A passing reason.
    Retry(String),
    /// A lasting one, in a sentence for the person who waits.
    GiveUp(String),
    /// Somebody else has the job by now: stop without a word.
    Lost,
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Fenced | StoreError::NotFound("app") => Self::Lost,
            other => Self::Retry(other.to_string()),
        }
    }
}

impl From<PortError> for JobError {
    fn from(error: PortError) -> Self {
        if error.is_transient() { Self::Retry(error.to_string()) } else { Self::GiveUp(error.to_string()) }
    }
}

impl From<OpError> for JobError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Store(store) => store.into(),
            OpError::Port(port) => port.into(),
            other => Self::GiveUp(other.to_string()),
        }
    }
}

/// Works on jobs that this server `takes` until `stop` says so. Jobs under way are dropped then: going on is what a
/// restart does anyway.
pub async fn run(cx: Cx, owner: String, takes: Takes, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(WORKERS));
    let mut running = tokio::task::JoinSet::new();
    while !*stop.borrow() {
        // What is claimed is worked on at once: nobody else can have it meanwhile.
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            _ = stop.changed() => continue,
        };
        let Ok(slot) = slot else { break };
        let kicked = cx.kicks.jobs.notified();
        match outside::task(claim(&cx, &owner, takes)).await {
            Ok(Claimed::Job(lease)) => {
                let cx = cx.clone();
                running.spawn(async move {
                    outside::task(work(&cx, *lease)).await;
                    drop(slot);
                    cx.kicks.jobs.notify_one();
                });
                continue;
            }
            Ok(Claimed::NothingUntil(wait)) => {
                tokio::select! {
                    () = kicked => {}
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.changed() => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "jobs cannot be claimed");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        while running.try_join_next().is_some() {}
    }
    running.shutdown().await;
}

enum Claimed {
    Job(Box<JobLease>),
    NothingUntil(Duration),
}

async fn claim(cx: &Cx, owner: &str, takes: Takes) -> Result<Claimed, StoreError> {
    let now = cx.now();
    let until = now.plus_ms(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX));
    // A look first: an idle server must not write.
    let due = cx.store.read().await?.next_due_job(takes).await?;
    if due.is_some_and(|at| at <= now) {
        let mut uow = cx.begin().await?;
        let claimed = match uow.claim_job(owner, takes, now, until).await {
            // Another server took another one of its queue at the same moment.
            Err(StoreError::Taken(_)) => None,
            claimed => {
                let claimed = claimed?;
                uow.save().await?;
                claimed
            }
        };
        if let Some(lease) = claimed {
            return Ok(Claimed::Job(Box::new(lease)));
        }
        // Due, but behind another one of its queue, whose end wakes us.
        return Ok(Claimed::NothingUntil(Duration::from_secs(1)));
    }
    let wait = due.map_or(cx.settings.sweep, |at| Duration::from_millis(u64::try_from(at.since_ms(now)).unwrap_or(0)));
    Ok(Claimed::NothingUntil(wait.min(cx.settings.sweep)))
}

/// Works on one job until it is over, has to wait, or is lost. Keeps its lease alive meanwhile.
async fn work(cx: &Cx, lease: JobLease) {
    let steps = run_steps(cx, &lease);
    let beat = async {
        loop {
            // Before the look, so that no call is missed between the two.
            let destroyed = cx.kicks.destroyed.notified();
            if let Err(StoreError::Fenced) = outside::task(still_ours(cx, &lease)).await {
                return;
            }
            tokio::select! {
                () = destroyed => continue,
                () = tokio::time::sleep(LEASE / 3) => {}
            }
            let renewed = outside::task(async {
                let mut uow = cx.begin().await?;
                let until = cx.now().plus_ms(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX));
                uow.renew_job(&lease, until).await?;
                uow.save().await
            });
            if let Err(StoreError::Fenced) = renewed.await {
                return;
            }
        }
    };
    let ended = tokio::select! {
        ended = steps => ended,
        () = beat => {
            tracing::info!(job = %lease.job.id, "the job was taken away");
            false
        }
    };
    if !ended {
        // Who destroys the app waits for this.
        let until = cx.now().plus_ms(i64::try_from(LATE.as_millis()).unwrap_or(i64::MAX));
        let let_go = async {
            let mut uow = cx.begin().await?;
            uow.let_go_of_job(&lease, until).await?;
            uow.save().await
        };
        if let Err(error) = let_go.await {
            tracing::warn!(job = %lease.job.id, %error, "a job that was taken away is held until its lease runs out");
        }
    }
    cx.kick();
}

/// Whether the job is still this worker's; [`StoreError::Fenced`] when its app was destroyed or somebody else took it.
/// Asked before every effect: what is made outside for an app that goes would stay.
async fn still_ours(cx: &Cx, lease: &JobLease) -> Result<(), StoreError> {
    cx.store.read().await?.check_job(lease).await
}

/// Takes steps until the job has to be left; whether that was written down.
async fn run_steps(cx: &Cx, lease: &JobLease) -> bool {
    let mut lease = lease.clone();
    loop {
        let ended = match lease.job.kind {
            JobKind::BuildApp => build_app::step(cx, &lease).await,
            JobKind::RunReleasePhase => run_release_phase::step(cx, &lease).await,
        };
        cx.kicks.changed.notify_waiters();
        let next = match ended {
            Ok(next) => Ok(next),
            Err(JobError::Lost) => return false,
            // What a job that gave up still has to do asks the database only, and must be done some time.
            Err(JobError::Retry(cause)) if lease.job.attempts + 1 < MAX_ATTEMPTS || gave_up(&lease) => {
                retry(cx, &lease, &cause).await
            }
            Err(JobError::Retry(cause) | JobError::GiveUp(cause)) => give_up(cx, &lease, &cause).await,
        };
        match next {
            Ok(Next::Done) => return true,
            Ok(Next::Wait(wait)) => tokio::time::sleep(wait).await,
            Ok(Next::Step) => match reread(cx, &lease).await {
                Ok(job) => lease.job = job,
                Err(error) => {
                    tracing::error!(job = %lease.job.id, %error, "the job's row cannot be read");
                    return false;
                }
            },
            Err(error) => {
                // The lease runs out and the row is claimed again: nothing else to do here.
                tracing::error!(job = %lease.job.id, %error, "the job's end cannot be written");
                return false;
            }
        }
    }
}

/// Whether the job writes that it has given up.
fn gave_up(lease: &JobLease) -> bool {
    [BuildStep::GiveUp.as_str(), ReleasePhaseStep::GiveUp.as_str()].contains(&lease.job.step.as_str())
}

async fn reread(cx: &Cx, lease: &JobLease) -> Result<paas_store::Job, StoreError> {
    let job = cx.store.read().await?.job_about(&lease.scope, &lease.job.subject).await?;
    job.filter(|job| job.id == lease.job.id).ok_or(StoreError::Fenced)
}

/// Gives the job back: whoever claims it then tries its step again.
async fn retry(cx: &Cx, lease: &JobLease, cause: &str) -> Result<Next, StoreError> {
    let now = cx.now();
    tracing::warn!(job = %lease.job.id, step = lease.job.step, cause, "the step is tried again");
    // 0.5, 1, 2, … seconds.
    let delay = 500_i64 << lease.job.attempts.clamp(0, 10);
    let mut uow = cx.begin().await?;
    uow.retry_job(lease, cause, now.plus_ms(delay), now).await?;
    uow.save().await?;
    Ok(Next::Done)
}

async fn give_up(cx: &Cx, lease: &JobLease, cause: &str) -> Result<Next, StoreError> {
    tracing::warn!(job = %lease.job.id, step = lease.job.step, cause, "the job gives up");
    match lease.job.kind {
        JobKind::BuildApp => build_app::give_up(cx, lease, cause).await,
        JobKind::RunReleasePhase => run_release_phase::give_up(cx, lease, cause).await,
    }
}

/// Passes a crash point of a step.
async fn point(cx: &Cx, step: &str, side: Side) {
    cx.crash_points.pass(step, side).await;
}

/// Declares the steps of a job as an enum: their order, their words in the database, and the list that tests iterate.
macro_rules! steps {
    ($(#[$doc:meta])* $name:ident { $first:ident = $ftext:literal: $fdoc:literal, $($step:ident = $text:literal: $sdoc:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { #[doc = $fdoc] $first, $(#[doc = $sdoc] $step),* }

        impl $name {
            /// Where the job starts.
            pub const FIRST: Self = Self::$first;
            /// Every step, in order.
            pub const ALL: &'static [Self] = &[Self::$first, $(Self::$step),*];

            /// The word in the database.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { Self::$first => $ftext, $(Self::$step => $text),* }
            }

            fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|step| step.as_str() == text)
            }
        }
    };
}
use steps;
