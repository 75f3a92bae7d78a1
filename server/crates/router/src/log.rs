//! Router log lines: one for each request, in Heroku's form.
//!
//! A worker writes its lines into one growing text, so that a line costs no allocation. The control side takes
//! the text as a whole. What does not fit is counted for its app, and said later.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paas_domain::AppId;
use tokio::sync::Notify;

use crate::code::Code;
use crate::head::push_number;
use crate::head::request::Request;
use crate::table::App;

/// The longest path and the longest list of addresses in a line. Logplex splits lines at 10,000 bytes.
const MAX_PATH: usize = 6_000;
const MAX_FORWARDED: usize = 2_000;

/// How a request went.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Record<'a> {
    pub(crate) code: Option<Code>,
    /// `web.1`; empty when it came to none.
    pub(crate) dyno: &'a str,
    pub(crate) connect_ms: Option<u64>,
    pub(crate) service_ms: Option<u64>,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
}

/// Writes Heroku's router line.
pub(crate) fn write_line(out: &mut Vec<u8>, request: &Request, record: &Record<'_>) {
    match record.code {
        None => out.extend_from_slice(b"at=info"),
        Some(code) => {
            out.extend_from_slice(if code.is_info() { b"at=info code=" } else { b"at=error code=" });
            out.extend_from_slice(code.as_str().as_bytes());
            out.extend_from_slice(b" desc=\"");
            out.extend_from_slice(code.description().as_bytes());
            out.push(b'"');
        }
    }
    out.extend_from_slice(b" method=");
    out.extend_from_slice(request.method());
    out.extend_from_slice(b" path=\"");
    quote(out, request.path(), MAX_PATH);
    out.extend_from_slice(b"\" host=");
    out.extend_from_slice(request.host());
    out.extend_from_slice(b" request_id=");
    out.extend_from_slice(request.id());
    out.extend_from_slice(b" fwd=\"");
    quote(out, request.forwarded(), MAX_FORWARDED);
    out.extend_from_slice(b"\" dyno=");
    out.extend_from_slice(record.dyno.as_bytes());
    for (name, value) in [(&b" connect="[..], record.connect_ms), (b" service=", record.service_ms)] {
        out.extend_from_slice(name);
        if let Some(ms) = value {
            push_number(out, ms);
            out.extend_from_slice(b"ms");
        }
    }
    out.extend_from_slice(b" status=");
    push_number(out, u64::from(record.status));
    out.extend_from_slice(b" bytes=");
    push_number(out, record.bytes);
    out.extend_from_slice(b" protocol=http");
    if let Some(socket) = record.code.and_then(Code::socket) {
        out.extend_from_slice(b" sock=");
        out.extend_from_slice(socket.as_bytes());
    }
}

/// Text inside quotes: a quote, a backslash or a byte that is not printable ASCII cannot end or forge a field.
fn quote(out: &mut Vec<u8>, text: &[u8], max: usize) {
    for byte in &text[..text.len().min(max)] {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
        }
    }
}

/// What all workers share of the log.
#[derive(Default)]
pub(crate) struct LogShare {
    /// Lines that the server has not taken yet, wherever they are.
    pub(crate) waiting: AtomicUsize,
    pub(crate) max: usize,
    /// Told when a worker that had no line has one.
    pub(crate) some: Notify,
}

impl LogShare {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }
}

/// Bytes of one worker's lines; beyond it lines are lost, however few they are.
const MAX_TEXT: usize = 4 * 1024 * 1024;

/// One worker's lines.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Written>);

/// Lines in the order they were written.
#[derive(Default)]
pub(crate) struct Written {
    text: Vec<u8>,
    ends: Vec<(Arc<App>, i64, usize)>,
    pub(crate) lost: HashMap<AppId, Lost>,
}

/// Lines of one app that were dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) count: u64,
    /// When the first was, in milliseconds since 1970.
    pub(crate) since_ms: i64,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, or counts it as lost when the server has been away for too long.
    pub(crate) fn add(&self, share: &LogShare, app: &Arc<App>, at_ms: i64, write: impl FnOnce(&mut Vec<u8>)) {
        let mut written = self.lock();
        let first = written.is_empty();
        if share.waiting.fetch_add(1, Ordering::Relaxed) >= share.max || written.text.len() > MAX_TEXT {
            share.waiting.fetch_sub(1, Ordering::Relaxed);
            written.lost.entry(app.id.clone()).or_insert(Lost { count: 0, since_ms: at_ms }).count += 1;
        } else {
            write(&mut written.text);
            let end = written.text.len();
            written.ends.push((app.clone(), at_ms, end));
        }
        drop(written);
        if first {
            share.some.notify_one();
        }
    }

    /// Takes all lines.
    pub(crate) fn take(&self) -> Written {
        std::mem::take(&mut *self.lock())
    }
}

impl Written {
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.lost.is_empty()
    }

    pub(crate) fn count(&self) -> usize {
        self.ends.len()
    }

    /// App, milliseconds since 1970, text.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&AppId, i64, Cow<'_, str>)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, _, end)| *end));
        self.ends
            .iter()
            .zip(starts)
            .map(|((app, at_ms, end), start)| (&app.id, *at_ms, String::from_utf8_lossy(&self.text[start..*end])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::request::Origin;

    #[test]
    fn lines_read_as_herokus() {
        let mut request = Request::default();
        let origin = Origin { peer: "10.0.0.9", port: 80, at_ms: 1, fresh_id: &|| [b'i'; 36] };
        request
            .read("GET /a\"b\u{e4}?x HTTP/1.1\r\nHost: app.example.com\r\n\r\n".as_bytes(), &origin)
            .expect("a good request");
        let mut out = Vec::new();
        let mut record =
            Record { dyno: "web.1", connect_ms: Some(1), service_ms: Some(30_000), status: 503, ..Record::default() };
        record.code = Some(Code::H12);
        write_line(&mut out, &request, &record);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "at=error code=H12 desc=\"Request timeout\" method=GET path=\"/a\\\"b%C3%A4?x\" host=app.example.com \
             request_id=iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii fwd=\"10.0.0.9\" dyno=web.1 connect=1ms service=30000ms \
             status=503 bytes=0 protocol=http"
        );
        let mut out = Vec::new();
        write_line(&mut out, &request, &Record { code: Some(Code::H80), status: 503, ..Record::default() });
        let line = String::from_utf8(out).expect("text");
        assert!(line.starts_with("at=info code=H80 desc=\"Maintenance mode\" "), "{line}");
        assert!(line.ends_with(" dyno= connect= service= status=503 bytes=0 protocol=http"), "{line}");
    }
}
