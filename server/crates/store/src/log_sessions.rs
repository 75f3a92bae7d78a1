//! Log sessions: a URL with a token that opens an app's log for a while.

use paas_domain::{AppId, JobId, Timestamp};

use crate::row::args;
use crate::{AppScope, StoreError, Uow};

/// A log session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSession {
    /// Its id.
    pub id: String,
    /// Whose log.
    pub app: AppId,
    /// What was asked for, as the API keeps it (JSON).
    pub query: String,
}

impl Uow {
    /// Opens a session until `expires_at`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_log_session(
        &mut self,
        of: &AppScope,
        token_hash: &str,
        query: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<LogSession, StoreError> {
        self.execute("DELETE FROM log_sessions WHERE expires_at <= $1", args![now]).await?;
        let id = JobId::new().to_string();
        let sql = "INSERT INTO log_sessions (id, app, token_hash, query, expires_at) VALUES ($1, $2, $3, $4, $5)";
        self.execute(sql, args![id.as_str(), of.id(), token_hash, query, expires_at]).await?;
        Ok(LogSession { id, app: of.id().clone(), query: query.to_owned() })
    }

    /// The session that a token opens, while it is good.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn log_session(&mut self, token_hash: &str, now: Timestamp) -> Result<Option<LogSession>, StoreError> {
        let sql = "SELECT id, app, query FROM log_sessions WHERE token_hash = $1 AND expires_at > $2";
        let Some(mut row) = self.row(sql, args![token_hash, now]).await? else { return Ok(None) };
        Ok(Some(LogSession { id: row.text()?, app: row.parse()?, query: row.text()? }))
    }
}
