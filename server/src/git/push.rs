//! What a push means: which refs are kept, which commit is deployed, and what its author hears meanwhile.
//!
//! Runs when the objects are stored. Only rows are written here, and the refs after them; the deployed branch's
//! row is moved by the build's job, when the new code serves.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use paas_domain::{OutputId, ReleaseVersion};
use paas_ports::outside;
use paas_store::{Build, JobState, StoreError, Uow};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::WriteHalf;
use tokio_util::task::AbortOnDropHandle;

use super::hook_server::Pusher;
use super::request::DECLINED;
use super::wire::{self, Answer, NO_OBJECT, PushMessage, RefUpdate, ServerMessage};
use crate::cx::{Cx, OpError};
use crate::jobs::rollout;
use crate::ops::accept_build::{Accepted, BuildSource, Verdict, accept_push, await_verdict};

/// Why a ref stays where somebody else has moved it meanwhile: git's own words.
const FETCH_FIRST: &str = "fetch first: the ref has moved";

/// How long an output that was begun may still come in after the verdict: its end is sure to come, from storage that may
/// be slow.
const LAST_WORDS: Duration = Duration::from_secs(15);
/// How long one may be begun after it.
const FIRST_WORDS: Duration = Duration::from_millis(100);

/// The way to the hook, and by it to the pusher's terminal.
pub(super) struct HookOutput<'a>(WriteHalf<'a>);

impl<'a> HookOutput<'a> {
    pub(super) fn new(to: WriteHalf<'a>) -> Self {
        Self(to)
    }

    async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(&wire::output(bytes)).await
    }

    async fn line(&mut self, text: &str) -> io::Result<()> {
        self.bytes(format!("{text}\n").as_bytes()).await
    }

    /// Ends the push.
    pub(super) async fn report(&mut self, answers: Vec<Answer>) -> io::Result<()> {
        self.0.write_all(&wire::message(&ServerMessage::Report(answers))?).await
    }
}

/// Does what a push asks for, as far as it can be done. Fails only when the hook is gone.
pub(super) async fn answer(
    cx: &Cx,
    pusher: &Pusher,
    push: &PushMessage,
    hook: &mut HookOutput<'_>,
) -> io::Result<Vec<Answer>> {
    let is_deploy = |update: &&RefUpdate| update.name.deploys() && !update.deletes();
    let mut deploys = push.updates.iter().filter(is_deploy);
    let (deploy, more) = (deploys.next(), deploys.next());
    if more.is_some() {
        hook.line(" !     Push main or master, not both: either one is what is deployed.").await?;
        return Ok(push.updates.iter().map(|update| decline(update, DECLINED)).collect());
    }
    let kept: Vec<&RefUpdate> = push.updates.iter().filter(|update| !is_deploy(update)).collect();
    let mut answers = Vec::new();
    if push.atomic
        && let Some(deploy) = deploy
    {
        // All or nothing, so the other refs wait for the verdict.
        let answer = self::deploy(cx, pusher, deploy, hook).await?;
        if let Some(reason) = answer.refused {
            return Ok(push.updates.iter().map(|update| decline(update, &reason)).collect());
        }
        answers.push(answer);
        answers.extend(keep(cx, pusher, &kept, true, hook).await?);
    } else {
        answers.extend(keep(cx, pusher, &kept, push.atomic, hook).await?);
        if let Some(deploy) = deploy {
            answers.push(self::deploy(cx, pusher, deploy, hook).await?);
        }
    }
    Ok(answers)
}

fn accept(update: &RefUpdate) -> Answer {
    Answer { name: update.name.clone(), refused: None }
}

fn decline(update: &RefUpdate, reason: &str) -> Answer {
    Answer { name: update.name.clone(), refused: Some(reason.to_owned()) }
}

