//! Bytes on their way in one direction, kept until the other end has taken them, so that a cut link loses none.

use std::collections::VecDeque;

/// The other end speaks of bytes that are not there (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bytes are spoken of that are not there")]
pub struct NotThere;

/// Bytes with their offsets from the stream's beginning. Holds at most its limit.
#[derive(Debug)]
pub struct SendBuffer {
    /// The offset of the first byte kept: everything before was taken by the other end.
    base: u64,
    bytes: VecDeque<u8>,
    /// How many of `bytes` were given out on the present connection.
    given: usize,
    limit: usize,
}

impl SendBuffer {
    /// A stream whose first `base` bytes the other end has, with room for `limit`.
    #[must_use]
    pub fn new(base: u64, limit: usize) -> Self {
        Self { base, bytes: VecDeque::new(), given: 0, limit }
    }

    /// The offset of the first byte that can still be sent.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The offset behind the last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// How many bytes may be put in.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Whether the other end has taken everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Puts in as many of `bytes` as there is room for; answers how many.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.bytes.extend(&bytes[..taken]);
        taken
    }

    /// The next at most `max` bytes to send, with their offset.
    pub fn next(&mut self, max: usize) -> Option<(u64, Vec<u8>)> {
        let upto = self.bytes.len().min(self.given + max);
        if upto == self.given {
            return None;
        }
        let offset = self.base + self.given as u64;
        let bytes = self.bytes.range(self.given..upto).copied().collect();
        self.given = upto;
        Some((offset, bytes))
    }

    /// Whether everything was given out.
    #[must_use]
    pub fn all_given(&self) -> bool {
        self.given == self.bytes.len()
    }

    /// The other end has taken everything before `offset`. What it said before does not count again.
    ///
    /// # Errors
    /// When that much was never sent.
    pub fn taken(&mut self, offset: u64) -> Result<(), NotThere> {
        let Some(count) = offset.checked_sub(self.base) else { return Ok(()) };
        let count = usize::try_from(count).map_err(|_| NotThere)?;
        if count > self.given {
            return Err(NotThere);
        }
        self.bytes.drain(..count);
        self.base = offset;
        self.given -= count;
        Ok(())
    }

    /// On a new connection, the other end has everything before `offset`: sending goes on there.
    ///
    /// # Errors
    /// When it lies outside what is kept.
    pub fn resume(&mut self, offset: u64) -> Result<(), NotThere> {
        if offset < self.base || offset > self.end() {
            return Err(NotThere);
        }
        self.given = usize::try_from(offset - self.base).map_err(|_| NotThere)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_taken_is_sent_again() {
        let mut buffer = SendBuffer::new(100, 8);
        assert_eq!(buffer.push(b"abcdefghij"), 8);
        assert_eq!(buffer.next(3), Some((100, b"abc".to_vec())));
        assert_eq!(buffer.next(3), Some((103, b"def".to_vec())));
        assert_eq!(buffer.taken(102), Ok(()));
        assert_eq!((buffer.base(), buffer.room()), (102, 2));
        // The link is cut; the other end says that it got as far as 105 before.
        assert_eq!(buffer.resume(105), Ok(()));
        assert_eq!(buffer.next(99), Some((105, b"fgh".to_vec())));
        assert_eq!(buffer.next(99), None);
        assert_eq!(buffer.taken(108), Ok(()));
        assert!(buffer.is_empty() && buffer.all_given());
    }

    #[test]
    fn lies_are_noticed() {
        let mut buffer = SendBuffer::new(10, 8);
        buffer.push(b"abc");
        assert_eq!(buffer.taken(11), Err(NotThere), "not sent yet");
        assert_eq!(buffer.taken(u64::MAX), Err(NotThere));
        assert_eq!(buffer.resume(9), Err(NotThere));
        assert_eq!(buffer.resume(14), Err(NotThere));
        assert_eq!(buffer.taken(3), Ok(()), "an old word");
    }
}
