//! The AWS account that a platform stands in: the rig's, with a foundation of its own.
//!
//! Stories share the account and never meet: each has its own stack, its own domain and a schema of its own in
//! PostgreSQL. What it leaves behind is everything on the account that mentions its installation and was not there
//! after `paas install`.

use std::io;
use std::process::Command;

use serde_json::Value;

use super::docker::block_on;
use super::http::{Method, request};
use crate::database::{Database, Dump};

/// An account with a foundation.
pub(super) struct Account {
    /// What follows an app's name.
    pub(super) domain: String,
    /// The port of the front door where the balancers' listener on 443 answers without TLS.
    pub(super) front: u16,
    /// The port where it speaks TLS, which URLs show.
    pub(super) front_tls: u16,
    /// Who has signed for it.
    pub(super) ca: String,
    bridge: String,
    stack: String,
    state: u16,
    vars: Vec<(String, String)>,
    database: Option<Database>,
    foundation: Vec<String>,
}

fn value(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("not run: no AWS emulator ({name} is not set; `make test` sets it)"),
    }
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok()).expect("a URL with a port")
}

impl Account {
    /// Takes a name for a new foundation and a database.
    ///
    /// # Panics
    /// With "not run: …" without a rig or without PostgreSQL.
    pub(super) fn new() -> Self {
        let endpoint = value("PAAS_TEST_AWS");
        let database = block_on(Database::postgres());
        let word = paas_domain::InstallId::random();
        let vars = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("PAAS_AWS_REGISTRY", value("PAAS_TEST_AWS_REGISTRY").trim_start_matches("http://")),
            ("PAAS_DATABASE", database.url()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        Self {
            domain: format!("{word}.localhost"),
            front: port_of(&value("PAAS_TEST_AWS_FRONT_443")),
            front_tls: port_of(&value("PAAS_TEST_AWS_FRONT_TLS")),
            ca: value("PAAS_TEST_AWS_CA"),
            bridge: value("PAAS_TEST_AWS_BRIDGE"),
            stack: format!("story-{word}"),
            state: port_of(&value("PAAS_TEST_AWS_STATE")),
            vars,
            database: Some(database),
            foundation: Vec::new(),
        }
    }

    /// The variables by which every program finds the account.
    pub(super) fn vars(&self) -> impl Iterator<Item = (&str, &str)> {
        self.vars.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The words after `paas-server serve`.
    pub(super) fn arguments(&self) -> [String; 8] {
        let port = self.front_tls.to_string();
        let words = ["--platform", "aws", "--stack", &self.stack, "--app-port", &port, "--link-host", &self.bridge];
        words.map(str::to_owned)
    }

    /// `paas install`, and what is there after it.
    ///
    /// # Panics
    /// When it fails.
    pub(super) fn install(&mut self, mut program: Command) {
        let words = ["install", "--yes", "--stack", &self.stack, "--domain", &self.domain, "--database", "none"];
        let done = program.args(words).output().expect("paas-server starts");
        assert!(done.status.success(), "install: {}", String::from_utf8_lossy(&done.stderr));
        self.foundation = self.objects("");
    }

    /// What on the account mentions this word, and was not there after `paas install`.
    ///
    /// # Panics
    /// When the rig does not answer.
    pub(super) fn objects(&self, word: &str) -> Vec<String> {
        let found = self.ask(Method::Get, &format!("/objects?{word}"), "").expect("the rig answers");
        let found: Vec<String> = serde_json::from_value(found).expect("a list");
        found.into_iter().filter(|object| !self.foundation.contains(object)).collect()
    }

    /// Everything in the database.
    pub(super) fn rows(&self) -> Dump {
        block_on(self.database.as_ref().expect("a database").dump())
    }

    /// What other people's name servers say of a name of theirs.
    ///
    /// # Panics
    /// When the rig does not answer.
    pub(super) fn set_elsewhere(&self, host: &str, target: &str) {
        let body = serde_json::json!({ host: target }).to_string();
        self.ask(Method::Put, "/elsewhere", &body).expect("the rig answers");
    }

    fn ask(&self, method: Method, path: &str, body: &str) -> io::Result<Value> {
        Ok(request(self.state, method, path, &[("Host", "localhost")], body)?.json())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            block_on(database.remove());
        }
    }
}
