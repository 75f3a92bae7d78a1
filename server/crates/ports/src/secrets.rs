//! Where a dyno's config is kept while a definition of it may be started: one immutable secret per version.
//!
//! Only a platform whose definitions can be read by others needs this (ECS). On the local platform the rows
//! are sealed and the engine is ours, so it has no driver.

use async_trait::async_trait;
use paas_domain::{AppId, ConfigId, DynoId};

use crate::PortError;

/// Which secret of an app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretKey {
    /// A version of its config vars.
    Config(ConfigId),
    /// The config of one one-off dyno, whose request brought some vars of its own.
    Dyno(DynoId),
}

/// What a dyno definition names: environment variables, and where the platform reads the value of each.
/// Holds no value itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVars(pub Vec<(String, String)>);

/// Keeps config.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// Keeps `vars` under `key`, and says how a definition names each of them, in the order given. A key is
    /// written once: what is there already stays as it is, and the answer is the same every time.
    ///
    /// Values arrive byte for byte, however long they are together.
    async fn ensure(&self, app: &AppId, key: &SecretKey, vars: &[(String, String)]) -> Result<SecretVars, PortError>;

    /// The keys that this app has.
    async fn list(&self, app: &AppId) -> Result<Vec<SecretKey>, PortError>;

    /// Removes one. Succeeds when there is none.
    async fn remove(&self, app: &AppId, key: &SecretKey) -> Result<(), PortError>;

    /// Removes every one of this app. Succeeds when there is none.
    async fn remove_app(&self, app: &AppId) -> Result<(), PortError>;

    /// Every app that has one, for the collection of what no row names any more.
    async fn apps(&self) -> Result<Vec<AppId>, PortError>;
}
