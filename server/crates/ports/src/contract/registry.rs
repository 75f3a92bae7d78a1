//! What every registry promises.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, Digest};
use tokio::io::AsyncRead;

use crate::fake::registry::digest_of;
use crate::{ImagePlan, ImageRef, LayerSource, PlannedLayer, PortError, Registry};

/// A registry and the world around it.
#[async_trait]
pub trait RegistryBench: Send + Sync + Sized + 'static {
    /// An empty one.
    async fn start() -> Self;
    /// The driver.
    fn registry(&self) -> Arc<dyn Registry>;
    /// Another driver of the same store, that belongs to another installation.
    fn other_installation(&self) -> Option<Arc<dyn Registry>>;
    /// Removes what the promises left.
    async fn finish(&self);
}

/// Every promise, as tests for one bench.
#[macro_export]
macro_rules! registry_contract {
    ($bench:ty) => {
        $crate::contract_tests!(
            registry,
            RegistryBench,
            $bench,
            [
                pushed_twice_equals_once,
                only_missing_layers_are_sent,
                an_image_that_is_there_is_only_held,
                unknown_is_not_resolved,
                removing_leaves_the_images_of_others,
                removing_one_image_leaves_the_app_its_others,
                removing_an_app_removes_all_it_holds,
                whoever_holds_an_image_is_listed,
                what_was_removed_can_be_pushed_again,
                wrong_layer_bytes_are_refused,
                a_config_of_other_layers_is_refused,
                installations_never_meet,
            ]
        );
    };
}

/// An image of which each layer is a tar with one file, and that counts which layers were read.
struct Sample {
    plan: ImagePlan,
    layers: HashMap<Digest, Bytes>,
    read: Mutex<Vec<Digest>>,
}

