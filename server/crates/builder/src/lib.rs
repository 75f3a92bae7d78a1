//! Source to image with buildpacks, in one container that nobody trusts, on a Docker engine.
//!
//! The container runs the builder image's own detector and builder, started by our helper `paas-phase`; it
//! has no socket, no credentials and no capabilities. This crate does the rest of the lifecycle: it puts the
//! source in, follows the output, takes the layers out, and makes the image.
//!
//! - One container per build, named by the build's id: a repeated call finds it again ([`container`]).
//! - The layers folder is a volume per app and builder that stays; what the last good export knew of it is a
//!   file in the blobs folder ([`memo`]). Only layers that changed are read and hashed ([`export`]).
//! - Nothing that comes out of the container is believed: paths are checked, sizes are limited, digests are
//!   computed here ([`tarball`]).
//!
//! Images themselves are the affair of the [`Registry`](paas_ports::Registry) port.

mod app_folder;
mod base_layers;
mod builder_image;
mod config;
mod container;
mod engine;
mod export;
mod follow;
mod foreign;
mod launcher;
mod manifest;
mod memo;
mod objects;
mod processes;
mod procfile;
mod settings;
mod source;
mod tarball;
mod upload;

use std::sync::Arc;

use async_trait::async_trait;
use bollard::Docker;
use bytes::Bytes;
use paas_docker::Network;
use paas_domain::{AppId, BuildId};
use paas_ports::{BuildSpec, BuildVerdict, Builder, BuiltImage, PortError, Registry, outside};
use tokio::sync::mpsc;

pub use foreign::ForeignImage;
pub use procfile::{FoundProcfile, find_procfile};
pub use settings::{BuildLimits, BuilderSettings};

/// The builder port on a Docker engine.
pub struct DockerBuilder {
    docker: Docker,
    settings: BuilderSettings,
    registry: Arc<dyn Registry>,
    network: Network,
    /// Held while the launchers' layer is made, which is once per builder.
    launchers: tokio::sync::Mutex<()>,
    /// Held while a run image's layers are taken out of the engine, which is once per run image.
    bases: tokio::sync::Mutex<()>,
}

impl DockerBuilder {
    /// Builds on this engine, and pushes to `registry`.
    #[must_use]
    pub fn new(docker: Docker, settings: BuilderSettings, registry: Arc<dyn Registry>) -> Self {
        Self {
            network: Network::new(docker.clone(), &settings.install, "builds"),
            docker,
            settings,
            registry,
            launchers: tokio::sync::Mutex::default(),
            bases: tokio::sync::Mutex::default(),
        }
    }
}

#[async_trait]
impl Builder for DockerBuilder {
    async fn build(&self, spec: &BuildSpec, output: mpsc::Sender<Bytes>) -> Result<BuildVerdict, PortError> {
        outside::check("Builder::build");
        self.run(spec, output).await
    }

    async fn export(&self, spec: &BuildSpec, output: mpsc::Sender<Bytes>) -> Result<BuiltImage, PortError> {
        outside::check("Builder::export");
        self.make_image(spec, output).await
    }

    async fn tidy(&self, app: &AppId, build: &BuildId) -> Result<(), PortError> {
        outside::check("Builder::tidy");
        let builder = self.app_folder(app).promote(build).await?;
        self.remove_container(&self.container_name(app, build)).await?;
        match builder {
            // The layers of a builder that is no longer used are of no use.
            Some(builder) => self.remove_volumes(app, Some(&self.volume_name(app, &builder))).await,
            None => Ok(()),
        }
    }

    async fn remove_app(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Builder::remove_app");
        self.remove_containers(app).await?;
        self.remove_volumes(app, None).await?;
        self.app_folder(app).remove().await
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Builder::apps");
        self.every_app().await
    }
}
