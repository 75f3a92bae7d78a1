//! Dynos as containers: a small ECS on the Docker engine.
//!
//! The engine is the truth about what runs, by labels; [`facts`] are the few things it cannot tell. A pass
//! ([`DockerRuntime`]'s `ensure`) compares, plans ([`diff`], pure) and carries out; between passes each
//! running dyno has a task of its own ([`minder`]) that tells the pool the moment it serves or ends, and
//! wakes the core. Both work from the same facts, so either may die at any point.

mod attach;
mod book;
mod container;
pub mod diff;
mod facts;
mod follow;
mod group;
mod look;
mod memory;
mod minder;
mod once;
mod pass;
mod tag;
mod voice;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt as _;
use paas_domain::{AppId, Clock, DynoId, Generation, InstallId, ProcessType};
use paas_ports::outside::check;
use paas_ports::{Duplex, LogLine, LogStore, Observed, OneOffSpec, Pools, PortError, Progress, Runtime, ServiceSpec};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::book::{Book, Dyno};
use self::facts::Files;
use self::group::Group;
use self::look::{Found, Stage};
use self::tag::Tag;
use crate::engine::INSTALL_LABEL;
use crate::network::Network;

/// Told that something about an app changed: look at it soon.
pub type OnChange = Arc<dyn Fn(&AppId) + Send + Sync>;

/// How long files of dynos that are gone are kept, so that no id is started twice.
const KEEP_FILES: Duration = Duration::from_secs(24 * 60 * 60);
/// The most that storing a line of the platform may hold anything up.
const SAY_LIMIT: Duration = Duration::from_secs(2);

/// What a [`DockerRuntime`] is made of.
pub struct DockerRuntimeOptions {
    /// The engine, its version negotiated ([`crate::engine::connect`]).
    pub docker: Docker,
    /// The engine's socket, for the bytes of one-off dynos.
    pub socket: PathBuf,
    /// Whose containers these are.
    pub install: InstallId,
    /// Where web dynos are registered.
    pub pools: Arc<dyn Pools>,
    /// Where dynos' output and the platform's lines about them go.
    pub logs: Arc<dyn LogStore>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Called when a dyno came up, ended or was tidied away. Must not block.
    pub on_change: OnChange,
    /// A folder of this driver's own. What is in it outlives the server.
    pub state_dir: PathBuf,
    /// Limits and pauses.
    pub timing: Timing,
}

/// Limits and pauses, Heroku's by default.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a web dyno may take to listen on `$PORT` (R10).
    pub boot_timeout: Duration,
    /// From SIGTERM to SIGKILL (R12).
    pub stop_grace: Duration,
    /// How long a dyno that has to go may finish its requests before SIGTERM.
    pub drain_timeout: Duration,
    /// How often memory is measured (R14).
    pub memory_every: Duration,
    /// What `$PORT` is in a web dyno.
    pub port: u16,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            boot_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            memory_every: Duration::from_secs(20),
            port: 5000,
        }
    }
}

