//! A whole server in the test's own process, for pushes with the real git: fake builder, registry and logs; no
//! dyno ever runs (the apps have only process types of quantity zero, so that every release "serves" at once).
#![allow(dead_code, unreachable_pub)]

pub mod pack;
pub mod raw;
pub mod repo;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::serve::ListenerExt as _;
use paas_domain::{AppId, DynoId, Generation, InstallId, ProcessType, SystemClock};
use paas_ports::fake::{
    FakeBuilder, FakeBuilds, FakeImages, FakeLogStore, FakeLogWorld, FakeOutputStore, FakeRegistry,
};
use paas_ports::{
    Attachment, Duplex, Ingress, Observed, OneOffSpec, PortError, Progress, Route, Runtime, ServiceSpec, outside,
};
use paas_server::crash_point::CrashPoints;
use paas_server::cx::{Cx, Kicks, Parts, Settings};
use paas_server::git::{Limits, Repositories};
use paas_server::objects::Objects;
use paas_server::ops::create_app::create_app;
use paas_server::token::{new_token, token_hash, token_hint};
use paas_store::{Account, AppScope, Build, MasterKey, NewAuthorization, Release, Store};
use paas_tests::core_world::memory_folder;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::repo::Repo;
use self::repo::command;

pub struct World {
    pub cx: Cx,
    pub builds: Arc<FakeBuilds>,
    pub account: Account,
    pub key: String,
    pub port: u16,
    pub folder: Arc<tempfile::TempDir>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// What outlives a server: its data folder, and the world behind its fakes.
#[derive(Clone)]
pub struct Outside {
    pub folder: Arc<tempfile::TempDir>,
    pub builds: Arc<FakeBuilds>,
    logs: Arc<FakeLogWorld>,
    images: Arc<FakeImages>,
}

impl Outside {
    pub fn new() -> Self {
        Self {
            folder: Arc::new(memory_folder()),
            builds: FakeBuilds::new(),
            logs: Arc::default(),
            images: FakeImages::new(),
        }
    }
}

/// An app of a [`World`].
#[derive(Clone)]
pub struct App {
    pub scope: AppScope,
    pub name: String,
    pub url: String,
}

impl World {
    pub async fn start() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        Self::on(&Outside::new(), limits).await
    }

    /// A server on what an earlier one may have left.
    pub async fn on(outside_world: &Outside, limits: Limits) -> Self {
        Self::host(outside_world, limits, None).await
    }

    /// A server on a host of its own: it shares the database and the objects with others, and nothing else.
    pub async fn on_host(outside_world: &Outside, host: &str) -> Self {
        Self::host(outside_world, Limits::default(), Some(host)).await
    }

    async fn host(outside_world: &Outside, limits: Limits, alone: Option<&str>) -> Self {
        let Outside { folder, builds, logs, images } = outside_world.clone();
        let registry = Arc::new(FakeRegistry::new(images));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let host = format!("127.0.0.1:{port}");
        let url = format!("sqlite:{}", folder.path().join("paas.db").display());
        let key = MasterKey::new(&[7; 32]).expect("a key");
        let store = outside::task(Store::open(&url, key)).await.expect("a database");
        let objects = Objects::in_folder(folder.path().join("objects")).expect("objects");
        let repositories = Repositories::new(folder.path().join(alone.unwrap_or("git")))
            .and_then(|repositories| repositories.with_hook_program(Path::new(env!("CARGO_BIN_EXE_git-hook"))))
            .expect("repositories")
            .with_limits(limits);
        let repositories = if alone.is_some() { repositories.with_packs(objects.clone()) } else { repositories };
        let cx = Cx::new(Parts {
            store,
            clock: Arc::new(SystemClock),
            install: InstallId::random(),
            runtime: Arc::new(NoDynos),
            ingress: Arc::new(NoDynos),
            registry: registry.clone(),
            builder: Arc::new(FakeBuilder::new(builds.clone(), registry)),
            logs: Arc::new(FakeLogStore(logs.clone())),
            outputs: Arc::new(FakeOutputStore(logs)),
            objects,
            repositories,
            settings: Settings::new(&format!("http://{host}"), &host, "localhost", None, ("localhost".into(), 1)),
            kicks: Kicks::default(),
            crash_points: CrashPoints::none(),
        });
        outside::task(async {
            let mut uow = cx.begin().await.expect("begun");
            uow.free_leases().await.expect("freed");
            uow.save().await.expect("saved");
        })
        .await;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(paas_server::jobs::run(cx.clone(), "test".into(), paas_tests::core_world::TAKES, stopped));
        let router = paas_server::git::http::router(cx.clone());
        // As the real server's port: without it git's small requests wait for delayed acknowledgements.
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a socket"));
        tasks.spawn(async move { axum::serve(listener, router).await.expect("served") });
        let (account, key) = make_account(&cx, "someone@example.com", &["global"]).await;
        Self { cx, builds, account, key, port, folder, stop, tasks }
    }

