//! Logs and outputs in memory, in a world that outlives the server under test.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_domain::{AppId, OutputId, Timestamp};
use tokio::sync::watch;

use crate::log_store::{LogLine, LogStore, OutputStore, Tail, TailQuery};
use crate::{PortError, outside};

/// How many lines a reader may be behind before it loses the oldest.
const BUFFER_LINES: u64 = 5_000;

/// What outlives a server: every app's lines and every output.
#[derive(Debug)]
pub struct FakeLogWorld {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Default for FakeLogWorld {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

#[derive(Debug, Default)]
struct State {
    /// `None` when the app was removed.
    apps: HashMap<AppId, Option<Vec<LogLine>>>,
    /// `None` when the output was removed.
    outputs: HashMap<OutputId, Option<Output>>,
}

#[derive(Debug, Default)]
struct Output {
    sections: BTreeMap<u8, Vec<u8>>,
    closed: bool,
}

impl FakeLogWorld {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_replace(());
        result
    }

    /// Everything that was ever logged for an app and not removed, for tests that search it.
    #[must_use]
    pub fn lines(&self, app: &AppId) -> Vec<LogLine> {
        self.state().apps.get(app).cloned().flatten().unwrap_or_default()
    }

    /// Every byte of an output, sections in order; `None` when there is none.
    #[must_use]
    pub fn output(&self, output: &OutputId) -> Option<Vec<u8>> {
        let state = self.state();
        let output = state.outputs.get(output)?.as_ref()?;
        Some(output.sections.values().flatten().copied().collect())
    }

    /// Whether anything is kept of any app or output.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let state = self.state();
        state.apps.values().all(Option::is_none) && state.outputs.values().all(Option::is_none)
    }
}

/// A [`LogStore`] over a [`FakeLogWorld`].
#[derive(Clone, Debug)]
pub struct FakeLogStore(pub Arc<FakeLogWorld>);

#[async_trait]
impl LogStore for FakeLogStore {
    async fn append(&self, app: &AppId, lines: Vec<LogLine>) -> Result<(), PortError> {
        outside::check("LogStore::append");
        self.0.change(|state| {
            if let Some(kept) = state.apps.entry(app.clone()).or_insert_with(|| Some(Vec::new())) {
                lines.into_iter().for_each(|line| line.split_into(kept));
            }
        });
        Ok(())
    }

    async fn tail(&self, app: &AppId, query: TailQuery) -> Result<BoxStream<'static, Tail>, PortError> {
        outside::check("LogStore::tail");
        let changed = self.0.changed.subscribe();
        let kept = self.0.lines(app);
        // A line's id is its place, counted from one.
        let next = match query.after {
            Some(after) => after.min(kept.len() as u64),
            None => {
                let wanted = query.lines.min(TailQuery::MAX_LINES);
                let matching = kept.iter().enumerate().rev().filter(|(_, line)| query.wants(line));
                matching.take(wanted).last().map_or(kept.len(), |(place, _)| place) as u64
            }
        };
        let reader = LogReader {
            world: self.0.clone(),
            changed,
            app: app.clone(),
            until: (!query.follow).then_some(kept.len() as u64),
            query,
            next,
            since: kept.last().map_or(Timestamp(0), |line| line.at),
        };
        Ok(stream::unfold(reader, |mut reader| async { reader.next().await.map(|line| (line, reader)) }).boxed())
    }

    async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("LogStore::remove");
        self.0.change(|state| state.apps.insert(app.clone(), None));
        Ok(())
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("LogStore::apps");
        let state = self.0.state();
        let kept = state.apps.iter().filter(|(_, lines)| lines.as_ref().is_some_and(|lines| !lines.is_empty()));
        Ok(kept.map(|(app, _)| app.clone()).collect())
    }
}

struct LogReader {
    world: Arc<FakeLogWorld>,
    changed: watch::Receiver<()>,
    app: AppId,
    query: TailQuery,
    next: u64,
    until: Option<u64>,
    since: Timestamp,
}

