//! Teams, spaces and enterprise accounts: this platform has none yet.

use super::answer::{Answer, Reply};
use super::call::Call;
use super::error::ApiError;

pub(crate) async fn none<P>(_: Call<P>) -> Reply {
    Answer::none()
}

pub(crate) async fn no_team<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("team"))
}

pub(crate) async fn no_space<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("space"))
}
