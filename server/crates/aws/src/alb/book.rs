//! The ledger's rows of the shared balancers, as values.
//!
//! A [`Book`] is everything that was promised: which balancer (*shard*) serves which app, who has which host, which
//! rule stands at which priority, what AWS was told last. It is read whole, changed as a value, and written as the
//! difference, if nobody has written meanwhile.

use std::collections::BTreeMap;

use paas_domain::{AppId, HostName, ProcessType};
use paas_ports::PortError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ledger::{Change, Key};

/// Everything that was promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    pub(crate) shards: BTreeMap<u32, Shard>,
    pub(crate) routes: BTreeMap<AppId, Published>,
    pub(crate) groups: BTreeMap<(AppId, ProcessType), Group>,
    /// Who wants which host; of several claims the highest counts.
    pub(crate) claims: BTreeMap<(AppId, HostName), u64>,
    /// By shard and priority.
    pub(crate) rules: BTreeMap<(u32, u32), Rule>,
    pub(crate) certificates: BTreeMap<(AppId, HostName), Certificate>,
}

/// A balancer of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shard {
    /// Its ARN; `None` while it is being made.
    pub(crate) load_balancer: Option<String>,
    /// Its listener on 443; `None` while it is being made.
    pub(crate) listener: Option<String>,
    pub(crate) dns_name: String,
    /// The zone that aliases to it name.
    pub(crate) zone_id: String,
    /// AWS said that it is full, by what others put there: it takes no further app.
    pub(crate) closed: bool,
}

impl Shard {
    pub(crate) fn is_ready(&self) -> bool {
        self.listener.is_some()
    }
}

/// What an app published last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// Where its hosts lead.
    pub(crate) shard: Option<u32>,
    /// The highest generation ever published; lower ones are superseded. Kept when the app is removed.
    pub(crate) generation: i64,
    /// The digest of the route, without its generation; `None` when the next one is to be looked at whatever it says.
    pub(crate) wish: Option<String>,
    /// What a request to its hosts gets.
    pub(crate) answer: Answer,
    /// Whether a client keeps its dyno.
    #[serde(default)]
    pub(crate) sticky: bool,
    /// Whether AWS was told everything.
    pub(crate) settled: bool,
    /// Its records in our zone, with the balancer each leads to. Written before they are made.
    pub(crate) records: BTreeMap<HostName, Record>,
    /// Nothing of it is left but the generation.
    pub(crate) removed: bool,
}

impl Default for Published {
    fn default() -> Self {
        Self {
            shard: None,
            generation: i64::MIN,
            wish: None,
            answer: Answer::Page(Page::Blank),
            sticky: false,
            settled: false,
            records: BTreeMap::new(),
            removed: false,
        }
    }
}

/// A record in our zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The shard that it leads to.
    pub(crate) shard: u32,
    /// AWS was told last to make it lead there.
    pub(crate) told: bool,
    /// It is to go.
    pub(crate) going: bool,
    /// It may have been asked for. Written before it is; taken back when somebody else's stands there.
    #[serde(default)]
    pub(crate) asked: bool,
    /// AWS has made it for us, whatever has become of it since.
    #[serde(default)]
    pub(crate) ours: bool,
}

impl Record {
    /// Whether it is ours to change.
    pub(crate) fn is_ours(&self) -> bool {
        self.ours || self.told
    }
}

/// What a request to an app's hosts gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The answer of a target of this group.
    Forward(String),
    Page(Page),
}

/// A page of our own, status 503.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Page {
    /// H80.
    Maintenance,
    /// H81.
    Blank,
    /// H14.
    NoWebDynos,
}

/// The target group of a process type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    /// `None` while it is being made.
    pub(crate) arn: Option<String>,
    /// Whether AWS was told last that its clients keep their targets; `None` while it is being told.
    #[serde(default = "not_sticky")]
    pub(crate) sticky: Option<bool>,
}

impl Default for Group {
    fn default() -> Self {
        Self { arn: None, sticky: not_sticky() }
    }
}

fn not_sticky() -> Option<bool> {
    Some(false)
}

