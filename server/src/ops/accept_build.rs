//! The first durable step of every deploy: a pending build, its output and its job, in one transaction.
//!
//! From here on nothing that the client does matters: the job goes on when the push's terminal is closed.

use paas_domain::{BuildId, BuildStatus, OutputId};
use paas_store::{Account, AppScope, Build, JobKind, JobState, NewBuild};
use serde::{Deserialize, Serialize};

use crate::cx::{Cx, OpError};
use crate::jobs::{BuildMemo, BuildStep, VERDICT};
use crate::token::{new_token, token_hash};

/// What a build is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildSource {
    /// A commit whose objects are in the app's repository, and the branch that moves to it when it serves.
    Commit {
        /// 40 (or 64) hexadecimal digits.
        commit: String,
        /// `main` or `master`.
        branch: String,
    },
    /// An uploaded archive, kept as an object.
    Archive {
        /// The object's key.
        key: String,
        /// What the uploader calls its version.
        version: Option<String>,
    },
}

/// Accepts a build. A push of a commit whose build is pending attaches to that one; builds of the app that still
/// wait give way to this one ("superseded").
///
/// # Errors
/// When the app is gone or the database does not answer.
pub async fn accept_build(cx: &Cx, app: &AppScope, account: &Account, source: BuildSource) -> Result<Build, OpError> {
    match accept(cx, app, account, source, None).await? {
        Accepted::Build(build) => Ok(*build),
        Accepted::Moved => Err(OpError::Conflict("the branch has moved".to_owned())),
    }
}

/// What a push comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// This build, new or under way.
    Build(Box<Build>),
    /// Nothing: the branch is at a commit that the push would drop without knowing of it.
    Moved,
}

/// [`accept_build`] for a push: the branch must be where one of `known` says, `None` where it was not there. That a
/// commit is on its way to it is no hindrance: the newer push has the last word.
///
/// # Errors
/// When the app is gone or the database does not answer.
pub async fn accept_push(
    cx: &Cx,
    app: &AppScope,
    account: &Account,
    source: BuildSource,
    known: &[Option<String>],
) -> Result<Accepted, OpError> {
    accept(cx, app, account, source, Some(known)).await
}

async fn accept(
    cx: &Cx,
    app: &AppScope,
    account: &Account,
    source: BuildSource,
    known: Option<&[Option<String>]>,
) -> Result<Accepted, OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let pending = uow.pending_builds(app).await?;
    if let BuildSource::Commit { commit, branch } = &source {
        let same = |b: &&Build| b.commit.as_deref() == Some(commit) && b.branch.as_deref() == Some(branch);
        if let Some(build) = pending.iter().rev().find(same) {
            return Ok(Accepted::Build(Box::new(build.clone())));
        }
        // Its release may be on the way to serving: the build has ended, its job has not. Or it came to serve between
        // the moment when this push was told where the branch is and now.
        let tip = uow.branches(app).await?.into_iter().find(|(name, _)| name == branch).map(|(_, tip)| tip);
        let moved = tip.as_ref() == Some(commit);
        for build in uow.builds(app).await?.iter().rev().filter(same) {
            let job = uow.job_about(app, build.id.as_str()).await?;
            let under_way = job.is_some_and(|job| matches!(job.state, JobState::Waiting | JobState::Running));
            if under_way || moved && build.status == BuildStatus::Succeeded {
                return Ok(Accepted::Build(Box::new(build.clone())));
            }
        }
        if known.is_some_and(|known| !moved && !known.contains(&tip)) {
            return Ok(Accepted::Moved);
        }
    }
    let mut superseded = Vec::new();
    for older in pending {
        if uow.cancel_waiting_job(app, older.id.as_str(), "superseded by a newer push", now).await? {
            uow.fail_build(app, &older.id, "superseded by a newer push", now).await?;
            superseded.push(older);
        }
    }
    let token = new_token("out");
    let output = uow.create_output(app, &token, &token_hash(&token), now).await?;
    let new = match source {
        BuildSource::Commit { commit, branch } => NewBuild {
            commit: Some(commit),
            branch: Some(branch),
            source_key: None,
            output,
            account: account.id.clone(),
        },
        BuildSource::Archive { key, version } => {
            NewBuild { commit: version, branch: None, source_key: Some(key), output, account: account.id.clone() }
        }
    };
    let build = uow.create_build(app, &new, now).await?;
    let queue = format!("app:{}:build", app.id());
    let first = BuildStep::FIRST.as_str();
    uow.create_job(app, &queue, JobKind::BuildApp, build.id.as_str(), first, now).await?;
    uow.save().await?;
    cx.kick();
    // This build is accepted, whatever becomes of the words to those before it.
    for older in &superseded {
        if let Err(error) = end_superseded(cx, older).await {
            tracing::warn!(build = %older.id, %error, "a build that is superseded is not told so");
        }
    }
    // The build is accepted all the same: whoever cannot be told now is told with the next look.
    if let Err(error) = crate::servers::say_unbuildable(cx).await {
        tracing::warn!(%error, "who waits for a builder is told later");
    }
    let line = format!("Build started by user {}", account.email);
    cx.say(app.id(), paas_ports::LogSource::App, "api", line).await;
    Ok(Accepted::Build(Box::new(build)))
}

