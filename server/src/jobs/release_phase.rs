//! The release phase: the Procfile's `release` command, once, before its release becomes the current one.
//!
//! Shared by the build's job and by the job of releases that no build cuts.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::StreamExt as _;
use paas_domain::{DynoKind, DynoState, ReleaseId, ReleaseStatus, Timestamp};
use paas_ports::{ImageRef, LogLine, LogSource, OneOffSpec, TailQuery};
use paas_store::{AppScope, Dyno, Release, StoreError, Uow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::JobError;
use super::output::Section;
use crate::cx::Cx;
use crate::ops::cut_release::make_current;

/// How a phase ended.
pub(super) struct PhaseEnd {
    /// The command's exit status; not zero when it never ran.
    pub(super) exit: i32,
    /// Why it could not run, or not to its end, when that says more than the status.
    pub(super) cause: Option<String>,
}

// The sections of a release's output.
const OWN: u8 = 0;
const CAUSE: u8 = 1;

/// Why a command is ended that has had its time; Heroku's words.
const OVER_TIME: &str = "Release phase exceeded its time limit";
/// How often the clock is looked at while the command runs.
const TICK: Duration = Duration::from_millis(250);
/// How long a command may take to end once it was stopped: twice what it is given before it is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(60);

/// Runs the phase of a pending release to its end; `None` while an older release's phase has to come first: phases run
/// strictly in the order of versions.
///
/// The command has its time from its start on, however long it waited for its turn. What goes wrong on the way for a
/// passing reason is an error: called again, this goes on with the same dyno and writes its output anew.
pub(super) async fn run(
    cx: &Cx,
    app: &AppScope,
    release: &Release,
    build_output: Option<&Section<'_>>,
) -> Result<Option<PhaseEnd>, JobError> {
    let (dyno, spec) = {
        let mut uow = cx.store.read().await?;
        let releases = uow.releases(app).await?;
        if releases.iter().any(|r| r.version < release.version && r.status == ReleaseStatus::Pending) {
            return Ok(None);
        }
        let dyno = phase_dyno(&mut uow, app, release).await?;
        if let (Some(exit), true) = (dyno.exit_code, dyno.ended_at.is_some()) {
            return Ok(Some(PhaseEnd { exit, cause: None }));
        }
        let config = uow.config(app, &release.config).await?.vars;
        let image = release.image.clone().ok_or_else(|| JobError::GiveUp("the release has no image".to_owned()))?;
        let architecture = uow.image(app, &image).await?.architecture;
        let capacity = uow.app(app).await?.capacity;
        let spec = OneOffSpec {
            app: app.id().clone(),
            name: dyno.name.clone(),
            kind: DynoKind::Release,
            release: release.version,
            image: ImageRef(image),
            command: dyno.command.clone(),
            config,
            config_id: Some(release.config.clone()),
            size: dyno.size,
            architecture,
            capacity,
            attach: true,
            tty: false,
            link: None,
        };
        (dyno, spec)
    };
    cx.runtime.start_once(&dyno.id, &spec).await?;
    let own_output = match &release.output {
        Some(id) => Some(Section::begin(cx, id, OWN).await?),
        None => None,
    };
    let ended = async {
        let cause = copy_output(cx, app, &dyno, own_output.as_ref(), build_output).await?;
        Ok::<_, JobError>((exit(cx, app, &dyno).await?, cause))
    };
    // Whoever was here before may have died as it ended the command.
    let over_time = was_over_time(cx, &dyno);
    if over_time {
        cx.runtime.stop(&dyno.id).await?;
    }
    // A phase that was killed for its time has failed, whatever status it found to exit with.
    let killed = |exit: i32| (if exit == 0 { 1 } else { exit }, Some(OVER_TIME.to_owned()));
    let (exit, cause) = tokio::select! {
        ended = ended => {
            let (exit, cause) = ended?;
            // Asked again: who had the job before may just have ended it.
            let row = cx.store.read().await?.dyno(app, &dyno.id).await?;
            if was_over_time(cx, &row) { killed(exit) } else { (exit, cause) }
        }
        limit = time_is_up(cx, app, &dyno), if !over_time => {
            limit?;
            end_over_time(cx, app, &dyno).await?;
            let exit = tokio::time::timeout(STOPPED_WITHIN, exit(cx, app, &dyno)).await;
            killed(exit.map_err(|_| JobError::GiveUp(format!("{OVER_TIME}, and its command cannot be ended")))??)
        }
    };
    if exit != 0
        && let Some(cause) = &cause
    {
        say_cause(cx, release, cause).await;
    }
    if let Some(id) = &release.output {
        cx.outputs.close(id).await?;
    }
    Ok(Some(PhaseEnd { exit, cause }))
}

/// Ends a command that has had its time. The wish is a row first, so that why it ended is known to whoever goes on.
async fn end_over_time(cx: &Cx, app: &AppScope, dyno: &Dyno) -> Result<(), JobError> {
    let mut uow = cx.begin().await?;
    uow.request_dyno_stop(app, &dyno.id, cx.now()).await?;
    uow.save().await?;
    cx.say(app.id(), LogSource::Heroku, &dyno.name.to_string(), OVER_TIME).await;
    Ok(cx.runtime.stop(&dyno.id).await?)
}

/// Whether the dyno was told to stop because its time was up: nobody else asks so late.
fn was_over_time(cx: &Cx, dyno: &Dyno) -> bool {
    let limit = i64::try_from(cx.settings.release_timeout.as_millis()).unwrap_or(i64::MAX);
    dyno.stop_requested_at.is_some_and(|at| at >= dyno.created_at.plus_ms(limit))
}

/// Waits until the command has had its time; one that has ended has all the time there is.
async fn time_is_up(cx: &Cx, app: &AppScope, dyno: &Dyno) -> Result<(), JobError> {
    let limit = i64::try_from(cx.settings.release_timeout.as_millis()).unwrap_or(i64::MAX);
    let now = cx.now();
    loop {
        // It may have been started by a server that died since, or only after we began to wait.
        let since = match cx.runtime.observe_one(app.id(), &dyno.id).await? {
            Some(seen) if matches!(seen.state, DynoState::Ended | DynoState::Crashed) => std::future::pending().await,
            Some(seen) if seen.state != DynoState::Starting => seen.since,
            _ => now,
        };
        let deadline = since.plus_ms(limit);
        if cx.now() >= deadline {
            return Ok(());
        }
        while cx.now() < deadline {
            tokio::time::sleep(TICK).await;
        }
    }
}

/// Waits for the dyno's exit.
async fn exit(cx: &Cx, app: &AppScope, dyno: &Dyno) -> Result<i32, JobError> {
    loop {
        match cx.runtime.observe_one(app.id(), &dyno.id).await? {
            Some(seen) if matches!(seen.state, DynoState::Ended | DynoState::Crashed) => {
                return Ok(seen.exit_code.unwrap_or(1));
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            // It was started and is gone without a trace: it may have run, so it is not run again.
            None => return Ok(1),
        }
    }
}

/// What the app's log has of the command's lines already. A step that is repeated reads the command's output from its
/// first byte again, and a line that is in the log must not come there twice.
struct Logged {
    stored: VecDeque<String>,
    passed: VecDeque<String>,
    caught_up: bool,
}

impl Logged {
    async fn read(cx: &Cx, app: &AppScope, dyno: &Dyno) -> Result<Self, JobError> {
        let query = TailQuery {
            lines: TailQuery::MAX_LINES,
            source: Some(LogSource::App),
            process: Some(dyno.name.to_string()),
            ..TailQuery::default()
        };
        let stored: VecDeque<String> =
            cx.logs.tail(app.id(), query).await?.map(|tail| tail.line.message).collect().await;
        Ok(Self { caught_up: stored.is_empty(), stored, passed: VecDeque::new() })
    }

    /// Whether this line, the next one of the command's, is not in the log yet. The stored ones may be the last of
    /// many: it has caught up where the lines that passed end as those do.
    fn lacks(&mut self, line: &LogLine) -> bool {
        if self.caught_up {
            return true;
        }
        self.passed.push_back(line.message.clone());
        if self.passed.len() > self.stored.len() {
            self.passed.pop_front();
        }
        self.caught_up = self.passed == self.stored;
        false
    }
}

/// After how much silence it is looked at whether the dyno has ended: a stream that was cut just as it did may never end.
const SILENCE: Duration = Duration::from_secs(3);

/// Copies what the command writes to its own output, to the build's, and to the app's log, until it ends. Answers why
/// it was not started, when it has ended with that.
async fn copy_output(
    cx: &Cx,
    app: &AppScope,
    dyno: &Dyno,
    own: Option<&Section<'_>>,
    of_build: Option<&Section<'_>>,
) -> Result<Option<String>, JobError> {
    let mut logged = Logged::read(cx, app, dyno).await?;
    let mut stream = match cx.runtime.attach(&dyno.id).await {
        Ok(stream) => stream,
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => {
            // It may have come to its end while the server died that it spoke to. What it wrote is in storage.
            let seen = cx.runtime.observe_one(app.id(), &dyno.id).await?;
            return match seen.map(|seen| seen.exit_code) {
                Some(Some(0)) => Ok(None),
                // There is nothing to wait for any more: it never will be started.
                Some(Some(_)) | None => Ok(Some(error.to_string())),
                Some(None) => Err(error.into()),
            };
        }
    };
    // Nobody types at it.
    stream.shutdown().await.map_err(|e| JobError::Retry(e.to_string()))?;
    let mut buffer = vec![0_u8; 16 * 1024];
    let mut line = Vec::new();
    let mut ended = false;
    loop {
        let count = match tokio::time::timeout(SILENCE, stream.read(&mut buffer)).await {
            Ok(read) => read.map_err(|e| JobError::Retry(e.to_string()))?,
            // Twice, so that what it wrote last had the time to come.
            Err(_) if ended => 0,
            Err(_) => {
                let seen = cx.runtime.observe_one(app.id(), &dyno.id).await?;
                ended = seen.is_some_and(|seen| seen.exit_code.is_some());
                continue;
            }
        };
        let bytes = &buffer[..count];
        for section in [own, of_build].into_iter().flatten() {
            if count > 0 {
                section.write(bytes.to_vec()).await?;
            }
        }
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                log_line(cx, dyno, &line).split_into(&mut lines);
                line.clear();
            } else if line.len() < 10_000 {
                line.push(*byte);
            }
        }
        if count == 0 && !line.is_empty() {
            log_line(cx, dyno, &line).split_into(&mut lines);
        }
        lines.retain(|line| logged.lacks(line));
        if !lines.is_empty() {
            cx.logs.append(app.id(), lines).await?;
        }
        if count == 0 {
            return Ok(None);
        }
    }
}

