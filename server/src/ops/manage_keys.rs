//! `authorizations:*`: an account's API keys. The key itself is told once, in the answer that makes it.

use paas_domain::AuthorizationId;
use paas_store::{Account, Authorization, NewAuthorization};

use crate::cx::{Cx, OpError};
use crate::token::{new_token, token_hash, token_hint};

/// The most keys of one account. Our own choice: enough for every machine and CI job of a person.
pub const MAX_KEYS: usize = 1000;

/// Makes a key and answers it with its token.
///
/// # Errors
/// [`OpError::Invalid`] at [`MAX_KEYS`].
pub async fn create_key(
    cx: &Cx,
    account: &Account,
    description: &str,
    scope: Vec<String>,
    expires_in_s: Option<i64>,
) -> Result<(Authorization, String), OpError> {
    let now = cx.now();
    let token = new_token("HRKU");
    let new = NewAuthorization {
        token_hash: token_hash(&token),
        token_hint: token_hint(&token),
        description: description.to_owned(),
        scope,
        expires_at: expires_in_s.map(|s| now.plus_s(s)),
    };
    let mut uow = cx.begin().await?;
    if uow.authorizations(&account.id, now).await?.len() >= MAX_KEYS {
        return Err(OpError::invalid(format!("An account can't have more than {MAX_KEYS} authorizations.")));
    }
    let key = uow.create_authorization(&account.id, &new, now).await?;
    uow.save().await?;
    Ok((key, token))
}

/// Says anew what a key is for.
///
/// # Errors
/// [`OpError::NotFound`] when the account has it not.
pub async fn describe_key(
    cx: &Cx,
    account: &Account,
    id: &AuthorizationId,
    description: Option<&str>,
) -> Result<Authorization, OpError> {
    change(cx, account, id, description, None).await
}

/// Gives a key another token; the old one is worth nothing from then on.
///
/// # Errors
/// [`OpError::NotFound`] when the account has it not.
pub async fn renew_key(cx: &Cx, account: &Account, id: &AuthorizationId) -> Result<(Authorization, String), OpError> {
    let token = new_token("HRKU");
    let key = change(cx, account, id, None, Some(&token)).await?;
    Ok((key, token))
}

async fn change(
    cx: &Cx,
    account: &Account,
    id: &AuthorizationId,
    description: Option<&str>,
    token: Option<&str>,
) -> Result<Authorization, OpError> {
    let hashes = token.map(|token| (token_hash(token), token_hint(token)));
    let mut uow = cx.begin().await?;
    uow.authorization(&account.id, id, cx.now()).await?;
    let hashes = hashes.as_ref().map(|(hash, hint)| (hash.as_str(), hint.as_str()));
    uow.update_authorization(&account.id, id, description, hashes).await?;
    let key = uow.authorization(&account.id, id, cx.now()).await?;
    uow.save().await?;
    Ok(key)
}

/// Ends a key and answers what it was.
///
/// # Errors
/// [`OpError::NotFound`] when the account has it not.
pub async fn delete_key(cx: &Cx, account: &Account, id: &AuthorizationId) -> Result<Authorization, OpError> {
    let mut uow = cx.begin().await?;
    let was = uow.authorization(&account.id, id, cx.now()).await?;
    uow.delete_authorization(&account.id, id).await?;
    uow.save().await?;
    Ok(was)
}
