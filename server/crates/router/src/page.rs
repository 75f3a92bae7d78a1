//! What the router itself answers.

use paas_ports::pages::{BLANK, ERROR, MAINTENANCE, NO_SUCH_APP};

use crate::code::Code;
use crate::head::push_number;

/// A page of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    NoSuchApp,
    Code(Code),
    /// A request that could not be read, in plain words.
    Refused {
        status: u16,
        reason: &'static str,
    },
}

/// How the client's connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    Keep,
    /// Keep, said aloud, as HTTP/1.0 wants it.
    KeepAloud,
    Close,
}

impl Page {
    /// Writes the whole answer; without its body when that was not asked for.
    pub(crate) fn write(self, out: &mut Vec<u8>, is_head: bool, closing: Closing) {
        let (status, kind, body) = match self {
            Self::NoSuchApp => (404, HTML, NO_SUCH_APP),
            Self::Code(code) => (code.status(), HTML, html(code)),
            Self::Refused { status, reason } => (status, TEXT, reason),
        };
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason_phrase(status).as_bytes());
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\r\nCache-Control: no-cache, no-store\r\nContent-Length: ");
        push_number(out, body.len() as u64);
        out.extend_from_slice(match closing {
            Closing::Keep => b"\r\n\r\n",
            Closing::KeepAloud => b"\r\nConnection: keep-alive\r\n\r\n",
            Closing::Close => b"\r\nConnection: close\r\n\r\n",
        });
        if !is_head {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

fn html(code: Code) -> &'static str {
    match code {
        Code::H80 => MAINTENANCE,
        Code::H81 => BLANK,
        _ => ERROR,
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
