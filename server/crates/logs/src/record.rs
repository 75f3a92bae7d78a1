//! A numbered line as JSON: how lines are kept, in files and elsewhere.

use std::borrow::Cow;
use std::io;

use paas_domain::Timestamp;
use paas_ports::{LogLine, LogSource, Tail};
use serde::{Deserialize, Serialize};

/// Short names: they are written with each line.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    i: u64,
    t: Timestamp,
    s: LogSource,
    #[serde(borrow)]
    p: Cow<'a, str>,
    #[serde(borrow)]
    m: Cow<'a, str>,
}

/// Writes a line as one record, without a line end.
///
/// # Errors
/// None that a `Vec` does not have.
pub fn encode(tail: &Tail, out: &mut Vec<u8>) -> io::Result<()> {
    let LogLine { at, source, process, message } = &tail.line;
    let record = Record { i: tail.id, t: *at, s: *source, p: process.into(), m: message.into() };
    Ok(serde_json::to_writer(out, &record)?)
}

/// The line that a record holds; nothing when it is none.
#[must_use]
pub fn decode(record: &[u8]) -> Option<Tail> {
    let Record { i, t, s, p, m } = serde_json::from_slice(record).ok()?;
    Some(Tail { id: i, line: LogLine { at: t, source: s, process: p.into_owned(), message: m.into_owned() } })
}
