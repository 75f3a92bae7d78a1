//! Server-sent events, as the log stream uses them.

use std::io::BufRead;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The event's id, for `Last-Event-ID`.
    pub(crate) id: Option<String>,
    /// Its data; several lines when the event had several.
    pub(crate) data: String,
}

/// Reads the next event; `None` at the end of the stream.
///
/// An event that the end cut off is dropped: it comes again after its predecessor's id.
pub(crate) fn next(input: &mut impl BufRead) -> std::io::Result<Option<Event>> {
    let (mut id, mut data) = (None, Vec::<String>::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
            return Ok(None);
        }
        // The bytes of an app's log need not be UTF-8.
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n').trim_end_matches('\r');
        if text.is_empty() {
            if !data.is_empty() {
                return Ok(Some(Event { id, data: data.join("\n") }));
            }
            continue;
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => id = Some(value.to_owned()),
            "data" => data.push(value.to_owned()),
            _ => {} // a comment, or a field that logs do not use
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_events() {
        let mut input: &[u8] =
            b": hi\n\nid: 7\ndata: one\n\nevent: x\ndata:two\r\ndata:  three\r\n\r\ndata: bad \xff\n\ndata: cut";
        let mut event = || next(&mut input).expect("reads");
        assert_eq!(event(), Some(Event { id: Some("7".into()), data: "one".into() }));
        assert_eq!(event(), Some(Event { id: None, data: "two\n three".into() }));
        assert_eq!(event().map(|e| e.data).as_deref(), Some("bad \u{fffd}"));
        assert_eq!(event(), None);
    }
}
