//! A look at a whole platform: its rows, what the Docker engine has of it, its logs, its files, its answers.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, InspectNetworkOptions, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder,
};
use paas_domain::{AppId, DynoId, DynoKind, DynoName, DynoState, ReleaseVersion, app13};
use paas_ports::outside;
use paas_server::data_folder::DataFolder;
use paas_store::{AppScope, Store};

use super::fakes::files;
use super::promises::Promises;
use super::seen::{count_in, dropped_in};
use super::{Host, Reached, Rows, Run, Seen, SeenDyno};
use crate::engine;
use crate::platform::{Method, Platform};

/// The most lines of an app's log that a look reads.
const LINES: usize = 1_500;

/// Looks at a platform, and at a few objects beside it that are none of its own.
pub struct Eyes<'a> {
    platform: &'a Platform,
    strangers: Strangers,
    /// Images that were searched: an image never changes.
    searched: RefCell<HashSet<String>>,
}

impl<'a> Eyes<'a> {
    /// Begins to look, and puts the strangers there.
    ///
    /// # Panics
    /// When the engine does not make them.
    #[must_use]
    pub fn open(platform: &'a Platform) -> Self {
        let id = format!("stranger{}", std::process::id());
        let image = std::env::var("PAAS_TEST_RUN").expect("not run: PAAS_TEST_RUN is not set (`make test` sets it)");
        let strangers = platform.with_engine(async |docker| Strangers::make(&docker, id, image).await);
        Self { platform, strangers, searched: RefCell::default() }
    }

