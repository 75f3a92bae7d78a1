//! Errors as the API says them: chosen once, here, for every operation.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use paas_ports::PortError;
use paas_proto::ErrorBody;
use paas_store::StoreError;

use super::answer::JSON;
use crate::cx::OpError;

/// An answer that is an error. Its body holds no secret, path or SQL; the cause goes to the server's own log.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    // Boxed: every handler's result has room for it.
    body: Box<ErrorBody>,
    header: Option<Box<(HeaderName, HeaderValue)>>,
    /// What happened inside, for the log line of the request.
    cause: Option<String>,
    /// Whether the connection ends with this answer.
    close: bool,
}

/// What the request's log line says about an error. An extension of the response.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) id: String,
    pub(crate) cause: Option<String>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, id: &str, message: impl Into<String>) -> Self {
        let body = Box::new(ErrorBody { id: id.to_owned(), message: message.into(), ..ErrorBody::default() });
        Self { status, body, header: None, cause: None, close: false }
    }

    /// The request itself is malformed.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn unauthorized() -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Invalid credentials provided.");
        let challenge = (header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"API\""));
        error.header = Some(Box::new(challenge));
        error
    }

    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The thing named is not there, or not the caller's: `resource` is Heroku's word, and the only difference.
    pub(crate) fn not_found(resource: &str) -> Self {
        let message = format!("Couldn't find that {}.", resource.replace('_', " "));
        let mut error = Self::new(StatusCode::NOT_FOUND, "not_found", message);
        error.body.resource = Some(resource.to_owned());
        error
    }

    /// No route has this path.
    pub(crate) fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "The requested API endpoint was not found. Are you using the right HTTP verb (i.e. `GET` vs. `POST`), and did you specify your intended version with the `Accept` header?",
        )
    }

    /// The route has other methods.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This endpoint does not have that HTTP method.")
    }

    pub(crate) fn not_acceptable() -> Self {
        let message =
            "The API version in the Accept header is not served here: use `application/vnd.heroku+json; version=3`.";
        Self::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message)
    }

    /// Names the field that cannot be.
    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_params", message)
    }

    pub(crate) fn range() -> Self {
        let message =
            "The Range header is not satisfiable: it should be like `id ..; max=200` or `name ]last..; order=asc`.";
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "requested_range_not_satisfiable", message)
    }

    pub(crate) fn rate_limit() -> Self {
        let message = "Your account reached the API rate limit. Please wait a few minutes before making new requests.";
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit", message);
        error.body.url = Some("https://devcenter.heroku.com/articles/platform-api-reference#rate-limits".to_owned());
        error
    }

    pub(crate) fn too_large(limit: &str) -> Self {
        let message = format!("The request body is larger than {limit}.");
        Self { close: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message) }
    }

    pub(crate) fn timeout() -> Self {
        let message = "The request body did not arrive in time.";
        Self { close: true, ..Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message) }
    }

    /// Our own mistake or a broken disk, network or engine.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        let message = "An error occurred on the server. Please try again; the server's log has the cause under this answer's Request-Id.";
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", message);
        error.cause = Some(cause.to_string());
        error
    }
}

/// An error with everything below it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(source) = below {
        text.push_str(": ");
        text.push_str(&source.to_string());
        below = source.source();
    }
    text
}

impl From<OpError> for ApiError {
    fn from(error: OpError) -> Self {
        match error {
            OpError::NotFound(what) => Self::not_found(&what.replace(' ', "_")),
            OpError::Invalid(message) => Self::invalid_params(message),
            OpError::Conflict(message) => Self::new(StatusCode::CONFLICT, "conflict", message),
            OpError::Forbidden(message) => Self::forbidden(message),
            OpError::Store(error) => Self::internal(chain(&error)),
            OpError::Port(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        OpError::from(error).into()
    }
}

impl From<PortError> for ApiError {
    fn from(error: PortError) -> Self {
        Self::internal(chain(&error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let said = Said { id: self.body.id.clone(), cause: self.cause };
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, JSON);
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        if self.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(said);
        response
    }
}
