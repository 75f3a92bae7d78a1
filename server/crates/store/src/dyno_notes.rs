//! What the AWS runtime driver notes down about an app's services and dynos.
//!
//! A note is a key and a body that only the driver reads (`paas-aws`, `notes.rs`). Notes outlive their app's row, as
//! what they tell of does, so they refer to no table and take no [`AppScope`](crate::AppScope).

use std::collections::BTreeMap;

use paas_domain::AppId;

use crate::row::args;
use crate::{StoreError, Uow};

impl Uow {
    /// An app's notes, by key.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn dyno_notes(&mut self, app: &AppId) -> Result<BTreeMap<String, String>, StoreError> {
        let sql = "SELECT key, body FROM dyno_notes WHERE app = $1";
        self.rows(sql, args![app]).await?.into_iter().map(|mut row| Ok((row.text()?, row.text()?))).collect()
    }

    /// The note with this key, whosever it is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_dyno_note(&mut self, key: &str) -> Result<Option<(AppId, String)>, StoreError> {
        let row = self.row("SELECT app, body FROM dyno_notes WHERE key = $1", args![key]).await?;
        row.map(|mut row| Ok((row.parse()?, row.text()?))).transpose()
    }

    /// Writes a note, in the place of the one with its key.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_dyno_note(&mut self, app: &AppId, key: &str, body: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO dyno_notes (app, key, body) VALUES ($1, $2, $3) \
                   ON CONFLICT (app, key) DO UPDATE SET body = excluded.body";
        self.execute(sql, args![app, key, body]).await?;
        Ok(())
    }

    /// Removes a note, or with `None` all of an app. Succeeds when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drop_dyno_notes(&mut self, app: &AppId, key: Option<&str>) -> Result<(), StoreError> {
        match key {
            Some(key) => self.execute("DELETE FROM dyno_notes WHERE app = $1 AND key = $2", args![app, key]).await?,
            None => self.execute("DELETE FROM dyno_notes WHERE app = $1", args![app]).await?,
        };
        Ok(())
    }

    /// Every app with a note.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn noted_apps(&mut self) -> Result<Vec<AppId>, StoreError> {
        let rows = self.rows("SELECT DISTINCT app FROM dyno_notes ORDER BY app", vec![]).await?;
        rows.into_iter().map(|mut row| row.parse()).collect()
    }
}
