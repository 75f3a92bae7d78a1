//! The registry's promises, on the fake and on the Docker engine's own image store.

use std::sync::Arc;

use async_trait::async_trait;
use paas_ports::Registry;
use paas_ports::contract::registry::RegistryBench;
use paas_ports::fake::{FakeImages, FakeRegistry};

mod fake {
    use super::*;

    struct FakeBench(Arc<FakeImages>);

    #[async_trait]
    impl RegistryBench for FakeBench {
        async fn start() -> Self {
            Self(FakeImages::new())
        }
        fn registry(&self) -> Arc<dyn Registry> {
            Arc::new(FakeRegistry::new(self.0.clone()))
        }
        fn other_installation(&self) -> Option<Arc<dyn Registry>> {
            None
        }
        async fn finish(&self) {}
    }

    paas_ports::registry_contract!(FakeBench);
}

mod docker {
    use super::*;
    use paas_docker::EngineRegistry;
    use paas_domain::InstallId;

    struct EngineBench {
        docker: bollard::Docker,
        install: InstallId,
        other: InstallId,
    }

    #[async_trait]
    impl RegistryBench for EngineBench {
        async fn start() -> Self {
            let docker = paas_tests::engine::connect().await;
            Self { docker, install: InstallId::random(), other: InstallId::random() }
        }
        fn registry(&self) -> Arc<dyn Registry> {
            Arc::new(EngineRegistry::new(self.docker.clone(), self.install.clone()))
        }
        fn other_installation(&self) -> Option<Arc<dyn Registry>> {
            Some(Arc::new(EngineRegistry::new(self.docker.clone(), self.other.clone())))
        }
        async fn finish(&self) {
            paas_tests::engine::remove_images(&self.docker, &format!("paas-{}/", self.install)).await;
            paas_tests::engine::remove_images(&self.docker, &format!("paas-{}/", self.other)).await;
        }
    }

    paas_ports::registry_contract!(EngineBench);
}
