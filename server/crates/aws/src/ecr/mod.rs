//! The registry port on Amazon ECR.
//!
//! One repository per app, named by the app's id and tagged as ours. An image is held by a tag that cannot be
//! moved: the hex digits of its config's digest, which is an image's identity on both platforms; its manifest's
//! digest, by which ECS pulls, is looked up by that tag. Layers are sent by the registry's own HTTP protocol, only
//! those that are missing, several at once ([`upload`]); a layer that was ever sent is not compressed again
//! ([`blobs`]), and one that another app's repository has is mounted from there where the account allows it.
//!
//! Whether an image may go is decided by the core alone: there is no lifecycle policy.

mod blobs;
mod manifest;
mod repository;
mod upload;
mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use paas_domain::{AppId, Digest, outside_name};
use paas_ports::{ImagePlan, ImageRef, LayerSource, PlannedLayer, PortError, Registry, outside};

use crate::{Aws, ImageNames};
use blobs::{Blob, Blobs};
use manifest::digest_of;
use wire::Wire;

/// How many layers are compressed and sent at the same time.
const AT_ONCE: usize = 4;
/// What is sent in one request. ECR takes parts of at least 5 MiB; its own clients send 10.
const CHUNK_BYTES: u64 = 16 << 20;

/// Images kept in Amazon ECR.
pub struct EcrRegistry {
    aws: Aws,
    wire: Wire,
    blobs: Blobs,
    chunk_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Apps whose repository was made or looked at by this process.
    ready: HashSet<AppId>,
    /// Manifests by app and image: a tag never moves.
    manifests: HashMap<(AppId, Digest), Digest>,
    /// Whose a repository is, by its ARN, as its tags say: they do not change.
    holders: HashMap<String, AppId>,
}

impl EcrRegistry {
    /// A registry that remembers in `cache` what it compressed. One process at a time has a cache.
    ///
    /// # Errors
    /// When the folder cannot be made, or the machine trusts no certificate authority.
    pub fn new(aws: Aws, cache: PathBuf) -> Result<Self, PortError> {
        let wire = Wire::new(aws.clone())?;
        let blobs = Blobs::open(cache)?;
        Ok(Self { aws, wire, blobs, chunk_bytes: CHUNK_BYTES, state: Mutex::default() })
    }

    /// The same with another size of what is sent in one request.
    #[must_use]
    pub fn with_chunk_bytes(self, chunk_bytes: u64) -> Self {
        Self { chunk_bytes, ..self }
    }

