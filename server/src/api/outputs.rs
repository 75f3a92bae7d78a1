//! Where the output of builds and release phases is read: a URL with its own token.

use std::time::Duration;

use paas_domain::OutputId;
use paas_store::{AppScope, Uow};

use super::answer::{Answer, Reply};
use super::call::{Bearer, Call};
use super::error::ApiError;
use crate::cx::Cx;
use crate::token::token_hash;

/// The URL of an output.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn output_url(uow: &mut Uow, cx: &Cx, app: &AppScope, output: &OutputId) -> Result<String, ApiError> {
    let token = uow.output_token(app, output).await?;
    Ok(format!("{}/outputs/{token}", cx.settings.api_url))
}

/// How long a reader waits for an output to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(3);

/// All bytes so far, and those to come until the output is whole. 404 when it does not begin for a while, as
/// clients expect who ask again then; 403 for a token that opens nothing.
pub(crate) async fn follow(call: Call<Bearer>) -> Reply {
    let cx = &call.cx;
    let output = cx.store.read().await?.output_by_token(&token_hash(call.path("token"))).await?;
    let output = output.ok_or_else(|| ApiError::forbidden("This URL is not, or no longer, good."))?;
    // Clients ask as soon as they know the URL; most of them do not ask again.
    let followed = cx.follow_output(&output, Duration::from_millis(80));
    match tokio::time::timeout(BEGINS_WITHIN, followed).await {
        Ok(Ok(bytes)) => Answer::stream("text/plain; charset=utf-8", bytes),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(ApiError::not_found("output")),
    }
}
