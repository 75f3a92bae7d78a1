//! A destroyed app: everything of it outside the database goes first, its last rows after that.
//!
//! Jobs were cancelled with the app; each is waited for until its worker lets go of it or its lease runs out, so that
//! nothing is made behind the removal. What still slips through, `collect` finds.

use paas_store::AppLease;

use super::pass::{PassError, PassStep};
use crate::crash_point::Side;
use crate::cx::Cx;
use crate::ops::manage_sources::upload_key;

/// When to look again for dynos that end, and for workers, in milliseconds.
const AGAIN_MS: i64 = 200;

pub(super) async fn destroy(cx: &Cx, lease: &AppLease) -> Result<(), PassError> {
    let app = lease.scope.id();
    // Before the removal: what a worker made that is gone by now is seen by it.
    let at_work = cx.store.read().await?.jobs_held_until(&lease.scope, cx.now()).await?;
    cx.ingress.remove(app).await?;
    let ended = cx.runtime.remove_app(app).await?;
    if at_work.is_some() || !ended {
        let again = cx.now().plus_ms(AGAIN_MS);
        let mut uow = cx.begin().await?;
        uow.release_app(lease, None, Some(again)).await?;
        uow.save().await?;
        return Ok(());
    }
    cx.builder.remove_app(app).await?;
    cx.registry.remove_app(app).await?;
    let (outputs, builds, sources) = {
        let mut uow = cx.store.read().await?;
        (uow.outputs(&lease.scope).await?, uow.builds(&lease.scope).await?, uow.sources(&lease.scope).await?)
    };
    for output in outputs {
        cx.outputs.close(&output).await?;
        cx.outputs.remove(&output).await?;
    }
    for source in builds.iter().filter_map(|build| build.source_key.as_deref()) {
        cx.objects.remove(source).await?;
    }
    for source in &sources {
        cx.objects.remove(&upload_key(source)).await?;
    }
    for build in &builds {
        cx.objects.discard(build.id.as_str()).await?;
    }
    // Also those that no row tells of: a step that was ended had written one.
    cx.objects.remove_all(&format!("sources/{app}")).await?;
    cx.repositories.remove(app).await?;
    cx.logs.remove(app).await?;
    cx.crash_points.pass(PassStep::Destroy.as_str(), Side::BeforeCommit).await;
    let mut uow = cx.begin().await?;
    uow.check_lease(lease).await?;
    uow.forget_app(&lease.scope).await?;
    uow.save().await?;
    Ok(())
}
