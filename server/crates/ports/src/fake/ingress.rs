//! An ingress in memory: routes and pools, and what a request to a host would get.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use paas_domain::{AppId, DynoId, Generation, HostName, ProcessType};
use tokio::sync::Notify;

use crate::{Attachment, Ingress, Member, MemberState, Pools, PortError, Route, outside};

/// Routes, pools and requests under way. Shared by every [`FakeIngress`] made of it: it survives a server's restart.
#[derive(Default)]
pub struct FakeRoutes {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    routes: BTreeMap<AppId, (Route, BTreeMap<HostName, u64>)>,
    pools: BTreeMap<String, Pool>,
    removed: HashMap<AppId, Generation>,
    claims: u64,
    in_flight: HashMap<DynoId, u32>,
    failures: HashMap<&'static str, usize>,
    refused: HashMap<&'static str, (String, usize)>,
    refused_hosts: BTreeSet<HostName>,
}

struct Pool {
    app: AppId,
    wanted: u16,
    members: Vec<Member>,
}

/// What a request to a host gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// 404.
    NoSuchApp,
    /// H80.
    Maintenance(AppId),
    /// H81.
    Blank(AppId),
    /// H14.
    NoWebDynos(AppId),
    /// H10.
    Crashed(AppId),
    /// Waits for a starting dyno, and becomes H20 when none comes up.
    Waits(AppId),
    /// Is served.
    Serve {
        /// By this app.
        app: AppId,
        /// By this dyno: of those that are up, one with the fewest requests.
        dyno: Member,
    },
}

/// A request that a dyno serves until this is dropped.
pub struct FakeRequest {
    world: Arc<FakeRoutes>,
    /// Which dyno.
    pub dyno: Member,
    /// What the client is told to say with its next request: this dyno, where clients keep theirs.
    pub cookie: Option<DynoId>,
}

impl Drop for FakeRequest {
    fn drop(&mut self) {
        if let Some(count) = self.world.lock().in_flight.get_mut(&self.dyno.dyno) {
            *count -= 1;
        }
    }
}

impl FakeRoutes {
    /// No routes.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// What a request to `host` (any case, with or without port and closing dot) gets at this moment.
    #[must_use]
    pub fn route(&self, host: &str) -> Decision {
        self.lock().decide(host, None)
    }

    /// Begins a request, waiting for a starting dyno as long as the caller has patience.
    ///
    /// # Errors
    /// What it got when no dyno serves it.
    pub async fn begin(self: &Arc<Self>, host: &str) -> Result<FakeRequest, Decision> {
        self.begin_as(host, None).await
    }

