//! An answer's head: judged, and written anew for the client.

use std::mem::MaybeUninit;

use httparse::{Error as ParseError, Header};

use super::name::{self, Name};
use super::{affinity, parse_length, push_number, tokens};
use crate::body::{Sink, Source};
use crate::table::DynoMark;

const FEW_HEADERS: usize = 64;
const MAX_HEADERS: usize = 1_000;
/// Heroku's bound on one cookie: a client would not be able to send a longer one back.
const MAX_COOKIE: usize = 8_192;

/// What the request asked, as far as it shapes the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) is_head: bool,
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    pub(crate) expects_continue: bool,
    /// The dyno that the client is asked to come back to, when it is not asked already.
    pub(crate) comes_back_to: Option<DynoMark>,
}

/// A head that is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    /// H17.
    Malformed,
    /// H25.
    Restricted,
}

/// What an answer's head says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 100, 103: another head follows.
    Interim,
    /// 101: from here on the bytes are the app's own.
    Upgraded,
    /// The answer itself.
    Final {
        status: u16,
        source: Source,
        sink: Sink,
        /// The dyno will take another request on this connection.
        dyno_keeps: bool,
        /// So shall the client's connection.
        client_keeps: bool,
    },
}

/// Reads the head in `bytes` (up to and with the empty line) and writes the client's into `out`.
pub(crate) fn read(bytes: &[u8], asked: &Asked, out: &mut Vec<u8>) -> Result<Answer, BadAnswer> {
    let mut few = [const { MaybeUninit::<Header<'_>>::uninit() }; FEW_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut few) {
        Ok(_) => take(&parsed, asked, out),
        Err(ParseError::TooManyHeaders) => {
            let mut many = vec![MaybeUninit::<Header<'_>>::uninit(); MAX_HEADERS];
            let mut parsed = httparse::Response::new(&mut []);
            match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut many) {
                Ok(_) => take(&parsed, asked, out),
                Err(ParseError::TooManyHeaders) => Err(BadAnswer::Restricted),
                Err(_) => Err(BadAnswer::Malformed),
            }
        }
        Err(_) => Err(BadAnswer::Malformed),
    }
}

fn take(parsed: &httparse::Response<'_, '_>, asked: &Asked, out: &mut Vec<u8>) -> Result<Answer, BadAnswer> {
    let (Some(version), Some(status)) = (parsed.version, parsed.code) else { return Err(BadAnswer::Malformed) };
    let found = look(parsed.headers, version == 0)?;
    let reason = parsed.reason.unwrap_or("");
    match status {
        0..100 => Err(BadAnswer::Malformed),
        101 => {
            if !asked.upgrade {
                return Err(BadAnswer::Malformed);
            }
            write(out, status, reason, parsed.headers);
            write_affinity(out, asked);
            out.extend_from_slice(b"Connection: Upgrade\r\n");
            if let Some(to) = found.upgrade_to {
                out.extend_from_slice(b"Upgrade: ");
                out.extend_from_slice(to);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"\r\n");
            Ok(Answer::Upgraded)
        }
        100..200 => {
            // A 100 that nobody asked for would be taken for the answer by simple clients.
            if !asked.http10 && (status != 100 || asked.expects_continue) {
                write(out, status, reason, parsed.headers);
                out.extend_from_slice(b"\r\n");
            }
            Ok(Answer::Interim)
        }
        _ => Ok(take_final(parsed.headers, status, reason, &found, asked, out)),
    }
}

fn take_final(
    headers: &[Header<'_>],
    status: u16,
    reason: &str,
    found: &Findings<'_>,
    asked: &Asked,
    out: &mut Vec<u8>,
) -> Answer {
    let bodiless = asked.is_head || status == 204 || status == 304;
    let source = if bodiless {
        Source::EMPTY
    } else if found.chunked {
        Source::chunked()
    } else {
        found.length.map_or(Source::UntilClose, Source::Length)
    };
    let measured = matches!(source, Source::Length(_));
    let sink = if measured || asked.http10 { Sink::Raw } else { Sink::Chunked };
    let client_keeps = asked.keep_alive && (measured || sink == Sink::Chunked);
    let dyno_keeps = found.keeps && source != Source::UntilClose;

    write(out, status, reason, headers);
    write_affinity(out, asked);
    if let Some(length) = found.length.filter(|_| status != 204) {
        out.extend_from_slice(b"Content-Length: ");
        push_number(out, length);
        out.extend_from_slice(b"\r\n");
    }
    if sink == Sink::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if !client_keeps {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if asked.http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Answer::Final { status, source, sink, dyno_keeps, client_keeps }
}

fn write_affinity(out: &mut Vec<u8>, asked: &Asked) {
    if let Some(dyno) = asked.comes_back_to {
        affinity::set_cookie(out, dyno);
    }
}

struct Findings<'a> {
    length: Option<u64>,
    chunked: bool,
    keeps: bool,
    upgrade_to: Option<&'a [u8]>,
}

fn look<'a>(headers: &[Header<'a>], http10: bool) -> Result<Findings<'a>, BadAnswer> {
    let mut found = Findings { length: None, chunked: false, keeps: !http10, upgrade_to: None };
    for header in headers {
        match name::classify(header.name) {
            Name::ContentLength => {
                let length = parse_length(header.value);
                if length.is_none() || found.length.is_some_and(|other| Some(other) != length) {
                    return Err(BadAnswer::Malformed);
                }
                found.length = length;
            }
            Name::TransferEncoding => {
                if found.chunked || http10 || !header.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(BadAnswer::Malformed);
                }
                found.chunked = true;
            }
            Name::Connection => {
                for token in tokens(header.value) {
                    if token.eq_ignore_ascii_case(b"close") {
                        found.keeps = false;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") && http10 {
                        found.keeps = true;
                    }
                }
            }
            Name::SetCookie if header.value.len() > MAX_COOKIE => return Err(BadAnswer::Restricted),
            Name::Upgrade => found.upgrade_to = Some(header.value),
            _ => {}
        }
    }
    if found.chunked && found.length.is_some() {
        return Err(BadAnswer::Malformed);
    }
    Ok(found)
}

