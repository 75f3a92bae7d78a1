//! A bench on the Docker engine.

use std::path::{Path, PathBuf};

use super::*;
use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder};
use paas_docker::runtime::Timing;
use paas_docker::{DockerRuntime, DockerRuntimeOptions};
use paas_domain::InstallId;
use tokio::net::TcpStream;

pub(crate) struct DockerBench {
    pub(crate) docker: bollard::Docker,
    socket: PathBuf,
    image: ImageRef,
    pub(crate) install: InstallId,
    other: InstallId,
    state: tempfile::TempDir,
    logs: Arc<FakeLogWorld>,
    pools: Arc<WatchedPools>,
    driver: Current<DockerRuntime>,
}

struct Parts<'a> {
    docker: &'a bollard::Docker,
    socket: &'a Path,
    install: &'a InstallId,
    state: &'a tempfile::TempDir,
    logs: &'a Arc<FakeLogWorld>,
    pools: &'a Arc<WatchedPools>,
}

fn driver(parts: &Parts<'_>) -> DockerRuntime {
    let options = DockerRuntimeOptions {
        docker: parts.docker.clone(),
        socket: parts.socket.to_owned(),
        install: parts.install.clone(),
        pools: Arc::clone(parts.pools) as _,
        logs: Arc::new(FakeLogStore(Arc::clone(parts.logs))),
        clock: Arc::new(SystemClock),
        on_change: Arc::new(|_| {}),
        state_dir: parts.state.path().to_owned(),
        timing: Timing {
            boot_timeout: Duration::from_secs(2),
            stop_grace: STOP_GRACE,
            drain_timeout: Duration::from_secs(6),
            memory_every: Duration::from_millis(300),
            ..Timing::default()
        },
    };
    DockerRuntime::new(options).expect("a driver")
}

impl DockerBench {
    /// A bench on this engine.
    pub(crate) async fn start_on(docker: bollard::Docker, socket: PathBuf, image: ImageRef) -> Self {
        let (install, other) = (InstallId::random(), InstallId::random());
        let state = tempfile::tempdir().expect("a folder");
        let (logs, pools) = (Arc::<FakeLogWorld>::default(), Arc::<WatchedPools>::default());
        let parts =
            Parts { docker: &docker, socket: &socket, install: &install, state: &state, logs: &logs, pools: &pools };
        let driver = Current::new(driver(&parts));
        Self { docker, socket, image, install, other, state, logs, pools, driver }
    }

    /// The files that the driver keeps, of dynos and of wishes.
    pub(crate) fn state_files(&self) -> Vec<String> {
        let folders =
            ["dynos", "wishes"].map(|name| std::fs::read_dir(self.state.path().join(name)).expect("a folder"));
        folders.into_iter().flatten().map(|f| f.expect("a file").file_name().to_string_lossy().into_owned()).collect()
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            docker: &self.docker,
            socket: &self.socket,
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
        Self::start_on(docker, paas_tests::engine::socket(), image).await
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
