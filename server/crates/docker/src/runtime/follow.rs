//! A dyno's output on its way into the app's log.
//!
//! The engine keeps the output; how far it was taken over is in a file, written after the lines are stored. So a killed
//! server loses none; and what it had stored and not yet written down, the next one finds in the log and does not repeat.

use std::collections::HashMap;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;
use paas_domain::{AppId, Timestamp};
use paas_ports::{LogLine, LogSource, LogStore, TailQuery};

use super::Inner;
use super::book::Dyno;
use super::facts::{Mark, Position};
use crate::engine::status;

/// Logplex's limit for one line.
const LINE_BYTES: usize = 10_000;
/// The most pieces that are stored at once.
const BATCH: usize = 512;
/// How far the lines of stdout and of stderr may be out of order, in milliseconds.
const OUT_OF_ORDER_MS: i64 = 1_000;

/// Takes over all output of a dyno, until it has ended and its last line is stored.
pub(crate) async fn follow(inner: &Inner, dyno: &Dyno) {
    let saved = inner.files.position(&dyno.tag.dyno);
    let process = dyno.tag.name.to_string();
    let known = Known::read(&*inner.logs, &dyno.tag.app, &process, &saved).await;
    let mut taker = Taker { process, position: saved, saved, rest: Default::default(), known };
    let mut facts = dyno.watch();
    loop {
        let ended = facts.borrow().exit.is_some();
        match taker.take(inner, dyno, !ended).await {
            Taken::All if ended => break,
            Taken::Gone => break,
            // The engine does not answer.
            Taken::Broken if ended => tokio::time::sleep(Duration::from_millis(300)).await,
            // The stream of a running dyno ended: it is about to end too, or the engine is.
            Taken::All | Taken::Broken => {
                let exit = facts.wait_for(|f| f.exit.is_some());
                let _ = tokio::time::timeout(Duration::from_millis(300), exit).await;
            }
        }
    }
    dyno.note(|f| f.drained = true);
}

enum Taken {
    All,
    Broken,
    Gone,
}

struct Taker {
    process: String,
    /// How far lines were taken.
    position: Position,
    /// How far they were taken and nothing is left over.
    saved: Position,
    /// What is left of a line whose end has not come yet: stdout, stderr.
    rest: [Vec<u8>; 2],
    known: Known,
}

/// The lines of a dyno that were stored before this follower began, and perhaps not written down as such: each of them
/// once more.
#[derive(Default)]
struct Known {
    lines: HashMap<(Timestamp, String), usize>,
    newest: Timestamp,
}

impl Known {
    /// Those that are not older than what is written down, which is passed over when it comes again. Without an answer,
    /// lines may be repeated.
    async fn read(logs: &dyn LogStore, app: &AppId, process: &str, saved: &Position) -> Self {
        let (source, process) = (Some(LogSource::App), Some(process.to_owned()));
        let query = TailQuery { lines: TailQuery::MAX_LINES, source, process, ..TailQuery::default() };
        let stored = match logs.tail(app, query).await {
            Ok(tails) => tails.map(|tail| tail.line).collect().await,
            Err(error) => {
                tracing::warn!(%app, %error, "cannot read which log lines are stored");
                Vec::new()
            }
        };
        Self::of(stored, saved)
    }

    fn of(stored: impl IntoIterator<Item = LogLine>, saved: &Position) -> Self {
        let oldest = Timestamp(saved.out.at_ns.min(saved.err.at_ns) / 1_000_000);
        let mut known = Self::default();
        for line in stored.into_iter().filter(|line| line.at >= oldest) {
            known.newest = known.newest.max(line.at);
            *known.lines.entry((line.at, line.message)).or_default() += 1;
        }
        known
    }

    /// Whether this line, which the engine tells, is not stored yet.
    fn lacks(&mut self, line: &LogLine) -> bool {
        if self.lines.is_empty() {
            return true;
        }
        if line.at.since_ms(self.newest) > OUT_OF_ORDER_MS {
            self.lines.clear();
            return true;
        }
        match self.lines.get_mut(&(line.at, line.message.clone())) {
            Some(times) if *times > 0 => {
                *times -= 1;
                false
            }
            _ => true,
        }
    }
}

impl Taker {
    async fn take(&mut self, inner: &Inner, dyno: &Dyno, follow: bool) -> Taken {
        // A line whose rest was not read is read again from its start.
        if self.rest != <[Vec<u8>; 2]>::default() {
            self.rest = Default::default();
            self.position = self.saved;
        }
        let mut seen = Position::default();
        let oldest = self.position.out.at_ns.min(self.position.err.at_ns);
        let since_s = i32::try_from(oldest / 1_000_000_000).unwrap_or(0);
        let options =
            LogsOptionsBuilder::new().follow(follow).stdout(true).stderr(true).timestamps(true).since(since_s);
        let stream = inner.docker.logs(&dyno.container, Some(options.build()));
        let mut batches = std::pin::pin!(stream.ready_chunks(BATCH));
        while let Some(batch) = batches.next().await {
            let mut lines = Vec::new();
            let mut end = None;
            for piece in batch {
                match piece {
                    Ok(piece) => self.piece(piece, &mut seen, &mut lines),
                    Err(e) if status(&e) == Some(404) => end = Some(Taken::Gone),
                    Err(_) => end = Some(Taken::Broken),
                }
            }
            self.store(inner, dyno, lines).await;
            if let Some(end) = end {
                return end;
            }
        }
        let mut lines = Vec::new();
        if !follow {
            // An unfinished last line is a line.
            self.flush(&mut lines);
        }
        self.store(inner, dyno, lines).await;
        Taken::All
    }

