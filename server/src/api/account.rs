//! `account`, and what an account has none of here.

use axum::http::StatusCode;
use paas_proto as proto;
use serde_json::json;

use super::answer::{Answer, Reply};
use super::call::{Call, Caller};
use super::error::ApiError;

pub(crate) async fn info(call: Call<Caller>) -> Reply {
    Answer::ok(&show(&call.granted.account))
}

pub(crate) async fn info_by_user(call: Call<Caller>) -> Reply {
    is_caller(&call)?;
    info(call).await
}

/// `~`, the account's id or its e-mail address. Everybody else is not there.
pub(crate) fn is_caller(call: &Call<Caller>) -> Result<(), ApiError> {
    let (account, user) = (&call.granted.account, call.path("user"));
    if user == "~" || user == account.email || user == account.id.as_str() {
        Ok(())
    } else {
        Err(ApiError::not_found("user"))
    }
}

pub(crate) async fn delinquency(_: Call<Caller>) -> Reply {
    Answer::ok(&json!({"scheduled_suspension_time": null, "scheduled_deletion_time": null}))
}

pub(crate) async fn rate_limits(call: Call<Caller>) -> Reply {
    Answer::ok(&json!({"remaining": call.remaining}))
}

pub(crate) async fn no_keys(_: Call<Caller>) -> Reply {
    Answer::none()
}

pub(crate) async fn refuse_key(_: Call<Caller>) -> Reply {
    let message = "SSH keys have no use here: git uses HTTPS with an API key.";
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_params", message))
}

fn show(account: &paas_store::Account) -> proto::Account {
    let created_at = account.created_at.to_rfc3339();
    proto::Account {
        allow_tracking: false,
        beta: false,
        country_of_residence: None,
        created_at: created_at.clone(),
        default_organization: None,
        default_team: None,
        delinquent_at: None,
        email: account.email.clone(),
        federated: false,
        id: account.id.to_string(),
        identity_provider: None,
        last_login: None,
        name: None,
        sms_number: None,
        suspended_at: None,
        two_factor_authentication: false,
        updated_at: created_at,
        verified: true,
    }
}

/// How other resources show an account.
pub(crate) fn user(account: &paas_store::Account) -> proto::User {
    proto::User { id: account.id.to_string(), email: account.email.clone() }
}
