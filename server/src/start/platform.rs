//! What the core asks of a platform, and what the events of either do to it.

use std::sync::Arc;

use anyhow::Context as _;
use paas_builder::{BuildLimits, BuilderSettings};
use paas_domain::{AppId, InstallId};
use paas_ports::{Builder, Ingress, LogStore, OutputStore, Registry, Runtime, outside};
use paas_store::StoreError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Options;
use crate::cx::{Cx, Settings};
use crate::data_folder::DataFolder;
use crate::objects::Objects;
use crate::servers::OnCount;

/// When to try again to write down what the runtime has told.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// A platform that is ready to work.
pub(super) struct Platform {
    pub(super) drivers: Drivers,
    pub(super) settings: Settings,
    /// Starts the loops that bring the drivers' events to the core, on the server of this id; they end when the
    /// channel says so.
    #[allow(clippy::type_complexity)]
    pub(super) loops: Box<dyn FnOnce(Cx, String, watch::Receiver<bool>, &mut JoinSet<()>) + Send>,
    /// Told how many servers share the platform.
    pub(super) on_servers: OnCount,
}

/// One driver for each port.
pub(super) struct Drivers {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) ingress: Arc<dyn Ingress>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) builder: Arc<dyn Builder>,
    pub(super) logs: Arc<dyn LogStore>,
    pub(super) outputs: Arc<dyn OutputStore>,
    pub(super) objects: Objects,
}

/// Builds run the same way everywhere.
pub(super) fn builder_settings(
    options: &Options,
    data: &DataFolder,
    install: &InstallId,
) -> anyhow::Result<BuilderSettings> {
    Ok(BuilderSettings {
        install: install.clone(),
        builder_image: options.builder.clone().context("no builder image: say --builder")?,
        run_image: options.run_image.clone(),
        tools: options.tools.clone().context("no folder with launcher and phase: say --tools")?,
        ca_bundle: options.ca_bundle.clone(),
        blobs: data.path("layers"),
        limits: BuildLimits::default(),
        build_env: std::collections::BTreeMap::new(),
    })
}

/// Makes apps due whose dynos changed, as this server has heard, until `stop` says so.
pub(super) async fn kick_on_change(
    cx: Cx,
    server: String,
    mut changes: mpsc::UnboundedReceiver<AppId>,
    mut stop: watch::Receiver<bool>,
) {
    let mut events = Vec::new();
    loop {
        tokio::select! {
            count = changes.recv_many(&mut events, 256) => if count == 0 { return },
            // What could not be written is written again, whether there is news or not.
            () = tokio::time::sleep(AGAIN), if !events.is_empty() => {}
            _ = stop.changed() => return,
        }
        events.sort();
        events.dedup();
        let kicked = outside::task(async {
            let mut uow = cx.begin().await?;
            for app in &events {
                uow.heard_of_app(app, &server, cx.now()).await?;
            }
            uow.save().await
        });
        match kicked.await {
            Ok(()) => {
                cx.kick();
                events.clear();
            }
            Err(error) => tracing::warn!(%error, "events of the runtime are written down later"),
        }
    }
}

/// Makes every app due.
pub(super) async fn kick_all(cx: &Cx) -> Result<(), StoreError> {
    let mut uow = cx.begin().await?;
    uow.kick_all_apps(cx.now()).await?;
    uow.save().await?;
    cx.kick();
    Ok(())
}
