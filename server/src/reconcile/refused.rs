//! What a pass that did not end leaves behind: its cause on the app, where its people see it.

use paas_domain::{ProcessType, RolloutState, Timestamp};
use paas_ports::LogSource;
use paas_store::{AppLease, Service, StoreError};

use super::TOLD_AFTER;
use super::pass::{PassError, Wish};
use crate::cx::Cx;

/// What to tell the app's people; nothing while it may well pass by itself.
pub(super) fn reason(error: &PassError, failed_before: u32) -> Option<String> {
    match error {
        PassError::Port(port) if !port.is_transient() || failed_before >= TOLD_AFTER => Some(port.to_string()),
        _ => None,
    }
}

/// Writes the cause into the rollout of each process type that is on its way, and frees the app until `again`.
pub(super) async fn write(
    cx: &Cx,
    lease: &AppLease,
    reason: Option<String>,
    again: Timestamp,
) -> Result<(), StoreError> {
    let failed = match &reason {
        Some(reason) => failed_services(&Wish::read(cx, lease).await?, reason, cx.now()),
        None => Vec::new(),
    };
    let mut uow = cx.begin().await?;
    uow.release_failed_app(lease, again).await?;
    for service in &failed {
        uow.put_service(&lease.scope, service).await?;
    }
    uow.save().await?;
    cx.kick();
    if let Some(reason) = reason.filter(|_| !failed.is_empty()) {
        cx.say(lease.scope.id(), LogSource::Heroku, "platform", format!("Error: {reason}")).await;
    }
    Ok(())
}

/// The process types whose rollout this cause holds up and that do not say so yet.
fn failed_services(wish: &Wish, reason: &str, now: Timestamp) -> Vec<Service> {
    let version = wish.code().map(|release| release.version);
    let of_type = |(process_type, _): (&ProcessType, &String)| {
        let before = wish.services.iter().find(|service| service.process_type == *process_type);
        if before.is_some_and(|row| row.serving_release == version || row.reason.as_deref() == Some(reason)) {
            return None;
        }
        Some(Service {
            process_type: process_type.clone(),
            target_release: version,
            serving_release: before.and_then(|row| row.serving_release),
            state: RolloutState::Failed,
            reason: Some(reason.to_owned()),
            crashes: before.map_or(0, |row| row.crashes),
            next_try_at: None,
            updated_at: now,
        })
    };
    wish.types().filter_map(of_type).collect()
}
