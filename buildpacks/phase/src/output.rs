//! What a build says: one stream of lines, with the lifecycle's own words taken out.
//!
//! Buildpacks speak for themselves, in Heroku's form where they are ours. The lifecycle is told to be quiet
//! and still says a few things when something fails; those are read, not shown.

use std::io::{self, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wire::MARK;

/// A line longer than this is passed on in pieces, so that a missing line end cannot fill the memory.
const LONGEST_LINE: usize = 16 * 1024;

/// Passes lines on, up to a limit.
pub struct Lines<W>(Mutex<State<W>>);

struct State<W> {
    to: W,
    left: u64,
    limit: u64,
    pending: Vec<u8>,
    failure: Option<String>,
    closed: bool,
}

impl<W: Write> Lines<W> {
    /// Writes to `to`, `limit` bytes at most.
    pub fn new(to: W, limit: u64) -> Self {
        Self(Mutex::new(State { to, left: limit, limit, pending: Vec::new(), failure: None, closed: false }))
    }

    /// Takes everything from `from` until its end, or until this is closed.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn pump(&self, mut from: impl Read) -> io::Result<()> {
        let mut buffer = [0_u8; 8192];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return self.state().end_line(),
                Ok(n) => self.state().take(&buffer[..n])?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// What the lifecycle said about the build's end: the text after `ERROR: failed to build: `.
    pub fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Shows a line of our own.
    ///
    /// # Errors
    /// When writing fails.
    pub fn say(&self, line: &str) -> io::Result<()> {
        let mut state = self.state();
        state.line(format!("{line}\n").as_bytes())?;
        state.to.flush()
    }

    /// Writes the last line, marked. Nothing comes after it, whoever still writes to the pipe.
    ///
    /// # Errors
    /// When writing fails.
    pub fn close(&self, last: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        state.end_line()?;
        state.closed = true;
        state.to.write_all(MARK.as_bytes())?;
        state.to.write_all(last)?;
        state.to.write_all(b"\n")?;
        state.to.flush()
    }

    fn state(&self) -> MutexGuard<'_, State<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> State<W> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            self.line(&line)?;
        }
        if self.pending.len() > LONGEST_LINE {
            let mut line = std::mem::take(&mut self.pending);
            line.push(b'\n');
            self.line(&line)?;
        }
        self.to.flush()
    }

    fn end_line(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            let mut line = std::mem::take(&mut self.pending);
            line.push(b'\n');
            self.line(&line)?;
        }
        self.to.flush()
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(line);
        if let Some(failure) = text.strip_prefix("ERROR: failed to build: ") {
            self.failure = Some(failure.trim_end().to_owned());
            return Ok(());
        }
        let line = line.strip_prefix(&MARK.as_bytes()[..1]).unwrap_or(line);
        if self.closed || self.left == 0 {
            return Ok(());
        }
        self.left = self.left.saturating_sub(line.len() as u64);
        if self.left == 0 {
            let limit = self.limit / (1024 * 1024);
            return writeln!(self.to, " !     The rest of the output is not shown: it is longer than {limit} MiB.");
        }
        self.to.write_all(line)
    }
}

/// The exit status in the lifecycle's `exit status 3`.
#[must_use]
pub fn exit_status(failure: &str) -> Option<i32> {
    failure.strip_prefix("exit status ")?.trim().parse().ok()
}

/// What the buildpacks that failed in detection said, out of the detector's report.
///
/// The report has a section `======== Output: id@version ========` for each, and lines `err:  id@version (1)`.
#[must_use]
pub fn detect_errors(report: &str) -> Vec<String> {
    let id = |line: &str, word: &str| {
        let rest = line.strip_prefix(word)?;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    let failed: Vec<String> = report.lines().filter_map(|l| id(l, "err:")).collect();
    let mut shown = Vec::new();
    let mut wanted = false;
    for line in report.lines() {
        if let Some(section) = line.strip_prefix("======== ") {
            wanted = ["Output: ", "Error: "].iter().any(|word| {
                section.strip_prefix(word).is_some_and(|of| failed.iter().any(|f| of.starts_with(f.as_str())))
            });
        } else if wanted && !line.starts_with("err:") && !line.starts_with("ERROR: ") {
            shown.push(line.to_owned());
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_lifecycles_words_out() {
        let mut out = Vec::new();
        let lines = Lines::new(&mut out, 1000);
        lines.pump(&b"-----> Python app detected\nERROR: failed to build: exit status 3\nlast"[..]).expect("pumped");
        let failure = lines.failure().expect("a failure");
        assert_eq!(exit_status(&failure), Some(3));
        drop(lines);
        assert_eq!(out, b"-----> Python app detected\nlast\n");
    }

    #[test]
    fn only_the_helper_writes_the_last_line() {
        let mut out = Vec::new();
        let lines = Lines::new(&mut out, 1000);
        lines.pump(format!("{MARK}{{}}\nhalf a li").as_bytes()).expect("pumped");
        lines.close(b"{\"status\":0}").expect("closed");
        lines.pump(&b"too late\n"[..]).expect("pumped");
        drop(lines);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, format!("paas-manifest {{}}\nhalf a li\n{MARK}{{\"status\":0}}\n"));
    }

    #[test]
    fn has_a_limit() {
        let mut out = Vec::new();
        Lines::new(&mut out, 2 * 1024 * 1024).pump(io::repeat(b'x').take(50_000_000)).expect("pumped");
        assert!(out.len() < 2 * 1024 * 1024 + 200);
        assert!(out.ends_with(b"The rest of the output is not shown: it is longer than 2 MiB.\n"));
    }

    #[test]
    fn shows_what_failed_in_detection() {
        let report = "======== Output: a/one@1 ========\nno such python\n======== Output: b/two@1 ========\nfine\n======== Results ========\nerr:  a/one@1 (1)\nfail: b/two@1\nERROR: No buildpack groups passed detection.\n";
        assert_eq!(detect_errors(report), ["no such python"]);
    }
}
