//! What a pass that did not come to its end leaves behind: its cause on the app, where its people see it.
//!
//! A step that is refused for good keeps no other from being done ([`Refusals`]): a host that the balancer does not take
//! must not hold up a scale. The cause is said in the app's log, once for each wish, and on the rollouts that it holds up.

use paas_domain::Timestamp;
use paas_ports::{LogSource, PortError};
use paas_store::{AppLease, Service, StoreError};

use super::TOLD_AFTER;
use super::pass::{PassError, Wish, sooner};
use super::service;
use crate::cx::Cx;

/// The steps of one pass that were refused for good, and why.
#[derive(Default)]
pub(super) struct Refusals(Vec<PortError>);

impl Refusals {
    /// What a step gave; nothing when it was refused for good, which is kept for the pass's end.
    ///
    /// # Errors
    /// What ends the pass: a failure that another try may mend, or a wish that is not the newest any more.
    pub(super) fn keep<T>(&mut self, step: Result<T, PassError>) -> Result<Option<T>, PassError> {
        match step {
            Err(PassError::Port(cause)) if is_lasting(&cause) => {
                self.0.push(cause);
                Ok(None)
            }
            step => step.map(Some),
        }
    }

    /// Why the last step that was refused was.
    pub(super) fn last(&self) -> Option<String> {
        self.0.last().map(ToString::to_string)
    }

    /// How the pass ends: the first refusal is its cause, since what followed may be because of it.
    pub(super) fn end(self, look_again: Option<Timestamp>) -> Result<(), PassError> {
        self.0.into_iter().next().map_or(Ok(()), |cause| Err(PassError::Refused { cause, look_again }))
    }

    /// Whether nothing was refused.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_lasting(cause: &PortError) -> bool {
    !cause.is_transient() && !matches!(cause, PortError::Superseded)
}

/// What to tell the app's people; nothing while it may well pass by itself.
fn reason(error: &PassError, failed_before: u32) -> Option<String> {
    match error {
        PassError::Port(cause) if is_lasting(cause) || failed_before >= TOLD_AFTER => Some(cause.to_string()),
        PassError::Refused { cause, .. } => Some(cause.to_string()),
        PassError::Port(_) | PassError::Store(_) => None,
    }
}

/// Says the cause, writes it into the rollouts that it holds up, and frees the app until `again`, or until there is
/// something to look at sooner.
pub(super) async fn write(cx: &Cx, lease: &AppLease, error: &PassError, again: Timestamp) -> Result<(), StoreError> {
    let (mut failed, mut told) = (Vec::new(), None);
    if let Some(reason) = reason(error, lease.failed_passes) {
        let wish = Wish::read(cx, lease).await?;
        // A pass that was refused went on with the rest, and has written what it found.
        if !matches!(error, PassError::Refused { .. }) {
            failed = held_up(&wish, &reason, cx.now());
        }
        let news = format!("{} {reason}", wish.app.generation.0);
        // Nobody reads the log of an app that goes.
        if wish.app.deleted_at.is_none() && lease.told.as_ref() != Some(&news) {
            cx.say(lease.scope.id(), LogSource::Heroku, "platform", format!("Error: {reason}")).await;
        }
        told = Some(news);
    }
    let again = match error {
        PassError::Refused { look_again, .. } => sooner(Some(again), *look_again).unwrap_or(again),
        PassError::Port(_) | PassError::Store(_) => again,
    };
    let mut uow = cx.begin().await?;
    uow.release_failed_app(lease, again, told.as_deref()).await?;
    for service in &failed {
        uow.put_service(&lease.scope, service).await?;
    }
    uow.save().await?;
    cx.kick();
    Ok(())
}

/// The process types whose rollout this cause holds up and that do not say so yet.
fn held_up(wish: &Wish, reason: &str, now: Timestamp) -> Vec<Service> {
    let version = wish.code().map(|release| release.version);
    let waits = |row: &&Service| row.serving_release == version || row.reason.as_deref() == Some(reason);
    let of_type = wish.types().map(|(process_type, _)| process_type);
    let held = of_type.filter(|t| !wish.services.iter().any(|row| row.process_type == **t && waits(&row)));
    held.map(|process_type| service::refused(wish, process_type, reason, now)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting() -> PortError {
        PortError::permanent("changing the rules", "not authorized")
    }

    #[test]
    fn a_lasting_refusal_is_kept_and_anything_else_ends_the_pass() {
        let mut refusals = Refusals::default();
        assert!(matches!(refusals.keep(Ok(7)), Ok(Some(7))));
        assert!(refusals.is_empty() && refusals.last().is_none());
        assert!(matches!(refusals.keep::<()>(Err(lasting().into())), Ok(None)));
        let gone = PortError::NotFound("the image".to_owned());
        assert!(matches!(refusals.keep::<()>(Err(gone.into())), Ok(None)));
        for ends in [PortError::transient("changing the rules", "busy"), PortError::Superseded] {
            assert!(refusals.keep::<()>(Err(ends.into())).is_err());
        }
        assert!(refusals.keep::<()>(Err(StoreError::Fenced.into())).is_err());
        assert_eq!(refusals.last().as_deref(), Some("the image is not there"));
        let ended = refusals.end(Some(Timestamp(5))).expect_err("the first of them");
        assert!(matches!(ended, PassError::Refused { look_again: Some(Timestamp(5)), .. }), "{ended}");
        assert_eq!(ended.to_string(), "changing the rules: not authorized");
    }

    #[test]
    fn what_passes_by_itself_is_told_only_when_it_does_not() {
        let busy = PassError::Port(PortError::transient("changing the rules", "busy"));
        assert_eq!(reason(&busy, 0), None);
        assert_eq!(reason(&busy, TOLD_AFTER).as_deref(), Some("changing the rules: busy"));
        let refused = PassError::Refused { cause: lasting(), look_again: None };
        for error in [PassError::Port(lasting()), refused] {
            assert_eq!(reason(&error, 0).as_deref(), Some("changing the rules: not authorized"));
        }
        // A newer wish is somebody's who knows, and a database that does not answer is nothing of the app's.
        assert_eq!(reason(&PassError::Port(PortError::Superseded), 0), None);
        assert_eq!(reason(&PassError::Store(StoreError::Fenced), 0), None);
    }
}
