//! An app's newest lines in memory, and where readers stand in them. Pure.

use std::collections::VecDeque;

use paas_ports::{LogLine, Tail, TailQuery};

/// How many lines a reader may be behind before it loses the oldest.
pub(crate) const MAX_LINES: usize = 10_000;
/// How many bytes one app's lines may take in memory.
const MAX_BYTES: usize = 4 << 20;
/// What a line takes besides its text.
const LINE_OVERHEAD: usize = 120;

/// A *place* counts the lines that went through this ring; it is where a reader stands.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    lines: VecDeque<Tail>,
    /// The place of `lines[0]`.
    oldest: u64,
    bytes: usize,
}

impl Ring {
    pub(crate) fn push(&mut self, tail: Tail) {
        self.bytes += size(&tail.line);
        self.lines.push_back(tail);
        while self.lines.len() > MAX_LINES || (self.bytes > MAX_BYTES && self.lines.len() > 1) {
            if let Some(gone) = self.lines.pop_front() {
                self.bytes -= size(&gone.line);
                self.oldest += 1;
            }
        }
    }

    /// All lines.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tail> {
        self.lines.iter()
    }

    /// All lines; the ring is as new.
    pub(crate) fn take(&mut self) -> Vec<Tail> {
        std::mem::take(self).lines.into()
    }

    /// The place of the oldest line that is still here.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The place that the next line will have.
    pub(crate) fn end(&self) -> u64 {
        self.oldest + self.lines.len() as u64
    }

    pub(crate) fn get(&self, place: u64) -> Option<&Tail> {
        self.lines.get(usize::try_from(place.checked_sub(self.oldest)?).ok()?)
    }

    /// Where a reader with this query starts.
    pub(crate) fn start(&self, query: &TailQuery) -> u64 {
        let index = match query.after {
            Some(after) => self.lines.partition_point(|tail| tail.id <= after),
            None => {
                let newest = self.lines.iter().enumerate().rev().filter(|(_, tail)| query.wants(&tail.line));
                newest.take(query.lines.min(TailQuery::MAX_LINES)).last().map_or(self.lines.len(), |(index, _)| index)
            }
        };
        self.oldest + index as u64
    }
}

fn size(line: &LogLine) -> usize {
    line.message.len() + line.process.len() + LINE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use paas_domain::Timestamp;
    use paas_ports::LogSource;

    #[test]
    fn neither_many_nor_long_lines_outgrow_it() {
        let mut ring = Ring::default();
        let mut push = |count: u64, bytes: usize| {
            for _ in 0..count {
                let line = LogLine {
                    at: Timestamp(0),
                    source: LogSource::App,
                    process: "web.1".into(),
                    message: "x".repeat(bytes),
                };
                ring.push(Tail { id: ring.end() + 1, line });
            }
            (ring.lines.len(), ring.bytes, ring.oldest(), ring.end())
        };
        assert_eq!(push(30_000, 1), (10_000, 10_000 * 126, 20_000, 30_000));
        let (lines, bytes, oldest, end) = push(1_000, 10_000);
        assert!(lines > 400 && bytes <= MAX_BYTES && oldest + lines as u64 == end && end == 31_000);
    }
}
