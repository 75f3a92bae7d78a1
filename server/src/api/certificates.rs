//! Certificates of custom domains: this platform has none yet.

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;

pub(crate) async fn none(_: Call<OnApp>) -> Reply {
    Answer::none()
}

pub(crate) async fn not_found(_: Call<OnApp>) -> Reply {
    Err(ApiError::not_found("sni_endpoint"))
}

pub(crate) async fn refuse(_: Call<OnApp>) -> Reply {
    Err(ApiError::invalid_params("Certificates for custom domains are not available on this platform yet."))
}
