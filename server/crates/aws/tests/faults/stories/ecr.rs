//! Images in ECR.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use paas_aws::Aws;
use paas_aws::ecr::EcrRegistry;
use paas_domain::{AppId, Digest, outside_name};
use paas_ports::{ImagePlan, ImageRef, LayerSource, PlannedLayer, PortError, Registry as _};
use sha2::Digest as _;
use tokio::io::AsyncRead;

use crate::cell::{Said, Story, Ways};

/// Of a layer: it goes in two parts and a rest.
const LAYER: usize = 150 << 10;
const PART: u64 = 64 << 10;

enum Act {
    Push,
    Remove,
    List,
    Destroy,
}

pub(super) struct Images {
    account: Aws,
    server: Aws,
    cache: tempfile::TempDir,
    driver: Mutex<Arc<EcrRegistry>>,
    app: AppId,
    other: AppId,
    image: Image,
    act: Act,
    listed: Mutex<Vec<ImageRef>>,
}

/// An image of one layer.
struct Image {
    plan: ImagePlan,
    layer: Bytes,
}

#[async_trait]
impl LayerSource for Image {
    async fn open(&self, _: &Digest) -> Result<Box<dyn AsyncRead + Send + Unpin>, PortError> {
        Ok(Box::new(std::io::Cursor::new(self.layer.clone())))
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}").parse().expect("a digest")
}

impl Image {
    fn random() -> Self {
        let mut bytes = vec![0; LAYER];
        getrandom::fill(&mut bytes).expect("random bytes");
        let layer = PlannedLayer { diff_id: digest_of(&bytes), size: LAYER as u64 };
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [&layer.diff_id]},
        });
        Self { plan: ImagePlan { config: config.to_string().into(), layers: vec![layer] }, layer: bytes.into() }
    }

    fn name(&self) -> ImageRef {
        ImageRef(digest_of(&self.plan.config))
    }
}

async fn of(ways: &Arc<Ways>, act: Act) -> Images {
    let foundation = ways.foundation();
    let cache = tempfile::tempdir().expect("a folder");
    let server = ways.server(&foundation);
    let driver = Mutex::new(Arc::new(registry(&server, &cache)));
    Images {
        account: ways.account(&foundation),
        server,
        cache,
        driver,
        app: AppId::new(),
        other: AppId::new(),
        image: Image::random(),
        act,
        listed: Mutex::default(),
    }
}

fn registry(aws: &Aws, cache: &tempfile::TempDir) -> EcrRegistry {
    EcrRegistry::new(aws.clone(), cache.path().to_owned()).expect("a registry").with_chunk_bytes(PART)
}

pub(super) async fn pushed(ways: &Arc<Ways>) -> Images {
    of(ways, Act::Push).await
}

/// Another app has the layer.
pub(super) async fn mounted(ways: &Arc<Ways>) -> Images {
    let story = of(ways, Act::Push).await;
    story.push_by_account(&story.other).await;
    story
}

pub(super) async fn removed(ways: &Arc<Ways>) -> Images {
    there(ways, Act::Remove).await
}

pub(super) async fn listed(ways: &Arc<Ways>) -> Images {
    there(ways, Act::List).await
}

pub(super) async fn destroyed(ways: &Arc<Ways>) -> Images {
    there(ways, Act::Destroy).await
}

/// The repository is there, and this process has not seen it.
pub(super) async fn known(ways: &Arc<Ways>) -> Images {
    there(ways, Act::Push).await
}

async fn there(ways: &Arc<Ways>, act: Act) -> Images {
    let story = of(ways, act).await;
    story.push_by_account(&story.app).await;
    story
}

impl Images {
    async fn push_by_account(&self, app: &AppId) {
        let registry = registry(&self.account, &self.cache);
        registry.push(app, &self.image.plan, &self.image).await.expect("pushed");
    }

    /// The tags in the app's repository; `None` when there is none.
    async fn tags(&self) -> Option<Vec<String>> {
        let name = outside_name(&self.account.install, &self.app, "img");
        let found = self.account.ecr.list_images().repository_name(name).send().await.ok()?;
        Some(found.image_ids().iter().filter_map(|id| id.image_tag().map(str::to_owned)).collect())
    }
}

#[async_trait]
impl Story for Images {
    async fn act(&self) -> Result<(), Said> {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match self.act {
            Act::Push => {
                let pushed = driver.push(&self.app, &self.image.plan, &self.image).await?;
                assert_eq!(pushed, self.image.name());
            }
            Act::Remove => driver.remove(&self.app, &self.image.name()).await?,
            Act::List => {
                let listed = driver.list(&self.app).await?;
                *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = listed;
            }
            Act::Destroy => driver.remove_app(&self.app).await?,
        }
        Ok(())
    }

    fn restart(&self) {
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(registry(&self.server, &self.cache));
    }

    async fn wrong(&self) -> Option<String> {
        let (tags, image) = (self.tags().await, self.image.name());
        let holds = match self.act {
            Act::Push => {
                let whole = registry(&self.account, &tempfile::tempdir().expect("a folder"));
                let resolved = whole.resolve(&self.app, &image).await.expect("an answer");
                resolved && tags.as_deref() == Some(&[image.0.hex().to_owned()])
            }
            Act::Remove => tags.as_deref() == Some(&[]),
            Act::List => *self.listed.lock().unwrap_or_else(PoisonError::into_inner) == [image],
            Act::Destroy => tags.is_none(),
        };
        (!holds).then(|| format!("the repository has {tags:?}"))
    }

    async fn end(&self) {
        for app in [&self.app, &self.other] {
            let name = outside_name(&self.account.install, app, "img");
            let _ = self.account.ecr.delete_repository().repository_name(name).force(true).send().await;
        }
    }
}
