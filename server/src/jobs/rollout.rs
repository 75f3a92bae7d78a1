//! Waiting until a release's dynos serve, and saying why they do not.

use futures_util::StreamExt as _;
use paas_domain::{AppId, ProcessType, ReleaseVersion, RolloutState, Timestamp};
use paas_ports::TailQuery;
use paas_store::{AppScope, Release, StoreError};

use crate::cx::Cx;

/// How a wait ended.
pub(crate) enum End {
    /// Every process type that has dynos serves this release or a newer one.
    Serving,
    /// The longest wait is over and they are still on their way.
    StillStarting,
    /// A newer release became the current one before this one served.
    Superseded(ReleaseVersion),
    /// A dyno did not come to serve.
    Failed(Failure),
}

/// Why a rollout failed.
pub(crate) struct Failure {
    pub(super) process_type: ProcessType,
    pub(super) reason: String,
    /// Whether an older release of this process type serves on.
    pub(super) served_before: bool,
}

/// Waits for a release to serve, until `cx.settings.rollout_wait` after `since`.
pub(super) async fn wait(cx: &Cx, app: &AppScope, release: &Release, since: Timestamp) -> Result<End, StoreError> {
    let deadline = since.plus_ms(i64::try_from(cx.settings.rollout_wait.as_millis()).unwrap_or(i64::MAX));
    loop {
        let changed = cx.kicks.changed.notified();
        if let Some(end) = look(cx, app, release).await? {
            return Ok(end);
        }
        if cx.now() >= deadline {
            return Ok(End::StillStarting);
        }
        // The timer is for changes that another server makes, and for the deadline.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(250), changed).await;
    }
}

/// How a release's rollout stands; `None` while its dynos are on their way.
pub(crate) async fn look(cx: &Cx, app: &AppScope, release: &Release) -> Result<Option<End>, StoreError> {
    let mut uow = cx.store.read().await?;
    let services = uow.services(app).await?;
    let formation = uow.formation(app).await?;
    let current = uow.current_release(app).await?;
    let mut serving = true;
    for line in formation {
        if line.quantity.get() == 0 || !release.process_types.contains_key(&line.process_type) {
            continue;
        }
        let service = services.iter().find(|service| service.process_type == line.process_type);
        let Some(service) = service.filter(|s| s.target_release >= Some(release.version)) else {
            serving = false;
            continue;
        };
        if service.serving_release >= Some(release.version) {
            continue;
        }
        serving = false;
        let of_this = service.target_release == Some(release.version);
        // After its first failure a rollout is tried again by the crash ladder: it may look as if it rolled.
        if of_this && (service.state == RolloutState::Failed || service.crashes > 0) {
            let reason = service.reason.clone().unwrap_or_else(|| "a dyno did not start".to_owned());
            let served_before = service.serving_release.is_some();
            return Ok(Some(End::Failed(Failure { process_type: line.process_type, reason, served_before })));
        }
    }
    if serving {
        return Ok(Some(End::Serving));
    }
    let newer = current.filter(|current| current.version > release.version);
    Ok(newer.map(|newer| End::Superseded(newer.version)))
}

/// What the pusher reads: the cause, the last lines that the dynos wrote, and what to do.
pub(super) async fn failure_text(cx: &Cx, app: &AppId, release: &Release, failure: &Failure) -> String {
    let mut text = format!(" !     {} did not start: {}\n", release.version, failure.reason);
    let query = TailQuery { lines: 20, process: Some(failure.process_type.to_string()), ..TailQuery::default() };
    if let Ok(lines) = cx.logs.tail(app, query).await {
        let lines: Vec<String> = lines.map(|tail| format!("       {}\n", tail.line)).collect().await;
        if !lines.is_empty() {
            text.push_str(" !     The last lines of its log:\n");
            text.extend(lines);
        }
    }
    text.push_str(match failure.served_before {
        true => " !     The release that served before still serves. Fix the cause and push again.\n",
        false => " !     Fix the cause and push again.\n",
    });
    text
}