    fn piece(&mut self, piece: LogOutput, seen: &mut Position, lines: &mut Vec<LogLine>) {
        let stderr = matches!(piece, LogOutput::StdErr { .. });
        let bytes = piece.into_bytes();
        let Some((at_ns, text)) = stamped(&bytes) else { return };
        let (mark, stored) =
            if stderr { (&mut seen.err, &mut self.position.err) } else { (&mut seen.out, &mut self.position.out) };
        *mark = if mark.at_ns == at_ns { Mark { at_ns, pieces: mark.pieces + 1 } } else { Mark { at_ns, pieces: 1 } };
        if *mark <= *stored {
            // Its line is among those that are known to be stored: another one like it is not.
            let line = text.strip_suffix(b"\n").map(|text| text.strip_suffix(b"\r").unwrap_or(text));
            if let Some(line) = line {
                let line = self.line(Timestamp(at_ns / 1_000_000), String::from_utf8_lossy(line).into_owned());
                self.known.lacks(&line);
            }
            return;
        }
        *stored = *mark;
        let rest = &mut self.rest[usize::from(stderr)];
        rest.extend_from_slice(text);
        let whole = rest.ends_with(b"\n");
        if whole {
            rest.pop();
            if rest.ends_with(b"\r") {
                rest.pop();
            }
        }
        let (mut parts, left) = split(rest);
        if whole {
            if !left.is_empty() || parts.is_empty() {
                parts.push(String::from_utf8_lossy(&left).into_owned());
            }
            rest.clear();
        } else {
            *rest = left;
        }
        let at = Timestamp(at_ns / 1_000_000);
        lines.extend(parts.into_iter().map(|message| self.line(at, message)));
    }

    fn flush(&mut self, lines: &mut Vec<LogLine>) {
        for (stderr, mark) in [(0, self.position.out), (1, self.position.err)] {
            let rest = std::mem::take(&mut self.rest[stderr]);
            if !rest.is_empty() {
                let message = String::from_utf8_lossy(&rest).into_owned();
                lines.push(self.line(Timestamp(mark.at_ns / 1_000_000), message));
            }
        }
    }

    fn line(&self, at: Timestamp, message: String) -> LogLine {
        LogLine { at, source: LogSource::App, process: self.process.clone(), message }
    }

