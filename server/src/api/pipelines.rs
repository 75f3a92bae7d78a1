//! Pipelines and review apps: this platform has none yet.

use super::answer::{Answer, Reply};
use super::call::Call;
use super::error::ApiError;

pub(crate) async fn none<P>(_: Call<P>) -> Reply {
    Answer::none()
}

pub(crate) async fn no_pipeline<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("pipeline"))
}

pub(crate) async fn no_coupling<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("pipeline_coupling"))
}

pub(crate) async fn no_review_app<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("review_app"))
}