fn log_line(cx: &Cx, dyno: &Dyno, bytes: &[u8]) -> LogLine {
    let message = String::from_utf8_lossy(bytes).trim_end_matches('\r').to_owned();
    LogLine { at: cx.now(), source: LogSource::App, process: dyno.name.to_string(), message }
}

/// The dyno that [`crate::ops::cut_release`] wrote for a release's phase.
async fn phase_dyno(uow: &mut Uow, app: &AppScope, release: &Release) -> Result<Dyno, StoreError> {
    uow.release_dyno(app, release.version).await?.ok_or(StoreError::NotFound("release dyno"))
}

/// Writes the phase's exit; `None` when nobody knows it.
pub(super) async fn end_dyno(
    uow: &mut Uow,
    app: &AppScope,
    release: &Release,
    exit: Option<i32>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let dyno = phase_dyno(uow, app, release).await?;
    uow.end_dyno(app, &dyno.id, exit, now).await
}

/// Writes that a pending release has failed for another reason than its command's exit. One that has ended stays as it is.
pub(super) async fn fail(uow: &mut Uow, app: &AppScope, release: &Release, now: Timestamp) -> Result<(), StoreError> {
    uow.lock_app(app).await?;
    if uow.finish_release(app, &release.id, ReleaseStatus::Failed, now).await? {
        end_dyno(uow, app, release, None, now).await?;
    }
    Ok(())
}

