//! How ECS is told which image to pull.

use async_trait::async_trait;
use paas_domain::AppId;
use paas_ports::{ImageRef, PortError};

/// Names an app's images as task definitions do.
#[async_trait]
pub trait ImageNames: Send + Sync {
    /// `<host>/<repository>@sha256:<manifest>`: never a tag, so that nothing but this image can ever be pulled.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when the app does not hold the image.
    async fn pinned(&self, app: &AppId, image: &ImageRef) -> Result<String, PortError>;
}
