//! The engine's own image store as a registry.
//!
//! An image is held by a tag, `paas-<install>/<app's id>:<first 12 digits of its id>`; the image's id is the
//! digest of its config, as everywhere. Pushing is `images/load` of as little as possible: layers that any
//! image of this engine already has *in the same place of its chain* are sent as empty entries, because the
//! engine looks a layer up by its chain before it opens the entry. Should the engine have lost one meanwhile
//! it answers `invalid diffID`, and everything above the run image is sent.
//!
//! Only engines with a graph driver (overlay2) can do this; the containerd image store cannot.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{
    ImportImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use paas_domain::{AppId, Digest, InstallId};
use paas_ports::{ImagePlan, ImageRef, LayerSource, PortError, Registry, outside};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::io::ReaderStream;

/// What the engine finds where an empty entry was sent for a layer that it does not have.
const EMPTY_DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Images kept in the Docker engine of this machine.
pub struct EngineRegistry {
    docker: Docker,
    install: InstallId,
    /// Layers of every image seen, by image id: neither ever changes.
    chains: Mutex<HashMap<String, Vec<String>>>,
}

impl EngineRegistry {
    /// Keeps images in this engine, under this installation's names.
    #[must_use]
    pub fn new(docker: Docker, install: InstallId) -> Self {
        Self { docker, install, chains: Mutex::default() }
    }

    /// The name by which an app holds an image: what a container is started from.
    #[must_use]
    pub fn tag_of(install: &InstallId, app: &AppId, image: &ImageRef) -> String {
        format!("{}:{}", repository(install, app), short(&image.0))
    }

    async fn tag(&self, app: &AppId, id: &Digest) -> Result<(), PortError> {
        let repository = repository(&self.install, app);
        let options = TagImageOptionsBuilder::new().repo(&repository).tag(short(id)).build();
        self.docker.tag_image(id.as_str(), Some(options)).await.map_err(|e| failed("tagging the image", e))
    }

    /// How many of these layers, from the bottom, some image of the engine already has; `None` when the
    /// whole image is there.
    async fn present(&self, id: &Digest, wanted: &[String]) -> Result<Option<usize>, PortError> {
        let images = self.docker.list_images(Some(ListImagesOptionsBuilder::new().build())).await;
        let images = images.map_err(|e| failed("listing the images", e))?;
        let mut most = 0;
        self.chains().retain(|known, _| images.iter().any(|image| image.id == *known));
        for image in images {
            if image.id == id.as_str() {
                return Ok(None);
            }
            let known = self.chains().get(&image.id).cloned();
            let chain = match known {
                Some(chain) => chain,
                None => match self.docker.inspect_image(&image.id).await {
                    Ok(found) => found.root_fs.and_then(|fs| fs.layers).unwrap_or_default(),
                    // Removed since it was listed, or just being removed: costs sending a layer more.
                    Err(_) => continue,
                },
            };
            most = most.max(chain.iter().zip(wanted).take_while(|(have, want)| have == want).count());
            self.chains().insert(image.id, chain);
        }
        Ok(Some(most))
    }

    fn chains(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<String>>> {
        self.chains.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sends the image, its first `blank` layers as empty entries.
    async fn load(
        &self,
        app: &AppId,
        id: &Digest,
        plan: &ImagePlan,
        blank: usize,
        layers: &dyn LayerSource,
    ) -> Result<(), LoadError> {
        let mut sent: Vec<(u64, Box<dyn AsyncRead + Send + Unpin>)> = Vec::new();
        for layer in &plan.layers[blank..] {
            sent.push((layer.size, layers.open(&layer.diff_id).await.map_err(LoadError::Port)?));
        }
        let names: Vec<String> = (0..plan.layers.len()).map(|n| format!("{n}.tar")).collect();
        let config_name = format!("{}.json", id.hex());
        let tag = Self::tag_of(&self.install, app, &ImageRef(id.clone()));
        let manifest = serde_json::json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]).to_string();
        let config = plan.config.clone();

        let (mut writer, reader) = tokio::io::duplex(256 * 1024);
        let archive = tokio::spawn(async move {
            for name in &names[..blank] {
                writer.write_all(&header(name, 0)?).await?;
            }
            for (name, (size, mut layer)) in names[blank..].iter().zip(sent) {
                writer.write_all(&header(name, size)?).await?;
                let copied = tokio::io::copy(&mut (&mut layer).take(size), &mut writer).await?;
                // A layer that is shorter or longer than it should be has the wrong bytes.
                if copied != size || layer.read(&mut [0_u8; 1]).await? != 0 {
                    let why = "a layer's size is not the one that was planned";
                    return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
                }
                writer.write_all(&vec![0; padding(size)]).await?;
            }
            for (name, bytes) in [(config_name.as_str(), config.as_ref()), ("manifest.json", manifest.as_bytes())] {
                writer.write_all(&header(name, bytes.len() as u64)?).await?;
                writer.write_all(bytes).await?;
                writer.write_all(&vec![0; padding(bytes.len() as u64)]).await?;
            }
            writer.write_all(&[0; 1024]).await?;
            writer.shutdown().await
        });
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let answers = self.docker.import_image_stream(options, ReaderStream::with_capacity(reader, 256 * 1024), None);
        let answered = answers.try_for_each(|_| async { Ok(()) }).await;
        let written = archive.await;
        match (answered, written) {
            (Ok(()), Ok(Ok(()))) => Ok(()),
            (Err(Error::DockerStreamError { error }), _) if error.contains("invalid diffID") => {
                Err(LoadError::WrongLayer(error))
            }
            // Our own reason, if we have one, is why the engine complained.
            (_, Ok(Err(e))) if e.kind() == std::io::ErrorKind::InvalidData => Err(LoadError::WrongLayer(e.to_string())),
            (Err(e), _) => Err(LoadError::Port(failed("loading the image", e))),
            (Ok(()), Ok(Err(e))) => Err(LoadError::Port(PortError::transient("sending the image", e))),
            (Ok(()), Err(e)) => Err(LoadError::Port(PortError::transient("sending the image", e))),
        }
    }
}

