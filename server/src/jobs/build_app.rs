//! From a source to a release that serves: the job behind `git push` and `POST /apps/:app/builds`.
//!
//! | step | effect (on repeat) | its transaction writes |
//! | --- | --- | --- |
//! | stage_source | the commit's tree as one tar in Objects (same key, same bytes) | the build's source key |
//! | run_build | detect and build (followed or read again) | nothing but the memo, or the failure |
//! | export_image | the image, stored (found there: done) | the image |
//! | cut_release | none (looks whether the image is there) | release vN, the build's success, the formation's first line |
//! | run_release_phase | one dyno, started once; its output | its exit |
//! | promote | none | release succeeded and current, or failed |
//! | await_rollout | none; waits for the rollout | the branch moves, or it is declined |
//! | project_ref | the repository's refs are made like the rows | the verdict |
//! | tidy | what the build left is removed | the job's end |
//!
//! A step that cannot go on writes its cause down and goes to `give_up`: the cause is said, the build and its release
//! have failed, and `tidy` removes what there is of them.

mod export;

use paas_domain::{BuildId, ReleaseId, ReleaseStatus};
use paas_ports::{BuildFailure, BuildSpec, BuildVerdict, BuiltImage, LogSource, PortError};
use paas_store::{App, Build, JobLease, StoreError};
use serde::{Deserialize, Serialize};

use super::output::Section;
use super::{JobError, Next, point, release_phase, rollout, steps, still_ours};
use crate::crash_point::Side;
use crate::cx::Cx;
use crate::ops::accept_build::Verdict;
use crate::ops::cut_release::{ReleaseParts, cut_release};

steps! {
    /// The steps of this job.
    BuildStep {
        StageSource = "stage_source": "The commit's tree becomes one tar in Objects.",
        RunBuild = "run_build": "The buildpacks run.",
        ExportImage = "export_image": "The image is made and stored.",
        CutRelease = "cut_release": "The release is cut.",
        RunReleasePhase = "run_release_phase": "The release command runs, when there is one.",
        Promote = "promote": "The release becomes the current one, or failed.",
        AwaitRollout = "await_rollout": "The push waits until the new code serves.",
        ProjectRef = "project_ref": "The repository's refs follow the rows.",
        GiveUp = "give_up": "The build and its release have failed for a cause that an earlier step wrote down.",
        Tidy = "tidy": "What the build left is removed.",
    }
}

/// What the steps of this job write down for later ones.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BuildMemo {
    /// What the pusher hears, once it is known.
    pub verdict: Option<Verdict>,
    built: Option<BuiltImage>,
    #[serde(default)]
    exported_again: bool,
    #[serde(default)]
    built_again: u8,
    release: Option<ReleaseId>,
    phase_exit: Option<i32>,
    phase_cause: Option<String>,
    gave_up: Option<String>,
    rollout_since: Option<paas_domain::Timestamp>,
}

// The sections of the output, in the order in which readers see them.
/// What a push is told that waits for its builder.
pub(crate) const WAIT: u8 = 0;
const HEAD: u8 = 1;
const BUILD: u8 = 2;
const EXPORT: u8 = 3;
const LAUNCH: u8 = 4;
const PHASE: u8 = 5;
/// How it ended.
pub(crate) const VERDICT: u8 = 6;

/// How often a build is run again because its builder went away under it.
const BUILT_AGAIN: u8 = 3;

/// What every step needs.
struct Work<'a> {
    cx: &'a Cx,
    lease: &'a JobLease,
    app: App,
    build: Build,
    memo: BuildMemo,
}

pub(super) async fn step(cx: &Cx, lease: &JobLease) -> Result<Next, JobError> {
    let step = BuildStep::parse(&lease.job.step).ok_or_else(|| JobError::GiveUp("an unknown step".to_owned()))?;
    let work = load(cx, lease).await?;
    point(cx, step.as_str(), Side::BeforeEffect).await;
    still_ours(cx, lease).await?;
    match step {
        BuildStep::StageSource => work.stage_source().await,
        BuildStep::RunBuild => work.run_build().await,
        BuildStep::ExportImage => work.export_image().await,
        BuildStep::CutRelease => work.cut_release().await,
        BuildStep::RunReleasePhase => work.run_release_phase().await,
        BuildStep::Promote => work.promote().await,
        BuildStep::AwaitRollout => work.await_rollout().await,
        BuildStep::ProjectRef => work.project_ref().await,
        BuildStep::GiveUp => work.give_up().await,
        BuildStep::Tidy => work.tidy().await,
    }
}

