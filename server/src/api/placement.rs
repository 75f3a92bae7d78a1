//! `placement`: what an app runs on. Not Heroku's, and so below `/paas`: unknown parameters are refused here.

use paas_proto as proto;
use paas_store::App;

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use crate::cx::Cx;
use crate::ops::set_placement::{PlacementChange, set_placement};

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    Answer::ok(&show(&call.cx, call.app()))
}

pub(crate) async fn update(call: Call<OnApp>) -> Reply {
    let params = &call.params;
    if let Some(unknown) = params.names().find(|name| !["architecture", "capacity"].contains(name)) {
        return Err(params.invalid(unknown, "is not known here: use architecture and capacity"));
    }
    let change = PlacementChange { architecture: params.parsed("architecture")?, capacity: params.parsed("capacity")? };
    let app = set_placement(&call.cx, call.scope(), &change).await?;
    Answer::ok(&show(&call.cx, &app))
}

fn show(cx: &Cx, app: &App) -> proto::Placement {
    let architecture = app.architecture.unwrap_or_else(|| cx.settings.offer.architecture());
    proto::Placement { architecture: architecture.to_string(), capacity: app.capacity.to_string() }
}