impl Sample {
    /// One layer per word; `name` makes the config differ.
    fn new(name: &str, words: &[&str]) -> Self {
        let tars: Vec<Bytes> = words.iter().map(|word| tar_of(&format!("{word}.txt"), word.as_bytes())).collect();
        let planned: Vec<PlannedLayer> =
            tars.iter().map(|t| PlannedLayer { diff_id: digest_of(t), size: t.len() as u64 }).collect();
        let ids: Vec<&str> = planned.iter().map(|layer| layer.diff_id.as_str()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "created": "1980-01-01T00:00:01Z",
            "config": {"Labels": {"sample": name}, "Entrypoint": ["/paas/launcher"]},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        let layers = planned.iter().map(|layer| layer.diff_id.clone()).zip(tars).collect();
        Self { plan: ImagePlan { config: config.to_string().into(), layers: planned }, layers, read: Mutex::default() }
    }

    fn id(&self) -> ImageRef {
        ImageRef(digest_of(&self.plan.config))
    }

    fn read(&self) -> Vec<Digest> {
        self.read.lock().map(|read| read.clone()).unwrap_or_default()
    }
}

#[async_trait]
impl LayerSource for Sample {
    async fn open(&self, diff_id: &Digest) -> Result<Box<dyn AsyncRead + Send + Unpin>, PortError> {
        let bytes = self.layers.get(diff_id).cloned().ok_or_else(|| PortError::NotFound(diff_id.to_string()))?;
        if let Ok(mut read) = self.read.lock() {
            read.push(diff_id.clone());
        }
        Ok(Box::new(std::io::Cursor::new(bytes)))
    }
}

/// A tar archive of one file.
pub(crate) fn tar_of(name: &str, content: &[u8]) -> Bytes {
    let mut header = [0_u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar.into()
}

fn word() -> String {
    AppId::new().to_string()
}

/// Pushing an image again changes nothing and answers the same; the id is the config's digest.
pub async fn pushed_twice_equals_once(bench: &impl RegistryBench) {
    let (registry, app, word) = (bench.registry(), AppId::new(), word());
    let sample = Sample::new(&word, &[&word, "upper"]);
    let first = registry.push(&app, &sample.plan, &sample).await.expect("pushed");
    assert_eq!(first, sample.id());
    assert_eq!(registry.push(&app, &sample.plan, &sample).await.expect("pushed again"), first);
    assert_eq!(registry.list(&app).await.expect("a list"), std::slice::from_ref(&first));
    assert!(registry.resolve(&app, &first).await.expect("an answer"));
}

/// Of an image whose lower layers are there, only the upper ones are read.
pub async fn only_missing_layers_are_sent(bench: &impl RegistryBench) {
    let (registry, app, word) = (bench.registry(), AppId::new(), word());
    let first = Sample::new("first", &[&word, "middle"]);
    registry.push(&app, &first.plan, &first).await.expect("pushed");
    let second = Sample::new("second", &[&word, "middle", &format!("top-{word}")]);
    registry.push(&app, &second.plan, &second).await.expect("pushed");
    assert_eq!(second.read(), [second.plan.layers[2].diff_id.clone()]);
    let mut both = vec![first.id(), second.id()];
    both.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(registry.list(&app).await.expect("a list"), both);
}

/// An image that one app pushed costs another app no byte.
pub async fn an_image_that_is_there_is_only_held(bench: &impl RegistryBench) {
    let (registry, word) = (bench.registry(), word());
    let sample = Sample::new(&word, &[&word]);
    registry.push(&AppId::new(), &sample.plan, &sample).await.expect("pushed");
    let before = sample.read().len();
    let other = AppId::new();
    registry.push(&other, &sample.plan, &sample).await.expect("pushed");
    assert_eq!(sample.read().len(), before);
    assert!(registry.resolve(&other, &sample.id()).await.expect("an answer"));
}

/// What was never pushed is not there, and neither is another app's image.
pub async fn unknown_is_not_resolved(bench: &impl RegistryBench) {
    let (registry, app, word) = (bench.registry(), AppId::new(), word());
    let sample = Sample::new(&word, &[&word]);
    assert!(!registry.resolve(&app, &sample.id()).await.expect("an answer"));
    assert!(registry.list(&app).await.expect("a list").is_empty());
    registry.push(&AppId::new(), &sample.plan, &sample).await.expect("pushed");
    assert!(!registry.resolve(&app, &sample.id()).await.expect("an answer"));
    registry.remove(&app, &sample.id()).await.expect("removing nothing succeeds");
    registry.remove_app(&app).await.expect("removing nothing succeeds");
}

/// Letting go of an image that two apps hold leaves it to the other one.
pub async fn removing_leaves_the_images_of_others(bench: &impl RegistryBench) {
    let (registry, one, two, word) = (bench.registry(), AppId::new(), AppId::new(), word());
    let sample = Sample::new(&word, &[&word]);
    for app in [&one, &two] {
        registry.push(app, &sample.plan, &sample).await.expect("pushed");
    }
    registry.remove(&one, &sample.id()).await.expect("removed");
    registry.remove(&one, &sample.id()).await.expect("removed again");
    assert!(!registry.resolve(&one, &sample.id()).await.expect("an answer"));
    assert!(registry.resolve(&two, &sample.id()).await.expect("an answer"));
}

/// An image that goes takes nothing of the others with it, shared layers least of all; it can come back.
pub async fn removing_one_image_leaves_the_app_its_others(bench: &impl RegistryBench) {
    let (registry, app, word) = (bench.registry(), AppId::new(), word());
    let samples = ["old", "failed", "new"].map(|name| Sample::new(name, &[&word, &format!("{name}-{word}")]));
    for sample in &samples {
        registry.push(&app, &sample.plan, sample).await.expect("pushed");
    }
    let [old, failed, new] = &samples;
    registry.remove(&app, &failed.id()).await.expect("removed");
    let mut left = vec![old.id(), new.id()];
    left.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(registry.list(&app).await.expect("a list"), left);
    for kept in [old, new] {
        assert!(registry.resolve(&app, &kept.id()).await.expect("an answer"));
        assert_eq!(registry.push(&app, &kept.plan, kept).await.expect("it is there"), kept.id());
    }
    assert!(!registry.resolve(&app, &failed.id()).await.expect("an answer"));
    assert_eq!(registry.push(&app, &failed.plan, failed).await.expect("pushed again"), failed.id());
    assert!(registry.resolve(&app, &failed.id()).await.expect("an answer"));
}

/// Everything an app holds goes with it, and nothing else.
pub async fn removing_an_app_removes_all_it_holds(bench: &impl RegistryBench) {
    let (registry, one, two, word) = (bench.registry(), AppId::new(), AppId::new(), word());
    for name in ["a", "b", "c"] {
        let sample = Sample::new(name, &[&word, name]);
        registry.push(&one, &sample.plan, &sample).await.expect("pushed");
        registry.push(&two, &sample.plan, &sample).await.expect("pushed");
    }
    registry.remove_app(&one).await.expect("removed");
    assert!(registry.list(&one).await.expect("a list").is_empty());
    assert_eq!(registry.list(&two).await.expect("a list").len(), 3);
}

/// Apps that hold an image are found without knowing them, each once, until they are removed; apps of another
/// installation never.
pub async fn whoever_holds_an_image_is_listed(bench: &impl RegistryBench) {
    let (registry, one, two, word) = (bench.registry(), AppId::new(), AppId::new(), word());
    let listed = async |registry: &Arc<dyn Registry>| -> Vec<AppId> {
        let apps = registry.apps().await.expect("a list");
        apps.into_iter().filter(|app| [&one, &two].contains(&app)).collect()
    };
    assert!(listed(&registry).await.is_empty());
    for name in ["a", "b"] {
        let sample = Sample::new(name, &[&word, name]);
        registry.push(&one, &sample.plan, &sample).await.expect("pushed");
        registry.push(&two, &sample.plan, &sample).await.expect("pushed");
    }
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    let mut found = listed(&registry).await;
    found.sort();
    assert_eq!(found, both);
    if let Some(other) = bench.other_installation() {
        assert!(listed(&other).await.is_empty(), "another installation has other apps");
    }
    registry.remove_app(&one).await.expect("removed");
    assert_eq!(listed(&registry).await, std::slice::from_ref(&two));
    registry.remove_app(&two).await.expect("removed");
    assert!(listed(&registry).await.is_empty());
}

/// After everything was removed, a push sends all layers and succeeds: nothing believes in what is gone.
pub async fn what_was_removed_can_be_pushed_again(bench: &impl RegistryBench) {
    let (registry, app, word) = (bench.registry(), AppId::new(), word());
    let sample = Sample::new(&word, &[&word, &format!("up-{word}")]);
    registry.push(&app, &sample.plan, &sample).await.expect("pushed");
    registry.remove_app(&app).await.expect("removed");
    let before = sample.read().len();
    registry.push(&app, &sample.plan, &sample).await.expect("pushed again");
    assert_eq!(sample.read().len() - before, 2);
    assert!(registry.resolve(&app, &sample.id()).await.expect("an answer"));
}

/// A layer whose bytes are not what its digest says is refused, and nothing is stored.
pub async fn wrong_layer_bytes_are_refused(bench: &impl RegistryBench) {
    let (registry, app, word) = (bench.registry(), AppId::new(), word());
    let mut sample = Sample::new(&word, &[&word]);
    let planned = sample.plan.layers[0].clone();
    let forged = tar_of(&format!("{word}.txt"), word.to_uppercase().as_bytes());
    assert_eq!(forged.len() as u64, planned.size);
    sample.layers.insert(planned.diff_id, forged);
    let refused = registry.push(&app, &sample.plan, &sample).await.expect_err("refused");
    assert!(!refused.is_transient(), "{refused}");
    assert!(!registry.resolve(&app, &sample.id()).await.expect("an answer"));
    assert!(registry.list(&app).await.expect("a list").is_empty());
}

/// A plan whose config lists other layers is refused.
pub async fn a_config_of_other_layers_is_refused(bench: &impl RegistryBench) {
    let (registry, app, word) = (bench.registry(), AppId::new(), word());
    let mut sample = Sample::new(&word, &[&word, "second"]);
    sample.plan.layers.truncate(1);
    registry.push(&app, &sample.plan, &sample).await.expect_err("refused");
    assert!(registry.list(&app).await.expect("a list").is_empty());
}

/// Two installations on one store do not see each other's images, of the same app id even.
pub async fn installations_never_meet(bench: &impl RegistryBench) {
    let Some(other) = bench.other_installation() else { return };
    let (registry, app, word) = (bench.registry(), AppId::new(), word());
    let sample = Sample::new(&word, &[&word]);
    registry.push(&app, &sample.plan, &sample).await.expect("pushed");
    assert!(!other.resolve(&app, &sample.id()).await.expect("an answer"));
    other.remove_app(&app).await.expect("nothing to remove");
    assert!(registry.resolve(&app, &sample.id()).await.expect("an answer"));
}
