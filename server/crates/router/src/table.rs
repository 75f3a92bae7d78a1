//! What a request is looked up in: host → app → pool → dynos.
//!
//! Read by every request, without a lock; written by the registry only, by swapping pointers. Hosts are spread
//! over many small maps, so that a change copies a few of ten thousand; a change of a pool or of an app's flags
//! does not touch them at all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use paas_domain::{AppId, DynoId};
use paas_ports::Attachment;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::dyno_connection::KeptSet;

/// Maps that hosts are spread over.
const SHARDS: usize = 256;

/// Every host that is routed.
pub(crate) struct Table {
    exact: Shards,
    /// `*.example.com` under `example.com`.
    wild: Shards,
    /// How many of those there are: mostly none.
    wildcards: AtomicUsize,
}

struct Shards(Box<[ArcSwap<Shard>]>);

type Shard = HashMap<Arc<str>, Arc<App>>;

impl Table {
    pub(crate) fn new() -> Self {
        Self { exact: Shards::new(), wild: Shards::new(), wildcards: AtomicUsize::new(0) }
    }

    /// The app of this host (lower case, without port). The most specific name wins: the host itself, then
    /// the wildcard with the most labels.
    pub(crate) fn find(&self, host: &str) -> Option<Arc<App>> {
        if let Some(app) = self.exact.get(host) {
            return Some(app);
        }
        if self.wildcards.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let parents = std::iter::successors(host.split_once('.'), |(_, rest)| rest.split_once('.'));
        parents.map(|(_, parent)| parent).find_map(|parent| self.wild.get(parent))
    }

    /// Gives `host` (perhaps a wildcard) to an app, or to nobody. Not to be called twice at once.
    pub(crate) fn assign(&self, host: &str, app: Option<Arc<App>>) {
        match host.strip_prefix("*.") {
            None => drop(self.exact.put(host, app)),
            Some(parent) => {
                let now = app.is_some();
                match (self.wild.put(parent, app), now) {
                    (false, true) => drop(self.wildcards.fetch_add(1, Ordering::Relaxed)),
                    (true, false) => drop(self.wildcards.fetch_sub(1, Ordering::Relaxed)),
                    _ => {}
                }
            }
        }
    }
}

impl Shards {
    fn new() -> Self {
        Self((0..SHARDS).map(|_| ArcSwap::default()).collect())
    }

    fn of(&self, name: &str) -> &ArcSwap<Shard> {
        // Who crowds one shard on purpose makes it as slow as an undivided table, for changes only.
        let hash = fnv(name);
        &self.0[(hash ^ (hash >> 32)) as usize % SHARDS]
    }

    fn get(&self, name: &str) -> Option<Arc<App>> {
        self.of(name).load().get(name).cloned()
    }

    /// Replaces an entry; whether there was one.
    fn put(&self, name: &str, app: Option<Arc<App>>) -> bool {
        let shard = self.of(name);
        let mut map = Shard::clone(&shard.load());
        let before = match app {
            Some(app) => map.insert(Arc::from(name), app),
            None => map.remove(name),
        };
        shard.store(Arc::new(map));
        before.is_some()
    }
}

/// FNV-1a.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// An app as requests see it.
pub(crate) struct App {
    pub(crate) id: AppId,
    pub(crate) live: ArcSwap<Live>,
}

/// The part of an app that changes.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) released: bool,
    pub(crate) maintenance: bool,
    /// Whether clients come back to the dyno that answered first.
    pub(crate) session_affinity: bool,
    pub(crate) pool: Option<Arc<Pool>>,
}

/// The dynos of one process type.
pub(crate) struct Pool {
    pub(crate) members: ArcSwap<Members>,
    /// Told when members change or when a dyno can take a request again.
    pub(crate) changed: Notify,
    /// Requests that wait for that.
    pub(crate) waiting: AtomicU32,
    /// How many of them come back to one dyno, and have no use for another's free place.
    pub(crate) waiting_for_own: AtomicU32,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let (waiting, waiting_for_own) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { members: ArcSwap::default(), changed: Notify::new(), waiting, waiting_for_own }
    }

    /// A dyno can take a request: whoever waits and can use it looks again. One of them will do, unless some wait for
    /// a dyno of their own, which need not be this one.
    pub(crate) fn wake(&self) {
        if self.waiting_for_own.load(Ordering::Relaxed) > 0 {
            self.changed.notify_waiters();
        } else {
            self.changed.notify_one();
        }
    }
}

/// What a pool holds at one moment.
#[derive(Default)]
pub(crate) struct Members {
    pub(crate) wanted: u16,
    pub(crate) up: Vec<Arc<Dyno>>,
    pub(crate) starting: usize,
    pub(crate) crashed: usize,
}

/// What a client is told of its dyno, to be said again: as short as a cookie should be, and not the dyno's id, which
/// says when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DynoMark(pub(crate) [u8; 16]);

