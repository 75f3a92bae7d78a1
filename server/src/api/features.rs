//! Features that can be switched: of accounts none, of apps session affinity.

use paas_proto as proto;
use paas_store::{Account, App};

use super::answer::{Answer, Reply};
use super::call::{Call, Caller, OnApp};
use super::error::ApiError;
use super::fixed_id::fixed_id;
use crate::ops::set_feature;

/// As Heroku calls it.
const SESSION_AFFINITY: &str = "http-session-affinity";

pub(crate) async fn none(_: Call<Caller>) -> Reply {
    Answer::none()
}

pub(crate) async fn no_account_feature(_: Call<Caller>) -> Reply {
    Err(ApiError::not_found("account_feature"))
}

pub(crate) async fn list(call: Call<OnApp>) -> Reply {
    Answer::ok(&[show(call.app(), call.account())])
}

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    known(&call)?;
    Answer::ok(&show(call.app(), call.account()))
}

pub(crate) async fn update(call: Call<OnApp>) -> Reply {
    known(&call)?;
    let enabled = call.params.boolean("enabled")?;
    let enabled = enabled.ok_or_else(|| call.params.invalid("enabled", "is required"))?;
    let app = set_feature::set_session_affinity(&call.cx, call.scope(), enabled).await?;
    Answer::ok(&show(&app, call.account()))
}

/// By name or id. What Heroku has besides is not there.
fn known(call: &Call<OnApp>) -> Result<(), ApiError> {
    let asked = call.path("feature");
    if asked == SESSION_AFFINITY || asked == id() { Ok(()) } else { Err(ApiError::not_found("app_feature")) }
}

fn id() -> String {
    fixed_id(&format!("app-feature:{SESSION_AFFINITY}"))
}

fn show(app: &App, owner: &Account) -> proto::AppFeature {
    proto::AppFeature {
        created_at: app.created_at.to_rfc3339(),
        description: "Lets a client's requests go to the web dyno that answered its first one, by a cookie".to_owned(),
        display_name: "HTTP Session Affinity".to_owned(),
        doc_url: "https://devcenter.heroku.com/articles/session-affinity".to_owned(),
        enabled: app.session_affinity,
        feedback_email: owner.email.clone(),
        id: id(),
        name: SESSION_AFFINITY.to_owned(),
        state: "general".to_owned(),
        updated_at: app.updated_at.to_rfc3339(),
    }
}
