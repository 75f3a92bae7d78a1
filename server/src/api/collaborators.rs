//! `collaborator`: who may work on an app. So far that is its owner alone.

use serde_json::{Value, json};

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;
use super::fixed_id::fixed_id;

pub(crate) async fn list(call: Call<OnApp>) -> Reply {
    Answer::ok(&json!([owner(&call)]))
}

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    is_owner(&call)?;
    Answer::ok(&owner(&call))
}

pub(crate) async fn refuse(call: Call<OnApp>) -> Reply {
    let email = match call.params.object("user") {
        Ok(user) => user.map(|user| user.required_text("email").map(str::to_owned)).transpose()?,
        Err(_) => Some(call.params.required_text("user")?.to_owned()),
    };
    let email = email.ok_or_else(|| call.params.invalid("user", "is required"))?;
    let good = email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    if !good || email.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(call.params.invalid("user", "must be an e-mail address"));
    }
    if email == call.account().email {
        return Err(call.params.invalid("user", "is a collaborator already"));
    }
    Err(ApiError::invalid_params("Collaborators are not available on this platform yet."))
}

pub(crate) async fn delete(call: Call<OnApp>) -> Reply {
    is_owner(&call)?;
    Err(ApiError::invalid_params("The app's owner can't be removed."))
}

fn is_owner(call: &Call<OnApp>) -> Result<(), ApiError> {
    let (who, account) = (call.path("collaborator"), call.account());
    let id = collaborator_id(call);
    if who == account.email || who == account.id.as_str() || who == id {
        Ok(())
    } else {
        Err(ApiError::not_found("collaborator"))
    }
}

fn collaborator_id(call: &Call<OnApp>) -> String {
    fixed_id(&format!("collaborator:{}:{}", call.app().id, call.account().id))
}

fn owner(call: &Call<OnApp>) -> Value {
    let (app, account) = (call.app(), call.account());
    let permission = |name: &str, description: &str| json!({"name": name, "description": description});
    json!({
        "app": {"id": app.id, "name": app.name},
        "created_at": app.created_at.to_rfc3339(),
        "id": collaborator_id(call),
        "permissions": [
            permission("view", "Can view the app."),
            permission("deploy", "Can deploy code to the app."),
            permission("operate", "Can scale and configure the app."),
            permission("manage", "Can manage and destroy the app."),
        ],
        "role": "owner",
        "updated_at": app.created_at.to_rfc3339(),
        "user": {"email": account.email, "federated": false, "id": account.id},
    })
}
