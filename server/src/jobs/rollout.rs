//! Waiting until a release's dynos serve, and saying why they do not.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use paas_domain::{AppId, DynoKind, DynoName, ProcessType, ReleaseVersion, RolloutState, Timestamp};
use paas_ports::{LogLine, TailQuery};
use paas_store::{AppScope, Dyno, Release, Service, StoreError, Uow};

use super::JobError;
use super::output::Section;
use crate::cx::Cx;

/// How a wait ended.
pub(crate) enum End {
    /// Every process type that has dynos serves this release's code.
    Serving,
    /// The longest wait is over and they are still on their way.
    StillStarting,
    /// A newer release with other code is the current one: this code is not what is to serve.
    Superseded(Newer),
    /// A dyno did not come to serve.
    Failed(Failure),
}

/// The release that took another one's place.
pub(crate) struct Newer {
    pub(super) version: ReleaseVersion,
    pub(super) description: String,
}

/// Why a rollout failed.
pub(crate) struct Failure {
    pub(super) process_type: ProcessType,
    pub(super) reason: String,
    /// Whether an older release of this process type serves on.
    pub(super) served_before: bool,
    /// Whether the platform goes on trying to start its dynos.
    pub(super) is_tried_on: bool,
}

/// Waits for a release to serve, until `cx.settings.rollout_wait` after `since`. What holds it up meanwhile is
/// told in `output` as it becomes known. A release of which not one dyno could be started by then has failed: nobody knows when it will.
pub(super) async fn wait(
    cx: &Cx,
    app: &AppScope,
    release: &Release,
    since: Timestamp,
    output: &Section<'_>,
) -> Result<End, JobError> {
    let deadline = since.plus_ms(i64::try_from(cx.settings.rollout_wait.as_millis()).unwrap_or(i64::MAX));
    let mut told: Option<String> = None;
    loop {
        let changed = cx.kicks.changed.notified();
        if let Some(end) = look(cx, app, release).await? {
            return Ok(end);
        }
        let held_up = held_up(cx, app, release).await?;
        if let Some((failure, _)) = held_up.as_ref().filter(|(failure, _)| told.as_ref() != Some(&failure.reason)) {
            output.write(format!("\n !     {}: {}\n", failure.process_type, failure.reason)).await?;
            told = Some(failure.reason.clone());
        }
        if cx.now() >= deadline {
            return Ok(match held_up {
                Some((failure, false)) => End::Failed(failure),
                _ => End::StillStarting,
            });
        }
        // The timer is for changes that another server makes, and for the deadline.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(250), changed).await;
    }
}

/// What the platform says of dynos of this release that it does not start, and whether it has started any of that
/// process type.
async fn held_up(cx: &Cx, app: &AppScope, release: &Release) -> Result<Option<(Failure, bool)>, StoreError> {
    let mut uow = cx.store.read().await?;
    let services = uow.services(app).await?;
    let rolls = |service: &Service| {
        service.target_release == Some(release.version)
            && service.serving_release < Some(release.version)
            && service.state == RolloutState::Rolling
    };
    for service in services.into_iter().filter(rolls) {
        let Some(reason) = service.reason else { continue };
        let of_this = |dyno: &Dyno| {
            dyno.kind == DynoKind::Service
                && dyno.release == release.version
                && dyno.name.process_type == service.process_type
        };
        let started = uow.dynos(app).await?.iter().any(of_this);
        let served_before = service.serving_release.is_some();
        let failure = Failure { process_type: service.process_type, reason, served_before, is_tried_on: true };
        return Ok(Some((failure, started)));
    }
    Ok(None)
}

/// How a release's rollout stands; `None` while its dynos are on their way.
///
/// A newer release that carries the same code on (a change of config, say) stands for it. One with other code, as a
/// rollback makes it, ends its rollout: nobody will see it to its end.
pub(crate) async fn look(cx: &Cx, app: &AppScope, release: &Release) -> Result<Option<End>, StoreError> {
    let mut uow = cx.store.read().await?;
    let (target, carriers) = match successor(&mut uow, app, release).await? {
        Successor::None => (release.clone(), vec![release.version]),
        Successor::Carries { current, carriers } => (current, carriers),
        Successor::Other(newer) => return Ok(Some(End::Superseded(newer))),
    };
    let services = uow.services(app).await?;
    let formation = uow.formation(app).await?;
    let mut serving = true;
    for line in formation {
        if line.quantity.get() == 0 || !target.process_types.contains_key(&line.process_type) {
            continue;
        }
        let service = services.iter().find(|service| service.process_type == line.process_type);
        let serves = service.and_then(|service| service.serving_release);
        if serves.is_some_and(|serves| carriers.contains(&serves)) {
            continue;
        }
        serving = false;
        let of_this = service.filter(|service| service.target_release == Some(target.version));
        // After its first failure a rollout is tried again by the crash ladder: it may look as if it rolled.
        if let Some(service) = of_this.filter(|s| s.state == RolloutState::Failed || s.crashes > 0) {
            let reason = service.reason.clone().unwrap_or_else(|| "a dyno did not start".to_owned());
            let served_before = service.serving_release.is_some();
            let process_type = line.process_type;
            return Ok(Some(End::Failed(Failure { process_type, reason, served_before, is_tried_on: false })));
        }
    }
    Ok(serving.then_some(End::Serving))
}

