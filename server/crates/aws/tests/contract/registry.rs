//! The registry's promises on Amazon ECR, and what its own protocol adds to them.

mod base_layers;
mod proxy;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use paas_aws::ecr::EcrRegistry;
use paas_aws::{Aws, AwsOptions, ImageNames};
use paas_domain::{AppId, Digest, InstallId};
use paas_ports::contract::registry::RegistryBench;
use paas_ports::{ImagePlan, LayerSource, PlannedLayer, PortError, Registry};
use proxy::Proxy;
use sha2::Digest as _;
use tokio::io::AsyncRead;

use crate::support;

struct EcrBench {
    aws: Aws,
    cache: tempfile::TempDir,
    registry: Arc<EcrRegistry>,
    other: Arc<EcrRegistry>,
}

fn driver(aws: &Aws, cache: &tempfile::TempDir) -> EcrRegistry {
    EcrRegistry::new(aws.clone(), cache.path().join(aws.install.as_str())).expect("a registry")
}

impl EcrBench {
    /// One whose registry is at this address.
    async fn by(registry: String) -> Self {
        let (install, cache) = (InstallId::random(), tempfile::tempdir().expect("a folder"));
        let options = AwsOptions { registry: Some(registry), ..support::options() };
        let aws = Aws::new(options, support::foundation(&install), install.clone()).await;
        let registry = Arc::new(driver(&aws, &cache).with_chunk_bytes(256 * 1024));
        let other = Arc::new(driver(&support::account(&InstallId::random()).await, &cache));
        Self { aws, cache, registry, other }
    }
}

#[async_trait]
impl RegistryBench for EcrBench {
    async fn start() -> Self {
        Self::by(support::registry()).await
    }

    fn registry(&self) -> Arc<dyn Registry> {
        self.registry.clone()
    }

    fn other_installation(&self) -> Option<Arc<dyn Registry>> {
        Some(self.other.clone())
    }

    async fn finish(&self) {
        let prefix = format!("paas-{}-", self.aws.install);
        let found = self.aws.ecr.describe_repositories().send().await.expect("a list");
        let ours = found.repositories().iter().filter_map(|repository| repository.repository_name());
        for name in ours.filter(|name| name.starts_with(&prefix)) {
            self.aws.ecr.delete_repository().repository_name(name).force(true).send().await.expect("removed");
        }
    }
}

mod ecr {
    use super::EcrBench;

    paas_ports::registry_contract!(EcrBench);
}

/// An image of random layers.
struct Image {
    plan: ImagePlan,
    layers: HashMap<Digest, Bytes>,
}

fn digest_of(bytes: &[u8]) -> Digest {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}").parse().expect("a digest")
}

impl Image {
    /// Layers of these sizes that do not compress.
    fn random(sizes: &[usize]) -> Self {
        let mut layers = Vec::new();
        for size in sizes {
            let mut bytes = vec![0; *size];
            getrandom::fill(&mut bytes).expect("random bytes");
            layers.push(Bytes::from(bytes));
        }
        let planned: Vec<_> =
            layers.iter().map(|l| PlannedLayer { diff_id: digest_of(l), size: l.len() as u64 }).collect();
        let ids: Vec<_> = planned.iter().map(|layer| &layer.diff_id).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let layers = planned.iter().map(|layer| layer.diff_id.clone()).zip(layers).collect();
        Self { plan: ImagePlan { config: config.to_string().into(), layers: planned }, layers }
    }
}

#[async_trait]
impl LayerSource for Image {
    async fn open(&self, diff_id: &Digest) -> Result<Box<dyn AsyncRead + Send + Unpin>, PortError> {
        let bytes = self.layers.get(diff_id).cloned().ok_or_else(|| PortError::NotFound(diff_id.to_string()))?;
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }
}

/// A driver whose requests go through a proxy.
async fn through_proxy() -> (EcrBench, Proxy) {
    let proxy = Proxy::start(support::registry()).await;
    (EcrBench::by(proxy.address()).await, proxy)
}

/// A part whose connection breaks is the only one that is sent again, and the image is whole.
#[tokio::test]
async fn an_upload_that_broke_goes_on() {
    let (bench, proxy) = through_proxy().await;
    let (app, image) = (AppId::new(), Image::random(&[2 << 20]));
    proxy.break_nth("PATCH ", 2);
    let pushed = bench.registry.push(&app, &image.plan, &image).await.expect("pushed");
    assert!(bench.registry.resolve(&app, &pushed).await.expect("an answer"));
    // 2 MiB and gzip's head in parts of a quarter: eight, one of them twice, then the rest.
    assert_eq!((proxy.count("PATCH "), proxy.count("GET /v2/")), (9, 1));
    bench.finish().await;
}

