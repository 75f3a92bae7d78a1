//! What a router is told when it starts: where it listens, where it keeps its table, and its limits.
//!
//! Owns the form these take on the command line of `paas-server router`, in both directions.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use paas_domain::InstallId;
use serde::{Deserialize, Serialize};

/// How to run a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterOptions {
    /// Whose router this is. A server adopts only a router of its own installation.
    pub install: InstallId,
    /// Where HTTP comes in. Port 0 takes a free one (see [`crate::Router::addresses`]).
    pub listen: Vec<SocketAddr>,
    /// Holds the table, the pid file, the lock and the process's own log. Made when it is not there.
    pub state_dir: PathBuf,
    /// The unix socket that the server talks to.
    pub control_socket: PathBuf,
    /// Threads that serve requests; 0 takes one for each core.
    pub workers: usize,
    /// Time-outs and sizes.
    pub limits: Limits,
}

/// Time-outs and sizes of the router. [`Limits::default`] is what Heroku documents, where it documents one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Milliseconds to connect to a dyno before H19. Heroku: 5,000.
    pub connect_ms: u64,
    /// Milliseconds from the request's last byte to the answer's first before H12. Heroku: 30,000.
    pub first_byte_ms: u64,
    /// Milliseconds behind its request within which a client may close its half and still read the answer; one that
    /// closes later has left (H27). Ours.
    pub half_close_ms: u64,
    /// Milliseconds without a byte before H15 (the dyno's turn) or H28 (the client's). Heroku: 55,000.
    pub idle_ms: u64,
    /// Milliseconds that a request waits for a starting dyno before H20. Heroku: 75,000.
    pub boot_ms: u64,
    /// Milliseconds that a dyno that could not be connected to gets nothing new. Heroku: 5,000.
    pub quarantine_ms: u64,
    /// Dynos that one request is offered to before H19 or H21. Heroku: 10.
    pub connect_attempts: usize,
    /// Requests that one dyno may hold unanswered; more wait. Heroku: 50 for each of its many routers.
    pub requests_per_dyno: u32,
    /// Requests that may wait, times the number of dynos, before H11. Heroku: 50.
    pub backlog_per_dyno: u32,
    /// Milliseconds for a request's head to arrive, from its first byte. Ours.
    pub header_read_ms: u64,
    /// Milliseconds that a client's connection may be idle between requests. Heroku: 90,000.
    pub keep_alive_ms: u64,
    /// Milliseconds that an unused connection to a dyno is kept. Below the 5 s after which Node closes it. Ours.
    pub dyno_keep_ms: u64,
    /// Unused connections to dynos that are kept in all; never more than a quarter of the open files. Ours.
    pub dyno_keep_max: usize,
    /// Bytes of one header line and of the request line. Heroku: 8,192.
    pub line_bytes: usize,
    /// Header lines of a request or an answer. Heroku: 1,000.
    pub header_count: usize,
    /// Bytes of a request's whole head. Ours: 65,536, as at an ALB.
    pub head_bytes: usize,
    /// Bytes of an answer's whole head. Heroku allows 524,288 for one line; ours is for all of them.
    pub answer_head_bytes: usize,
    /// Log lines kept for the server while it is away; more are counted as lost. Ours.
    pub log_lines: usize,
    /// Milliseconds between two writes of the table to disk. Ours.
    pub persist_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            first_byte_ms: 30_000,
            half_close_ms: 1_000,
            idle_ms: 55_000,
            boot_ms: 75_000,
            quarantine_ms: 5_000,
            connect_attempts: 10,
            requests_per_dyno: 50,
            backlog_per_dyno: 50,
            header_read_ms: 30_000,
            keep_alive_ms: 90_000,
            dyno_keep_ms: 4_000,
            dyno_keep_max: 8_192,
            line_bytes: 8_192,
            header_count: 1_000,
            head_bytes: 65_536,
            answer_head_bytes: 524_288,
            log_lines: 20_000,
            persist_ms: 1_000,
        }
    }
}

impl Limits {
    pub(crate) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(crate) fn first_byte(&self) -> Duration {
        Duration::from_millis(self.first_byte_ms)
    }

