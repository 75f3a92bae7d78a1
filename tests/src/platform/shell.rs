//! Running programs as a user of the platform does, and saying what they must have printed.

use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Platform, until};

/// How long any program may run.
const ENDS_WITHIN: Duration = Duration::from_secs(240);

/// A program that was run to its end.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What was run.
    pub line: String,
    /// Its exit code; 128 + the signal's number when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// It ended well.
    ///
    /// # Panics
    /// When it did not, with what it wrote.
    #[track_caller]
    pub fn done(self) -> Self {
        self.exits(0)
    }

    /// It ended with this code.
    ///
    /// # Panics
    /// When it did not, with what it wrote.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert!(self.code == code, "exit {} where {code} is right: {self}", self.code);
        self
    }

    /// It wrote this text to stdout.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} on stdout: {self}");
        self
    }

    /// It wrote this text to stderr.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn tells(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} on stderr: {self}");
        self
    }

    /// It wrote this text nowhere.
    ///
    /// # Panics
    /// When it did.
    #[track_caller]
    pub fn lacks(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text) && !self.stdout.contains(text), "{text:?} was written: {self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, code, stdout, stderr, took } = self;
        write!(f, "$ {line}\n{stdout}--- stderr\n{stderr}--- exit {code} after {took:.1?}")
    }
}

/// A program under way. Dropping it kills it.
pub struct Running {
    line: String,
    child: Child,
    since: Instant,
    stdout: Reader,
    stderr: Reader,
}

/// What a pipe has brought so far, and the thread that reads it.
struct Reader(Arc<Mutex<Vec<u8>>>, Option<JoinHandle<()>>);

impl Reader {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let read = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&read);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Self(read, Some(thread))
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn whole(&mut self) -> String {
        if let Some(thread) = self.1.take() {
            thread.join().expect("a reader");
        }
        self.so_far()
    }
}

impl Running {
    fn start(command: &mut Command, line: String, input: &[u8]) -> Self {
        let since = Instant::now();
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|e| panic!("not run: {line}: {e}"));
        let mut stdin = child.stdin.take().expect("piped");
        // A program that reads nothing may be gone already.
        let _ = stdin.write_all(input);
        drop(stdin);
        let stdout = Reader::of(child.stdout.take().expect("piped"));
        let stderr = Reader::of(child.stderr.take().expect("piped"));
        Self { line, child, since, stdout, stderr }
    }

    /// What it has written so far, stdout and stderr.
    #[must_use]
    pub fn so_far(&self) -> (String, String) {
        (self.stdout.so_far(), self.stderr.so_far())
    }

    /// Waits until it has written this text, and says how long that took from now.
    ///
    /// # Panics
    /// When it does not within `within`.
    pub fn writes(&self, text: &str, within: Duration) -> Duration {
        let since = Instant::now();
        while !self.stdout.so_far().contains(text) && !self.stderr.so_far().contains(text) {
            let (stdout, stderr) = self.so_far();
            let line = &self.line;
            assert!(since.elapsed() < within, "no {text:?} within {within:?}: $ {line}\n{stdout}--- stderr\n{stderr}");
            std::thread::sleep(Duration::from_millis(10));
        }
        since.elapsed()
    }

    /// Ends it, and what it started, as a closed terminal does (by SIGTERM: whoever runs the tests may have told
    /// them to ignore hang-ups, and children inherit that).
    ///
    /// # Panics
    /// When it cannot be told.
    pub fn hang_up(mut self) -> Ran {
        let group = format!("-{}", self.child.id());
        let told = Command::new("kill").args(["-TERM", "--", &group]).status().expect("kill runs");
        assert!(told.success(), "the process group is told to end");
        self.end()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(mut self) -> Ran {
        self.end()
    }

    fn end(&mut self) -> Ran {
        let line = self.line.clone();
        let status: ExitStatus = until(&format!("$ {line} ends"), ENDS_WITHIN, || self.child.try_wait().ok().flatten());
        let code = status.code().or_else(|| std::os::unix::process::ExitStatusExt::signal(&status).map(|n| 128 + n));
        let took = self.since.elapsed();
        Ran { line, code: code.unwrap_or(-1), stdout: self.stdout.whole(), stderr: self.stderr.whole(), took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let (stdout, stderr) = self.so_far();
            eprintln!("--- was still running: $ {}\n{stdout}--- stderr\n{stderr}---", self.line);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Platform {
    /// Starts a program in `folder`, in a process group of its own, with the platform's variables and then `vars`
    /// (an empty value removes one). Its input is `input` and then ends.
    pub fn spawn(&self, folder: &Path, words: &[&str], vars: &[(&str, &str)], input: &str) -> Running {
        let (program, rest) = words.split_first().expect("a program");
        let mut command = Command::new(self.program(program));
        command.args(rest).current_dir(folder).envs(self.vars());
        for (name, value) in vars {
            if value.is_empty() {
                command.env_remove(name);
            } else {
                command.env(name, value);
            }
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Running::start(&mut command, words.join(" "), input.as_bytes())
    }

    fn program(&self, name: &str) -> PathBuf {
        match name {
            "paas" | "paas-server" => self.programs.join(name),
            "heroku" => {
                let path = std::env::var("PAAS_TEST_HEROKU").unwrap_or_default();
                assert!(!path.is_empty(), "not run: PAAS_TEST_HEROKU is not set (`make test` sets it)");
                path.into()
            }
            other => other.into(),
        }
    }
}
