//! The dynos this process knows, each with its facts: the one place that tasks meet.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paas_domain::{AppId, DynoId, ProcessType};
use paas_ports::{Member, MemberState};
use tokio::sync::watch;

use super::facts::{Facts, Failure, Files, Position};
use super::tag::Tag;

/// A dyno whose container exists.
pub(crate) struct Dyno {
    /// Its labels.
    pub(crate) tag: Tag,
    /// The engine's id of its container.
    pub(crate) container: String,
    facts: watch::Sender<Facts>,
    address: Mutex<Option<SocketAddr>>,
    minded: Mutex<bool>,
    /// Struck from the book: nothing of it is written any more. Changes only under the lock of `facts`.
    struck: AtomicBool,
    files: Files,
}

impl Dyno {
    /// Its facts now.
    pub(crate) fn facts(&self) -> Facts {
        self.facts.borrow().clone()
    }

    /// Follows its facts.
    pub(crate) fn watch(&self) -> watch::Receiver<Facts> {
        self.facts.subscribe()
    }

    /// Changes its facts, on disk too, before anyone hears of it.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Facts)) {
        self.facts.send_if_modified(|facts| {
            let mut next = facts.clone();
            change(&mut next);
            if next == *facts {
                return false;
            }
            if !self.struck.load(Ordering::Relaxed) {
                self.files.write_facts(&self.tag.dyno, &next);
            }
            *facts = next;
            true
        });
    }

    /// Keeps how much of its output is in the log.
    pub(crate) fn keep_position(&self, position: &Position) {
        self.facts.send_if_modified(|_| {
            if !self.struck.load(Ordering::Relaxed) {
                self.files.write_position(&self.tag.dyno, position);
            }
            false
        });
    }

    /// Drops its files for good, but for the facts if `keep_facts`.
    fn close(&self, keep_facts: bool) {
        self.facts.send_if_modified(|_| {
            self.struck.store(true, Ordering::Relaxed);
            if keep_facts {
                self.files.drop_position(&self.tag.dyno);
            } else {
                self.files.drop_dyno(&self.tag.dyno);
            }
            false
        });
    }

    /// Lays a failure on it; false when it has one already, which stays.
    pub(crate) fn blame(&self, failure: Failure) -> bool {
        let mut first = false;
        self.note(|f| {
            if f.failure.is_none() {
                f.failure = Some(failure);
                first = true;
            }
        });
        first
    }

    /// Where it listens, once it runs.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *locked(&self.address)
    }

    pub(crate) fn set_address(&self, address: Option<SocketAddr>) {
        *locked(&self.address) = address;
    }

    /// Claims the right to mind this dyno; only the first claim gets it.
    pub(crate) fn claim(&self) -> bool {
        !std::mem::replace(&mut locked(&self.minded), true)
    }

    /// What the pool has to know of it; `None` when it is gone for the pool.
    fn member(&self) -> Option<Member> {
        let facts = self.facts.borrow();
        let state = match (&facts.exit, &facts.failure, &facts.stop) {
            (Some(_), _, Some(_)) => return None,
            (Some(_), _, None) | (None, Some(_), _) => MemberState::Crashed,
            (None, None, Some(_)) => MemberState::Draining,
            (None, None, None) if facts.up_at.is_some() => MemberState::Up,
            (None, None, None) => MemberState::Starting,
        };
        let name = self.tag.name.clone();
        Some(Member { dyno: self.tag.dyno.clone(), name, address: self.address(), state })
    }
}

/// All dynos of this installation that this process has come across.
pub(crate) struct Book {
    files: Files,
    dynos: Mutex<HashMap<DynoId, Arc<Dyno>>>,
}

impl Book {
    pub(crate) fn new(files: Files) -> Self {
        Self { files, dynos: Mutex::default() }
    }

    /// Enters a container, or finds the entry it already has.
    pub(crate) fn enter(&self, tag: Tag, container: &str) -> Arc<Dyno> {
        let mut dynos = locked(&self.dynos);
        let known = dynos.get(&tag.dyno);
        if let Some(dyno) = known.filter(|d| d.container == container) {
            return Arc::clone(dyno);
        }
        let facts = self.files.facts(&tag.dyno).unwrap_or_default();
        let id = tag.dyno.clone();
        let dyno = Arc::new(Dyno {
            tag,
            container: container.to_owned(),
            facts: watch::Sender::new(facts),
            address: Mutex::default(),
            minded: Mutex::default(),
            struck: AtomicBool::new(false),
            files: self.files.clone(),
        });
        dynos.insert(id, Arc::clone(&dyno));
        dyno
    }

    pub(crate) fn get(&self, dyno: &DynoId) -> Option<Arc<Dyno>> {
        locked(&self.dynos).get(dyno).cloned()
    }

    /// Strikes a dyno whose container is gone. The facts of a one-off dyno stay: its id was used.
    pub(crate) fn strike(&self, dyno: &Dyno) {
        self.forget(dyno);
        dyno.close(!dyno.tag.is_service());
    }

    /// Strikes a dyno whose app is gone too, with all that is kept of it.
    pub(crate) fn erase(&self, dyno: &Dyno) {
        self.forget(dyno);
        dyno.close(false);
    }

    fn forget(&self, dyno: &Dyno) {
        let mut dynos = locked(&self.dynos);
        if dynos.get(&dyno.tag.dyno).is_some_and(|d| d.container == dyno.container) {
            dynos.remove(&dyno.tag.dyno);
        }
    }

    /// The service dynos of one process type.
    pub(crate) fn of(&self, app: &AppId, process_type: &ProcessType) -> Vec<Arc<Dyno>> {
        let dynos = locked(&self.dynos);
        let ours =
            dynos.values().filter(|d| d.tag.is_service() && d.tag.app == *app && d.tag.process_type() == process_type);
        let mut ours: Vec<Arc<Dyno>> = ours.cloned().collect();
        ours.sort_by_key(|d| d.tag.name.slot);
        ours
    }

    /// Everyone.
    pub(crate) fn all(&self) -> Vec<Arc<Dyno>> {
        locked(&self.dynos).values().cloned().collect()
    }

    /// The members of a process type's pool.
    pub(crate) fn members(&self, app: &AppId, process_type: &ProcessType) -> Vec<Member> {
        self.of(app, process_type).iter().filter_map(|d| d.member()).collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
