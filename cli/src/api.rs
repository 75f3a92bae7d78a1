//! The Platform API, as a client sees it.
//!
//! One method per kind of request; an answer that is no success becomes a [`Failure`] with the server's own message.
//! The key goes to the API's host only: redirects to another host lose it, and log and output URLs (which carry their
//! own token) are read without it.

use std::io::{BufReader, Read};
use std::time::Duration;

use base64::Engine as _;
use paas_proto::ErrorBody;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, Response, StatusCode};
use ureq::{Agent, Body};

use crate::error::Failure;
use crate::settings::Settings;
use crate::text::printable;
use crate::{tls, ui};

/// Longest wait for the API to begin its answer, and to finish it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most that an answer of the API may hold.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// A connection to one platform.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    authorization: String,
    key: String,
    key_is_from_env: bool,
}

impl Client {
    /// A client that shows `key`.
    pub(crate) fn new(settings: &Settings, key: String) -> Result<Self, Failure> {
        Self::with(settings, format!("Bearer {key}"), key)
    }

    /// A client that shows an e-mail address and a password (or key).
    pub(crate) fn with_password(settings: &Settings, email: &str, password: &str) -> Result<Self, Failure> {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{email}:{password}"));
        Self::with(settings, format!("Basic {pair}"), String::new())
    }

    fn with(settings: &Settings, authorization: String, key: String) -> Result<Self, Failure> {
        if authorization.bytes().any(|b| !(b' '..0x7f).contains(&b)) {
            return Err(Failure::usage("the API key holds characters that no key has"));
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("paas-cli/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(PATIENCE))
            .max_redirects(5)
            .max_redirects_will_error(false)
            .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
            .tls_config(tls::for_https(settings)?);
        if settings.loopback {
            config = config.proxy(None); // a proxy's "localhost" is another machine
        }
        let (agent, url) = (config.build().new_agent(), settings.url.clone());
        Ok(Self { agent, url, authorization, key, key_is_from_env: settings.key_is_from_env() })
    }

    /// The key itself.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// `GET` of one thing.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.send(&Method::GET, path, &[], None)?)
    }

    /// `GET` of one page of a list.
    pub(crate) fn page<T: DeserializeOwned>(&self, path: &str, range: &str) -> Result<Vec<T>, Failure> {
        self.answer(self.send(&Method::GET, path, &[("range", range)], None)?)
    }

    /// `GET` of a whole list, page after page.
    pub(crate) fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        let mut range: Option<String> = None;
        loop {
            let headers: Vec<_> = range.iter().map(|r| ("range", r.as_str())).collect();
            let response = self.send(&Method::GET, path, &headers, None)?;
            let next = (response.status() == StatusCode::PARTIAL_CONTENT)
                .then(|| response.headers().get("next-range").and_then(|v| v.to_str().ok()).map(str::to_owned))
                .flatten();
            all.append(&mut self.answer::<Vec<T>>(response)?);
            // A server that names the same page again would keep us here for ever.
            if next.is_none() || next == range {
                return Ok(all);
            }
            range = next;
        }
    }

