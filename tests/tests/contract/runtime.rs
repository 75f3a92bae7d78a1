//! The runtime's promises, on the fake and on the Docker engine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use paas_domain::{AppId, SystemClock};
use paas_ports::contract::runtime::bench::STOP_GRACE;
use paas_ports::contract::runtime::{RuntimeBench, WatchedPools};
use paas_ports::fake::FakeLogStore;
use paas_ports::fake::{FakeDynos, FakeLogWorld, FakeRuntime, FakeTiming};
use paas_ports::{ImageRef, LogLine, Member, ObservedDyno, Runtime};

/// A driver that can be replaced by a new one.
struct Current<R>(Mutex<Option<Arc<R>>>);

impl<R> Current<R> {
    fn new(driver: R) -> Self {
        Self(Mutex::new(Some(Arc::new(driver))))
    }

    fn get(&self) -> Arc<R> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(current.as_ref().expect("there is a driver"))
    }

    fn set(&self, driver: R) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(driver));
    }
}

mod fake {
    use super::*;

    struct FakeBench {
        world: Arc<FakeDynos>,
        logs: Arc<FakeLogWorld>,
        pools: Arc<WatchedPools>,
        driver: Current<FakeRuntime>,
    }

    impl FakeBench {
        fn driver(world: &Arc<FakeDynos>, logs: &Arc<FakeLogWorld>, pools: &Arc<WatchedPools>) -> FakeRuntime {
            let log_store = Arc::new(FakeLogStore(Arc::clone(logs)));
            FakeRuntime::new(Arc::clone(world), Some(Arc::clone(pools) as _), Some(log_store), None)
        }
    }

    #[async_trait]
    impl RuntimeBench for FakeBench {
        async fn start() -> Self {
            let timing = FakeTiming {
                boot_timeout: Duration::from_secs(2),
                stop_grace: STOP_GRACE,
                drain_timeout: Duration::from_secs(3),
            };
            let world = FakeDynos::with_timing(Arc::new(SystemClock), timing);
            let (logs, pools) = (Arc::<FakeLogWorld>::default(), Arc::<WatchedPools>::default());
            let driver = Current::new(Self::driver(&world, &logs, &pools));
            Self { world, logs, pools, driver }
        }
        fn runtime(&self) -> Arc<dyn Runtime> {
            self.driver.get()
        }
        async fn restart(&self) {
            self.driver.set(Self::driver(&self.world, &self.logs, &self.pools));
        }
        fn image(&self) -> ImageRef {
            let digest = format!("sha256:{}", "0".repeat(64));
            ImageRef(digest.parse().expect("a digest"))
        }
        fn pools(&self) -> Arc<WatchedPools> {
            Arc::clone(&self.pools)
        }
        async fn lines(&self, app: &AppId) -> Vec<LogLine> {
            self.logs.lines(app)
        }
        async fn listens(&self, member: &Member) -> bool {
            member.address.is_some()
        }
        async fn plant_other(&self, _app: &AppId) {}
        async fn other_runs(&self) -> bool {
            true
        }
        async fn kill(&self, dyno: &ObservedDyno) {
            self.world.kill(&dyno.id);
        }
        async fn finish(&self) {
            assert!(self.world.most_starts() <= 1, "a dyno was started twice");
        }
    }

    paas_ports::runtime_contract!(FakeBench);
}

mod docker;
mod docker_only;
