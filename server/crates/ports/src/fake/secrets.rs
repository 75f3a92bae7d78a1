//! Secrets in memory. Outlives the server under test, and reads values back as the platform would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use paas_domain::AppId;

use crate::{PortError, SecretKey, SecretVars, Secrets, outside};

/// What the fake keeps. Shared by every [`FakeSecrets`] made of it.
#[derive(Default)]
pub struct FakeVault {
    kept: Mutex<Kept>,
}

type Kept = BTreeMap<(AppId, SecretKey), Vec<(String, String)>>;

impl FakeVault {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The value behind what a definition names; `None` when its secret is gone.
    #[must_use]
    pub fn read(&self, reference: &str) -> Option<String> {
        let kept = self.lock();
        let (secret, name) = reference.rsplit_once(':')?;
        let (_, vars) = kept.iter().find(|((app, key), _)| reference_of(app, key) == secret)?;
        vars.iter().find(|(var, _)| var == name).map(|(_, value)| value.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [`Secrets`] in memory.
#[derive(Clone)]
pub struct FakeSecrets(pub Arc<FakeVault>);

fn reference_of(app: &AppId, key: &SecretKey) -> String {
    match key {
        SecretKey::Config(id) => format!("fake-secret/{app}/config/{id}"),
        SecretKey::Dyno(id) => format!("fake-secret/{app}/dyno/{id}"),
    }
}

#[async_trait]
impl Secrets for FakeSecrets {
    async fn ensure(&self, app: &AppId, key: &SecretKey, vars: &[(String, String)]) -> Result<SecretVars, PortError> {
        outside::check("Secrets::ensure");
        self.0.lock().entry((app.clone(), key.clone())).or_insert_with(|| vars.to_vec());
        let secret = reference_of(app, key);
        Ok(SecretVars(vars.iter().map(|(name, _)| (name.clone(), format!("{secret}:{name}"))).collect()))
    }

    async fn list(&self, app: &AppId) -> Result<Vec<SecretKey>, PortError> {
        outside::check("Secrets::list");
        Ok(self.0.lock().keys().filter(|(owner, _)| owner == app).map(|(_, key)| key.clone()).collect())
    }

    async fn remove(&self, app: &AppId, key: &SecretKey) -> Result<(), PortError> {
        outside::check("Secrets::remove");
        self.0.lock().remove(&(app.clone(), key.clone()));
        Ok(())
    }

    async fn remove_app(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Secrets::remove_app");
        self.0.lock().retain(|(owner, _), _| owner != app);
        Ok(())
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Secrets::apps");
        let mut apps: Vec<AppId> = self.0.lock().keys().map(|(app, _)| app.clone()).collect();
        apps.dedup();
        Ok(apps)
    }
}
