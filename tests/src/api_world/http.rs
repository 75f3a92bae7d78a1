//! Requests as they are written and answers as they come: no more of HTTP than a test needs to send it wrongly.

use std::net::SocketAddr;

use serde_json::Value;

use super::Key;

/// A request, as it will be written.
#[derive(Clone)]
pub struct Ask {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// An answer, as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Ask {
    /// A request without credentials.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        let headers = vec![("Accept".to_owned(), "application/vnd.heroku+json; version=3".to_owned())];
        Self { method: method.to_owned(), path: path.to_owned(), headers, body: Vec::new() }
    }

    /// One more header; also one that is there already.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without this header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// As somebody else.
    #[must_use]
    pub fn of(self, key: &Key) -> Self {
        self.without("Authorization").header("Authorization", &format!("Bearer {}", key.token))
    }

    /// With this JSON.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string().as_bytes())
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(super) fn bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let given = |name: &str| self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !given("content-length") && !given("transfer-encoding") && !matches!(&*self.method, "GET" | "HEAD") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "Authorization") {
            write!(f, " [{name}: {value}]")?;
        }
        write!(f, " {}", String::from_utf8_lossy(&self.body))
    }
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(at)) = head.parse(bytes) else { return None };
        let text =
            |h: &httparse::Header<'_>| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned());
        let headers = head.headers.iter().map(text).collect();
        Some(Self { status: head.code?, headers, body: bytes[at..].to_vec() })
    }

    pub(super) fn is_whole(&self) -> bool {
        if self.header("transfer-encoding") == Some("chunked") {
            return self.body.ends_with(b"0\r\n\r\n");
        }
        match self.header("content-length").and_then(|text| text.parse::<usize>().ok()) {
            Some(length) => self.body.len() >= length,
            None => false,
        }
    }

    pub(super) fn decoded(mut self) -> Self {
        if self.header("transfer-encoding") == Some("chunked") {
            let (mut rest, mut out) = (self.body.as_slice(), Vec::new());
            while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
                let size = String::from_utf8_lossy(&rest[..end]);
                let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
                let Some(chunk) = rest.get(end + 2..end + 2 + size) else { break };
                out.extend_from_slice(chunk);
                rest = rest.get(end + 4 + size..).unwrap_or_default();
            }
            self.body = out;
        }
        self
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// `422 invalid_params`: status and the error's id, when it is an error.
    #[must_use]
    pub fn short(&self) -> String {
        match serde_json::from_slice::<Value>(&self.body) {
            Ok(body) if self.status >= 400 => format!("{} {}", self.status, body["id"].as_str().unwrap_or("-")),
            _ => self.status.to_string(),
        }
    }

    pub(super) fn check(&self, what: &str) {
        assert!(self.status < 500, "{what}: {} {}", self.status, self.text());
        // What hyper itself refuses never came to us.
        if self.header("request-id").is_none() {
            assert!(matches!(self.status, 400 | 413 | 414 | 431) && self.body.is_empty(), "{what}: no Request-Id");
            return;
        }
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{what}");
        assert!(self.header("access-control-allow-credentials").is_none(), "{what}");
        if self.status >= 400 && !self.body.is_empty() {
            let body = self.json();
            let said = |field: &str| body[field].as_str().is_some_and(|text| !text.is_empty());
            assert!(said("id") && said("message"), "{what}: {body}");
            assert!(self.header("content-type").is_some_and(|kind| kind.contains("+json")), "{what}");
            let text = self.text();
            for never in ["panicked", "SELECT ", "sqlx", "/tmp/", "stack backtrace", "\u{1b}"] {
                assert!(!text.contains(never), "{what}: {text}");
            }
        }
    }
}
