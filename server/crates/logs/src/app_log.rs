//! One app's log: its ring, its files, and those who read along.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paas_domain::{Clock, SystemClock, Timestamp};
use paas_ports::{LogLine, Tail, TailQuery};
use tokio::sync::watch;

use crate::ring::Ring;
use crate::segments::{self, Segments};

/// How many lines a reader looks at before it lets others have the lock.
const LOOK_AT: u64 = 512;

#[derive(Debug)]
pub(crate) struct AppLog {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    segments: Segments,
    next_id: u64,
    removed: bool,
    records: Vec<u8>,
}

impl AppLog {
    /// Reads the app's files. Blocks.
    pub(crate) fn load(dir: PathBuf) -> io::Result<Self> {
        let mut ring = Ring::default();
        let mut last_id = 0;
        let segments = Segments::load(dir, |tail| {
            last_id = last_id.max(tail.id);
            ring.push(tail);
        })?;
        // Lines that a power cut took had ids too. Counting on from the clock's microseconds is always
        // beyond them: no app says a million lines per second.
        let from_clock = u64::try_from(SystemClock.now().0).unwrap_or(0).saturating_mul(1_000);
        let state = State { ring, segments, next_id: from_clock.max(last_id + 1), removed: false, records: Vec::new() };
        Ok(Self { state: Mutex::new(state), changed: watch::Sender::new(()) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines, all or none. Lines of a removed app are dropped.
    pub(crate) fn append(&self, lines: impl IntoIterator<Item = LogLine>) -> io::Result<()> {
        let mut state = self.state();
        let State { ring, segments, next_id, removed, records } = &mut *state;
        if *removed {
            return Ok(());
        }
        records.clear();
        let first_id = *next_id;
        let mut tails = Vec::new();
        for line in lines {
            let tail = Tail { id: first_id + tails.len() as u64, line };
            segments::encode(&tail, records)?;
            tails.push(tail);
        }
        if tails.is_empty() {
            return Ok(());
        }
        segments.write(first_id, tails.len() as u64, records)?;
        *next_id += tails.len() as u64;
        tails.into_iter().for_each(|tail| ring.push(tail));
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// Removes the files and ends the readers. Blocks for as long as that takes.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut state = self.state();
        state.removed = true;
        state.ring = Ring::default();
        let removed = state.segments.remove();
        drop(state);
        self.changed.send_replace(());
        removed
    }

    pub(crate) fn read(self: Arc<Self>, query: TailQuery) -> Reader {
        let changed = self.changed.subscribe();
        let state = self.state();
        let next = state.ring.start(&query);
        let until = (!query.follow).then(|| state.ring.end());
        drop(state);
        Reader { log: self, changed, query, next, until, since: SystemClock.now(), taken: VecDeque::new() }
    }
}

/// Someone who reads an app's lines.
pub(crate) struct Reader {
    log: Arc<AppLog>,
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
    pub(crate) async fn next(&mut self) -> Option<Tail> {
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
