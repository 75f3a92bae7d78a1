//! A request's head: judged, and written anew for the dyno in the same pass.
//!
//! The new head is kept until the answer is complete, because another dyno may get it too and because the log
//! line is made of its parts.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Error as ParseError, Header};

use super::host::{self, Host};
use super::name::{self, Name};
use super::{affinity, parse_length, push_number, tokens};
use crate::body::Source;
use crate::table::DynoMark;

/// More headers than nearly any request has; those with more are read again with room for all allowed.
const FEW_HEADERS: usize = 64;
const MAX_HEADERS: usize = 1_000;
/// The longest method in any registry has 17 characters.
const MAX_METHOD: usize = 32;

/// Where a request came in.
pub(crate) struct Origin<'a> {
    /// The client's address, without port.
    pub(crate) peer: &'a str,
    /// The port it connected to.
    pub(crate) port: u16,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// The id that the request gets when it brings none.
    pub(crate) fresh_id: &'a dyn Fn() -> [u8; 36],
}

/// A request that is answered without looking for its app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

const fn refuse<T>(status: u16, reason: &'static str) -> Result<T, Refusal> {
    Err(Refusal { status, reason })
}

/// A request that may be forwarded.
#[derive(Debug)]
pub(crate) struct Request {
    head: Vec<u8>,
    method: Range<usize>,
    path: Range<usize>,
    host: Range<usize>,
    id: Range<usize>,
    forwarded: Range<usize>,
    /// The name to look up: lower case, without port and closing dot; empty when no app can have it.
    pub(crate) host_key: String,
    pub(crate) body: Source,
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    pub(crate) is_head: bool,
    /// Asks for another protocol, and has no body.
    pub(crate) upgrade: bool,
    pub(crate) expects_continue: bool,
    /// Sending it twice does no harm: safe method, no body.
    pub(crate) repeatable: bool,
    /// The dyno that an earlier answer asked this client to come back to.
    pub(crate) affinity: Option<DynoMark>,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            head: Vec::new(),
            method: 0..0,
            path: 0..0,
            host: 0..0,
            id: 0..0,
            forwarded: 0..0,
            host_key: String::new(),
            body: Source::EMPTY,
            http10: false,
            keep_alive: false,
            is_head: false,
            upgrade: false,
            expects_continue: false,
            repeatable: false,
            affinity: None,
        }
    }
}

/// What the first look over the headers found.
#[derive(Default)]
struct Findings<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    asks_upgrade: bool,
    upgrade_to: Option<&'a [u8]>,
    nominates: bool,
    id: Option<&'a [u8]>,
    forwarded: bool,
    via: bool,
    expects: bool,
    affinity: Option<DynoMark>,
}

impl Request {
    /// Reads the head of a request: `bytes` up to and with the empty line. Reuses the memory of the last one.
    pub(crate) fn read(&mut self, bytes: &[u8], from: &Origin<'_>) -> Result<(), Refusal> {
        let mut few = [const { MaybeUninit::<Header<'_>>::uninit() }; FEW_HEADERS];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut few) {
            Ok(_) => self.take(&parsed, bytes, from),
            Err(ParseError::TooManyHeaders) => self.read_many(bytes, from),
            Err(e) => Err(malformed(e, bytes)),
        }
    }

    #[cold]
    fn read_many(&mut self, bytes: &[u8], from: &Origin<'_>) -> Result<(), Refusal> {
        let mut many = vec![MaybeUninit::<Header<'_>>::uninit(); MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut many) {
            Ok(_) => self.take(&parsed, bytes, from),
            Err(ParseError::TooManyHeaders) => refuse(431, "too many header lines"),
            Err(e) => Err(malformed(e, bytes)),
        }
    }

    fn take(&mut self, parsed: &httparse::Request<'_, '_>, bytes: &[u8], from: &Origin<'_>) -> Result<(), Refusal> {
        let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
            return refuse(400, "the request line is not HTTP");
        };
        self.http10 = version == 0;
        check_method(method)?;
        let found = self.look(parsed.headers, bytes)?;
        let (authority, path) = split_target(method, target)?;

        self.body = match (found.chunked, found.length) {
            (true, _) => Source::chunked(),
            (false, Some(length)) => Source::Length(length),
            (false, None) => Source::EMPTY,
        };
        let empty = self.body.is_done();
        self.is_head = method == "HEAD";
        self.keep_alive = !found.close && (!self.http10 || found.keep_alive);
        // h2c is an upgrade that we do not speak; with a body, the bytes behind it would be ambiguous.
        let upgrade_to = found.upgrade_to.filter(|to| {
            found.asks_upgrade && !self.http10 && empty && !tokens(to).any(|t| t.eq_ignore_ascii_case(b"h2c"))
        });
        self.upgrade = upgrade_to.is_some();
        self.expects_continue = found.expects && !self.http10 && !empty;
        self.affinity = found.affinity;
        self.repeatable = empty && !self.upgrade && matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE");

        let host = match (authority, found.host) {
            (Some(authority), _) => authority.as_bytes(),
            (None, Some(host)) => host,
            // HTTP/1.0 knows no Host: well-formed, and nobody's.
            (None, None) => b"",
        };
        self.host_key.clear();
        match host::parse(host) {
            Host::Name(name) => self.host_key.extend(name.chars().map(|c| c.to_ascii_lowercase())),
            Host::Address => {}
            Host::Bad if host.is_empty() && self.http10 && authority.is_none() => {}
            Host::Bad => return refuse(400, "the Host is not a host"),
        }
        self.write(method, path, host, parsed.headers, &found, upgrade_to, from);
        Ok(())
    }

