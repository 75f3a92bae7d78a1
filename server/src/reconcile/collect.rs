//! Removes what carries our tag and no row names any more: what a crash between an effect and its row left.

use std::collections::HashSet;

use paas_domain::AppId;
use paas_store::StoreError;

use crate::cx::Cx;

/// One round over every driver. What fails is left to the next round.
pub(super) async fn collect(cx: &Cx) -> Result<(), StoreError> {
    let mut orphans: Vec<AppId> = Vec::new();
    for found in [cx.runtime.apps().await, cx.ingress.apps().await] {
        match found {
            Ok(apps) => orphans.extend(apps),
            Err(error) => tracing::warn!(%error, "orphans cannot be listed"),
        }
    }
    // Read behind the lists: an app's row is there before anything of it is outside.
    let known: HashSet<AppId> = cx.store.read().await?.all_app_ids().await?.into_iter().collect();
    orphans.retain(|app| !known.contains(app));
    orphans.sort();
    orphans.dedup();
    for app in orphans {
        tracing::info!(%app, "removing what no row names");
        let removed = async {
            cx.ingress.remove(&app).await?;
            cx.runtime.remove_app(&app).await?;
            cx.builder.remove_app(&app).await?;
            cx.registry.remove_app(&app).await?;
            cx.logs.remove(&app).await
        };
        if let Err(error) = removed.await {
            tracing::warn!(%app, %error, "an orphan stays until the next round");
        }
    }
    Ok(())
}