    /// Stores lines however long it takes: until then the engine keeps them, and the container stays.
    async fn store(&mut self, inner: &Inner, dyno: &Dyno, mut lines: Vec<LogLine>) {
        if lines.is_empty() {
            return;
        }
        lines.retain(|line| self.known.lacks(line));
        let mut pause = Duration::from_millis(50);
        while let Err(e) = inner.logs.append(&dyno.tag.app, lines.clone()).await {
            tracing::warn!(dyno = %dyno.tag.name, error = %e, "cannot store log lines");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        // A line whose rest is still to come would be cut by a restart here: then it is taken again in whole.
        if self.rest.iter().all(Vec::is_empty) {
            self.saved = self.position;
            dyno.keep_position(&self.saved);
        }
    }
}

/// `2026-11-23T15:04:05.123456789Z text` → nanoseconds, text.
fn stamped(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let space = bytes.iter().position(|b| *b == b' ')?;
    let stamp = std::str::from_utf8(&bytes[..space]).ok()?;
    let (whole, fraction) = stamp.strip_suffix('Z')?.split_once('.').unwrap_or((stamp.strip_suffix('Z')?, "0"));
    let seconds = Timestamp::parse(&format!("{whole}Z"))?.0 / 1000;
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some((seconds * 1_000_000_000 + nanos, &bytes[space + 1..]))
}

/// Cuts lines of the most bytes from the front, between characters; what is left is shorter.
fn split(bytes: &[u8]) -> (Vec<String>, Vec<u8>) {
    let mut parts = Vec::new();
    let mut left = bytes;
    while left.len() > LINE_BYTES {
        let mut cut = LINE_BYTES;
        // A continuation byte is 10xxxxxx; a character has three of them at most.
        while cut > LINE_BYTES - 3 && left[cut] & 0b1100_0000 == 0b1000_0000 {
            cut -= 1;
        }
        parts.push(String::from_utf8_lossy(&left[..cut]).into_owned());
        left = &left[cut..];
    }
    (parts, left.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taker() -> Taker {
        let (position, saved) = (Position::default(), Position::default());
        Taker { process: "web.1".to_owned(), position, saved, rest: Default::default(), known: Known::default() }
    }

    fn out(text: &str) -> LogOutput {
        LogOutput::StdOut { message: text.to_owned().into() }
    }

    #[test]
    fn a_stamp_is_read_to_the_nanosecond() {
        let (ns, text) = stamped(b"2026-11-23T15:04:05.000000012Z hello\n").expect("stamped");
        assert_eq!((ns % 1_000_000_000, text), (12, b"hello\n".as_slice()));
        let (ns, _) = stamped(b"2026-11-23T15:04:05.1Z x").expect("short");
        assert_eq!(ns % 1_000_000_000, 100_000_000);
        assert!(stamped(b"no stamp").is_none());
    }

    #[test]
    fn stored_lines_are_not_stored_again() {
        let mut taker = taker();
        let mut lines = Vec::new();
        let mut seen = Position::default();
        for text in ["a\n", "b\n"] {
            taker.piece(out(&format!("2026-11-23T15:04:05.1Z {text}")), &mut seen, &mut lines);
        }
        let mut again = Position::default();
        for text in ["a\n", "b\n", "c\n"] {
            taker.piece(out(&format!("2026-11-23T15:04:05.1Z {text}")), &mut again, &mut lines);
        }
        let messages: Vec<&str> = lines.iter().map(|l| l.message.as_str()).collect();
        assert_eq!(messages, ["a", "b", "c"]);
    }

    #[test]
    fn what_a_killed_server_stored_and_did_not_write_down_is_not_stored_twice() {
        let line = |ms: i64, message: &str| LogLine {
            at: Timestamp(ms),
            source: LogSource::App,
            process: "web.1".to_owned(),
            message: message.to_owned(),
        };
        let saved = Position { out: Mark { at_ns: 5_000_000, pieces: 1 }, err: Mark { at_ns: 6_000_000, pieces: 1 } };
        // Of the dyno before it in this slot, of what is written down, and twice the same in what is not.
        let stored = [line(1, "old"), line(5, "a"), line(7, "b"), line(8, "tick"), line(8, "tick")];
        let mut known = Known::of(stored, &saved);
        let told = [line(7, "b"), line(8, "tick"), line(8, "tick"), line(8, "tick"), line(9, "c"), line(7, "e")];
        let lacking: Vec<_> = told.iter().filter(|line| known.lacks(line)).map(|line| line.message.as_str()).collect();
        assert_eq!(lacking, ["tick", "c", "e"]);
        assert!(known.lacks(&line(2_000, "b")) && known.lines.is_empty(), "it is caught up with");
        assert!(known.lacks(&line(7, "b")));
    }

    #[test]
    fn a_line_like_one_that_is_written_down_is_stored() {
        let mut first = taker();
        let (mut lines, mut seen) = (Vec::new(), Position::default());
        first.piece(out("2026-11-23T15:04:05.0081Z tick\n"), &mut seen, &mut lines);
        let known = Known::of(lines, &first.position);
        let mut second = Taker { position: first.position, saved: first.position, known, ..taker() };
        let (mut lines, mut seen) = (Vec::new(), Position::default());
        for text in ["2026-11-23T15:04:05.0081Z tick\n", "2026-11-23T15:04:05.0082Z tick\n"] {
            second.piece(out(text), &mut seen, &mut lines);
        }
        lines.retain(|line| second.known.lacks(line));
        assert_eq!(lines.len(), 1);
    }

    #[test]
    fn long_lines_are_split_between_characters_and_pieces_joined() {
        let mut taker = taker();
        let mut lines = Vec::new();
        let mut seen = Position::default();
        let long = "é".repeat(8192);
        for end in ["", "\n"] {
            taker.piece(out(&format!("2026-11-23T15:04:05.1Z {long}{end}")), &mut seen, &mut lines);
        }
        assert!(lines.iter().all(|l| l.message.len() <= LINE_BYTES));
        let joined: String = lines.iter().map(|l| l.message.as_str()).collect();
        assert_eq!(joined, long.repeat(2));
        assert!(taker.rest[0].is_empty());
    }

    #[test]
    fn an_empty_line_is_a_line_and_bad_bytes_are_replaced() {
        let mut taker = taker();
        let mut lines = Vec::new();
        let mut seen = Position::default();
        taker.piece(out("2026-11-23T15:04:05.1Z \n"), &mut seen, &mut lines);
        let bad = [b"2026-11-23T15:04:05.2Z x".as_slice(), &[0xff, b'\r', b'\n']].concat();
        taker.piece(LogOutput::StdErr { message: bad.into() }, &mut seen, &mut lines);
        let messages: Vec<&str> = lines.iter().map(|l| l.message.as_str()).collect();
        assert_eq!(messages, ["", "x\u{fffd}"]);
    }
}
