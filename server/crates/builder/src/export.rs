//! A build that succeeded, as an image.
//!
//! From the bottom: the run image's layers, the launchers, one layer per launch layer (runtimes first, since
//! they change least and are the same in many apps), the launcher's configuration, the app. So a push that
//! changes only the app's own files sends one layer.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use paas_domain::{Architecture, BuildId, Digest};
use paas_phase::wire::{self, KnownLayer, Manifest};
use paas_ports::{BuildSpec, BuiltImage, ImagePlan, LayerSource, PlannedLayer, PortError};
use tar::Builder;
use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::io::SyncIoBridge;

use crate::DockerBuilder;
use crate::app_folder::AppFolder;
use crate::builder_image::{BaseImage, BuilderImage};
use crate::config::{self, BuildpackLayers, Parts};
use crate::engine::disk;
use crate::launcher::LauncherLayer;
use crate::manifest;
use crate::memo::{Memo, MemoLayer, StoredLayer};
use crate::processes::BuildMetadata;
use crate::procfile::{FoundProcfile, find_procfile};
use crate::tarball::{self, Hashing, add_file, add_folders, add_link};

/// How many layers are read out of the container at the same time.
const AT_ONCE: usize = 2;
/// Why one attempt at an export failed.
enum Attempt {
    /// A layer that was believed to be unchanged is not what it was: again, without believing anything.
    Deceived,
    /// Anything else.
    Failed(PortError),
}

impl From<PortError> for Attempt {
    fn from(e: PortError) -> Self {
        Self::Failed(e)
    }
}

impl DockerBuilder {
    pub(crate) async fn make_image(
        &self,
        spec: &BuildSpec,
        output: mpsc::Sender<Bytes>,
    ) -> Result<BuiltImage, PortError> {
        let name = self.container_name(&spec.app, &spec.build);
        // The builder is the one that the build ran in, whatever the setting says by now; nearly always the same.
        let images = self.images(&self.settings.builder_image);
        let (ran_in, manifest, images) = tokio::join!(self.image_of(&name), self.manifest(&name), images);
        let (ran_in, manifest) = (ran_in?, manifest?);
        let (builder, base) = match images {
            Ok(images) if images.0.id == ran_in => images,
            _ => self.images(ran_in.as_str()).await?,
        };
        if manifest.status != wire::EXIT_BUILT {
            return Err(PortError::permanent("exporting the image", "this build did not succeed"));
        }
        manifest::check(&manifest)?;
        let architecture = Architecture::of_image(&base.architecture).ok_or_else(|| {
            let why = format!("the run image is for {}, and apps run on {}", base.architecture, "amd64 or arm64");
            PortError::permanent("exporting the image", why)
        })?;
        let export = Export {
            architecture,
            driver: self,
            spec,
            container: name,
            folder: self.app_folder(&spec.app),
            owner: (builder.uid, builder.gid),
            base,
            builder,
            manifest,
        };
        export.folder.make().await?;
        let _ = output.send(Bytes::from_static(b"-----> Compressing...\n")).await;
        let memo = export.folder.memo(export.builder.short()).await;
        let image = match export.attempt(&memo).await {
            Err(Attempt::Deceived) => export.attempt(&Memo::default()).await,
            other => other,
        };
        let image = image.map_err(|e| match e {
            Attempt::Failed(e) => e,
            Attempt::Deceived => PortError::transient("exporting the image", "a layer changed while it was read"),
        })?;
        let _ = output.send(Bytes::from(format!("       Done: {}\n", manifest::megabytes(image.size)))).await;
        Ok(image)
    }
}

struct Export<'a> {
    architecture: Architecture,
    driver: &'a DockerBuilder,
    spec: &'a BuildSpec,
    container: String,
    folder: AppFolder,
    owner: (u64, u64),
    builder: BuilderImage,
    base: BaseImage,
    manifest: Manifest,
}

