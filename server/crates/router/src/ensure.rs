//! Starts the router process, or adopts the one that runs.
//!
//! The router is a process of its own, in a process group of its own, so that neither the server's end nor a
//! Ctrl-C in its terminal ends it. (A service manager that kills whole control groups must be told to spare it.)

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use paas_ports::PortError;

use crate::client::{RouterClient, check, greet};
use crate::options::RouterOptions;
use crate::process;

/// How long an old router may take to let go, and a new one to answer.
const START_WITHIN: Duration = Duration::from_secs(10);
/// How long the requests of a router that is replaced may go on.
const HAND_OVER_GRACE: Duration = Duration::from_secs(30);
/// A router that dies at once is not started again at once.
const START_PAUSE: Duration = Duration::from_secs(1);

/// The router of this installation: the one that answers on the control socket, or a new process of
/// `program router …` (`program` is normally [`std::env::current_exe`]). While the client lives, a router that
/// died is started again.
///
/// One of another version or with other listening addresses is asked to stop, and replaced: its table on disk
/// carries over.
///
/// # Errors
/// Permanent when the socket belongs to another installation; transient when the process does not come up, with
/// the last line that it wrote.
pub async fn ensure_router(program: PathBuf, options: RouterOptions) -> Result<RouterClient, PortError> {
    let socket = options.control_socket.clone();
    let began = Instant::now();
    let mut launcher = Launcher { program, options, child: None, started: None };
    if let Ok((stream, hello)) = greet(&socket).await {
        let same = hello.version == env!("CARGO_PKG_VERSION") && launcher.listens_as(&hello.listen);
        match check(&hello, &launcher.options.install) {
            Ok(()) if same => return Ok(RouterClient::new(socket, stream, hello, Some(launcher))),
            Err(error) if hello.install != launcher.options.install => return Err(error),
            _ => {
                tracing::info!(version = hello.version, "replacing the router that runs");
                let old = RouterClient::new(socket.clone(), stream, hello, None);
                old.shut_down(HAND_OVER_GRACE).await?;
                while socket.exists() && began.elapsed() < START_WITHIN {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
    let doing = "starting the router";
    loop {
        launcher.start_if_dead().map_err(|e| PortError::transient(doing, e))?;
        if let Ok((stream, hello)) = greet(&socket).await {
            check(&hello, &launcher.options.install)?;
            return Ok(RouterClient::new(socket, stream, hello, Some(launcher)));
        }
        if let Some(end) = launcher.ended() {
            return Err(PortError::transient(doing, end));
        }
        if began.elapsed() > START_WITHIN {
            return Err(PortError::transient(doing, "it does not answer"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Knows how to start a router.
pub(crate) struct Launcher {
    program: PathBuf,
    options: RouterOptions,
    child: Option<Child>,
    started: Option<Instant>,
}

impl Launcher {
    /// Starts a router unless the one that was started last still runs, or was started a moment ago.
    pub(crate) fn start_if_dead(&mut self) -> io::Result<()> {
        if let Some(child) = &mut self.child
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        if self.started.is_some_and(|started| started.elapsed() < START_PAUSE) {
            return Ok(());
        }
        let dir = &self.options.state_dir;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        if process::is_taken(dir)? {
            // One that starts, or one that is about to let go.
            return Ok(());
        }
        self.started = Some(Instant::now());
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = Command::new(&self.program)
            .arg("router")
            .args(self.options.to_args())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        tracing::info!(pid = child.id(), "started the router");
        self.child = Some(child);
        Ok(())
    }

    /// How the router that was started ended, if it did, with what it said last.
    fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        let mut said = String::new();
        if let Ok(mut log) = File::open(self.log()) {
            let length = log.metadata().map_or(0, |m| m.len());
            let _ = log.seek(io::SeekFrom::Start(length.saturating_sub(2_000)));
            let _ = log.read_to_string(&mut said);
        }
        Some(format!("it ended with {status}: {}", said.lines().last().unwrap_or("")))
    }

    fn log(&self) -> PathBuf {
        self.options.state_dir.join("router.log")
    }

    /// Whether a router that listens on `addresses` does what is asked for; port 0 is any.
    fn listens_as(&self, addresses: &[std::net::SocketAddr]) -> bool {
        self.options.listen.len() == addresses.len()
            && self
                .options
                .listen
                .iter()
                .zip(addresses)
                .all(|(asked, got)| asked.ip() == got.ip() && (asked.port() == 0 || asked.port() == got.port()))
    }
}
