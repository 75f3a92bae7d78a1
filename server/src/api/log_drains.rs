//! Log drains: this platform has none yet.

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;

pub(crate) async fn none(_: Call<OnApp>) -> Reply {
    Answer::none()
}

pub(crate) async fn not_found(_: Call<OnApp>) -> Reply {
    Err(ApiError::not_found("log_drain"))
}

pub(crate) async fn refuse(_: Call<OnApp>) -> Reply {
    Err(ApiError::invalid_params("Log drains are not available on this platform yet."))
}
