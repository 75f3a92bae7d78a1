//! The folder of the apps' repositories: made, projected and removed here, and nowhere else.
//!
//! An app's repository is `<root>/<app id>.git`: no name that a user chose is ever part of a path. Beside them is
//! `hooks`: links by which git starts our own program, and the socket where that program finds us.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use git2::{Oid, Repository, RepositoryInitOptions};
use paas_domain::AppId;
use paas_ports::{PortError, outside};
use tempfile::TempDir;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::packs::Packs;
use super::projection;
use crate::objects::Objects;

/// The socket's path as hooks see it, who run inside a repository.
pub(super) const SOCKET_FROM_REPOSITORY: &str = "../hooks/server.sock";
const SOCKET: &str = "server.sock";
/// What git leaves behind when the machine dies under it is removed when it is this old.
const STALE: Duration = Duration::from_secs(3600);

/// How much a push, a commit and all of them together may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a pack.
    pub max_pack: u64,
    /// Bytes of all files of a commit that is built.
    pub max_tree: u64,
    /// Bytes of one file of a commit that is built.
    pub max_file: u64,
    /// Files and folders of a commit that is built.
    pub max_entries: usize,
    /// Bytes that a pack may unpack to however small it is; a larger one to 64 for each of its own.
    pub max_unpacked: u64,
    /// Refs that one push changes.
    pub max_updates: usize,
    /// Branches and tags of one app.
    pub max_refs: usize,
    /// Pushes to one app at the same time.
    pub pushes_per_app: usize,
    /// Clones and fetches of one app at the same time.
    pub fetches_per_app: usize,
    /// How long a client may neither send nor take a byte.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1024 * 1024 * 1024;
        Self {
            max_pack: GIB,
            max_tree: GIB,
            max_file: GIB / 2,
            max_entries: 300_000,
            max_unpacked: GIB / 8,
            max_updates: 500,
            max_refs: 2_000,
            pushes_per_app: 32,
            fetches_per_app: 16,
            idle: Duration::from_secs(120),
        }
    }
}

/// Where the repositories are.
#[derive(Clone)]
pub struct Repositories {
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    /// Where other hosts find what was pushed here; `None` when there is one host only.
    packs: Option<Arc<Packs>>,
}

struct Shared {
    root: PathBuf,
    listener: UnixListener,
    apps: Mutex<HashMap<AppId, Arc<AppState>>>,
    stopping: CancellationToken,
}

/// What this process knows of one app's repository.
struct AppState {
    /// Held while its refs are written.
    refs: Arc<tokio::sync::Mutex<()>>,
    pushes: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
    /// The app is gone for good.
    removed: CancellationToken,
    swept: AtomicBool,
}

impl fmt::Debug for Repositories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repositories").field("root", &self.shared.root).finish_non_exhaustive()
    }
}

