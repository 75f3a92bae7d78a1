//! The release phase: the Procfile's `release` command, once, before its release becomes the current one.
//!
//! Shared by the build's job and by the job of releases that no build cuts.

use std::collections::VecDeque;

use futures_util::StreamExt as _;
use paas_domain::{DynoKind, DynoState, ReleaseId, ReleaseStatus, Timestamp};
use paas_ports::{ImageRef, LogLine, LogSource, OneOffSpec, TailQuery};
use paas_store::{AppScope, Dyno, Release, StoreError, Uow};
use tokio::io::AsyncReadExt as _;

use super::JobError;
use super::output::Section;
use crate::cx::Cx;
use crate::ops::cut_release::make_current;

/// Runs the phase of a pending release to its end and gives its exit status; `None` while an older release's
/// phase has to come first: phases run strictly in the order of versions.
pub(super) async fn run(
    cx: &Cx,
    app: &AppScope,
    release: &Release,
    build_output: Option<&Section<'_>>,
) -> Result<Option<i32>, JobError> {
    let (dyno, spec) = {
        let mut uow = cx.store.read().await?;
        let releases = uow.releases(app).await?;
        if releases.iter().any(|r| r.version < release.version && r.status == ReleaseStatus::Pending) {
            return Ok(None);
        }
        let dyno = phase_dyno(&mut uow, app, release).await?;
        if let (Some(exit), true) = (dyno.exit_code, dyno.ended_at.is_some()) {
            return Ok(Some(exit));
        }
        let config = uow.config(app, &release.config).await?.vars;
        let image = release.image.clone().ok_or_else(|| JobError::GiveUp("the release has no image".to_owned()))?;
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
            attach: true,
            tty: false,
        };
        (dyno, spec)
    };
    cx.runtime.start_once(&dyno.id, &spec).await?;
    let deadline = dyno.created_at.plus_ms(i64::try_from(cx.settings.release_timeout.as_millis()).unwrap_or(i64::MAX));
    let own_output = match &release.output {
        Some(id) => Some(Section::begin(cx, id, 0).await?),
        None => None,
    };
    let copying = copy_output(cx, app, &dyno, own_output.as_ref(), build_output);
    let limit = std::time::Duration::from_millis(u64::try_from(deadline.since_ms(cx.now())).unwrap_or(0));
    let timed_out = tokio::time::timeout(limit, copying).await.is_err();
    if timed_out {
        cx.runtime.stop(&dyno.id).await?;
        cx.say(app.id(), LogSource::Heroku, &dyno.name.to_string(), "Release phase exceeded its time limit").await;
    }
    loop {
        match cx.runtime.observe_one(app.id(), &dyno.id).await? {
            Some(seen) if matches!(seen.state, DynoState::Ended | DynoState::Crashed) => {
                if let Some(id) = &release.output {
                    cx.outputs.close(id).await?;
                }
                // A phase that was killed for its time has failed, whatever status it found to exit with.
                let exit = seen.exit_code.unwrap_or(1);
                return Ok(Some(if timed_out && exit == 0 { 1 } else { exit }));
            }
            Some(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            // It was started and is gone without a trace: it may have run, so it is not run again.
            None => return Ok(Some(1)),
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

/// After how much silence it is looked at whether the dyno has ended: an engine that was attached to just as it did
/// may never end the stream.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// Copies what the command writes to its own output, to the build's, and to the app's log, until it ends.
async fn copy_output(
    cx: &Cx,
    app: &AppScope,
    dyno: &Dyno,
    own: Option<&Section<'_>>,
    of_build: Option<&Section<'_>>,
) -> Result<(), JobError> {
    let mut logged = Logged::read(cx, app, dyno).await?;
    let mut stream = match cx.runtime.attach(&dyno.id).await {
        Ok(stream) => stream,
        Err(error) => {
            // It may have come to its end while the server died that it spoke to. What it wrote is in storage.
            let seen = cx.runtime.observe_one(app.id(), &dyno.id).await?;
            let done = seen.is_some_and(|seen| seen.exit_code == Some(0));
            return if done { Ok(()) } else { Err(error.into()) };
        }
    };
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
            return Ok(());
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

/// Writes the phase's exit.
pub(super) async fn end_dyno(
    uow: &mut Uow,
    app: &AppScope,
    release: &Release,
    exit: i32,
    now: Timestamp,
) -> Result<(), StoreError> {
    let dyno = phase_dyno(uow, app, release).await?;
    uow.end_dyno(app, &dyno.id, Some(exit), now).await
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

/// Removes the phase's dyno. Succeeds when there is none.
pub(super) async fn forget(cx: &Cx, app: &AppScope, release: &ReleaseId) -> Result<(), JobError> {
    let dyno = {
        let mut uow = cx.store.read().await?;
        let release = uow.release(app, release).await?;
        uow.release_dyno(app, release.version).await?
    };
    if let Some(dyno) = dyno {
        cx.runtime.forget(&dyno.id).await?;
    }
    Ok(())
}

/// What the pusher reads when the command failed.
pub(super) fn failure_text(release: &Release, exit: i32, served_before: bool) -> String {
    let version = release.version;
    let still = if served_before { "The release that served before still serves. " } else { "" };
    format!(
        "\n !     Release command failed (exit status {exit}): {version} was not deployed.\n \
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
