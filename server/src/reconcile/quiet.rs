//! What an app that is at rest has too much of: what earlier releases left in the runtime, and images that nothing names.
//!
//! Never in the way of a deploy: only behind a while without one, with no job open, under the app's lease.

use std::time::Duration;

use paas_ports::ImageRef;
use paas_store::AppLease;

use super::pass::{PassError, Wish};
use crate::cx::Cx;

/// How long a pass may collect. A driver lets deploys go first, for as long as there are any; whatever is wanted of this
/// app is not to wait for them.
const WITHIN: Duration = Duration::from_secs(5);

/// Collects, once nothing is under way. What is left then is for the sweep's next pass.
pub(super) async fn collect(cx: &Cx, lease: &AppLease, wish: &Wish) -> Result<(), PassError> {
    let quiet_since = cx.now().plus_ms(-i64::try_from(cx.settings.sweep.as_millis()).unwrap_or(i64::MAX));
    let is_quiet = wish.release.as_ref().is_some_and(|release| release.created_at < quiet_since);
    if !is_quiet || cx.store.read().await?.has_open_job(&lease.scope).await? {
        return Ok(());
    }
    let app = &wish.app.id;
    let work = async {
        if wish.code().is_some() {
            cx.runtime.collect(app).await?;
        }
        collect_images(cx, lease).await
    };
    match tokio::time::timeout(WITHIN, work).await {
        Ok(Err(PassError::Store(error))) => return Err(error.into()),
        Ok(Err(error)) => tracing::warn!(%app, %error, "what earlier releases left stays until the next pass"),
        Err(_) => tracing::debug!(%app, "others deploy: what earlier releases left stays until the next pass"),
        Ok(Ok(())) => {}
    }
    Ok(())
}

/// Removes the images that no release names: those of builds that failed after their export, or whose server died
/// between the export and its row. An image that any release names stays, since each can be rolled back to; whatever
/// runs is of a release. Once behind each build, since nothing else makes images.
///
/// A build that begins meanwhile may export an image that is just being removed, and find it there. So it is looked
/// again right before each removal whether a job is open, and a build looks whether its image is there before it cuts a
/// release of it.
async fn collect_images(cx: &Cx, lease: &AppLease) -> Result<(), PassError> {
    let (app, scope) = (lease.scope.id(), &lease.scope);
    let newest = cx.store.read().await?.build_since_collection(scope).await?;
    let Some(newest) = newest else { return Ok(()) };
    let mut whole = true;
    for image in cx.registry.list(app).await? {
        match may_go(cx, lease, &image).await? {
            Verdict::Stays => continue,
            Verdict::NotNow => return Ok(()),
            Verdict::Goes => {}
        }
        tracing::info!(%app, image = %image.0, "removing an image that no release names");
        // The row first: the image itself is found again.
        let mut uow = cx.begin().await?;
        uow.check_lease(lease).await?;
        uow.delete_image(scope, &image.0).await?;
        uow.save().await?;
        if let Err(error) = cx.registry.remove(app, &image).await {
            tracing::warn!(%app, image = %image.0, %error, "an image that no release names stays until the next pass");
            whole = false;
        }
    }
    if whole {
        let mut uow = cx.begin().await?;
        uow.check_lease(lease).await?;
        uow.mark_collected(scope, &newest).await?;
        uow.save().await?;
    }
    Ok(())
}

enum Verdict {
    /// A release names it.
    Stays,
    /// Nothing does.
    Goes,
    /// A job is open, which may be about to name any.
    NotNow,
}

async fn may_go(cx: &Cx, lease: &AppLease, image: &ImageRef) -> Result<Verdict, PassError> {
    let mut uow = cx.store.read().await?;
    if uow.has_open_job(&lease.scope).await? {
        return Ok(Verdict::NotNow);
    }
    let named = uow.released_images(&lease.scope).await?.contains(&image.0);
    Ok(if named { Verdict::Stays } else { Verdict::Goes })
}
