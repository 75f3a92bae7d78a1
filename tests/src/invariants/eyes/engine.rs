//! What the Docker engine has of an installation: containers, volumes, images; and objects that are none of its.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerSummary, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, InspectNetworkOptions, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder,
};
use paas_domain::{AppId, DynoKind, DynoName, ReleaseVersion};

use super::{Shown, Stage, Thing};
use crate::engine;
use crate::invariants::{Promises, Rows, Seen};
use crate::platform::Platform;

/// Looks at the engine.
pub(super) struct Engine<'a> {
    platform: &'a Platform,
    strangers: Strangers,
    /// Images that were searched: an image never changes.
    searched: Mutex<HashSet<String>>,
}

impl<'a> Engine<'a> {
    pub(super) fn open(platform: &'a Platform) -> Self {
        let id = format!("stranger-of-{}", platform.install());
        let image = std::env::var("PAAS_TEST_RUN").expect("not run: PAAS_TEST_RUN is not set (`make test` sets it)");
        let strangers = platform.with_engine(async |docker| Strangers::make(&docker, id, image).await);
        Self { platform, strangers, searched: Mutex::default() }
    }

    /// Every container of the installation.
    pub(super) async fn things(&self) -> Vec<Thing> {
        let docker = engine::connect().await;
        self.containers(&docker).await.into_iter().filter_map(thing).collect()
    }

    async fn containers(&self, docker: &Docker) -> Vec<ContainerSummary> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(&self.ours()).build();
        docker.list_containers(Some(options)).await.expect("containers")
    }

    fn ours(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("paas.install={}", self.platform.install())])])
    }

    /// Everything else.
    pub(super) fn tell(&self, promises: &Promises, seen: &mut Seen) {
        self.platform.with_engine(async |docker| {
            self.volumes(&docker, seen).await;
            self.inspect(&docker, promises, seen).await;
            seen.disturbed.extend(self.strangers.disturbed(&docker).await);
        });
        self.images(promises, seen);
    }

    async fn volumes(&self, docker: &Docker, seen: &mut Seen) {
        let options = ListVolumesOptionsBuilder::new().filters(&self.ours()).build();
        for volume in docker.list_volumes(Some(options)).await.expect("volumes").volumes.unwrap_or_default() {
            let app = volume.labels.get("paas.app").and_then(|app| app.parse::<AppId>().ok());
            if !app.is_some_and(|app| seen.rows.contains_key(&app)) {
                seen.strays.push(format!("volume {}", volume.name));
            }
        }
    }

    /// What the engine tells of every container, to whoever may ask it.
    async fn inspect(&self, docker: &Docker, promises: &Promises, seen: &mut Seen) {
        for id in self.containers(docker).await.into_iter().filter_map(|container| container.id) {
            let Ok(told) = docker.inspect_container(&id, None::<InspectContainerOptions>).await else { continue };
            if promises.are_told(&serde_json::to_vec(&told).expect("JSON")) {
                seen.leaks.push(format!("what the engine tells of container {:?}", told.name));
            }
        }
    }

    fn images(&self, promises: &Promises, seen: &mut Seen) {
        let known: BTreeMap<String, &Rows> = seen.rows.iter().map(|(app, rows)| (app.to_string(), rows)).collect();
        for (tag, id) in self.platform.images("") {
            let repository = tag.split('/').nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
            let released = |rows: &&Rows| {
                let of_build = rows.builds.iter().filter_map(|build| build.image.as_ref());
                let of_release = rows.releases.iter().filter_map(|release| release.image.as_ref());
                of_build.chain(of_release).any(|image| image.as_str() == id) || rows.has_open_jobs()
            };
            // Those of apps have their ids; the builder keeps others for all of them.
            if repository.parse::<AppId>().is_ok() && !known.get(repository).is_some_and(released) {
                seen.strays.push(format!("image {tag}"));
            }
            if self.searched.lock().expect("nobody panicked").insert(id.clone()) {
                let told = self.platform.with_engine(async |docker| {
                    let about = docker.inspect_image(&id).await.ok();
                    format!("{about:?} {:?}", docker.image_history(&id).await.ok())
                });
                if promises.are_told(told.as_bytes()) {
                    seen.leaks.push(format!("the config or the history of image {tag}"));
                }
            }
        }
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        self.platform.with_engine(async |docker| self.strangers.remove(&docker).await);
    }
}

