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
    pub(crate) fn look(&mut self, bytes: &[u8], limits: &SizeLimits) -> Head {
        for at in memchr::memchr_iter(b'\n', &bytes[self.seen..]).map(|i| i + self.seen) {
            if at == self.line_start || bytes[at - 1] != b'\r' {
                return Head::BareLf;
            }
            let length = at - 1 - self.line_start;
            if length == 0 {
                return Head::Whole(at + 1);
            }
            if let Some(broken) = self.broken(length, at + 1, limits) {
                return Head::TooLong(broken);
            }
            self.lines += 1;
            self.line_start = at + 1;
        }
        self.seen = bytes.len();
        // One byte more than the line itself may be a CR that waits for its LF.
        let open = (bytes.len() - self.line_start).saturating_sub(1);
        self.broken(open, bytes.len(), limits).map_or(Head::Partial, Head::TooLong)
    }

    fn broken(&self, length: usize, total: usize, limits: &SizeLimits) -> Option<TooLong> {
        if self.lines == 0 {
            (length > limits.first_line).then_some(TooLong::FirstLine)
        } else if length > limits.line {
            Some(TooLong::Line)
        } else if self.lines > limits.lines {
            Some(TooLong::Lines)
        } else if total > limits.total {
            Some(TooLong::Total)
        } else {
            None
        }
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
        #[test]
        fn judged_the_same_however_it_arrives(text in "[a\r\n]{0,80}", step in 1_usize..9) {
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
}
