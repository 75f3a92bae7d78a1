//! The image of the runtime's contract suite: `test-dyno`, the libraries it needs, and nothing else.
//!
//! It is made from the test's own binary, so the suite needs neither a registry nor the base images, and a
//! changed binary is another image. The real launcher in a real image is what the end-to-end tests run.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::process::Command;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions,
    StartContainerOptions,
};
use futures_util::StreamExt as _;
use paas_domain::{AppId, Digest, DynoId, InstallId};
use paas_ports::ImageRef;
use tokio::sync::OnceCell;

/// An image with nothing in it.
const EMPTY: &str = "paas-test-dyno:empty";

static IMAGE: OnceCell<ImageRef> = OnceCell::const_new();

/// The image with this binary as its launcher, made when the engine does not have it.
///
/// # Panics
/// When it cannot be made.
pub async fn ensure(docker: &Docker, binary: &str) -> ImageRef {
    IMAGE.get_or_init(|| make(docker, Path::new(binary))).await.clone()
}

/// The same for an engine of one test's own.
///
/// # Panics
/// When it cannot be made.
pub async fn make(docker: &Docker, binary: &Path) -> ImageRef {
    let bytes = std::fs::read(binary).expect("the binary is built");
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let tag = format!("{:016x}", hasher.finish());
    let name = format!("paas-test-dyno:{tag}");
    if docker.inspect_image(&name).await.is_err() {
        import(docker, &tag, rootfs(binary, &bytes)).await;
        remove_older(docker, &name).await;
    }
    image_ref(docker, &name).await
}

/// Whose images these are: those of another checkout on this machine are left alone.
const MADE_FOR: (&str, &str) = ("paas.test-dyno", env!("CARGO_MANIFEST_DIR"));

/// Removes what earlier binaries of this checkout left. What a container still uses stays.
async fn remove_older(docker: &Docker, keep: &str) {
    let filters = HashMap::from([
        ("reference".to_owned(), vec!["paas-test-dyno".to_owned()]),
        ("label".to_owned(), vec![format!("{}={}", MADE_FOR.0, MADE_FOR.1)]),
    ]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let images = docker.list_images(Some(options)).await.unwrap_or_default();
    for tag in images.iter().flat_map(|image| &image.repo_tags).filter(|tag| *tag != keep && *tag != EMPTY) {
        let _ = docker.remove_image(tag, None::<RemoveImageOptions>, None).await;
    }
}

async fn import(docker: &Docker, tag: &str, rootfs: Vec<u8>) {
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo("paas-test-dyno")
        .tag(tag)
        .changes(vec!["USER 1000:1000".to_owned(), format!("LABEL {}=\"{}\"", MADE_FOR.0, MADE_FOR.1)])
        .build();
    let mut made = Box::pin(docker.create_image(Some(options), Some(bollard::body_full(rootfs.into())), None));
    while let Some(step) = made.next().await {
        step.expect("imports the image");
    }
}

async fn image_ref(docker: &Docker, name: &str) -> ImageRef {
    let id = docker.inspect_image(name).await.expect("the image is there").id.expect("has an id");
    ImageRef(id.parse::<Digest>().expect("a digest"))
}

/// A tar of the binary as `/paas/launcher` and of every library it is linked to.
fn rootfs(binary: &Path, bytes: &[u8]) -> Vec<u8> {
    let loader = interpreter(bytes);
    let listed = Command::new(&loader).arg("--list").arg(binary).output().expect("lists libraries");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let libraries = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let mut paths: Vec<&str> = libraries.chain([loader.as_str()]).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, path.trim_start_matches('/'), content).expect("adds to the tar");
    };
    add("paas/launcher", bytes);
    for path in paths {
        add(path, &std::fs::read(path).expect("the library is there"));
    }
    tar.into_inner().expect("finishes the tar")
}

/// The dynamic loader that the binary names.
fn interpreter(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(4096)];
    let at = head.windows(4).position(|w| w == b"/lib").expect("the binary names its loader");
    let end = head[at..].iter().position(|b| *b == 0).expect("a string");
    String::from_utf8_lossy(&head[at..at + end]).into_owned()
}

/// Starts a container of another installation that pretends to be a dyno of `app`.
///
/// # Panics
/// When the engine does not.
pub async fn plant(docker: &Docker, image: &ImageRef, install: &InstallId, app: &AppId) {
    let labels = [
        ("paas.install", install.to_string()),
        ("paas.app", app.to_string()),
        ("paas.dyno", DynoId::new().to_string()),
        ("paas.name", "web.1".to_owned()),
        ("paas.kind", "service".to_owned()),
        ("paas.type", "web".to_owned()),
        ("paas.release", "3".to_owned()),
        ("paas.generation", "99".to_owned()),
        ("paas.restart", "0".to_owned()),
        ("paas.size", "Basic".to_owned()),
        ("paas.command", "worker".to_owned()),
    ];
    let body = ContainerCreateBody {
        image: Some(image.0.to_string()),
        entrypoint: Some(vec!["/paas/launcher".to_owned()]),
        env: Some(vec!["PAAS_COMMAND=worker".to_owned()]),
        labels: Some(labels.map(|(k, v)| (k.to_owned(), v)).into()),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let name = format!("paas-{install}-other");
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    docker.create_container(Some(options), body).await.expect("makes a container");
    docker.start_container(&name, None::<StartContainerOptions>).await.expect("starts it");
}

/// An image without a launcher, or anything.
///
/// # Panics
/// When it cannot be made.
pub async fn empty(docker: &Docker) -> ImageRef {
    if docker.inspect_image(EMPTY).await.is_err() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_cksum();
        tar.append_data(&mut header, "empty", std::io::empty()).expect("adds to the tar");
        import(docker, "empty", tar.into_inner().expect("finishes the tar")).await;
    }
    image_ref(docker, EMPTY).await
}
