//! What the drivers must remember in the installation's database.
//!
//! AWS itself cannot be asked who has which balancer, which rule is whose or which slot is free without a race, so
//! the database decides: a row is written before its effect, under a key that is unique. The rows' bodies belong to
//! the drivers; the [`Ledger`] only keeps them. The server implements it over its store; [`MemoryLedger`] is for
//! tests of drivers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use paas_domain::{AppId, HostName, ProcessType};
use paas_ports::PortError;

/// Which row. What is equal here exists once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A balancer of ours, by its number; 1 is the foundation's.
    Shard(u32),
    /// What an app published last, and which balancer serves it.
    Route(AppId),
    /// The target group of a process type.
    Group(AppId, ProcessType),
    /// An app's claim to a host.
    Claim(AppId, HostName),
    /// The rule at a priority of a shard's listener on 443.
    Rule {
        /// Which balancer.
        shard: u32,
        /// From 1 to 50,000; lower is asked first.
        priority: u32,
    },
    /// The certificate of an app's custom domain.
    Certificate(AppId, HostName),
}

/// The kind of [`Key::Certificate`], for who shows an app's certificates.
pub const CERTIFICATE: &str = "certificate";

impl Key {
    /// The key as three texts: of what kind, whose, and which of the owner's.
    #[must_use]
    pub fn parts(&self) -> (&'static str, String, String) {
        match self {
            Self::Shard(number) => ("shard", number.to_string(), String::new()),
            Self::Route(app) => ("route", app.to_string(), String::new()),
            Self::Group(app, process_type) => ("group", app.to_string(), process_type.to_string()),
            Self::Claim(app, host) => ("claim", app.to_string(), host.to_string()),
            Self::Rule { shard, priority } => ("rule", shard.to_string(), priority.to_string()),
            Self::Certificate(app, host) => (CERTIFICATE, app.to_string(), host.to_string()),
        }
    }

    /// Reads [`Key::parts`]; `None` when they are of no key.
    #[must_use]
    pub fn from_parts(kind: &str, owner: &str, name: &str) -> Option<Self> {
        Some(match kind {
            "shard" => Self::Shard(owner.parse().ok()?),
            "route" => Self::Route(owner.parse().ok()?),
            "group" => Self::Group(owner.parse().ok()?, name.parse().ok()?),
            "claim" => Self::Claim(owner.parse().ok()?, name.parse().ok()?),
            "rule" => Self::Rule { shard: owner.parse().ok()?, priority: name.parse().ok()? },
            CERTIFICATE => Self::Certificate(owner.parse().ok()?, name.parse().ok()?),
            _ => return None,
        })
    }
}

/// A change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row has this body from now on.
    Put(Key, String),
    /// The row goes. Succeeds when there is none.
    Delete(Key),
}

/// A slot that a task has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Of which process type.
    pub process_type: ProcessType,
    /// The number in `web.1`.
    pub slot: u32,
    /// The task's ARN.
    pub task: String,
}

/// The memory of the drivers. Everything that returned is there after a crash.
///
/// No method is called while a transaction is open; each opens its own.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Every row, and the revision that they are of.
    async fn rows(&self) -> Result<(i64, Vec<(Key, String)>), PortError>;

    /// The body of one row.
    async fn row(&self, key: &Key) -> Result<Option<String>, PortError>;

    /// Makes all of these changes or none: none, and `false`, when `revision` is not the present one any more.
    async fn write(&self, revision: i64, changes: Vec<Change>) -> Result<bool, PortError>;

    /// The slot of this task: the one that it has, else the lowest that no other task of the process type has.
    async fn take_slot(&self, app: &AppId, process_type: &ProcessType, task: &str) -> Result<u32, PortError>;

    /// Gives a task's slot back. Succeeds when it has none.
    async fn free_slot(&self, task: &str) -> Result<(), PortError>;

    /// The slots that tasks of an app have, by process type and number.
    async fn slots(&self, app: &AppId) -> Result<Vec<Slot>, PortError>;

    /// Whether an app was destroyed, by whichever server: nothing is to be made for it any more.
    async fn is_destroyed(&self, app: &AppId) -> Result<bool, PortError>;
}

/// A ledger in memory.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    revision: i64,
    rows: BTreeMap<Key, String>,
    slots: BTreeMap<(AppId, ProcessType, u32), String>,
    destroyed: BTreeSet<AppId>,
}

