//! [`OutputStore`] in files: an output is a folder with one file for each section, and a mark when it is whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_domain::OutputId;
use paas_ports::{OutputStore, PortError, outside};
use tokio::sync::watch;

use crate::segments::{named_folders, remove_dir};

/// The most bytes of one output that are kept.
const MAX_BYTES: u64 = 300 << 20;
/// What an output says in place of what goes beyond that.
const CUT: &str = "\n !     This output is too long: the rest is not kept.\n";
/// How many bytes a reader takes at once.
const CHUNK: usize = 64 << 10;
/// How often a reader looks by itself, for what another process wrote.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The mark of a whole output.
const CLOSED: &str = "closed";

/// Every build's and release phase's output, in files below one folder.
///
/// Readers in this process hear of new bytes at once; of those of another process within half a second.
/// At most 300 MB of one output are kept; then it says so and drops the rest.
#[derive(Debug)]
pub struct FileOutputStore {
    dir: PathBuf,
    max_bytes: u64,
    outputs: Mutex<Outputs>,
}

#[derive(Debug, Default)]
struct Outputs {
    open: HashMap<OutputId, Arc<Output>>,
    removed: HashSet<OutputId>,
}

/// An output that is being written or read in this process.
#[derive(Debug)]
struct Output {
    dir: PathBuf,
    writer: Mutex<Writer>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Writer {
    /// How large each section is; empty until the first write looks.
    sizes: Option<BTreeMap<u8, u64>>,
    /// The section that was written last.
    file: Option<(u8, File)>,
    /// The section that already says that it was cut.
    cut: Option<u8>,
}

impl FileOutputStore {
    /// A store over this folder, which is made when there is none.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir, max_bytes: MAX_BYTES, outputs: Mutex::default() })
    }

    /// The same with another limit for one output, in bytes.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` when it was removed.
    fn output(&self, id: &OutputId) -> Option<Arc<Output>> {
        let mut outputs = self.outputs();
        if outputs.removed.contains(id) {
            return None;
        }
        if outputs.open.len() >= 1_000 && !outputs.open.contains_key(id) {
            // Those that were only read here, or whose writer went away.
            outputs.open.retain(|_, output| Arc::strong_count(output) > 1);
        }
        let new = || Arc::new(Output::new(self.dir.join(id.as_str())));
        Some(outputs.open.entry(id.clone()).or_insert_with(new).clone())
    }
}

#[async_trait]
impl OutputStore for FileOutputStore {
    async fn begin(&self, output: &OutputId, section: u8) -> Result<(), PortError> {
        outside::check("OutputStore::begin");
        let Some(output) = self.output(output) else { return Ok(()) };
        output.begin(section).map_err(|error| PortError::transient("starting an output section", error))
    }

    async fn write(&self, output: &OutputId, section: u8, bytes: Bytes) -> Result<(), PortError> {
        outside::check("OutputStore::write");
        let Some(output) = self.output(output) else { return Ok(()) };
        output.write(section, &bytes, self.max_bytes).map_err(|error| PortError::transient("storing output", error))
    }

    async fn close(&self, id: &OutputId) -> Result<(), PortError> {
        outside::check("OutputStore::close");
        let Some(output) = self.output(id) else { return Ok(()) };
        output.close().map_err(|error| PortError::transient("closing an output", error))?;
        self.outputs().open.remove(id);
        Ok(())
    }

    async fn follow(&self, id: &OutputId) -> Result<BoxStream<'static, Bytes>, PortError> {
        outside::check("OutputStore::follow");
        let missing = || PortError::NotFound("this output".into());
        let output = self.output(id).ok_or_else(missing)?;
        if !output.dir.is_dir() {
            self.outputs().open.remove(id);
            return Err(missing());
        }
        let reader = Reader { changed: output.changed.subscribe(), output, section: 0, offset: 0, file: None };
        Ok(stream::unfold(reader, |mut reader| async { reader.next().await.map(|bytes| (bytes, reader)) }).boxed())
    }

    async fn remove(&self, id: &OutputId) -> Result<(), PortError> {
        outside::check("OutputStore::remove");
        let open = {
            let mut outputs = self.outputs();
            outputs.removed.insert(id.clone());
            outputs.open.remove(id)
        };
        let output = open.unwrap_or_else(|| Arc::new(Output::new(self.dir.join(id.as_str()))));
        output.remove().map_err(|error| PortError::transient("removing an output", error))
    }

    async fn all(&self) -> Result<Vec<OutputId>, PortError> {
        outside::check("OutputStore::all");
        named_folders(self.dir.clone()).await.map_err(|error| PortError::transient("listing outputs", error))
    }
}

