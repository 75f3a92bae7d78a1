//! `features:enable` and `features:disable`: what an app can have switched on.

use paas_store::{App, AppScope};

use crate::cx::{Cx, OpError};

/// Lets clients stay with the dyno of their first request, or not. Nothing happens when it is so already.
///
/// # Errors
/// When the app is gone or the database does not answer.
pub async fn set_session_affinity(cx: &Cx, app: &AppScope, on: bool) -> Result<App, OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    let before = uow.lock_app(app).await?;
    if before.session_affinity == on {
        return Ok(before);
    }
    uow.set_session_affinity(app, on).await?;
    uow.raise_generation(app, now).await?;
    let after = uow.app(app).await?;
    uow.save().await?;
    cx.kick();
    Ok(after)
}
