//! The local platform: every driver on one machine with Docker.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use paas_builder::DockerBuilder;
use paas_docker::registry::EngineRegistry;
use paas_docker::runtime::{DockerRuntime, DockerRuntimeOptions, Timing};
use paas_domain::{InstallId, SystemClock};
use paas_logs::{FileLogStore, FileOutputStore};
use paas_ports::{Registry, outside};
use paas_router::{RouterClient, RouterEvent, RouterOptions, ensure_router};
use tokio::sync::{mpsc, watch};

use super::Options;
use super::platform::{self, Drivers, Platform, builder_settings, kick_on_change};
use crate::cx::{Cx, Settings};
use crate::data_folder::{DataFolder, Ports};
use crate::objects::Objects;

/// How long the router lets requests finish when everything ends.
const ROUTER_GRACE: Duration = Duration::from_secs(2);

pub(super) async fn open(
    options: &Options,
    data: &DataFolder,
    ports: &Ports,
    install: &InstallId,
) -> anyhow::Result<Platform> {
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
    let builder = DockerBuilder::new(docker, builder_settings(options, data, install)?, Arc::clone(&registry));
    Ok(Platform {
        drivers: Drivers {
            runtime: Arc::new(runtime),
            ingress: router.clone(),
            registry,
            builder: Arc::new(builder),
            logs,
            outputs,
            objects: Objects::in_folder(data.path("objects"))?,
        },
        settings: Settings { app_port: Some(ports.http).filter(|port| *port != 80), ..options.settings(ports) },
        on_servers: Arc::new(|_| {}),
        loops: Box::new(move |cx, server, stop, tasks| {
            tasks.spawn(kick_on_change(cx.clone(), server, changes, stop.clone()));
            tasks.spawn(store_router_lines(cx, router, stop));
        }),
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

/// Brings the router's lines to the apps' logs, and reconciles every app when another router came up.
async fn store_router_lines(cx: Cx, router: Arc<RouterClient>, mut stop: watch::Receiver<bool>) {
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
            event = events.recv() => if matches!(event, Ok(RouterEvent::Restarted))
                && let Err(error) = outside::task(platform::kick_all(&cx)).await
            {
                tracing::warn!(%error, "the sweep comes to the apps");
            },
            _ = stop.changed() => return,
        }
    }
}
