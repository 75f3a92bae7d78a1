//! `build`: source on its way to a release. Sources come by git, or as archives that were uploaded here.

use paas_domain::{BuildId, BuildStatus};
use paas_proto as proto;
use paas_store::{App, AppScope, Build, Source, Uow};
use serde_json::json;

use super::answer::{Answer, Reply};
use super::call::{Call, OnApp};
use super::error::ApiError;
use super::fixed_id::slug_id;
use super::outputs::output_url;
use super::paging::{Attribute, Key, Kind, page};
use super::params::Params;
use super::releases::Users;
use super::{buildpacks, sources, stacks};
use crate::cx::Cx;
use crate::ops::accept_archive::{Upload, accept_archive};
use crate::ops::manage_sources::source_by_token;

const ATTRIBUTES: [Attribute<Build>; 1] = [Attribute { name: "id", kind: Kind::Id, key: |build| Key::text(&build.id) }];

pub(crate) async fn list(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let mut page = page(&call.headers, uow.builds(call.scope()).await?, &ATTRIBUTES)?;
    let mut users = Users::default();
    let mut shown = Vec::with_capacity(page.items.len());
    for build in std::mem::take(&mut page.items) {
        let build = show(&mut uow, &call.cx, call.scope(), call.app(), &build, &mut users).await?;
        shown.push(serde_json::to_value(build).map_err(ApiError::internal)?);
    }
    page.answer(shown)
}

pub(crate) async fn info(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let build = find(&mut uow, &call).await?;
    Answer::ok(&show(&mut uow, &call.cx, call.scope(), call.app(), &build, &mut Users::default()).await?)
}

/// How a build ended. Heroku has its lines here too; ours are behind the build's `output_stream_url`.
pub(crate) async fn result(call: Call<OnApp>) -> Reply {
    let mut uow = call.cx.store.read().await?;
    let build = find(&mut uow, &call).await?;
    let exit_code = match build.status {
        BuildStatus::Pending => None,
        BuildStatus::Succeeded => Some(0),
        BuildStatus::Failed => Some(1),
    };
    let build = show(&mut uow, &call.cx, call.scope(), call.app(), &build, &mut Users::default()).await?;
    let about = json!({"id": build.id, "status": build.status, "output_stream_url": build.output_stream_url});
    Answer::ok(&json!({"build": about, "exit_code": exit_code, "lines": []}))
}

async fn find(uow: &mut Uow, call: &Call<OnApp>) -> Result<Build, ApiError> {
    let id: BuildId = call.path("build").parse().map_err(|_| ApiError::not_found("build"))?;
    Ok(uow.build(call.scope(), &id).await?)
}

pub(crate) async fn create(call: Call<OnApp>) -> Reply {
    let cx = &call.cx;
    if call.params.list("buildpacks")?.is_some_and(|list| !list.is_empty()) {
        return Err(buildpacks::refused());
    }
    let blob = call.params.object("source_blob")?;
    let blob = blob.ok_or_else(|| call.params.invalid("source_blob", "is required"))?;
    let (version, checksum) = (blob.line("version")?, checksum(&blob)?);
    let source = source(&call, &blob).await?;
    let upload = Upload { source, version, checksum };
    let build = accept_archive(cx, call.scope(), call.account(), upload).await?;
    let mut uow = cx.store.read().await?;
    Answer::created(&show(&mut uow, cx, call.scope(), call.app(), &build, &mut Users::default()).await?)
}

/// The upload that `source_blob.url` names. Only our own: this server fetches nothing from anywhere.
async fn source(call: &Call<OnApp>, blob: &Params) -> Result<Source, ApiError> {
    let url = blob.required_text("url")?;
    let foreign =
        || blob.invalid("url", "must be the get_url of a source that was made and uploaded here (POST /sources)");
    let token = url.strip_prefix(&sources::prefix(&call.cx)).ok_or_else(foreign)?;
    if !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) {
        return Err(foreign());
    }
    let source = source_by_token(&call.cx, token).await?.ok_or_else(foreign)?;
    if source.account != call.account().id || source.app.as_ref().is_some_and(|app| *app != call.app().id) {
        return Err(foreign());
    }
    Ok(source)
}

/// `SHA256:<hex>`, as hexadecimal digits in lower case.
fn checksum(blob: &Params) -> Result<Option<String>, ApiError> {
    let Some(text) = blob.text("checksum")? else { return Ok(None) };
    let hex = text.split_once(':').filter(|(kind, _)| kind.eq_ignore_ascii_case("sha256")).map(|(_, hex)| hex);
    let hex = hex.filter(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let hex = hex.ok_or_else(|| blob.invalid("checksum", "must be like `SHA256:<64 hexadecimal digits>`"))?;
    Ok(Some(hex.to_ascii_lowercase()))
}

async fn show(
    uow: &mut Uow,
    cx: &Cx,
    scope: &AppScope,
    app: &App,
    build: &Build,
    users: &mut Users,
) -> Result<proto::Build, ApiError> {
    let url = match &build.branch {
        Some(_) => format!("https://{}/{}.git", cx.settings.git_host, app.name),
        // Without its token it leads nowhere, and says all that there is to say.
        None => sources::prefix(cx),
    };
    Ok(proto::Build {
        app: proto::Only { id: app.id.to_string() },
        buildpacks: None,
        created_at: build.created_at.to_rfc3339(),
        generation: "cedar".to_owned(),
        id: build.id.to_string(),
        output_stream_url: output_url(uow, cx, scope, &build.output).await?,
        release: build.release.as_ref().map(|release| proto::Only { id: release.to_string() }),
        slug: build.image.as_ref().map(|image| proto::Only { id: slug_id(image) }),
        source_blob: proto::SourceBlob {
            checksum: None,
            url,
            version: build.commit.clone(),
            version_description: None,
        },
        stack: stacks::NAME.to_owned(),
        status: match build.status {
            BuildStatus::Pending => proto::BuildStatus::Pending,
            BuildStatus::Succeeded => proto::BuildStatus::Succeeded,
            BuildStatus::Failed => proto::BuildStatus::Failed,
        },
        updated_at: build.updated_at.to_rfc3339(),
        user: users.of(uow, &build.account).await?,
    })
}
