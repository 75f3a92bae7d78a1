//! Images that were made elsewhere get our launcher as one more layer.

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, Digest};
use paas_ports::{ImagePlan, ImageRef, LayerSource, PlannedLayer, PortError, outside};
use serde_json::json;
use tokio::io::AsyncRead;

use crate::DockerBuilder;
use crate::builder_image::BaseImage;
use crate::config::{CREATED, LAUNCHER};
use crate::engine::disk;
use crate::launcher::LauncherLayer;

/// An image from elsewhere, ready to run as a dyno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignImage {
    /// The image with our launcher.
    pub image: ImageRef,
    /// What it started by itself: entrypoint and command, the process type `web` unless someone says otherwise.
    pub command: Vec<String>,
}

impl DockerBuilder {
    /// Adds the launcher to an image of the engine and stores the result for this app. On repeat the same.
    ///
    /// # Errors
    /// When the image is not there, or storing it fails.
    pub async fn add_launcher(&self, app: &AppId, reference: &str) -> Result<ForeignImage, PortError> {
        outside::check("DockerBuilder::add_launcher");
        let base = BaseImage::find(&self.docker, reference).await?;
        let launcher = self.launcher_layer(None).await?;
        let config = &base.config;
        let mut diff_ids = base.diff_ids.clone();
        diff_ids.push(launcher.layer.diff_id.clone());
        let json = json!({
            "architecture": base.architecture,
            "os": base.os,
            "variant": base.variant,
            "created": CREATED,
            "config": {
                "Env": config.env,
                "User": config.user,
                "WorkingDir": config.working_dir,
                "Entrypoint": [LAUNCHER],
                "Labels": config.labels.clone().map(|labels| labels.into_iter().collect::<std::collections::BTreeMap<_, _>>()),
                "StopSignal": config.stop_signal,
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let last = PlannedLayer { diff_id: launcher.layer.diff_id.clone(), size: launcher.layer.size };
        let layers = base.diff_ids.iter().map(|d| PlannedLayer { diff_id: d.clone(), size: 0 });
        let plan = ImagePlan { config: Bytes::from(json.to_string()), layers: layers.chain([last]).collect() };
        let image =
            self.registry.push(app, &plan, &OnLauncher { driver: self, base: &base, launcher: &launcher }).await?;
        let parts = [config.entrypoint.clone(), config.cmd.clone()];
        Ok(ForeignImage { image, command: parts.into_iter().flatten().flatten().collect() })
    }
}

/// The launcher's layer, and those it stands on.
struct OnLauncher<'a> {
    driver: &'a DockerBuilder,
    base: &'a BaseImage,
    launcher: &'a LauncherLayer,
}

#[async_trait]
impl LayerSource for OnLauncher<'_> {
    async fn open(&self, diff_id: &Digest) -> Result<Box<dyn AsyncRead + Send + Unpin>, PortError> {
        if *diff_id != self.launcher.layer.diff_id {
            return Ok(Box::new(self.driver.base_layer(self.base, diff_id).await?));
        }
        let file =
            tokio::fs::File::open(&self.launcher.path).await.map_err(|e| disk("opening the launcher's layer", e))?;
        Ok(Box::new(file))
    }
}
