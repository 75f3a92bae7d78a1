//! What a one-off dyno wrote: kept for its readers, each with a place of its own. No I/O.
//!
//! An attached dyno waits for its slowest reader once it is [`WINDOW`] ahead; the output of any other one-off dyno
//! goes on, and a reader that is too slow misses what was dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use paas_link_frames::{NotThere, WINDOW};

/// How many bytes all dynos' outputs keep.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: AtomicUsize,
    most: usize,
}

impl Kept {
    pub(crate) fn new(most: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), most }
    }

    fn is_much(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.most
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

pub(crate) struct Output {
    /// The offset of the first byte that is kept.
    start: u64,
    bytes: VecDeque<u8>,
    /// Up to where the dyno was or will be told that it was read.
    taken: u64,
    ended: bool,
    /// Whether the dyno waits for its readers.
    waits: bool,
    readers: BTreeMap<u64, Reader>,
    next_reader: u64,
    most: usize,
    kept: Arc<Kept>,
}

struct Reader {
    at: u64,
    waker: Option<Waker>,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    End,
    /// Nothing yet; its waker is kept.
    Wait,
}

impl Output {
    /// An output whose first `start` bytes went to an earlier hub. Keeps `most` bytes that were read.
    pub(crate) fn new(start: u64, waits: bool, most: usize, kept: Arc<Kept>) -> Self {
        let (bytes, readers) = (VecDeque::new(), BTreeMap::new());
        Self { start, bytes, taken: start, ended: false, waits, readers, next_reader: 0, most, kept }
    }

    /// The offset behind the last byte that came.
    pub(crate) fn received(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Bytes at an offset. Those that came before are skipped.
    ///
    /// # Errors
    /// When bytes between are missing, or the dyno did not wait.
    pub(crate) fn put(&mut self, offset: u64, bytes: &[u8]) -> Result<(), NotThere> {
        let known = self.received().checked_sub(offset).ok_or(NotThere)?;
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        let new = &bytes[known..];
        if self.waits && self.received() + new.len() as u64 > self.taken + WINDOW as u64 {
            return Err(NotThere);
        }
        self.append(new);
        Ok(())
    }

    /// More bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if self.ended {
            return;
        }
        self.bytes.extend(bytes);
        self.kept.bytes.fetch_add(bytes.len(), Ordering::Relaxed);
        self.trim();
        self.wake();
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        self.readers.values_mut().filter_map(|reader| reader.waker.take()).for_each(Waker::wake);
    }

    /// Up to where the dyno may forget what it wrote.
    pub(crate) fn taken(&mut self) -> u64 {
        let slowest = self.readers.values().map(|reader| reader.at).min();
        // Before anyone came, everything is still to be read.
        let nobody = if self.next_reader == 0 { self.start } else { self.received() };
        self.taken = self.taken.max(slowest.unwrap_or(nobody));
        self.taken
    }

    /// A reader from the first byte that is kept.
    pub(crate) fn open(&mut self) -> u64 {
        self.next_reader += 1;
        self.readers.insert(self.next_reader, Reader { at: self.start, waker: None });
        self.next_reader
    }

    pub(crate) fn close(&mut self, reader: u64) {
        self.readers.remove(&reader);
        self.trim();
    }

    /// The reader's next bytes; `put` gets them in one or two pieces, `room` in all.
    pub(crate) fn read(&mut self, reader: u64, room: usize, waker: &Waker, mut put: impl FnMut(&[u8])) -> Read {
        let (start, received) = (self.start, self.received());
        let Some(reader) = self.readers.get_mut(&reader) else { return Read::End };
        reader.at = reader.at.max(start);
        let from = usize::try_from(reader.at - start).unwrap_or(usize::MAX);
        let count = usize::try_from(received - reader.at).unwrap_or(usize::MAX).min(room);
        if count == 0 {
            if self.ended {
                return Read::End;
            }
            reader.waker = Some(waker.clone());
            return Read::Wait;
        }
        reader.at += count as u64;
        let (front, back) = self.bytes.as_slices();
        let first = front.get(from..).unwrap_or_default();
        let first = &first[..first.len().min(count)];
        put(first);
        let behind = from.saturating_sub(front.len());
        put(&back[behind..behind + count - first.len()]);
        self.trim();
        Read::Bytes(count)
    }

    /// Drops the oldest bytes above the bound; of an attached dyno, only what every reader has.
    fn trim(&mut self) {
        let most = if self.kept.is_much() { WINDOW.min(self.most) / 16 } else { self.most };
        let mut much = self.bytes.len().saturating_sub(most);
        if self.waits {
            let slowest = self.readers.values().map(|reader| reader.at.max(self.start)).min();
            let read = slowest.unwrap_or(if self.next_reader == 0 { self.start } else { self.received() });
            much = much.min(usize::try_from(read - self.start).unwrap_or(usize::MAX));
        }
        self.bytes.drain(..much);
        self.start += much as u64;
        self.kept.bytes.fetch_sub(much, Ordering::Relaxed);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.kept.bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
