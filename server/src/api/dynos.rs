//! `dyno`: what runs, one-off dynos, restart and stop.

use std::collections::HashMap;

use paas_domain::{ConfigVars, DynoId, DynoName, DynoState, EnvKey, ProcessType, ReleaseVersion};
use paas_proto as proto;
use paas_store::{App, AppScope, Dyno, Uow};
use secrecy::SecretString;

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;
use super::paging::{Attribute, Key, Kind, page};
use super::params::Params;
use super::{apps, dyno_sizes, formation};
use crate::ops::restart_dynos::{Which, restart_dynos, stop_dynos};
use crate::ops::run_dyno::{RunRequest, run_dyno};
use crate::ops::set_config::is_reserved;

/// The longest time to live of a one-off dyno: Heroku's, a day.
const MAX_TIME_TO_LIVE_S: u64 = 86_400;
/// The most bytes of environment that a one-off dyno's request adds.
const MAX_ENV_BYTES: usize = 32 * 1024;

const ATTRIBUTES: [Attribute<Dyno>; 2] = [
    Attribute { name: "name", kind: Kind::Name, key: |dyno| Key::text(&dyno.name) },
    Attribute { name: "id", kind: Kind::Id, key: |dyno| Key::text(&dyno.id) },
];

pub(crate) async fn list(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let mut page = page(&call.headers, uow.dynos(call.scope()).await?, &ATTRIBUTES)?;
    let mut releases = Releases::default();
    let mut shown = Vec::with_capacity(page.items.len());
    for dyno in std::mem::take(&mut page.items) {
        let release = releases.of(&mut uow, call.scope(), dyno.release).await?;
        shown.push(serde_json::to_value(show(call.app(), &dyno, release, None)).map_err(ApiError::internal)?);
    }
    page.answer(shown)
}

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let dyno = find(&mut uow, &call).await?;
    let release = Releases::default().of(&mut uow, call.scope(), dyno.release).await?;
    Answer::ok(&show(call.app(), &dyno, release, None))
}

pub(crate) async fn create(call: Call<OnApp>) -> Reply {
    let (cx, params) = (&call.cx, &call.params);
    let attach = params.boolean("attach")?.unwrap_or(false);
    let size = match params.text("size")? {
        None => None,
        Some(text) => Some(dyno_sizes::find(text).ok_or_else(|| params.invalid("size", formation::NO_SIZE))?),
    };
    // `type` says which process type's size and name Heroku takes; a one-off dyno of ours is always run.N, so that
    // it is never taken for one of the formation.
    params.parsed::<ProcessType>("type")?;
    let request = RunRequest {
        command: params.required_text("command")?.to_owned(),
        env: env(params)?,
        attach,
        tty: attach && !params.boolean("force_no_tty")?.unwrap_or(false),
        size,
        time_to_live_s: params
            .number("time_to_live", 1, MAX_TIME_TO_LIVE_S)?
            .and_then(|seconds| u32::try_from(seconds).ok()),
        process_type: None,
    };
    let (dyno, token) = run_dyno(cx, call.scope(), call.account(), request).await?;
    let (host, port) = &cx.settings.rendezvous;
    let url = token.map(|token| token.url(host, *port));
    let release = Releases::default().of(&mut cx.store.read().await?, call.scope(), dyno.release).await?;
    Answer::created(&show(call.app(), &dyno, release, url))
}

/// The environment that the request puts on top of the config vars. Clients send numbers too (`COLUMNS`).
fn env(params: &Params) -> Result<ConfigVars, ApiError> {
    let Some(env) = params.object("env")? else { return Ok(ConfigVars::new()) };
    let names: Vec<String> = env.names().map(str::to_owned).collect();
    let mut vars = ConfigVars::new();
    for name in names {
        let key: EnvKey = name.parse().map_err(|error| params.invalid("env", &format!("has a bad name: {error}")))?;
        if is_reserved(&name) {
            return Err(params.invalid("env", &format!("can't set {name}: the platform does")));
        }
        let Some(value) = env.number_or_text(&name)? else { continue };
        if value.contains('\0') {
            return Err(params.invalid("env", &format!("has a null byte in {name}")));
        }
        vars.set(key, SecretString::from(value));
    }
    if vars.total_bytes() > MAX_ENV_BYTES {
        return Err(params.invalid("env", &format!("has more than {} KB", MAX_ENV_BYTES / 1024)));
    }
    Ok(vars)
}

pub(crate) async fn restart_all(call: Call<OnApp>) -> Reply {
    restart_which(&call, Which::All).await
}

