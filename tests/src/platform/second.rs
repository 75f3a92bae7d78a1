//! A second server of a platform on AWS, as on another machine: the same account, database and keys, and a data folder
//! and ports of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::http::{Answer, Method, admin_request};
use super::{Platform, Ran, Repository, port_in};

/// A second server. Dropping it ends it.
pub struct Second<'a> {
    platform: &'a Platform,
    data: PathBuf,
    process: Mutex<Option<Child>>,
}

impl Platform {
    /// Starts a second server, with what an operator copies to its machine: the keys and the authority.
    ///
    /// # Panics
    /// When this platform is not on AWS, or the server does not come up.
    #[must_use]
    pub fn second(&self) -> Second<'_> {
        assert!(self.account.is_some(), "servers share a platform on AWS only");
        let data = self.folder.path().join("second");
        std::fs::create_dir_all(data.join("ca")).expect("a folder");
        for file in ["encryption.key", "admin.key", "ca/ca.pem", "ca/ca.key"] {
            std::fs::copy(self.data().join(file), data.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        }
        let second = Second { platform: self, data, process: Mutex::default() };
        second.start(&[]);
        second
    }
}

impl Second<'_> {
    /// Starts it, with more variables in its environment, and waits until it answers.
    ///
    /// # Panics
    /// When it runs already or does not come up.
    pub fn start(&self, vars: &[(&str, &str)]) {
        let mut process = self.process();
        assert!(process.is_none(), "the second server runs already");
        *process = Some(self.platform.spawn_server(&self.data, &self.log_path(), vars));
    }

    /// Ends it with SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self) {
        let mut child = self.process().take().expect("a second server");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Asks its API with the admin's key.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn try_api(&self, method: Method, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        admin_request(&self.data, port_in(&self.data, "api"), method, path, body)
    }

    /// `git` with these words, and this server's URL of the app's repository behind them.
    pub fn git(&self, repository: &Repository<'_>, words: &[&str], app: &str, refs: &[&str]) -> Ran {
        let key = std::fs::read_to_string(self.data.join("admin.key")).expect("the key");
        let url = format!("https://paas:{}@localhost:{}/{app}.git", key.trim(), port_in(&self.data, "api"));
        let authority = self.data.join("ca/ca.pem").display().to_string();
        let words = [&["git"], words, &[&url], refs].concat();
        repository.run_with(&words, &[("GIT_SSL_CAINFO", &authority)], "")
    }

    /// What points `paas` at this server.
    ///
    /// # Panics
    /// When its key is not there.
    #[must_use]
    pub fn vars(&self) -> [(&'static str, String); 3] {
        let key = std::fs::read_to_string(self.data.join("admin.key")).expect("the key");
        let url = format!("http://localhost:{}", port_in(&self.data, "api"));
        let authority = self.data.join("ca/ca.pem").display().to_string();
        [("PAAS_URL", url), ("PAAS_API_KEY", key.trim().to_owned()), ("PAAS_CA", authority)]
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_path(&self) -> PathBuf {
        self.data.with_extension("log")
    }
}

impl Drop for Second<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
            let from = log.lines().count().saturating_sub(60);
            let last: Vec<&str> = log.lines().skip(from).collect();
            eprintln!("--- the second server's last lines\n{}\n---", last.join("\n"));
        }
        if let Some(mut child) = self.process().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
