//! Removes what carries our tag and no row names any more: what a crash between an effect and its row left, and what
//! was made for an app just as it was destroyed.
//!
//! The rows are read behind the lists: whatever is outside had its row before, so what has none then is nobody's.

use std::collections::{BTreeSet, HashSet};

use paas_domain::AppId;
use paas_ports::PortError;
use paas_store::StoreError;

use crate::cx::Cx;

/// What there is outside, whoever has it.
#[derive(Default)]
struct Outside {
    apps: BTreeSet<AppId>,
    outputs: Vec<paas_domain::OutputId>,
    uploads: Vec<String>,
}

impl Outside {
    /// What a list shows; a list that cannot be had shows nothing, and the others are looked through all the same.
    fn take<T>(what: &str, listed: Result<Vec<T>, PortError>) -> Vec<T> {
        listed.unwrap_or_else(|error| {
            tracing::warn!(%error, what, "orphans cannot be listed");
            Vec::new()
        })
    }

    /// Where dynos and routes are: what costs money and reaches people.
    async fn look(&mut self, cx: &Cx) {
        self.apps.extend(Self::take("the runtime", cx.runtime.apps().await));
        self.apps.extend(Self::take("the ingress", cx.ingress.apps().await));
    }

    /// Everywhere else.
    async fn look_elsewhere(&mut self, cx: &Cx) {
        self.apps.extend(Self::take("the registry", cx.registry.apps().await));
        self.apps.extend(Self::take("the builder", cx.builder.apps().await));
        self.apps.extend(Self::take("logs", cx.logs.apps().await));
        self.apps.extend(Self::take("repositories", cx.repositories.all().await));
        for folder in ["sources", "packs"] {
            let folders = Self::take(folder, cx.objects.folders(folder).await);
            self.apps.extend(folders.iter().filter_map(|folder| folder.parse::<AppId>().ok()));
        }
        self.outputs = Self::take("outputs", cx.outputs.all().await);
        self.uploads = Self::take("uploads", cx.objects.list("uploads").await);
    }

    /// Leaves what no row names.
    async fn orphans(mut self, cx: &Cx) -> Result<Self, StoreError> {
        let mut uow = cx.store.read().await?;
        if !self.apps.is_empty() {
            let known: HashSet<AppId> = uow.all_app_ids().await?.into_iter().collect();
            self.apps.retain(|app| !known.contains(app));
        }
        if !self.outputs.is_empty() {
            let known: HashSet<_> = uow.all_output_ids().await?.into_iter().collect();
            self.outputs.retain(|output| !known.contains(output));
        }
        if !self.uploads.is_empty() {
            let known: HashSet<String> = uow.all_source_ids().await?.into_iter().collect();
            let id = |key: &str| Some(key.strip_prefix("uploads/")?.strip_suffix(".tgz")?.to_owned());
            self.uploads.retain(|key| id(key).is_some_and(|id| !known.contains(&id)));
        }
        Ok(self)
    }
}

/// One round over what costs money and reaches people. What fails is left to the next round.
pub(super) async fn dynos_and_routes(cx: &Cx) -> Result<(), StoreError> {
    let mut found = Outside::default();
    found.look(cx).await;
    collect(cx, found).await
}

/// One round over everything else, which may be many lists.
pub(super) async fn everywhere(cx: &Cx) -> Result<(), StoreError> {
    let mut found = Outside::default();
    found.look_elsewhere(cx).await;
    collect(cx, found).await?;
    warn("an incoming file", cx.objects.discard_abandoned().await);
    Ok(())
}

async fn collect(cx: &Cx, found: Outside) -> Result<(), StoreError> {
    let orphans = found.orphans(cx).await?;
    for app in orphans.apps {
        tracing::info!(%app, "removing what no row names");
        remove(cx, &app).await;
    }
    for output in orphans.outputs {
        warn("an output", cx.outputs.remove(&output).await);
    }
    for key in orphans.uploads {
        warn("an upload", cx.objects.remove(&key).await);
    }
    Ok(())
}

/// Everything of an app that has no row. A driver that fails keeps no other from removing its part.
async fn remove(cx: &Cx, app: &AppId) {
    warn("a route", cx.ingress.remove(app).await);
    // Dynos that still end are found again.
    warn("dynos", cx.runtime.remove_app(app).await.map(drop));
    warn("a build", cx.builder.remove_app(app).await);
    warn("images", cx.registry.remove_app(app).await);
    warn("sources", cx.objects.remove_all(&format!("sources/{app}")).await);
    warn("packs", cx.objects.remove_all(&format!("packs/{app}")).await);
    warn("a repository", cx.repositories.remove(app).await);
    warn("logs", cx.logs.remove(app).await);
}

fn warn(what: &str, removed: Result<(), PortError>) {
    if let Err(error) = removed {
        tracing::warn!(%error, "{what} that no row names stays until the next round");
    }
}