pub(crate) async fn restart_type(call: Call<OnApp>) -> Reply {
    let which = Which::Type(of_formation(&call).await?);
    restart_which(&call, which).await
}

/// A dyno by name or id; also a whole process type, as `heroku ps:restart web` of old clients sends it.
pub(crate) async fn restart(call: Call<OnApp>) -> Reply {
    let which = which(&call).await?;
    restart_which(&call, which).await
}

async fn restart_which(call: &Call<OnApp>, which: Which) -> Reply {
    restart_dynos(&call.cx, call.scope(), call.account(), &which).await?;
    Answer::accepted()
}

pub(crate) async fn stop(call: Call<OnApp>) -> Reply {
    let which = which(&call).await?;
    stop_dynos(&call.cx, call.scope(), &which).await?;
    Answer::accepted()
}

pub(crate) async fn stop_type(call: Call<OnApp>) -> Reply {
    let which = Which::Type(of_formation(&call).await?);
    stop_dynos(&call.cx, call.scope(), &which).await?;
    Answer::accepted()
}

async fn which(call: &Call<OnApp>) -> Result<Which, ApiError> {
    let found = find(&mut call.cx.store.read().await?, call).await;
    match (found, call.path("dyno").parse::<ProcessType>()) {
        (Ok(dyno), _) => Ok(Which::One(dyno.name)),
        (Err(_), Ok(process_type)) if is_running(call, &process_type).await? => Ok(Which::Type(process_type)),
        (Err(error), _) => Err(error),
    }
}

async fn of_formation(call: &Call<OnApp>) -> Result<ProcessType, ApiError> {
    let process_type = call.path("formation").parse().map_err(|_| ApiError::not_found("process_type"))?;
    if is_running(call, &process_type).await? { Ok(process_type) } else { Err(ApiError::not_found("process_type")) }
}

/// Whether the app has this process type, or dynos of it.
async fn is_running(call: &Call<OnApp>, process_type: &ProcessType) -> Result<bool, ApiError> {
    let mut uow = call.cx.store.read().await?;
    let release = uow.current_release(call.scope()).await?;
    let of_release = release.is_some_and(|release| release.process_types.contains_key(process_type));
    let dynos = uow.dynos(call.scope()).await?;
    Ok(of_release || dynos.iter().any(|dyno| dyno.name.process_type == *process_type))
}

async fn find(uow: &mut Uow, call: &Call<OnApp>) -> Result<Dyno, ApiError> {
    let text = call.path("dyno");
    let (id, name) = (text.parse::<DynoId>().ok(), text.parse::<DynoName>().ok());
    let dynos = uow.dynos(call.scope()).await?;
    let found = dynos.into_iter().find(|d| Some(&d.id) == id.as_ref() || Some(&d.name) == name.as_ref());
    found.ok_or_else(|| ApiError::not_found("dyno"))
}

/// The ids of releases by their version.
#[derive(Default)]
struct Releases(HashMap<ReleaseVersion, String>);

impl Releases {
    async fn of(
        &mut self,
        uow: &mut Uow,
        app: &AppScope,
        version: ReleaseVersion,
    ) -> Result<proto::ReleaseOfDyno, ApiError> {
        let id = match self.0.get(&version) {
            Some(known) => known.clone(),
            None => {
                let release = uow.release_by_version(app, version).await?;
                let release = release.ok_or_else(|| ApiError::internal("a dyno's release has no row"))?;
                self.0.insert(version, release.id.to_string());
                release.id.to_string()
            }
        };
        Ok(proto::ReleaseOfDyno { id, version: u64::try_from(version.0).unwrap_or(0) })
    }
}

fn show(app: &App, dyno: &Dyno, release: proto::ReleaseOfDyno, attach_url: Option<String>) -> proto::Dyno {
    let state = match dyno.state {
        DynoState::Starting => "starting",
        DynoState::Up => "up",
        DynoState::Crashed => "crashed",
        // Heroku has no word for one that was told to stop.
        DynoState::Stopping | DynoState::Ended => "down",
    };
    proto::Dyno {
        app: apps::named(app),
        attach_url,
        command: dyno.command.clone(),
        created_at: dyno.created_at.to_rfc3339(),
        id: dyno.id.to_string(),
        name: dyno.name.to_string(),
        release,
        size: dyno.size.as_str().to_owned(),
        state: state.to_owned(),
        r#type: dyno.name.process_type.to_string(),
        updated_at: dyno.updated_at.to_rfc3339(),
    }
}
