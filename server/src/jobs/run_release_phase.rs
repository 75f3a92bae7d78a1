//! The release phase of a release that no build cuts: after `config:set`, a rollback or a retry.

use paas_domain::ReleaseId;
use paas_store::{JobLease, Release, StoreError};
use serde::{Deserialize, Serialize};

use super::{JobError, Next, point, release_phase, steps, still_ours};
use crate::crash_point::Side;
use crate::cx::Cx;

steps! {
    /// The steps of this job.
    ReleasePhaseStep {
        Run = "run_phase": "The release command runs.",
        Promote = "promote_phase": "The release becomes the current one, or failed.",
        GiveUp = "give_up_phase": "The release has failed for a cause that an earlier step wrote down.",
        Tidy = "tidy_phase": "The command's dyno is removed.",
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memo {
    exit: Option<i32>,
    cause: Option<String>,
}

impl Memo {
    /// Why the phase failed; `None` when it did not.
    fn failure(&self) -> Option<String> {
        let status = || self.exit.filter(|exit| *exit != 0).map(|exit| format!("exit status {exit}"));
        self.cause.clone().or_else(status)
    }
}

async fn load(cx: &Cx, lease: &JobLease) -> Result<Release, JobError> {
    let id: ReleaseId =
        lease.job.subject.parse().map_err(|_| JobError::GiveUp("the job names no release".to_owned()))?;
    match cx.store.read().await?.release(&lease.scope, &id).await {
        Err(StoreError::NotFound(_)) => Err(JobError::GiveUp("the release is gone".to_owned())),
        release => Ok(release?),
    }
}

pub(super) async fn step(cx: &Cx, lease: &JobLease) -> Result<Next, JobError> {
    let step =
        ReleasePhaseStep::parse(&lease.job.step).ok_or_else(|| JobError::GiveUp("an unknown step".to_owned()))?;
    let release = load(cx, lease).await?;
    let mut memo: Memo = serde_json::from_str(&lease.job.memo).unwrap_or_default();
    let app = &lease.scope;
    point(cx, step.as_str(), Side::BeforeEffect).await;
    still_ours(cx, lease).await?;
    match step {
        ReleasePhaseStep::Run => {
            let Some(end) = release_phase::run(cx, app, &release, None).await? else {
                return Ok(Next::Wait(std::time::Duration::from_millis(200)));
            };
            point(cx, step.as_str(), Side::BeforeCommit).await;
            let mut uow = cx.begin().await?;
            release_phase::end_dyno(&mut uow, app, &release, Some(end.exit), cx.now()).await?;
            (memo.exit, memo.cause) = (Some(end.exit), end.cause);
            let memo = serde_json::to_string(&memo).map_err(|e| JobError::GiveUp(e.to_string()))?;
            uow.advance_job(lease, ReleasePhaseStep::Promote.as_str(), &memo, cx.now()).await?;
            uow.save().await?;
            Ok(Next::Step)
        }
        ReleasePhaseStep::Promote => {
            point(cx, step.as_str(), Side::BeforeCommit).await;
            let mut uow = cx.begin().await?;
            release_phase::finish(cx, &mut uow, app, &release, memo.exit.unwrap_or(1)).await?;
            uow.advance_job(lease, ReleasePhaseStep::Tidy.as_str(), &lease.job.memo, cx.now()).await?;
            uow.save().await?;
            cx.kick();
            Ok(Next::Step)
        }
        ReleasePhaseStep::GiveUp => {
            release_phase::say_cause(cx, &release, memo.cause.as_deref().unwrap_or("the release failed")).await;
            point(cx, step.as_str(), Side::BeforeCommit).await;
            let now = cx.now();
            let mut uow = cx.begin().await?;
            release_phase::fail(&mut uow, app, &release, now).await?;
            uow.advance_job(lease, ReleasePhaseStep::Tidy.as_str(), &lease.job.memo, now).await?;
            uow.save().await?;
            cx.kick();
            Ok(Next::Step)
        }
        ReleasePhaseStep::Tidy => {
            release_phase::forget(cx, app, &release.id).await?;
            if let Some(output) = &release.output {
                cx.outputs.close(output).await?;
            }
            point(cx, step.as_str(), Side::BeforeCommit).await;
            let mut uow = cx.begin().await?;
            uow.finish_job(lease, memo.failure().as_deref(), cx.now()).await?;
            uow.save().await?;
            Ok(Next::Done)
        }
    }
}

/// Writes down that a job cannot go on, and why; its next steps do the rest. A job that cannot even do those ends here.
pub(super) async fn give_up(cx: &Cx, lease: &JobLease, cause: &str) -> Result<Next, StoreError> {
    let mut memo: Memo = serde_json::from_str(&lease.job.memo).unwrap_or_default();
    let mut uow = cx.begin().await?;
    if [ReleasePhaseStep::GiveUp, ReleasePhaseStep::Tidy].iter().any(|step| step.as_str() == lease.job.step) {
        uow.finish_job(lease, Some(cause), cx.now()).await?;
        uow.save().await?;
        return Ok(Next::Done);
    }
    memo.cause.get_or_insert_with(|| cause.to_owned());
    let memo = serde_json::to_string(&memo).unwrap_or_else(|_| lease.job.memo.clone());
    uow.advance_job(lease, ReleasePhaseStep::GiveUp.as_str(), &memo, cx.now()).await?;
    uow.save().await?;
    Ok(Next::Step)
}
