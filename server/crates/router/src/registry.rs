//! The truth behind the table: routes, pools, and who may change them.
//!
//! Every change is made here under one lock, swapped into the [`Table`] or a pool before the call returns, and
//! marked for the disk. Requests never come here.
//!
//! A host belongs to the app that claimed it last. A claim begins when a host first appears in an app's route, so
//! an app that publishes its old hosts again does not take one back that moved away.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use paas_domain::{AppId, DynoId, Generation, HostName, ProcessType};
use paas_ports::{Attachment, Member, MemberState, PortError, Route};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::saved::{Saved, SavedApp, SavedPool};
use crate::table::{App, Drained, Dyno, Live, Members, Pool, Table};

/// Removed apps whose last generation is remembered.
const REMEMBERED: usize = 10_000;

pub(crate) struct Registry {
    state: Mutex<State>,
    table: Arc<Table>,
    workers: usize,
    drained: UnboundedSender<Drained>,
    /// Told when the disk is behind.
    pub(crate) dirty: Notify,
}

#[derive(Default)]
struct State {
    apps: BTreeMap<AppId, AppState>,
    pools: BTreeMap<String, PoolState>,
    claims: HashMap<HostName, Vec<(u64, AppId)>>,
    next_claim: u64,
    removed: VecDeque<(AppId, Generation)>,
}

struct AppState {
    entry: Arc<App>,
    route: Arc<Route>,
    claims: Arc<Vec<(HostName, u64)>>,
}

struct PoolState {
    app: AppId,
    process_type: ProcessType,
    pool: Arc<Pool>,
    wanted: u16,
    members: Arc<Vec<Member>>,
    /// Those in `members` with an address, and those that left and still serve something.
    dynos: Vec<Arc<Dyno>>,
}