/// The status line and every header that is not about framing or this hop.
fn write(out: &mut Vec<u8>, status: u16, reason: &str, headers: &[Header<'_>]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut via = false;
    for header in headers {
        let value_end = match name::classify(header.name) {
            Name::ContentLength | Name::TransferEncoding | Name::Connection | Name::Upgrade => continue,
            // `Proxy-Authenticate` and its like end here too; `Trailer` would announce what is dropped.
            Name::HopByHop => continue,
            Name::Via => {
                via = true;
                &b", 1.1 paas\r\n"[..]
            }
            _ => &b"\r\n"[..],
        };
        out.extend_from_slice(header.name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(header.value);
        out.extend_from_slice(value_end);
    }
    if !via {
        out.extend_from_slice(b"Via: 1.1 paas\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ASKED: Asked = Asked {
        is_head: false,
        http10: false,
        keep_alive: true,
        upgrade: false,
        expects_continue: false,
        comes_back_to: None,
    };

    fn answer(head: &str, asked: &Asked) -> (Result<Answer, BadAnswer>, String) {
        let mut out = Vec::new();
        let result = read(head.as_bytes(), asked, &mut out);
        (result, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_length_is_kept_and_hops_are_not() {
        let (read, out) = answer(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\nKeep-Alive: x\r\nVia: 1.0 a\r\nX: y\r\n\r\n",
            &ASKED,
        );
        let source = Source::Length(5);
        assert_eq!(
            read,
            Ok(Answer::Final { status: 200, source, sink: Sink::Raw, dyno_keeps: false, client_keeps: true })
        );
        assert_eq!(out, "HTTP/1.1 200 OK\r\nVia: 1.0 a, 1.1 paas\r\nX: y\r\nContent-Length: 5\r\n\r\n");
    }

    #[test]
    fn a_body_without_length_is_chunked_for_1_1_and_closed_for_1_0() {
        let (read, out) = answer("HTTP/1.0 200 OK\r\n\r\n", &ASKED);
        assert_eq!(
            read,
            Ok(Answer::Final {
                status: 200,
                source: Source::UntilClose,
                sink: Sink::Chunked,
                dyno_keeps: false,
                client_keeps: true
            })
        );
        assert!(out.contains("Transfer-Encoding: chunked\r\n"));
        let (_, out) =
            answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &Asked { http10: true, ..ASKED });
        assert!(!out.contains("Transfer-Encoding") && out.contains("Connection: close\r\n"), "{out}");
    }

    #[test]
    fn nonsense_is_malformed() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nSet-Cookie: a\rb\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX Y: a\r\n\r\n",
            "HTTP/1.1 099 No\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "hello\r\n\r\n",
        ] {
            assert_eq!(answer(bad, &ASKED).0, Err(BadAnswer::Malformed), "{bad:?}");
        }
        let cookie = format!("HTTP/1.1 200 OK\r\nSet-Cookie: {}\r\n\r\n", "x".repeat(8_193));
        assert_eq!(answer(&cookie, &ASKED).0, Err(BadAnswer::Restricted));
    }

    #[test]
    fn interim_answers_reach_those_who_understand_them() {
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert!(answer(hints, &ASKED).1.starts_with("HTTP/1.1 103 "));
        assert_eq!(answer(hints, &Asked { http10: true, ..ASKED }), (Ok(Answer::Interim), String::new()));
        assert_eq!(answer("HTTP/1.1 100 Continue\r\n\r\n", &ASKED), (Ok(Answer::Interim), String::new()));
    }

    proptest! {
        #[test]
        fn what_goes_out_never_has_two_framings(headers in proptest::collection::vec(
            prop_oneof![Just("Content-Length: 3"), Just("Transfer-Encoding: chunked"), Just("Connection: close"), Just("X: y")], 0..5
        ), http10: bool, is_head: bool) {
            let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", headers.iter().map(|h| format!("{h}\r\n")).collect::<String>());
            let (read, out) = answer(&head, &Asked { http10, is_head, ..ASKED });
            if read.is_ok() {
                let lengths = out.matches("Content-Length").count() + out.matches("Transfer-Encoding").count();
                prop_assert!(lengths <= 1, "{}", out);
            }
        }
    }
}
