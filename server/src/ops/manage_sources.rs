//! Uploaded sources: a place for one archive, and what becomes of it when nobody can build it any more.

use paas_store::{Account, AppScope, Source};

use crate::cx::{Cx, OpError};
use crate::token::{new_token, token_hash};

/// How long an upload can be filled and built, in seconds. Heroku's URLs end after an hour too.
pub const SOURCE_S: i64 = 3600;

/// The object that holds an upload as it came.
#[must_use]
pub fn upload_key(source: &Source) -> String {
    format!("uploads/{}.tgz", source.id)
}

/// Makes a place for one archive and answers its token. Uploads that expired are cleared away on the way.
///
/// # Errors
/// When the database does not answer.
pub async fn create_source(cx: &Cx, account: &Account, app: Option<&AppScope>) -> Result<String, OpError> {
    sweep_sources(cx).await?;
    let token = new_token("src");
    let expires_at = cx.now().plus_s(SOURCE_S);
    let mut uow = cx.begin().await?;
    uow.create_source(&account.id, app, &token_hash(&token), expires_at).await?;
    uow.save().await?;
    Ok(token)
}

/// The upload that a token opens, while it is good.
///
/// # Errors
/// When the database does not answer.
pub async fn source_by_token(cx: &Cx, token: &str) -> Result<Option<Source>, OpError> {
    Ok(cx.store.read().await?.source_by_token(&token_hash(token), cx.now()).await?)
}

/// Takes a whole upload from a file of this machine. Of two uploads to one place the first counts.
///
/// # Errors
/// [`OpError::Conflict`] when something was uploaded before.
pub async fn keep_upload(cx: &Cx, source: &Source, file: &std::path::Path) -> Result<(), OpError> {
    let mut uow = cx.begin().await?;
    let first = uow.mark_source_uploaded(source).await?;
    if !first {
        return Err(OpError::Conflict("The source was uploaded already.".to_owned()));
    }
    uow.save().await?;
    // Row first, so that two uploads cannot mix; a crash here leaves a source that says "nothing there" when built.
    cx.objects.put_file(&upload_key(source), file).await?;
    Ok(())
}

/// Removes uploads that nobody can build any more.
///
/// # Errors
/// When the database or the objects do not answer.
pub async fn sweep_sources(cx: &Cx) -> Result<(), OpError> {
    let expired = cx.store.read().await?.expired_sources(cx.now()).await?;
    for source in expired {
        cx.objects.remove(&upload_key(&source)).await?;
        let mut uow = cx.begin().await?;
        uow.delete_source(&source).await?;
        uow.save().await?;
    }
    Ok(())
}