/// A rule of a listener on 443.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rule {
    pub(crate) of: Owner,
    /// At most [`super::quota::HOSTS_PER_RULE`]; none means that the rule is to go.
    pub(crate) hosts: Vec<HostName>,
    /// Parked groups; at most [`super::quota::GROUPS_PER_RULE`].
    pub(crate) groups: Vec<String>,
    /// `None` when it may not be there.
    pub(crate) arn: Option<String>,
    /// The digest of what AWS was told last.
    pub(crate) told: Option<String>,
}

/// Whose a rule is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Owner {
    App(AppId),
    /// Nobody's traffic: it keeps groups associated with the balancer while no app's rule names them.
    Parking,
    /// Somebody else has put a rule at this priority.
    Foreign,
}

/// The certificate of a custom domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its ARN, once it was requested.
    pub arn: Option<String>,
    /// Where it stands.
    pub state: CertificateState,
    /// What is wrong, or what is to be done; in words.
    pub reason: Option<String>,
    /// The DNS record that shows AWS who the domain's owner is.
    pub validation: Option<ValidationRecord>,
    /// Whose listener shows it, or is to show it.
    pub(crate) shard: Option<u32>,
    /// AWS may have been asked for it.
    pub(crate) asked: bool,
    /// Makes its idempotency token another one than that of an earlier certificate of the same host, which AWS may still
    /// answer with for an hour when it is deleted.
    #[serde(default)]
    pub(crate) nonce: String,
}

/// Where a certificate stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateState {
    /// To be requested.
    #[default]
    Wanted,
    /// Requested; waits for its validation record.
    Pending,
    /// Issued, and the domain's listener shows it.
    Attached,
    /// It cannot be had.
    Failed,
    /// To be taken from the listener and deleted.
    Going,
    /// To be requested once the app's balancer has room for it.
    NoRoom,
}

/// A DNS record that the domain's owner makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// Its name.
    pub name: String,
    /// `CNAME`.
    pub kind: String,
    /// Its value.
    pub value: String,
}

/// What a rule is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Content {
    /// These hosts get this.
    Hosts(Vec<HostName>, Answer),
    /// No request at all; the groups are associated by it.
    Parking(Vec<String>),
}

impl Content {
    /// Told again when it changes.
    pub(crate) fn digest(&self) -> String {
        digest(self)
    }
}

/// A short digest of anything.
pub(crate) fn digest(of: &impl Serialize) -> String {
    let text = serde_json::to_vec(of).unwrap_or_default();
    data_encoding::HEXLOWER.encode(&Sha256::digest(text)[..12])
}

impl Book {
    /// Reads rows.
    ///
    /// # Errors
    /// When one is of another version of this program.
    pub(crate) fn read(rows: Vec<(Key, String)>) -> Result<Self, PortError> {
        let mut book = Self::default();
        for (key, body) in rows {
            match key {
                Key::Shard(number) => drop(book.shards.insert(number, parse(&body)?)),
                Key::Route(app) => drop(book.routes.insert(app, parse(&body)?)),
                Key::Group(app, process_type) => drop(book.groups.insert((app, process_type), parse(&body)?)),
                Key::Claim(app, host) => drop(book.claims.insert((app, host), parse(&body)?)),
                Key::Rule { shard, priority } => drop(book.rules.insert((shard, priority), parse(&body)?)),
                Key::Certificate(app, host) => drop(book.certificates.insert((app, host), parse(&body)?)),
            }
        }
        Ok(book)
    }

    fn rows(&self) -> BTreeMap<Key, String> {
        let mut rows = BTreeMap::new();
        rows.extend(self.shards.iter().map(|(number, row)| (Key::Shard(*number), text(row))));
        rows.extend(self.routes.iter().map(|(app, row)| (Key::Route(app.clone()), text(row))));
        rows.extend(self.groups.iter().map(|((app, t), row)| (Key::Group(app.clone(), t.clone()), text(row))));
        rows.extend(self.claims.iter().map(|((app, host), row)| (Key::Claim(app.clone(), host.clone()), text(row))));
        rows.extend(self.rules.iter().map(|((s, p), row)| (Key::Rule { shard: *s, priority: *p }, text(row))));
        let certificates = self.certificates.iter();
        rows.extend(certificates.map(|((app, host), row)| (Key::Certificate(app.clone(), host.clone()), text(row))));
        rows
    }