impl DynoMark {
    fn of(dyno: &DynoId) -> Self {
        let mut digits = [0; 16];
        let hash = fnv(dyno.as_str());
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(hash >> (60 - 4 * at)) as usize & 15];
        }
        Self(digits)
    }
}

/// A dyno at its address. A dyno that comes back elsewhere is another one of these.
pub(crate) struct Dyno {
    pub(crate) id: DynoId,
    /// What its clients come back with.
    pub(crate) mark: DynoMark,
    /// `web.1`, for log lines.
    pub(crate) label: String,
    pub(crate) address: SocketAddr,
    pool: Attachment,
    /// Requests and tunnels.
    in_flight: AtomicU32,
    /// Requests whose answer has not begun.
    unanswered: AtomicU32,
    /// Milliseconds since the router's start.
    quarantined_until: AtomicU64,
    leaving: AtomicBool,
    drained: AtomicBool,
    events: UnboundedSender<Drained>,
    /// Unused connections, for each worker its own.
    pub(crate) kept: KeptSet,
}

/// Says that a dyno that left its pool serves nothing any more.
#[derive(Clone, Debug)]
pub(crate) struct Drained {
    pub(crate) pool: Attachment,
    pub(crate) dyno: DynoId,
}

impl Dyno {
    pub(crate) fn new(
        id: DynoId,
        label: String,
        address: SocketAddr,
        pool: Attachment,
        workers: usize,
        events: UnboundedSender<Drained>,
    ) -> Self {
        Self {
            mark: DynoMark::of(&id),
            id,
            label,
            address,
            pool,
            in_flight: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
            quarantined_until: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            events,
            kept: KeptSet::new(workers),
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    pub(crate) fn unanswered(&self) -> u32 {
        self.unanswered.load(Ordering::Relaxed)
    }

    pub(crate) fn is_quarantined(&self, now_ms: u64) -> bool {
        self.quarantined_until.load(Ordering::Relaxed) > now_ms
    }

    pub(crate) fn quarantine(&self, until_ms: u64) {
        self.quarantined_until.store(until_ms, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst)
    }

    /// From now on it gets nothing new. Its `drained` is said when the last request ended.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
        self.kept.clear();
        self.say_if_drained();
    }

    /// Back in its pool.
    pub(crate) fn stay(&self) {
        self.drained.store(false, Ordering::SeqCst);
        self.leaving.store(false, Ordering::SeqCst);
    }

    fn say_if_drained(&self) {
        if self.is_leaving() && self.in_flight() == 0 && !self.drained.swap(true, Ordering::SeqCst) {
            // Nobody listens while the router stops.
            let _ = self.events.send(Drained { pool: self.pool.clone(), dyno: self.id.clone() });
        }
    }
}

/// One request's place at a dyno.
pub(crate) struct Slot {
    pub(crate) dyno: Arc<Dyno>,
    pool: Arc<Pool>,
    answered: bool,
}

impl Slot {
    /// Takes a place; `None` when the dyno left in this moment.
    pub(crate) fn take(pool: &Arc<Pool>, dyno: &Arc<Dyno>) -> Option<Self> {
        dyno.in_flight.fetch_add(1, Ordering::SeqCst);
        dyno.unanswered.fetch_add(1, Ordering::Relaxed);
        let slot = Self { dyno: dyno.clone(), pool: pool.clone(), answered: false };
        // After the count is raised: whoever saw zero in flight after `leave` may rely on it.
        (!dyno.is_leaving()).then_some(slot)
    }

    /// The answer began: the dyno may take another request.
    pub(crate) fn answered(&mut self) {
        if !self.answered {
            self.answered = true;
            self.dyno.unanswered.fetch_sub(1, Ordering::Relaxed);
            if self.pool.waiting.load(Ordering::Relaxed) > 0 {
                self.pool.wake();
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.answered();
        self.dyno.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.dyno.say_if_drained();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> Arc<App> {
        Arc::new(App { id: AppId::new(), live: ArcSwap::default() })
    }

    #[test]
    fn the_most_specific_host_wins() {
        let (exact, near, far) = (app(), app(), app());
        let table = Table::new();
        table.assign("www.a.example.com", Some(exact.clone()));
        table.assign("*.a.example.com", Some(near.clone()));
        table.assign("*.example.com", Some(far.clone()));
        let found = |host: &str| table.find(host).map(|app| app.id.clone());
        assert_eq!(found("www.a.example.com"), Some(exact.id.clone()));
        assert_eq!(found("x.a.example.com"), Some(near.id.clone()));
        assert_eq!(found("x.y.a.example.com"), Some(near.id.clone()));
        assert_eq!(found("a.example.com"), Some(far.id.clone()));
        assert_eq!(found("example.com"), None);
        assert_eq!(found(""), None);
        table.assign("*.a.example.com", None);
        assert_eq!(found("x.a.example.com"), Some(far.id.clone()));
        table.assign("*.example.com", None);
        assert_eq!(found("x.a.example.com"), None);
    }
}
