//! `logs`: a URL that opens an app's log for a while, without an account.

use paas_store::AppScope;

use crate::cx::{Cx, OpError};
use crate::token::{new_token, token_hash};

/// How long a session can be opened and resumed, in seconds. Our own choice; a tail asks for a new one afterwards.
pub const SESSION_S: i64 = 24 * 3600;

/// Opens a session and answers its token. `query` is kept as it is, for the reader.
///
/// # Errors
/// When the database does not answer.
pub async fn open_log_session(cx: &Cx, app: &AppScope, query: &str) -> Result<(String, String), OpError> {
    let now = cx.now();
    let token = new_token("log");
    let mut uow = cx.begin().await?;
    let session = uow.create_log_session(app, &token_hash(&token), query, now, now.plus_s(SESSION_S)).await?;
    uow.save().await?;
    Ok((session.id, token))
}
