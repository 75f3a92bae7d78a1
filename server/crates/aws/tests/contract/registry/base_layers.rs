//! An image on a base that only the engine has: pushed whole, and pulled again as what it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bollard::Docker;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures_util::TryStreamExt as _;
use paas_aws::ImageNames as _;
use paas_aws::ecr::EcrRegistry;
use paas_builder::{BuildLimits, BuilderSettings, DockerBuilder};
use paas_domain::{AppId, InstallId};
use paas_ports::Registry as _;

use crate::support;

/// An image of one small layer in the engine.
async fn make_base(docker: &Docker, repository: &str) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(repository.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/base", repository.as_bytes()).expect("an entry");
    let body = bollard::body_full(tar.into_inner().expect("a tar").into());
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(repository).tag("base").build();
    let made = docker.create_image(Some(options), Some(body), None).try_for_each(|_| async { Ok(()) }).await;
    made.expect("not run: the engine makes no image");
}

async fn remove(docker: &Docker, image: &str) {
    let options = RemoveImageOptionsBuilder::new().force(true).build();
    docker.remove_image(image, Some(options), None).await.expect("removed");
}

#[tokio::test]
async fn an_image_goes_to_the_registry_with_its_base() {
    let (install, app) = (InstallId::random(), AppId::new());
    let docker = Docker::connect_with_local_defaults().expect("not run: no Docker engine");
    let docker = docker.negotiate_version().await.expect("not run: no Docker engine");
    let base = format!("paas-{install}-test");
    make_base(&docker, &base).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("launcher"), "a launcher").expect("a file");
    let aws = support::account(&install).await;
    let registry = Arc::new(EcrRegistry::new(aws, folder.path().join("ecr")).expect("a registry"));
    let settings = BuilderSettings {
        install: install.clone(),
        builder_image: String::new(),
        run_image: None,
        tools: folder.path().to_owned(),
        ca_bundle: None,
        blobs: folder.path().join("layers"),
        limits: BuildLimits::default(),
        build_env: BTreeMap::new(),
    };
    let builder = DockerBuilder::new(docker.clone(), settings, registry.clone());
    let made = builder.add_launcher(&app, &format!("{base}:base")).await.expect("pushed");
    // Another app's repository gets the base by a mount, or from the compressed copy: not from the engine.
    std::fs::remove_dir_all(folder.path().join("layers/base")).expect("removed");
    let other = AppId::new();
    builder.add_launcher(&other, &format!("{base}:base")).await.expect("pushed");
    assert!(!Path::new(&folder.path().join("layers/base")).exists());

    let pinned = registry.pinned(&app, &made.image).await.expect("a name");
    let (_, path) = pinned.split_once('/').expect("host and path");
    let here = format!("{}/{path}", support::registry());
    let options = CreateImageOptionsBuilder::new().from_image(&here).build();
    let pulled = docker.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) }).await;
    pulled.expect("pulled");
    let found = docker.inspect_image(&here).await.expect("there");
    assert_eq!(found.id.as_deref(), Some(made.image.0.as_str()), "an image is its config on both sides");
    assert_eq!(found.root_fs.and_then(|fs| fs.layers).map(|layers| layers.len()), Some(2));
    remove(&docker, &here).await;
    remove(&docker, &format!("{base}:base")).await;
    for app in [&app, &other] {
        registry.remove_app(app).await.expect("removed");
    }
}
