//! The whole core on fakes: a world that outlives its servers, and servers that can be crashed.
//!
//! [`Outside`] is everything that survives a crash: the database file, repositories, objects, and the fakes' worlds.
//! [`Outside::start`] puts a server's loops on it; [`Core::crash`] drops them wherever they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use paas_domain::{AppName, Architecture, Clock, SystemClock, Timestamp};
use paas_ports::fake::builder::{FakeBuilder, FakeBuilds};
use paas_ports::fake::ingress::{FakeIngress, FakeRoutes};
use paas_ports::fake::log_store::{FakeLogStore, FakeLogWorld, FakeOutputStore};
use paas_ports::fake::registry::{FakeImages, FakeRegistry};
use paas_ports::fake::runtime::{FakeDynos, FakeRuntime, FakeTiming};
use paas_ports::{Registry, outside};
use paas_server::crash_point::CrashPoints;
use paas_server::cx::{Cx, Kicks, Parts, Settings};
use paas_server::git::Repositories;
use paas_server::objects::Objects;
use paas_store::{Account, AppScope, MasterKey, Store, Takes};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The machine's clock, which a test may set forward.
#[derive(Debug, Default)]
pub struct AheadClock(AtomicI64);

impl AheadClock {
    /// Sets it forward.
    pub fn advance_s(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for AheadClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_s(self.0.load(Ordering::SeqCst))
    }
}

/// What outlives a server.
pub struct Outside {
    folder: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    /// The dynos that there are.
    pub dynos: Arc<FakeDynos>,
    /// The routes that there are.
    pub routes: Arc<FakeRoutes>,
    /// The images that there are.
    pub images: Arc<FakeImages>,
    /// The builds that there are.
    pub builds: Arc<FakeBuilds>,
    /// Log lines and outputs.
    pub logs: Arc<FakeLogWorld>,
}

/// A server on a world.
pub struct Core {
    /// What its operations work with.
    pub cx: Cx,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

/// A server that does everything.
pub const TAKES: Takes = Takes { builds: Some(Architecture::X86), others: true };
/// The key of every database in tests.
const KEY: [u8; 32] = [7; 32];

impl Outside {
    /// An empty world.
    ///
    /// # Panics
    /// When there is no temporary folder.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Arc::new(SystemClock))
    }

    /// An empty world with its own time.
    ///
    /// # Panics
    /// When there is no temporary folder.
    #[must_use]
    pub fn at(clock: Arc<dyn Clock>) -> Self {
        let timing = FakeTiming {
            boot_timeout: Duration::from_millis(300),
            stop_grace: Duration::from_millis(40),
            drain_timeout: Duration::from_millis(40),
        };
        Self {
            folder: memory_folder(),
            dynos: FakeDynos::with_timing(clock.clone(), timing),
            routes: FakeRoutes::new(),
            images: FakeImages::new(),
            builds: FakeBuilds::new(),
            logs: Arc::default(),
            clock,
        }
    }

    /// Starts a server's loops on this world, as after a start of the process.
    ///
    /// # Panics
    /// When the database cannot be opened.
    pub async fn start(&self, crash_points: CrashPoints) -> Core {
        let (cx, changes) = self.open(crash_points).await;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(paas_server::jobs::run(cx.clone(), "test".to_owned(), TAKES, stopped.clone()));
        tasks.spawn(paas_server::reconcile::run(cx.clone(), "test".to_owned(), stopped.clone()));
        tasks.spawn(kick(cx.clone(), changes, stopped));
        Core { cx, stop, tasks }
    }

    /// A server without its loops: what it is made to do it does, and nothing that it finds does it mend.
    ///
    /// # Panics
    /// When the database cannot be opened.
    pub async fn start_idle(&self) -> Cx {
        self.open(CrashPoints::none()).await.0
    }

    async fn open(&self, crash_points: CrashPoints) -> (Cx, mpsc::UnboundedReceiver<paas_domain::AppId>) {
        let path = |name: &str| self.folder.path().join(name);
        let key = MasterKey::new(&KEY).expect("a key");
        let url = format!("sqlite:{}", path("paas.db").display());
        let store = Store::open(&url, key).await.expect("the database opens");
        let (changed, changes) = mpsc::unbounded_channel();
        let registry: Arc<dyn Registry> = Arc::new(FakeRegistry::new(Arc::clone(&self.images)));
        let ingress = Arc::new(FakeIngress::new(Arc::clone(&self.routes)));
        let logs = Arc::new(FakeLogStore(Arc::clone(&self.logs)));
        let on_change = Arc::new(move |app: &paas_domain::AppId| {
            let _ = changed.send(app.clone());
        });
        let runtime =
            FakeRuntime::new(Arc::clone(&self.dynos), Some(ingress.clone()), Some(logs.clone()), Some(on_change));
        let mut settings =
            Settings::new("http://localhost:1", "localhost:1", "localhost", None, ("localhost".to_owned(), 2));
        settings.sweep = Duration::from_millis(200);
        settings.orphans = settings.sweep;
        settings.rollout_wait = Duration::from_secs(5);
        let install = outside::task(async {
            let mut uow = store.begin().await.expect("a transaction");
            let install = uow.installation(None, self.clock.now()).await.expect("an id");
            if uow.first_account().await.expect("a look").is_none() {
                uow.create_account("dev@example.com", self.clock.now()).await.expect("an account");
            }
            uow.free_leases().await.expect("leases are free");
            uow.kick_all_apps(self.clock.now()).await.expect("apps are due");
            uow.save().await.expect("saved");
            install
        })
        .await;
        let cx = Cx::new(Parts {
            store,
            clock: self.clock.clone(),
            install,
            runtime: Arc::new(runtime),
            ingress,
            builder: Arc::new(FakeBuilder::new(Arc::clone(&self.builds), Arc::clone(&registry))),
            registry,
            logs,
            outputs: Arc::new(FakeOutputStore(Arc::clone(&self.logs))),
            objects: Objects::in_folder(path("objects")).expect("a folder"),
            repositories: Repositories::new(path("git")).expect("a folder"),
            settings,
            kicks: Kicks::default(),
            crash_points,
        });
        (cx, changes)
    }