    pub(crate) fn half_close(&self) -> Duration {
        Duration::from_millis(self.half_close_ms)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    pub(crate) fn boot(&self) -> Duration {
        Duration::from_millis(self.boot_ms)
    }

    pub(crate) fn header_read(&self) -> Duration {
        Duration::from_millis(self.header_read_ms)
    }

    pub(crate) fn keep_alive(&self) -> Duration {
        Duration::from_millis(self.keep_alive_ms)
    }

    pub(crate) fn dyno_keep(&self) -> Duration {
        Duration::from_millis(self.dyno_keep_ms)
    }

    pub(crate) fn persist(&self) -> Duration {
        Duration::from_millis(self.persist_ms)
    }
}

/// Arguments of `paas-server router` that make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("router: {0}")]
pub struct OptionsError(String);

impl RouterOptions {
    /// Options with Heroku's limits and one worker for each core.
    #[must_use]
    pub fn new(install: InstallId, listen: Vec<SocketAddr>, state_dir: PathBuf, control_socket: PathBuf) -> Self {
        Self { install, listen, state_dir, control_socket, workers: 0, limits: Limits::default() }
    }

    /// The arguments behind `paas-server router`. [`RouterOptions::from_args`] reads them back.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![
            "--install".to_owned(),
            self.install.to_string(),
            "--state-dir".to_owned(),
            self.state_dir.to_string_lossy().into_owned(),
            "--control-socket".to_owned(),
            self.control_socket.to_string_lossy().into_owned(),
            "--workers".to_owned(),
            self.workers.to_string(),
        ];
        for address in &self.listen {
            args.extend(["--listen".to_owned(), address.to_string()]);
        }
        if self.limits != Limits::default() {
            args.extend(["--limits".to_owned(), serde_json::to_string(&self.limits).unwrap_or_default()]);
        }
        args
    }

    /// Reads the arguments behind `paas-server router`.
    ///
    /// # Errors
    /// Says which argument is missing, unknown or not of its kind.
    pub fn from_args(args: impl IntoIterator<Item = String>) -> Result<Self, OptionsError> {
        let (mut install, mut state_dir, mut control_socket) = (None, None, None);
        let (mut listen, mut workers, mut limits) = (Vec::new(), 0, Limits::default());
        let mut args = args.into_iter();
        while let Some(flag) = args.next() {
            let value = args.next().ok_or_else(|| OptionsError(format!("{flag} needs a value")))?;
            let bad = |kind: &str| OptionsError(format!("{flag} {value}: not {kind}"));
            match flag.as_str() {
                "--install" => {
                    install = Some(InstallId::try_from(value.clone()).map_err(|_| bad("an installation's id"))?);
                }
                "--state-dir" => state_dir = Some(PathBuf::from(value)),
                "--control-socket" => control_socket = Some(PathBuf::from(value)),
                "--listen" => listen.push(value.parse().map_err(|_| bad("an address and port"))?),
                "--workers" => workers = value.parse().map_err(|_| bad("a number"))?,
                "--limits" => limits = serde_json::from_str(&value).map_err(|e| bad(&format!("limits: {e}")))?,
                _ => return Err(OptionsError(format!("{flag} is not an argument"))),
            }
        }
        let missing = |flag: &str| OptionsError(format!("{flag} is missing"));
        Ok(Self {
            install: install.ok_or_else(|| missing("--install"))?,
            listen,
            state_dir: state_dir.ok_or_else(|| missing("--state-dir"))?,
            control_socket: control_socket.ok_or_else(|| missing("--control-socket"))?,
            workers,
            limits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Heroku documents and apps are written for.
    #[test]
    fn time_outs_are_herokus() {
        let limits = Limits::default();
        let s = |ms: u64| ms / 1000;
        assert_eq!((s(limits.first_byte_ms), s(limits.idle_ms)), (30, 55), "H12, H15 and H28");
        assert_eq!((s(limits.connect_ms), s(limits.boot_ms)), (5, 75), "H19, H20");
        assert_eq!((s(limits.quarantine_ms), limits.connect_attempts, s(limits.keep_alive_ms)), (5, 10, 90));
        assert_eq!((limits.requests_per_dyno, limits.backlog_per_dyno), (50, 50), "H11");
        assert_eq!((limits.line_bytes, limits.header_count, limits.answer_head_bytes), (8_192, 1_000, 524_288));
    }

    #[test]
    fn arguments_read_back() {
        let mut options = RouterOptions::new(
            InstallId::random(),
            vec!["127.0.0.1:8080".parse().expect("an address"), "[::1]:8080".parse().expect("an address")],
            PathBuf::from("/var/lib/x y"),
            PathBuf::from("/run/x.sock"),
        );
        options.limits.boot_ms = 7;
        assert_eq!(RouterOptions::from_args(options.to_args()), Ok(options));
    }

    #[test]
    fn bad_arguments_are_named() {
        let error = RouterOptions::from_args(["--listen".to_owned(), "x".to_owned()]).expect_err("bad");
        assert_eq!(error.to_string(), "router: --listen x: not an address and port");
        let error = RouterOptions::from_args(["--state-dir".to_owned(), "x".to_owned()]).expect_err("bad");
        assert_eq!(error.to_string(), "router: --install is missing");
    }
}
