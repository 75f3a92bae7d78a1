//! Secrets in memory. Outlives the server under test, and reads values back as the platform would.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use paas_domain::AppId;

use crate::{PortError, SecretKey, SecretVars, Secrets, outside};

/// What the fake keeps. Shared by every [`FakeSecrets`] made of it.
#[derive(Default)]
pub struct FakeVault {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: BTreeMap<(AppId, SecretKey), Vec<(String, String)>>,
    failures: HashMap<&'static str, usize>,
}

impl FakeVault {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The value behind what a definition names; `None` when its secret is gone.
    #[must_use]
    pub fn read(&self, reference: &str) -> Option<String> {
        let state = self.lock();
        let (secret, name) = reference.rsplit_once(':')?;
        let (_, vars) = state.kept.iter().find(|((app, key), _)| reference_of(app, key) == secret)?;
        vars.iter().find(|(var, _)| var == name).map(|(_, value)| value.clone())
    }

    /// Makes the next `times` calls of this method (`"ensure"`, `"remove"`, …) fail as an outage would.
    pub fn fail_next(&self, method: &'static str, times: usize) {
        self.lock().failures.insert(method, times);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, method: &'static str) -> Result<MutexGuard<'_, State>, PortError> {
        let mut state = self.lock();
        if let Some(left) = state.failures.get_mut(method).filter(|left| **left > 0) {
            *left -= 1;
            return Err(PortError::transient(format!("secrets: {method}"), "told to fail"));
        }
        Ok(state)
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
        let mut state = self.0.enter("ensure")?;
        state.kept.entry((app.clone(), key.clone())).or_insert_with(|| vars.to_vec());
        let secret = reference_of(app, key);
        Ok(SecretVars(vars.iter().map(|(name, _)| (name.clone(), format!("{secret}:{name}"))).collect()))
    }

    async fn list(&self, app: &AppId) -> Result<Vec<SecretKey>, PortError> {
        outside::check("Secrets::list");
        let state = self.0.enter("list")?;
        Ok(state.kept.keys().filter(|(owner, _)| owner == app).map(|(_, key)| key.clone()).collect())
    }

    async fn remove(&self, app: &AppId, key: &SecretKey) -> Result<(), PortError> {
        outside::check("Secrets::remove");
        self.0.enter("remove")?.kept.remove(&(app.clone(), key.clone()));
        Ok(())
    }

    async fn remove_app(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("Secrets::remove_app");
        self.0.enter("remove_app")?.kept.retain(|(owner, _), _| owner != app);
        Ok(())
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("Secrets::apps");
        let state = self.0.enter("apps")?;
        let mut apps: Vec<AppId> = state.kept.keys().map(|(app, _)| app.clone()).collect();
        apps.dedup();
        Ok(apps)
    }
}
