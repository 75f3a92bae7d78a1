//! A registry in memory. Keeps layer bytes, checks every digest, counts what was sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use paas_domain::{AppId, Digest};
use sha2::Digest as _;
use tokio::io::AsyncReadExt as _;

use crate::{ImagePlan, ImageRef, LayerSource, PortError, Registry, outside};

/// What the fake registry holds. Shared by every [`FakeRegistry`] made of it: it survives a server's restart.
#[derive(Default)]
pub struct FakeImages {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    layers: HashMap<Digest, Bytes>,
    images: BTreeMap<String, (Bytes, Vec<Digest>)>,
    holds: BTreeSet<(AppId, String)>,
    sent: Vec<Digest>,
    failures: HashMap<&'static str, usize>,
    refused: HashMap<&'static str, String>,
}

/// A [`Registry`] in memory.
#[derive(Clone)]
pub struct FakeRegistry {
    world: Arc<FakeImages>,
}

impl FakeRegistry {
    /// A driver of this world.
    #[must_use]
    pub fn new(world: Arc<FakeImages>) -> Self {
        Self { world }
    }
}

impl FakeImages {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Every layer that was ever sent, in order; one that was sent twice is there twice.
    #[must_use]
    pub fn sent(&self) -> Vec<Digest> {
        self.lock().sent.clone()
    }

    /// The images that are stored for any app.
    #[must_use]
    pub fn images(&self) -> Vec<ImageRef> {
        self.lock().images.keys().filter_map(|id| id.parse().ok().map(ImageRef)).collect()
    }

    /// The config of a stored image.
    #[must_use]
    pub fn config(&self, image: &ImageRef) -> Option<Bytes> {
        self.lock().images.get(image.0.as_str()).map(|(config, _)| config.clone())
    }

    /// Puts a layer there without counting it as sent: the base that an engine has.
    pub fn have_layer(&self, diff_id: Digest, bytes: Bytes) {
        self.lock().layers.insert(diff_id, bytes);
    }

    /// Makes the next `times` calls of this method (`"push"`, `"resolve"`, …) fail as an outage would.
    pub fn fail_next(&self, method: &'static str, times: usize) {
        self.lock().failures.insert(method, times);
    }

    /// Makes every call of this method fail for good, for this cause, until [`Self::allow`].
    pub fn refuse(&self, method: &'static str, cause: &str) {
        self.lock().refused.insert(method, cause.to_owned());
    }

    /// Ends [`Self::refuse`].
    pub fn allow(&self, method: &'static str) {
        self.lock().refused.remove(method);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, method: &'static str) -> Result<(), PortError> {
        if let Some(cause) = self.lock().refused.get(method) {
            return Err(PortError::permanent(format!("registry {method}"), cause));
        }
        match self.lock().failures.get_mut(method) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(PortError::transient(format!("registry {method}"), "the fake registry was told to fail"))
            }
            _ => Ok(()),
        }
    }
}

/// The digest of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    // Sixty-four lower-case hexadecimal digits are a digest.
    format!("sha256:{hex}").parse().unwrap_or_else(|_| unreachable!("a sha256 sum is a digest"))
}

#[async_trait]
impl Registry for FakeRegistry {
    async fn push(&self, app: &AppId, plan: &ImagePlan, layers: &dyn LayerSource) -> Result<ImageRef, PortError> {
        outside::check("Registry::push");
        self.world.enter("push")?;
        let id = digest_of(&plan.config);
        let config: serde_json::Value = serde_json::from_slice(&plan.config).unwrap_or_default();
        let named = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
        if !named.iter().map(|id| id.as_str()).eq(plan.layers.iter().map(|layer| Some(layer.diff_id.as_str()))) {
            return Err(PortError::permanent("pushing the image", "the config names other layers than the plan"));
        }
        if self.world.lock().images.contains_key(id.as_str()) {
            self.world.lock().holds.insert((app.clone(), id.to_string()));
            return Ok(ImageRef(id));
        }
        for layer in &plan.layers {
            if self.world.lock().layers.contains_key(&layer.diff_id) {
                continue;
            }
            let mut bytes = Vec::new();
            let mut reader = layers.open(&layer.diff_id).await?;
            reader.read_to_end(&mut bytes).await.map_err(|e| PortError::transient("reading a layer", e))?;
            if digest_of(&bytes) != layer.diff_id {
                return Err(PortError::permanent("pushing the image", "a layer's bytes do not match its digest"));
            }
            let mut state = self.world.lock();
            state.sent.push(layer.diff_id.clone());
            state.layers.insert(layer.diff_id.clone(), bytes.into());
        }
        let mut state = self.world.lock();
        let diff_ids = plan.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        state.images.insert(id.to_string(), (plan.config.clone(), diff_ids));
        state.holds.insert((app.clone(), id.to_string()));
        Ok(ImageRef(id))
    }

    async fn resolve(&self, app: &AppId, image: &ImageRef) -> Result<bool, PortError> {
        outside::check("Registry::resolve");
        self.world.enter("resolve")?;
        Ok(self.world.lock().holds.contains(&(app.clone(), image.0.to_string())))
    }

    async fn remove(&self, app: &AppId, image: &ImageRef) -> Result<(), PortError> {
        outside::check("Registry::remove");
        self.world.enter("remove")?;
        let mut state = self.world.lock();
        state.holds.remove(&(app.clone(), image.0.to_string()));
        state.collect();
        Ok(())
    }

    async fn list(&self, app: &AppId) -> Result<Vec<ImageRef>, PortError> {
        outside::check("Registry::list");
        self.world.enter("list")?;
        let state = self.world.lock();
        let mine = state.holds.iter().filter(|(holder, _)| holder == app);
        Ok(mine.filter_map(|(_, id)| id.parse().ok().map(ImageRef)).collect())
    }

    async fn remove_app(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Registry::remove_app");
        self.world.enter("remove_app")?;
        let mut state = self.world.lock();
        state.holds.retain(|(holder, _)| holder != app);
        state.collect();
        Ok(())
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Registry::apps");
        self.world.enter("apps")?;
        let apps: BTreeSet<AppId> = self.world.lock().holds.iter().map(|(holder, _)| holder.clone()).collect();
        Ok(apps.into_iter().collect())
    }
}

impl State {
    /// Drops images that nobody holds, and layers that no image has.
    fn collect(&mut self) {
        let held: BTreeSet<&String> = self.holds.iter().map(|(_, id)| id).collect();
        let dropped: Vec<String> = self.images.keys().filter(|id| !held.contains(id)).cloned().collect();
        for id in dropped {
            if let Some((_, diff_ids)) = self.images.remove(&id) {
                let still: BTreeSet<Digest> = self.images.values().flat_map(|(_, layers)| layers.clone()).collect();
                for diff_id in diff_ids.iter().filter(|d| !still.contains(d)) {
                    self.layers.remove(diff_id);
                }
            }
        }
    }
}
