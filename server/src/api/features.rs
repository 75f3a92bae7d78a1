//! Features of accounts and apps that can be switched: none.

use super::answer::{Answer, Reply};
use super::call::Call;
use super::error::ApiError;

pub(crate) async fn none<P>(_: Call<P>) -> Reply {
    Answer::none()
}

pub(crate) async fn no_account_feature<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("account_feature"))
}

pub(crate) async fn no_app_feature<P>(_: Call<P>) -> Reply {
    Err(ApiError::not_found("app_feature"))
}