    fn look<'a>(&self, headers: &[Header<'a>], bytes: &[u8]) -> Result<Findings<'a>, Refusal> {
        let mut found = Findings::default();
        for header in headers {
            match name::classify(header.name) {
                Name::Host => {
                    if found.host.replace(header.value).is_some() {
                        return refuse(400, "more than one Host");
                    }
                }
                Name::ContentLength => {
                    let length = parse_length(header.value).filter(|_| is_bare(header, bytes));
                    if length.is_none() || found.length.is_some() {
                        return refuse(400, "the Content-Length is not one number");
                    }
                    found.length = length;
                }
                Name::TransferEncoding => {
                    let chunked = header.value.eq_ignore_ascii_case(b"chunked") && is_bare(header, bytes);
                    if !chunked || found.chunked || self.http10 {
                        return refuse(400, "a Transfer-Encoding other than one \"chunked\"");
                    }
                    found.chunked = true;
                }
                Name::Connection => {
                    for token in tokens(header.value) {
                        if token.eq_ignore_ascii_case(b"close") {
                            found.close = true;
                        } else if token.eq_ignore_ascii_case(b"keep-alive") {
                            found.keep_alive = true;
                        } else if token.eq_ignore_ascii_case(b"upgrade") {
                            found.asks_upgrade = true;
                        } else {
                            found.nominates = true;
                        }
                    }
                }
                Name::Upgrade => found.upgrade_to = Some(header.value),
                Name::Expect => {
                    if !header.value.eq_ignore_ascii_case(b"100-continue") {
                        return refuse(417, "an Expect other than 100-continue");
                    }
                    found.expects = true;
                }
                Name::RequestId => {
                    // A second one makes both worthless.
                    let usable = found.id.is_none() && is_request_id(header.value);
                    found.id = Some(if usable { header.value } else { b"" });
                }
                Name::ForwardedFor => found.forwarded = true,
                Name::Via => found.via = true,
                Name::Cookie => found.affinity = found.affinity.or_else(|| affinity::of_cookies(header.value)),
                Name::Other | Name::SetCookie | Name::HopByHop | Name::Ours => {}
            }
        }
        if found.chunked && found.length.is_some() {
            return refuse(400, "both Content-Length and Transfer-Encoding");
        }
        if found.host.is_none() && !self.http10 {
            return refuse(400, "no Host");
        }
        Ok(found)
    }

    #[allow(clippy::too_many_arguments)] // the parts of one head, used here only
    fn write(
        &mut self,
        method: &str,
        path: &str,
        host: &[u8],
        headers: &[Header<'_>],
        found: &Findings<'_>,
        upgrade_to: Option<&[u8]>,
        from: &Origin<'_>,
    ) {
        let head = &mut self.head;
        head.clear();
        self.method = push(head, method.as_bytes());
        head.push(b' ');
        // `http://host?x` has no path of its own.
        let path_start = head.len();
        if path.starts_with('?') {
            head.push(b'/');
        }
        head.extend_from_slice(path.as_bytes());
        self.path = path_start..head.len();
        head.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        self.host = push(head, host);
        head.extend_from_slice(b"\r\n");
        for header in headers {
            let keep = match name::classify(header.name) {
                Name::Other if name::shadows_ours(header.name) => false,
                Name::Other => !found.nominates || !is_nominated(header.name, headers),
                Name::Cookie | Name::SetCookie => true,
                Name::Expect => self.expects_continue,
                _ => false,
            };
            if keep {
                push_header(head, header);
            }
        }
        match &self.body {
            Source::Chunked(_) => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Source::Length(length) if found.length.is_some() => {
                head.extend_from_slice(b"Content-Length: ");
                push_number(head, *length);
                head.extend_from_slice(b"\r\n");
            }
            _ => {}
        }
        if let Some(to) = upgrade_to {
            head.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
            head.extend_from_slice(to);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"X-Request-Id: ");
        self.id = match found.id.filter(|id| !id.is_empty()) {
            Some(id) => push(head, id),
            None => push(head, &(from.fresh_id)()),
        };
        head.extend_from_slice(b"\r\nX-Forwarded-For: ");
        let forwarded_start = head.len();
        if found.forwarded {
            push_joined(head, headers, Name::ForwardedFor);
        }
        head.extend_from_slice(from.peer.as_bytes());
        self.forwarded = forwarded_start..head.len();
        head.extend_from_slice(b"\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: ");
        push_number(head, u64::from(from.port));
        head.extend_from_slice(b"\r\nX-Request-Start: ");
        push_number(head, from.at_ms);
        head.extend_from_slice(b"\r\nVia: ");
        if found.via {
            push_joined(head, headers, Name::Via);
        }
        head.extend_from_slice(b"1.1 paas\r\n");
    }

    /// The whole head for a dyno that was connected to in `connect_ms`, `route_ms` after the request came.
    pub(crate) fn write_head(&self, out: &mut Vec<u8>, connect_ms: u64, route_ms: u64) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"Connect-Time: ");
        push_number(out, connect_ms);
        out.extend_from_slice(b"\r\nTotal-Route-Time: ");
        push_number(out, route_ms);
        out.extend_from_slice(b"\r\n\r\n");
    }

    pub(crate) fn method(&self) -> &[u8] {
        &self.head[self.method.clone()]
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.head[self.path.clone()]
    }

    pub(crate) fn host(&self) -> &[u8] {
        &self.head[self.host.clone()]
    }

    pub(crate) fn id(&self) -> &[u8] {
        &self.head[self.id.clone()]
    }

    pub(crate) fn forwarded(&self) -> &[u8] {
        &self.head[self.forwarded.clone()]
    }
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = out.len();
    out.extend_from_slice(bytes);
    start..out.len()
}

