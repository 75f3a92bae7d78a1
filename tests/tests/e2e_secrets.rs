//! A canary in the config vars: after everything that an app lives through, it is nowhere but in the app.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::StreamExt as _;
use paas_tests::platform::Platform;

const SOON: Duration = Duration::from_secs(20);

/// The value, and what else it may not appear as.
struct Canary(Vec<String>);

impl Canary {
    fn new() -> Self {
        let value = "c4n4ry-3f9d1b7a5e-do-not-tell".to_owned();
        Self(vec![value.replace("c4n4ry", "unset"), value])
    }

    fn value(&self) -> &str {
        &self.0[1]
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|value| bytes.windows(value.len()).any(|window| window == value.as_bytes()))
    }
}

#[test]
fn a_config_vars_value_is_told_to_nobody() {
    let platform = Platform::default();
    let canary = Canary::new();
    let watched = AtomicBool::new(true);
    std::thread::scope(|threads| {
        let watcher = threads.spawn(|| watch(&platform, &canary, &watched));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| live(&platform, &canary)));
        watched.store(false, Ordering::Relaxed);
        let seen = watcher.join().expect("the watcher");
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
        assert!(seen > 3, "only {seen} containers were looked at");
    });

    let mut found = Vec::new();
    assert!(!canary.is_in(platform.server_log().as_bytes()), "it is in the server's log");
    in_files(&platform.data(), &canary, &mut found);
    assert!(found.is_empty(), "it is in {found:#?}");
    platform.with_engine(async |docker| in_engine(&docker, &platform.install(), &canary).await);
    platform.finish();
}

/// What an app lives through, with the value in its config vars. Whatever a command prints is looked at as well,
/// but for those that are asked for the value.
fn live(platform: &Platform, canary: &Canary) {
    let app = platform.repository("flask");
    app.write("Procfile", "web: gunicorn app:app --bind 0.0.0.0:$PORT\nrelease: python -c 'print(\"released\")'\n");
    app.commit("A release phase");
    app.paas("create secretive").done();
    app.paas(&format!("config:set SECRET={} GREETING=hi", canary.value())).done();
    app.paas(&format!("config:set UNSET={}", canary.0[0])).done();
    app.paas("config:unset UNSET").done();
    let mut told = vec![app.push().done()];
    platform.serves("secretive", "GREETING=hi", SOON);
    // The app itself knows it.
    let known = app.run(&["paas", "run", "--no-tty", "python", "-c", "import os; print(len(os.environ['SECRET']))"]);
    assert_eq!(known.clone().done().stdout.trim(), canary.value().len().to_string());
    told.push(known);
    told.push(app.run(&["paas", "run:detached", "--", "python", "-c", "import os; os.environ['SECRET']"]).done());
    told.push(app.paas("config:set GREETING=ho").done());
    platform.serves("secretive", "GREETING=ho", SOON);
    told.push(app.paas("restart").done());

    // Errors: a build, a release phase and a dyno that fail.
    app.write(".python-version", "2.7\n");
    app.commit("Fails to build");
    told.push(app.push().exits(1));
    app.write(".python-version", "");
    app.git("rm -q --cached .python-version").done();
    std::fs::remove_file(app.folder().join(".python-version")).expect("removed");
    app.write("Procfile", "web: gunicorn app:app\nrelease: exit 3\n");
    app.commit("Fails to release");
    told.push(app.push().exits(1));
    app.write("Procfile", "web: exit 4\n");
    app.commit("Fails to start");
    told.push(app.push().exits(1));
    for words in ["releases", "releases:output v8", "ps", "apps:info", "builds", "logs -n 1500"] {
        told.push(app.paas(words));
    }

    // The server dies and comes back.
    platform.kill_server();
    platform.start_server(&[]);
    platform.serves("secretive", "GREETING=ho", SOON);
    told.push(app.paas("restart").done());
    std::thread::sleep(Duration::from_secs(2));
    told.push(app.paas("logs -n 1500").done());
    for ran in told {
        assert!(!canary.is_in(ran.stdout.as_bytes()) && !canary.is_in(ran.stderr.as_bytes()), "{ran}");
    }
}