impl Repositories {
    /// Keeps repositories below `root`, which is made when it is not there, and listens there for the hooks, which
    /// git starts as this program. One process at a time has a root: the last to come gets the hooks.
    ///
    /// # Errors
    /// When the folder or the socket cannot be made.
    pub fn new(root: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        // Hooks run elsewhere: what they are given must not depend on where we are.
        let root = root.canonicalize()?;
        let hooks = root.join("hooks");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&hooks)?;
        let listener = listen(&hooks)?;
        let shared = Shared { root, listener, apps: Mutex::default(), stopping: CancellationToken::new() };
        let this = Self { shared: Arc::new(shared), limits: Arc::default(), packs: None };
        this.with_hook_program(&std::env::current_exe()?)
    }

    /// Has git start another program as hook than this one: for tests, whose program is the test's. It must
    /// call [`super::hook::main`].
    ///
    /// # Errors
    /// When the links cannot be made.
    pub fn with_hook_program(self, program: &Path) -> io::Result<Self> {
        for name in super::hook::NAMES {
            let (link, new) = (self.hooks().join(name), self.hooks().join(format!("{name}.new")));
            match fs::remove_file(&new) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => symlink(program, &new)?,
            }
            fs::rename(&new, &link)?;
        }
        Ok(self)
    }

    /// Other limits than the default ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Arc::new(limits);
        self
    }

    /// Keeps every pack in `objects` as well: repositories are then caches that are made of them, on any host.
    #[must_use]
    pub fn with_packs(mut self, objects: Objects) -> Self {
        self.packs = Some(Arc::new(Packs::new(objects)));
        self
    }

    /// Whether another host may have received what this one's repositories lack.
    pub(super) fn are_shared(&self) -> bool {
        self.packs.is_some()
    }

    /// Where the app's repository is.
    #[must_use]
    pub fn path(&self, app: &AppId) -> PathBuf {
        self.shared.root.join(format!("{app}.git"))
    }

    /// Tells every push that follows a build that the build goes on without it, and ends them. For a graceful stop.
    pub fn stop_following(&self) {
        self.shared.stopping.cancel();
    }

    /// Makes the app's repository when it is not there. Never brings back one that was removed.
    ///
    /// # Errors
    /// When it cannot be made, or the app was removed.
    pub async fn ensure(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Repositories::ensure");
        let state = self.state(app);
        if state.removed.is_cancelled() {
            return Err(PortError::NotFound("the app".into()));
        }
        let (root, path) = (self.shared.root.clone(), self.path(app));
        let sweep = !state.swept.swap(true, Ordering::Relaxed);
        let doing = "making the repository";
        let place = path.clone();
        let new = blocking(doing, move || {
            if sweep && place.is_dir() {
                sweep_quarantines(&place);
            }
            prepare(&root, &place)
        })
        .await?;
        if let Some(new) = new {
            if let Some(packs) = &self.packs {
                packs.fetch_missing(app, new.path()).await?;
            }
            blocking(doing, move || settle(new, &path)).await?;
        }
        // It may have gone while we made it.
        if state.removed.is_cancelled() {
            self.remove(app).await?;
            return Err(PortError::NotFound("the app".into()));
        }
        Ok(())
    }

    /// Removes the app's repository and ends everything that works on it. Succeeds when there is none. An app
    /// does not come back: afterwards there is no making it again.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Repositories::remove");
        self.state(app).removed.cancel();
        let (path, gone) = (self.path(app), self.shared.root.join(format!("{app}.gone")));
        if let Some(packs) = &self.packs {
            packs.remove(app).await?;
        }
        blocking("removing the repository", move || {
            match fs::rename(&path, &gone) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
            // A git process that is just being ended may still write into it.
            let mut last = Ok(());
            for _ in 0..20 {
                last = fs::remove_dir_all(&gone);
                match &last {
                    Ok(()) => return Ok(()),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
            Ok(last?)
        })
        .await
    }

    /// The apps that have a repository here, for the collection of those that have no row any more.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub async fn all(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Repositories::all");
        let root = self.shared.root.clone();
        blocking("listing the repositories", move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(root)? {
                let name = entry?.file_name();
                let id = name.to_str().and_then(|n| n.strip_suffix(".git").or_else(|| n.strip_suffix(".gone")));
                found.extend(id.and_then(|id| id.parse::<AppId>().ok()));
            }
            found.sort();
            found.dedup();
            Ok(found)
        })
        .await
    }

    /// Makes the repository's refs equal to `branches`: short names of branches, or whole `refs/tags/…`. A ref
    /// whose object is not there is left out.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn project(&self, app: &AppId, branches: &[(String, String)]) -> Result<(), PortError> {
        let _alone = self.alone(app).await;
        self.apply(app, branches.to_vec()).await
    }

    /// [`Self::project`] for a caller that holds [`Self::alone`].
    pub(super) async fn apply(&self, app: &AppId, branches: Vec<(String, String)>) -> Result<(), PortError> {
        self.ensure(app).await?;
        let commits: Vec<String> = branches.iter().map(|(_, commit)| commit.clone()).collect();
        self.catch_up(app, &commits).await?;
        let path = self.path(app);
        blocking("writing the refs", move || Ok(projection::write(&path, &branches)?)).await
    }

    /// Waits until nobody else writes the refs of this app.
    pub(super) async fn alone(&self, app: &AppId) -> OwnedMutexGuard<()> {
        let refs = Arc::clone(&self.state(app).refs);
        refs.lock_owned().await
    }

    /// Writes a commit's tree as one tar without compression: the same bytes for the same tree. Modes and
    /// symlinks are kept; no attribute of the tree has an effect.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when the commit is not there; permanent ones when it has submodules or is too large.
    pub async fn archive(&self, app: &AppId, commit: &str, into: &Path) -> Result<(), PortError> {
        outside::check("Repositories::archive");
        if self.are_shared() {
            self.ensure(app).await?;
            self.catch_up(app, &[commit.to_owned()]).await?;
        }
        let (this, app, commit, into) = (self.clone(), app.clone(), commit.to_owned(), into.to_owned());
        let work = move || super::archive::write(&this, &app, &commit, &into);
        tokio::task::spawn_blocking(work).await.map_err(|e| PortError::transient("reading the commit", e))?
    }

    /// Brings what other hosts received, when the repository lacks one of these commits.
    async fn catch_up(&self, app: &AppId, commits: &[String]) -> Result<(), PortError> {
        match &self.packs {
            Some(packs) if !self.has_all(app, commits).await? => packs.fetch_missing(app, &self.path(app)).await,
            _ => Ok(()),
        }
    }

    /// Makes the objects that a push brought outlive a power loss, and this host where there are others. Packs are
    /// synced by git, their names are not.
    pub(super) async fn make_durable(&self, app: &AppId) -> Result<(), PortError> {
        let (root, path) = (self.shared.root.clone(), self.path(app));
        blocking("storing the objects", move || {
            for folder in [path.join("objects/pack"), path.join("objects"), path.clone(), root] {
                fs::File::open(folder)?.sync_all()?;
            }
            Ok(())
        })
        .await?;
        let Some(packs) = &self.packs else { return Ok(()) };
        packs.send_new(app, &self.path(app)).await?;
        // It may have gone while we sent them.
        if self.state(app).removed.is_cancelled() {
            packs.remove(app).await?;
        }
        Ok(())
    }

    /// Whether the repository has all these objects already.
    pub(super) async fn has_all(&self, app: &AppId, ids: &[String]) -> Result<bool, PortError> {
        let (path, ids) = (self.path(app), ids.to_vec());
        blocking("looking for objects", move || {
            let repository = Repository::open_bare(path)?;
            let odb = repository.odb()?;
            Ok(ids.iter().all(|id| Oid::from_str(id).is_ok_and(|id| odb.exists(id))))
        })
        .await
    }

    /// Whether a branch that moves from `ancestor` to `commit` drops nothing: one is in the other's history, or is
    /// not there at all, so that nobody could fetch it.
    pub(super) async fn descends(&self, app: &AppId, commit: &str, ancestor: &str) -> Result<bool, PortError> {
        self.catch_up(app, &[ancestor.to_owned()]).await?;
        let (path, commit, ancestor) = (self.path(app), commit.to_owned(), ancestor.to_owned());
        blocking("reading the history", move || {
            let repository = Repository::open_bare(path)?;
            let (commit, ancestor) = (Oid::from_str(&commit)?, Oid::from_str(&ancestor)?);
            let gone = repository.find_commit(ancestor).is_err();
            Ok(gone || commit == ancestor || repository.graph_descendant_of(commit, ancestor)?)
        })
        .await
    }

    /// A place among the pushes of an app, and what ends them all; `None` when there are too many.
    pub(super) fn push_slot(&self, app: &AppId) -> Option<(OwnedSemaphorePermit, CancellationToken)> {
        let state = self.state(app);
        Some((Arc::clone(&state.pushes).try_acquire_owned().ok()?, state.removed.clone()))
    }

    /// A place among the fetches of an app.
    pub(super) fn fetch_slot(&self, app: &AppId) -> Option<(OwnedSemaphorePermit, CancellationToken)> {
        let state = self.state(app);
        Some((Arc::clone(&state.fetches).try_acquire_owned().ok()?, state.removed.clone()))
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn hooks(&self) -> PathBuf {
        self.shared.root.join("hooks")
    }

    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.shared.stopping
    }

    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.shared.listener.try_clone()
    }

    fn state(&self, app: &AppId) -> Arc<AppState> {
        let mut apps = self.shared.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || AppState {
            refs: Arc::default(),
            pushes: Arc::new(Semaphore::new(self.limits.pushes_per_app)),
            fetches: Arc::new(Semaphore::new(self.limits.fetches_per_app)),
            removed: CancellationToken::new(),
            swept: AtomicBool::new(false),
        };
        Arc::clone(apps.entry(app.clone()).or_insert_with(|| Arc::new(new())))
    }
}

