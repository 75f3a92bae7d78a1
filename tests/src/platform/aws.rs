//! The AWS account that a platform stands in: the rig's, with a foundation of its own.
//!
//! Stories share the account and never meet: each has its own stack, its own domain and a schema of its own in
//! PostgreSQL. What it leaves behind is everything on the account that mentions its installation and was not there
//! after `paas install`.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;

use serde_json::{Value, json};

use super::Platform;
use super::docker::block_on;
use super::http::{Method, request};
use super::line::Line;
use super::owner::Owner;
use crate::database::{Database, Dump};

/// How the server comes to the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As whoever made it, who may do everything.
    Plain,
    /// As the role that `paas install` made, on the rig that asks IAM.
    AsItsRole,
    /// Through a line of the fault proxy of its own.
    ThroughALine,
}

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
    /// What its owner can ask and do.
    pub(super) owner: Owner,
    /// The server's own way to it, when it has one.
    pub(super) line: Option<Line>,
    bridge: String,
    stack: String,
    state: u16,
    vars: BTreeMap<String, String>,
    way: Way,
    database: Option<Database>,
    foundation: Vec<String>,
}

/// Where a rig's programs answer: of the one that the environment names, or of the one that asks IAM, which is in the
/// file that the environment names.
fn rig(way: Way) -> impl Fn(&str) -> String {
    let mut found = BTreeMap::new();
    if way == Way::AsItsRole {
        let file = value("PAAS_TEST_AWS_IAM_ENV");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("not run: no AWS emulator: {file}: {e}"));
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        found.extend(pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())));
    }
    move |name| match way {
        Way::AsItsRole => found.get(name).unwrap_or_else(|| panic!("not run: no {name} of the rig")).clone(),
        Way::Plain | Way::ThroughALine => value(name),
    }
}

fn value(name: &str) -> String {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!("not run: no AWS emulator ({name} is not set; `make test` sets it)"),
    }
}

pub(super) fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok()).expect("a URL with a port")
}

