//! The Docker engine that tests use.
//!
//! A test that needs one and finds none fails with "not run": nothing is skipped in silence.

use std::collections::HashMap;

use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
};

/// The engine's socket: `PAAS_TEST_DOCKER`, else the usual one.
#[must_use]
pub fn socket() -> std::path::PathBuf {
    std::env::var("PAAS_TEST_DOCKER").unwrap_or_else(|_| "/var/run/docker.sock".to_owned()).into()
}

/// The engine behind `PAAS_TEST_DOCKER` (a unix socket), else behind the usual socket.
///
/// # Panics
/// With "not run: no Docker engine" when none answers.
pub async fn connect() -> Docker {
    let socket = std::env::var("PAAS_TEST_DOCKER").unwrap_or_else(|_| "/var/run/docker.sock".to_owned());
    let docker = Docker::connect_with_unix(&socket, 120, bollard::API_DEFAULT_VERSION);
    match docker {
        Ok(docker) => match docker.negotiate_version().await {
            Ok(docker) => docker,
            Err(e) => panic!("not run: no Docker engine at {socket}: {e}"),
        },
        Err(e) => panic!("not run: no Docker engine at {socket}: {e}"),
    }
}

/// Removes every tag that starts with `prefix`, and with it the images that have no other.
pub async fn remove_images(docker: &Docker, prefix: &str) {
    let images = docker.list_images(Some(ListImagesOptionsBuilder::new().build())).await.unwrap_or_default();
    for tag in images.iter().flat_map(|image| &image.repo_tags).filter(|tag| tag.starts_with(prefix)) {
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let _ = docker.remove_image(tag, Some(options), None).await;
    }
}

/// The names of all containers and volumes that carry this label (`key=value`).
pub async fn objects(docker: &Docker, label: &str) -> Vec<String> {
    let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
    let containers = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = docker.list_containers(Some(containers)).await.unwrap_or_default();
    let volumes = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let volumes = docker.list_volumes(Some(volumes)).await.unwrap_or_default().volumes.unwrap_or_default();
    let names = containers.into_iter().flat_map(|c| c.names.unwrap_or_default());
    names.map(|n| format!("container {n}")).chain(volumes.into_iter().map(|v| format!("volume {}", v.name))).collect()
}

/// Removes every container, volume and network that carries this label (`key=value`).
pub async fn remove_objects(docker: &Docker, label: &str) {
    let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
    let containers = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    for container in docker.list_containers(Some(containers)).await.unwrap_or_default() {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let _ = docker.remove_container(&container.id.unwrap_or_default(), Some(options)).await;
    }
    let volumes = ListVolumesOptionsBuilder::new().filters(&filters).build();
    for volume in docker.list_volumes(Some(volumes)).await.unwrap_or_default().volumes.unwrap_or_default() {
        let _ = docker.remove_volume(&volume.name, Some(RemoveVolumeOptionsBuilder::new().build())).await;
    }
    let networks = bollard::query_parameters::ListNetworksOptionsBuilder::new().filters(&filters).build();
    for network in docker.list_networks(Some(networks)).await.unwrap_or_default() {
        let _ = docker.remove_network(&network.name.unwrap_or_default()).await;
    }
}