/// Adds to a release's own output why its command did not run, or not to its end. A courtesy: the rows are what counts.
pub(super) async fn say_cause(cx: &Cx, release: &Release, cause: &str) {
    let Some(id) = &release.output else { return };
    if let Ok(section) = Section::begin(cx, id, CAUSE).await {
        let _ = section.line(&format!(" !     {cause}")).await;
        let _ = cx.outputs.close(id).await;
    }
}

/// Ends the pending release: succeeded and current, or failed.
pub(super) async fn finish(
    cx: &Cx,
    uow: &mut Uow,
    app: &AppScope,
    release: &Release,
    exit: i32,
) -> Result<(), StoreError> {
    let now = cx.now();
    uow.lock_app(app).await?;
    let status = if exit == 0 { ReleaseStatus::Succeeded } else { ReleaseStatus::Failed };
    if uow.finish_release(app, &release.id, status, now).await? && exit == 0 {
        make_current(uow, app, release, now).await?;
    }
    Ok(())
}

/// Removes the phase's dyno; one that still runs, because its job gave up, is stopped first. Succeeds when there is none.
pub(super) async fn forget(cx: &Cx, app: &AppScope, release: &ReleaseId) -> Result<(), JobError> {
    let dyno = {
        let mut uow = cx.store.read().await?;
        let release = uow.release(app, release).await?;
        uow.release_dyno(app, release.version).await?
    };
    let Some(dyno) = dyno else { return Ok(()) };
    let seen = cx.runtime.observe_one(app.id(), &dyno.id).await?;
    if seen.is_some_and(|seen| !matches!(seen.state, DynoState::Ended | DynoState::Crashed)) {
        cx.runtime.stop(&dyno.id).await?;
        let ended = tokio::time::timeout(STOPPED_WITHIN, exit(cx, app, &dyno)).await;
        ended.map_err(|_| JobError::GiveUp("the release command cannot be ended".to_owned()))??;
    }
    Ok(cx.runtime.forget(&dyno.id).await?)
}

