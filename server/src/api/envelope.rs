//! What every request and answer has in common: `Request-Id`, one log line, no panic beyond here, the guard against
//! calls outside in a transaction, and headers that keep browsers from guessing.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use paas_ports::outside;

use super::error::{ApiError, Said};

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// The CLI sends the ids of all its requests so far, up to about 7 KB; so much of them comes back.
const MAX_CHAIN: usize = 7_000;

/// Wraps every route.
pub(crate) async fn envelope(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = uuid::Uuid::new_v4().to_string();
    let chain = chain(&id, request.headers());
    let method = request.method().clone();
    // The route's pattern: a real path may hold a token.
    let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let answer = async {
        if !known.contains(&method) {
            ApiError::method_not_allowed().into_response()
        } else if let Err(error) = host(&request) {
            error.into_response()
        } else {
            next.run(request).await
        }
    };
    let caught = AssertUnwindSafe(outside::task(answer)).catch_unwind().await;
    let mut response = caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        ApiError::internal(format!("panic: {text}")).into_response()
    });
    let said = response.extensions_mut().remove::<Said>();
    let (error, cause) = said.map_or((None, None), |said| (Some(said.id), said.cause));
    let (status, ms) = (response.status().as_u16(), begun.elapsed().as_millis());
    match cause {
        Some(cause) => tracing::error!(request_id = id, %method, route, status, error, ms, cause, "request"),
        None => tracing::info!(request_id = id, %method, route, status, error, ms, "request"),
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, chain);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    headers.entry(header::VARY).or_insert(HeaderValue::from_static("Accept, Authorization"));
    response
}

/// A request for two hosts, or for none where HTTP/1.1 wants one, is no request.
fn host(request: &Request) -> Result<(), ApiError> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    let needed = request.version() == Version::HTTP_11 && request.uri().host().is_none();
    if hosts > 1 || (hosts == 0 && needed) {
        return Err(ApiError::bad_request("The request needs exactly one Host header."));
    }
    Ok(())
}

/// This request's id and those that the client sent, as Heroku gives them back. What is no id is left out.
fn chain(own: &str, headers: &HeaderMap) -> HeaderValue {
    let mut text = own.to_owned();
    let sent = headers.get_all(REQUEST_ID).iter().filter_map(|value| value.to_str().ok());
    for id in sent.flat_map(|value| value.split(',')).map(str::trim) {
        let plain =
            (1..=100).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if plain && text.len() + id.len() < MAX_CHAIN {
            text.push(',');
            text.push_str(id);
        }
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        use tower::ServiceExt as _;
        let secret = std::hint::black_box("secret");
        let handler = move || async move {
            assert_ne!(secret, "secret", "{secret}");
        };
        let router = axum::Router::new().route("/", axum::routing::get(handler));
        let router = router.layer(axum::middleware::from_fn(envelope));
        let request = Request::builder().header("Host", "localhost").body(axum::body::Body::empty());
        let answer = router.oneshot(request.expect("a request")).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 500);
        assert!(answer.headers().contains_key(REQUEST_ID));
        let body = axum::body::to_bytes(answer.into_body(), 10_000).await.expect("a body");
        let body: paas_proto::ErrorBody = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body.id, "internal_server_error");
        assert!(!body.message.contains("secret"));
    }

    #[test]
    fn the_chain_is_clean_and_bounded() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("a-1, b\"2,,c_3"));
        assert_eq!(chain("own", &headers), "own,a-1,c_3");
        headers.insert(REQUEST_ID, HeaderValue::from_str(&"abcdefgh,".repeat(2000)).expect("a header"));
        assert!(chain("own", &headers).len() <= MAX_CHAIN);
    }
}