impl LogReader {
    async fn next(&mut self) -> Option<Tail> {
        loop {
            self.changed.borrow_and_update();
            if let Some(found) = self.look()? {
                return Some(found);
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// `None` at the end, `Some(None)` when it is to wait.
    fn look(&mut self) -> Option<Option<Tail>> {
        let state = self.world.state();
        let kept = match state.apps.get(&self.app) {
            Some(Some(kept)) => kept.as_slice(),
            Some(None) => return None,
            None => &[],
        };
        let end = self.until.unwrap_or(kept.len() as u64);
        let oldest = end.saturating_sub(BUFFER_LINES);
        if self.next < oldest {
            let dropped = oldest - self.next;
            self.next = oldest;
            let line = LogLine::tail_overflow(dropped, self.since, kept.last().map_or(self.since, |line| line.at));
            return Some(Some(Tail { id: oldest, line }));
        }
        while self.next < end {
            let line = &kept[usize::try_from(self.next).ok()?];
            self.next += 1;
            if self.query.wants(line) {
                self.since = line.at;
                return Some(Some(Tail { id: self.next, line: line.clone() }));
            }
        }
        if self.until.is_some() { None } else { Some(None) }
    }
}

/// An [`OutputStore`] over a [`FakeLogWorld`].
#[derive(Clone, Debug)]
pub struct FakeOutputStore(pub Arc<FakeLogWorld>);

impl FakeOutputStore {
    fn change(&self, output: &OutputId, change: impl FnOnce(&mut Output)) {
        self.0.change(|state| {
            if let Some(output) = state.outputs.entry(output.clone()).or_insert_with(|| Some(Output::default())) {
                change(output);
            }
        });
    }
}

#[async_trait]
impl OutputStore for FakeOutputStore {
    async fn begin(&self, output: &OutputId, section: u8) -> Result<(), PortError> {
        outside::check("OutputStore::begin");
        self.change(output, |output| {
            output.closed = false;
            output.sections.insert(section, Vec::new());
        });
        Ok(())
    }

    async fn write(&self, output: &OutputId, section: u8, bytes: Bytes) -> Result<(), PortError> {
        outside::check("OutputStore::write");
        self.change(output, |output| output.sections.entry(section).or_default().extend_from_slice(&bytes));
        Ok(())
    }

    async fn close(&self, output: &OutputId) -> Result<(), PortError> {
        outside::check("OutputStore::close");
        self.change(output, |output| output.closed = true);
        Ok(())
    }

    async fn follow(&self, output: &OutputId) -> Result<BoxStream<'static, Bytes>, PortError> {
        outside::check("OutputStore::follow");
        let changed = self.0.changed.subscribe();
        if !matches!(self.0.state().outputs.get(output), Some(Some(_))) {
            return Err(PortError::NotFound("this output".into()));
        }
        let reader = OutputReader { world: self.0.clone(), changed, output: output.clone(), section: 0, offset: 0 };
        Ok(stream::unfold(reader, |mut reader| async { reader.next().await.map(|bytes| (bytes, reader)) }).boxed())
    }

    async fn remove(&self, output: &OutputId) -> Result<(), PortError> {
        outside::check("OutputStore::remove");
        self.0.change(|state| state.outputs.insert(output.clone(), None));
        Ok(())
    }

    async fn all(&self) -> Result<Vec<OutputId>, PortError> {
        outside::check("OutputStore::all");
        let state = self.0.state();
        Ok(state.outputs.iter().filter(|(_, kept)| kept.is_some()).map(|(output, _)| output.clone()).collect())
    }
}

struct OutputReader {
    world: Arc<FakeLogWorld>,
    changed: watch::Receiver<()>,
    output: OutputId,
    section: u8,
    offset: usize,
}

impl OutputReader {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changed.borrow_and_update();
            if let Some(bytes) = self.look()? {
                return Some(bytes);
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// `None` at the end, `Some(None)` when it is to wait.
    fn look(&mut self) -> Option<Option<Bytes>> {
        let state = self.world.state();
        let output = state.outputs.get(&self.output)?.as_ref()?;
        loop {
            let new = output.sections.get(&self.section).and_then(|section| section.get(self.offset..));
            if let Some(new @ [_, ..]) = new {
                self.offset += new.len();
                return Some(Some(Bytes::copy_from_slice(new)));
            }
            match output.sections.keys().find(|key| **key > self.section) {
                Some(next) => (self.section, self.offset) = (*next, 0),
                None if output.closed => return None,
                None => return Some(None),
            }
        }
    }
}
