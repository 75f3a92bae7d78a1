//! One app's newest lines in memory, and those who read along.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_domain::{Clock, SystemClock, Timestamp};
use paas_ports::{LogLine, Tail, TailQuery};
use tokio::sync::watch;

use crate::ring::Ring;

/// How many lines a reader looks at before it lets others have the lock.
const LOOK_AT: u64 = 512;

/// An app's newest lines, numbered. Keeping them anywhere else is the affair of whoever appends.
///
/// Numbers go with the clock's microseconds, so that they are beyond all that were given before a restart, also
/// those of lines that were lost: no app says a million lines per second.
#[derive(Debug)]
pub struct Live {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    next_id: u64,
    removed: bool,
}

impl Live {
    /// Begins with these lines, which have growing numbers.
    pub fn new(lines: impl IntoIterator<Item = Tail>) -> Self {
        let mut state = State { ring: Ring::default(), next_id: 0, removed: false };
        for tail in lines {
            state.next_id = state.next_id.max(tail.id + 1);
            state.ring.push(tail);
        }
        Self { state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers lines, has `keep` keep them, and shows them: all or none, and nobody's lines come in between. Lines
    /// of a removed app are dropped.
    ///
    /// # Errors
    /// Those of `keep`.
    pub fn append<E>(
        &self,
        lines: impl IntoIterator<Item = LogLine>,
        keep: impl FnOnce(&[Tail]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.state();
        if state.removed {
            return Ok(());
        }
        let from_clock = u64::try_from(SystemClock.now().0).unwrap_or(0).saturating_mul(1_000);
        let first = state.next_id.max(from_clock);
        let tails: Vec<Tail> = (first..).zip(lines).map(|(id, line)| Tail { id, line }).collect();
        if tails.is_empty() {
            return Ok(());
        }
        keep(&tails)?;
        state.next_id = first + tails.len() as u64;
        tails.into_iter().for_each(|tail| state.ring.push(tail));
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// Puts the lines that are here together anew, with growing numbers. To be called while nobody reads.
    pub fn rebuild(&self, rebuild: impl FnOnce(Vec<Tail>) -> Vec<Tail>) {
        let mut state = self.state();
        if state.removed {
            return;
        }
        let here = state.ring.take();
        for tail in rebuild(here) {
            state.next_id = state.next_id.max(tail.id + 1);
            state.ring.push(tail);
        }
    }

    /// Shows all lines that are here.
    pub fn look<T>(&self, look: impl FnOnce(&mut dyn Iterator<Item = &Tail>) -> T) -> T {
        let state = self.state();
        look(&mut state.ring.iter())
    }

    /// Drops the lines and ends the readers. Nothing comes afterwards.
    pub fn remove(&self) {
        let mut state = self.state();
        state.removed = true;
        state.ring = Ring::default();
        drop(state);
        self.changed.send_replace(());
    }

    /// The lines that `query` asks for, as [`paas_ports::LogStore::tail`] promises.
    #[must_use]
    pub fn read(self: Arc<Self>, query: TailQuery) -> BoxStream<'static, Tail> {
        let changed = self.changed.subscribe();
        let state = self.state();
        let next = state.ring.start(&query);
        let until = (!query.follow).then(|| state.ring.end());
        drop(state);
        let since = SystemClock.now();
        let reader = Reader { log: self, changed, query, next, until, since, taken: VecDeque::new() };
        stream::unfold(reader, |mut reader| async { reader.next().await.map(|tail| (tail, reader)) }).boxed()
    }
}

/// Someone who reads an app's lines.
struct Reader {
    log: Arc<Live>,
    changed: watch::Receiver<()>,
    query: TailQuery,
    /// The place of the next line to look at.
    next: u64,
    /// Where it ends, unless it follows.
    until: Option<u64>,
    /// When the last line was taken from the ring: losses are told from there.
    since: Timestamp,
    taken: VecDeque<Tail>,
}

impl Reader {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Tail> {
        loop {
            if let Some(tail) = self.taken.pop_front() {
                return Some(tail);
            }
            // Before looking, so that what comes in between wakes us.
            self.changed.borrow_and_update();
            match self.take() {
                Took::End => return None,
                Took::More => {}
                Took::AllThereIs => self.changed.changed().await.ok()?,
            }
        }
    }

    fn take(&mut self) -> Took {
        let state = self.log.state();
        if state.removed {
            return Took::End;
        }
        let end = self.until.unwrap_or_else(|| state.ring.end());
        let oldest = state.ring.oldest().min(end);
        if self.next < oldest {
            let now = SystemClock.now();
            let line = LogLine::tail_overflow(oldest - self.next, self.since, now);
            // The last lost line's id: a reader that resumes from here goes on with what is left.
            let id = state.ring.get(oldest).map_or(state.next_id, |tail| tail.id) - 1;
            self.taken.push_back(Tail { id, line });
            self.next = oldest;
        }
        if self.next >= end {
            return match self.until {
                Some(_) if self.taken.is_empty() => Took::End,
                _ if self.taken.is_empty() => Took::AllThereIs,
                _ => Took::More,
            };
        }
        let stop = end.min(self.next + LOOK_AT);
        while self.next < stop {
            if let Some(tail) = state.ring.get(self.next).filter(|tail| self.query.wants(&tail.line)) {
                self.taken.push_back(tail.clone());
            }
            self.next += 1;
        }
        self.since = SystemClock.now();
        Took::More
    }
}

enum Took {
    /// Something was looked at; there may be more.
    More,
    /// Nothing new yet.
    AllThereIs,
    /// Nothing will ever come.
    End,
}