    /// The same for a client that was told this cookie.
    ///
    /// # Errors
    /// What it got when no dyno serves it.
    pub async fn begin_as(self: &Arc<Self>, host: &str, cookie: Option<&DynoId>) -> Result<FakeRequest, Decision> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let (decision, keeps) = {
                let mut state = self.lock();
                let decision = state.decide(host, cookie);
                let mut keeps = false;
                if let Decision::Serve { app, dyno } = &decision {
                    *state.in_flight.entry(dyno.dyno.clone()).or_default() += 1;
                    keeps = state.routes.get(app).is_some_and(|(route, _)| route.session_affinity);
                }
                (decision, keeps)
            };
            match decision {
                Decision::Serve { dyno, .. } => {
                    let cookie = keeps.then(|| dyno.dyno.clone());
                    return Ok(FakeRequest { world: self.clone(), dyno, cookie });
                }
                Decision::Waits(_) => changed.await,
                other => return Err(other),
            }
        }
    }

    /// The route that an app published last.
    #[must_use]
    pub fn published(&self, app: &AppId) -> Option<Route> {
        self.lock().routes.get(app).map(|(route, _)| route.clone())
    }

    /// No app can have this host from now on, as where it is not one that a load balancer takes.
    pub fn refuse_host(&self, host: HostName) {
        self.lock().refused_hosts.insert(host);
    }

    /// A pool's members and its wanted quantity.
    #[must_use]
    pub fn pool(&self, pool: &Attachment) -> Option<(u16, Vec<Member>)> {
        self.lock().pools.get(&pool.0).map(|pool| (pool.wanted, pool.members.clone()))
    }

    /// Makes the next `times` calls of this method (`"publish"`, `"set"`, …) fail as an outage would.
    pub fn fail_next(&self, method: &'static str, times: usize) {
        self.lock().failures.insert(method, times);
    }

    /// Makes every call of this method fail for good, for this cause, until [`Self::allow`].
    pub fn refuse(&self, method: &'static str, cause: &str) {
        self.lock().refused.insert(method, (cause.to_owned(), 0));
    }

    /// Ends [`Self::refuse`]; how many calls were refused.
    pub fn allow(&self, method: &'static str) -> usize {
        self.lock().refused.remove(method).map_or(0, |(_, count)| count)
    }

    /// How many calls of this method were refused so far.
    #[must_use]
    pub fn refusals(&self, method: &'static str) -> usize {
        self.lock().refused.get(method).map_or(0, |(_, count)| *count)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, method: &'static str) -> Result<(), PortError> {
        if let Some((cause, count)) = self.lock().refused.get_mut(method) {
            *count += 1;
            return Err(PortError::permanent(format!("ingress {method}"), cause.as_str()));
        }
        match self.lock().failures.get_mut(method) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(PortError::transient(format!("ingress {method}"), "the fake ingress was told to fail"))
            }
            _ => Ok(()),
        }
    }
}

impl State {
    fn check_hosts(&self, hosts: &[HostName]) -> Result<(), PortError> {
        match hosts.iter().find(|host| self.refused_hosts.contains(*host)) {
            Some(host) => Err(PortError::permanent("publishing a route", format!("{host} can't be routed here."))),
            None => Ok(()),
        }
    }

    fn decide(&self, host: &str, cookie: Option<&DynoId>) -> Decision {
        let host = host.split(':').next().unwrap_or("").to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        let Some(route) = self.owner(host) else { return Decision::NoSuchApp };
        let app = route.app.clone();
        if route.maintenance {
            return Decision::Maintenance(app);
        }
        if !route.released {
            return Decision::Blank(app);
        }
        let Some(pool) = route.attachment.as_ref().and_then(|a| self.pools.get(&a.0)) else {
            return Decision::NoWebDynos(app);
        };
        let any = |state| pool.members.iter().any(|m| m.state == state);
        let mut up = pool.members.iter().filter(|m| m.state == MemberState::Up && m.address.is_some());
        let kept = up.clone().find(|member| route.session_affinity && Some(&member.dyno) == cookie);
        let idlest = || up.by_ref().min_by_key(|m| self.in_flight.get(&m.dyno).copied().unwrap_or(0));
        match kept.or_else(idlest) {
            _ if pool.wanted == 0 => Decision::NoWebDynos(app),
            Some(dyno) => Decision::Serve { app, dyno: dyno.clone() },
            None if any(MemberState::Crashed) && !any(MemberState::Starting) && !any(MemberState::Up) => {
                Decision::Crashed(app)
            }
            None => Decision::Waits(app),
        }
    }

    /// The route whose claim to the most specific matching name is the newest.
    fn owner(&self, host: &str) -> Option<&Route> {
        let newest = |name: &str| {
            let claims = self.routes.values().filter_map(|(route, claims)| {
                claims.iter().find(|(host, _)| host.as_str() == name).map(|(_, claim)| (*claim, route))
            });
            claims.max_by_key(|(claim, _)| *claim).map(|(_, route)| route)
        };
        let parents = std::iter::successors(host.split_once('.'), |(_, rest)| rest.split_once('.'));
        newest(host).or_else(|| parents.map(|(_, parent)| format!("*.{parent}")).find_map(|name| newest(&name)))
    }