/// The runtime driver of the local platform. Dropping it ends its tasks and leaves every dyno as it is.
pub struct DockerRuntime {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    docker: Docker,
    socket: PathBuf,
    install: InstallId,
    network: Network,
    pools: Arc<dyn Pools>,
    logs: Arc<dyn LogStore>,
    clock: Arc<dyn Clock>,
    on_change: OnChange,
    timing: Timing,
    files: Files,
    book: Book,
    groups: Mutex<HashMap<(AppId, ProcessType), Arc<Group>>>,
    once: once::Turns,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl DockerRuntime {
    /// Takes up the installation's dynos where they are. Call within a tokio runtime.
    ///
    /// # Errors
    /// [`PortError::Permanent`] when the state folder cannot be made.
    pub fn new(options: DockerRuntimeOptions) -> Result<Self, PortError> {
        let files = Files::open(&options.state_dir).map_err(|e| PortError::permanent("opening the dynos' state", e))?;
        let inner = Arc::new(Inner {
            network: Network::new(options.docker.clone(), &options.install, "dynos"),
            docker: options.docker,
            socket: options.socket,
            install: options.install,
            pools: options.pools,
            logs: options.logs,
            clock: options.clock,
            on_change: options.on_change,
            timing: options.timing,
            book: Book::new(files.clone()),
            files,
            groups: Mutex::default(),
            once: once::Turns::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        });
        let keeper = Arc::clone(&inner);
        inner.spawn(async move { keeper.keep().await });
        let measurer = Arc::clone(&inner);
        inner.spawn(async move { measurer.watch_memory().await });
        Ok(Self { inner })
    }

    /// Ends this driver's tasks and waits for them. Every dyno stays as it is.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Removes every container of this installation's dynos, and their network, at once.
    ///
    /// # Errors
    /// When the engine does not do it; calling again goes on.
    pub async fn remove_all(&self) -> Result<(), PortError> {
        check("DockerRuntime::remove_all");
        self.close().await;
        for found in self.inner.list(&[]).await? {
            self.inner.remove_container(&found.container).await?;
        }
        self.inner.network.remove().await
    }
}

impl Drop for DockerRuntime {
    fn drop(&mut self) {
        self.inner.closing.cancel();
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    async fn ensure(&self, spec: &ServiceSpec) -> Result<Progress, PortError> {
        check("Runtime::ensure");
        self.inner.ensure(spec).await
    }

    async fn remove(&self, app: &AppId, process_type: &ProcessType, up_to: Generation) -> Result<(), PortError> {
        check("Runtime::remove");
        self.inner.remove(app, process_type, up_to).await
    }

    async fn observe(&self, app: &AppId) -> Result<Observed, PortError> {
        check("Runtime::observe");
        self.inner.observe(app).await
    }

    async fn start_once(&self, dyno: &DynoId, spec: &OneOffSpec) -> Result<(), PortError> {
        check("Runtime::start_once");
        self.inner.start_once(dyno, spec).await
    }

    async fn attach(&self, dyno: &DynoId) -> Result<Duplex, PortError> {
        check("Runtime::attach");
        self.inner.attach(dyno).await
    }

    async fn hang_up(&self, dyno: &DynoId) -> Result<(), PortError> {
        check("Runtime::hang_up");
        self.inner.hang_up(dyno).await
    }

    async fn stop(&self, dyno: &DynoId) -> Result<(), PortError> {
        check("Runtime::stop");
        self.inner.stop(dyno).await
    }

    async fn forget(&self, dyno: &DynoId) -> Result<(), PortError> {
        check("Runtime::forget");
        self.inner.forget(dyno).await
    }

    async fn remove_app(&self, app: &AppId) -> Result<bool, PortError> {
        check("Runtime::remove_app");
        self.inner.remove_app(app).await
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        check("Runtime::apps");
        let mut apps: HashSet<AppId> = self.inner.files.apps().into_iter().collect();
        apps.extend(self.inner.list(&[]).await?.into_iter().map(|f| f.tag.app));
        Ok(apps.into_iter().collect())
    }
}

impl Inner {
    /// Runs a task until it ends or the driver is closed.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = closing.cancelled() => {}
                () = work => {}
            }
        })
    }

    /// Takes up what is there, then listens to the engine; anew whenever the engine went away.
    async fn keep(self: Arc<Self>) {
        let mut first = true;
        loop {
            if let Ok(found) = self.list(&[]).await {
                let here = self.adopt(&found);
                if std::mem::take(&mut first) {
                    self.files.prune(&here.iter().map(|d| d.tag.dyno.clone()).collect(), KEEP_FILES);
                }
                self.listen().await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Follows the engine's events until they end.
    async fn listen(self: &Arc<Self>) {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), vec!["oom".to_owned(), "destroy".to_owned()]),
            ("label".to_owned(), vec![format!("{INSTALL_LABEL}={}", self.install)]),
        ]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let mut events = Box::pin(self.docker.events(Some(options)));
        while let Some(Ok(event)) = events.next().await {
            let Some(tag) = event.actor.and_then(|a| a.attributes).as_ref().and_then(Tag::read) else { continue };
            match event.action.as_deref() {
                Some("oom") => {
                    if let Some(dyno) = self.book.get(&tag.dyno) {
                        let inner = Arc::clone(self);
                        self.spawn(async move { inner.out_of_memory(&dyno).await });
                    }
                }
                _ => self.tell(&tag.app),
            }
        }
    }

    /// Enters containers into the book and sees to it that those that ever ran have their task.
    ///
    /// All are entered before any task starts, so that no task tells a pool of half its members.
    fn adopt(self: &Arc<Self>, found: &[Found]) -> Vec<Arc<Dyno>> {
        let dynos: Vec<Arc<Dyno>> = found
            .iter()
            .map(|f| {
                let dyno = self.book.enter(f.tag.clone(), &f.container);
                if f.address.is_some() {
                    dyno.set_address(f.address);
                }
                dyno
            })
            .collect();
        for (dyno, found) in dynos.iter().zip(found) {
            if found.stage != Stage::Created || dyno.facts().exit.is_some() {
                self.mind(dyno);
            }
        }
        dynos
    }

    /// Wakes the core.
    fn tell(&self, app: &AppId) {
        (self.on_change)(app);
    }

    /// Says something about a dyno in its app's log.
    async fn say(&self, tag: &Tag, message: impl Into<String>) {
        self.say_lines(&tag.app, vec![voice::line(tag, self.clock.now(), message)]).await;
    }

    /// Best effort: what the platform says must not hold up what it does.
    async fn say_lines(&self, app: &AppId, lines: Vec<LogLine>) {
        match tokio::time::timeout(SAY_LIMIT, self.logs.append(app, lines)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => tracing::warn!(%app, error = %e, "cannot store a line of the platform"),
            Err(_) => tracing::warn!(%app, "storing a line of the platform takes too long"),
        }
    }
}

#[cfg(test)]
mod timing_tests {
    use super::*;

    /// What Heroku documents and apps are written for: R10 after 60 s, SIGKILL 30 s after SIGTERM.
    #[test]
    fn times_are_herokus() {
        let Timing { boot_timeout, stop_grace, drain_timeout, .. } = Timing::default();
        assert_eq!([boot_timeout, stop_grace, drain_timeout].map(|time| time.as_secs()), [60, 30, 30]);
    }
}
