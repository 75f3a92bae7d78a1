//! The layer with the two launchers: ours, which is every image's entrypoint, and the builder's own.
//!
//! The builder's is taken from a container that never ran, never from one in which a build ran. The layer is
//! the same for every app, so it lies directly on the run image and is stored once per builder.

use std::io;
use std::path::{Path, PathBuf};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use paas_ports::PortError;
use serde::{Deserialize, Serialize};
use tar::Builder;
use tokio::io::AsyncReadExt as _;

use crate::DockerBuilder;
use crate::builder_image::BuilderImage;
use crate::engine::{disk, failed};
use crate::memo::StoredLayer;
use crate::tarball::{Hashing, add_file, add_folders, digest_of};

/// The most bytes of a builder's launcher.
const LAUNCHER_BYTES: u64 = 256 * 1024 * 1024;
const ROOT: (u64, u64) = (0, 0);

#[derive(Serialize, Deserialize)]
pub(crate) struct LauncherLayer {
    pub(crate) layer: StoredLayer,
    pub(crate) path: PathBuf,
}

impl DockerBuilder {
    /// The layer of our launcher and, for an image of a builder, that builder's.
    pub(crate) async fn launcher_layer(&self, builder: Option<&BuilderImage>) -> Result<LauncherLayer, PortError> {
        let doing = "making the launcher's layer";
        let ours = tokio::fs::read(self.settings.tools.join("launcher")).await.map_err(|e| {
            PortError::permanent(doing, format!("the program launcher is not in the tools folder: {e}"))
        })?;
        let _alone = self.launchers.lock().await;
        let folder = self.settings.blobs.join("launchers");
        let of = builder.map_or("none", BuilderImage::short);
        let name = format!("{of}-{}", &digest_of(&ours).hex()[..12]);
        let path = folder.join(format!("{name}.tar"));
        let index = folder.join(format!("{name}.json"));
        if let Ok(bytes) = tokio::fs::read(&index).await
            && let Ok(layer) = serde_json::from_slice::<StoredLayer>(&bytes)
            && tokio::fs::metadata(&path).await.is_ok_and(|file| file.len() == layer.size)
        {
            return Ok(LauncherLayer { layer, path });
        }
        let theirs = match builder {
            Some(builder) => Some(self.builders_launcher(builder).await?),
            None => None,
        };
        tokio::fs::create_dir_all(&folder).await.map_err(|e| disk(doing, e))?;
        let write = move || write(&folder, &path, &index, &ours, theirs.as_deref());
        tokio::task::spawn_blocking(write).await.map_err(|e| disk(doing, e))?.map_err(|e| disk(doing, e))
    }

    async fn builders_launcher(&self, builder: &BuilderImage) -> Result<Vec<u8>, PortError> {
        let doing = "taking the launcher out of the builder";
        let name = format!("paas-{}-launcher-{}", self.settings.install, builder.short());
        let body = ContainerCreateBody {
            image: Some(builder.id.to_string()),
            entrypoint: Some(vec!["/never-started".to_owned()]),
            labels: Some([("paas.install".to_owned(), self.settings.install.to_string())].into()),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        match self.docker.create_container(Some(options), body).await {
            Ok(_) => {}
            Err(e) if crate::engine::is_conflict(&e) => {}
            Err(e) => return Err(failed(doing, e)),
        }
        let mut tar = Vec::new();
        let read = self
            .download(&name, "/cnb/lifecycle/launcher")
            .take(LAUNCHER_BYTES)
            .read_to_end(&mut tar)
            .await
            .map_err(|e| disk(doing, e));
        self.remove_container(&name).await?;
        read?;
        let mut archive = tar::Archive::new(tar.as_slice());
        for entry in archive.entries().map_err(|e| disk(doing, e))? {
            let mut entry = entry.map_err(|e| disk(doing, e))?;
            if entry.header().entry_type().is_file() {
                let mut bytes = Vec::new();
                io::Read::read_to_end(&mut entry, &mut bytes).map_err(|e| disk(doing, e))?;
                return Ok(bytes);
            }
        }
        Err(PortError::permanent(doing, "/cnb/lifecycle/launcher is no file there"))
    }
}

fn write(folder: &Path, path: &Path, index: &Path, ours: &[u8], theirs: Option<&[u8]>) -> io::Result<LauncherLayer> {
    let temporary = folder.join(format!("new-{}", paas_domain::BuildId::new()));
    let mut tar = Builder::new(Hashing::new(std::fs::File::create(&temporary)?, u64::MAX));
    if let Some(theirs) = theirs {
        add_folders(&mut tar, Path::new("cnb/lifecycle"), ROOT)?;
        add_file(&mut tar, "cnb/lifecycle/launcher", 0o755, theirs, ROOT)?;
    }
    add_folders(&mut tar, Path::new("paas"), ROOT)?;
    add_file(&mut tar, "paas/launcher", 0o755, ours, ROOT)?;
    let (diff_id, size, file) = tar.into_inner()?.finish()?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)?;
    let layer = StoredLayer { diff_id, size };
    std::fs::write(&temporary, serde_json::to_vec(&layer)?)?;
    std::fs::rename(&temporary, index)?;
    Ok(LauncherLayer { layer, path: path.to_owned() })
}