/// Writes the refs that deploy nothing.
async fn keep(
    cx: &Cx,
    pusher: &Pusher,
    updates: &[&RefUpdate],
    atomic: bool,
    hook: &mut HookOutput<'_>,
) -> io::Result<Vec<Answer>> {
    if updates.is_empty() {
        return Ok(Vec::new());
    }
    match keep_rows(cx, pusher, updates, atomic).await {
        Ok(answers) => {
            let stored = |update: &&RefUpdate| answers.iter().any(|a| a.name == update.name && a.refused.is_none());
            if updates.iter().any(|update| !update.deletes() && stored(update)) {
                hook.line("Pushed to non-main branch, skipping build.").await?;
            }
            Ok(answers)
        }
        Err(error) => {
            let reason = trouble(hook, &error).await?;
            Ok(updates.iter().map(|update| decline(update, reason)).collect())
        }
    }
}

async fn keep_rows(cx: &Cx, pusher: &Pusher, updates: &[&RefUpdate], atomic: bool) -> Result<Vec<Answer>, OpError> {
    cx.repositories.make_durable(pusher.app.id()).await?;
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(&pusher.app).await?;
    let mut there: std::collections::BTreeMap<_, _> = uow.branches(&pusher.app).await?.into_iter().collect();
    let mut answers = Vec::new();
    for update in updates {
        let name = update.name.branch().unwrap_or(update.name.as_str());
        let old = there.get(name).map_or(NO_OBJECT, String::as_str);
        let refused = if old == update.new {
            None
        } else if old != update.old {
            Some(FETCH_FIRST)
        } else if update.deletes() {
            uow.delete_branch(&pusher.app, name).await?;
            there.remove(name);
            None
        } else if there.keys().any(|other| lies_below(other, name) || lies_below(name, other)) {
            Some("another ref's name is a part of this one's, or the other way round")
        } else if old == NO_OBJECT && there.len() >= cx.repositories.limits().max_refs {
            Some("the app has too many branches and tags")
        } else {
            uow.set_branch(&pusher.app, name, &update.new, now).await?;
            there.insert(name.to_owned(), update.new.clone());
            None
        };
        answers.push(Answer { name: update.name.clone(), refused: refused.map(str::to_owned) });
    }
    if atomic && answers.iter().any(|answer| answer.refused.is_some()) {
        // Dropped, the transaction never was.
        for answer in &mut answers {
            answer.refused.get_or_insert_with(|| "another ref of this atomic push was refused".to_owned());
        }
        return Ok(answers);
    }
    uow.save().await?;
    super::refresh(cx, &pusher.app).await?;
    Ok(answers)
}

/// Whether git could not keep `inner` as a file because `outer` is one: `a/b` lies below `a`.
fn lies_below(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
}

/// Has the commit built and released, and follows that to its end.
async fn deploy(cx: &Cx, pusher: &Pusher, update: &RefUpdate, hook: &mut HookOutput<'_>) -> io::Result<Answer> {
    let branch = update.name.branch().unwrap_or_default();
    match released(cx, pusher, update, branch).await {
        Ok(Some(version)) => {
            let commit = update.new.get(..8).unwrap_or_default();
            hook.line(&format!("-----> Commit {commit} is released as {version} and serves: nothing to build")).await?;
            return Ok(accept(update));
        }
        Ok(None) => {}
        Err(error) => {
            let reason = trouble(hook, &error).await?;
            return Ok(decline(update, reason));
        }
    }
    let build = match take(cx, pusher, update, branch).await {
        Ok(Accepted::Build(build)) => build,
        Ok(Accepted::Moved) => {
            hook.line(&format!(" !     Push rejected: {branch} has moved since you fetched it.")).await?;
            hook.line(" !     Fetch and merge it first, or push with --force to replace it.").await?;
            return Ok(decline(update, FETCH_FIRST));
        }
        Err(error) => {
            let reason = trouble(hook, &error).await?;
            return Ok(decline(update, reason));
        }
    };
    hook.0.write_all(&wire::message(&ServerMessage::Accepted)?).await?;
    match follow(cx, pusher, &build, hook).await? {
        Verdict::Deployed => Ok(accept(update)),
        Verdict::Declined(_) => Ok(decline(update, DECLINED)),
    }
}

