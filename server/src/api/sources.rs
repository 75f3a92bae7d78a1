//! `source`: a place to put an archive before a build, and the archive on its way there.

use std::path::Path;
use std::time::Duration;

use axum::http::{StatusCode, header};
use http_body_util::BodyExt as _;
use paas_proto as proto;
use paas_store::{Account, AppScope};
use tokio::io::AsyncWriteExt as _;

use super::answer::{Answer, Reply};
use super::call::{Bearer, Call, Caller, OnApp};
use super::error::ApiError;
use crate::cx::Cx;
use crate::ops::manage_sources::{create_source, keep_upload, source_by_token};

/// The largest archive that is taken, as it comes. Heroku's slugs end at 500 MB.
pub(crate) const MAX_UPLOAD: u64 = 512 * 1024 * 1024;
/// How long an upload may stand still.
const STALLED: Duration = Duration::from_secs(30);

pub(crate) async fn create(call: Call<Caller>) -> Reply {
    place(&call.cx, &call.granted.account, None).await
}

pub(crate) async fn create_for_app(call: Call<OnApp>) -> Reply {
    place(&call.cx, call.account(), Some(call.scope())).await
}

async fn place(cx: &Cx, account: &Account, app: Option<&AppScope>) -> Reply {
    let token = create_source(cx, account, app).await?;
    let url = format!("{}{token}", prefix(cx));
    Answer::created(&proto::Source { source_blob: proto::SourceUrls { get_url: url.clone(), put_url: url } })
}

/// What the URLs of our own sources begin with; their token follows.
pub(crate) fn prefix(cx: &Cx) -> String {
    format!("{}/sources/", cx.settings.api_url)
}

pub(crate) async fn upload(mut call: Call<Bearer>) -> Reply {
    let cx = &call.cx;
    let gone = || ApiError::forbidden("This URL is not, or no longer, good.");
    let source = source_by_token(cx, call.path("token")).await?.ok_or_else(gone)?;
    let conflict = |why: &str| ApiError::new(StatusCode::CONFLICT, "conflict", why);
    if source.uploaded {
        return Err(conflict("The source was uploaded already."));
    }
    let length = call.header(header::CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_UPLOAD) {
        return Err(ApiError::too_large("512 MiB"));
    }
    // Before its first byte: a token is worth one archive on our disk, however many bring one.
    let file = cx.objects.incoming(&source.id)?.ok_or_else(|| conflict("The source is being uploaded."))?;
    let body = call.granted.upload.take().unwrap_or_default();
    receive(body, file.path()).await?;
    keep_upload(cx, &source, file.path()).await?;
    Answer::nothing()
}

/// Writes a body to a file as it comes.
async fn receive(mut body: axum::body::Body, file: &Path) -> Result<(), ApiError> {
    let mut out = tokio::io::BufWriter::new(tokio::fs::File::create(file).await.map_err(ApiError::internal)?);
    let mut received = 0_u64;
    loop {
        let frame = tokio::time::timeout(STALLED, body.frame()).await.map_err(|_| ApiError::timeout())?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| ApiError::bad_request("The upload ended before its end."))?;
        let Ok(bytes) = frame.into_data() else { continue };
        received += bytes.len() as u64;
        if received > MAX_UPLOAD {
            return Err(ApiError::too_large("512 MiB"));
        }
        out.write_all(&bytes).await.map_err(ApiError::internal)?;
    }
    out.flush().await.map_err(ApiError::internal)
}
