//! A plain HTTP/1.1 client: one request, one connection, the bytes as they are.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Platform, until};

/// How long a whole answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// What a request does.
#[derive(Clone, Copy, Debug)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, without chunk marks.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Platform {
    /// Asks an app, by the host name that it has by itself.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn try_get(&self, app: &str, path: &str) -> io::Result<Answer> {
        let port = self.front_port();
        request(port, Method::Get, path, &[("Host", &format!("{}:{port}", self.host(app)))], "")
    }

    /// Asks an app.
    ///
    /// # Panics
    /// When nothing answers.
    #[must_use]
    pub fn get(&self, app: &str) -> Answer {
        self.try_get(app, "/").unwrap_or_else(|e| panic!("{app} does not answer: {e}"))
    }

    /// Waits until no app is at the host name that an app of this name has.
    ///
    /// # Panics
    /// When one still answers.
    pub fn leads_nowhere(&self, app: &str) {
        until(&format!("{app} leads nowhere"), self.soon(), || {
            // Without a DNS record the front door says 421, and a browser that there is no such name.
            matches!(self.get(app).status, 404 | 421).then_some(())
        });
    }

    /// Waits until the app answers 200 with `text` in its body.
    ///
    /// # Panics
    /// When it does not within `within`.
    pub fn serves(&self, app: &str, text: &str, within: Duration) {
        let mut last = None;
        let since = std::time::Instant::now();
        loop {
            if let Ok(answer) = self.try_get(app, "/") {
                if answer.status == 200 && answer.body.contains(text) {
                    return;
                }
                last = Some(answer);
            }
            assert!(since.elapsed() < within, "{app} does not say {text:?} within {within:?}: {last:?}");
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Asks the API with the admin's key.
    ///
    /// # Panics
    /// When nothing answers.
    #[must_use]
    pub fn api(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.try_api(method, path, body).unwrap_or_else(|e| panic!("the API does not answer: {e}"))
    }

    /// Asks the API with the admin's key.
    ///
    /// # Errors
    /// When nothing answers.
    pub fn try_api(&self, method: Method, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        admin_request(&self.data(), self.port("api"), method, path, body)
    }

    /// The app's releases, oldest first.
    #[must_use]
    pub fn releases(&self, app: &str) -> Vec<Value> {
        let answer = self.api(Method::Get, &format!("/apps/{app}/releases"), None);
        let mut releases = answer.json().as_array().cloned().unwrap_or_default();
        releases.sort_by_key(|release| release["version"].as_i64());
        releases
    }

    /// The app's dynos of one type that are in this state, or in any when it is empty.
    #[must_use]
    pub fn dynos(&self, app: &str, process_type: &str, state: &str) -> Vec<Value> {
        let answer = self.api(Method::Get, &format!("/apps/{app}/dynos"), None);
        let dynos = answer.json().as_array().cloned().unwrap_or_default();
        dynos
            .into_iter()
            .filter(|dyno| dyno["type"] == process_type && (state.is_empty() || dyno["state"] == state))
            .collect()
    }

    /// The ids of the dynos of this type.
    #[must_use]
    pub fn dyno_ids(&self, app: &str, process_type: &str) -> Vec<Value> {
        self.dynos(app, process_type, "").into_iter().map(|dyno| dyno["id"].clone()).collect()
    }

    /// Waits until as many other dynos of this type are up, and none of `earlier` is there.
    ///
    /// # Panics
    /// When they are not.
    pub fn have_restarted(&self, app: &str, process_type: &str, earlier: &[Value]) {
        until(&format!("other dynos than {earlier:?} are up"), self.soon() * 3, || {
            let all = self.dynos(app, process_type, "");
            let is_new = |dyno: &Value| dyno["state"] == "up" && !earlier.contains(&dyno["id"]);
            (all.len() == earlier.len() && all.iter().all(is_new)).then_some(())
        });
    }

    /// Waits until so many dynos of this type are up, and no other is there.
    ///
    /// # Panics
    /// When they are not.
    pub fn are_up(&self, app: &str, process_type: &str, count: usize) {
        until(&format!("{count} {process_type} of {app} up"), self.soon() * 3, || {
            let all = self.dynos(app, process_type, "");
            (all.len() == count && all.iter().all(|dyno| dyno["state"] == "up")).then_some(())
        });
    }
}

/// Asks the API at a port with the admin's key, which is in the data folder.
pub(super) fn admin_request(
    data: &Path,
    port: u16,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> io::Result<Answer> {
    let key = std::fs::read_to_string(data.join("admin.key"))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let headers = [
        ("Host", "localhost"),
        ("Authorization", &format!("Bearer {}", key.trim())),
        ("Accept", "application/vnd.heroku+json; version=3"),
        ("Content-Type", "application/json"),
    ];
    request(port, method, path, &headers, &body)
}

pub(super) fn request(
    port: u16,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let word = format!("{method:?}").to_uppercase();
    let mut text = format!("{word} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let broken = || io::Error::other(format!("no whole answer: {:?}", String::from_utf8_lossy(&bytes)));
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)?;
    let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let mut body = bytes[at + 4..].to_vec();
    let lower = head.to_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        body = unchunked(&body).ok_or_else(broken)?;
    } else if let Some(length) = lower.lines().find_map(|line| line.strip_prefix("content-length:"))
        && length.trim().parse() != Ok(body.len())
    {
        return Err(broken());
    }
    Ok(Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// A chunked body's bytes; `None` when it breaks off.
fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend(bytes.get(end + 2..end + 2 + size)?);
        bytes = bytes.get(end + 2 + size + 2..)?;
    }
}