impl Registry {
    /// A registry that holds what was saved, with its table swapped in.
    pub(crate) fn new(saved: Saved, table: Arc<Table>, workers: usize, drained: UnboundedSender<Drained>) -> Self {
        let registry =
            Self { state: Mutex::new(State::default()), table, workers, drained, dirty: Notify::const_new() };
        registry.restore(saved);
        registry
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restore(&self, saved: Saved) {
        let mut state = self.lock();
        state.next_claim = saved.next_claim;
        state.removed = saved.removed.into();
        for pool in saved.pools {
            let mut restored = PoolState::new(pool.app, pool.process_type);
            restored.set(&pool.pool, pool.wanted, pool.members.to_vec(), self.workers, &self.drained);
            state.pools.insert(pool.pool.0, restored);
        }
        for app in saved.apps {
            let id = app.route.app.clone();
            let entry = Arc::new(App { id: id.clone(), live: ArcSwap::from_pointee(state.live(&app.route)) });
            for (host, claim) in app.claims.iter() {
                state.claims.entry(host.clone()).or_default().push((*claim, id.clone()));
            }
            state.apps.insert(id, AppState { entry, route: app.route, claims: app.claims });
        }
        for host in state.claims.keys() {
            self.table.assign(host.as_str(), state.owner(host));
        }
    }

    /// The name of a process type's pool, made when it is not there.
    pub(crate) fn place(&self, app: &AppId, process_type: &ProcessType) -> Attachment {
        let name = format!("{app}/{process_type}");
        let mut state = self.lock();
        if !state.pools.contains_key(&name) {
            state.pools.insert(name.clone(), PoolState::new(app.clone(), process_type.clone()));
            self.dirty.notify_one();
        }
        Attachment(name)
    }

    pub(crate) fn publish(&self, route: Route) -> Result<(), PortError> {
        let mut state = self.lock();
        if state.seen(&route.app).is_some_and(|seen| route.generation < seen) {
            return Err(PortError::Superseded);
        }
        if let Some(attachment) = &route.attachment {
            let pool = state.pools.get(&attachment.0).ok_or_else(|| PortError::NotFound("the pool".to_owned()))?;
            if pool.app != route.app {
                return Err(PortError::permanent("publishing a route", "the pool is another app's"));
            }
        }
        let live = state.live(&route);
        let (id, route) = (route.app.clone(), Arc::new(route));
        let before = state.apps.get(&id).map(|app| app.claims.clone()).unwrap_or_default();
        let claims = state.claims_of(&route, &before);
        state.removed.retain(|(app, _)| *app != id);
        if let Some(app) = state.apps.get_mut(&id) {
            app.entry.live.store(Arc::new(live));
            app.route = route;
            app.claims = claims.clone();
        } else {
            let entry = Arc::new(App { id: id.clone(), live: ArcSwap::from_pointee(live) });
            state.apps.insert(id.clone(), AppState { entry, route, claims: claims.clone() });
        }
        self.move_claims(&mut state, &id, &before, &claims);
        self.dirty.notify_one();
        Ok(())
    }

    pub(crate) fn remove(&self, app: &AppId) {
        let mut state = self.lock();
        if let Some(removed) = state.apps.remove(app) {
            state.removed.push_back((app.clone(), removed.route.generation));
            if state.removed.len() > REMEMBERED {
                state.removed.pop_front();
            }
            self.move_claims(&mut state, app, &removed.claims, &[]);
            removed.entry.live.store(Arc::new(Live::default()));
        }
        let pools: Vec<String> =
            state.pools.iter().filter(|(_, pool)| pool.app == *app).map(|(name, _)| name.clone()).collect();
        for name in pools {
            if let Some(mut pool) = state.pools.remove(&name) {
                pool.set(&Attachment(name), 0, Vec::new(), self.workers, &self.drained);
            }
        }
        self.dirty.notify_one();
    }

    /// Every app with a route or a pool.
    pub(crate) fn apps(&self) -> Vec<AppId> {
        let state = self.lock();
        let mut apps: Vec<AppId> = state.apps.keys().chain(state.pools.values().map(|p| &p.app)).cloned().collect();
        apps.sort();
        apps.dedup();
        apps
    }

    pub(crate) fn set_pool(&self, name: &Attachment, wanted: u16, members: Vec<Member>) -> Result<(), PortError> {
        let mut state = self.lock();
        let pool = state.pools.get_mut(&name.0).ok_or_else(|| PortError::NotFound("the pool".to_owned()))?;
        if pool.wanted != wanted || *pool.members != members {
            pool.set(name, wanted, members, self.workers, &self.drained);
            self.dirty.notify_one();
        }
        Ok(())
    }

    pub(crate) fn in_flight(&self, name: &Attachment, dyno: &DynoId) -> u32 {
        let state = self.lock();
        let dynos = state.pools.get(&name.0).map(|pool| pool.dynos.as_slice()).unwrap_or_default();
        dynos.iter().filter(|d| d.id == *dyno).map(|d| d.in_flight()).sum()
    }

    /// What is to be written to the disk.
    pub(crate) fn snapshot(&self) -> Saved {
        let state = self.lock();
        Saved {
            next_claim: state.next_claim,
            apps: state
                .apps
                .values()
                .map(|app| SavedApp { route: app.route.clone(), claims: app.claims.clone() })
                .collect(),
            pools: state
                .pools
                .iter()
                .map(|(name, pool)| SavedPool {
                    pool: Attachment(name.clone()),
                    app: pool.app.clone(),
                    process_type: pool.process_type.clone(),
                    wanted: pool.wanted,
                    members: pool.members.clone(),
                })
                .collect(),
            removed: state.removed.iter().cloned().collect(),
        }
    }

    /// Replaces an app's claims and gives each host to its owner.
    fn move_claims(&self, state: &mut State, app: &AppId, before: &[(HostName, u64)], after: &[(HostName, u64)]) {
        // Both are sorted.
        for (host, _) in before.iter().filter(|claim| after.binary_search(claim).is_err()) {
            if let Some(claims) = state.claims.get_mut(host) {
                claims.retain(|(_, owner)| owner != app);
                if claims.is_empty() {
                    state.claims.remove(host);
                }
            }
            self.table.assign(host.as_str(), state.owner(host));
        }
        for (host, claim) in after.iter().filter(|claim| before.binary_search(claim).is_err()) {
            state.claims.entry(host.clone()).or_default().push((*claim, app.clone()));
            self.table.assign(host.as_str(), state.owner(host));
        }
    }
}

impl State {
    fn seen(&self, app: &AppId) -> Option<Generation> {
        let removed = || self.removed.iter().find(|(id, _)| id == app).map(|(_, generation)| *generation);
        self.apps.get(app).map(|app| app.route.generation).or_else(removed)
    }

