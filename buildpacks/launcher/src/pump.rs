//! What the command writes, on its way to the platform.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use paas_link_frames::{Line, MAX_LINE, Stream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::link::{Shared, now_ms};

/// How much is read at a time: what a pipe holds.
const PIECE: usize = 64 << 10;
/// After the command has ended: how long nothing may come until that was all. (A terminal hands on what was written
/// a moment later, and what the command left behind may hold its end open for ever.)
const QUIET: Duration = Duration::from_millis(100);
/// After the command has ended: how long what it left behind may go on writing.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where what the command writes goes to.
pub(crate) enum Way {
    /// To our own output of the same kind as it is, and as numbered lines over the link.
    Log,
    /// To whoever is attached, and nowhere else.
    Attached,
}

/// A thread that reads the command's output.
pub(crate) struct Pump {
    thread: JoinHandle<()>,
    /// Dropped when the command has ended.
    runs: OwnedFd,
}

impl Pump {
    /// Starts reading these ends.
    ///
    /// # Errors
    /// When descriptors or threads run out.
    pub(crate) fn start(way: Way, ends: Vec<(Stream, OwnedFd)>, shared: Arc<Shared>) -> io::Result<Self> {
        let (ended, runs) = io::pipe()?;
        let mut sources = Vec::new();
        for (stream, end) in ends {
            // The flag belongs to our end alone.
            fcntl_setfl(&end, fcntl_getfl(&end)? | OFlags::NONBLOCK)?;
            sources.push(Source { stream, file: File::from(end), line: Vec::new() });
        }
        let pumping = Pumping { way, shared, sources, piece: vec![0; PIECE] };
        let thread = thread::Builder::new().name("output".to_owned());
        let thread = thread.spawn(move || pumping.run(&ended.into()))?;
        Ok(Self { thread, runs: runs.into() })
    }

    /// The command has ended: reads the rest, and waits for that.
    pub(crate) fn finish(self) {
        drop(self.runs);
        let _ = self.thread.join();
    }
}

struct Pumping {
    way: Way,
    shared: Arc<Shared>,
    sources: Vec<Source>,
    piece: Vec<u8>,
}

struct Source {
    stream: Stream,
    file: File,
    /// The line that has begun.
    line: Vec<u8>,
}

impl Pumping {
    fn run(mut self, runs: &OwnedFd) {
        let mut last_words: Option<Instant> = None;
        while !self.sources.is_empty() {
            let mut fds: Vec<_> = self.sources.iter().map(|s| PollFd::new(&s.file, PollFlags::IN)).collect();
            if last_words.is_none() {
                fds.push(PollFd::new(runs, PollFlags::IN));
            }
            let quiet = Timespec { tv_sec: 0, tv_nsec: QUIET.subsec_nanos().into() };
            let ready = poll(&mut fds, last_words.map(|_| &quiet));
            let news: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            match ready {
                Ok(0) => break,
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => break,
            }
            if last_words.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            if last_words.is_none() && news.last() == Some(&true) {
                last_words = Some(Instant::now() + LAST_WORDS);
            }
            let sources = self.sources.len();
            let mut open = vec![true; sources];
            for at in (0..sources).filter(|at| news[*at]) {
                let waited = Instant::now();
                open[at] = self.pump(at);
                // What a slow reader took is not the command's fault.
                last_words = last_words.map(|until| until + waited.elapsed());
            }
            for at in (0..sources).rev().filter(|at| !open[*at]) {
                let source = self.sources.remove(at);
                self.end(source);
            }
        }
        for source in std::mem::take(&mut self.sources) {
            self.end(source);
        }
    }

    /// Moves one piece; `false` at the end.
    fn pump(&mut self, at: usize) -> bool {
        let source = &mut self.sources[at];
        let read = match source.file.read(&mut self.piece) {
            Ok(0) => return false,
            Ok(read) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return true;
            }
            // A terminal that nobody holds open any more.
            Err(_) => return false,
        };
        let piece = &self.piece[..read];
        match self.way {
            Way::Attached => self.shared.output(piece),
            Way::Log => {
                write_through(source.stream, piece);
                source.lines(piece, |line| self.shared.line(line));
            }
        }
        true
    }

    fn end(&self, mut source: Source) {
        if matches!(self.way, Way::Log) && !source.line.is_empty() {
            source.lines(b"\n", |line| self.shared.line(line));
        }
    }
}

impl Source {
    /// Cuts lines off, also where they are too long.
    fn lines(&mut self, mut piece: &[u8], mut line: impl FnMut(Line)) {
        while !piece.is_empty() {
            let room = MAX_LINE - self.line.len();
            let end = piece.iter().take(room).position(|byte| *byte == b'\n');
            let upto = end.unwrap_or(piece.len().min(room));
            self.line.extend_from_slice(&piece[..upto]);
            piece = &piece[upto..];
            if end.is_some() || self.line.len() == MAX_LINE {
                // The line end right behind a line of just this length is its own.
                piece = piece.strip_prefix(b"\n").unwrap_or(piece);
                line(Line { at_ms: now_ms(), stream: self.stream, bytes: std::mem::take(&mut self.line) });
            }
        }
    }
}

/// Says one line of our own in the app's log.
pub(crate) fn say(shared: &Shared, text: &str) {
    write_through(Stream::Err, text.as_bytes());
    let bytes = text.trim_end().as_bytes().to_vec();
    shared.line(Line { at_ms: now_ms(), stream: Stream::Err, bytes });
}

/// Writes to our own output. When nobody takes it there is nobody to tell.
fn write_through(stream: Stream, bytes: &[u8]) {
    let _ = match stream {
        Stream::Out => {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        }
        Stream::Err => io::stderr().lock().write_all(bytes),
    };
}

/// Feeds the command what whoever is attached writes. A thread of its own, for as long as the launcher lives.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn feed(to: OwnedFd, terminal: bool, shared: Arc<Shared>) -> io::Result<()> {
    /// What ends the input at a terminal.
    const END_OF_INPUT: &[u8] = &[4];
    let feed = move || {
        let mut to = File::from(to);
        while let Some(bytes) = shared.input() {
            if write_all(&mut to, &bytes).is_err() {
                shared.input_closed();
                return;
            }
            shared.input_taken(bytes.len());
        }
        if terminal {
            let _ = write_all(&mut to, END_OF_INPUT);
        }
    };
    thread::Builder::new().name("input".to_owned()).spawn(feed).map(drop)
}

/// Also to a terminal's end that does not block because it is shared with the reader.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&*to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (end, _other) = io::pipe().expect("a pipe");
        let mut source = Source { stream: Stream::Out, file: File::from(OwnedFd::from(end)), line: Vec::new() };
        let mut seen = Vec::new();
        for piece in pieces {
            source.lines(piece, |line| seen.push(line.bytes));
        }
        seen
    }

    #[test]
    fn lines_are_cut_at_their_ends_however_they_come() {
        assert_eq!(lines(&[b"one\ntw", b"o\n\nthree"]), [b"one".to_vec(), b"two".to_vec(), vec![]]);
        assert_eq!(lines(&[b"\n", b"\r\n"]), [vec![], b"\r".to_vec()]);
    }

    #[test]
    fn a_line_without_end_is_cut_where_storage_cuts_it() {
        let long = vec![b'x'; MAX_LINE + 10];
        let seen = lines(&[&long, b"\nnext\n"]);
        assert_eq!(seen.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, 10, 4]);
        let mut exact = vec![b'x'; MAX_LINE];
        exact.push(b'\n');
        assert_eq!(lines(&[&exact, b"a\n"]).iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, 1]);
    }
}