    pub async fn app(&self, name: &str) -> App {
        self.app_of(&self.account, name).await
    }

    pub async fn app_of(&self, account: &Account, name: &str) -> App {
        let name = name.to_owned();
        let made = create_app(&self.cx, account, Some(name.parse().expect("a name")));
        let (scope, _) = outside::task(made).await.expect("an app");
        App { scope, url: self.url(&name, &self.key), name }
    }

    pub fn url(&self, app: &str, key: &str) -> String {
        format!("http://someone:{key}@127.0.0.1:{}/{app}.git", self.port)
    }

    pub async fn account(&self, email: &str, scope: &[&str]) -> (Account, String) {
        make_account(&self.cx, email, scope).await
    }

    pub async fn key(&self, account: &Account, scope: &[&str]) -> String {
        make_key(&self.cx, account, scope).await
    }

    /// A repository with one commit that deploys.
    pub fn repo(&self) -> Repo {
        let repo = Repo::empty(self.folder.path());
        repo.commit("Procfile", "worker: run\n");
        repo
    }

    pub fn empty_repo(&self) -> Repo {
        Repo::empty(self.folder.path())
    }

    /// An app that an earlier server made.
    pub async fn find(&self, name: &str) -> App {
        let found = async { self.cx.store.read().await.expect("read").authorize(&self.account.id, name).await };
        let (scope, _) = outside::task(found).await.expect("read").expect("there");
        App { scope, url: self.url(name, &self.key), name: name.to_owned() }
    }

    pub async fn branches(&self, app: &App) -> Vec<(String, String)> {
        let rows = async { self.cx.store.read().await.expect("read").branches(&app.scope).await };
        outside::task(rows).await.expect("branches")
    }

    /// Whether a job of this app is under way.
    pub async fn works_on(&self, app: &App) -> bool {
        let open = async { self.cx.store.read().await.expect("read").has_open_job(&app.scope).await };
        outside::task(open).await.expect("jobs")
    }

    pub async fn builds_of(&self, app: &App) -> Vec<Build> {
        let rows = async { self.cx.store.read().await.expect("read").builds(&app.scope).await };
        outside::task(rows).await.expect("builds")
    }

    pub async fn releases(&self, app: &App) -> Vec<Release> {
        let rows = async { self.cx.store.read().await.expect("read").releases(&app.scope).await };
        outside::task(rows).await.expect("releases")
    }

    /// The refs in the app's repository, as git itself sees them.
    pub fn refs(&self, app: &App) -> Vec<String> {
        let path = self.path(app);
        if !path.exists() {
            return Vec::new();
        }
        let output = command(&path)
            .args(["for-each-ref", "--format=%(refname) %(objectname)"])
            .output()
            .expect("not run: no git");
        String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
    }

    pub fn path(&self, app: &App) -> PathBuf {
        self.cx.repositories.path(app.scope.id())
    }

