//! `buildpack-installation`: buildpacks are detected from the source; nobody chooses them yet.

use serde_json::Value;

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;

pub(crate) async fn list(_: Call<OnApp>) -> Reply {
    Answer::none()
}

/// An empty list is what there is already; everything else is refused.
pub(crate) async fn replace(call: Call<OnApp>) -> Reply {
    let updates = call.params.list("updates")?.ok_or_else(|| call.params.invalid("updates", "is required"))?;
    match updates.first() {
        None => Answer::none(),
        Some(Value::Object(_)) => Err(refused()),
        Some(_) => Err(call.params.invalid("updates[0]", "must be an object")),
    }
}

/// What is said to whoever names buildpacks.
pub(crate) fn refused() -> ApiError {
    ApiError::invalid_params(
        "Buildpacks can't be chosen on this platform yet: they are detected from the source \
         (requirements.txt, package.json, go.mod, index.html, Procfile).",
    )
}