    /// The right to look at an app.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn scope(&self, app: &str) -> AppScope {
        self.with_store(async |store| {
            let mut uow = store.read().await.expect("a look");
            let account = uow.first_account().await.expect("a look").expect("an account");
            uow.authorize(&account.id, app).await.expect("a look").expect("the app").0
        })
    }

    /// Everything at this moment.
    ///
    /// # Panics
    /// When the platform does not answer.
    #[must_use]
    pub fn look(&self, promises: &Promises) -> Seen {
        let mut seen = self.with_store(async |store| {
            let docker = engine::connect().await;
            loop {
                let before = Rows::of_all(store, promises).await;
                let containers = self.containers(&docker).await;
                let after = Rows::of_all(store, promises).await;
                if !before.values().map(Rows::moment).eq(after.values().map(Rows::moment)) {
                    continue;
                }
                let mut seen = Seen { rows: after, ..Seen::default() };
                seen.dynos = containers.iter().filter_map(|(_, state, tags)| dyno(&seen.rows, state, tags)).collect();
                strays(store, promises, &containers, &mut seen).await;
                self.volumes(&docker, &mut seen).await;
                self.inspect(&docker, promises, &containers, &mut seen).await;
                seen.disturbed = self.strangers.disturbed(&docker).await;
                return seen;
            }
        });
        self.images(promises, &mut seen);
        self.logs(promises, &mut seen);
        self.hosts(promises, &mut seen);
        let git = self.platform.data().join("git");
        seen.read_tips(|app| git.join(format!("{app}.git")));
        self.files(promises, &mut seen);
        seen
    }

    fn with_store<T>(&self, work: impl AsyncFnOnce(&Store) -> T) -> T {
        let data = self.platform.data();
        let key = DataFolder::open(&data).and_then(|data| data.master_key()).expect("the key");
        self.platform.with_engine(async |_| {
            outside::task(async {
                let store = Store::open(&format!("sqlite:{}", data.join("paas.db").display()), key).await;
                let store = store.expect("the database opens");
                let result = work(&store).await;
                // Before anything else of this process opens and closes the file: that would drop its locks.
                store.close().await;
                result
            })
            .await
        })
    }

    /// Id, state and labels of every container of the installation.
    async fn containers(&self, docker: &Docker) -> Vec<Container> {
        let label = format!("paas.install={}", self.platform.install());
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = docker.list_containers(Some(options)).await.expect("containers");
        let read = |c: bollard::models::ContainerSummary| {
            Some((c.id?, c.state.map(|state| state.to_string()).unwrap_or_default(), c.labels.unwrap_or_default()))
        };
        containers.into_iter().filter_map(read).collect()
    }

    async fn volumes(&self, docker: &Docker, seen: &mut Seen) {
        let label = format!("paas.install={}", self.platform.install());
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        for volume in docker.list_volumes(Some(options)).await.expect("volumes").volumes.unwrap_or_default() {
            let app = volume.labels.get("paas.app").and_then(|app| app.parse::<AppId>().ok());
            if !app.is_some_and(|app| seen.rows.contains_key(&app)) {
                seen.strays.push(format!("volume {}", volume.name));
            }
        }
    }

    /// What the engine tells of every container, to whoever may ask it.
    async fn inspect(&self, docker: &Docker, promises: &Promises, containers: &[Container], seen: &mut Seen) {
        for (id, _, _) in containers {
            let Ok(told) = docker.inspect_container(id, None::<InspectContainerOptions>).await else { continue };
            if promises.are_told(&serde_json::to_vec(&told).expect("JSON")) {
                seen.leaks.push(format!("what the engine tells of container {:?}", told.name));
            }
        }
    }

    fn images(&self, promises: &Promises, seen: &mut Seen) {
        let known: BTreeMap<String, &Rows> = seen.rows.iter().map(|(app, rows)| (app13(app), rows)).collect();
        for (tag, id) in self.platform.images("") {
            let repository = tag.split('/').nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
            let released = |rows: &&Rows| {
                let of_build = rows.builds.iter().filter_map(|build| build.image.as_ref());
                let of_release = rows.releases.iter().filter_map(|release| release.image.as_ref());
                of_build.chain(of_release).any(|image| image.as_str() == id) || rows.has_open_jobs()
            };
            // Thirteen letters are an app's; the builder keeps others for all of them.
            if repository.len() == 13 && !known.get(repository).is_some_and(released) {
                seen.strays.push(format!("image {tag}"));
            }
            if self.searched.borrow_mut().insert(id.clone()) {
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

    /// The lines of the apps' logs that processes have counted: `run <token> count 2 of 3`, a token for each start.
    fn logs(&self, promises: &Promises, seen: &mut Seen) {
        for app in promises.apps().filter(|app| !app.destroyed) {
            let (id, path) = (app.scope.id(), format!("/apps/{}/log-sessions", app.name));
            let asked = serde_json::json!({"lines": LINES, "tail": false, "source": "app"});
            let session = self.platform.api(Method::Post, &path, Some(&asked)).json();
            let url = session["logplex_url"].as_str().expect("a URL").to_owned();
            let at = url.find("/log-sessions/").expect("a session's path");
            let text = self.platform.api(Method::Get, &url[at..], None).body;
            assert!(text.lines().count() < LINES, "the log of {} is longer than a look", app.name);
            if promises.are_told(text.as_bytes()) {
                seen.leaks.push(format!("the log of {}", app.name));
            }
            let dropped =
                text.lines().filter_map(|line| line.split_once("]: ")).map(|(_, said)| dropped_in(said)).sum();
            let mut places: HashMap<(String, String), usize> = HashMap::new();
            for line in text.lines() {
                let Some((process, said)) = line.split_once("app[").and_then(|(_, rest)| rest.split_once("]: ")) else {
                    continue;
                };
                let token = said.strip_prefix("run ").and_then(|rest| rest.split_once(" count "));
                let (Some((token, _)), Some((number, total))) = (token, count_in(said)) else { continue };
                let place = *places.entry((process.to_owned(), token.to_owned())).or_insert_with(|| {
                    let (app, process) = (id.clone(), process.to_owned());
                    seen.runs.push(Run { app, process, numbers: Vec::new(), total, dropped });
                    seen.runs.len() - 1
                });
                seen.runs[place].numbers.push(number);
            }
            for (process, _) in places.into_keys() {
                let Ok(name) = process.parse::<DynoName>() else { continue };
                if app.one_offs.values().any(|(promised, _)| *promised == name) || name.process_type.is_release() {
                    *seen.starts.entry((id.clone(), name)).or_default() += 1;
                }
            }
        }
    }

    fn hosts(&self, promises: &Promises, seen: &mut Seen) {
        let mut owners: BTreeMap<String, Option<AppId>> = BTreeMap::from([("nobody".to_owned(), None)]);
        for app in promises.apps() {
            owners.insert(app.name.clone(), (!app.destroyed).then(|| app.scope.id().clone()));
        }
        for (name, owner) in owners {
            let Ok(answer) = self.platform.try_get(&name, "/") else { continue };
            let says = |text: &Option<String>| text.as_ref().is_some_and(|text| answer.body.contains(text));
            let reached = match promises.apps().find(|app| says(&app.says)) {
                Some(app) if answer.status == 200 => Reached::App(app.scope.id().clone()),
                _ if answer.status == 404 => Reached::Nobody,
                _ => Reached::Page,
            };
            seen.hosts.push(Host { name, owner, reached });
        }
    }

    /// The data folder and the server's own log.
    fn files(&self, promises: &Promises, seen: &mut Seen) {
        if promises.are_told(self.platform.server_log().as_bytes()) {
            seen.leaks.push("the server's log".to_owned());
        }
        for file in files(&self.platform.data()) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            if promises.are_told(&bytes) {
                seen.leaks.push(file.display().to_string());
            }
        }
    }
}

impl Drop for Eyes<'_> {
    fn drop(&mut self) {
        self.platform.with_engine(async |docker| self.strangers.remove(&docker).await);
    }
}

