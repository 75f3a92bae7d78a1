//! Source to image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, Architecture, BuildId, ConfigVars, ProcessType};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{ImageRef, PortError};

/// Turns a source into an image, with buildpacks, in a container that nobody trusts.
///
/// Two calls, because each is one durable step of a job: [`Builder::build`] runs detect and build and
/// leaves the result where it is; [`Builder::export`] makes the image of it and stores it.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Runs the buildpacks. On repeat: a running build is followed, a finished one is read again, an absent
    /// one is started. Every call sends the whole output from its first byte, the same bytes again.
    ///
    /// Returns when the build has ended; dropping the future leaves it running.
    ///
    /// # Errors
    /// Only when the builder itself failed. A build that failed is a [`BuildVerdict::Failed`].
    async fn build(&self, spec: &BuildSpec, output: mpsc::Sender<Bytes>) -> Result<BuildVerdict, PortError>;

    /// Makes an image of a build that succeeded and pushes it to the registry. On repeat the same image.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when the build is not here: it ran elsewhere, or was tidied. To build again helps.
    async fn export(&self, spec: &BuildSpec, output: mpsc::Sender<Bytes>) -> Result<BuiltImage, PortError>;

    /// Marks the app's layers as good (the export's row is written), and removes what the build left.
    /// Succeeds when there is nothing.
    async fn tidy(&self, app: &AppId, build: &BuildId) -> Result<(), PortError>;

    /// Removes everything kept for this app: caches, volumes, blobs, containers. Succeeds when there is none.
    async fn remove_app(&self, app: &AppId) -> Result<(), PortError>;

    /// Every app that this builder keeps anything for, for the collection of what no row names any more.
    async fn apps(&self) -> Result<Vec<AppId>, PortError>;
}

/// One build.
#[derive(Clone, Debug)]
pub struct BuildSpec {
    /// Whose layers are reused.
    pub app: AppId,
    /// Names the container.
    pub build: BuildId,
    /// The source: one uncompressed tar of the commit's tree, on this machine.
    pub source: PathBuf,
    /// The commit, for labels and `SOURCE_VERSION`.
    pub commit: Option<String>,
    /// Config vars, given to buildpacks as `/platform/env` files.
    pub config: ConfigVars,
    /// How long it may take.
    pub timeout: Duration,
}

/// How the buildpacks ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuildVerdict {
    /// There is something to export.
    Succeeded,
    /// There is not, and the output says why.
    Failed(BuildFailure),
}

/// Why a build failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuildFailure {
    /// No buildpack wanted the source.
    NotDetected,
    /// A buildpack ended with this status.
    Buildpack(i32),
    /// Longer than [`BuildSpec::timeout`].
    TimedOut,
    /// More memory than a build may have.
    OutOfMemory,
    /// The source cannot be built, for this reason.
    Source(String),
}

impl std::fmt::Display for BuildFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotDetected => f.write_str("No default language could be detected for this app."),
            Self::Buildpack(status) => write!(f, "A buildpack failed with exit status {status}."),
            Self::TimedOut => f.write_str("The build took longer than it may."),
            Self::OutOfMemory => f.write_str("The build used more memory than it may."),
            Self::Source(why) => f.write_str(why),
        }
    }
}

/// An image that is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// Its identity.
    pub image: ImageRef,
    /// Bytes of all layers above the base, uncompressed: Heroku's slug size.
    pub size: u64,
    /// Process types that the buildpacks themselves announced, with their command lines. A Procfile beats them.
    pub default_processes: BTreeMap<ProcessType, String>,
    /// The builder image's own digest, recorded with the build.
    pub builder: String,
    /// What Heroku shows as the language: `Python`, `Node.js`.
    pub description: Option<String>,
    /// What the image itself says that it runs on.
    #[serde(default)]
    pub architecture: Architecture,
}
