//! The git program as a child: how it is started, fed, listened to and ended.
//!
//! Its settings come with every start, so that a repository's own file never matters and an upgrade needs no
//! migration. It runs in a process group of its own: ending a push ends index-pack and the hooks with it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::body::Incoming;
use super::repositories::Limits;
use super::unpacked::Gate;

/// How many bytes of a child's output are in memory at most: this times [`CHUNKS`].
const CHUNK: usize = 32 * 1024;
const CHUNKS: usize = 4;
/// How long git may take to clean up after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// What a child may have of memory that is its own: a pack that lies about its size ends here.
const MAX_MEMORY: u64 = 2 * 1024 * 1024 * 1024;
const MAX_CPU_S: u64 = 3600;
/// How much of what a child says about its own troubles is kept for our log.
const MAX_STDERR: u64 = 4096;

/// The git program in a repository, with an environment of ours alone.
pub(super) fn git(repository: &Path, hooks: &Path, limits: &Limits) -> std::process::Command {
    let max_pack = limits.max_pack.to_string();
    let settings: [(&str, OsString); 17] = [
        ("safe.directory", "*".into()),
        ("core.hooksPath", hooks.into()),
        ("core.fsync", "committed".into()),
        // Larger files are streamed, never held in memory.
        ("core.bigFileThreshold", "32m".into()),
        ("core.logAllRefUpdates", "false".into()),
        ("gc.auto", "0".into()),
        ("maintenance.auto", "false".into()),
        ("receive.autogc", "false".into()),
        ("receive.fsckObjects", "true".into()),
        // Harmless marks of old tools that many histories carry.
        ("receive.fsck.badTimezone", "ignore".into()),
        ("receive.fsck.missingSpaceBeforeDate", "ignore".into()),
        ("receive.fsck.zeroPaddedFilemode", "ignore".into()),
        ("receive.maxInputSize", max_pack.into()),
        // Always a pack: packs are synced, loose objects one by one are slow.
        ("receive.unpackLimit", "1".into()),
        ("receive.procReceiveRefs", "refs".into()),
        ("receive.advertisePushOptions", "false".into()),
        ("uploadpack.allowFilter", "true".into()),
    ];
    let mut command = std::process::Command::new("git");
    command.env_clear();
    for name in ["PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("HOME", hooks)
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_ATTR_NOSYSTEM", "1")
        .env("GIT_NO_REPLACE_OBJECTS", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_COUNT", settings.len().to_string());
    if let Some(parent) = repository.parent() {
        command.env("GIT_CEILING_DIRECTORIES", parent);
    }
    for (n, (key, value)) in settings.into_iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{n}"), key).env(format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    command.current_dir(repository).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A child that was started.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

/// What comes out of a child.
pub(super) struct Output {
    /// The first bytes; none when it ended without any.
    pub(super) first: Option<Bytes>,
    /// All others; an error where the output breaks off. Dropping this ends the child.
    pub(super) rest: mpsc::Receiver<Result<Bytes, BrokeOff>>,
    /// Set before the end of `rest` when nothing broke off. It is not when the server is torn down under the task that
    /// listens, which then says nothing any more.
    pub(super) is_whole: Arc<AtomicBool>,
}

impl Output {
    /// The next bytes; `None` at the end of a whole output.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, BrokeOff>> {
        match self.rest.recv().await {
            None if !self.is_whole.swap(true, Ordering::SeqCst) => Some(Err(BrokeOff)),
            next => next,
        }
    }
}

/// The output ends before what the child had to say does. The client must not take it for a whole answer: git
/// would wait for the rest for ever.
#[derive(Debug, thiserror::Error)]
#[error("the git program was ended")]
pub(super) struct BrokeOff;

/// Starts a child in a process group of its own.
pub(super) fn start(command: std::process::Command, takes_input: bool) -> std::io::Result<Running> {
    let mut command = Command::from(command);
    command.process_group(0);
    if takes_input {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = group {
        // Children inherit these. Nothing was fed yet, so nothing can have been used up.
        for (resource, most) in [(Resource::Data, MAX_MEMORY), (Resource::Cpu, MAX_CPU_S)] {
            let limit = Rlimit { current: Some(most), maximum: Some(most) };
            if let Err(error) = prlimit(Some(pid), resource, limit) {
                tracing::debug!(%error, "a git process runs without a limit");
            }
        }
    }
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    Ok(Running { child, group, stdin, stdout, stderr })
}

impl Running {
    /// Feeds the child `head` and then `body`, as far as `gate` lets them through, and gives what comes out of it as soon
    /// as something does.
    ///
    /// The child is ended when the reader goes away, when `cancelled` says so, or when neither side moves for
    /// `idle`. `hold` is dropped when the child is gone.
    pub(super) async fn exchange(
        mut self,
        head: Bytes,
        body: Option<Incoming>,
        gate: Option<Gate>,
        idle: Duration,
        cancelled: CancellationToken,
        hold: impl Send + 'static,
    ) -> Output {
        if let Some(stdin) = self.stdin.take() {
            tokio::spawn(feed(stdin, head, body, gate, cancelled.clone()));
        }
        let (sender, mut rest) = mpsc::channel(CHUNKS);
        let is_whole = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_whole);
        tokio::spawn(async move {
            self.listen(sender, &ends, idle, cancelled, hold).await;
        });
        let first = rest.recv().await.and_then(Result::ok);
        Output { first, rest, is_whole }
    }

    async fn listen(
        mut self,
        sender: Sender,
        is_whole: &AtomicBool,
        idle: Duration,
        cancelled: CancellationToken,
        hold: impl Send,
    ) {
        let complaints = tokio::spawn(read_complaints(self.stderr.take()));
        let end = match self.stdout.take() {
            Some(stdout) => carry(stdout, &sender, idle, &cancelled).await,
            None => End::Cut,
        };
        let status = if end == End::Cut { self.end().await } else { self.child.wait().await.ok() };
        // Before the end of the output is heard: whoever heard it may ask for the next.
        drop(hold);
        let succeeded = status.is_some_and(|status| status.success());
        if end == End::Cut || (end == End::Open && !succeeded) {
            let _ = tokio::time::timeout(idle, sender.send(Err(BrokeOff))).await;
        }
        is_whole.store(true, Ordering::SeqCst);
        // Only now: whoever reads takes the end of the output for the end of the child.
        drop(sender);
        if !succeeded {
            let said = complaints.await.unwrap_or_default();
            tracing::debug!(?status, ?end, said = said.escape_debug().to_string(), "a git process did not succeed");
        }
    }

    /// SIGTERM, so that git removes what it has half received; SIGKILL if that takes too long.
    async fn end(&mut self) -> Option<ExitStatus> {
        let signal = |signal| self.group.map(|group| kill_process_group(group, signal));
        signal(Signal::TERM);
        if let Ok(status) = tokio::time::timeout(GRACE, self.child.wait()).await {
            return status.ok();
        }
        signal(Signal::KILL);
        self.child.wait().await.ok()
    }
}

impl Drop for Running {
    /// For a server that is torn down under the task that listens: no child outlives it.
    fn drop(&mut self) {
        if let (Some(group), Some(_)) = (self.group, self.child.id()) {
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

type Sender = mpsc::Sender<Result<Bytes, BrokeOff>>;

/// How a child's output ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// With a flush, as git's answers do.
    Flushed,
    /// Some other way, or with nothing at all.
    Open,
    /// By us.
    Cut,
}

/// Carries a child's output to its reader.
async fn carry(mut stdout: ChildStdout, sender: &Sender, idle: Duration, cancelled: &CancellationToken) -> End {
    let mut end = End::Open;
    loop {
        let mut part = BytesMut::with_capacity(CHUNK);
        tokio::select! {
            read = stdout.read_buf(&mut part) => match read {
                Ok(0) => return end,
                Ok(_) => {
                    end = if part.ends_with(b"0000") { End::Flushed } else { End::Open };
                    match tokio::time::timeout(idle, sender.send(Ok(part.freeze()))).await {
                        Ok(Ok(())) => {}
                        _ => return End::Cut,
                    }
                }
                Err(_) => return End::Cut,
            },
            () = sender.closed() => return End::Cut,
            () = cancelled.cancelled() => return End::Cut,
        }
    }
}

/// Feeds a child. What it does not want any more is read to its end all the same, within the body's own limits:
/// most clients listen to an answer only when they have sent everything.
async fn feed(
    stdin: ChildStdin,
    head: Bytes,
    body: Option<Incoming>,
    mut gate: Option<Gate>,
    cancelled: CancellationToken,
) {
    let mut stdin = offer(stdin, &head, &mut gate).await;
    let Some(mut body) = body else { return };
    loop {
        let part = tokio::select! {
            part = body.next() => part,
            () = cancelled.cancelled() => return,
        };
        match part {
            Ok(Some(bytes)) => {
                if let Some(input) = stdin {
                    stdin = offer(input, &bytes, &mut gate).await;
                }
            }
            Ok(None) => return,
            // Its input ends here, which git takes for a broken pack.
            Err(error) => {
                tracing::debug!(%error, "a request's body broke off");
                return;
            }
        }
    }
}

/// Gives a child these bytes; keeps its input while it wants more and may have it.
async fn offer(mut stdin: ChildStdin, bytes: &Bytes, gate: &mut Option<Gate>) -> Option<ChildStdin> {
    let passes = match gate {
        Some(gate) => gate.lets_through(bytes).await,
        None => true,
    };
    (passes && stdin.write_all(bytes).await.is_ok()).then_some(stdin)
}

async fn read_complaints(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut said = Vec::new();
    let _ = (&mut stderr).take(MAX_STDERR).read_to_end(&mut said).await;
    // The rest is read so that nobody waits for a full pipe.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an output tells whose sender is dropped behind a part of it.
    async fn told(is_whole: bool) -> Vec<Result<Bytes, String>> {
        let (sender, rest) = mpsc::channel(CHUNKS);
        let mut output = Output { first: None, rest, is_whole: Arc::new(AtomicBool::new(is_whole)) };
        sender.send(Ok(Bytes::from_static(b"part"))).await.expect("it is read");
        drop(sender);
        let mut told = Vec::new();
        while let Some(next) = output.next().await {
            told.push(next.map_err(|error| error.to_string()));
        }
        told
    }

    #[tokio::test]
    async fn an_output_whose_server_is_torn_down_breaks_off() {
        let part = || Ok(Bytes::from_static(b"part"));
        assert_eq!(told(true).await, [part()]);
        assert_eq!(told(false).await, [part(), Err(BrokeOff.to_string())], "once, and not as if it were whole");
    }
}