impl Output {
    fn new(dir: PathBuf) -> Self {
        Self { dir, writer: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_dir(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    fn begin(&self, section: u8) -> io::Result<()> {
        let mut writer = self.writer();
        self.make_dir()?;
        match fs::remove_file(self.dir.join(CLOSED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = section_options().open(section_path(&self.dir, section))?;
        // Emptied and not replaced: who reads it holds the same file open.
        file.set_len(0)?;
        writer.sizes(&self.dir)?.insert(section, 0);
        writer.file = Some((section, file));
        writer.cut = None;
        drop(writer);
        self.changed.send_replace(());
        Ok(())
    }

    fn write(&self, section: u8, bytes: &[u8], max_bytes: u64) -> io::Result<()> {
        let mut writer = self.writer();
        let held: u64 = writer.sizes(&self.dir)?.values().sum();
        let room = usize::try_from(max_bytes.saturating_sub(held)).unwrap_or(usize::MAX);
        if bytes.len() > room {
            if writer.cut != Some(section) {
                self.add(&mut writer, section, &bytes[..room])?;
                self.add(&mut writer, section, CUT.as_bytes())?;
                writer.cut = Some(section);
            }
        } else {
            self.add(&mut writer, section, bytes)?;
        }
        drop(writer);
        self.changed.send_replace(());
        Ok(())
    }

    fn add(&self, writer: &mut Writer, section: u8, bytes: &[u8]) -> io::Result<()> {
        if writer.file.as_ref().is_none_or(|(open, _)| *open != section) {
            self.make_dir()?;
            writer.file = Some((section, section_options().open(section_path(&self.dir, section))?));
        }
        let size = writer.sizes(&self.dir)?.get(&section).copied().unwrap_or(0);
        let Some((_, file)) = &mut writer.file else { return Ok(()) };
        if let Err(error) = file.write_all(bytes) {
            // All or nothing, so that the next try repeats nothing.
            file.set_len(size)?;
            return Err(error);
        }
        writer.sizes(&self.dir)?.insert(section, size + bytes.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let mut writer = self.writer();
        self.make_dir()?;
        section_options().open(self.dir.join(CLOSED))?;
        *writer = Writer::default();
        drop(writer);
        self.changed.send_replace(());
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        let mut writer = self.writer();
        *writer = Writer::default();
        let removed = remove_dir(&self.dir);
        drop(writer);
        self.changed.send_replace(());
        removed
    }
}

impl Writer {
    fn sizes(&mut self, dir: &Path) -> io::Result<&mut BTreeMap<u8, u64>> {
        match &mut self.sizes {
            Some(sizes) => Ok(sizes),
            none => Ok(none.insert(sections(dir)?.into_iter().collect())),
        }
    }
}

fn section_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options
}

fn section_path(dir: &Path, section: u8) -> PathBuf {
    dir.join(format!("{section:03}"))
}

/// The sections that there are, with their sizes, in order.
fn sections(dir: &Path) -> io::Result<Vec<(u8, u64)>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut sections = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(section) = entry.file_name().to_str().and_then(|name| name.parse::<u8>().ok()) {
            sections.push((section, entry.metadata()?.len()));
        }
    }
    sections.sort_unstable();
    Ok(sections)
}

/// Someone who reads an output, by section and offset.
struct Reader {
    output: Arc<Output>,
    changed: watch::Receiver<()>,
    section: u8,
    offset: u64,
    /// The section's file, once it was there.
    file: Option<Arc<File>>,
}

impl Reader {
    /// The next bytes; `None` at the end. A failure to read ends it too, after it was logged.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // Before looking, so that what comes in between wakes us.
            self.changed.borrow_and_update();
            let (dir, section, offset, file) = (self.output.dir.clone(), self.section, self.offset, self.file.clone());
            let looked = tokio::task::spawn_blocking(move || look(&dir, section, offset, file)).await;
            match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(Look::Read { section, offset, file, bytes }) => {
                    (self.section, self.offset, self.file) = (section, offset, Some(file));
                    return Some(bytes);
                }
                Ok(Look::Nothing { section, offset, file }) => {
                    (self.section, self.offset, self.file) = (section, offset, file);
                    let _ = tokio::time::timeout(LOOK_AGAIN, self.changed.changed()).await;
                }
                Ok(Look::End) => return None,
                Err(error) => {
                    tracing::warn!(path = %self.output.dir.display(), %error, "an output could not be read to its end");
                    return None;
                }
            }
        }
    }
}

enum Look {
    Read { section: u8, offset: u64, file: Arc<File>, bytes: Bytes },
    Nothing { section: u8, offset: u64, file: Option<Arc<File>> },
    End,
}

fn look(dir: &Path, mut section: u8, mut offset: u64, mut file: Option<Arc<File>>) -> io::Result<Look> {
    // These two before the bytes: what they say is still true of bytes that are found afterwards.
    let closed = dir.join(CLOSED).exists();
    let sections = sections(dir)?;
    let gone = sections.is_empty() && !dir.is_dir();
    if gone {
        return Ok(Look::End);
    }
    loop {
        if file.is_none() && sections.iter().any(|(there, _)| *there == section) {
            file = Some(Arc::new(File::open(section_path(dir, section))?));
        }
        if let Some(file) = &file {
            let mut chunk = vec![0; CHUNK];
            let read = file.read_at(&mut chunk, offset)?;
            if read > 0 {
                chunk.truncate(read);
                let offset = offset + read as u64;
                return Ok(Look::Read { section, offset, file: file.clone(), bytes: Bytes::from(chunk) });
            }
        }
        match sections.iter().find(|(there, _)| *there > section) {
            Some((next, _)) => (section, offset, file) = (*next, 0, None),
            None if closed => return Ok(Look::End),
            None => return Ok(Look::Nothing { section, offset, file }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_beyond_the_limit_is_dropped_and_says_so_once() {
        let dir = std::env::temp_dir().join(OutputId::new().to_string());
        let store = FileOutputStore::open(&dir).expect("open").with_max_bytes(10);
        let id = OutputId::new();
        store.begin(&id, 1).await.expect("begin");
        for _ in 0..5 {
            store.write(&id, 1, Bytes::from_static(b"1234")).await.expect("write");
        }
        store.close(&id).await.expect("close");
        let all = store.follow(&id).await.expect("follow").collect::<Vec<_>>().await.concat();
        assert_eq!(String::from_utf8_lossy(&all), format!("1234123412{CUT}"));
        fs::remove_dir_all(dir).expect("clean");
    }
}