/// The release of a commit that serves already, its branch moved there: a crash or a failed rollout may have
/// come between the two.
async fn released(
    cx: &Cx,
    pusher: &Pusher,
    update: &RefUpdate,
    branch: &str,
) -> Result<Option<ReleaseVersion>, OpError> {
    let commit = update.new.as_str();
    let since = std::time::Instant::now();
    let version = loop {
        let changed = cx.kicks.changed.notified();
        match standing(cx, pusher, commit).await? {
            Standing::Serves(version) => break version,
            // Building it once more would only be slower.
            Standing::OnItsWay if since.elapsed() < cx.settings.rollout_wait => {
                let _ = tokio::time::timeout(std::time::Duration::from_millis(250), changed).await;
            }
            Standing::OnItsWay | Standing::ToBuild => return Ok(None),
        }
    };
    let known = known(cx, pusher, update, branch).await?;
    let mut uow = cx.begin().await?;
    uow.lock_app(&pusher.app).await?;
    let current = uow.current_release(&pusher.app).await?;
    let tip = tip(&mut uow, pusher, branch).await?;
    let serves = current.is_some_and(|current| current.commit.as_deref() == Some(commit));
    if !serves || !known.contains(&tip) {
        // Other code was released since we looked, or the branch has moved: whoever takes the push says so.
        return Ok(None);
    }
    uow.set_branch(&pusher.app, branch, commit, cx.now()).await?;
    uow.save().await?;
    super::refresh(cx, &pusher.app).await?;
    Ok(Some(version))
}

/// How far a commit is without this push.
enum Standing {
    /// It has to be built, or its build is about to say how it ended.
    ToBuild,
    /// A change of config has carried it on, and its dynos are starting.
    OnItsWay,
    /// It serves as this release.
    Serves(ReleaseVersion),
}

async fn standing(cx: &Cx, pusher: &Pusher, commit: &str) -> Result<Standing, OpError> {
    let mut uow = cx.store.read().await?;
    if !uow.pending_builds(&pusher.app).await?.is_empty() {
        // A newer build is on its way: only building this one again makes it the last word.
        return Ok(Standing::ToBuild);
    }
    let Some(current) = uow.current_release(&pusher.app).await? else { return Ok(Standing::ToBuild) };
    if current.commit.as_deref() != Some(commit) || current.image.is_none() {
        return Ok(Standing::ToBuild);
    }
    if let Some(build) = &current.build
        && let Some(job) = uow.job_about(&pusher.app, build.as_str()).await?
        && matches!(job.state, JobState::Waiting | JobState::Running)
    {
        // Its own job is about to say so.
        return Ok(Standing::ToBuild);
    }
    drop(uow);
    Ok(match rollout::look(cx, &pusher.app, &current).await? {
        Some(rollout::End::Serving) => Standing::Serves(current.version),
        Some(rollout::End::Failed(_)) => Standing::ToBuild,
        _ => Standing::OnItsWay,
    })
}

/// Where a branch is.
async fn tip(uow: &mut Uow, pusher: &Pusher, branch: &str) -> Result<Option<String>, StoreError> {
    let branches = uow.branches(&pusher.app).await?;
    Ok(branches.into_iter().find(|(name, _)| name == branch).map(|(_, tip)| tip))
}

/// Where the branch may be for this push to drop nothing that its author does not know of: where they saw it (git
/// itself asks for `--force` when the push leaves that behind), or at a commit that the push has in its history.
async fn known(cx: &Cx, pusher: &Pusher, update: &RefUpdate, branch: &str) -> Result<Vec<Option<String>>, OpError> {
    let seen = Some(update.old.clone()).filter(|old| old != NO_OBJECT);
    let tip = tip(&mut cx.store.read().await?, pusher, branch).await?;
    let mut known = vec![seen, Some(update.new.clone())];
    if let Some(tip) = tip
        && !known.contains(&Some(tip.clone()))
        && cx.repositories.descends(pusher.app.id(), &update.new, &tip).await?
    {
        known.push(Some(tip));
    }
    Ok(known)
}