type Container = (String, String, HashMap<String, String>);

/// The dyno that a container is by its labels. What a running one does, its row says.
fn dyno(rows: &BTreeMap<AppId, Rows>, state: &str, tags: &HashMap<String, String>) -> Option<SeenDyno> {
    let tag = |key: &str| tags.get(&format!("paas.{key}"));
    let (app, id): (AppId, DynoId) = (tag("app")?.parse().ok()?, tag("dyno")?.parse().ok()?);
    let kind: DynoKind = tag("kind")?.parse().ok()?;
    let row = rows.get(&app).and_then(|rows| rows.dynos.iter().find(|row| row.id == id));
    let state = match state {
        "created" => DynoState::Starting,
        "running" => row.map_or(DynoState::Starting, |row| row.state),
        _ if kind == DynoKind::Service => DynoState::Crashed,
        _ => DynoState::Ended,
    };
    let release = ReleaseVersion(tag("release")?.parse().ok()?);
    Some(SeenDyno { app, id, name: tag("name")?.parse().ok()?, kind, release, state })
}

/// Containers that no row names.
async fn strays(store: &Store, promises: &Promises, containers: &[Container], seen: &mut Seen) {
    let at_work: BTreeSet<&AppId> =
        seen.rows.iter().filter(|(_, rows)| rows.has_open_jobs()).map(|(app, _)| app).collect();
    let mut strays = Vec::new();
    for (id, state, tags) in containers {
        let app = tags.get("paas.app").and_then(|app| app.parse::<AppId>().ok());
        let promised = promises.apps().find(|promised| Some(promised.scope.id()) == app.as_ref());
        let named = match (promised, tags.get("paas.dyno").and_then(|dyno| dyno.parse::<DynoId>().ok())) {
            (Some(app), Some(dyno)) => store.read().await.expect("a look").dyno(&app.scope, &dyno).await.is_ok(),
            (Some(app), None) => at_work.contains(app.scope.id()),
            (None, _) => false,
        };
        if !named {
            strays.push(format!("container {id} ({state}, {:?})", tags.get("paas.name")));
        }
    }
    seen.strays.extend(strays);
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
