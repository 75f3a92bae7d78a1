//! Config vars: immutable versions, sealed.

use std::collections::BTreeMap;

use paas_domain::{ConfigId, ConfigVars, EnvKey, Timestamp};
use secrecy::SecretString;

use crate::row::args;
use crate::{AppScope, StoreError, Uow};

/// One immutable set of config vars.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigVersion {
    /// Its id.
    pub id: ConfigId,
    /// The vars.
    pub vars: ConfigVars,
}

impl Uow {
    /// Writes a new version. It changes nothing until a release or the app's head names it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_config(
        &mut self,
        of: &AppScope,
        vars: &ConfigVars,
        now: Timestamp,
    ) -> Result<ConfigId, StoreError> {
        let id = ConfigId::new();
        self.insert_config(of, &id, vars, now).await?;
        Ok(id)
    }

    pub(crate) async fn insert_config(
        &mut self,
        of: &AppScope,
        id: &ConfigId,
        vars: &ConfigVars,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sealed = self.seal_vars(id.as_str(), vars)?;
        let sql = "INSERT INTO config_versions (id, app, sealed, created_at) VALUES ($1, $2, $3, $4)";
        self.execute(sql, args![id, of.id(), sealed, now]).await?;
        Ok(())
    }

    /// One version of an app's config vars.
    ///
    /// # Errors
    /// When it is not this app's, or the key does not open it.
    pub async fn config(&mut self, of: &AppScope, id: &ConfigId) -> Result<ConfigVersion, StoreError> {
        let sql = "SELECT sealed FROM config_versions WHERE id = $1 AND app = $2";
        let mut row = self.row(sql, args![id, of.id()]).await?.ok_or(StoreError::NotFound("config version"))?;
        let vars = self.open_vars(id.as_str(), &row.bytes()?)?;
        Ok(ConfigVersion { id: id.clone(), vars })
    }

    pub(crate) fn seal_vars(&self, place: &str, vars: &ConfigVars) -> Result<Vec<u8>, StoreError> {
        let json = serde_json::to_vec(&vars.expose()).map_err(|_| StoreError::Unsealable)?;
        self.key.seal(place, &json)
    }

    pub(crate) fn open_vars(&self, place: &str, sealed: &[u8]) -> Result<ConfigVars, StoreError> {
        let json = self.key.open(place, sealed)?;
        let map: BTreeMap<EnvKey, String> =
            serde_json::from_slice(&json).map_err(|_| StoreError::Corrupt("config version"))?;
        Ok(map.into_iter().map(|(key, value)| (key, SecretString::from(value))).collect())
    }
}
