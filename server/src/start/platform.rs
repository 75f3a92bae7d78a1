//! The local platform: every driver on one machine with Docker, and what their events do to the core.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use paas_builder::{BuildLimits, BuilderSettings, DockerBuilder};
use paas_docker::registry::EngineRegistry;
use paas_docker::runtime::{DockerRuntime, DockerRuntimeOptions, Timing};
use paas_domain::{AppId, InstallId, SystemClock};
use paas_logs::{FileLogStore, FileOutputStore};
use paas_ports::{Builder, Ingress, LogStore, OutputStore, Registry, Runtime, outside};
use paas_router::{RouterClient, RouterEvent, RouterOptions, ensure_router};
use paas_store::StoreError;
use tokio::sync::{mpsc, watch};

use super::Options;
use crate::cx::Cx;
use crate::data_folder::{DataFolder, Ports};

/// How long the router lets requests finish when everything ends.
const ROUTER_GRACE: Duration = Duration::from_secs(2);

/// The drivers, and where their events come out.
pub(super) struct Drivers {
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) ingress: Arc<dyn Ingress>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) builder: Arc<dyn Builder>,
    pub(super) logs: Arc<dyn LogStore>,
    pub(super) outputs: Arc<dyn OutputStore>,
    /// Apps whose dynos changed.
    pub(super) changes: mpsc::UnboundedReceiver<AppId>,
    pub(super) router: Arc<RouterClient>,
}

pub(super) async fn local(
    options: &Options,
    data: &DataFolder,
    ports: &Ports,
    install: &InstallId,
) -> anyhow::Result<Drivers> {
    let program = std::env::current_exe().context("this program's path")?;
    let router = ensure_router(program, router_options(data, ports, install)).await.context("the router")?;
    let router = Arc::new(router);
    let docker = paas_docker::engine::connect(&options.docker_socket).await.context("the Docker engine")?;
    let logs = Arc::new(FileLogStore::open(data.path("logs")).context("the logs")?);
    let outputs = Arc::new(FileOutputStore::open(data.path("outputs")).context("the outputs")?);
    let (changed, changes) = mpsc::unbounded_channel();
    let runtime = DockerRuntime::new(DockerRuntimeOptions {
        docker: docker.clone(),
        socket: options.docker_socket.clone(),
        install: install.clone(),
        pools: router.clone(),
        logs: logs.clone(),
        clock: Arc::new(SystemClock),
        on_change: Arc::new(move |app| {
            // Nobody listens any more when the server ends.
            let _ = changed.send(app.clone());
        }),
        state_dir: data.path("dynos"),
        timing: Timing { boot_timeout: Duration::from_secs(options.boot_timeout_s), ..Timing::default() },
    })?;
    let registry: Arc<dyn Registry> = Arc::new(EngineRegistry::new(docker.clone(), install.clone()));
    let settings = BuilderSettings {
        install: install.clone(),
        builder_image: options.builder.clone(),
        run_image: options.run_image.clone(),
        tools: options.tools.clone(),
        ca_bundle: options.ca_bundle.clone(),
        blobs: data.path("layers"),
        limits: BuildLimits::default(),
        build_env: std::collections::BTreeMap::new(),
    };
    let builder = DockerBuilder::new(docker, settings, Arc::clone(&registry));
    Ok(Drivers {
        runtime: Arc::new(runtime),
        ingress: router.clone(),
        registry,
        builder: Arc::new(builder),
        logs,
        outputs,
        changes,
        router,
    })
}

fn router_options(data: &DataFolder, ports: &Ports, install: &InstallId) -> RouterOptions {
    let mut listen: Vec<SocketAddr> = vec![(Ipv4Addr::LOCALHOST, ports.http).into()];
    // A machine without IPv6 has one loopback address.
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        listen.push((Ipv6Addr::LOCALHOST, ports.http).into());
    }
    RouterOptions::new(install.clone(), listen, data.path("router"), data.path("router.sock"))
}

/// Ends the router of an installation. Succeeds when none runs.
pub(super) async fn stop_router(data: &DataFolder, install: &InstallId) -> anyhow::Result<()> {
    let socket = data.path("router.sock");
    let Ok(router) = RouterClient::connect(&socket, install).await else { return Ok(()) };
    router.shut_down(ROUTER_GRACE).await?;
    for _ in 0..100 {
        if !socket.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Makes apps due whose dynos changed, until `stop` says so.
pub(super) async fn kick_on_change(
    cx: Cx,
    mut changes: mpsc::UnboundedReceiver<AppId>,
    mut stop: watch::Receiver<bool>,
) {
    let mut events = Vec::new();
    loop {
        tokio::select! {
            count = changes.recv_many(&mut events, 256) => if count == 0 { return },
            _ = stop.changed() => return,
        }
        events.sort();
        events.dedup();
        let kicked = outside::task(async {
            let mut uow = cx.begin().await?;
            for app in &events {
                uow.kick_app(app, cx.now()).await?;
            }
            uow.save().await
        });
        match kicked.await {
            Ok(()) => cx.kick(),
            // The sweep comes to it.
            Err(error) => tracing::warn!(%error, "an event of the runtime was lost"),
        }
        events.clear();
    }
}

/// Brings the router's lines to the apps' logs, and reconciles every app when another router came up.
pub(super) async fn store_router_lines(cx: Cx, router: Arc<RouterClient>, mut stop: watch::Receiver<bool>) {
    let Some(lines) = router.lines() else { return };
    let mut lines = std::pin::pin!(lines);
    let mut events = router.events();
    loop {
        tokio::select! {
            batch = lines.next() => {
                let Some(batch) = batch else { return };
                if let Err(error) = cx.logs.append(&batch.app, batch.lines).await {
                    tracing::warn!(app = %batch.app, %error, "lines of the router were lost");
                }
            }
            event = events.recv() => if matches!(event, Ok(RouterEvent::Restarted)) {
                if let Err(error) = outside::task(kick_all(&cx)).await {
                    tracing::warn!(%error, "the sweep comes to the apps");
                }
            },
            _ = stop.changed() => return,
        }
    }
}

async fn kick_all(cx: &Cx) -> Result<(), StoreError> {
    let mut uow = cx.begin().await?;
    uow.kick_all_apps(cx.now()).await?;
    uow.save().await?;
    cx.kick();
    Ok(())
}
