//! `app`: create, look, rename, maintenance, destroy.

use paas_domain::AppName;
use paas_proto as proto;
use paas_store::{Account, App, AppScope, Uow};

use super::account::{is_caller, user};
use super::answer::{Answer, Reply};
use super::call::{Call, Caller, OnApp};
use super::error::ApiError;
use super::paging::{Attribute, Key, Kind, page};
use super::params::Params;
use super::{dyno_sizes, regions, stacks};
use crate::cx::Cx;
use crate::ops::create_app::own_hostname;
use crate::ops::update_app::AppChange;
use crate::ops::{create_app, destroy_app, update_app};

const ATTRIBUTES: [Attribute<App>; 2] = [
    Attribute { name: "name", kind: Kind::Name, key: |app| Key::text(&app.name) },
    Attribute { name: "id", kind: Kind::Id, key: |app| Key::text(&app.id) },
];

pub(crate) async fn list(call: Call<Caller>) -> Reply {
    let (cx, account) = (&call.cx, &call.granted.account);
    let mut uow = cx.store.read().await?;
    let mut page = page(&call.headers, uow.apps(&account.id).await?, &ATTRIBUTES)?;
    let mut shown = Vec::with_capacity(page.items.len());
    for app in std::mem::take(&mut page.items) {
        if let Some((scope, app)) = uow.authorize(&account.id, app.id.as_str()).await? {
            let app = show(&mut uow, cx, &scope, &app, account).await?;
            shown.push(serde_json::to_value(app).map_err(ApiError::internal)?);
        }
    }
    page.answer(shown)
}

pub(crate) async fn list_by_user(call: Call<Caller>) -> Reply {
    is_caller(&call)?;
    list(call).await
}

pub(crate) async fn create(call: Call<Caller>) -> Reply {
    let (cx, account) = (&call.cx, &call.granted.account);
    let name = app_name(&call.params)?;
    if call.params.text("region")?.is_some_and(|region| !regions::is_ours(region)) {
        return Err(call.params.invalid("region", "is not a region of this platform: use `us`"));
    }
    if call.params.text("stack")?.is_some_and(|stack| !stacks::is_ours(stack)) {
        return Err(call.params.invalid("stack", "is not a stack of this platform: use `heroku-24`"));
    }
    for place in ["space", "team", "organization"] {
        if call.params.says(place) {
            return Err(ApiError::not_found(if place == "organization" { "team" } else { place }));
        }
    }
    let (scope, app) = create_app::create_app(cx, account, name).await?;
    Answer::created(&show(&mut cx.store.read().await?, cx, &scope, &app, account).await?)
}

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let cx = &call.cx;
    Answer::ok(&show(&mut cx.store.read().await?, cx, call.scope(), call.app(), call.account()).await?)
}

pub(crate) async fn update(call: Call<OnApp>) -> Reply {
    let cx = &call.cx;
    let change = AppChange { name: app_name(&call.params)?, maintenance: call.params.boolean("maintenance")? };
    if call.params.text("build_stack")?.is_some_and(|stack| !stacks::is_ours(stack)) {
        return Err(call.params.invalid("build_stack", "is not a stack of this platform: use `heroku-24`"));
    }
    let app = if change.name.is_some() || change.maintenance.is_some() {
        update_app::update_app(cx, call.scope(), &change).await?
    } else {
        call.app().clone()
    };
    Answer::ok(&show(&mut cx.store.read().await?, cx, call.scope(), &app, call.account()).await?)
}

pub(crate) async fn delete(call: Call<OnApp>) -> Reply {
    let cx = &call.cx;
    let shown = show(&mut cx.store.read().await?, cx, call.scope(), call.app(), call.account()).await?;
    destroy_app::destroy_app(cx, call.scope()).await?;
    Answer::ok(&shown)
}

fn app_name(params: &Params) -> Result<Option<AppName>, ApiError> {
    let Some(text) = params.text("name")? else { return Ok(None) };
    text.parse().map(Some).map_err(|error: paas_domain::NameError| ApiError::invalid_params(error.to_string()))
}

/// How other resources show their app.
pub(crate) fn named(app: &App) -> proto::Named {
    proto::Named { id: app.id.to_string(), name: app.name.to_string() }
}

async fn show(uow: &mut Uow, cx: &Cx, scope: &AppScope, app: &App, owner: &Account) -> Result<proto::App, ApiError> {
    let image = uow.current_release(scope).await?.and_then(|release| release.image);
    let image = match image {
        Some(image) => uow.image(scope, &image).await.ok(),
        None => None,
    };
    let hostname = own_hostname(cx, &app.name)?;
    Ok(proto::App {
        acm: false,
        archived_at: None,
        build_stack: stacks::named(),
        buildpack_provided_description: image.as_ref().and_then(|image| image.description.clone()),
        create_status: "complete".to_owned(),
        created_at: app.created_at.to_rfc3339(),
        generation: dyno_sizes::generation(),
        git_url: format!("https://{}/{}.git", cx.settings.git_host, app.name),
        id: app.id.to_string(),
        internal_routing: None,
        maintenance: app.maintenance,
        name: app.name.to_string(),
        organization: None,
        owner: user(owner),
        region: regions::named(),
        released_at: app.released_at.map(paas_domain::Timestamp::to_rfc3339),
        repo_size: Some(0),
        slug_size: Some(image.map_or(0, |image| u64::try_from(image.size).unwrap_or(0))),
        space: None,
        stack: stacks::named(),
        team: None,
        updated_at: app.updated_at.to_rfc3339(),
        web_url: Some(cx.settings.web_url(hostname.as_str())),
    })
}
