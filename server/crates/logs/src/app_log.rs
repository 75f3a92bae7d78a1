//! One app's log: its newest lines in memory, and its files.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::BoxStream;
use paas_ports::{LogLine, Tail, TailQuery};

use crate::live::Live;
use crate::record;
use crate::segments::Segments;

#[derive(Debug)]
pub(crate) struct AppLog {
    live: Arc<Live>,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    segments: Segments,
    /// Room for what is written next.
    records: Vec<u8>,
}

impl AppLog {
    /// Reads the app's files. Blocks.
    pub(crate) fn load(dir: PathBuf) -> io::Result<Self> {
        let mut newest = Vec::new();
        let segments = Segments::load(dir, |tail| newest.push(tail))?;
        let files = Files { segments, records: Vec::new() };
        Ok(Self { live: Arc::new(Live::new(newest)), files: Mutex::new(files) })
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds lines, all or none. Lines of a removed app are dropped.
    pub(crate) fn append(&self, lines: impl IntoIterator<Item = LogLine>) -> io::Result<()> {
        self.live.append(lines, |tails| {
            let mut files = self.files();
            let Files { segments, records } = &mut *files;
            let Some(first) = tails.first() else { return Ok(()) };
            records.clear();
            for tail in tails {
                record::encode(tail, records)?;
                records.push(b'\n');
            }
            segments.write(first.id, tails.len() as u64, records)
        })
    }

    /// Removes the files and ends the readers. Blocks for as long as that takes.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // Whoever appends is done by then, and nobody begins again.
        self.live.remove();
        self.files().segments.remove()
    }

    pub(crate) fn read(&self, query: TailQuery) -> BoxStream<'static, Tail> {
        Arc::clone(&self.live).read(query)
    }
}