    /// The folder with the database, the repositories and the objects.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What is left of any app outside the database.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut note = |what: &str, there: bool| left.extend(there.then(|| what.to_owned()));
        note("dynos", !self.dynos.apps_with_dynos().is_empty());
        note("images", !self.images.images().is_empty());
        note("builds", !self.builds.left().is_empty());
        note("logs or outputs", !self.logs.is_empty());
        for (folder, ending) in [("git", ".git"), ("objects", ".tar")] {
            let mut folders = vec![self.folder.path().join(folder)];
            while let Some(folder) = folders.pop() {
                for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                    if entry.file_name().to_string_lossy().ends_with(ending) {
                        left.push(entry.path().display().to_string());
                    } else if entry.path().is_dir() {
                        folders.push(entry.path());
                    }
                }
            }
        }
        left
    }
}

/// A temporary folder in memory where there is one: a process that is dropped loses nothing that it wrote, so the
/// disk plays no part, and waiting for it is most of what a life would do.
///
/// # Panics
/// When there is room in neither.
#[must_use]
pub fn memory_folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

impl Default for Outside {
    fn default() -> Self {
        Self::new()
    }
}

async fn kick(cx: Cx, mut changes: mpsc::UnboundedReceiver<paas_domain::AppId>, mut stopped: watch::Receiver<bool>) {
    loop {
        let app = tokio::select! {
            app = changes.recv() => app,
            _ = stopped.changed() => None,
        };
        let Some(app) = app else { return };
        let _ = outside::task(async {
            let mut uow = cx.begin().await?;
            uow.kick_app(&app, cx.now()).await?;
            uow.save().await
        })
        .await;
        cx.kick();
    }
}

impl Core {
    /// Ends the server as a crash would: every task is dropped where it is.
    pub async fn crash(mut self) {
        self.tasks.shutdown().await;
        // A dead process has no connections.
        self.cx.store.close().await;
    }

    /// Ends the server as SIGTERM would.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        self.cx.wake_all();
        while self.tasks.join_next().await.is_some() {}
        self.cx.store.close().await;
    }

    /// The account that every test works as.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn account(&self) -> Account {
        outside::task(async {
            let mut uow = self.cx.store.read().await.expect("a look");
            uow.first_account().await.expect("a look").expect("an account")
        })
        .await
    }

    /// Makes an app.
    ///
    /// # Panics
    /// When the name is taken.
    pub async fn create_app(&self, name: &str) -> AppScope {
        let name: AppName = name.parse().expect("a good name");
        let account = self.account().await;
        outside::task(paas_server::ops::create_app::create_app(&self.cx, &account, Some(name))).await.expect("an app").0
    }

    /// A commit with this Procfile in the app's repository, which is there; the same text makes the same commit.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn commit(&self, app: &AppScope, procfile: &str) -> String {
        self.commit_as(app, 0o100_644, procfile.as_bytes())
    }

    /// [`Core::commit`] with a Procfile of this mode and these bytes.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn commit_as(&self, app: &AppScope, mode: i32, procfile: &[u8]) -> String {
        let path = self.cx.repositories.path(app.id());
        let repository = git2::Repository::open_bare(path).expect("the repository");
        let blob = repository.blob(procfile).expect("a blob");
        let mut tree = repository.treebuilder(None).expect("a tree");
        tree.insert("Procfile", blob, mode).expect("an entry");
        let tree = repository.find_tree(tree.write().expect("written")).expect("a tree");
        let who = git2::Signature::new("dev", "dev@example.com", &git2::Time::new(0, 0)).expect("a name");
        repository.commit(None, &who, &who, "change", &tree, &[]).expect("a commit").to_string()
    }

    /// Waits until `look` answers something.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub async fn until<T>(&self, what: &str, look: impl AsyncFn(&Cx) -> Option<T>) -> T {
        let waited = tokio::time::timeout(
            Duration::from_secs(60),
            outside::task(async {
                loop {
                    if let Some(found) = look(&self.cx).await {
                        return found;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }),
        );
        waited.await.unwrap_or_else(|_| panic!("it did not come to it within a minute: {what}"))
    }
}