/// Looks at what the engine tells about every container of the installation, for as long as `watched`; builds and
/// release phases are there for moments only.
fn watch(platform: &Platform, canary: &Canary, watched: &AtomicBool) -> usize {
    let mut seen = std::collections::HashSet::new();
    platform.with_engine(async |docker| {
        let label = format!("paas.install={}", platform.install());
        while watched.load(Ordering::Relaxed) {
            for id in containers(&docker, &label).await {
                let Ok(told) = docker.inspect_container(&id, None).await else { continue };
                let told = serde_json::to_string(&told).expect("JSON");
                assert!(!canary.is_in(told.as_bytes()), "the engine tells it: {told}");
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

/// The data folder's files that hold the value: the database, the logs, the outputs, the repositories, the layers.
fn in_files(folder: &Path, canary: &Canary, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            in_files(&entry.path(), canary, found);
        } else if kind.is_file() && canary.is_in(&std::fs::read(entry.path()).unwrap_or_default()) {
            found.push(entry.path().display().to_string());
        }
    }
}

/// Containers, images and volumes, as the engine tells of them and what is in them.
async fn in_engine(docker: &Docker, install: &str, canary: &Canary) {
    let label = format!("paas.install={install}");
    let told = containers(docker, &label).await;
    assert!(!told.is_empty(), "a dyno runs");
    let images = docker.list_images(None::<bollard::query_parameters::ListImagesOptions>).await.expect("images");
    let prefix = format!("paas-{install}/");
    let tags: Vec<String> = images.into_iter().flat_map(|i| i.repo_tags).filter(|t| t.starts_with(&prefix)).collect();
    assert!(tags.len() >= 2, "images of two releases: {tags:?}");
    for tag in &tags {
        let about = serde_json::to_vec(&docker.inspect_image(tag).await.expect("an image")).expect("JSON");
        assert!(!canary.is_in(&about), "it is in the image {tag}'s config");
        let history = serde_json::to_vec(&docker.image_history(tag).await.expect("a history")).expect("JSON");
        assert!(!canary.is_in(&history), "it is in the image {tag}'s history");
        in_folder(docker, install, tag, None, "/workspace", canary).await;
        in_folder(docker, install, tag, None, "/layers", canary).await;
        in_folder(docker, install, tag, None, "/paas", canary).await;
    }
    let filters = std::collections::HashMap::from([("label".to_owned(), vec![label])]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let volumes = docker.list_volumes(Some(options)).await.expect("volumes").volumes.unwrap_or_default();
    assert!(!volumes.is_empty(), "the layers are kept in a volume");
    for volume in volumes {
        in_folder(docker, install, &tags[0], Some(&volume.name), "/looked-at", canary).await;
    }
}

/// Reads a folder of an image, or a volume mounted there, as the engine's tar of it.
async fn in_folder(docker: &Docker, install: &str, image: &str, volume: Option<&str>, folder: &str, canary: &Canary) {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some([("paas.install".to_owned(), install.to_owned())].into()),
        host_config: volume
            .map(|volume| HostConfig { binds: Some(vec![format!("{volume}:{folder}:ro")]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let name = format!("paas-{install}-look");
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    docker.create_container(Some(options), body).await.expect("a container");
    let options = DownloadFromContainerOptionsBuilder::new().path(folder).build();
    let mut bytes = docker.download_from_container(&name, Some(options));
    let mut window: Vec<u8> = Vec::new();
    let mut size = 0;
    while let Some(part) = bytes.next().await {
        let part = part.unwrap_or_else(|e| panic!("{folder} of {image} cannot be read: {e}"));
        size += part.len();
        window.extend_from_slice(&part);
        assert!(!canary.is_in(&window), "it is in {folder} of {image} {volume:?}");
        window.drain(..window.len().saturating_sub(64));
    }
    assert!(size > 0, "{folder} of {image} is empty");
    let remove = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&name, Some(remove)).await.expect("removed");
}