impl Export<'_> {
    async fn attempt(&self, memo: &Memo) -> Result<BuiltImage, Attempt> {
        let begun = Instant::now();
        let manifest = &self.manifest;
        let (app, launcher, ()) = tokio::try_join!(
            self.tar("/workspace", Path::new("workspace")),
            self.driver.launcher_layer(Some(&self.builder)),
            self.driver.settle(&self.container),
        )?;
        self.check_procfile(&app.diff_id).await?;
        let metadata: BuildMetadata = toml::from_str(&manifest.metadata)
            .map_err(|e| PortError::permanent("reading what the build left", e.message()))?;
        let read = begun.elapsed();

        let reused = Mutex::new(HashMap::new());
        let launch: Vec<KnownLayer> = manifest
            .buildpacks
            .iter()
            .flat_map(|buildpack| &buildpack.layers)
            .filter(|layer| layer.types.launch)
            .cloned()
            .collect();
        let mut storing = Vec::with_capacity(launch.len());
        for layer in &launch {
            storing.push(self.store(layer, memo, &reused));
        }
        let stored: Vec<StoredLayer> = futures_util::stream::iter(storing).buffered(AT_ONCE).try_collect().await?;
        let config = self.config_layer(&metadata).await?;
        let mut above: Vec<(u8, StoredLayer)> = vec![(0, launcher.layer.clone())];
        above.extend(launch.iter().zip(&stored).map(|(layer, stored)| (manifest::rank(&layer.name), stored.clone())));
        above.extend([(8, config.clone()), (9, app.clone())]);
        above.sort_by_key(|(rank, _)| *rank);
        let above: Vec<StoredLayer> = above.into_iter().map(|(_, layer)| layer).collect();
        let layered = begun.elapsed();

        let mut of_launch = launch.iter().cloned().zip(stored);
        let buildpacks: Vec<BuildpackLayers> = manifest
            .buildpacks
            .iter()
            .map(|b| BuildpackLayers {
                id: b.id.clone(),
                version: b.version.clone(),
                store: b.store.clone(),
                layers: of_launch.by_ref().take(b.layers.iter().filter(|layer| layer.types.launch).count()).collect(),
            })
            .collect();
        let plan = self.plan(&Parts {
            base: &self.base,
            builder: &self.builder,
            commit: self.spec.commit.as_deref(),
            metadata: &metadata,
            buildpacks: &buildpacks,
            launcher: &launcher.layer,
            config: &config,
            app: &app,
            above: &above,
        });
        let source = Blobs { export: self, launcher: &launcher, reused, deceived: Mutex::new(false) };
        let pushed = self.driver.registry.push(&self.spec.app, &plan, &source).await;
        let image = match pushed {
            Ok(image) => image,
            Err(_) if source.deceived.lock().is_ok_and(|deceived| *deceived) => return Err(Attempt::Deceived),
            Err(e) => return Err(e.into()),
        };
        self.folder.keep_pending(&self.spec.build, &self.memo_of(&buildpacks)).await?;
        tracing::debug!(?read, ?layered, whole = ?begun.elapsed(), "exported");
        Ok(BuiltImage {
            image,
            size: above.iter().map(|layer| layer.size).sum(),
            default_processes: metadata.default_processes(),
            builder: self.builder.id.to_string(),
            description: manifest::language(&manifest.buildpacks),
            architecture: self.architecture,
        })
    }

    /// The Procfile that the build left may not be a link out of the app: whatever a buildpack read through it could
    /// be a config var, and would be in the image, its labels and the app's process types.
    async fn check_procfile(&self, app: &Digest) -> Result<(), PortError> {
        let doing = "reading what the build left";
        let tar = self.folder.blob(app);
        let look = move || find_procfile(&tar, Path::new("workspace"));
        let found = tokio::task::spawn_blocking(look).await.map_err(|e| disk(doing, e))?;
        match found.map_err(|e| disk(doing, e))? {
            FoundProcfile::LeadsOut => Err(PortError::permanent(doing, "Procfile is a link that leads out of the app")),
            FoundProcfile::Nothing | FoundProcfile::Content(_) => Ok(()),
        }
    }

    /// The layer's tar: made now, or known from the last good export.
    async fn store(
        &self,
        layer: &KnownLayer,
        memo: &Memo,
        reused: &Mutex<HashMap<Digest, KnownLayer>>,
    ) -> Result<StoredLayer, PortError> {
        if let Some(stored) = memo.same(layer) {
            if let Ok(mut reused) = reused.lock() {
                reused.insert(stored.diff_id.clone(), layer.clone());
            }
            return Ok(stored.clone());
        }
        if !layer.contents {
            let why =
                format!("the buildpack left the layer {} without content, and there is none to reuse", layer.name);
            return Err(PortError::permanent("exporting the image", why));
        }
        self.tar_layer(layer).await
    }

    async fn tar_layer(&self, layer: &KnownLayer) -> Result<StoredLayer, PortError> {
        let place = format!("layers/{}/{}", layer.folder, layer.name);
        self.tar(&format!("/{place}"), Path::new(&place)).await
    }

    /// Reads a folder out of the container into a tar of ours.
    async fn tar(&self, path: &str, place: &Path) -> Result<StoredLayer, PortError> {
        let doing = "reading a layer out of the build";
        let reader = SyncIoBridge::new(self.driver.download(&self.container, path));
        let folder = self.folder.make().await?.to_owned();
        let (place, owner, most) = (place.to_owned(), self.owner, self.driver.settings.limits.layer_bytes);
        let blobs = self.folder.clone();
        let write = move || {
            let temporary = folder.join(format!("new-{}", BuildId::new()));
            let result = std::fs::File::create(&temporary).and_then(|file| {
                let reader = std::io::BufReader::with_capacity(256 * 1024, reader);
                let (diff_id, size) = tarball::layer_of(reader, &place, owner, file, most)?;
                std::fs::rename(&temporary, blobs.blob(&diff_id))?;
                Ok(StoredLayer { diff_id, size })
            });
            if result.is_err() {
                let _ = std::fs::remove_file(&temporary);
            }
            result
        };
        let stored = tokio::task::spawn_blocking(write).await.map_err(|e| disk(doing, e))?;
        stored.map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => PortError::permanent(doing, e),
            _ => PortError::transient(doing, e),
        })
    }

    /// The layer of `config/metadata.toml` and of the links that name the process types.
    async fn config_layer(&self, metadata: &BuildMetadata) -> Result<StoredLayer, PortError> {
        let doing = "writing the launcher's configuration";
        let write = || {
            let mut tar = Builder::new(Hashing::new(Vec::new(), u64::MAX));
            add_folders(&mut tar, Path::new("cnb/process"), (0, 0))?;
            for process_type in metadata.default_processes().keys() {
                add_link(&mut tar, &format!("cnb/process/{process_type}"), "/cnb/lifecycle/launcher", (0, 0))?;
            }
            add_folders(&mut tar, Path::new("layers/config"), self.owner)?;
            let text = self.manifest.metadata.as_bytes();
            add_file(&mut tar, "layers/config/metadata.toml", 0o644, text, self.owner)?;
            tar.into_inner()?.finish()
        };
        let (diff_id, size, bytes) = write().map_err(|e| disk(doing, e))?;
        tokio::fs::write(self.folder.blob(&diff_id), bytes).await.map_err(|e| disk(doing, e))?;
        Ok(StoredLayer { diff_id, size })
    }

    fn plan(&self, parts: &Parts<'_>) -> ImagePlan {
        // The sizes of the base's layers are the engine's affair: it has them.
        let base = self.base.diff_ids.iter().map(|diff_id| PlannedLayer { diff_id: diff_id.clone(), size: 0 });
        let above = parts.above.iter().map(|l| PlannedLayer { diff_id: l.diff_id.clone(), size: l.size });
        ImagePlan { config: config::of(parts), layers: base.chain(above).collect() }
    }

    fn memo_of(&self, buildpacks: &[BuildpackLayers]) -> Memo {
        let stored = |layer: &KnownLayer| {
            let mut all = buildpacks.iter().flat_map(|b| &b.layers);
            all.find(|(known, _)| known == layer).map(|(_, stored)| stored.clone())
        };
        let layers = self.manifest.buildpacks.iter().flat_map(|b| &b.layers);
        let layers = layers.map(|layer| MemoLayer { known: layer.clone(), stored: stored(layer) }).collect();
        let stores: BTreeMap<String, String> =
            self.manifest.buildpacks.iter().filter_map(|b| Some((b.folder.clone(), b.store.clone()?))).collect();
        Memo { builder: self.builder.short().to_owned(), layers, stores }
    }
}

