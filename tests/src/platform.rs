//! A whole platform for one story: the real server as a process, on a data folder and ports of its own.
//!
//! What a user has, a story has: `paas`, `git` and the unmodified `heroku` CLI, pointed at this platform by what
//! `paas-server env` prints, with a home folder of their own. Stories run beside one another and beside a demo:
//! each has an installation's id, and nothing outside of it is touched. [`Platform::finish`] destroys every app,
//! takes the platform down and fails when anything of it is left.

mod aws;
mod docker;
mod http;
mod kind;
mod line;
mod owner;
mod repository;
mod second;
mod shell;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use http::{Answer, Method};
pub use kind::Kind;
pub use line::Line;
pub use owner::Owner;
pub use repository::Repository;
pub use second::Second;
pub use shell::{Ran, Running};

/// How long the server may take to answer after its start.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long everything of a destroyed app may take to be gone.
pub const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How long what is true already may take to be seen on a busy machine.
pub const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// What `make test` says about the images and programs that builds need.
struct Parts {
    builder: String,
    run: String,
    tools: String,
    ca_bundle: String,
}

impl Parts {
    fn from_env() -> Self {
        let value = |name: &str| match std::env::var(name) {
            Ok(value) if !value.is_empty() => value,
            _ => panic!("not run: {name} is not set (`make test` sets it)"),
        };
        Self {
            builder: value("PAAS_TEST_BUILDER"),
            run: value("PAAS_TEST_RUN"),
            tools: value("PAAS_TEST_TOOLS"),
            ca_bundle: value("PAAS_TEST_CA_BUNDLE"),
        }
    }
}

/// At most so many platforms at the same time: a story measures time, and builds are heavy.
const AT_ONCE: usize = 2;
static TAKEN: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// One of the places for platforms, until it is dropped.
struct Place;

impl Place {
    fn take() -> Self {
        let taken = TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = TAKEN.1.wait_while(taken, |taken| *taken >= AT_ONCE).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        TAKEN.1.notify_one();
    }
}

/// A platform. Dropping it takes it down, whatever became of the story.
pub struct Platform {
    folder: tempfile::TempDir,
    parts: Parts,
    arguments: Vec<String>,
    server_vars: Vec<(String, String)>,
    programs: PathBuf,
    vars: BTreeMap<String, String>,
    server: Mutex<Option<Child>>,
    account: Option<aws::Account>,
    down: bool,
    _place: Place,
}

impl Default for Platform {
    fn default() -> Self {
        Self::start(&[])
    }
}

