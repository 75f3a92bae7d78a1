//! `region`: this installation is one, called `us`, because that is what clients ask for.

use paas_proto as proto;

use super::answer::{Answer, Reply};
use super::call::{Call, Caller};
use super::error::ApiError;
use super::fixed_id::fixed_id;

const NAME: &str = "us";
/// Since when Heroku has it; nobody looks.
const SINCE: &str = "2026-01-01T00:00:00Z";

pub(crate) async fn list(_: Call<Caller>) -> Reply {
    Answer::ok(&[show()])
}

pub(crate) async fn info(call: Call<Caller>) -> Reply {
    if is_ours(call.path("region")) { Answer::ok(&show()) } else { Err(ApiError::not_found("region")) }
}

/// Whether a region by name or id is the one that there is.
pub(crate) fn is_ours(region: &str) -> bool {
    region == NAME || region == fixed_id("region:us")
}

/// How apps show their region.
pub(crate) fn named() -> proto::Named {
    proto::Named { id: fixed_id("region:us"), name: NAME.to_owned() }
}

fn show() -> proto::Region {
    proto::Region {
        country: "Here".to_owned(),
        created_at: SINCE.to_owned(),
        description: "This installation".to_owned(),
        id: fixed_id("region:us"),
        locale: "Here".to_owned(),
        name: NAME.to_owned(),
        private_capable: false,
        // The schema knows no other provider.
        provider: proto::Provider { name: "amazon-web-services".to_owned(), region: "us-east-1".to_owned() },
        updated_at: SINCE.to_owned(),
    }
}
