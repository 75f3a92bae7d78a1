//! `paas-server down`: the server, its router and every dyno end; the data stay.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use paas_domain::InstallId;
use rustix::process::{Pid, Signal, kill_process};

use crate::data_folder::DataFolder;

/// How long the server may take to end.
const SERVER_WITHIN: Duration = Duration::from_secs(20);
/// How long dynos may take between SIGTERM and SIGKILL: everything ends, so there is nothing to drain to.
const DYNOS_WITHIN_S: i32 = 10;

/// Ends an installation. Succeeds when it is ended already.
///
/// # Errors
/// When the server does not end, or the engine does not answer.
pub fn down(data: &Path, docker_socket: &Path) -> anyhow::Result<()> {
    let data = DataFolder::open(data)?;
    if let Some(pid) = data.holder().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
        let since = Instant::now();
        while data.holder().is_some() {
            if since.elapsed() > SERVER_WITHIN {
                let _ = kill_process(pid, Signal::KILL);
            }
            anyhow::ensure!(since.elapsed() < SERVER_WITHIN * 2, "the server does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    let Ok(install) = std::fs::read_to_string(data.path("installation")) else { return Ok(()) };
    let install = InstallId::try_from(install.trim().to_owned()).context("the installation's id")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        super::local::stop_router(&data, &install).await?;
        remove_containers(docker_socket, &install).await
    })
}

async fn remove_containers(socket: &Path, install: &InstallId) -> anyhow::Result<()> {
    if !socket.exists() {
        return Ok(());
    }
    let docker = paas_docker::engine::connect(socket).await?;
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![format!("paas.install={install}")])]);
    let list = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let mut stopping = tokio::task::JoinSet::new();
    for container in docker.list_containers(Some(list)).await? {
        let (docker, id) = (docker.clone(), container.id.unwrap_or_default());
        stopping.spawn(async move {
            let stop = StopContainerOptionsBuilder::default().t(DYNOS_WITHIN_S).build();
            // Stopped already or gone: both are what is wanted.
            let _ = docker.stop_container(&id, Some(stop)).await;
            let remove = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
            let _ = docker.remove_container(&id, Some(remove)).await;
        });
    }
    while stopping.join_next().await.is_some() {}
    let list = ListNetworksOptionsBuilder::default().filters(&filters).build();
    for network in docker.list_networks(Some(list)).await? {
        let _ = docker.remove_network(&network.id.unwrap_or_default()).await;
    }
    Ok(())
}
