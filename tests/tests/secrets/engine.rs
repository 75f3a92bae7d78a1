//! What this machine's Docker engine has and tells.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use paas_tests::engine;
use paas_tests::platform::{Kind, Platform};

use crate::MARK;
use crate::canary::Canary;

/// Looks at what the engine tells about every container of the installation, for as long as `watched`; builds and
/// release phases are there for moments only.
pub(crate) fn watch(platform: &Platform, canary: &Canary, watched: &AtomicBool) -> usize {
    let mut seen = std::collections::HashSet::new();
    platform.with_engine(async |docker| {
        let label = format!("paas.install={}", platform.install());
        while watched.load(Ordering::Relaxed) {
            for id in containers(&docker, &label).await {
                let Ok(told) = docker.inspect_container(&id, None).await else { continue };
                let text = serde_json::to_string(&told).expect("JSON");
                assert!(!canary.is_plain_in(&text), "the engine tells it: {text}");
                let config = told.config.unwrap_or_default();
                let env = config.env.unwrap_or_default();
                let coded =
                    env.iter().filter(|line| line.starts_with("PAAS_CONFIG_")).filter_map(|l| l.split_once('='));
                let coded: Vec<String> = coded.map(|(_, value)| value.to_owned()).collect();
                let labels = format!("{:?} {:?} {:?}", config.labels, config.cmd, config.entrypoint);
                assert!(!coded.iter().any(|coded| labels.contains(coded)), "it is in a label: {labels}");
                canary.came_as(coded);
                seen.insert(id);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    seen.len()
}

async fn containers(docker: &Docker, label: &str) -> Vec<String> {
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let containers = docker.list_containers(Some(options)).await.expect("containers");
    containers.into_iter().filter_map(|container| container.id).collect()
}

/// The engine's client, on the engine that tests use.
fn docker_client() -> Command {
    let mut client = Command::new("docker");
    client.arg("--host").arg(format!("unix://{}", engine::socket().display()));
    client
}

/// Containers, images and volumes, as the engine tells of them and what is in them. On AWS, dynos are no containers of
/// the installation, and images are named as the registry has them.
pub(crate) async fn in_engine(docker: &Docker, install: &str, kind: Kind, canary: &Canary) {
    let label = format!("paas.install={install}");
    let told = containers(docker, &label).await;
    assert!(!told.is_empty() || kind == Kind::Aws, "a dyno runs");
    for container in &told {
        let mut export = docker_client();
        export.args(["export", container]);
        canary.is_not_in("a container's files", export, &[MARK]);
        let mut logs = docker_client();
        logs.args(["logs", container]);
        canary.is_not_in("a container's log", logs, &[]);
    }

    let images = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await.expect("images");
    let tags: Vec<String> = match kind {
        Kind::Local => {
            let prefix = format!("paas-{install}/");
            images.into_iter().flat_map(|i| i.repo_tags).filter(|tag| tag.starts_with(&prefix)).collect()
        }
        Kind::Aws => {
            let repository = format!("/paas-{install}-");
            images.into_iter().flat_map(|i| i.repo_digests).filter(|name| name.contains(&repository)).collect()
        }
    };
    assert!(tags.len() >= 2, "images of two releases: {tags:?}");
    for tag in &tags {
        for about in ["inspect", "history"] {
            let mut tell = docker_client();
            tell.args(["image", about]).args((about == "history").then_some("--no-trunc")).arg(tag);
            let marks = if about == "inspect" { &[install][..] } else { &[] };
            canary.is_not_in(&format!("{about} of {tag}"), tell, marks);
        }
    }
    let mut save = docker_client();
    save.arg("save").args(&tags);
    let marks = if kind == Kind::Local { &[MARK, install][..] } else { &[MARK] };
    canary.is_not_in("the images", save, marks);

    let filters = std::collections::HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let volumes = docker.list_volumes(Some(options)).await.expect("volumes").volumes.unwrap_or_default();
    assert!(!volumes.is_empty(), "the layers are kept in a volume");
    for volume in volumes {
        in_volume(docker, install, &tags[0], &volume.name, canary).await;
    }
}

/// Reads a volume, mounted in a container that never starts.
async fn in_volume(docker: &Docker, install: &str, image: &str, volume: &str, canary: &Canary) {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some([("paas.install".to_owned(), install.to_owned())].into()),
        host_config: Some(HostConfig { binds: Some(vec![format!("{volume}:/volume:ro")]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let name = format!("paas-{install}-look");
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    docker.create_container(Some(options), body).await.expect("a container");
    let mut copy = docker_client();
    copy.args(["cp", &format!("{name}:/volume"), "-"]);
    // A Python app's layers: its packages are there.
    canary.is_not_in("a volume", copy, &["gunicorn/app/wsgiapp.py"]);
    let remove = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&name, Some(remove)).await.expect("removed");
}
