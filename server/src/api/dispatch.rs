//! From a matched route to its handler: credentials, rate, version, scope, app, body; and back: entity tags.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, Bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use data_encoding::HEXLOWER;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use paas_domain::{AccountId, AppId, AppName};
use paas_store::Account;

use super::Api;
use super::answer::Reply;
use super::auth::{Access, authenticate};
use super::call::{Bearer, Call, Caller, OnApp};
use super::error::ApiError;
use super::params::Params;
use super::routes::{Handler, Route};
use crate::cx::Cx;

/// The largest JSON body.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// How long a JSON body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// The longest Accept header that is read.
const MAX_ACCEPT: usize = 8 * 1024;
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");

/// Answers one request to a route.
pub(crate) async fn dispatch(
    api: Arc<Api>,
    route: Arc<Route>,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let if_none_match = request.headers().get_all(header::IF_NONE_MATCH).iter().cloned().collect::<Vec<_>>();
    let mut known = Known::default();
    let reply = answer(&api, &route, path, request, &mut known).await;
    let mut response = match reply {
        Ok(answer) => answer.into_response(),
        Err(error) => error.into_response(),
    };
    if let Some(left) = known.remaining {
        response.headers_mut().insert(RATELIMIT_REMAINING, HeaderValue::from(left));
    }
    match known.account {
        Some(account) if get && response.status().is_success() => tagged(response, &account, &if_none_match).await,
        _ => response,
    }
}

/// What is found out about the sender on the way.
#[derive(Default)]
struct Known {
    account: Option<AccountId>,
    remaining: Option<u32>,
}

async fn answer(
    api: &Api,
    route: &Route,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    known: &mut Known,
) -> Reply {
    let cx = &api.cx;
    let (parts, body) = request.into_parts();
    let mut call = Call {
        cx: cx.clone(),
        granted: Bearer::default(),
        headers: parts.headers,
        params: Params::default(),
        path: Vec::new(),
        remaining: 0,
    };
    let handler = match &route.handler {
        Handler::Capability(handler) => {
            call.path = path_params(path)?;
            if route.upload {
                call.granted.upload = Some(body);
            }
            return handler(call).await;
        }
        other => other,
    };
    let (account, authorization) = authenticate(cx, &call.headers).await?;
    known.account = Some(account.id.clone());
    let cost = u32::from(route.path != "/account/rate-limits");
    known.remaining = api.limits.take(&account.id, cost, cx.now());
    let Some(remaining) = known.remaining else {
        known.remaining = Some(0);
        return Err(ApiError::rate_limit());
    };
    call.remaining = remaining;
    acceptable(&call.headers)?;
    if !route.permission.access().is_some_and(|access: Access| access.allowed_by(&authorization.scope)) {
        return Err(ApiError::forbidden("The scope of this API key does not allow that."));
    }
    call.path = path_params(path)?;
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        call.params = Params::read(&read_body(&call.headers, body).await?)?;
    }
    match handler {
        Handler::Account(handler) => handler(granted(call, Caller { account })).await,
        Handler::App(handler) => {
            // By its parts: a call that may hold a body cannot be shared.
            let name = call.path("app").to_owned();
            let on_app = on_app(cx, &name, account).await?;
            handler(granted(call, on_app)).await
        }
        Handler::Capability(_) => Err(ApiError::no_route()),
    }
}

fn granted<P>(call: Call<Bearer>, granted: P) -> Call<P> {
    let Call { cx, headers, params, path, remaining, .. } = call;
    Call { cx, granted, headers, params, path, remaining }
}

/// The caller's app that the path names. One of somebody else is not there.
async fn on_app(cx: &Cx, text: &str, account: Account) -> Result<OnApp, ApiError> {
    let name = text.parse::<AppName>().map(String::from);
    let name = name.or_else(|_| text.parse::<AppId>().map(String::from)).map_err(|_| ApiError::not_found("app"))?;
    let mut uow = cx.store.read().await?;
    let found = uow.authorize(&account.id, &name).await?;
    let (scope, app) = found.ok_or_else(|| ApiError::not_found("app"))?;
    Ok(OnApp { account, app, scope })
}

/// A path that is no text names nothing that we have.
fn path_params(path: Result<RawPathParams, RawPathParamsRejection>) -> Result<Vec<(String, String)>, ApiError> {
    match path {
        Ok(params) => Ok(params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()),
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => Err(ApiError::no_route()),
        Err(other) => Err(ApiError::internal(other)),
    }
}

/// Reads a whole body, or says why not before reading it.
async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let coded = headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if coded {
        let message = "The request body must not have a content coding.";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if length.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(ApiError::too_large("1 MiB"));
    }
    let read = tokio::time::timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await;
    match read.map_err(|_| ApiError::timeout())? {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large("1 MiB")),
        Err(_) => Err(ApiError::bad_request("The request body ended before its end.")),
    }
}

/// Version 3 is all there is: asked for by name with any suffix, by no version, or not at all.
fn acceptable(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut types = Vec::new();
    let mut length = 0;
    for value in headers.get_all(header::ACCEPT) {
        length += value.len();
        types.extend(value.to_str().map_err(|_| ApiError::not_acceptable())?.split(','));
    }
    let silent = types.iter().all(|one| one.trim().is_empty());
    if length <= MAX_ACCEPT && (silent || types.into_iter().any(is_version_3)) {
        Ok(())
    } else {
        Err(ApiError::not_acceptable())
    }
}

fn is_version_3(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or("").to_ascii_lowercase();
    let ours = ["*/*", "application/*", "application/json", "application/vnd.heroku+json"].contains(&media.as_str());
    ours && parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("version") => {
            let version = value.trim().trim_matches('"');
            version == "3" || version.starts_with("3.")
        }
        Some((name, value)) if name.trim().eq_ignore_ascii_case("q") => {
            value.trim().parse::<f32>().is_ok_and(|quality| quality > 0.0)
        }
        _ => true,
    })
}

/// Gives an answer its entity tag, and leaves out the body that the client has already.
async fn tagged(response: Response, account: &AccountId, if_none_match: &[HeaderValue]) -> Response {
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == super::answer::JSON);
    if !json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
        return ApiError::internal("an answer could not be read").into_response();
    };
    // With the account in it: what one saw tells nothing about what another one would see.
    let hash = digest(&SHA256, &[account.as_str().as_bytes(), &body].concat());
    let tag = format!("\"{}\"", &HEXLOWER.encode(hash.as_ref())[..32]);
    let known = if_none_match.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let known = known.map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag);
    if let Ok(tag) = HeaderValue::try_from(tag) {
        parts.headers.insert(header::ETAG, tag);
    }
    if known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_3_by_any_name() {
        let ask = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).expect("a header"));
            acceptable(&headers).is_ok()
        };
        assert!(acceptable(&HeaderMap::new()).is_ok());
        for good in [
            "",
            "*/*",
            "application/json",
            "application/vnd.heroku+json",
            "application/vnd.heroku+json; version=3",
            "application/vnd.heroku+json;version=3.sdk",
            "application/vnd.heroku+json; version=\"3.cedar-acm\"",
            "text/html, application/json;q=0.5",
        ] {
            assert!(ask(good), "{good}");
        }
        for bad in [
            "application/vnd.heroku+json; version=2",
            "application/vnd.heroku+json; version=30",
            "text/html",
            "application/json;q=0",
            "nonsense",
        ] {
            assert!(!ask(bad), "{bad}");
        }
        assert!(!ask(&"a/b,".repeat(10_000)));
    }
}
