//! Where images are kept: the engine's own store, or ECR.

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, Digest};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;

use crate::PortError;

/// An image's identity on both platforms: the digest of its config. Manifest digests are the registry's affair.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageRef(pub Digest);

/// An image that is not stored yet: its config and its layers, base first.
#[derive(Clone, Debug)]
pub struct ImagePlan {
    /// The image config, the JSON whose digest is the image's identity.
    pub config: Bytes,
    /// Every layer, base first; as many as the config's `rootfs.diff_ids`.
    pub layers: Vec<PlannedLayer>,
}

/// One layer of an [`ImagePlan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedLayer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar; 0 for a base layer, whose size only the engine knows.
    pub size: u64,
}

/// Gives the bytes of layers while an image is pushed.
#[async_trait]
pub trait LayerSource: Send + Sync {
    /// The uncompressed tar of a layer.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when this source does not have it.
    async fn open(&self, diff_id: &Digest) -> Result<Box<dyn AsyncRead + Send + Unpin>, PortError>;
}

/// Keeps images.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Stores an image, sending only layers that are missing. Found already there: done.
    async fn push(&self, app: &AppId, plan: &ImagePlan, layers: &dyn LayerSource) -> Result<ImageRef, PortError>;

    /// Whether the image is stored for this app.
    async fn resolve(&self, app: &AppId, image: &ImageRef) -> Result<bool, PortError>;

    /// Removes this app's hold on the image. Succeeds when there is none. Never called for an image that a release
    /// names: which one may go is for the core to know.
    async fn remove(&self, app: &AppId, image: &ImageRef) -> Result<(), PortError>;

    /// The images this app holds.
    async fn list(&self, app: &AppId) -> Result<Vec<ImageRef>, PortError>;

    /// Removes every hold of this app. Succeeds when there is none.
    async fn remove_app(&self, app: &AppId) -> Result<(), PortError>;

    /// Every app that holds an image or has a place for them, for the collection of what no row names any more.
    async fn apps(&self) -> Result<Vec<AppId>, PortError>;
}
