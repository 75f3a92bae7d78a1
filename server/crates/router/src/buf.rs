//! Read buffers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

/// What a buffer has at first; most requests and answers fit.
pub(crate) const FIRST_SIZE: usize = 16 * 1024;
/// What a buffer grows to while whole buffers arrive at once.
const BULK_SIZE: usize = 64 * 1024;

/// Bytes that arrived and were not used yet.
pub(crate) struct Buf {
    data: Vec<u8>,
    start: usize,
    end: usize,
    was_full: bool,
}

impl Buf {
    /// A buffer without memory; the first [`Buf::poll_fill`] takes some.
    pub(crate) fn empty() -> Self {
        Self { data: Vec::new(), start: 0, end: 0, was_full: false }
    }

    #[cfg(test)]
    pub(crate) fn holding(bytes: &[u8]) -> Self {
        Self { data: bytes.to_vec(), start: 0, end: bytes.len(), was_full: false }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.data.capacity()
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Reads once. `Ok(0)` is the end of the stream. Makes room as needed, without a bound of its own: the
    /// caller stops asking when it holds enough.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.data[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut room))?;
        let n = room.filled().len();
        self.was_full = room.remaining() == 0;
        self.end += n;
        Poll::Ready(Ok(n))
    }

    fn make_room(&mut self) {
        if self.data.is_empty() {
            self.data.resize(FIRST_SIZE, 0);
        } else if self.is_empty() {
            if self.was_full && self.data.len() < BULK_SIZE {
                self.data.resize(self.data.len() * 2, 0);
            }
        } else if self.end == self.data.len() {
            if self.start > 0 {
                self.data.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                self.data.resize(self.data.len() * 2, 0);
            }
        }
    }
}