async fn load<'a>(cx: &'a Cx, lease: &'a JobLease) -> Result<Work<'a>, JobError> {
    let id: BuildId = lease.job.subject.parse().map_err(|_| JobError::GiveUp("the job names no build".to_owned()))?;
    let memo = serde_json::from_str(&lease.job.memo).unwrap_or_default();
    let mut uow = cx.store.read().await?;
    let app = uow.app(&lease.scope).await?;
    let build = match uow.build(&lease.scope, &id).await {
        Err(StoreError::NotFound(_)) => return Err(JobError::GiveUp("the build is gone".to_owned())),
        build => build?,
    };
    Ok(Work { cx, lease, app, build, memo })
}

impl Work<'_> {
    async fn advance(&self, uow: &mut paas_store::Uow, to: BuildStep) -> Result<(), JobError> {
        let memo = serde_json::to_string(&self.memo).map_err(|e| JobError::GiveUp(e.to_string()))?;
        Ok(uow.advance_job(self.lease, to.as_str(), &memo, self.cx.now()).await?)
    }

    async fn spec(&self) -> Result<BuildSpec, JobError> {
        let source = self.cx.objects.local(self.build.source_key.as_deref().unwrap_or_default()).await?;
        let mut uow = self.cx.store.read().await?;
        let config = uow.config(&self.lease.scope, &self.app.head_config).await?.vars;
        Ok(BuildSpec {
            app: self.app.id.clone(),
            build: self.build.id.clone(),
            source,
            commit: self.build.commit.clone(),
            config,
            timeout: self.cx.settings.build_timeout,
        })
    }

    async fn stage_source(self) -> Result<Next, JobError> {
        let output = Section::begin(self.cx, &self.build.output, HEAD).await?;
        let key = match (&self.build.source_key, &self.build.commit) {
            (Some(key), _) => key.clone(),
            (None, Some(commit)) => {
                let key = format!("sources/{}/{}.tar", self.app.id, self.build.id);
                let scratch = self.cx.objects.scratch()?.join(format!("{}.tar", self.build.id));
                self.cx.repositories.archive(&self.app.id, commit, &scratch).await?;
                // That may have taken a while.
                still_ours(self.cx, self.lease).await?;
                self.cx.objects.put_file(&key, &scratch).await?;
                key
            }
            (None, None) => return Err(JobError::GiveUp("the build has no source".to_owned())),
        };
        output.line("Compressing source files... done.").await?;
        output.line("Building source:").await?;
        output.line("").await?;
        point(self.cx, BuildStep::StageSource.as_str(), Side::BeforeCommit).await;
        let mut uow = self.cx.begin().await?;
        uow.set_build_source(&self.lease.scope, &self.build.id, &key).await?;
        self.advance(&mut uow, BuildStep::RunBuild).await?;
        uow.save().await?;
        Ok(Next::Step)
    }

    async fn run_build(self) -> Result<Next, JobError> {
        let spec = self.spec().await?;
        if let Err(error) = export::read_procfile(&spec.source).await {
            return self.fail_build(&BuildFailure::Source(error)).await;
        }
        let output = Section::begin(self.cx, &self.build.output, BUILD).await?;
        let builder = &self.cx.builder;
        let verdict = output.carry(async |sender| builder.build(&spec, sender).await).await?;
        point(self.cx, BuildStep::RunBuild.as_str(), Side::BeforeCommit).await;
        match verdict {
            BuildVerdict::Failed(failure) => self.fail_build(&failure).await,
            BuildVerdict::Succeeded => {
                let mut uow = self.cx.begin().await?;
                self.advance(&mut uow, BuildStep::ExportImage).await?;
                uow.save().await?;
                Ok(Next::Step)
            }
        }
    }

    async fn cut_release(mut self) -> Result<Next, JobError> {
        let built = self.memo.built.clone().ok_or_else(|| JobError::GiveUp("no image was exported".to_owned()))?;
        // Nothing named it so far: a collection that was under way when this job began may have taken it for a leftover.
        if !self.cx.registry.resolve(&self.app.id, &built.image).await? {
            return self.export_again().await;
        }
        point(self.cx, BuildStep::CutRelease.as_str(), Side::BeforeCommit).await;
        let now = self.cx.now();
        let mut uow = self.cx.begin().await?;
        let app = uow.lock_app(&self.lease.scope).await?;
        let image = uow.image(&self.lease.scope, &built.image.0).await?;
        let account = uow.account(&self.build.account).await?;
        let what = self.build.commit.as_deref().map(|commit| &commit[..commit.len().min(8)]);
        let parts = ReleaseParts {
            image: Some(image.id.clone()),
            config: app.head_config,
            process_types: image.process_types,
            description: what.map_or_else(|| "Deploy".to_owned(), |what| format!("Deploy {what}")),
            account: account.id,
            build: Some(self.build.id.clone()),
            commit: self.build.commit.clone(),
        };
        let description = parts.description.clone();
        let release = cut_release(&mut uow, &self.lease.scope, parts, now).await?;
        uow.succeed_build(&self.lease.scope, &self.build.id, &image.id, &release.id, now).await?;
        self.memo.release = Some(release.id.clone());
        let to =
            if release.status == ReleaseStatus::Pending { BuildStep::RunReleasePhase } else { BuildStep::AwaitRollout };
        if to == BuildStep::AwaitRollout {
            self.memo.rollout_since = Some(now);
        }
        self.advance(&mut uow, to).await?;
        uow.save().await?;
        self.cx.kick();
        let by = format!("by user {}", account.email);
        for line in [
            format!("{description} {by}"),
            format!("Release {} created {by}", release.version),
            "Build succeeded".to_owned(),
        ] {
            self.cx.say(&self.app.id, LogSource::App, "api", line).await;
        }
        Ok(Next::Step)
    }

    async fn run_release_phase(mut self) -> Result<Next, JobError> {
        let release = self.release().await?;
        self.launch_section(&release).await?;
        let output = Section::begin(self.cx, &self.build.output, PHASE).await?;
        output.write("Running release command...\n\n").await?;
        let Some(end) = release_phase::run(self.cx, &self.lease.scope, &release, Some(&output)).await? else {
            return Ok(Next::Wait(std::time::Duration::from_millis(200)));
        };
        point(self.cx, BuildStep::RunReleasePhase.as_str(), Side::BeforeCommit).await;
        let mut uow = self.cx.begin().await?;
        release_phase::end_dyno(&mut uow, &self.lease.scope, &release, Some(end.exit), self.cx.now()).await?;
        self.memo.phase_exit = Some(end.exit);
        self.memo.phase_cause = end.cause;
        self.advance(&mut uow, BuildStep::Promote).await?;
        uow.save().await?;
        Ok(Next::Step)
    }

    async fn promote(mut self) -> Result<Next, JobError> {
        let exit = self.memo.phase_exit.unwrap_or(0);
        let release = self.release().await?;
        point(self.cx, BuildStep::Promote.as_str(), Side::BeforeCommit).await;
        if exit != 0 {
            let current = self.cx.store.read().await?.current_release(&self.lease.scope).await?;
            let served_before = current.is_some_and(|current| current.image.is_some());
            let output = Section::begin(self.cx, &self.build.output, VERDICT).await?;
            let cause = self.memo.phase_cause.as_deref();
            output.write(release_phase::failure_text(&release, exit, cause, served_before)).await?;
            self.push_rejected(&output).await?;
        }
        let mut uow = self.cx.begin().await?;
        release_phase::finish(self.cx, &mut uow, &self.lease.scope, &release, exit).await?;
        let to = if exit == 0 {
            self.memo.rollout_since = Some(self.cx.now());
            BuildStep::AwaitRollout
        } else {
            let cause = self.memo.phase_cause.clone();
            let reason = cause.unwrap_or_else(|| format!("release command exited with status {exit}"));
            self.memo.verdict = Some(Verdict::Declined(reason));
            BuildStep::Tidy
        };
        self.advance(&mut uow, to).await?;
        uow.save().await?;
        self.cx.kick();
        if exit != 0 {
            self.cx.outputs.close(&self.build.output).await?;
        }
        Ok(Next::Step)
    }

    async fn await_rollout(mut self) -> Result<Next, JobError> {
        let release = self.release().await?;
        if release.output.is_none() {
            self.launch_section(&release).await?;
        }
        let output = Section::begin(self.cx, &self.build.output, VERDICT).await?;
        output.write("Verifying deploy...").await?;
        let since = self.memo.rollout_since.unwrap_or(self.build.updated_at);
        let end = rollout::wait(self.cx, &self.lease.scope, &release, since, &output).await?;
        let declined = match &end {
            rollout::End::Serving => {
                output.write(" done.\n").await?;
                None
            }
            rollout::End::StillStarting => {
                output.write(" done.\n").await?;
                output.line(" !     The new dynos are still starting; watch them with `ps` and `logs --tail`.").await?;
                None
            }
            rollout::End::Superseded(newer) => {
                output.write(" failed.\n\n").await?;
                output.write(rollout::superseded_text(&release, newer)).await?;
                Some(format!("superseded by {}", newer.version))
            }
            rollout::End::Failed(reason) => {
                output.write(" failed.\n\n").await?;
                output.write(rollout::failure_text(self.cx, &self.app.id, &release, reason).await).await?;
                Some(reason.reason.clone())
            }
        };
        if declined.is_some() {
            self.push_rejected(&output).await?;
        }
        point(self.cx, BuildStep::AwaitRollout.as_str(), Side::BeforeCommit).await;
        let mut uow = self.cx.begin().await?;
        let to = if let Some(reason) = declined {
            self.memo.verdict = Some(Verdict::Declined(reason));
            BuildStep::Tidy
        } else {
            // Nothing is cut while we hold the app's row. What was cut since we looked is looked at first.
            uow.lock_app(&self.lease.scope).await?;
            let successor = rollout::successor(&mut uow, &self.lease.scope, &release).await?;
            if let rollout::Successor::Other(_) = successor {
                return Ok(Next::Wait(std::time::Duration::ZERO));
            }
            if let (Some(branch), Some(commit)) = (&self.build.branch, &self.build.commit) {
                uow.set_branch(&self.lease.scope, branch, commit, self.cx.now()).await?;
            }
            BuildStep::ProjectRef
        };
        self.advance(&mut uow, to).await?;
        uow.save().await?;
        if to == BuildStep::Tidy {
            self.cx.outputs.close(&self.build.output).await?;
        }
        Ok(Next::Step)
    }

    async fn project_ref(mut self) -> Result<Next, JobError> {
        if self.build.branch.is_some() {
            crate::git::refresh(self.cx, &self.lease.scope).await?;
        }
        self.cx.outputs.close(&self.build.output).await?;
        point(self.cx, BuildStep::ProjectRef.as_str(), Side::BeforeCommit).await;
        let mut uow = self.cx.begin().await?;
        self.memo.verdict = Some(Verdict::Deployed);
        self.advance(&mut uow, BuildStep::Tidy).await?;
        uow.save().await?;
        Ok(Next::Step)
    }

    async fn tidy(self) -> Result<Next, JobError> {
        self.cx.outputs.close(&self.build.output).await?;
        self.cx.builder.tidy(&self.app.id, &self.build.id).await?;
        if let Some(key) = &self.build.source_key {
            self.cx.objects.remove(key).await?;
        }
        if let Some(release) = &self.memo.release {
            release_phase::forget(self.cx, &self.lease.scope, release).await?;
        }
        point(self.cx, BuildStep::Tidy.as_str(), Side::BeforeCommit).await;
        let error = match &self.memo.verdict {
            Some(Verdict::Declined(reason)) => Some(reason.as_str()),
            _ => None,
        };
        let mut uow = self.cx.begin().await?;
        uow.finish_job(self.lease, error, self.cx.now()).await?;
        uow.save().await?;
        Ok(Next::Done)
    }

    /// The build is failed if it is still pending, the release if it is.
    async fn give_up(mut self) -> Result<Next, JobError> {
        let cause = self.memo.gave_up.clone().unwrap_or_else(|| "the deploy failed".to_owned());
        let release = match &self.memo.release {
            Some(_) => Some(self.release().await?),
            None => None,
        };
        // The text is a courtesy; the rows are what counts.
        if let Ok(output) = Section::begin(self.cx, &self.build.output, VERDICT).await {
            let _ = output.write(format!("\n !     {cause}\n\n !     Push failed\n")).await;
            let _ = self.push_rejected(&output).await;
        }
        if let Some(release) = &release {
            release_phase::say_cause(self.cx, release, &cause).await;
        }
        point(self.cx, BuildStep::GiveUp.as_str(), Side::BeforeCommit).await;
        let now = self.cx.now();
        let mut uow = self.cx.begin().await?;
        uow.fail_build(&self.lease.scope, &self.build.id, &cause, now).await?;
        if let Some(release) = &release {
            release_phase::fail(&mut uow, &self.lease.scope, release, now).await?;
        }
        self.memo.verdict.get_or_insert(Verdict::Declined(cause));
        self.advance(&mut uow, BuildStep::Tidy).await?;
        uow.save().await?;
        self.cx.kick();
        Ok(Next::Step)
    }

    async fn release(&self) -> Result<paas_store::Release, JobError> {
        let id = self.memo.release.as_ref().ok_or_else(|| JobError::GiveUp("no release was cut".to_owned()))?;
        Ok(self.cx.store.read().await?.release(&self.lease.scope, id).await?)
    }

    /// `-----> Launching...` and what follows it: written once the release exists.
    async fn launch_section(&self, release: &paas_store::Release) -> Result<(), JobError> {
        let output = Section::begin(self.cx, &self.build.output, LAUNCH).await?;
        output.line("-----> Launching...").await?;
        if release.output.is_some() {
            let warning =
                "Release command declared: this new release will not be available until the command succeeds.";
            output.line(&format!(" !     {warning}")).await?;
        }
        output.line(&format!("       Released {}", release.version)).await?;
        let host = crate::ops::create_app::own_hostname(self.cx, &self.app.name)?;
        let url = self.cx.settings.web_url(host.as_str());
        output.line(&format!("       {url} deployed to paas")).await?;
        output.line("").await?;
        Ok(())
    }

    async fn push_rejected(&self, output: &Section<'_>) -> Result<(), PortError> {
        output.line("").await?;
        output.line(&format!(" !     Push rejected to {}.", self.app.name)).await?;
        output.line("").await
    }

    async fn fail_build(mut self, failure: &BuildFailure) -> Result<Next, JobError> {
        let output = Section::begin(self.cx, &self.build.output, VERDICT).await?;
        output.line("").await?;
        match failure {
            BuildFailure::NotDetected => {
                output.line(" !     No default language could be detected for this app.").await?;
                output.line("       HINT: This occurs when no buildpack recognises the source: it needs a requirements.txt,").await?;
                output
                    .line("       package.json, go.mod, index.html or another file that says what it is, at its top.")
                    .await?;
            }
            BuildFailure::Buildpack(_) => output.line(" !     Push rejected, failed to compile the app.").await?,
            other => output.line(&format!(" !     {other}")).await?,
        }
        output.line("").await?;
        output.line(" !     Push failed").await?;
        output.line("Verifying deploy...").await?;
        self.push_rejected(&output).await?;
        let reason = failure.to_string();
        let mut uow = self.cx.begin().await?;
        uow.fail_build(&self.lease.scope, &self.build.id, &reason, self.cx.now()).await?;
        self.memo.verdict = Some(Verdict::Declined(reason));
        self.advance(&mut uow, BuildStep::Tidy).await?;
        uow.save().await?;
        self.cx.outputs.close(&self.build.output).await?;
        self.cx.say(&self.app.id, LogSource::App, "api", "Build failed -- check your build output").await;
        Ok(Next::Step)
    }
}

