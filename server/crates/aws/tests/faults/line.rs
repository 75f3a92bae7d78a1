//! A line of the fault proxy: an endpoint of one cell's own.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// See the module.
pub(crate) struct Line {
    /// `http://127.0.0.1:<port>`.
    pub(crate) url: String,
}

impl Line {
    /// A new one.
    ///
    /// # Panics
    /// When there is no proxy.
    pub(crate) async fn open() -> Self {
        let proxy = std::env::var("PAAS_TEST_AWS_FAULTS").expect("not run: no fault proxy (PAAS_TEST_AWS_FAULTS)");
        let answer = ask(&proxy, "POST", "/_line", "").await;
        Self { url: answer["url"].as_str().expect("a line").to_owned() }
    }

    /// Host and port.
    pub(crate) fn host(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// From now on this happens, and what happened before is forgotten; what reads have said is not.
    pub(crate) async fn strike(&self, fault: &Value) {
        ask(&self.url, "POST", "/_fault", &serde_json::json!([fault]).to_string()).await;
    }

    /// How often a fault has struck.
    pub(crate) async fn struck(&self) -> usize {
        ask(&self.url, "GET", "/_fault", "").await["hits"].as_array().map_or(0, Vec::len)
    }

    /// What was asked for, each as `service:Operation`.
    pub(crate) async fn calls(&self) -> BTreeSet<String> {
        let told = ask(&self.url, "GET", "/_fault", "").await;
        told["calls"].as_object().expect("calls").keys().cloned().collect()
    }

    /// No fault any more.
    pub(crate) async fn lift(&self) {
        ask(&self.url, "POST", "/_fault", "[]").await;
    }

    pub(crate) async fn close(&self) {
        ask(&self.url, "DELETE", "/_line", "").await;
    }
}

async fn ask(base: &str, method: &str, path: &str, body: &str) -> Value {
    let host = base.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(host).await.expect("the fault proxy");
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
    serde_json::from_str(body).expect("JSON")
}
