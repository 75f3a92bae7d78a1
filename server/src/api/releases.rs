//! `release`: list, look, roll back, retry.

use std::collections::HashMap;

use paas_domain::{AccountId, ReleaseStatus};
use paas_proto as proto;
use paas_store::{App, AppScope, Release, Uow};

use super::account::user;
use super::answer::{Answer, Reply};
use super::apps;
use super::call::{Call, OnApp};
use super::error::ApiError;
use super::fixed_id::slug_id;
use super::outputs::output_url;
use super::paging::{Attribute, Key, Kind, page};
use crate::cx::Cx;
use crate::ops::cut_release::find_release;
use crate::ops::roll_back::{retry_release, roll_back};

const ATTRIBUTES: [Attribute<Release>; 2] = [
    Attribute { name: "version", kind: Kind::Number, key: |release| Key::Number(release.version.0) },
    Attribute { name: "id", kind: Kind::Id, key: |release| Key::text(&release.id) },
];

pub(crate) async fn list(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let app = uow.app(call.scope()).await?;
    let mut page = page(&call.headers, uow.releases(call.scope()).await?, &ATTRIBUTES)?;
    let mut users = Users::default();
    let mut shown = Vec::with_capacity(page.items.len());
    for release in std::mem::take(&mut page.items) {
        let release = show(&mut uow, &call.cx, call.scope(), &app, &release, &mut users).await?;
        shown.push(serde_json::to_value(release).map_err(ApiError::internal)?);
    }
    page.answer(shown)
}

/// By id, number or `v11`.
pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let app = uow.app(call.scope()).await?;
    let release = find_release(&mut uow, call.scope(), call.path("release")).await?;
    let release = release.ok_or_else(|| ApiError::not_found("release"))?;
    Answer::ok(&show(&mut uow, &call.cx, call.scope(), &app, &release, &mut Users::default()).await?)
}

/// A rollback names a `release`, a retry the `slug` of one.
pub(crate) async fn create(call: Call<OnApp>) -> Reply {
    let (cx, params) = (&call.cx, &call.params);
    let description = params.line("description")?;
    let release = if let Some(release) = params.number_or_text("release")? {
        roll_back(cx, call.scope(), call.account(), &release).await?
    } else if let Some(slug) = params.text("slug")? {
        let releases = cx.store.read().await?.releases(call.scope()).await?;
        let of_slug = |release: &&Release| release.image.as_ref().is_some_and(|image| slug_id(image) == slug);
        let release = releases.iter().rev().find(of_slug).ok_or_else(|| ApiError::not_found("slug"))?;
        retry_release(cx, call.scope(), call.account(), release.id.as_str(), description).await?
    } else {
        return Err(params.invalid("slug", "is required, or release to roll back"));
    };
    let mut uow = cx.store.read().await?;
    let app = uow.app(call.scope()).await?;
    Answer::created(&show(&mut uow, cx, call.scope(), &app, &release, &mut Users::default()).await?)
}

/// Accounts as resources show them.
#[derive(Default)]
pub(crate) struct Users(HashMap<AccountId, proto::User>);

impl Users {
    pub(crate) async fn of(&mut self, uow: &mut Uow, id: &AccountId) -> Result<proto::User, ApiError> {
        if let Some(known) = self.0.get(id) {
            return Ok(known.clone());
        }
        let shown = user(&uow.account(id).await?);
        self.0.insert(id.clone(), shown.clone());
        Ok(shown)
    }
}

/// A release as clients see it. `app` is of the same moment: which of the releases is the current one stands in it.
async fn show(
    uow: &mut Uow,
    cx: &Cx,
    scope: &AppScope,
    app: &App,
    release: &Release,
    users: &mut Users,
) -> Result<proto::Release, ApiError> {
    let slug = release.image.as_ref().map(|image| proto::Only { id: slug_id(image) });
    let artifact = |slug: &proto::Only| proto::Artifact { id: slug.id.clone(), r#type: "slug".to_owned() };
    Ok(proto::Release {
        addon_plan_names: Vec::new(),
        app: apps::named(app),
        artifacts: slug.iter().map(artifact).collect(),
        created_at: release.created_at.to_rfc3339(),
        current: app.current_release.as_ref() == Some(&release.id),
        description: release.description.clone(),
        eligible_for_rollback: slug.is_some() && release.status == ReleaseStatus::Succeeded,
        id: release.id.to_string(),
        oci_image: None,
        output_stream_url: match &release.output {
            Some(output) => Some(output_url(uow, cx, scope, output).await?),
            None => None,
        },
        slug,
        status: match release.status {
            ReleaseStatus::Pending => proto::ReleaseStatus::Pending,
            ReleaseStatus::Succeeded => proto::ReleaseStatus::Succeeded,
            ReleaseStatus::Failed => proto::ReleaseStatus::Failed,
        },
        updated_at: release.updated_at.to_rfc3339(),
        user: users.of(uow, &release.account).await?,
        version: u64::try_from(release.version.0).unwrap_or(0),
    })
}
