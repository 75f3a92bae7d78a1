//! Following a build: its output, its report, and how its container ended.

use std::time::Duration;

use bollard::models::ContainerState;
use bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder, LogsOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use paas_domain::{Clock as _, Digest, SystemClock, Timestamp};
use paas_phase::wire::{self, Manifest};
use paas_ports::{BuildFailure, PortError};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use crate::DockerBuilder;
use crate::engine::{failed, is_absent, is_conflict};

/// The most bytes of the helper's report.
const MANIFEST_BYTES: usize = 16 * 1024 * 1024;
/// How long after the end of the output the engine may take to say how a container ended.
const ENDING: Duration = Duration::from_secs(30);

/// How long to wait before a log is read again that could not be followed.
const READ_AGAIN: Duration = Duration::from_millis(300);

impl DockerBuilder {
    /// Sends the whole output, and whatever comes until the build ends. Answers with the helper's last line;
    /// without one, something ended the container before the helper could.
    ///
    /// An engine that can follow no more logs (it needs an inotify instance for each; Linux grants a user 128) ends the
    /// stream at once. Then the log is read again and again.
    pub(crate) async fn follow(&self, name: &str, output: mpsc::Sender<Bytes>) -> Result<Option<Manifest>, PortError> {
        let mut last = LastLine::default();
        let (mut seen, mut running) = (0, true);
        loop {
            let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
            let mut log = self.docker.logs(name, Some(options)).skip(seen);
            while let Some(part) = log.next().await {
                let part = part.map_err(|e| failed("following the build", e))?.into_bytes();
                seen += 1;
                if last.take(&part) {
                    return Ok(last.manifest());
                }
                if !last.begun() {
                    // Nobody listening stops no build.
                    let _ = output.send(part).await;
                }
            }
            if !running {
                return Ok(None);
            }
            tokio::time::sleep(READ_AGAIN).await;
            match self.state(name).await? {
                Some(state) => running = state.running == Some(true),
                None => return Ok(None),
            }
        }
    }

    /// What the helper reported when the build ended. Not to be believed.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Manifest, PortError> {
        let doing = "reading what the build left";
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut log = self.docker.logs(name, Some(options));
        let mut last = LastLine::default();
        while let Some(part) = log.next().await {
            let part = part.map_err(|e| match e {
                e if is_absent(&e) => PortError::NotFound("the build's container".to_owned()),
                e => failed(doing, e),
            })?;
            if last.take(&part.into_bytes()) {
                break;
            }
        }
        last.manifest().ok_or_else(|| PortError::permanent(doing, "it did not say how it ended"))
    }

    /// Waits until a build that reported its end is gone: a moment, or it is made to go.
    pub(crate) async fn settle(&self, name: &str) -> Result<(), PortError> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut ended = self.docker.wait_container(name, Some(options));
        if tokio::time::timeout(ENDING, ended.next()).await.is_err() {
            self.kill(name).await?;
        }
        Ok(())
    }

    pub(crate) async fn kill(&self, name: &str) -> Result<(), PortError> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.docker.kill_container(name, Some(options)).await {
            Ok(()) => Ok(()),
            // It ended by itself a moment ago.
            Err(e) if is_conflict(&e) || is_absent(&e) => Ok(()),
            Err(e) => Err(failed("ending the build", e)),
        }
    }

    /// Why a build failed, from the helper's report and from how the container ended.
    pub(crate) async fn failure(
        &self,
        name: &str,
        report: Option<&Manifest>,
        timeout: Duration,
    ) -> Result<BuildFailure, PortError> {
        self.settle(name).await?;
        let state = self.state(name).await?.ok_or_else(|| lost("it was removed"))?;
        if state.running == Some(true) {
            return Err(lost("its output ended before it did"));
        }
        if state.oom_killed == Some(true) {
            return Ok(BuildFailure::OutOfMemory);
        }
        match report.map(|report| (report.status, report.failed_status)) {
            Some((wire::EXIT_NOT_DETECTED, _)) => Ok(BuildFailure::NotDetected),
            Some((wire::EXIT_BUILDPACK_FAILED, status)) => Ok(BuildFailure::Buildpack(status.unwrap_or(1))),
            Some(_) => Err(PortError::permanent("running the builder's lifecycle", "it failed; the output says why")),
            None if ran_for(&state) >= timeout => Ok(BuildFailure::TimedOut),
            None => {
                // The engine or the machine went down under the build: it is run again.
                self.remove_container(name).await?;
                Err(lost(&format!("it was killed from outside (status {})", state.exit_code.unwrap_or(-1))))
            }
        }
    }

    /// The engine's tar of a path in a container, running or not.
    pub(crate) fn download(&self, name: &str, path: &str) -> impl tokio::io::AsyncRead + Send + Unpin + use<> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let stream = self.docker.download_from_container(name, Some(options)).map_err(std::io::Error::other);
        StreamReader::new(Box::pin(stream))
    }

    pub(crate) async fn state(&self, name: &str) -> Result<Option<ContainerState>, PortError> {
        match self.docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(found) => Ok(Some(found.state.unwrap_or_default())),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(failed("looking for the build container", e)),
        }
    }

    /// The image that a build container was made of.
    pub(crate) async fn image_of(&self, name: &str) -> Result<Digest, PortError> {
        let found = self.docker.inspect_container(name, None::<InspectContainerOptions>).await;
        let found = found.map_err(|e| match e {
            e if is_absent(&e) => PortError::NotFound("the build's container".to_owned()),
            e => failed("looking for the build container", e),
        })?;
        let image = found.image.as_deref().and_then(|id| id.parse().ok());
        image.ok_or_else(|| PortError::permanent("looking for the build container", "it has no image"))
    }
}

/// The helper's last line, out of the parts of a log.
#[derive(Default)]
struct LastLine(Option<Vec<u8>>);

impl LastLine {
    /// Takes a part; whether the line is whole. The engine's parts begin with a line, or go on with one.
    fn take(&mut self, part: &[u8]) -> bool {
        match (&mut self.0, part.strip_prefix(wire::MARK.as_bytes())) {
            (Some(line), _) => line.extend_from_slice(part),
            (None, Some(start)) => self.0 = Some(start.to_vec()),
            (None, None) => return false,
        }
        self.0.as_ref().is_some_and(|line| line.ends_with(b"\n") || line.len() > MANIFEST_BYTES)
    }

    fn begun(&self) -> bool {
        self.0.is_some()
    }

    fn manifest(&self) -> Option<Manifest> {
        serde_json::from_slice(self.0.as_deref()?).ok()
    }
}

fn lost(why: &str) -> PortError {
    PortError::transient("following the build", why)
}

fn instant(text: Option<&str>) -> Option<Timestamp> {
    // The engine writes year 1 for "never".
    Timestamp::parse(text?).filter(|at| at.0 > 0)
}

/// How much of its time a running build has left, counted from its own start.
pub(crate) fn left(state: &ContainerState, timeout: Duration) -> Duration {
    let Some(started) = instant(state.started_at.as_deref()) else { return timeout };
    let ran = SystemClock.now().since_ms(started).max(0);
    timeout.saturating_sub(Duration::from_millis(ran.unsigned_abs()))
}

fn ran_for(state: &ContainerState) -> Duration {
    match (instant(state.started_at.as_deref()), instant(state.finished_at.as_deref())) {
        (Some(started), Some(finished)) => Duration::from_millis(finished.since_ms(started).max(0).unsigned_abs()),
        _ => Duration::ZERO,
    }
}
