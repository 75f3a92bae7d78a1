//! Add-ons: this platform has none yet.

use super::answer::{Answer, Reply};
use super::call::Call;
use super::error::ApiError;

pub(crate) async fn none<P>(_: Call<P>) -> Reply {
    Answer::none()
}

pub(crate) async fn no_addon<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("add_on"))
}

/// Heroku's CLI knows the resource by the word with a space.
pub(crate) async fn no_attachment<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("add_on attachment"))
}

pub(crate) async fn no_service<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("add_on_service"))
}