async fn take(cx: &Cx, pusher: &Pusher, update: &RefUpdate, branch: &str) -> Result<Accepted, OpError> {
    cx.repositories.make_durable(pusher.app.id()).await?;
    // A push before this one may move the branch between the look and the accept: then the look is out of date.
    for _ in 0..3 {
        let known = known(cx, pusher, update, branch).await?;
        let source = BuildSource::Commit { commit: update.new.clone(), branch: branch.to_owned() };
        let accepted = accept_push(cx, &pusher.app, &pusher.account, source, &known).await?;
        if accepted != Accepted::Moved {
            return Ok(accepted);
        }
    }
    Ok(Accepted::Moved)
}

/// Carries a build's output to the hook until there is a verdict.
async fn follow(cx: &Cx, pusher: &Pusher, build: &Build, hook: &mut HookOutput<'_>) -> io::Result<Verdict> {
    // A task of its own: its looks at the database must not count as ours while we call the output's driver.
    let waiting = {
        let (cx, app, build) = (cx.clone(), pusher.app.clone(), build.id.clone());
        tokio::spawn(outside::task(async move { await_verdict(&cx, &app, &build).await }))
    };
    let mut waiting = AbortOnDropHandle::new(waiting);
    let mut output = output(cx.clone(), build.output.clone());
    let mut heard = false;
    let ended = loop {
        tokio::select! {
            biased;
            part = output.next() => match part {
                Some(bytes) => {
                    hook.bytes(&bytes).await?;
                    heard = true;
                }
                None => break (&mut waiting).await,
            },
            ended = &mut waiting => {
                // An output that was never begun has no end; that of a build that was deployed was begun.
                let begun = heard || matches!(ended, Ok(Ok(Verdict::Deployed)));
                let patience = if begun { LAST_WORDS } else { FIRST_WORDS };
                let rest = async {
                    while let Some(bytes) = output.next().await {
                        hook.bytes(&bytes).await?;
                        heard = true;
                    }
                    io::Result::Ok(())
                };
                if let Ok(carried) = tokio::time::timeout(patience, rest).await {
                    carried?;
                }
                break ended;
            }
        }
    };
    let verdict = match ended {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(OpError::NotFound(_))) => Verdict::Declined("the app was destroyed".to_owned()),
        Ok(Err(error)) => Verdict::Declined(trouble(hook, &error).await?.to_owned()),
        Err(error) => return Err(io::Error::other(error)),
    };
    if let (Verdict::Declined(reason), false) = (&verdict, heard) {
        hook.line(&format!(" !     Push rejected: {reason}.")).await?;
    }
    Ok(verdict)
}

/// A build's output from its first byte, also when that is still to be written. Ends when it is closed, or
/// cannot be read.
fn output(cx: Cx, id: OutputId) -> BoxStream<'static, Bytes> {
    let open = async move {
        // Several looks fit into the shortest wait for last words.
        cx.follow_output(&id, Duration::from_millis(40)).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "a build's output cannot be followed");
            stream::empty().boxed()
        })
    };
    stream::once(open).flatten().boxed()
}

/// Says what went wrong on our side, and why the ref did not move.
async fn trouble(hook: &mut HookOutput<'_>, error: &OpError) -> io::Result<&'static str> {
    if let OpError::NotFound("app") | OpError::Store(StoreError::NotFound("app")) = error {
        hook.line(" !     The app was destroyed.").await?;
    } else {
        tracing::error!(%error, "a push failed");
        hook.line(" !     The push could not be handled. Nothing was deployed: push again.").await?;
    }
    Ok(DECLINED)
}