    /// `POST` of `body`.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.post_with(path, &[], body)
    }

    /// `POST` of `body` with more headers.
    pub(crate) fn post_with<T: DeserializeOwned>(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        self.answer(self.send(&Method::POST, path, headers, Some(json(body)?))?)
    }

    /// `POST` without a body, whatever the answer holds.
    pub(crate) fn post_empty(&self, path: &str) -> Result<(), Failure> {
        self.success(self.send(&Method::POST, path, &[], Some(Vec::new()))?).map(|_| ())
    }

    /// `PATCH` with `body`.
    pub(crate) fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.answer(self.send(&Method::PATCH, path, &[], Some(json(body)?))?)
    }

    /// `PUT` of `body`.
    pub(crate) fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.answer(self.send(&Method::PUT, path, &[], Some(json(body)?))?)
    }

    /// `DELETE`, whatever the answer holds.
    pub(crate) fn delete(&self, path: &str) -> Result<(), Failure> {
        self.success(self.send(&Method::DELETE, path, &[], None)?).map(|_| ())
    }

    /// Reads a log or output URL as it comes, for as long as it comes. The key is not shown.
    pub(crate) fn stream(&self, url: &str, headers: &[(&str, &str)]) -> Result<BufReader<impl Read + use<>>, Failure> {
        let mut request = Request::builder().method(Method::GET).uri(url).header("accept-encoding", "identity");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|_| Failure::new("The server named a URL that is none."))?;
        let response = self.agent.run(request).map_err(|e| self.unreachable(&e))?;
        let response = self.success(response)?;
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    /// `PUT` of an archive to a URL that carries its own token. The key is not shown.
    pub(crate) fn upload(&self, url: &str, file: std::fs::File) -> Result<(), Failure> {
        let request = Request::builder().method(Method::PUT).uri(url).body(file);
        let request = request.map_err(|_| Failure::new("The server named a URL that is none."))?;
        let response = self.agent.run(request).map_err(|e| self.unreachable(&e))?;
        self.success(response).map(|_| ())
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("accept", "application/vnd.heroku+json; version=3")
            .header("authorization", &self.authorization);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let unsendable = |_| Failure::usage("that cannot be sent to the API");
        let sent = match body {
            None => {
                let request = request.body(()).map_err(unsendable)?;
                self.agent.run(self.agent.configure_request(request).timeout_recv_body(Some(PATIENCE)).build())
            }
            Some(body) => {
                if !body.is_empty() {
                    request = request.header("content-type", "application/json");
                }
                let request = request.body(body).map_err(unsendable)?;
                self.agent.run(self.agent.configure_request(request).timeout_recv_body(Some(PATIENCE)).build())
            }
        };
        let response = sent.map_err(|e| self.unreachable(&e))?;
        for name in ["x-heroku-warning", "warning-message"] {
            if let Some(warning) = response.headers().get(name).and_then(|v| v.to_str().ok()) {
                ui::warn(warning.trim_start_matches("Warning:").trim());
            }
        }
        Ok(response)
    }

    fn answer<T: DeserializeOwned>(&self, response: Response<Body>) -> Result<T, Failure> {
        let body = self.body(self.success(response)?)?;
        serde_json::from_slice(&body)
            .map_err(|e| Failure::new(format!("{} did not answer as the API does ({e}). Is PAAS_URL right?", self.url)))
    }

    fn body(&self, response: Response<Body>) -> Result<Vec<u8>, Failure> {
        let mut body = response.into_body();
        body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec().map_err(|e| self.unreachable(&e))
    }

    /// The response, when it is a success.
    fn success(&self, response: Response<Body>) -> Result<Response<Body>, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = self.body(response).unwrap_or_default();
        let body: Option<ErrorBody> = serde_json::from_slice(&text).ok();
        match body {
            Some(_) if status == StatusCode::UNAUTHORIZED && self.key_is_from_env => Err(Failure::new(
                "The token provided to PAAS_API_KEY is invalid. Please double-check that you have the correct token, \
                 or run `paas login` without PAAS_API_KEY set.",
            )
            .with_status(401)),
            Some(body) => Err(Failure::api(status.as_u16(), body)),
            None => {
                Err(Failure::new(format!("The server at {} answered {status}, and not as the API does.", self.url))
                    .with_status(status.as_u16()))
            }
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let why = match error {
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                "the connection was refused. Is the platform running?".to_owned()
            }
            ureq::Error::HostNotFound => "there is no such host. Is PAAS_URL right?".to_owned(),
            ureq::Error::Io(e) if e.get_ref().is_some_and(|cause| cause.is::<rustls::Error>()) => {
                format!("{e}. PAAS_CA can name a certificate authority to trust.")
            }
            other => printable(&other.to_string()),
        };
        Failure::new(format!("Couldn't talk to {}: {why}", self.url))
    }
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(body).map_err(|e| Failure::new(format!("writing the request: {e}")))
}