impl MemoryLedger {
    /// The app was destroyed.
    pub fn destroyed(&self, app: &AppId) {
        self.lock().destroyed.insert(app.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn rows(&self) -> Result<(i64, Vec<(Key, String)>), PortError> {
        let memory = self.lock();
        Ok((memory.revision, memory.rows.iter().map(|(key, body)| (key.clone(), body.clone())).collect()))
    }

    async fn row(&self, key: &Key) -> Result<Option<String>, PortError> {
        Ok(self.lock().rows.get(key).cloned())
    }

    async fn write(&self, revision: i64, changes: Vec<Change>) -> Result<bool, PortError> {
        let mut memory = self.lock();
        if memory.revision != revision {
            return Ok(false);
        }
        memory.revision += 1;
        for change in changes {
            match change {
                Change::Put(key, body) => drop(memory.rows.insert(key, body)),
                Change::Delete(key) => drop(memory.rows.remove(&key)),
            }
        }
        Ok(true)
    }

    async fn take_slot(&self, app: &AppId, process_type: &ProcessType, task: &str) -> Result<u32, PortError> {
        let mut memory = self.lock();
        if let Some(((_, _, slot), _)) = memory.slots.iter().find(|(_, holder)| *holder == task) {
            return Ok(*slot);
        }
        let mut slot = 1;
        while memory.slots.contains_key(&(app.clone(), process_type.clone(), slot)) {
            slot += 1;
        }
        memory.slots.insert((app.clone(), process_type.clone(), slot), task.to_owned());
        Ok(slot)
    }

    async fn free_slot(&self, task: &str) -> Result<(), PortError> {
        self.lock().slots.retain(|_, holder| holder != task);
        Ok(())
    }

    async fn slots(&self, app: &AppId) -> Result<Vec<Slot>, PortError> {
        let memory = self.lock();
        let of_app = memory.slots.iter().filter(|((of, ..), _)| of == app);
        Ok(of_app
            .map(|((_, process_type, slot), task)| Slot {
                process_type: process_type.clone(),
                slot: *slot,
                task: task.clone(),
            })
            .collect())
    }

    async fn is_destroyed(&self, app: &AppId) -> Result<bool, PortError> {
        Ok(self.lock().destroyed.contains(app))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_back() {
        let (app, host) = (AppId::new(), "*.example.com".parse::<HostName>().expect("a host"));
        let web = ProcessType::web();
        for key in [
            Key::Shard(2),
            Key::Route(app.clone()),
            Key::Group(app.clone(), web),
            Key::Claim(app.clone(), host.clone()),
            Key::Rule { shard: 1, priority: 50_000 },
            Key::Certificate(app, host),
        ] {
            let (kind, owner, name) = key.parts();
            assert_eq!(Key::from_parts(kind, &owner, &name), Some(key));
        }
        assert_eq!(Key::from_parts("rule", "1", "x"), None);
    }

    #[tokio::test]
    async fn a_change_that_was_decided_on_old_rows_does_not_count() {
        let ledger = MemoryLedger::default();
        let put = |body: &str| vec![Change::Put(Key::Shard(1), body.to_owned())];
        let (revision, _) = ledger.rows().await.expect("rows");
        assert!(ledger.write(revision, put("a")).await.expect("written"));
        assert!(!ledger.write(revision, put("b")).await.expect("refused"));
        assert_eq!(ledger.row(&Key::Shard(1)).await.expect("a row").as_deref(), Some("a"));
    }

    #[tokio::test]
    async fn slots_are_never_shared_and_the_lowest_is_taken_first() {
        let (ledger, app, web) = (MemoryLedger::default(), AppId::new(), ProcessType::web());
        for (task, slot) in [("a", 1), ("b", 2), ("a", 1)] {
            assert_eq!(ledger.take_slot(&app, &web, task).await.expect("a slot"), slot);
        }
        ledger.free_slot("a").await.expect("freed");
        assert_eq!(ledger.take_slot(&app, &web, "c").await.expect("a slot"), 1);
        assert_eq!(ledger.take_slot(&AppId::new(), &web, "d").await.expect("a slot"), 1);
        assert_eq!(ledger.slots(&app).await.expect("slots").len(), 2);
    }
}
