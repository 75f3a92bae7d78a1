//! `dyno-size`: Heroku's names and what they mean here. Nothing costs anything.

use paas_domain::DynoSize;
use paas_proto as proto;
use serde_json::{Value, json};

use super::answer::{Answer, Reply};
use super::call::{Call, Caller, OnApp};
use super::error::ApiError;
use super::fixed_id::fixed_id;

pub(crate) async fn list(_: Call<Caller>) -> Reply {
    Answer::ok(&DynoSize::ALL.map(show))
}

pub(crate) async fn list_of_app(_: Call<OnApp>) -> Reply {
    Answer::ok(&DynoSize::ALL.map(show))
}

pub(crate) async fn info(call: Call<Caller>) -> Reply {
    let size = find(call.path("size")).ok_or_else(|| ApiError::not_found("dyno_size"))?;
    Answer::ok(&show(size))
}

/// A size by name, in any case, or by id.
pub(crate) fn find(text: &str) -> Option<DynoSize> {
    text.parse().ok().or_else(|| DynoSize::ALL.into_iter().find(|size| id(*size) == text))
}

/// How formations show a size.
pub(crate) fn named(size: DynoSize) -> proto::Named {
    proto::Named { id: id(size), name: size.as_str().to_owned() }
}

fn id(size: DynoSize) -> String {
    fixed_id(&format!("dyno-size:{size}"))
}

fn show(size: DynoSize) -> Value {
    json!({
        "architecture": std::env::consts::ARCH,
        "compute": size.cpu_share(),
        "cost": null,
        "dedicated": false,
        "generation": generation(),
        "id": id(size),
        "memory": f64::from(size.memory_mib()) / 1024.0,
        "name": size.as_str(),
        "precise_dyno_units": 0.0,
        "private_space_only": false,
    })
}

/// Heroku's platform generation that clients should treat this one as.
pub(crate) fn generation() -> proto::Named {
    proto::Named { id: fixed_id("generation:cedar"), name: "cedar".to_owned() }
}
