//! `oauth-authorization`: API keys. A whole token is told once, in the answer that makes it.

use paas_domain::{AuthorizationId, Timestamp};
use paas_proto as proto;
use paas_store::{Account, Authorization};
use serde_json::Value;

use super::answer::{Answer, Reply};
use super::auth::SCOPES;
use super::call::{Call, Caller};
use super::error::ApiError;
use super::paging::{Attribute, Key, Kind, page};
use crate::ops::manage_keys::{create_key, delete_key, describe_key, renew_key};

/// The longest life that a key can be given, in seconds: a hundred years. `null` is for ever.
const MAX_LIFE_S: u64 = 100 * 366 * 24 * 3600;

const ATTRIBUTES: [Attribute<Authorization>; 1] =
    [Attribute { name: "id", kind: Kind::Id, key: |authorization| Key::text(&authorization.id) }];

pub(crate) async fn list(call: Call<Caller>) -> Reply {
    let (account, now) = (&call.granted.account, call.cx.now());
    let keys = call.cx.store.read().await?.authorizations(&account.id, now).await?;
    let mut page = page(&call.headers, keys, &ATTRIBUTES)?;
    let value = |key: &Authorization| serde_json::to_value(show(key, account, None, now)).map_err(ApiError::internal);
    let shown = std::mem::take(&mut page.items).iter().map(value).collect::<Result<Vec<Value>, _>>()?;
    page.answer(shown)
}

pub(crate) async fn info(call: Call<Caller>) -> Reply {
    let (account, now) = (&call.granted.account, call.cx.now());
    let id = id(&call).await?;
    let key = call.cx.store.read().await?.authorization(&account.id, &id, now).await?;
    Answer::ok(&show(&key, account, None, now))
}

/// Heroku's CLI comes here to log in, with `Basic email:API key`.
pub(crate) async fn create(call: Call<Caller>) -> Reply {
    let (cx, account, params) = (&call.cx, &call.granted.account, &call.params);
    let description = params.line("description")?.unwrap_or_default();
    let expires_in = params.number("expires_in", 1, MAX_LIFE_S)?.and_then(|s| i64::try_from(s).ok());
    let mut scope = Vec::new();
    for wanted in params.list("scope")?.unwrap_or_default() {
        let known = wanted.as_str().filter(|wanted| SCOPES.contains(wanted));
        let known =
            known.ok_or_else(|| params.invalid("scope", &format!("must be a list of {}", SCOPES.join(", "))))?;
        if !scope.iter().any(|had| had == known) {
            scope.push(known.to_owned());
        }
    }
    if scope.is_empty() {
        if params.list("scope")?.is_some() {
            return Err(params.invalid("scope", "must name at least one scope"));
        }
        scope.push("global".to_owned());
    }
    let (key, token) = create_key(cx, account, &description, scope, expires_in).await?;
    Answer::created(&show(&key, account, Some(token), cx.now()))
}

pub(crate) async fn update(call: Call<Caller>) -> Reply {
    let (cx, account) = (&call.cx, &call.granted.account);
    let description = call.params.line("description")?;
    let key = describe_key(cx, account, &id(&call).await?, description.as_deref()).await?;
    Answer::ok(&show(&key, account, None, cx.now()))
}

pub(crate) async fn regenerate(call: Call<Caller>) -> Reply {
    let (cx, account) = (&call.cx, &call.granted.account);
    let (key, token) = renew_key(cx, account, &id(&call).await?).await?;
    Answer::created(&show(&key, account, Some(token), cx.now()))
}

pub(crate) async fn delete(call: Call<Caller>) -> Reply {
    let (cx, account) = (&call.cx, &call.granted.account);
    let key = delete_key(cx, account, &id(&call).await?).await?;
    Answer::ok(&show(&key, account, None, cx.now()))
}

pub(crate) async fn no_clients(_: Call<Caller>) -> Reply {
    Answer::none()
}

pub(crate) async fn no_sessions(_: Call<Caller>) -> Reply {
    Answer::none()
}

/// `heroku logout` ends its session first; there are only keys here.
pub(crate) async fn no_session(_: Call<Caller>) -> Reply {
    Err(ApiError::not_found("session"))
}

/// The key that the path names: by id, or `~` for the account's first one, which `heroku logout` leaves alone.
async fn id(call: &Call<Caller>) -> Result<AuthorizationId, ApiError> {
    let text = call.path("authorization");
    if text != "~" {
        return text.parse().map_err(|_| ApiError::not_found("authorization"));
    }
    let keys = call.cx.store.read().await?.authorizations(&call.granted.account.id, call.cx.now()).await?;
    keys.into_iter().next().map(|key| key.id).ok_or_else(|| ApiError::not_found("authorization"))
}

fn show(key: &Authorization, account: &Account, token: Option<String>, now: Timestamp) -> proto::OauthAuthorization {
    let left = |at: Timestamp| u64::try_from(at.since_ms(now) / 1000).unwrap_or(0);
    let created_at = key.created_at.to_rfc3339();
    proto::OauthAuthorization {
        access_token: Some(proto::AccessToken {
            expires_in: key.expires_at.map(left),
            id: key.id.to_string(),
            token: token.unwrap_or_else(|| key.token_hint.clone()),
        }),
        client: None,
        created_at: created_at.clone(),
        description: key.description.clone(),
        grant: None,
        id: key.id.to_string(),
        refresh_token: None,
        scope: key.scope.clone(),
        session: None,
        updated_at: created_at,
        user: proto::AuthorizedUser { email: account.email.clone(), full_name: None, id: account.id.to_string() },
    }
}