/// Says in its output that a build gave way, and drops its source.
async fn end_superseded(cx: &Cx, older: &Build) -> Result<(), OpError> {
    let archive = older.branch.is_none();
    let words = if archive { "Build superseded by a newer one." } else { "Push rejected: superseded by a newer push." };
    say_failed(cx, &older.output, words).await?;
    if let Some(key) = &older.source_key {
        cx.objects.remove(key).await?;
    }
    Ok(())
}

/// Writes a build of a source that cannot be unpacked: failed from the start, with the reason as its output.
///
/// # Errors
/// When the app is gone, or the database or the output does not answer.
pub async fn refuse_build(
    cx: &Cx,
    app: &AppScope,
    account: &Account,
    version: Option<String>,
    reason: &str,
) -> Result<Build, OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let token = new_token("out");
    let output = uow.create_output(app, &token, &token_hash(&token), now).await?;
    let account = account.id.clone();
    let new = NewBuild { commit: version, branch: None, source_key: None, output: output.clone(), account };
    let build = uow.create_build(app, &new, now).await?;
    uow.fail_build(app, &build.id, reason, now).await?;
    let build = uow.build(app, &build.id).await?;
    uow.save().await?;
    if let Err(error) = say_failed(cx, &output, reason).await {
        tracing::warn!(build = %build.id, %error, "why a source was refused is in its build's row only");
    }
    Ok(build)
}

/// The end of the output of a build that never ran; it may have said that it waits.
async fn say_failed(cx: &Cx, output: &OutputId, reason: &str) -> Result<(), OpError> {
    cx.outputs.begin(output, VERDICT).await?;
    cx.outputs.write(output, VERDICT, format!(" !     {reason}\n").into()).await?;
    Ok(cx.outputs.close(output).await?)
}

/// What became of a build's job: what its pusher hears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The new code serves (or is still starting after the longest wait). The branch has moved.
    Deployed,
    /// It does not; says why. The branch has not moved.
    Declined(String),
}

/// The verdict of a build, once there is one.
///
/// # Errors
/// When the build is not this app's.
pub async fn build_verdict(cx: &Cx, app: &AppScope, build: &BuildId) -> Result<Option<Verdict>, OpError> {
    let mut uow = cx.store.read().await?;
    let row = uow.build(app, build).await?;
    let job = uow.job_about(app, build.as_str()).await?;
    let verdict = job.as_ref().and_then(|job| serde_json::from_str::<BuildMemo>(&job.memo).ok()?.verdict);
    if verdict.is_some() {
        return Ok(verdict);
    }
    if row.status == BuildStatus::Failed {
        return Ok(Some(Verdict::Declined(row.reason.unwrap_or_else(|| "the build failed".to_owned()))));
    }
    Ok(match job {
        Some(job) if job.state == JobState::Failed => {
            Some(Verdict::Declined(job.error.unwrap_or_else(|| "the deploy failed".to_owned())))
        }
        None => Some(Verdict::Declined("the app was destroyed".to_owned())),
        _ => None,
    })
}

/// Waits for a build's verdict. Returns early never; the caller may drop it at any time.
///
/// # Errors
/// When the build is not this app's.
pub async fn await_verdict(cx: &Cx, app: &AppScope, build: &BuildId) -> Result<Verdict, OpError> {
    loop {
        let changed = cx.kicks.changed.notified();
        if let Some(verdict) = build_verdict(cx, app, build).await? {
            return Ok(verdict);
        }
        // The timer is for changes that another server makes.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(500), changed).await;
    }
}

/// The output of a build, for a follower.
///
/// # Errors
/// When the build is not this app's.
pub async fn build_output(cx: &Cx, app: &AppScope, build: &BuildId) -> Result<OutputId, OpError> {
    Ok(cx.store.read().await?.build(app, build).await?.output)
}