    fn repository(&self, app: &AppId) -> String {
        outside_name(&self.aws.install, app, "img")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the app's repository has this layer.
    async fn layer(
        &self,
        app: &AppId,
        repository: &str,
        layer: &PlannedLayer,
        source: &dyn LayerSource,
    ) -> Result<Blob, PortError> {
        let known = self.blobs.known(&layer.diff_id).await;
        let mut started = None;
        if let Some(known) = &known {
            if self.has_blob(app, repository, &known.blob.digest).await? {
                self.blobs.keep(&layer.diff_id, &known.blob, repository).await?;
                return Ok(known.blob.clone());
            }
            if known.repository != repository {
                started = self.mount(app, repository, &known.blob.digest, &known.repository).await?;
                if started.is_none() {
                    self.blobs.keep(&layer.diff_id, &known.blob, repository).await?;
                    return Ok(known.blob.clone());
                }
            }
        }
        let packed = match self.blobs.packed_base(layer, known.as_ref()).await {
            Some(packed) => packed,
            None => self.blobs.pack(layer, source.open(&layer.diff_id).await?).await?,
        };
        let blob = packed.blob.clone();
        // The upload that the mount began may be used for any blob.
        if known.is_some_and(|known| known.blob == blob) || !self.has_blob(app, repository, &blob.digest).await? {
            self.upload(app, repository, &packed, started).await?;
        }
        self.blobs.keep(&layer.diff_id, &blob, repository).await?;
        Ok(blob)
    }

    async fn push_parts(
        &self,
        app: &AppId,
        id: &Digest,
        plan: &ImagePlan,
        source: &dyn LayerSource,
    ) -> Result<Digest, PortError> {
        let repository = self.repository(app);
        let config = Blob { digest: id.clone(), size: plan.config.len() as u64 };
        // The same layer may be there twice (an empty one): it is sent once.
        let distinct: BTreeMap<&Digest, &PlannedLayer> =
            plan.layers.iter().map(|layer| (&layer.diff_id, layer)).collect();
        let mut sending = Vec::with_capacity(distinct.len());
        for layer in distinct.into_values() {
            let repository = repository.as_str();
            sending.push(async move {
                Ok::<_, PortError>((layer.diff_id.clone(), self.layer(app, repository, layer, source).await?))
            });
        }
        let layers = futures_util::stream::iter(sending).buffer_unordered(AT_ONCE).try_collect::<HashMap<_, _>>();
        let (layers, ()) = tokio::try_join!(layers, self.upload_bytes(app, &repository, &config, &plan.config))?;
        let layers = plan.layers.iter().filter_map(|layer| layers.get(&layer.diff_id));
        let manifest = manifest::of(&config, layers);
        match self.put_manifest(app, &repository, id, &manifest).await? {
            manifest::Put::Done => Ok(digest_of(&manifest)),
            // Somebody pushed the same image meanwhile, of layers that were compressed otherwise.
            manifest::Put::Taken => self.manifest_of(app, id).await?.ok_or_else(|| {
                PortError::transient("pushing the image", "its tag was taken and is not there any more")
            }),
        }
    }
}

#[async_trait]
impl Registry for EcrRegistry {
    async fn push(&self, app: &AppId, plan: &ImagePlan, layers: &dyn LayerSource) -> Result<ImageRef, PortError> {
        outside::check("Registry::push");
        let id = digest_of(&plan.config);
        if !manifest::names_layers(&plan.config, &plan.layers) {
            return Err(PortError::permanent("pushing the image", "the config names other layers than the plan"));
        }
        self.ensure_repository(app).await?;
        let manifest = match self.manifest_of(app, &id).await? {
            Some(manifest) => manifest,
            None => self.push_parts(app, &id, plan, layers).await?,
        };
        self.state().manifests.insert((app.clone(), id.clone()), manifest);
        Ok(ImageRef(id))
    }

    async fn resolve(&self, app: &AppId, image: &ImageRef) -> Result<bool, PortError> {
        outside::check("Registry::resolve");
        Ok(self.manifest_of(app, &image.0).await?.is_some())
    }

    async fn remove(&self, app: &AppId, image: &ImageRef) -> Result<(), PortError> {
        outside::check("Registry::remove");
        self.state().manifests.remove(&(app.clone(), image.0.clone()));
        self.delete_image(app, &image.0).await
    }

    async fn list(&self, app: &AppId) -> Result<Vec<ImageRef>, PortError> {
        outside::check("Registry::list");
        let mut images: Vec<ImageRef> = self.list_images(app).await?.into_iter().map(ImageRef).collect();
        images.sort_by(|a, b| a.0.cmp(&b.0));
        images.dedup();
        Ok(images)
    }

    async fn remove_app(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Registry::remove_app");
        self.forget(app);
        self.delete_repository(app).await
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Registry::apps");
        self.holders().await
    }
}

#[async_trait]
impl ImageNames for EcrRegistry {
    async fn pinned(&self, app: &AppId, image: &ImageRef) -> Result<String, PortError> {
        outside::check("ImageNames::pinned");
        let known = self.state().manifests.get(&(app.clone(), image.0.clone())).cloned();
        let manifest = match known {
            Some(manifest) => manifest,
            None => {
                let found = self.manifest_of(app, &image.0).await?;
                let found = found.ok_or_else(|| PortError::NotFound(format!("the image {}", image.0)))?;
                self.state().manifests.insert((app.clone(), image.0.clone()), found.clone());
                found
            }
        };
        Ok(format!("{}/{}@{manifest}", wire::account_host(&self.aws.foundation), self.repository(app)))
    }
}
