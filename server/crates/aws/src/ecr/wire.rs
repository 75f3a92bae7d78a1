//! The registry's HTTP protocol: where it is, who we are to it, and one way to ask.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::Frame;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use paas_domain::AppId;
use paas_ports::PortError;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;
use tokio_util::io::ReaderStream;

use crate::error::DENIED;
use crate::{Aws, Call, Foundation};

/// A token is fetched anew when it has less than this to live; ECR gives twelve hours.
const TOKEN_RESERVE: Duration = Duration::from_secs(600);
/// How long the bytes of one request may take. 16 MiB need 140 KB/s.
const SENDING: Duration = Duration::from_secs(120);
/// The most of an answer's body that is read: errors are short.
const ANSWER_BYTES: usize = 64 * 1024;

/// The host by which ECS pulls an account's images.
pub(super) fn account_host(foundation: &Foundation) -> String {
    let Foundation { account_id, region, .. } = foundation;
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("{account_id}.dkr.ecr.{region}.amazonaws.com{china}")
}

/// The way to the registry.
pub(super) struct Wire {
    aws: Aws,
    client: Client<HttpsConnector<HttpConnector>, BoxBody<Bytes, io::Error>>,
    /// `https://<host>`.
    base: String,
    token: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    /// The header's value.
    basic: String,
    until: SystemTime,
}

/// A request.
pub(super) struct Ask {
    /// What IAM calls it.
    pub(super) call: Call,
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

/// A request's body.
pub(super) enum Body {
    Nothing,
    Bytes(Bytes),
    /// The whole of this file.
    File {
        path: std::path::PathBuf,
        size: u64,
    },
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the answer's text has these words.
    pub(super) fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(words)
    }

    /// The registry's own words.
    pub(super) fn reason(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let error = &body["errors"][0];
        match (error["code"].as_str(), error["message"].as_str()) {
            (Some(code), Some(message)) => format!("the registry answered {}: {code}: {message}", self.status),
            _ => format!("the registry answered {}", self.status),
        }
    }

    /// Whether asking again can help.
    pub(super) fn is_passing(&self) -> bool {
        self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::REQUEST_TIMEOUT
            || self.says("TOOMANYREQUESTS")
    }

    pub(super) fn failure(&self, doing: &str) -> PortError {
        if self.is_passing() {
            PortError::transient(doing, self.reason())
        } else if self.status == StatusCode::FORBIDDEN {
            PortError::permanent(doing, format!("{} ({DENIED})", self.reason()))
        } else {
            PortError::permanent(doing, self.reason())
        }
    }
}

impl Wire {
    pub(super) fn new(aws: Aws) -> Result<Self, PortError> {
        let plain = aws.options.registry.clone();
        let connector = connector(plain.is_some()).map_err(|e| PortError::permanent("preparing TLS for ECR", e))?;
        let base = match plain {
            Some(host) => format!("http://{host}"),
            None => format!("https://{}", account_host(&aws.foundation)),
        };
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Self { aws, client, base, token: Mutex::default() })
    }

    /// An address of this registry: of a path, or of what a `Location` says.
    pub(super) fn url(&self, place: &str) -> String {
        if place.starts_with('/') { format!("{}{place}", self.base) } else { place.to_owned() }
    }

    /// Asks, again when that can help. Only for what may happen twice. The answer is whatever the registry said
    /// at last, refusals included.
    pub(super) async fn ask(&self, app: &AppId, doing: &str, ask: &Ask) -> Result<Answer, PortError> {
        let mut wait = self.aws.options.backoff;
        for _ in 1..self.aws.options.tries {
            match self.ask_once(app, doing, ask).await {
                Ok(answer) if !answer.is_passing() => return Ok(answer),
                Ok(answer) => tracing::debug!(doing, reason = answer.reason(), "once more"),
                Err(error) if error.is_transient() => tracing::debug!(doing, %error, "once more"),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        self.ask_once(app, doing, ask).await
    }

    /// Asks once; a token that is not accepted is replaced.
    pub(super) async fn ask_once(&self, app: &AppId, doing: &str, ask: &Ask) -> Result<Answer, PortError> {
        self.aws.turn(ask.call, Some(app)).await;
        let token = self.token(None).await?;
        let answer = self.send(doing, ask, &token).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let token = self.token(Some(&token)).await?;
        self.send(doing, ask, &token).await
    }

    async fn send(&self, doing: &str, ask: &Ask, token: &Token) -> Result<Answer, PortError> {
        let unreachable =
            |e: &dyn std::error::Error| PortError::transient(doing, format!("the registry: {}", chain(e)));
        let uri: Uri = ask.url.parse().map_err(|e| PortError::permanent(doing, format!("a bad address: {e}")))?;
        let mut request = Request::builder().method(&ask.method).uri(uri);
        // The token is for this registry, wherever it points us.
        if ask.url.strip_prefix(&self.base).is_some_and(|rest| rest.starts_with('/')) {
            request = request.header(AUTHORIZATION, &token.basic);
        }
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let body = match &ask.body {
            Body::Nothing => full(Bytes::new()),
            Body::Bytes(bytes) => full(bytes.clone()),
            Body::File { path, size } => {
                let file = tokio::fs::File::open(path).await.map_err(|e| PortError::transient(doing, e))?;
                request = request.header(CONTENT_LENGTH, *size);
                let frames = ReaderStream::with_capacity(file, 256 * 1024).map_ok(Frame::data);
                StreamBody::new(frames).boxed()
            }
        };
        let request = request.body(body).map_err(|e| PortError::permanent(doing, e))?;
        let limit = match &ask.body {
            Body::Nothing => self.aws.options.try_timeout,
            Body::Bytes(_) => SENDING,
            // As many times as it has parts.
            Body::File { size, .. } => SENDING * u32::try_from(size / super::CHUNK_BYTES + 1).unwrap_or(u32::MAX),
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|e| unreachable(&e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|e| unreachable(e.as_ref()))?;
            Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
        };
        let late = |_| PortError::transient(doing, "the registry did not answer in time");
        tokio::time::timeout(limit, exchange).await.map_err(late)?
    }

    /// The token; another one than `refused`.
    async fn token(&self, refused: Option<&Token>) -> Result<Token, PortError> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_ref()
            && token.until > SystemTime::now() + TOKEN_RESERVE
            && refused.is_none_or(|refused| refused.basic != token.basic || refused.until != token.until)
        {
            return Ok(token.clone());
        }
        let doing = "logging in to ECR";
        let request = self.aws.ecr.get_authorization_token().send();
        let answer = self.aws.call(Call::GetAuthorizationToken, None, doing, request).await?;
        let data = answer.authorization_data().first();
        let Some(text) = data.and_then(|data| data.authorization_token()) else {
            return Err(PortError::transient(doing, "there was no token in the answer"));
        };
        let expires = data.and_then(|data| data.expires_at()).map_or(0, |at| at.secs());
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(expires).unwrap_or(0));
        Ok(held.insert(Token { basic: format!("Basic {text}"), until }).clone())
    }
}

fn full(bytes: Bytes) -> BoxBody<Bytes, io::Error> {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// Plain HTTP needs no authorities, HTTPS those of this machine.
fn connector(plain: bool) -> io::Result<HttpsConnector<HttpConnector>> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let builder = if plain {
        let tls = ClientConfig::builder_with_provider(Arc::new(provider));
        let tls = tls.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        builder.with_tls_config(tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    } else {
        builder.with_provider_and_native_roots(provider)?
    };
    Ok(builder.https_or_http().enable_http1().build())
}

/// An error and its causes: hyper's own words alone say little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
