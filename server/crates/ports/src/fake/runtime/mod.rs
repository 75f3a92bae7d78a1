//! A runtime without containers: dynos are scripts that a clock moves forward.
//!
//! [`FakeDynos`] is the platform; it outlives every [`FakeRuntime`], which is a driver of it and may be
//! dropped at any point. A dyno lives whenever someone looks: the driver's own ticker (every 5 ms), any
//! call, or [`FakeRuntime::tick`]. The rules are those of the contract suite, written here a second time
//! and independently of any real driver.

mod dyno;
mod plan;
pub mod script;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use paas_domain::{AppId, DynoId, DynoState, Generation, ProcessType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;

use self::dyno::FakeDyno;
pub use self::dyno::FakeTiming;
pub use self::world::FakeDynos;
use self::world::State;
use crate::outside::check;
use crate::{Duplex, LogStore, Observed, ObservedDyno, OneOffSpec, Pools, PortError, Progress, Runtime, ServiceSpec};

/// Told that something about an app changed.
pub type FakeOnChange = Arc<dyn Fn(&AppId) + Send + Sync>;

/// A driver of the fake platform.
pub struct FakeRuntime {
    core: Arc<Core>,
    ticker: Option<tokio::task::JoinHandle<()>>,
}

struct Core {
    world: Arc<FakeDynos>,
    pools: Option<Arc<dyn Pools>>,
    logs: Option<Arc<dyn LogStore>>,
    on_change: Option<FakeOnChange>,
    /// One telling of the outside at a time.
    telling: Mutex<()>,
}

impl FakeRuntime {
    /// A driver whose dynos live by themselves, every 5 ms. Call within a tokio runtime.
    #[must_use]
    pub fn new(
        world: Arc<FakeDynos>,
        pools: Option<Arc<dyn Pools>>,
        logs: Option<Arc<dyn LogStore>>,
        on_change: Option<FakeOnChange>,
    ) -> Self {
        let mut this = Self::manual(world, pools, logs, on_change);
        let core = Arc::clone(&this.core);
        this.ticker = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                core.tick().await;
            }
        }));
        this
    }

    /// A driver whose dynos live only when someone calls it.
    #[must_use]
    pub fn manual(
        world: Arc<FakeDynos>,
        pools: Option<Arc<dyn Pools>>,
        logs: Option<Arc<dyn LogStore>>,
        on_change: Option<FakeOnChange>,
    ) -> Self {
        Self { core: Arc::new(Core { world, pools, logs, on_change, telling: Mutex::default() }), ticker: None }
    }

    /// Lets everyone live until now, and tells pools and logs.
    pub async fn tick(&self) {
        self.core.tick().await;
    }
}

impl Drop for FakeRuntime {
    fn drop(&mut self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
    }
}

impl Core {
    async fn tick(&self) {
        self.drains().await;
        for app in self.world.advance() {
            self.publish(&app).await;
            if let Some(on_change) = &self.on_change {
                on_change(&app);
            }
        }
        self.log().await;
    }

    /// Asks the pools which of the draining dynos are idle.
    async fn drains(&self) {
        let draining: Vec<(DynoId, AppId, ProcessType)> = {
            let state = self.world.state();
            let waits = |d: &FakeDyno| d.is_service() && d.runs() && d.stop_at.is_some() && !d.drained;
            let waiting = state.dynos.iter().filter(|(_, d)| waits(d));
            waiting.map(|(id, d)| (id.clone(), d.app.clone(), d.name.process_type.clone())).collect()
        };
        for (id, app, process_type) in draining {
            let pool = self.world.state().wishes.get(&(app, process_type)).and_then(|w| w.attachment.clone());
            let idle = match (&self.pools, pool) {
                (Some(pools), Some(pool)) => matches!(pools.in_flight(&pool, &id).await, Ok(0)),
                _ => true,
            };
            if idle && let Some(dyno) = self.world.state().dynos.get_mut(&id) {
                dyno.drained = true;
            }
        }
    }

    async fn publish(&self, app: &AppId) {
        let types: BTreeSet<ProcessType> = {
            let state = self.world.state();
            state.wishes.keys().filter(|(a, _)| a == app).map(|(_, t)| t.clone()).collect()
        };
        for process_type in types {
            // A pool that does not answer is told again at the next look.
            let _ = self.publish_type(app, &process_type).await;
        }
    }

    async fn publish_type(&self, app: &AppId, process_type: &ProcessType) -> Result<(), PortError> {
        let Some(pools) = &self.pools else { return Ok(()) };
        let _turn = self.telling.lock().await;
        let (pool, wanted, members) = {
            let state = self.world.state();
            let wish = state.wishes.get(&(app.clone(), process_type.clone())).cloned().unwrap_or_default();
            let Some(pool) = wish.attachment else { return Ok(()) };
            (pool, wish.wanted, state.members(app, process_type))
        };
        pools.set(&pool, wanted, &members).await
    }

