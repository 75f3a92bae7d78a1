//! A user's git repository, and the git program on it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::App;

/// A user's repository.
#[derive(Clone)]
pub struct Repo {
    pub path: PathBuf,
}

/// What a run of git came to.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub text: String,
}

impl Run {
    fn new(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self { code: output.status.code(), text: String::from_utf8_lossy(&text).replace("\u{1b}[K", "") }
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self
    }

    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(self.code.is_some_and(|code| code != 0), "succeeded: {}", self.text);
        self
    }

    #[track_caller]
    pub fn shows(self, what: &str) -> Self {
        assert!(self.text.contains(what), "no {what:?} in:\n{}", self.text);
        self
    }

    #[track_caller]
    pub fn shows_not(self, what: &str) -> Self {
        assert!(!self.text.contains(what), "{what:?} in:\n{}", self.text);
        self
    }
}

impl Repo {
    pub(super) fn empty(below: &Path) -> Self {
        let path = tempfile::Builder::new().prefix("work-").tempdir_in(below).expect("a folder").keep();
        let repo = Self { path };
        repo.now(&["init", "-q"]);
        repo
    }

    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, content).expect("written");
    }

    /// Writes a file and commits everything; gives the commit.
    pub fn commit(&self, file: &str, content: impl AsRef<[u8]>) -> String {
        self.write(file, content);
        self.commit_all()
    }

    pub fn commit_all(&self) -> String {
        self.now(&["add", "-A"]);
        self.now(&["commit", "-q", "--allow-empty", "-m", "a change"]);
        self.now(&["rev-parse", "HEAD"]).text.trim().to_owned()
    }

    /// Runs git, which must succeed.
    #[track_caller]
    pub fn now(&self, args: &[&str]) -> Run {
        Run::new(command(&self.path).args(args).output().expect("not run: no git")).ok()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command(&self.path);
        command.args(args);
        command
    }

    /// Runs git against the server. At most 30 seconds.
    pub async fn git(&self, args: &[&str]) -> Run {
        let mut command = tokio::process::Command::from(self.command(args));
        command.kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
        Run::new(output.unwrap_or_else(|_| panic!("git {args:?} hangs")).expect("not run: no git"))
    }

    pub async fn push(&self, app: &App, refs: &[&str]) -> Run {
        self.git(&[&["push", app.url.as_str()], refs].concat()).await
    }

    /// Starts git and leaves it running; what it says comes line by line.
    pub fn spawn(&self, args: &[&str]) -> Background {
        let mut command = tokio::process::Command::from(self.command(args));
        command.kill_on_drop(true).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("not run: no git");
        let stderr = child.stderr.take().expect("stderr");
        Background { child, stderr: tokio::io::BufReader::new(stderr), said: String::new() }
    }
}

/// A git that runs.
pub struct Background {
    pub child: tokio::process::Child,
    stderr: tokio::io::BufReader<tokio::process::ChildStderr>,
    pub said: String,
}

impl Background {
    /// Waits until it has said this.
    pub async fn says(&mut self, what: &str) {
        use tokio::io::AsyncReadExt as _;
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut bytes = [0; 1024];
        while !self.said.contains(what) {
            let read = tokio::time::timeout_at(until, self.stderr.read(&mut bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("no {what:?} in:\n{}", self.said)).expect("read");
            assert!(read > 0, "no {what:?} in:\n{}", self.said);
            self.said.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    }

    /// Waits for its end.
    pub async fn ends(mut self) -> Run {
        use tokio::io::AsyncReadExt as _;
        let mut rest = Vec::new();
        let ended = async {
            self.stderr.read_to_end(&mut rest).await.expect("read");
            self.child.wait().await.expect("waited").code()
        };
        let code = tokio::time::timeout(Duration::from_secs(30), ended).await.expect("git hangs");
        Run { code, text: self.said + &String::from_utf8_lossy(&rest) }
    }
}

/// Git as nobody has set it up on this machine.
pub(super) fn command(folder: &Path) -> Command {
    let settings = [
        ("user.name", "Someone"),
        ("user.email", "someone@example.com"),
        ("init.defaultBranch", "main"),
        ("protocol.file.allow", "always"),
        ("advice.detachedHead", "false"),
        ("uploadpack.allowAnySHA1InWant", "true"),
    ];
    let mut command = Command::new("git");
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GIT_")) {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (n, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{n}"), key).env(format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    command
}