    fn live(&self, route: &Route) -> Live {
        let pool = route.attachment.as_ref().and_then(|a| self.pools.get(&a.0)).map(|p| p.pool.clone());
        Live {
            released: route.released,
            maintenance: route.maintenance,
            session_affinity: route.session_affinity,
            pool,
        }
    }

    /// The claims of `route`: those it had keep their number.
    fn claims_of(&mut self, route: &Route, before: &[(HostName, u64)]) -> Arc<Vec<(HostName, u64)>> {
        let mut claims: Vec<(HostName, u64)> = Vec::with_capacity(route.hosts.len());
        let old: HashMap<&HostName, u64> = before.iter().map(|(host, claim)| (host, *claim)).collect();
        for host in &route.hosts {
            let claim = old.get(host).copied().unwrap_or_else(|| {
                self.next_claim += 1;
                self.next_claim
            });
            claims.push((host.clone(), claim));
        }
        claims.sort();
        claims.dedup_by(|a, b| a.0 == b.0);
        Arc::new(claims)
    }

    fn owner(&self, host: &HostName) -> Option<Arc<App>> {
        let (_, app) = self.claims.get(host)?.iter().max()?;
        self.apps.get(app).map(|app| app.entry.clone())
    }
}

impl PoolState {
    fn new(app: AppId, process_type: ProcessType) -> Self {
        Self { app, process_type, pool: Arc::new(Pool::new()), wanted: 0, members: Arc::default(), dynos: Vec::new() }
    }

    fn set(
        &mut self,
        name: &Attachment,
        wanted: u16,
        members: Vec<Member>,
        workers: usize,
        drained: &UnboundedSender<Drained>,
    ) {
        let before = std::mem::take(&mut self.dynos);
        let mut next = Members { wanted, up: Vec::new(), starting: 0, crashed: 0 };
        let mut gone = Vec::new();
        for member in &members {
            match (member.state, member.address) {
                (MemberState::Starting, _) | (MemberState::Up, None) => next.starting += 1,
                (MemberState::Crashed, _) => next.crashed += 1,
                (MemberState::Draining, None) => {}
                (MemberState::Up | MemberState::Draining, Some(address)) => {
                    let known = before.iter().find(|d| d.id == member.dyno && d.address == address).cloned();
                    let up = member.state == MemberState::Up;
                    let dyno = match known {
                        Some(dyno) => dyno,
                        None if up => Arc::new(Dyno::new(
                            member.dyno.clone(),
                            member.name.to_string(),
                            address,
                            name.clone(),
                            workers,
                            drained.clone(),
                        )),
                        // Never served, so there is nothing to drain.
                        None => continue,
                    };
                    self.dynos.push(dyno.clone());
                    if up {
                        dyno.stay();
                        next.up.push(dyno);
                    } else {
                        gone.push(dyno);
                    }
                }
            }
        }
        for dyno in before {
            if !self.dynos.iter().any(|d| Arc::ptr_eq(d, &dyno)) {
                gone.push(dyno.clone());
                if dyno.in_flight() > 0 {
                    self.dynos.push(dyno);
                }
            }
        }
        // Members first: who finds a dyno leaving looks again and must not find it here.
        self.pool.members.store(Arc::new(next));
        for dyno in gone {
            dyno.leave();
        }
        self.pool.changed.notify_waiters();
        self.wanted = wanted;
        self.members = Arc::new(members);
    }
}
