//! Uploads of source archives (`POST /apps/:app/sources`), opened by a token.

use paas_domain::{AppId, JobId, Timestamp};

use crate::row::args;
use crate::{AppScope, StoreError, Uow};

/// A place for one uploaded archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its id: the name of the object that holds the archive.
    pub id: String,
    /// Whose.
    pub app: AppId,
    /// Whether something was uploaded.
    pub uploaded: bool,
}

impl Uow {
    /// Makes a place for one archive that can be filled until `expires_at`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_source(
        &mut self,
        of: &AppScope,
        token_hash: &str,
        expires_at: Timestamp,
    ) -> Result<Source, StoreError> {
        let id = JobId::new().to_string();
        let sql = "INSERT INTO sources (id, app, token_hash, uploaded, expires_at) VALUES ($1, $2, $3, 0, $4)";
        self.execute(sql, args![id.as_str(), of.id(), token_hash, expires_at]).await?;
        Ok(Source { id, app: of.id().clone(), uploaded: false })
    }

    /// The place that a token opens, while it is good.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn source_by_token(&mut self, token_hash: &str, now: Timestamp) -> Result<Option<Source>, StoreError> {
        let sql = "SELECT id, app, uploaded FROM sources WHERE token_hash = $1 AND expires_at > $2";
        let Some(mut row) = self.row(sql, args![token_hash, now]).await? else { return Ok(None) };
        Ok(Some(Source { id: row.text()?, app: row.parse()?, uploaded: row.bool()? }))
    }

    /// Marks that the archive is there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn mark_source_uploaded(&mut self, source: &Source) -> Result<(), StoreError> {
        self.execute("UPDATE sources SET uploaded = 1 WHERE id = $1", args![source.id.as_str()]).await?;
        Ok(())
    }
}
