//! The release phase of a release that no build cuts: after `config:set`, a rollback or a retry.

use paas_domain::{ReleaseId, ReleaseStatus};
use paas_store::{JobLease, Release, StoreError};
use serde::{Deserialize, Serialize};

use super::{JobError, Next, point, release_phase, steps};
use crate::crash_point::Side;
use crate::cx::Cx;

steps! {
    /// The steps of this job.
    ReleasePhaseStep {
        Run = "run_phase": "The release command runs.",
        Promote = "promote_phase": "The release becomes the current one, or failed.",
        Tidy = "tidy_phase": "The command's dyno is removed.",
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memo {
    exit: Option<i32>,
}

async fn load(cx: &Cx, lease: &JobLease) -> Result<Release, JobError> {
    let id: ReleaseId =
        lease.job.subject.parse().map_err(|_| JobError::GiveUp("the job names no release".to_owned()))?;
    Ok(cx.store.read().await?.release(&lease.scope, &id).await?)
}

pub(super) async fn step(cx: &Cx, lease: &JobLease) -> Result<Next, JobError> {
    let step =
        ReleasePhaseStep::parse(&lease.job.step).ok_or_else(|| JobError::GiveUp("an unknown step".to_owned()))?;
    let release = load(cx, lease).await?;
    let mut memo: Memo = serde_json::from_str(&lease.job.memo).unwrap_or_default();
    let app = &lease.scope;
    point(cx, step.as_str(), Side::BeforeEffect).await;
    match step {
        ReleasePhaseStep::Run => {
            let Some(exit) = release_phase::run(cx, app, &release, None).await? else {
                return Ok(Next::Wait(std::time::Duration::from_millis(200)));
            };
            memo.exit = Some(exit);
            point(cx, step.as_str(), Side::BeforeCommit).await;
            let mut uow = cx.begin().await?;
            release_phase::end_dyno(&mut uow, app, &release, exit, cx.now()).await?;
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
        ReleasePhaseStep::Tidy => {
            release_phase::forget(cx, app, &release.id).await?;
            if let Some(output) = &release.output {
                cx.outputs.close(output).await?;
            }
            point(cx, step.as_str(), Side::BeforeCommit).await;
            let failed = memo.exit.filter(|exit| *exit != 0).map(|exit| format!("exit status {exit}"));
            let mut uow = cx.begin().await?;
            uow.finish_job(lease, failed.as_deref(), cx.now()).await?;
            uow.save().await?;
            Ok(Next::Done)
        }
    }
}

/// Ends a job that cannot go on: its release has failed.
pub(super) async fn give_up(cx: &Cx, lease: &JobLease, cause: &str) -> Result<(), StoreError> {
    let release = load(cx, lease).await.ok();
    let now = cx.now();
    let mut uow = cx.begin().await?;
    if let Some(release) = &release {
        uow.finish_release(&lease.scope, &release.id, ReleaseStatus::Failed, now).await?;
    }
    uow.finish_job(lease, Some(cause), now).await?;
    uow.save().await?;
    if let Some(output) = release.and_then(|release| release.output) {
        let text = format!(" !     {cause}\n");
        let _ = cx.outputs.write(&output, 1, text.into()).await;
        let _ = cx.outputs.close(&output).await;
    }
    Ok(())
}