    /// Packs and quarantines in the app's repository.
    pub fn objects(&self, app: &App) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["objects", "objects/pack"] {
            let Ok(entries) = std::fs::read_dir(self.path(app).join(folder)) else { continue };
            found.extend(entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()));
        }
        found.sort();
        found
    }

    /// Waits until something is true; at most a minute.
    pub async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !holds().await {
            assert!(Instant::now() < until, "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn make_account(cx: &Cx, email: &str, scope: &[&str]) -> (Account, String) {
    let made = async {
        let mut uow = cx.begin().await.expect("begun");
        let known = uow.first_account().await.expect("read").filter(|account| account.email == email);
        let account = match known {
            Some(account) => account,
            None => uow.create_account(email, cx.now()).await.expect("an account"),
        };
        uow.save().await.expect("saved");
        account
    };
    let account = outside::task(made).await;
    let key = make_key(cx, &account, scope).await;
    (account, key)
}

async fn make_key(cx: &Cx, account: &Account, scope: &[&str]) -> String {
    let key = new_token("HRKU");
    let new = NewAuthorization {
        token_hash: token_hash(&key),
        token_hint: token_hint(&key),
        description: "test".into(),
        scope: scope.iter().map(|s| (*s).to_owned()).collect(),
        expires_at: None,
    };
    outside::task(async {
        let mut uow = cx.begin().await.expect("begun");
        uow.create_authorization(&account.id, &new, cx.now()).await.expect("a key");
        uow.save().await.expect("saved");
    })
    .await;
    key
}

/// A platform on which nothing ever runs.
struct NoDynos;

#[async_trait]
impl Runtime for NoDynos {
    async fn ensure(&self, _: &ServiceSpec) -> Result<Progress, PortError> {
        Ok(Progress::Settled)
    }
    async fn remove(&self, _: &AppId, _: &ProcessType, _: Generation) -> Result<(), PortError> {
        Ok(())
    }
    async fn observe(&self, _: &AppId) -> Result<Observed, PortError> {
        Ok(Observed::default())
    }
    async fn start_once(&self, _: &DynoId, _: &OneOffSpec) -> Result<(), PortError> {
        Err(PortError::permanent("starting a dyno", "there are none"))
    }
    async fn attach(&self, _: &DynoId) -> Result<Duplex, PortError> {
        Err(PortError::permanent("attaching", "there are none"))
    }
    async fn hang_up(&self, _: &DynoId) -> Result<(), PortError> {
        Ok(())
    }
    async fn stop(&self, _: &DynoId) -> Result<(), PortError> {
        Ok(())
    }
    async fn forget(&self, _: &DynoId) -> Result<(), PortError> {
        Ok(())
    }
    async fn remove_app(&self, _: &AppId) -> Result<bool, PortError> {
        Ok(true)
    }
    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Ingress for NoDynos {
    async fn place(&self, app: &AppId, process_type: &ProcessType) -> Result<Attachment, PortError> {
        Err(PortError::permanent("placing", format!("{app} {process_type}: there is no router")))
    }
    async fn check_hosts(&self, _: &AppId, _: &[paas_domain::HostName]) -> Result<(), PortError> {
        Ok(())
    }
    async fn publish(&self, _: &Route) -> Result<(), PortError> {
        Ok(())
    }
    async fn remove(&self, _: &AppId) -> Result<(), PortError> {
        Ok(())
    }
    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        Ok(Vec::new())
    }
}

/// An entry of an archive.
#[derive(Debug, PartialEq, Eq)]
pub struct Archived {
    pub name: String,
    pub mode: u32,
    pub link: Option<String>,
    pub content: Vec<u8>,
}

/// The archive of a commit, read.
pub async fn archive(world: &World, app: &App, commit: &str) -> Vec<Archived> {
    use std::io::Read as _;
    let into = world.folder.path().join("archive.tar");
    world.cx.repositories.archive(app.scope.id(), commit, &into).await.expect("an archive");
    let mut archive = tar::Archive::new(std::fs::File::open(into).expect("there"));
    let entries = archive.entries().expect("entries").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        let link = entry.link_name().expect("a link").map(|link| link.to_string_lossy().into_owned());
        let name = entry.path().expect("a path").to_string_lossy().into_owned();
        Archived { name, mode: entry.header().mode().expect("a mode"), link, content }
    });
    entries.collect()
}
