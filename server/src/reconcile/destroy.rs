//! A destroyed app: everything of it outside the database goes first, its last rows after that.

use paas_store::AppLease;

use super::pass::{PassError, PassStep};
use crate::crash_point::Side;
use crate::cx::Cx;
use crate::ops::manage_sources::upload_key;

pub(super) async fn destroy(cx: &Cx, lease: &AppLease) -> Result<(), PassError> {
    let app = lease.scope.id();
    cx.ingress.remove(app).await?;
    if !cx.runtime.remove_app(app).await? {
        let again = cx.now().plus_ms(200);
        let mut uow = cx.begin().await?;
        uow.release_app(lease, None, Some(again)).await?;
        uow.save().await?;
        return Ok(());
    }
    cx.builder.remove_app(app).await?;
    cx.registry.remove_app(app).await?;
    let (outputs, sources) = {
        let mut uow = cx.store.read().await?;
        let outputs = uow.outputs(&lease.scope).await?;
        let mut sources: Vec<String> =
            uow.builds(&lease.scope).await?.into_iter().filter_map(|b| b.source_key).collect();
        sources.extend(uow.sources(&lease.scope).await?.iter().map(upload_key));
        (outputs, sources)
    };
    for output in outputs {
        cx.outputs.close(&output).await?;
        cx.outputs.remove(&output).await?;
    }
    for source in sources {
        cx.objects.remove(&source).await?;
    }
    cx.repositories.remove(app).await?;
    cx.logs.remove(app).await?;
    cx.crash_points.pass(PassStep::Destroy.as_str(), Side::BeforeCommit).await;
    let mut uow = cx.begin().await?;
    uow.check_lease(lease).await?;
    uow.forget_app(&lease.scope).await?;
    uow.save().await?;
    Ok(())
}