/// What a container is by its labels.
fn thing(container: ContainerSummary) -> Option<Thing> {
    let id = container.id?;
    let state = container.state.map(|state| state.to_string()).unwrap_or_default();
    let labels = container.labels.unwrap_or_default();
    let tag = |key: &str| labels.get(&format!("paas.{key}"));
    let shown = || {
        let name: DynoName = tag("name")?.parse().ok()?;
        let kind: DynoKind = tag("kind")?.parse().ok()?;
        let release = ReleaseVersion(tag("release")?.parse().ok()?);
        let stage = match state.as_str() {
            "created" => Stage::Made,
            "running" => Stage::Runs,
            _ => Stage::Ended,
        };
        Some(Shown { process_type: name.process_type.clone(), name: Some(name), kind, release, stage })
    };
    Some(Thing {
        what: format!("container {id} ({state}, {:?})", tag("name")),
        app: tag("app").and_then(|app| app.parse().ok()),
        dyno: tag("dyno").and_then(|dyno| dyno.parse().ok()),
        shown: shown(),
        past: false,
    })
}

/// Objects that are none of the platform's: one of another installation, one of nobody.
struct Strangers {
    id: String,
    before: Vec<String>,
}

impl Strangers {
    async fn make(docker: &Docker, id: String, image: String) -> Self {
        let body = ContainerCreateBody {
            image: Some(image),
            labels: Some([("paas.install".to_owned(), id.clone()), ("paas.app".to_owned(), id.clone())].into()),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&format!("paas-{id}")).build();
        docker.create_container(Some(options), body).await.expect("a container of another installation");
        let volume = VolumeCreateRequest { name: Some(format!("paas-{id}")), ..VolumeCreateRequest::default() };
        docker.create_volume(volume).await.expect("a volume of nobody");
        let network = NetworkCreateRequest { name: format!("paas-{id}"), ..NetworkCreateRequest::default() };
        docker.create_network(network).await.expect("a network of nobody");
        let mut strangers = Self { id, before: Vec::new() };
        strangers.before = strangers.told(docker).await;
        strangers
    }

    /// What the engine tells of them.
    async fn told(&self, docker: &Docker) -> Vec<String> {
        let name = format!("paas-{}", self.id);
        let container = docker.inspect_container(&name, None::<InspectContainerOptions>).await.ok();
        let volume = docker.inspect_volume(&name).await.ok();
        let network = docker.inspect_network(&name, None::<InspectNetworkOptions>).await.ok();
        vec![
            format!("container {:?}", container.map(|c| (c.id, c.state))),
            format!("volume {:?}", volume.map(|v| (v.name, v.created_at))),
            format!("network {:?}", network.map(|n| (n.id, n.created))),
        ]
    }

    async fn disturbed(&self, docker: &Docker) -> Vec<String> {
        let now = self.told(docker).await;
        let pairs = self.before.iter().zip(now).filter(|(before, now)| **before != *now);
        pairs.map(|(before, now)| format!("{before}, now {now},")).collect()
    }

    async fn remove(&self, docker: &Docker) {
        engine::remove_objects(docker, &format!("paas.install={}", self.id)).await;
        let name = format!("paas-{}", self.id);
        let _ = docker.remove_volume(&name, None::<bollard::query_parameters::RemoveVolumeOptions>).await;
        let _ = docker.remove_network(&name).await;
    }
}