/// Writes down that a job cannot go on, and why; its next steps do the rest. A job that cannot even do those ends here.
pub(super) async fn give_up(cx: &Cx, lease: &JobLease, cause: &str) -> Result<Next, StoreError> {
    let mut memo: BuildMemo = serde_json::from_str(&lease.job.memo).unwrap_or_default();
    let mut uow = cx.begin().await?;
    if [BuildStep::GiveUp, BuildStep::Tidy].iter().any(|step| step.as_str() == lease.job.step) {
        uow.finish_job(lease, Some(cause), cx.now()).await?;
        uow.save().await?;
        return Ok(Next::Done);
    }
    if lease.job.step == BuildStep::ProjectRef.as_str() {
        // The new code serves and the branch has moved. Refs are made like the rows before they are next shown.
        memo.verdict = Some(Verdict::Deployed);
        let memo = serde_json::to_string(&memo).unwrap_or_else(|_| lease.job.memo.clone());
        uow.advance_job(lease, BuildStep::Tidy.as_str(), &memo, cx.now()).await?;
        uow.save().await?;
        return Ok(Next::Step);
    }
    memo.gave_up.get_or_insert_with(|| cause.to_owned());
    let memo = serde_json::to_string(&memo).unwrap_or_else(|_| lease.job.memo.clone());
    uow.advance_job(lease, BuildStep::GiveUp.as_str(), &memo, cx.now()).await?;
    uow.save().await?;
    Ok(Next::Step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_that_need_a_builder_are_the_first_ones() {
        let names: Vec<&str> = BuildStep::ALL.iter().map(|step| step.as_str()).collect();
        assert_eq!(names[..3], paas_store::BUILDER_STEPS);
        assert_eq!(names[3], BuildStep::CutRelease.as_str());
    }

    #[test]
    fn the_steps_that_hold_something_are_steps() {
        let phase = crate::jobs::ReleasePhaseStep::Run.as_str();
        let held = [BuildStep::ExportImage.as_str(), BuildStep::RunReleasePhase.as_str(), phase];
        assert_eq!(held, paas_store::HELD_STEPS);
    }
}
