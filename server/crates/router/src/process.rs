//! The router as a process (or, in a test, as a few threads): start, serve, stop.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::{Control, Outbox};
use crate::frame::{Hello, PROTOCOL};
use crate::options::RouterOptions;
use crate::registry::Registry;
use crate::saved::Saved;
use crate::table::Table;
use crate::worker::{Shared, Worker};

/// How long requests may go on after SIGTERM: Heroku's 30 s.
const SIGNAL_GRACE: Duration = Duration::from_secs(30);

/// Why a router could not start.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// Another router has the state folder.
    #[error("another router runs on {0}")]
    Taken(PathBuf),
    /// An address could not be listened on.
    #[error("listening on {address}: {cause}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// A file, a socket or a thread.
    #[error("{doing}: {cause}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

fn doing(doing: &'static str) -> impl Fn(io::Error) -> RouterError {
    move |cause| RouterError::Io { doing, cause }
}

/// A thread with an event loop, and what ends it when it is dropped.
type Thread = (oneshot::Sender<()>, JoinHandle<()>);

/// A running router.
pub struct Router {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    control: Arc<Control>,
    threads: Vec<Thread>,
    stop: watch::Receiver<Option<Duration>>,
    // Keeps a second router out while this one takes requests.
    lock: File,
    pid_file: PathBuf,
    socket: PathBuf,
}

/// Runs a router until it is told to stop (over the control socket, by SIGTERM or SIGINT), then lets requests
/// finish within the grace period. This is `paas-server router`. It makes its own threads and event loops, so it is
/// to be called from a plain `main`, not from within one.
///
/// # Errors
/// When it could not start.
pub fn run(options: &RouterOptions) -> Result<(), RouterError> {
    let router = Router::start(options)?;
    tracing::info!(listen = ?router.addresses, "the router serves");
    router.wait_and_stop();
    Ok(())
}

impl Router {
    /// Starts a router: with its table from disk it serves when this returns.
    ///
    /// # Errors
    /// When an address is taken, or another router has the state folder.
    pub fn start(options: &RouterOptions) -> Result<Self, RouterError> {
        let dir = &options.state_dir;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(doing("making the state folder"))?;
        let Some(lock) = take_lock(dir).map_err(doing("taking the lock"))? else {
            return Err(RouterError::Taken(dir.clone()));
        };
        let files = raise_descriptor_limit();
        let mut limits = options.limits.clone();
        limits.dyno_keep_max = limits.dyno_keep_max.min(files / 4);
        // One for the client and one for its dyno, beside those that are kept and some for ourselves.
        let max_connections = (files.saturating_sub(limits.dyno_keep_max + 64) / 2).max(16);
        let listeners = options.listen.iter().map(|a| listen(*a)).collect::<Result<Vec<_>, _>>()?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();

        let count = if options.workers == 0 {
            std::thread::available_parallelism().map_or(1, usize::from)
        } else {
            options.workers
        };
        let saved = Saved::load(dir).map_err(doing("reading the table"))?;
        let table = Arc::new(Table::new());
        let (drained, drained_events) = mpsc::unbounded_channel();
        let registry = Arc::new(Registry::new(saved, table.clone(), count, drained));
        let shared = Arc::new(Shared::new(table, limits, count, max_connections));
        let kept_total = Arc::new(AtomicUsize::new(0));
        let workers: Vec<Arc<Worker>> =
            (0..count).map(|i| Arc::new(Worker::new(i, shared.clone(), kept_total.clone()))).collect();

        let (stop, stopped) = watch::channel(None);
        let control = Arc::new(Control {
            registry,
            workers: workers.clone(),
            hello: Hello {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                install: options.install.clone(),
                pid: std::process::id(),
                boot: uuid::Uuid::new_v4().to_string(),
                listen: addresses.clone(),
            },
            state_dir: dir.clone(),
            stop,
            outbox: Outbox::default(),
        });

        // There before anybody is answered.
        let pid_file = dir.join("router.pid");
        fs::write(&pid_file, format!("{}\n", std::process::id())).map_err(doing("writing the pid file"))?;
        let mut threads = spawn_workers(&workers, &listeners)?;
        let socket = bind_control(&options.control_socket).map_err(doing("binding the control socket"))?;
        let serving = control.clone();
        threads.push(spawn("router-control", move || async move {
            let listener = match UnixListener::from_std(socket) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the control socket"),
            };
            tokio::spawn(stop_on_signal(serving.clone()));
            serving.run(listener, drained_events).await;
        })?);
        Ok(Self {
            addresses,
            shared,
            control,
            threads,
            stop: stopped,
            lock,
            pid_file,
            socket: options.control_socket.clone(),
        })
    }

    /// Where it listens, with the ports it got.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Blocks until someone asks the router to stop, then stops it.
    pub fn wait_and_stop(mut self) {
        let asked = tokio::runtime::Builder::new_current_thread().build().ok().and_then(|runtime| {
            runtime.block_on(async {
                let asked = self.stop.wait_for(Option::is_some).await;
                asked.ok().and_then(|grace| *grace)
            })
        });
        self.stop(asked.unwrap_or(SIGNAL_GRACE));
    }

    /// Takes nothing new, lets requests go on for as long as `grace`, and ends. Blocks.
    ///
    /// Addresses, socket and state folder are free at once, so that the next router serves while this one's last
    /// requests end.
    pub fn stop(mut self, grace: Duration) {
        self.shared.stop();
        self.control.persist_now();
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.pid_file);
        // The answer to whoever asked for this is on its way, and the listeners are being closed.
        std::thread::sleep(Duration::from_millis(20));
        let _ = self.lock.unlock();
        let deadline = Instant::now() + grace;
        let busy = || self.control.workers.iter().map(|w| w.in_flight.load(Ordering::Relaxed)).sum::<usize>();
        while Instant::now() < deadline && busy() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        let left = busy();
        if left > 0 {
            tracing::warn!(requests = left, "the router ends before they do");
        }
        self.control.collect_once();
        // So are the last lines.
        std::thread::sleep(Duration::from_millis(20));
        self.end();
    }

    /// Ends at once, as a crash would: nothing is written, nothing is waited for. For tests.
    #[doc(hidden)]
    pub fn abandon(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for (end, thread) in self.threads.drain(..) {
            drop(end);
            let _ = thread.join();
        }
    }
}