/// What the pusher reads when the command failed.
pub(super) fn failure_text(release: &Release, exit: i32, cause: Option<&str>, served_before: bool) -> String {
    let version = release.version;
    let cause = cause.map(|cause| format!(" !     {cause}\n")).unwrap_or_default();
    let still = if served_before { "The release that served before still serves. " } else { "" };
    format!(
        "\n !     Release command failed (exit status {exit}): {version} was not deployed.\n{cause} \
         !     {still}See `releases:output {version}`.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(stored: &[&str], said: &[&str]) -> Vec<String> {
        let stored: VecDeque<String> = stored.iter().map(|line| (*line).to_owned()).collect();
        let mut logged = Logged { caught_up: stored.is_empty(), stored, passed: VecDeque::new() };
        let line = |message: &&str| LogLine {
            at: Timestamp(0),
            source: LogSource::App,
            process: "release.3".to_owned(),
            message: (*message).to_owned(),
        };
        let lines = said.iter().map(line).filter(|line| logged.lacks(line));
        lines.map(|line| line.message).collect()
    }

    #[test]
    fn a_line_comes_to_the_log_once() {
        let said = ["one", "one", "two", "three"];
        assert_eq!(lacking(&[], &said), said);
        assert_eq!(lacking(&["one"], &said), ["one", "two", "three"]);
        assert_eq!(lacking(&["one", "one", "two"], &said), ["three"]);
        assert!(lacking(&said, &said).is_empty());
        // Of many lines a log keeps the last.
        assert_eq!(lacking(&["one", "two"], &said), ["three"]);
    }
}