impl Platform {
    /// Starts one on this machine's engine; `arguments` are more words for `paas-server serve`.
    ///
    /// # Panics
    /// With "not run: …" when what it needs is not there, and when it does not start.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(Kind::Local, arguments)
    }

    /// Starts one of this kind whose server has these variables too, each time that it is started.
    ///
    /// # Panics
    /// As [`Platform::start`].
    #[must_use]
    pub fn start_with(kind: Kind, vars: &[(&str, &str)]) -> Self {
        Self::make((kind == Kind::Aws).then_some(aws::Way::Plain), &[], vars)
    }

    /// Starts one on an AWS account that asks IAM; its server acts as the role that `paas install` made for it.
    ///
    /// # Panics
    /// As [`Platform::start`].
    #[must_use]
    pub fn on_aws_as_its_role() -> Self {
        Self::make(Some(aws::Way::AsItsRole), &[], &[])
    }

    /// Starts one on AWS whose server comes to its account through a [`Line`] of its own.
    ///
    /// # Panics
    /// As [`Platform::start`].
    #[must_use]
    pub fn on_aws_through_a_line() -> Self {
        Self::make(Some(aws::Way::ThroughALine), &[], &[])
    }

    /// Starts one of this kind.
    ///
    /// # Panics
    /// As [`Platform::start`].
    #[must_use]
    pub fn on(kind: Kind) -> Self {
        Self::start_on(kind, &[])
    }

    /// Starts one of this kind; `arguments` are more words for `paas-server serve`.
    ///
    /// # Panics
    /// As [`Platform::start`].
    #[must_use]
    pub fn start_on(kind: Kind, arguments: &[&str]) -> Self {
        Self::make((kind == Kind::Aws).then_some(aws::Way::Plain), arguments, &[])
    }

    fn make(way: Option<aws::Way>, arguments: &[&str], vars: &[(&str, &str)]) -> Self {
        let place = Place::take();
        let folder = tempfile::Builder::new().prefix("paas-e2e-").tempdir().expect("a folder");
        let mut platform = Self {
            folder,
            parts: Parts::from_env(),
            arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
            server_vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            programs: programs(),
            vars: BTreeMap::new(),
            server: Mutex::new(None),
            account: way.map(aws::Account::new),
            down: false,
            _place: place,
        };
        std::fs::create_dir(platform.home()).expect("a home folder");
        if let Some(mut account) = platform.account.take() {
            let mut program = platform.program_of_server();
            account.install({
                program.envs(account.vars());
                program
            });
            platform.account = Some(account);
        }
        platform.start_server(&[]);
        platform.vars = platform.read_vars();
        platform
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The home folder of whoever works here.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The URL of the server's database.
    #[must_use]
    pub fn database_url(&self) -> String {
        match &self.account {
            None => format!("sqlite:{}", self.data().join("paas.db").display()),
            Some(account) => account.database_url().to_owned(),
        }
    }

    /// The variables that `paas-server env` prints, with the home folder's.
    #[must_use]
    pub fn vars(&self) -> &BTreeMap<String, String> {
        &self.vars
    }

    /// The id of the installation.
    ///
    /// # Panics
    /// When the server has not written it.
    #[must_use]
    pub fn install(&self) -> String {
        std::fs::read_to_string(self.data().join("installation")).expect("the installation's id").trim().to_owned()
    }

    /// One of the ports: `api`, `http`, `rendezvous`.
    ///
    /// # Panics
    /// When the server has not written them.
    #[must_use]
    pub fn port(&self, which: &str) -> u16 {
        port_in(&self.data(), which)
    }

    /// What the server has logged.
    #[must_use]
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.server_log_path()).unwrap_or_default()
    }

    fn server_log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// Starts the server, with more variables in its environment, and waits until it answers.
    ///
    /// # Panics
    /// When it runs already or does not come up.
    pub fn start_server(&self, vars: &[(&str, &str)]) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(server.is_none(), "the server runs already");
        *server = Some(self.spawn_server(&self.data(), &self.server_log_path(), vars));
    }

    /// Starts a server that will end by itself, perhaps before it answers.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_server_to_end(&self, vars: &[(&str, &str)]) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(server.is_none(), "the server runs already");
        *server = Some(self.begin_server(&self.data(), &self.server_log_path(), vars));
    }

    /// A server on this data folder that answers.
    fn spawn_server(&self, data: &Path, log: &Path, vars: &[(&str, &str)]) -> Child {
        let mut child = self.begin_server(data, log, vars);
        let since = Instant::now();
        loop {
            let pinged = self.server_command("ping", data).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if pinged.expect("paas-server starts").success() {
                return child;
            }
            let ended = child.try_wait().expect("the server can be asked");
            if ended.is_some() || since.elapsed() >= READY_WITHIN {
                let _ = child.kill();
                panic!("no server: {ended:?}\n{}", std::fs::read_to_string(log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn begin_server(&self, data: &Path, log: &Path, vars: &[(&str, &str)]) -> Child {
        let file = File::options().create(true).append(true).open(log).expect("a log file");
        let mut command = self.server_command("serve", data);
        command
            .args(["--builder", &self.parts.builder, "--run-image", &self.parts.run, "--tools", &self.parts.tools])
            .args(["--ca-bundle", &self.parts.ca_bundle])
            .args(self.account.iter().flat_map(aws::Account::arguments))
            .args(&self.arguments)
            .envs(self.server_vars.iter().map(|(name, value)| (name, value)))
            .envs(vars.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file);
        if let Ok(socket) = std::env::var("PAAS_TEST_DOCKER") {
            command.args(["--docker-socket", &socket]);
        }
        command.spawn().expect("paas-server starts")
    }

    /// `paas-server <command> --data <a folder of this platform>`, without any variable that a caller has for another
    /// one.
    fn server_command(&self, command: &str, data: &Path) -> Command {
        let mut program = self.program_of_server();
        program.arg(command).arg("--data").arg(data);
        program
    }

    fn program_of_server(&self) -> Command {
        let mut program = Command::new(self.programs.join("paas-server"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PAAS_") || name.to_string_lossy().starts_with("GIT_CONFIG_") {
                program.env_remove(name);
            }
        }
        program.envs(self.account.iter().flat_map(aws::Account::vars));
        program
    }

    fn read_vars(&self) -> BTreeMap<String, String> {
        let printed =
            self.server_command("env", &self.data()).arg("--programs").arg(&self.programs).output().expect("env runs");
        assert!(printed.status.success(), "env: {}", String::from_utf8_lossy(&printed.stderr));
        // As a user does: a shell reads it.
        let mut shell = Command::new("sh");
        shell.args(["-c", "eval \"$1\"; env -0", "sh"]).arg(String::from_utf8(printed.stdout).expect("text"));
        let before: BTreeMap<String, String> = std::env::vars().collect();
        let after = shell.output().expect("sh runs").stdout;
        let after = String::from_utf8(after).expect("text");
        let mut vars: BTreeMap<String, String> = after
            .split('\0')
            .filter_map(|line| line.split_once('='))
            .filter(|(name, value)| {
                before.get(*name).map(String::as_str) != Some(value) && !["_", "SHLVL"].contains(name)
            })
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // The heroku CLI calls itself by its name.
        let heroku = std::env::var("PAAS_TEST_HEROKU").unwrap_or_default();
        if let (Some(path), Some(folder)) = (vars.get_mut("PATH"), Path::new(&heroku).parent()) {
            path.push_str(&format!(":{}", folder.display()));
        }
        let home = self.home();
        for (name, folder) in [
            ("HOME", "."),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_DATA_HOME", "share"),
            ("XDG_STATE_HOME", "state"),
        ] {
            vars.insert(name.to_owned(), home.join(folder).display().to_string());
        }
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "Story"),
            ("GIT_AUTHOR_EMAIL", "story@example.com"),
            ("GIT_COMMITTER_NAME", "Story"),
            ("GIT_COMMITTER_EMAIL", "story@example.com"),
            ("GIT_TERMINAL_PROMPT", "0"),
        ] {
            vars.insert(name.to_owned(), value.to_owned());
        }
        if let Some(account) = &self.account {
            vars.insert("CURL_CA_BUNDLE".to_owned(), account.ca.clone());
        }
        vars
    }

    /// Waits for the server to have ended, as one does that kills itself at a crash point.
    ///
    /// # Panics
    /// When it still runs after `within`.
    pub fn server_ended(&self, within: Duration) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let child = server.as_mut().expect("a server");
        let since = Instant::now();
        while child.try_wait().expect("the server can be asked").is_none() {
            assert!(since.elapsed() < within, "the server still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
        *server = None;
    }

    /// Whether the server process runs.
    #[must_use]
    pub fn server_runs(&self) -> bool {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends the server with SIGKILL; its router and its dynos go on.
    ///
    /// # Panics
    /// When no server runs.
    pub fn kill_server(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = server.take().expect("a server");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Destroys every app, takes the platform down, and makes sure that nothing of it is left.
    ///
    /// # Panics
    /// When something is.
    pub fn finish(mut self) {
        let apps = self.api(Method::Get, "/apps", None);
        for app in apps.json().as_array().expect("apps") {
            let (id, name) = (app["id"].as_str().expect("an id"), app["name"].as_str().expect("a name"));
            let destroyed = self.api(Method::Delete, &format!("/apps/{name}"), None);
            assert!(destroyed.status < 300, "{name} is destroyed: {destroyed:?}");
            self.app_is_gone(id);
        }
        self.take_down();
        let mut left = self.left_in_engine(&[]);
        left.extend(self.account.iter().flat_map(|account| account.objects(&self.install())));
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    fn take_down(&mut self) {
        if std::mem::replace(&mut self.down, true) {
            return;
        }
        let done = self.server_command("down", &self.data()).output();
        let child = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // `down` ended it, or else it is ended here.
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            let done = done.expect("down runs");
            assert!(done.status.success(), "down: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.server_log();
            let from = log.lines().count().saturating_sub(60);
            let last: Vec<&str> = log.lines().skip(from).collect();
            eprintln!("--- the server's last lines\n{}\n---", last.join("\n"));
        }
        let install = std::fs::read_to_string(self.data().join("installation")).unwrap_or_default();
        self.take_down();
        if !install.is_empty() {
            docker::remove_everything(install.trim());
        }
    }
}

/// One of the ports of the server that has this data folder.
fn port_in(data: &Path, which: &str) -> u16 {
    let bytes = std::fs::read(data.join("ports.json")).expect("the ports");
    let ports: serde_json::Value = serde_json::from_slice(&bytes).expect("the ports are JSON");
    u16::try_from(ports[which].as_u64().expect("a port")).expect("a port")
}

/// The folder with `paas-server` and `paas`: cargo puts them one above its test programs.
fn programs() -> PathBuf {
    let me = std::env::current_exe().expect("this program's path");
    let folder = me.parent().and_then(Path::parent).expect("a folder above").to_owned();
    for program in ["paas-server", "paas"] {
        assert!(folder.join(program).is_file(), "not run: {program} is not built (`cargo build --workspace`)");
    }
    folder
}

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none within the time; says what it waited for.
pub fn until<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}
