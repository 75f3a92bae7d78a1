//! A line of the fault proxy: a way to the account that counts calls and makes them fail (`tests/aws-rig/faults.py`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::http::{Method, request};

/// A line. Dropping it closes it.
pub struct Line {
    url: String,
    port: u16,
}

impl Line {
    /// Opens one.
    ///
    /// # Panics
    /// When the proxy does not answer.
    pub(super) fn open(proxy: &str) -> Self {
        let port = super::aws::port_of(proxy);
        let answer =
            request(port, Method::Post, "/_line", &[("Host", "localhost")], "").expect("the fault proxy answers");
        let url = answer.json()["url"].as_str().expect("a line").to_owned();
        Self { port: super::aws::port_of(&url), url }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Faults in place of those before, and everything is counted from nothing.
    ///
    /// # Panics
    /// When the proxy does not take them.
    pub fn begin(&self, faults: &Value) {
        self.ask(Method::Delete, "");
        let taken = self.ask(Method::Post, &faults.to_string());
        assert_eq!(taken["faults"].as_array().map(Vec::len), faults.as_array().map(Vec::len), "{taken}");
    }

    /// No more faults; what was counted stays.
    ///
    /// # Panics
    /// When the proxy does not take it.
    pub fn lift(&self) {
        self.ask(Method::Post, "[]");
    }

    /// The calls since [`Line::begin`], as `ecs:RunTask` and how often.
    ///
    /// # Panics
    /// When the proxy does not answer.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.ask(Method::Get, "")["calls"].take()).expect("calls")
    }

    /// How many calls have met a fault since [`Line::begin`].
    ///
    /// # Panics
    /// When the proxy does not answer.
    #[must_use]
    pub fn hits(&self) -> usize {
        self.ask(Method::Get, "")["hits"].as_array().map_or(0, Vec::len)
    }

    fn ask(&self, method: Method, body: &str) -> Value {
        request(self.port, method, "/_fault", &[("Host", "localhost")], body).expect("the line answers").json()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // With the rig gone, so is the line.
        let _ = request(self.port, Method::Delete, "/_line", &[("Host", "localhost")], "");
    }
}