/// What goes wrong with a repository's files.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{}", .0.message())]
    Git(#[from] git2::Error),
}

async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, PortError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|e| PortError::transient(doing, e))?;
    done.map_err(|e| PortError::transient(doing, e))
}

/// Listens in `hooks`. A socket's path may have 107 bytes only: we go by the folder's descriptor, hooks by a
/// relative path.
fn listen(hooks: &Path) -> io::Result<UnixListener> {
    let folder = fs::File::open(hooks)?;
    match fs::remove_file(hooks.join(SOCKET)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?;
    fs::set_permissions(hooks.join(SOCKET), fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// An empty bare repository under another name, when there is none at `path`.
fn prepare(root: &Path, path: &Path) -> Result<Option<TempDir>, FileError> {
    if path.join("HEAD").is_file() {
        return Ok(None);
    }
    let new = tempfile::Builder::new().prefix("new-").tempdir_in(root)?;
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false).initial_head("main");
    Repository::init_opts(new.path(), &options)?;
    fs::File::open(new.path().join("HEAD"))?.sync_all()?;
    Ok(Some(new))
}

/// Gives a repository that is whole its name: there is never half of one.
fn settle(new: TempDir, path: &Path) -> Result<(), FileError> {
    match fs::rename(new.path(), path) {
        Ok(()) => drop(new.keep()),
        // Somebody else was faster.
        Err(_) if path.join("HEAD").is_file() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Removes what git had half received when the machine died under it.
fn sweep_quarantines(path: &Path) {
    let Ok(entries) = fs::read_dir(path.join("objects")) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with("tmp_objdir-"));
        let changed = entry.metadata().and_then(|m| m.modified()).unwrap_or_else(|_| SystemTime::now());
        if ours && changed.elapsed().is_ok_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
