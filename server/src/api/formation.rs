//! `formation`: how many dynos of which size each process type has.

use paas_domain::{JobId, ProcessType, QuantityChange};
use paas_proto as proto;
use paas_store::{App, FormationLine, ProcessTable};
use serde_json::Value;

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;
use super::paging::{Attribute, Key, Kind, page};
use super::params::Params;
use super::{apps, dyno_sizes};
use crate::ops::scale_formation::{FormationUpdate, current_formation, scale_formation};

/// The most process types that one request changes; an app has no more.
const MAX_UPDATES: usize = 100;

const ATTRIBUTES: [Attribute<FormationLine>; 2] = [
    Attribute { name: "type", kind: Kind::Name, key: |line| Key::text(&line.process_type) },
    Attribute { name: "id", kind: Kind::Id, key: |line| Key::text(&line.id) },
];

pub(crate) async fn list(call: Call<OnApp>) -> Reply {
    let (types, lines) = formation(&call).await?;
    let mut page = page(&call.headers, lines, &ATTRIBUTES)?;
    let lines = std::mem::take(&mut page.items);
    page.answer(values(call.app(), &types, &lines)?)
}

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let (types, lines) = formation(&call).await?;
    let line = find(&lines, call.path("formation"))?;
    Answer::ok(&show(call.app(), &types, line))
}

pub(crate) async fn batch_update(call: Call<OnApp>) -> Reply {
    let (_, lines) = formation(&call).await?;
    let mut updates = Vec::new();
    for params in call.params.required_objects("updates", MAX_UPDATES)? {
        let process_type = process_type(params.required_text("type")?, &params)?;
        find(&lines, process_type.as_str())?;
        if updates.iter().any(|known: &FormationUpdate| known.process_type == process_type) {
            return Err(params.invalid("type", &format!("is there twice: {process_type}")));
        }
        updates.push(update_of(process_type, &params)?);
    }
    let lines = scale_formation(&call.cx, call.scope(), call.account(), &updates).await?;
    let (types, _) = formation(&call).await?;
    Answer::ok(&values(call.app(), &types, &lines)?)
}

pub(crate) async fn update(call: Call<OnApp>) -> Reply {
    let wanted = call.path("formation");
    // A line's id, or a process type that can be.
    if wanted.parse::<JobId>().is_err() {
        process_type(wanted, &call.params)?;
    }
    let (_, lines) = formation(&call).await?;
    let line = process_type(find(&lines, wanted)?.process_type.as_str(), &call.params)?;
    let update = update_of(line.clone(), &call.params)?;
    let lines = scale_formation(&call.cx, call.scope(), call.account(), &[update]).await?;
    let (types, _) = formation(&call).await?;
    Answer::ok(&show(call.app(), &types, find(&lines, line.as_str())?))
}

/// The current release's process types, and the formation as it has them.
async fn formation(call: &Call<OnApp>) -> Result<(ProcessTable, Vec<FormationLine>), ApiError> {
    let mut uow = call.cx.store.read().await?;
    Ok(current_formation(&mut uow, call.scope()).await?)
}

fn find<'a>(lines: &'a [FormationLine], type_or_id: &str) -> Result<&'a FormationLine, ApiError> {
    let found = lines.iter().find(|line| line.process_type.as_str() == type_or_id || line.id == type_or_id);
    found.ok_or_else(|| ApiError::not_found("process_type"))
}

/// A process type that can be scaled.
fn process_type(text: &str, params: &Params) -> Result<ProcessType, ApiError> {
    let process_type: ProcessType =
        text.parse().map_err(|error| params.invalid("type", &format!("is invalid: {error}")))?;
    if process_type.is_release() || process_type.as_str() == "run" {
        return Err(params.invalid("type", &format!("can't be `{process_type}`: its dynos run once")));
    }
    Ok(process_type)
}

fn update_of(process_type: ProcessType, params: &Params) -> Result<FormationUpdate, ApiError> {
    for refused in ["command", "docker_image"] {
        if params.says(refused) {
            let why = "can't be set here: what a process type runs comes from the Procfile of a deploy";
            return Err(params.invalid(refused, why));
        }
    }
    if params.is_negative("quantity") {
        return Err(params.invalid("quantity", "must not be negative: use text such as \"-1\" to scale down"));
    }
    let quantity: Option<QuantityChange> = match params.number_or_text("quantity")? {
        None => None,
        Some(text) => Some(text.parse().map_err(|error| params.invalid("quantity", &format!("is invalid: {error}")))?),
    };
    let size = match (params.text("size")?, params.text("dyno_size")) {
        (Some(size), _) => Some(size.to_owned()),
        (None, Ok(size)) => size.map(str::to_owned),
        (None, Err(_)) => match params.object("dyno_size")? {
            Some(size) => Some(match size.text("name")? {
                Some(name) => name.to_owned(),
                None => size.required_text("id")?.to_owned(),
            }),
            None => None,
        },
    };
    let size = match size {
        None => None,
        Some(text) => Some(dyno_sizes::find(&text).ok_or_else(|| params.invalid("size", NO_SIZE))?),
    };
    if quantity.is_none() && size.is_none() {
        return Err(params.invalid("quantity", "or size is required"));
    }
    Ok(FormationUpdate { process_type, quantity, size })
}

/// Heroku's words for a size that there is not.
pub(crate) const NO_SIZE: &str =
    "is no dyno size: use one of Eco, Basic, Standard-1X, Standard-2X, Performance-M, Performance-L";

fn values(app: &App, types: &ProcessTable, lines: &[FormationLine]) -> Result<Vec<Value>, ApiError> {
    let value = |line| serde_json::to_value(show(app, types, line)).map_err(ApiError::internal);
    lines.iter().map(value).collect()
}

fn show(app: &App, types: &ProcessTable, line: &FormationLine) -> proto::Formation {
    proto::Formation {
        app: apps::named(app),
        command: types.get(&line.process_type).cloned().unwrap_or_default(),
        created_at: line.created_at.to_rfc3339(),
        dyno_size: dyno_sizes::named(line.size),
        id: line.id.clone(),
        quantity: u32::from(line.quantity.get()),
        size: line.size.as_str().to_owned(),
        r#type: line.process_type.to_string(),
        updated_at: line.updated_at.to_rfc3339(),
    }
}