    fn seen(&self, app: &AppId) -> Option<Generation> {
        self.routes.get(app).map(|(route, _)| route.generation).or_else(|| self.removed.get(app).copied())
    }
}

/// An [`Ingress`] and [`Pools`] in memory.
#[derive(Clone)]
pub struct FakeIngress {
    world: Arc<FakeRoutes>,
}

impl FakeIngress {
    /// A driver of this world.
    #[must_use]
    pub fn new(world: Arc<FakeRoutes>) -> Self {
        Self { world }
    }
}

#[async_trait]
impl Ingress for FakeIngress {
    async fn place(&self, app: &AppId, process_type: &ProcessType) -> Result<Attachment, PortError> {
        outside::check("Ingress::place");
        self.world.enter("place")?;
        let name = format!("{app}/{process_type}");
        let pool = || Pool { app: app.clone(), wanted: 0, members: Vec::new() };
        self.world.lock().pools.entry(name.clone()).or_insert_with(pool);
        Ok(Attachment(name))
    }

    async fn check_hosts(&self, _: &AppId, hosts: &[HostName]) -> Result<(), PortError> {
        outside::check("Ingress::check_hosts");
        self.world.enter("check_hosts")?;
        self.world.lock().check_hosts(hosts)
    }

    async fn publish(&self, route: &Route) -> Result<(), PortError> {
        outside::check("Ingress::publish");
        self.world.enter("publish")?;
        let mut state = self.world.lock();
        state.check_hosts(&route.hosts)?;
        if state.seen(&route.app).is_some_and(|seen| route.generation < seen) {
            return Err(PortError::Superseded);
        }
        if let Some(attachment) = &route.attachment {
            let pool = state.pools.get(&attachment.0).ok_or_else(|| PortError::NotFound("the pool".to_owned()))?;
            if pool.app != route.app {
                return Err(PortError::permanent("publishing a route", "the pool is another app's"));
            }
        }
        let before = state.routes.remove(&route.app).map(|(_, claims)| claims).unwrap_or_default();
        let mut claims = BTreeMap::new();
        for host in &route.hosts {
            let claim = before.get(host).copied().unwrap_or_else(|| {
                state.claims += 1;
                state.claims
            });
            claims.insert(host.clone(), claim);
        }
        state.removed.remove(&route.app);
        state.routes.insert(route.app.clone(), (route.clone(), claims));
        drop(state);
        self.world.changed.notify_waiters();
        Ok(())
    }

    async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Ingress::remove");
        self.world.enter("remove")?;
        let mut state = self.world.lock();
        if let Some((route, _)) = state.routes.remove(app) {
            state.removed.insert(app.clone(), route.generation);
        }
        state.pools.retain(|_, pool| pool.app != *app);
        drop(state);
        self.world.changed.notify_waiters();
        Ok(())
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Ingress::apps");
        self.world.enter("apps")?;
        let state = self.world.lock();
        let mut apps: Vec<AppId> = state.routes.keys().chain(state.pools.values().map(|p| &p.app)).cloned().collect();
        apps.sort();
        apps.dedup();
        Ok(apps)
    }
}

#[async_trait]
impl Pools for FakeIngress {
    async fn set(&self, pool: &Attachment, wanted: u16, members: &[Member]) -> Result<(), PortError> {
        outside::check("Pools::set");
        self.world.enter("set")?;
        let mut state = self.world.lock();
        let pool = state.pools.get_mut(&pool.0).ok_or_else(|| PortError::NotFound("the pool".to_owned()))?;
        pool.wanted = wanted;
        pool.members = members.to_vec();
        drop(state);
        self.world.changed.notify_waiters();
        Ok(())
    }

    async fn in_flight(&self, _pool: &Attachment, dyno: &DynoId) -> Result<u32, PortError> {
        outside::check("Pools::in_flight");
        self.world.enter("in_flight")?;
        Ok(self.world.lock().in_flight.get(dyno).copied().unwrap_or(0))
    }
}
