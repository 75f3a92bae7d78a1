//! `stack`: what apps are built on and run on. There is one; old names of Heroku's lead to it.

use paas_proto as proto;

use super::answer::{Answer, Reply};
use super::call::{Call, Caller, OnApp};
use super::error::ApiError;
use super::fixed_id::fixed_id;

/// The one stack, by the name that buildpacks and clients know.
pub(crate) const NAME: &str = "heroku-24";
/// Since when Heroku has it.
const SINCE: &str = "2024-05-01T00:00:00Z";

pub(crate) async fn list(_: Call<Caller>) -> Reply {
    Answer::ok(&[show()])
}

pub(crate) async fn list_of_app(_: Call<OnApp>) -> Reply {
    Answer::ok(&[show()])
}

pub(crate) async fn info(call: Call<Caller>) -> Reply {
    if is_ours(call.path("stack")) { Answer::ok(&show()) } else { Err(ApiError::not_found("stack")) }
}

/// Whether a stack by name or id is the one that there is. Old clients ask for `cedar` and mean the newest.
pub(crate) fn is_ours(stack: &str) -> bool {
    [NAME, "heroku", "cedar", "cedar-14"].contains(&stack) || stack == fixed_id("stack:heroku-24")
}

/// How apps show their stack.
pub(crate) fn named() -> proto::Named {
    proto::Named { id: fixed_id("stack:heroku-24"), name: NAME.to_owned() }
}

fn show() -> proto::Stack {
    proto::Stack {
        created_at: SINCE.to_owned(),
        default: true,
        id: fixed_id("stack:heroku-24"),
        name: NAME.to_owned(),
        state: "public".to_owned(),
        updated_at: SINCE.to_owned(),
    }
}