fn push_header(out: &mut Vec<u8>, header: &Header<'_>) {
    out.extend_from_slice(header.name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(header.value);
    out.extend_from_slice(b"\r\n");
}

/// The values of every `which` header, each followed by a comma.
fn push_joined(out: &mut Vec<u8>, headers: &[Header<'_>], which: Name) {
    for header in headers.iter().filter(|h| !h.value.is_empty() && name::classify(h.name) == which) {
        out.extend_from_slice(header.value);
        out.extend_from_slice(b", ");
    }
}

fn is_nominated(name: &str, headers: &[Header<'_>]) -> bool {
    name::may_be_nominated(name)
        && headers
            .iter()
            .filter(|h| name::classify(h.name) == Name::Connection)
            .any(|h| tokens(h.value).any(|token| token.eq_ignore_ascii_case(name.as_bytes())))
}

/// Whether the value stands alone on its line: at most one space in front of it, nothing behind.
/// Readers differ in what they take for white space, so around framing there is none to differ about.
fn is_bare(header: &Header<'_>, bytes: &[u8]) -> bool {
    let base = bytes.as_ptr() as usize;
    let start = header.value.as_ptr() as usize - base;
    let name_end = header.name.as_ptr() as usize - base + header.name.len();
    let lead = &bytes[name_end..start];
    (lead == b":" || lead == b": ") && bytes.get(start + header.value.len()) == Some(&b'\r')
}

/// Heroku's rule for an id that a client brings.
fn is_request_id(value: &[u8]) -> bool {
    (20..=200).contains(&value.len())
        && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'-'))
}

fn check_method(method: &str) -> Result<(), Refusal> {
    if method == "CONNECT" {
        return refuse(405, "CONNECT is for forward proxies");
    }
    let known_form = method.len() <= MAX_METHOD
        && method.as_bytes()[0].is_ascii_uppercase()
        && method.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if known_form { Ok(()) } else { refuse(501, "the method is not one") }
}

/// Parts a target into the authority of an absolute one, and the path.
fn split_target<'a>(method: &str, target: &'a str) -> Result<(Option<&'a str>, &'a str), Refusal> {
    if target.contains('#') {
        return refuse(400, "a fragment in the target");
    }
    if target.starts_with('/') || (target == "*" && method == "OPTIONS") {
        return Ok((None, target));
    }
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        target.get(..scheme.len()).filter(|s| s.eq_ignore_ascii_case(scheme)).map(|s| &target[s.len()..])
    });
    let Some(rest) = rest else { return refuse(400, "the target is not a path") };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    Ok((Some(authority), if path.is_empty() { "/" } else { path }))
}

fn malformed(error: ParseError, bytes: &[u8]) -> Refusal {
    if error == ParseError::Version {
        let line = &bytes[..bytes.iter().position(|b| *b == b'\r').unwrap_or(bytes.len())];
        let version = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
        let other = line.iter().filter(|b| **b == b' ').count() == 2
            && matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit());
        if other {
            return Refusal { status: 505, reason: "only HTTP/1.0 and HTTP/1.1 are spoken here" };
        }
    }
    Refusal { status: 400, reason: "the request is not HTTP" }
}

#[cfg(test)]
mod tests;
