//! `placement:set`: what an app runs on, where the platform has a choice. Heroku has no word for it.

use paas_domain::{Architecture, Capacity};
use paas_store::{App, AppScope};

use crate::cx::{Cx, Offer, OpError};

/// What to change.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlacementChange {
    /// What images are built for from now on. The one that runs stays what it is until the next push.
    pub architecture: Option<Architecture>,
    /// What services take their dynos from.
    pub capacity: Option<Capacity>,
}

/// Changes it. Nothing happens when it is so already.
///
/// # Errors
/// [`OpError::Invalid`] when the platform has no such thing.
pub async fn set_placement(cx: &Cx, app: &AppScope, change: &PlacementChange) -> Result<App, OpError> {
    if let Offer::OneMachine(here) = cx.settings.offer {
        if change.architecture.is_some_and(|wished| wished != here) {
            return Err(OpError::invalid(format!("This platform is one machine, and runs apps on {here} only.")));
        }
        if change.capacity == Some(Capacity::Spot) {
            return Err(OpError::invalid("This platform is one machine: it has no Spot capacity, which is AWS's."));
        }
    }
    let now = cx.now();
    let mut uow = cx.begin().await?;
    let before = uow.lock_app(app).await?;
    let architecture = change.architecture.or(before.architecture);
    let capacity = change.capacity.unwrap_or(before.capacity);
    if (architecture, capacity) == (before.architecture, before.capacity) {
        return Ok(before);
    }
    uow.set_placement(app, architecture, capacity).await?;
    uow.raise_generation(app, now).await?;
    let after = uow.app(app).await?;
    uow.save().await?;
    cx.kick();
    Ok(after)
}
