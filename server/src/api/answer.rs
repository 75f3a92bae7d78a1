//! What handlers answer with.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde::Serialize;
use serde_json::{Value, json};

use super::error::ApiError;

/// The content type of every answer that is JSON.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/vnd.heroku+json; version=3; charset=utf-8");

/// What a handler gives back.
pub(crate) type Reply = Result<Answer, ApiError>;

/// An answer that is no error.
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: AnswerBody,
}

enum AnswerBody {
    Json(Value),
    Stream { content_type: &'static str, bytes: BoxStream<'static, Bytes> },
    Nothing,
}

impl Answer {
    fn json(status: StatusCode, value: &impl Serialize) -> Reply {
        let value = serde_json::to_value(value).map_err(ApiError::internal)?;
        Ok(Self { status, headers: HeaderMap::new(), body: AnswerBody::Json(value) })
    }

    /// 200 with this.
    pub(crate) fn ok(value: &impl Serialize) -> Reply {
        Self::json(StatusCode::OK, value)
    }

    /// 201 with what was made.
    pub(crate) fn created(value: &impl Serialize) -> Reply {
        Self::json(StatusCode::CREATED, value)
    }

    /// 202 and an empty object, as Heroku answers what will be done.
    pub(crate) fn accepted() -> Reply {
        Self::json(StatusCode::ACCEPTED, &json!({}))
    }

    /// An empty list, of what this platform has none of.
    pub(crate) fn none() -> Reply {
        Self::ok(&json!([]))
    }

    /// 200 without a body.
    pub(crate) fn nothing() -> Reply {
        Ok(Self { status: StatusCode::OK, headers: HeaderMap::new(), body: AnswerBody::Nothing })
    }

    /// 200 or 206 with a page of a list.
    pub(crate) fn page(status: StatusCode, headers: HeaderMap, items: Vec<Value>) -> Self {
        Self { status, headers, body: AnswerBody::Json(Value::Array(items)) }
    }

    /// 200 with bytes as they come.
    pub(crate) fn stream(content_type: &'static str, bytes: BoxStream<'static, Bytes>) -> Reply {
        Ok(Self { status: StatusCode::OK, headers: HeaderMap::new(), body: AnswerBody::Stream { content_type, bytes } })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let (content_type, body) = match self.body {
            AnswerBody::Json(value) => (Some(JSON), Body::from(value.to_string())),
            AnswerBody::Stream { content_type, bytes } => {
                let bytes = bytes.map(Ok::<_, std::convert::Infallible>);
                (Some(HeaderValue::from_static(content_type)), Body::from_stream(bytes))
            }
            AnswerBody::Nothing => (None, Body::empty()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Some(content_type) = content_type {
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        }
        response
    }
}
