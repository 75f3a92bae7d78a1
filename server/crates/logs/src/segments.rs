//! One app's lines in files: append-only segments of JSON lines, named by their first id.
//!
//! Writes go to the operating system at once and are never synced: a killed server loses nothing, a machine
//! without power its last seconds. A half-written end is cut off when the file is opened again.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use paas_ports::Tail;

use crate::record;

/// The newest lines that are always kept, unless they are larger than [`KEEP_BYTES`].
const KEEP_LINES: u64 = 1_500;
/// Lines beyond this many bytes need not be kept.
const KEEP_BYTES: u64 = 4 << 20;
/// A segment with [`KEEP_LINES`] lines goes on up to this size, so that short lines do not make many files.
const FULL_BYTES: u64 = 1 << 20;

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    lines: u64,
    bytes: u64,
}

/// The segments of one app, oldest first.
#[derive(Debug)]
pub(crate) struct Segments {
    dir: PathBuf,
    segments: VecDeque<Segment>,
    /// The newest segment, once something was written.
    file: Option<File>,
}

impl Segments {
    /// Reads what is there. Makes nothing.
    pub(crate) fn load(dir: PathBuf, mut each: impl FnMut(Tail)) -> io::Result<Self> {
        let mut segments = VecDeque::new();
        for path in segment_files(&dir)? {
            let content = fs::read(&path)?;
            // What has no line end was being written when the server was killed.
            let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            if whole < content.len() {
                OpenOptions::new().write(true).open(&path)?.set_len(whole as u64)?;
            }
            let mut lines = 0;
            for tail in content[..whole].split(|byte| *byte == b'\n').filter_map(record::decode) {
                lines += 1;
                each(tail);
            }
            segments.push_back(Segment { path, lines, bytes: whole as u64 });
        }
        Ok(Self { dir, segments, file: None })
    }

    /// Adds these records, all or none of them. `first_id` is the first one's.
    pub(crate) fn write(&mut self, first_id: u64, lines: u64, records: &[u8]) -> io::Result<()> {
        let full = self.segments.back().is_none_or(|segment| {
            segment.bytes >= KEEP_BYTES || (segment.lines >= KEEP_LINES && segment.bytes >= FULL_BYTES)
        });
        if full {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            let path = self.dir.join(format!("{first_id:020}.log"));
            self.file = Some(open(&path)?);
            self.segments.push_back(Segment { path, lines: 0, bytes: 0 });
            self.drop_oldest();
        }
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(open(&segment.path)?),
        };
        if let Err(error) = file.write_all(records) {
            // A disk that is full takes half of a record; without it the next try is whole again.
            file.set_len(segment.bytes)?;
            return Err(error);
        }
        segment.lines += lines;
        segment.bytes += records.len() as u64;
        Ok(())
    }

    /// Removes every file. Nothing may be written afterwards.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        self.file = None;
        self.segments.clear();
        remove_dir(&self.dir)
    }

    /// Drops segments that nobody can ask for: the ones behind them hold enough.
    fn drop_oldest(&mut self) {
        loop {
            let newer = self.segments.iter().skip(1).fold((0, 0), |(l, b), s| (l + s.lines, b + s.bytes));
            if self.segments.len() < 2 || (newer.0 < KEEP_LINES && newer.1 < KEEP_BYTES) {
                return;
            }
            let Some(oldest) = self.segments.pop_front() else { return };
            if let Err(error) = fs::remove_file(&oldest.path) {
                tracing::warn!(path = %oldest.path.display(), %error, "an old log segment could not be removed");
            }
        }
    }
}

/// Removes a folder and what is in it. Succeeds when there is none.
pub(crate) fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the names in a folder stand for; other names are passed over.
pub(crate) async fn named_folders<T: std::str::FromStr + Send + 'static>(dir: PathBuf) -> io::Result<Vec<T>> {
    let read = move || {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<T>().ok()));
        }
        Ok(found)
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn segment_files(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