/// The tars of an image's layers.
struct Blobs<'a> {
    export: &'a Export<'a>,
    launcher: &'a LauncherLayer,
    /// Layers that were not read in this export, as they are in the layers volume.
    reused: Mutex<HashMap<Digest, KnownLayer>>,
    deceived: Mutex<bool>,
}

#[async_trait]
impl LayerSource for Blobs<'_> {
    async fn open(&self, diff_id: &Digest) -> Result<Box<dyn AsyncRead + Send + Unpin>, PortError> {
        let path: PathBuf = if *diff_id == self.launcher.layer.diff_id {
            self.launcher.path.clone()
        } else {
            self.export.folder.blob(diff_id)
        };
        if let Ok(file) = tokio::fs::File::open(&path).await {
            return Ok(Box::new(file));
        }
        let layer = self.reused.lock().ok().and_then(|reused| reused.get(diff_id).cloned());
        let Some(layer) = layer else {
            // Only a registry that does not share the engine's store asks for it.
            return Ok(Box::new(self.export.driver.base_layer(&self.export.base, diff_id).await?));
        };
        // The registry has lost a layer whose tar was dropped: it is made again of the volume.
        if !layer.contents || self.export.tar_layer(&layer).await?.diff_id != *diff_id {
            if let Ok(mut deceived) = self.deceived.lock() {
                *deceived = true;
            }
            return Err(PortError::NotFound(format!("layer {diff_id}")));
        }
        let file = tokio::fs::File::open(&path).await.map_err(|e| disk("opening a layer", e))?;
        Ok(Box::new(file))
    }
}
