//! `apps:destroy`: name and hosts are free at once; reconciliation removes what is outside, then the last rows.
//!
//! Jobs under way are cancelled here and hear of it at once; reconciliation waits until none is at work any more.

use paas_store::{App, AppScope};

use crate::cx::{Cx, OpError};

/// Destroys an app and answers what it was.
///
/// # Errors
/// [`OpError::NotFound`] when it is destroyed already.
pub async fn destroy_app(cx: &Cx, app: &AppScope) -> Result<App, OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    let was = uow.lock_app(app).await?;
    uow.cancel_jobs(app, "the app was destroyed", now).await?;
    for build in uow.pending_builds(app).await? {
        uow.fail_build(app, &build.id, "the app was destroyed", now).await?;
    }
    uow.delete_app(app, now).await?;
    uow.save().await?;
    cx.kick_destroyed();
    Ok(was)
}
