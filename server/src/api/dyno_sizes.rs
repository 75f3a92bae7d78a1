//! `dyno-size`: Heroku's names and what they mean here. On one's own machine nothing costs anything.

use paas_domain::{Architecture, DynoSize};
use paas_proto as proto;
use serde_json::{Value, json};

use super::answer::{Answer, Reply};
use super::call::{Call, Caller, OnApp};
use super::error::ApiError;
use super::fixed_id::fixed_id;
use crate::cx::Cx;

pub(crate) async fn list(call: Call<Caller>) -> Reply {
    Answer::ok(&all(&call.cx, call.cx.settings.offer.architecture()))
}

pub(crate) async fn list_of_app(call: Call<OnApp>) -> Reply {
    let architecture = call.app().architecture.unwrap_or_else(|| call.cx.settings.offer.architecture());
    Answer::ok(&all(&call.cx, architecture))
}

pub(crate) async fn info(call: Call<Caller>) -> Reply {
    let size = find(call.path("size")).ok_or_else(|| ApiError::not_found("dyno_size"))?;
    Answer::ok(&show(&call.cx, size, call.cx.settings.offer.architecture()))
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

/// A size as it is for an app of this architecture. Its cost is what the platform's provider takes, as far as known.
fn show(cx: &Cx, size: DynoSize, architecture: Architecture) -> Value {
    let usd = cx.settings.usd_per_month.map(|price| price(size, architecture));
    json!({
        "architecture": architecture,
        "compute": size.cpu_share(),
        "cost": usd.map(|usd| json!({"cents": (usd * 100.0).round() as u64, "unit": "month"})),
        "dedicated": false,
        "generation": generation(),
        "id": id(size),
        "memory": f64::from(size.memory_mib()) / 1024.0,
        "name": size.as_str(),
        "precise_dyno_units": 0.0,
        "private_space_only": false,
    })
}

fn all(cx: &Cx, architecture: Architecture) -> Vec<Value> {
    DynoSize::ALL.into_iter().map(|size| show(cx, size, architecture)).collect()
}

/// Heroku's platform generation that clients should treat this one as.
pub(crate) fn generation() -> proto::Named {
    proto::Named { id: fixed_id("generation:cedar"), name: "cedar".to_owned() }
}