enum LoadError {
    WrongLayer(String),
    Port(PortError),
}

#[async_trait]
impl Registry for EngineRegistry {
    async fn push(&self, app: &AppId, plan: &ImagePlan, layers: &dyn LayerSource) -> Result<ImageRef, PortError> {
        outside::check("Registry::push");
        let doing = "storing the image";
        let id = config_digest(&plan.config);
        let wanted: Vec<String> = plan.layers.iter().map(|l| l.diff_id.to_string()).collect();
        if diff_ids(&plan.config) != wanted {
            return Err(PortError::permanent(doing, "the config names other layers than the plan"));
        }
        let Some(blank) = self.present(&id, &wanted).await? else {
            self.tag(app, &id).await?;
            return Ok(ImageRef(id));
        };
        // The base's layers have no planned size: the engine has the run image, and nobody else needs to send it.
        let base = plan.layers.iter().take_while(|layer| layer.size == 0).count();
        let mut result = self.load(app, &id, plan, blank.max(base), layers).await;
        if let Err(LoadError::WrongLayer(why)) = &result
            && why.contains(EMPTY_DIGEST)
        {
            tracing::info!(%why, "the engine lost a layer; sending all above the base");
            result = self.load(app, &id, plan, base, layers).await;
        }
        match result {
            Ok(()) => Ok(ImageRef(id)),
            Err(LoadError::WrongLayer(why)) => Err(PortError::permanent(doing, why)),
            Err(LoadError::Port(e)) => Err(e),
        }
    }

    async fn resolve(&self, app: &AppId, image: &ImageRef) -> Result<bool, PortError> {
        outside::check("Registry::resolve");
        match self.docker.inspect_image(&Self::tag_of(&self.install, app, image)).await {
            Ok(found) => Ok(found.id.as_deref() == Some(image.0.as_str())),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(e) => Err(failed("looking for the image", e)),
        }
    }

    async fn remove(&self, app: &AppId, image: &ImageRef) -> Result<(), PortError> {
        outside::check("Registry::remove");
        let tag = Self::tag_of(&self.install, app, image);
        let options = RemoveImageOptionsBuilder::new().build();
        match self.docker.remove_image(&tag, Some(options), None).await {
            Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            // A container, or a removal by someone else at the same moment, still uses it.
            Err(e @ Error::DockerResponseServerError { status_code: 409, .. }) => {
                Err(PortError::transient("removing the image", e))
            }
            Err(e) => Err(failed("removing the image", e)),
        }
    }

    async fn list(&self, app: &AppId) -> Result<Vec<ImageRef>, PortError> {
        outside::check("Registry::list");
        let repository = repository(&self.install, app);
        let filters = HashMap::from([("reference".to_owned(), vec![repository.clone()])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = self.docker.list_images(Some(options)).await.map_err(|e| failed("listing the images", e))?;
        let ours =
            |tags: &[String]| tags.iter().any(|t| t.rsplit_once(':').is_some_and(|(name, _)| name == repository));
        let mut found: Vec<ImageRef> = images
            .into_iter()
            .filter(|image| ours(&image.repo_tags))
            .filter_map(|image| image.id.parse().ok().map(ImageRef))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    async fn remove_app(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Registry::remove_app");
        let images = self.list(app).await?;
        // All are tried, so that one that is still in use keeps no other.
        let removed = futures_util::stream::iter(images).then(|image| async move { self.remove(app, &image).await });
        let failures: Vec<PortError> = removed.filter_map(|r| async { r.err() }).collect().await;
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Registry::apps");
        let prefix = format!("paas-{}/", self.install);
        let filters = HashMap::from([("reference".to_owned(), vec![format!("{prefix}*")])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let images = self.docker.list_images(Some(options)).await.map_err(|e| failed("listing the images", e))?;
        // What has no app's id there is kept for all of them.
        let holder = |tag: &String| tag.strip_prefix(&prefix)?.split(':').next()?.parse().ok();
        let apps: BTreeSet<AppId> = images.iter().flat_map(|image| image.repo_tags.iter().filter_map(holder)).collect();
        Ok(apps.into_iter().collect())
    }
}

fn repository(install: &InstallId, app: &AppId) -> String {
    format!("paas-{install}/{app}")
}

fn short(id: &Digest) -> &str {
    &id.hex()[..12]
}

fn config_digest(config: &[u8]) -> Digest {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, config);
    let hex: String = sum.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    // Sixty-four lower-case hexadecimal digits are a digest.
    format!("sha256:{hex}").parse().unwrap_or_else(|_| unreachable!("a sha256 sum is a digest"))
}

fn diff_ids(config: &[u8]) -> Vec<String> {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    let ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
    ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

/// A tar entry's header (ustar; sizes above 8 GiB do not fit and are refused).
fn header(name: &str, size: u64) -> std::io::Result<[u8; 512]> {
    if size >= 1 << 33 {
        return Err(std::io::Error::other("a layer is larger than 8 GiB"));
    }
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

fn padding(size: u64) -> usize {
    usize::try_from((512 - size % 512) % 512).unwrap_or(0)
}

fn failed(doing: &str, e: Error) -> PortError {
    match e {
        Error::DockerResponseServerError { status_code, .. } if (400..500).contains(&status_code) => {
            PortError::permanent(doing, e)
        }
        e => PortError::transient(doing, e),
    }
}
