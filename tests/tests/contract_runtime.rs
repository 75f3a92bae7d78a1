//! The runtime's promises, on the fake and on the Docker engine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use paas_domain::{AppId, SystemClock};
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
                stop_grace: Duration::from_secs(1),
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

mod docker {
    use super::*;
    use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder};
    use paas_docker::runtime::Timing;
    use paas_docker::{DockerRuntime, DockerRuntimeOptions};
    use paas_domain::InstallId;
    use tokio::net::TcpStream;

    struct DockerBench {
        docker: bollard::Docker,
        image: ImageRef,
        install: InstallId,
        other: InstallId,
        state: tempfile::TempDir,
        logs: Arc<FakeLogWorld>,
        pools: Arc<WatchedPools>,
        driver: Current<DockerRuntime>,
    }

    struct Parts<'a> {
        docker: &'a bollard::Docker,
        install: &'a InstallId,
        state: &'a tempfile::TempDir,
        logs: &'a Arc<FakeLogWorld>,
        pools: &'a Arc<WatchedPools>,
    }

    fn driver(parts: &Parts<'_>) -> DockerRuntime {
        let options = DockerRuntimeOptions {
            docker: parts.docker.clone(),
            socket: paas_tests::engine::socket(),
            install: parts.install.clone(),
            pools: Arc::clone(parts.pools) as _,
            logs: Arc::new(FakeLogStore(Arc::clone(parts.logs))),
            clock: Arc::new(SystemClock),
            on_change: Arc::new(|_| {}),
            state_dir: parts.state.path().to_owned(),
            timing: Timing {
                boot_timeout: Duration::from_secs(2),
                stop_grace: Duration::from_secs(1),
                drain_timeout: Duration::from_secs(3),
                ..Timing::default()
            },
        };
        DockerRuntime::new(options).expect("a driver")
    }

    impl DockerBench {
        fn parts(&self) -> Parts<'_> {
            Parts {
                docker: &self.docker,
                install: &self.install,
                state: &self.state,
                logs: &self.logs,
                pools: &self.pools,
            }
        }
    }

    #[async_trait]
    impl RuntimeBench for DockerBench {
        async fn start() -> Self {
            let docker = paas_tests::engine::connect().await;
            let image = paas_tests::dyno_image::ensure(&docker, env!("CARGO_BIN_EXE_test-dyno")).await;
            let (install, other) = (InstallId::random(), InstallId::random());
            let state = tempfile::tempdir().expect("a folder");
            let (logs, pools) = (Arc::<FakeLogWorld>::default(), Arc::<WatchedPools>::default());
            let parts = Parts { docker: &docker, install: &install, state: &state, logs: &logs, pools: &pools };
            let driver = Current::new(driver(&parts));
            Self { docker, image, install, other, state, logs, pools, driver }
        }
        fn runtime(&self) -> Arc<dyn Runtime> {
            self.driver.get()
        }
        async fn restart(&self) {
            self.driver.get().close().await;
            self.driver.set(driver(&self.parts()));
        }
        fn image(&self) -> ImageRef {
            self.image.clone()
        }
        fn pools(&self) -> Arc<WatchedPools> {
            Arc::clone(&self.pools)
        }
        async fn lines(&self, app: &AppId) -> Vec<LogLine> {
            self.logs.lines(app)
        }
        async fn listens(&self, member: &Member) -> bool {
            let Some(address) = member.address else { return false };
            TcpStream::connect(address).await.is_ok()
        }
        async fn plant_other(&self, app: &AppId) {
            paas_tests::dyno_image::plant(&self.docker, &self.image, &self.other, app).await;
        }
        async fn other_runs(&self) -> bool {
            let name = format!("paas-{}-other", self.other);
            let seen = self.docker.inspect_container(&name, None::<InspectContainerOptions>).await;
            seen.ok().and_then(|c| c.state).and_then(|s| s.running).unwrap_or_default()
        }
        async fn kill(&self, dyno: &ObservedDyno) {
            let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
            self.docker.kill_container(&dyno.platform_ref, Some(options)).await.expect("kills");
        }
        async fn finish(&self) {
            let _ = self.driver.get().remove_all().await;
            for install in [&self.install, &self.other] {
                paas_tests::engine::remove_objects(&self.docker, &format!("paas.install={install}")).await;
            }
        }
    }

    paas_ports::runtime_contract!(DockerBench);
}