/// An answer that is lost costs no second upload.
#[tokio::test]
async fn a_lost_answer_costs_nothing() {
    let (bench, proxy) = through_proxy().await;
    let (app, image) = (AppId::new(), Image::random(&[100 << 10]));
    proxy.lose_answer("PUT /v2/", 1);
    bench.registry.push(&app, &image.plan, &image).await.expect("pushed");
    // The config, the layer, the manifest.
    assert_eq!(proxy.count("PUT /v2/"), 3);
    bench.finish().await;
}

/// A second image that shares layers sends only what is new; the same image in another repository nothing but its
/// config and manifest.
#[tokio::test]
async fn no_blob_is_sent_twice() {
    let (bench, proxy) = through_proxy().await;
    let (app, other, first) = (AppId::new(), AppId::new(), Image::random(&[50 << 10, 60 << 10, 70 << 10]));
    bench.registry.push(&app, &first.plan, &first).await.expect("pushed");
    assert_eq!(proxy.count("PUT /v2/"), 3 + 2);
    bench.registry.push(&other, &first.plan, &first).await.expect("pushed");
    assert_eq!(proxy.count("PUT /v2/"), 5 + 2);
    // A new process with the same cache, and a changed top.
    let mut second = Image::random(&[10 << 10]);
    second.plan.layers.splice(0..0, first.plan.layers[..2].to_vec());
    let ids: Vec<_> = second.plan.layers.iter().map(|layer| &layer.diff_id).collect();
    let config =
        serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
    second.plan.config = config.to_string().into();
    let again = driver(&bench.aws, &bench.cache);
    again.push(&app, &second.plan, &second).await.expect("pushed");
    assert_eq!(proxy.count("PUT /v2/"), 7 + 3);
    bench.finish().await;
}

/// Two pushes of one image from two caches end in one manifest, by which it is pinned.
#[tokio::test]
async fn an_image_is_pinned_by_its_manifest() {
    let bench = EcrBench::start().await;
    let (app, image) = (AppId::new(), Image::random(&[20 << 10, 30 << 10]));
    let pushed = bench.registry.push(&app, &image.plan, &image).await.expect("pushed");
    let pinned = bench.registry.pinned(&app, &pushed).await.expect("a name");
    let repository = paas_domain::outside_name(&bench.aws.install, &app, "img");
    let host = format!("{}.dkr.ecr.{}.amazonaws.com", bench.aws.foundation.account_id, bench.aws.foundation.region);
    let digest = pinned.strip_prefix(&format!("{host}/{repository}@")).expect("host and repository");
    digest.parse::<Digest>().expect("a digest");
    assert_ne!(digest, pushed.0.as_str());

    let elsewhere = tempfile::tempdir().expect("a folder");
    let other = driver(&bench.aws, &elsewhere);
    assert_eq!(other.pinned(&app, &pushed).await.expect("a name"), pinned);
    bench.registry.remove_app(&app).await.expect("removed");
    other.push(&app, &image.plan, &image).await.expect("pushed again");
    assert_eq!(other.pinned(&app, &pushed).await.expect("a name"), pinned, "the same bytes wherever it is made");
    let missing = bench.registry.pinned(&AppId::new(), &pushed).await.expect_err("no such image");
    assert!(matches!(missing, PortError::NotFound(_)), "{missing}");
    bench.finish().await;
}

/// Layers are compressed and sent at the same time.
#[tokio::test]
async fn layers_are_sent_side_by_side() {
    let (bench, proxy) = through_proxy().await;
    let image = Image::random(&[150 << 10, 150 << 10, 150 << 10, 150 << 10]);
    proxy.slow_down("PUT /v2/", std::time::Duration::from_millis(1_500));
    bench.registry.push(&AppId::new(), &image.plan, &image).await.expect("pushed");
    assert!(proxy.most_at_once() >= 3, "{} at once", proxy.most_at_once());
    bench.finish().await;
}

/// A repository of our name without our tag is neither used nor removed.
#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let bench = EcrBench::start().await;
    let (app, image) = (AppId::new(), Image::random(&[1 << 10]));
    let name = paas_domain::outside_name(&bench.aws.install, &app, "img");
    bench.aws.ecr.create_repository().repository_name(&name).send().await.expect("made");
    let refused = bench.registry.push(&app, &image.plan, &image).await.expect_err("refused");
    assert!(!refused.is_transient() && refused.to_string().contains("this installation's tag"), "{refused}");
    bench.registry.remove_app(&app).await.expect_err("refused");
    assert!(!bench.registry.apps().await.expect("a list").contains(&app));
    bench.aws.ecr.delete_repository().repository_name(&name).send().await.expect("still there");
}
