//! Uploads of source archives (`POST /sources`, `POST /apps/:app/sources`), opened by a token.

use paas_domain::{AccountId, AppId, JobId, Timestamp};

use crate::row::{Row, args};
use crate::{AppScope, StoreError, Uow};

/// A place for one uploaded archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its id: the name of the object that holds the archive.
    pub id: String,
    /// Who made it.
    pub account: AccountId,
    /// For which app, when it was made for one.
    pub app: Option<AppId>,
    /// Whether something was uploaded.
    pub uploaded: bool,
}

fn source(mut row: Row) -> Result<Source, StoreError> {
    Ok(Source { id: row.text()?, account: row.parse()?, app: row.opt_parse()?, uploaded: row.bool()? })
}

impl Uow {
    /// Makes a place for one archive that can be filled and built until `expires_at`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_source(
        &mut self,
        of: &AccountId,
        app: Option<&AppScope>,
        token_hash: &str,
        expires_at: Timestamp,
    ) -> Result<Source, StoreError> {
        let id = JobId::new().to_string();
        let sql =
            "INSERT INTO sources (id, account, app, token_hash, uploaded, expires_at) VALUES ($1, $2, $3, $4, 0, $5)";
        let app = app.map(AppScope::id);
        self.execute(sql, args![id.as_str(), of, app, token_hash, expires_at]).await?;
        Ok(Source { id, account: of.clone(), app: app.cloned(), uploaded: false })
    }

    /// The place that a token opens, while it is good.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn source_by_token(&mut self, token_hash: &str, now: Timestamp) -> Result<Option<Source>, StoreError> {
        let sql = "SELECT id, account, app, uploaded FROM sources WHERE token_hash = $1 AND expires_at > $2";
        self.row(sql, args![token_hash, now]).await?.map(source).transpose()
    }

    /// Marks that the archive is there. Whether it was not there before: of two uploads one counts.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn mark_source_uploaded(&mut self, source: &Source) -> Result<bool, StoreError> {
        let sql = "UPDATE sources SET uploaded = 1 WHERE id = $1 AND uploaded = 0";
        Ok(self.execute(sql, args![source.id.as_str()]).await? > 0)
    }

    /// The sources that were made for an app, for their removal with it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sources(&mut self, of: &AppScope) -> Result<Vec<Source>, StoreError> {
        let sql = "SELECT id, account, app, uploaded FROM sources WHERE app = $1 ORDER BY id";
        self.rows(sql, args![of.id()]).await?.into_iter().map(source).collect()
    }

    /// The ids of every source, for the collection of what no row names any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn all_source_ids(&mut self) -> Result<Vec<String>, StoreError> {
        self.rows("SELECT id FROM sources", vec![]).await?.into_iter().map(|mut row| row.text()).collect()
    }

    /// Some of the sources that nobody can build any more, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn expired_sources(&mut self, now: Timestamp) -> Result<Vec<Source>, StoreError> {
        let sql = "SELECT id, account, app, uploaded FROM sources WHERE expires_at <= $1 ORDER BY id LIMIT 100";
        self.rows(sql, args![now]).await?.into_iter().map(source).collect()
    }

    /// Forgets a source whose object is gone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_source(&mut self, source: &Source) -> Result<(), StoreError> {
        self.execute("DELETE FROM sources WHERE id = $1", args![source.id.as_str()]).await?;
        Ok(())
    }
}
