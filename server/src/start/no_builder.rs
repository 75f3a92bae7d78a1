//! The builder of a server that builds nothing: it takes no job that would ask for one.

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, BuildId};
use paas_ports::{BuildSpec, BuildVerdict, Builder, BuiltImage, PortError, outside};
use tokio::sync::mpsc;

pub(super) struct NoBuilder;

fn refused() -> PortError {
    PortError::transient("building", "this server builds nothing; one that does goes on")
}

#[async_trait]
impl Builder for NoBuilder {
    async fn build(&self, _: &BuildSpec, _: mpsc::Sender<Bytes>) -> Result<BuildVerdict, PortError> {
        outside::check("Builder::build");
        Err(refused())
    }

    async fn export(&self, _: &BuildSpec, _: mpsc::Sender<Bytes>) -> Result<BuiltImage, PortError> {
        outside::check("Builder::export");
        Err(refused())
    }

    async fn tidy(&self, _: &AppId, _: &BuildId) -> Result<(), PortError> {
        outside::check("Builder::tidy");
        Ok(())
    }

    async fn remove_app(&self, _: &AppId) -> Result<(), PortError> {
        outside::check("Builder::remove_app");
        Ok(())
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Builder::apps");
        Ok(Vec::new())
    }
}