impl Account {
    /// Takes a name for a new foundation and a database.
    ///
    /// # Panics
    /// With "not run: …" without a rig or without PostgreSQL.
    pub(super) fn new(way: Way) -> Self {
        let rig = rig(way);
        let endpoint = rig("PAAS_TEST_AWS");
        let line = (way == Way::ThroughALine).then(|| Line::open(&rig("PAAS_TEST_AWS_FAULTS")));
        let database = block_on(Database::postgres());
        let word = paas_domain::InstallId::random();
        let vars = [
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("PAAS_AWS_REGISTRY", rig("PAAS_TEST_AWS_REGISTRY").trim_start_matches("http://")),
            ("PAAS_DATABASE", database.url()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        Self {
            domain: format!("{word}.localhost"),
            front: port_of(&rig("PAAS_TEST_AWS_FRONT_443")),
            front_tls: port_of(&rig("PAAS_TEST_AWS_FRONT_TLS")),
            ca: rig("PAAS_TEST_AWS_CA"),
            owner: Owner::of(&endpoint),
            line,
            bridge: rig("PAAS_TEST_AWS_BRIDGE"),
            stack: format!("story-{word}"),
            state: port_of(&rig("PAAS_TEST_AWS_STATE")),
            vars,
            way,
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

    /// `paas install` by the account's owner, and what is there after it; the server comes its own way from then on.
    ///
    /// # Panics
    /// When it fails.
    pub(super) fn install(&mut self, mut program: Command) {
        let words = ["install", "--yes", "--stack", &self.stack, "--domain", &self.domain, "--database", "none"];
        let done = program.args(words).output().expect("paas-server starts");
        assert!(done.status.success(), "install: {}", String::from_utf8_lossy(&done.stderr));
        self.foundation = self.objects("");
        if let Some(line) = &self.line {
            self.vars.insert("AWS_ENDPOINT_URL".to_owned(), line.url().to_owned());
            self.vars.insert("PAAS_AWS_REGISTRY".to_owned(), line.url().trim_start_matches("http://").to_owned());
        }
        if self.way == Way::AsItsRole {
            let asked = json!({"RoleArn": self.outputs()["ServerRoleArn"], "RoleSessionName": "server"});
            let given = &self.owner.call("sts", "AssumeRole", &asked)["Credentials"];
            for (name, field) in [
                ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
                ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
                ("AWS_SESSION_TOKEN", "SessionToken"),
            ] {
                self.vars.insert(name.to_owned(), given[field].as_str().expect("credentials").to_owned());
            }
        }
    }

    /// The outputs of the foundation's stack.
    ///
    /// # Panics
    /// When there is none.
    pub(super) fn outputs(&self) -> BTreeMap<String, String> {
        let found = self.owner.call("cloudformation", "DescribeStacks", &json!({"StackName": self.stack}));
        let outputs = found["Stacks"][0]["Outputs"].as_array().expect("outputs");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        outputs.iter().map(|output| (text(&output["OutputKey"]), text(&output["OutputValue"]))).collect()
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

    /// The database's URL.
    pub(super) fn database_url(&self) -> &str {
        self.database.as_ref().expect("a database").url()
    }

    /// Everything in the database.
    pub(super) fn rows(&self) -> Dump {
        block_on(self.database.as_ref().expect("a database").dump())
    }

    /// Which balancer the record of each name leads to.
    ///
    /// # Panics
    /// When the rig does not answer.
    fn records(&self) -> BTreeMap<String, String> {
        let mut state = self.ask(Method::Get, "/", "").expect("the rig answers");
        serde_json::from_value(state["records"].take()).expect("names and where they lead")
    }

    /// The account's load balancers, with the rules of their listeners.
    ///
    /// # Panics
    /// When the rig does not answer.
    fn balancers(&self) -> Value {
        self.ask(Method::Get, "/", "").expect("the rig answers")["balancers"].take()
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

/// What only a platform on AWS has.
impl Platform {
    fn account(&self) -> &Account {
        self.account.as_ref().expect("a platform on AWS")
    }

    /// The account's owner.
    ///
    /// # Panics
    /// When it is not on AWS.
    #[must_use]
    pub fn owner(&self) -> &Owner {
        &self.account().owner
    }

    /// The server's own way to its account.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn line(&self) -> &Line {
        self.account().line.as_ref().expect("a line")
    }

    /// The outputs of the foundation's stack.
    ///
    /// # Panics
    /// When it is not on AWS.
    #[must_use]
    pub fn outputs(&self) -> BTreeMap<String, String> {
        self.account().outputs()
    }

    /// Everything in the server's database.
    ///
    /// # Panics
    /// When it is not on AWS.
    #[must_use]
    pub fn rows(&self) -> Dump {
        self.account().rows()
    }

    /// What on the account mentions this word, and was not there after `paas install`.
    ///
    /// # Panics
    /// When it is not on AWS.
    #[must_use]
    pub fn objects(&self, word: &str) -> Vec<String> {
        self.account().objects(word)
    }

    /// The apps' host names by the load balancer that answers for them, as DNS says it.
    ///
    /// # Panics
    /// When it is not on AWS.
    #[must_use]
    pub fn hosts_by_balancer(&self) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let ours = format!(".{}", self.account().domain);
        for (host, balancer) in self.account().records().into_iter().filter(|(host, _)| host.ends_with(&ours)) {
            found.entry(balancer).or_default().push(host);
        }
        found
    }

    /// The account's load balancers by their ARN, with the rules of their listeners as ELBv2 describes them.
    ///
    /// # Panics
    /// When it is not on AWS.
    #[must_use]
    pub fn balancers(&self) -> Value {
        self.account().balancers()
    }

    /// Every task definition that the server has ever registered, with its tags.
    ///
    /// # Panics
    /// When it is not on AWS.
    #[must_use]
    pub fn definitions(&self) -> Vec<Value> {
        let (owner, prefix) = (self.owner(), format!("paas-{}-", self.install()));
        let mut found = Vec::new();
        for status in ["ACTIVE", "INACTIVE"] {
            let of = |key: &str, value: &str| json!({key: value, "status": status});
            let families = owner.call("ecs", "ListTaskDefinitionFamilies", &of("familyPrefix", &prefix));
            for family in families["families"].as_array().expect("families") {
                let family = family.as_str().expect("a family");
                let listed = owner.call("ecs", "ListTaskDefinitions", &of("familyPrefix", family));
                for arn in listed["taskDefinitionArns"].as_array().expect("ARNs") {
                    let asked = json!({"taskDefinition": arn, "include": ["TAGS"]});
                    found.push(owner.call("ecs", "DescribeTaskDefinition", &asked));
                }
            }
        }
        found
    }
}
