//! The last lines of the app, numbered, until the hub has taken them. Never waits: the oldest give way.

use std::collections::VecDeque;

use paas_link_frames::{Line, Lines, MAX_LINES};

/// What the ring may hold, in bytes of lines and of what each costs besides.
const MOST: usize = 1 << 20;
/// What a line costs besides its bytes.
const COST: usize = size_of::<Line>() + 16;
/// The most bytes of lines that go into one frame, unless a single line is longer.
const BATCH: usize = 32 << 10;

/// The most frames that are on their way without the hub having taken their lines. A hub that is slow thus costs old
/// lines here, where they are counted, and the exit does not stand behind megabytes in the kernel's buffers.
const UNDER_WAY: usize = 8;

/// Lines with consecutive numbers.
#[derive(Debug)]
pub(crate) struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// The number of the first line that is here.
    first: u64,
    /// The number of the next line to send on this connection.
    unsent: u64,
    /// The last numbers of the frames that are on their way.
    under_way: VecDeque<u64>,
    /// The number of the last line that a hub took.
    taken: u64,
}

impl Ring {
    pub(crate) fn new() -> Self {
        Self { lines: VecDeque::new(), bytes: 0, first: 1, unsent: 1, under_way: VecDeque::new(), taken: 0 }
    }

    /// One more line. The oldest are dropped when there is no room, sent or not.
    pub(crate) fn push(&mut self, line: Line) {
        self.bytes += line.bytes.len() + COST;
        self.lines.push_back(line);
        while self.bytes > MOST && self.lines.len() > 1 {
            self.drop_first();
        }
    }

    /// How many lines there ever were.
    pub(crate) fn count(&self) -> u64 {
        self.first - 1 + self.lines.len() as u64
    }

    /// The number of the last line that a hub took.
    pub(crate) fn taken_up_to(&self) -> u64 {
        self.taken
    }

    /// The next lines to send.
    pub(crate) fn next(&mut self) -> Option<Lines> {
        let first = self.unsent.max(self.first);
        if self.under_way.len() >= UNDER_WAY {
            return None;
        }
        let skip = usize::try_from(first - self.first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let batch = self.lines.iter().skip(skip).take(MAX_LINES).take_while(|line| {
            let fits = bytes == 0 || bytes + line.bytes.len() <= BATCH;
            bytes += line.bytes.len().max(1);
            fits
        });
        let lines: Vec<Line> = batch.cloned().collect();
        if lines.is_empty() {
            return None;
        }
        self.unsent = first + lines.len() as u64;
        self.under_way.push_back(self.unsent - 1);
        Some(Lines { first, lines })
    }

    /// Whether every line was sent.
    pub(crate) fn all_sent(&self) -> bool {
        self.unsent > self.count()
    }

    /// The hub has taken every line up to this number. A number that was never sent is ignored.
    pub(crate) fn taken(&mut self, number: u64) {
        if number >= self.unsent.max(self.first) || number <= self.taken {
            return;
        }
        self.taken = number;
        while self.under_way.front().is_some_and(|last| *last <= number) {
            self.under_way.pop_front();
        }
        while self.first <= number && !self.lines.is_empty() {
            self.drop_first();
        }
    }

    /// On a new connection the hub says up to where it has them.
    pub(crate) fn resume(&mut self, number: u64) {
        let number = number.min(self.count());
        self.unsent = number + 1;
        self.under_way.clear();
        self.taken(number);
    }

    fn drop_first(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.bytes -= line.bytes.len() + COST;
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use paas_link_frames::Stream;

    use super::*;

    fn line(bytes: usize) -> Line {
        Line { at_ms: 0, stream: Stream::Out, bytes: vec![b'x'; bytes] }
    }

    fn numbers(lines: Option<Lines>) -> Option<(u64, usize)> {
        lines.map(|lines| (lines.first, lines.lines.len()))
    }

    #[test]
    fn lines_stay_until_they_are_taken() {
        let mut ring = Ring::new();
        (0..5).for_each(|_| ring.push(line(10)));
        assert_eq!(numbers(ring.next()), Some((1, 5)));
        assert!(ring.all_sent());
        ring.taken(2);
        ring.taken(99);
        // The link is cut; the hub has three.
        ring.resume(3);
        assert_eq!(ring.taken_up_to(), 3);
        assert_eq!(numbers(ring.next()), Some((4, 2)));
        assert_eq!(numbers(ring.next()), None);
    }

    #[test]
    fn the_oldest_give_way_and_numbers_tell() {
        let mut ring = Ring::new();
        (0..100).for_each(|_| ring.push(line(100_000)));
        assert_eq!(ring.count(), 100);
        let first = 100 - (MOST / (100_000 + COST)) as u64 + 1;
        assert_eq!(numbers(ring.next()), Some((first, 1)), "one long line to a frame");
        assert!(ring.bytes <= MOST);
        // A word about lines that are long gone.
        ring.taken(3);
        assert_eq!(numbers(ring.next()), Some((first + 1, 1)));
    }

    #[test]
    fn only_so_much_is_under_way() {
        let mut ring = Ring::new();
        (0..20).for_each(|_| ring.push(line(BATCH)));
        (1..=UNDER_WAY as u64).for_each(|number| assert_eq!(numbers(ring.next()), Some((number, 1))));
        assert_eq!(numbers(ring.next()), None);
        // Those under way are dropped here first; they are under way all the same.
        (0..100).for_each(|_| ring.push(line(BATCH)));
        assert_eq!(numbers(ring.next()), None);
        ring.taken(2);
        assert!(ring.next().is_some_and(|lines| lines.first > 80) && ring.next().is_some() && ring.next().is_none());
        ring.resume(2);
        assert!(ring.next().is_some_and(|lines| lines.first > 80));
    }

    #[test]
    fn frames_are_small() {
        let mut ring = Ring::new();
        (0..3_000).for_each(|_| ring.push(line(0)));
        assert_eq!(numbers(ring.next()), Some((1, MAX_LINES)));
        (0..3_000).for_each(|_| ring.push(line(1_000)));
        for _ in 0..3 {
            let lines = ring.next().expect("more");
            assert!(lines.lines.iter().map(|l| l.bytes.len()).sum::<usize>() <= BATCH);
        }
    }
}