/// The lock of a state folder; `None` when a router has it.
fn take_lock(state_dir: &Path) -> io::Result<Option<File>> {
    let lock = File::create(state_dir.join("router.lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(cause),
    }
}

/// Whether a router has this state folder.
pub(crate) fn is_taken(state_dir: &Path) -> io::Result<bool> {
    take_lock(state_dir).map(|lock| lock.is_none())
}

fn spawn_workers(workers: &[Arc<Worker>], listeners: &[TcpListener]) -> Result<Vec<Thread>, RouterError> {
    let (senders, receivers): (Vec<_>, Vec<_>) = workers.iter().map(|_| mpsc::unbounded_channel()).unzip();
    let mut threads = Vec::new();
    for (worker, handed) in workers.iter().cloned().zip(receivers) {
        let listeners = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>();
        let (listeners, peers) = (listeners.map_err(doing("sharing a listener"))?, senders.clone());
        threads.push(spawn("router-worker", move || async move {
            if let Err(error) = worker.run(listeners, handed, peers).await {
                tracing::error!(%error, "a router worker ended");
            }
        })?);
    }
    Ok(threads)
}

/// A thread with an event loop that runs `work` until the returned sender is dropped.
fn spawn<F, W>(name: &str, work: F) -> Result<Thread, RouterError>
where
    F: FnOnce() -> W + Send + 'static,
    W: Future<Output = ()>,
{
    let (end, ended) = oneshot::channel();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(doing("making an event loop"))?;
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = work() => {}
                _ = ended => {}
            }
        });
        // What runs on blocking threads is a write of the table, which may be cut off at any point.
        runtime.shutdown_background();
    });
    Ok((end, thread.map_err(doing("starting a thread"))?))
}

fn listen(address: SocketAddr) -> Result<TcpListener, RouterError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        // The standard library's backlog of 128 drops connections of a burst.
        rustix::net::listen(&listener, 4096)?;
        Ok(listener)
    };
    bind().map_err(|cause| RouterError::Listen { address, cause })
}

/// Binds the control socket, for the owner only. The lock is held, so a socket that is there is a dead one.
fn bind_control(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    // Made under another name: nobody can connect before the mode is right.
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let listener = std::os::unix::net::UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Raises the number of open files to what is allowed; returns it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(files).unwrap_or(usize::MAX)
}

async fn stop_on_signal(control: Arc<Control>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    control.stop.send_replace(Some(SIGNAL_GRACE));
}
