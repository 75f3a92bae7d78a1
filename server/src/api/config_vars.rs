//! `config-var`: the whole set at once.

use paas_domain::EnvKey;
use secrecy::SecretString;
use serde_json::Value;

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;
use crate::ops::cut_release::find_release;
use crate::ops::set_config::{ConfigChange, set_config};

/// The most config vars that one request changes. Their bytes are limited too (`MAX_CONFIG_BYTES`).
const MAX_CHANGES: usize = 20_000;

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let config = uow.config(call.scope(), &call.app().head_config).await?;
    Answer::ok(&config.vars.expose())
}

pub(crate) async fn info_of_release(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let release = find_release(&mut uow, call.scope(), call.path("release")).await?;
    let release = release.ok_or_else(|| ApiError::not_found("release"))?;
    let config = uow.config(call.scope(), &release.config).await?;
    Answer::ok(&config.vars.expose())
}

pub(crate) async fn update(mut call: Call<OnApp>) -> Reply {
    let map = std::mem::take(&mut call.params).into_map();
    if map.len() > MAX_CHANGES {
        return Err(ApiError::invalid_params(format!("More than {MAX_CHANGES} config vars in one request.")));
    }
    let changes = map.into_iter().map(change).collect::<Result<Vec<ConfigChange>, _>>()?;
    let (vars, _) = set_config(&call.cx, call.scope(), call.account(), &changes).await?;
    Answer::ok(&vars.expose())
}

fn change((key, value): (String, Value)) -> Result<ConfigChange, ApiError> {
    // A name that cannot be is shown without what could break a terminal or a line.
    let shown: String = key.chars().filter(|c| !c.is_control()).take(64).collect();
    let key: EnvKey =
        key.parse().map_err(|error| ApiError::invalid_params(format!("Invalid config var `{shown}`: {error}.")))?;
    match value {
        Value::Null => Ok((key, None)),
        Value::String(value) => Ok((key, Some(SecretString::from(value)))),
        _ => Err(ApiError::invalid_params(format!("The value of {key} must be a string, or null to unset it."))),
    }
}