    /// Hands lines to the log store: taken out of the world only once they are stored.
    async fn log(&self) {
        let Some(logs) = &self.logs else { return };
        let _turn = self.telling.lock().await;
        loop {
            let Some((app, lines)) = ({
                let state = self.world.state();
                state.lines.first().map(|(app, _)| {
                    let run = state.lines.iter().take_while(|(a, _)| a == app);
                    (app.clone(), run.map(|(_, line)| line.clone()).collect::<Vec<_>>())
                })
            }) else {
                return;
            };
            let count = lines.len();
            if logs.append(&app, lines).await.is_err() {
                return;
            }
            self.world.state().lines.drain(..count);
        }
    }

    /// Carries out one call: fails when told to, lets everyone live before and after, tells the outside.
    async fn call<T>(
        &self,
        method: &'static str,
        app: Option<&AppId>,
        work: impl FnOnce(&mut State) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        self.world.may_fail(method)?;
        self.world.advance();
        let result = self.world.change(work)?;
        if let Some(app) = app {
            self.publish(app).await;
        }
        self.tick().await;
        self.world.may_get_lost(method)?;
        Ok(result)
    }
}

#[async_trait]
impl Runtime for FakeRuntime {
    async fn ensure(&self, spec: &ServiceSpec) -> Result<Progress, PortError> {
        check("Runtime::ensure");
        let core = &self.core;
        let now = core.world.now();
        let timing = *core.world.timing();
        core.call("ensure", Some(&spec.app), |state| plan::pass(state, spec, now)).await?;
        let state = core.world.state();
        Ok(plan::standing(&state, spec, &timing))
    }

    async fn remove(&self, app: &AppId, process_type: &ProcessType, up_to: Generation) -> Result<(), PortError> {
        check("Runtime::remove");
        let now = self.core.world.now();
        self.core
            .call("remove", Some(app), |state| {
                let key = (app.clone(), process_type.clone());
                if let Some(wish) = state.wishes.get_mut(&key) {
                    if wish.generation > up_to {
                        return Err(PortError::Superseded);
                    }
                    wish.generation = up_to;
                    wish.wanted = 0;
                }
                let going: Vec<DynoId> = state
                    .services(app, process_type)
                    .iter()
                    .filter(|(_, d)| d.generation <= up_to)
                    .map(|(id, _)| (*id).clone())
                    .collect();
                going.iter().for_each(|id| plan::order_stop(state, id, now, false));
                Ok(())
            })
            .await
    }

    async fn observe(&self, app: &AppId) -> Result<Observed, PortError> {
        check("Runtime::observe");
        self.core.call("observe", None, |_| Ok(())).await?;
        let state = self.core.world.state();
        let ours = state.dynos.iter().filter(|(_, d)| d.app == *app);
        Ok(Observed { dynos: ours.map(|(id, d)| observed(id, d)).collect() })
    }

    async fn start_once(&self, id: &DynoId, spec: &OneOffSpec) -> Result<(), PortError> {
        check("Runtime::start_once");
        let now = self.core.world.now();
        self.core
            .call("start_once", Some(&spec.app), |state| {
                if !state.dynos.contains_key(id) {
                    if state.starts.contains_key(id) {
                        return Err(PortError::NotFound(spec.name.to_string()));
                    }
                    if let Some(cause) = &state.no_room {
                        return Err(PortError::transient(format!("starting {}", spec.name), cause));
                    }
                    if let Some(why) = state.unstartable(&spec.command, false) {
                        return Err(why);
                    }
                    let dyno = plan::one_off(state, spec, now);
                    state.dynos.insert(id.clone(), dyno);
                }
                if !state.dynos[id].attach {
                    state.start(id, now);
                }
                Ok(())
            })
            .await
    }

    async fn attach(&self, id: &DynoId) -> Result<Duplex, PortError> {
        check("Runtime::attach");
        let now = self.core.world.now();
        self.core
            .call("attach", None, |state| {
                let gone = || PortError::NotFound(format!("dyno {id}"));
                let dyno = state.dynos.get(id).ok_or_else(gone)?;
                let never = state.unstartable(&dyno.command, true).filter(|_| dyno.started_at.is_none());
                if dyno.started_at.is_none() && dyno.exit.is_some() {
                    return Err(never.unwrap_or_else(gone));
                }
                if let (Some(why), Some(dyno)) = (never, state.dynos.get_mut(id)) {
                    dyno.exit = Some((1, now));
                    return Err(why);
                }
                state.start(id, now);
                Ok(())
            })
            .await?;
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(join(Arc::clone(&self.core), id.clone(), far));
        Ok(Box::new(near))
    }