/// What came after a release that became the current one.
#[allow(clippy::large_enum_variant)] // one at a time, and looked at once
pub(super) enum Successor {
    /// Nothing: it is the current one, or is about to be.
    None,
    /// A release with the same code is the current one.
    Carries {
        /// That one.
        current: Release,
        /// The versions since, the first one's own included, that have this code.
        carriers: Vec<ReleaseVersion>,
    },
    /// A release with other code is the current one.
    Other(Newer),
}

/// What came after `release`, at this moment of `uow`. Code is the same where the commit is; where there is none, as
/// in an uploaded archive, where the image is.
pub(super) async fn successor(uow: &mut Uow, app: &AppScope, release: &Release) -> Result<Successor, StoreError> {
    let newer = uow.current_release(app).await?.filter(|current| current.version > release.version);
    let Some(current) = newer else { return Ok(Successor::None) };
    let same_code = |other: &Release| match (&other.commit, &release.commit) {
        (Some(other), Some(own)) => other == own,
        _ => other.image == release.image,
    };
    if !same_code(&current) {
        return Ok(Successor::Other(Newer { version: current.version, description: current.description }));
    }
    let all = uow.releases(app).await?;
    let carriers = all.iter().filter(|other| other.version >= release.version && same_code(other));
    Ok(Successor::Carries { carriers: carriers.map(|carrier| carrier.version).collect(), current })
}

/// What the pusher reads when other code took this one's place.
pub(super) fn superseded_text(release: &Release, newer: &Newer) -> String {
    let (version, newer, what) = (release.version, newer.version, &newer.description);
    format!(
        " !     {newer} ({what}) was released before {version} served, and is what is to serve.\n \
         !     Push again if the pushed commit should serve instead.\n"
    )
}

/// How long a dyno's last lines may take to come: that it has ended is known first.
const LAST_LINES: Duration = Duration::from_secs(6);

/// The last lines of the dynos that did not start.
async fn last_lines(cx: &Cx, app: &AppId, failure: &Failure) -> Vec<LogLine> {
    let tail = async |lines, process| {
        let query = TailQuery { lines, process: Some(process), ..TailQuery::default() };
        let tails = cx.logs.tail(app, query).await.ok()?;
        Some(tails.map(|tail| tail.line).collect::<Vec<LogLine>>().await)
    };
    // Of a dyno that has ended, "crashed" comes behind its own last line.
    let ended = failure.reason.split_once(": ").filter(|(_, how)| how.contains("exited"));
    if let Some(dyno) = ended.and_then(|(dyno, _)| dyno.parse::<DynoName>().ok()) {
        let since = Instant::now();
        while let Some(lines) = tail(200, dyno.to_string()).await {
            let said = lines.iter().rev().find(|line| line.message.starts_with("State changed from "));
            if said.is_some_and(|said| said.message.contains("crashed")) || since.elapsed() > LAST_LINES {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    tail(20, failure.process_type.to_string()).await.unwrap_or_default()
}

/// What the pusher reads: the cause, the last lines that the dynos wrote, and what to do.
pub(super) async fn failure_text(cx: &Cx, app: &AppId, release: &Release, failure: &Failure) -> String {
    let mut text = format!(" !     {} did not start: {}\n", release.version, failure.reason);
    let lines = last_lines(cx, app, failure).await;
    if !lines.is_empty() {
        text.push_str(" !     The last lines of its log:\n");
        text.extend(lines.iter().map(|line| format!("       {line}\n")));
    }
    if failure.is_tried_on {
        text.push_str(" !     It is tried on: the release serves as soon as its dynos can be started.\n");
        return text;
    }
    text.push_str(match failure.served_before {
        true => " !     The release that served before still serves. Fix the cause and push again.\n",
        false => " !     Fix the cause and push again.\n",
    });
    text
}