    /// What makes this book `next`.
    pub(crate) fn changes_to(&self, next: &Self) -> Vec<Change> {
        let (before, after) = (self.rows(), next.rows());
        let gone = before.keys().filter(|key| !after.contains_key(key)).cloned().map(Change::Delete);
        let put = after.iter().filter(|(key, body)| before.get(key) != Some(body));
        gone.chain(put.map(|(key, body)| Change::Put(key.clone(), body.clone()))).collect()
    }

    /// Who has this host: the newest claim.
    pub(crate) fn owner(&self, host: &HostName) -> Option<&AppId> {
        let claims = self.claims.iter().filter(|((_, of), _)| of == host);
        claims.max_by_key(|(_, claim)| **claim).map(|((app, _), _)| app)
    }

    /// The hosts that an app has: those that it claims and nobody has claimed since.
    pub(crate) fn hosts_of(&self, app: &AppId) -> Vec<HostName> {
        let claimed = self.claims.keys().filter(|(of, _)| of == app).map(|(_, host)| host);
        claimed.filter(|host| self.owner(host) == Some(app)).cloned().collect()
    }

    /// The ARNs of an app's groups.
    pub(crate) fn groups_of<'a>(&'a self, app: &'a AppId) -> impl Iterator<Item = &'a String> {
        self.groups.iter().filter(move |((of, _), _)| of == app).filter_map(|(_, group)| group.arn.as_ref())
    }

    /// A group of an app that keeps its clients though it should not, or the other way round.
    pub(crate) fn wrongly_sticky(&self, app: &AppId) -> Option<(ProcessType, String)> {
        let route = self.routes.get(app).filter(|route| !route.removed)?;
        let mut groups = self.groups.iter().filter(|((of, _), group)| of == app && group.sticky != Some(route.sticky));
        groups.find_map(|((_, process_type), group)| Some((process_type.clone(), group.arn.clone()?)))
    }

    /// What the rule at this key is to say; `None` when it is to go, or is not ours.
    pub(crate) fn content(&self, rule: &Rule) -> Option<Content> {
        match &rule.of {
            Owner::App(_) if rule.hosts.is_empty() => None,
            Owner::App(app) => Some(Content::Hosts(rule.hosts.clone(), self.routes.get(app)?.answer.clone())),
            Owner::Parking if rule.groups.is_empty() => None,
            Owner::Parking => Some(Content::Parking(rule.groups.clone())),
            Owner::Foreign => None,
        }
    }

    /// Whether AWS was told what this rule is to say. Never for one that is to go.
    pub(crate) fn is_told(&self, rule: &Rule) -> bool {
        match self.content(rule) {
            Some(content) => rule.arn.is_some() && rule.told.as_deref() == Some(&content.digest()),
            None => rule.of == Owner::Foreign,
        }
    }

    /// The keys of an app's rules.
    pub(crate) fn rules_of(&self, app: &AppId) -> Vec<(u32, u32)> {
        let of_app = self.rules.iter().filter(|(_, rule)| matches!(&rule.of, Owner::App(of) if of == app));
        of_app.map(|(key, _)| *key).collect()
    }

    /// Whether the record of this name is ours to change: one of our apps has made it, this one or the one before.
    pub(crate) fn has_record(&self, host: &HostName) -> bool {
        self.routes.values().any(|route| route.records.get(host).is_some_and(Record::is_ours))
    }

    /// The shard that an app is on.
    pub(crate) fn shard_of(&self, app: &AppId) -> Option<u32> {
        self.routes.get(app).and_then(|route| route.shard)
    }
}

fn text(row: &impl Serialize) -> String {
    serde_json::to_string(row).unwrap_or_default()
}

/// Reads one row.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(body: &str) -> Result<T, PortError> {
    serde_json::from_str(body).map_err(|error| PortError::permanent("reading what AWS was told", error))
}

impl Certificate {
    /// It is to go. One that never came to a listener holds no place there any more.
    pub(crate) fn leave(&mut self) {
        if matches!(self.state, CertificateState::Wanted | CertificateState::Failed | CertificateState::NoRoom) {
            self.shard = None;
        }
        self.state = CertificateState::Going;
    }

    /// Reads a row of the ledger, for who shows an app's certificates.
    ///
    /// # Errors
    /// When it is of another version of this program.
    pub fn read(body: &str) -> Result<Self, PortError> {
        parse(body)
    }
}
