//! Finds the end of a head, line by line, before anything in it is believed.
//!
//! A line ends in CR LF; an LF without its CR is an error, because other readers take it for a line's end and
//! some do not. The length of each line and the count of lines are bounded here too.

/// Bounds on a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeLimits {
    /// Bytes of the first line.
    pub(crate) first_line: usize,
    /// Bytes of each other line.
    pub(crate) line: usize,
    /// Lines besides the first.
    pub(crate) lines: usize,
    /// Bytes in all.
    pub(crate) total: usize,
}

/// Which bound was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooLong {
    FirstLine,
    Line,
    Lines,
    Total,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// More bytes are needed.
    Partial,
    /// The head is the first so many bytes, its empty line included.
    Whole(usize),
    /// An LF without its CR.
    BareLf,
    TooLong(TooLong),
}

/// Remembers how far a head was looked at, so that a slow sender costs no more than a fast one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    seen: usize,
    line_start: usize,
    lines: usize,
}

impl Scan {
    /// Looks at `bytes`, which begin where they began last time.
    ///
    /// The answer is that of the first byte that decides, so it does not depend on how the bytes were cut.
    pub(crate) fn look(&mut self, bytes: &[u8], limits: &SizeLimits) -> Head {
        for at in memchr::memchr_iter(b'\n', &bytes[self.seen..]).map(|i| i + self.seen) {
            if let Some(broken) = self.broken(at, limits) {
                return Head::TooLong(broken);
            }
            if at == self.line_start || bytes[at - 1] != b'\r' {
                return Head::BareLf;
            }
            if at - 1 == self.line_start {
                return Head::Whole(at + 1);
            }
            self.lines += 1;
            self.line_start = at + 1;
        }
        self.seen = bytes.len();
        self.broken(bytes.len(), limits).map_or(Head::Partial, Head::TooLong)
    }

    /// The bound that the first `end` bytes break first, of which those since `line_start` have no LF.
    fn broken(&self, end: usize, limits: &SizeLimits) -> Option<TooLong> {
        let (line, kind) = match self.lines {
            0 => (limits.first_line, TooLong::FirstLine),
            _ => (limits.line, TooLong::Line),
        };
        // One byte more than a line may hold can be a CR that waits for its LF.
        let length = (self.line_start + line + 2, kind);
        let count = (self.lines > limits.lines).then_some((self.line_start + 2, TooLong::Lines));
        let total = (limits.total + 1, TooLong::Total);
        let first = [Some(length), count, Some(total)].into_iter().flatten().min_by_key(|(at, _)| *at);
        first.and_then(|(at, broken)| (at <= end).then_some(broken))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: SizeLimits = SizeLimits { first_line: 20, line: 10, lines: 3, total: 60 };

    fn look(bytes: &str) -> Head {
        Scan::default().look(bytes.as_bytes(), &LIMITS)
    }

    #[test]
    fn ends_at_the_empty_line() {
        assert_eq!(look("GET / HTTP/1.1\r\na: b\r\n\r\nmore"), Head::Whole(24));
        assert_eq!(look("GET / HTTP/1.1\r\na: b\r\n\r"), Head::Partial);
        assert_eq!(look(""), Head::Partial);
    }

    #[test]
    fn refuses_bare_line_feeds() {
        assert_eq!(look("GET / HTTP/1.1\na: b\r\n\r\n"), Head::BareLf);
        assert_eq!(look("GET / HTTP/1.1\r\na: b\r\n\n"), Head::BareLf);
    }

    #[test]
    fn bounds_hold_before_the_line_ends() {
        assert_eq!(look(&"x".repeat(22)), Head::TooLong(TooLong::FirstLine));
        assert_eq!(look(&format!("G\r\n{}", "x".repeat(12))), Head::TooLong(TooLong::Line));
        assert_eq!(look("G\r\na\r\nb\r\nc\r\nd\r\n"), Head::TooLong(TooLong::Lines));
        assert_eq!(look("G\r\na\r\nb\r\nc\r\n\r\n"), Head::Whole(14));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn judged_the_same_however_it_arrives(
            text in prop_oneof!["[a\r\n]{0,80}", "(a{0,12}\r\n){0,7}[a\r\n]{0,12}"],
            step in 1_usize..9,
        ) {
            let whole = look(&text);
            let (mut scan, mut last) = (Scan::default(), Head::Partial);
            let mut end = 0;
            while end < text.len() && last == Head::Partial {
                end = (end + step).min(text.len());
                last = scan.look(&text.as_bytes()[..end], &LIMITS);
            }
            prop_assert_eq!(last, whole);
        }
    }

    #[test]
    fn the_last_line_that_fits_may_arrive_alone() {
        let (head, mut scan) = ("G\r\na\r\nb\r\nc\r\n\r\n", Scan::default());
        assert_eq!(scan.look(&head.as_bytes()[..12], &LIMITS), Head::Partial);
        assert_eq!(scan.look(head.as_bytes(), &LIMITS), Head::Whole(14));
    }
}