    /// Its dynos know no signals: they end as by a stop.
    async fn hang_up(&self, id: &DynoId) -> Result<(), PortError> {
        self.stop(id).await
    }

    async fn stop(&self, id: &DynoId) -> Result<(), PortError> {
        check("Runtime::stop");
        let now = self.core.world.now();
        let app = self.core.world.state().dynos.get(id).map(|d| d.app.clone());
        self.core
            .call("stop", app.as_ref(), |state| {
                plan::order_stop(state, id, now, false);
                Ok(())
            })
            .await
    }

    async fn forget(&self, id: &DynoId) -> Result<(), PortError> {
        check("Runtime::forget");
        self.core
            .call("forget", None, |state| {
                if state.dynos.get(id).is_some_and(FakeDyno::runs) {
                    return Err(PortError::transient("forgetting a dyno", "it still runs"));
                }
                if state.dynos.remove(id).is_some() {
                    // So that the id is known for ever.
                    state.starts.entry(id.clone()).or_default();
                }
                Ok(())
            })
            .await
    }

    async fn remove_app(&self, app: &AppId) -> Result<bool, PortError> {
        check("Runtime::remove_app");
        let now = self.core.world.now();
        self.core
            .call("remove_app", Some(app), |state| {
                let ours: Vec<DynoId> =
                    state.dynos.iter().filter(|(_, d)| d.app == *app).map(|(id, _)| id.clone()).collect();
                ours.iter().for_each(|id| plan::order_stop(state, id, now, true));
                state.dynos.retain(|_, d| d.app != *app || d.runs());
                state.wishes.iter_mut().filter(|((a, _), _)| a == app).for_each(|(_, wish)| wish.wanted = 0);
                Ok(())
            })
            .await?;
        let mut state = self.core.world.state();
        state.dynos.retain(|_, d| d.app != *app || d.runs());
        let empty = state.dynos.values().all(|d| d.app != *app);
        if empty {
            state.wishes.retain(|(a, _), _| a != app);
        }
        Ok(empty)
    }

    async fn collect(&self, app: &AppId) -> Result<(), PortError> {
        check("Runtime::collect");
        let count = |state: &mut State| {
            *state.collected.entry(app.clone()).or_default() += 1;
            Ok(())
        };
        self.core.call("collect", None, count).await
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        check("Runtime::apps");
        self.core.call("apps", None, |_| Ok(())).await?;
        let mut apps: BTreeSet<AppId> = self.core.world.apps_with_dynos().into_iter().collect();
        apps.extend(self.core.world.state().wishes.keys().map(|(app, _)| app.clone()));
        Ok(apps.into_iter().collect())
    }
}

/// Joins a dyno's script and whoever attached.
async fn join(core: Arc<Core>, id: DynoId, stream: tokio::io::DuplexStream) {
    let (mut from, mut to) = tokio::io::split(stream);
    let mut changed = core.world.watch();
    let mut sent = 0;
    let mut buffer = vec![0_u8; 16 * 1024];
    let mut input_open = true;
    loop {
        core.world.advance();
        let Some((new, ended)) = core.world.state().dynos.get(&id).map(|d| (d.out[sent..].to_vec(), d.exit.is_some()))
        else {
            return;
        };
        sent += new.len();
        if to.write_all(&new).await.is_err() {
            return;
        }
        if ended && new.is_empty() {
            let _ = to.shutdown().await;
            return;
        }
        tokio::select! {
            read = from.read(&mut buffer), if input_open => {
                let count = read.unwrap_or(0);
                input_open = count > 0;
                core.world.change(|state| {
                    if let Some(dyno) = state.dynos.get_mut(&id).filter(|d| d.attach) {
                        dyno.input.extend_from_slice(&buffer[..count]);
                        dyno.input_ended |= count == 0;
                    }
                });
            }
            _ = changed.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

fn observed(id: &DynoId, dyno: &FakeDyno) -> ObservedDyno {
    let (state, since) = match (dyno.exit, dyno.stop_at, dyno.up_at) {
        (Some((_, at)), None, _) if dyno.is_service() => (DynoState::Crashed, at),
        (Some((_, at)), _, _) => (DynoState::Ended, at),
        (None, Some(at), _) => (DynoState::Stopping, at),
        (None, None, Some(at)) => (DynoState::Up, at),
        (None, None, None) => (DynoState::Starting, dyno.made_at),
    };
    ObservedDyno {
        id: id.clone(),
        name: dyno.name.clone(),
        kind: dyno.kind,
        release: dyno.release,
        generation: dyno.generation,
        command: dyno.command.clone(),
        size: dyno.size,
        state,
        exit_code: dyno.exit.map(|(code, _)| code),
        since,
        platform_ref: format!("fake-{id}"),
    }
}
