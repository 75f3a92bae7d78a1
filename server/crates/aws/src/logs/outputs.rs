//! Outputs of builds and release phases as objects, so that any server can follow what another one writes.
//!
//! `outputs/<id>/<section>/<attempt>/<part>`: a section that is begun anew is a new attempt, of which the newest
//! counts; what is written is one part each. `outputs/<id>/closed` says that it is whole. Readers list what is there
//! when this process writes, and every half second for what another one wrote; a part is fetched once it is wanted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use paas_domain::{Clock as _, OutputId, SystemClock};
use paas_ports::{OutputStore, PortError, outside};
use tokio::sync::watch;

/// The most bytes of one output that are kept.
const MAX_BYTES: u64 = 300 << 20;
/// What an output says in place of what goes beyond that.
const CUT: &str = "\n !     This output is too long: the rest is not kept.\n";
/// How often a reader looks by itself, for what another server wrote.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How many parts a reader fetches at the same time.
const AT_ONCE: usize = 8;
const CLOSED: &str = "closed";

/// Every build's and release phase's output, in a bucket.
///
/// At most 300 MB of one output are kept; then it says so and drops the rest.
#[derive(Clone, Debug)]
pub struct ObjectOutputs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ObjectStore>,
    outputs: Mutex<Outputs>,
}

#[derive(Debug, Default)]
struct Outputs {
    open: HashMap<OutputId, Arc<Output>>,
    removed: HashSet<OutputId>,
}

/// An output that is being written or read in this process.
#[derive(Debug, Default)]
struct Output {
    /// What this process knows of it, once it writes.
    writer: tokio::sync::Mutex<Option<Writer>>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Writer {
    sections: BTreeMap<u8, Attempt>,
    /// The section that already says that it was cut.
    cut: Option<u8>,
    closed: bool,
}

/// The newest try at a section.
#[derive(Clone, Debug, Default)]
struct Attempt {
    name: String,
    /// Key and size, in their order.
    parts: Vec<(Path, u64)>,
    next: u64,
}

/// What is there of an output.
#[derive(Debug, Default)]
struct There {
    sections: BTreeMap<u8, Attempt>,
    /// Of attempts that do not count any more.
    old: Vec<Path>,
    closed: bool,
}

impl ObjectOutputs {
    /// Keeps outputs in this store, below `outputs/`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self(Arc::new(Inner { store, outputs: Mutex::default() }))
    }
}

impl Inner {
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
        Some(Arc::clone(outputs.open.entry(id.clone()).or_default()))
    }

    /// What is there; `None` when there is nothing.
    async fn there(&self, id: &OutputId) -> object_store::Result<Option<There>> {
        let mut objects: Vec<_> = self.store.list(Some(&folder(id))).try_collect().await?;
        if objects.is_empty() {
            return Ok(None);
        }
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        let mut there = There::default();
        for object in objects {
            let names: Vec<String> = object.location.parts().skip(2).map(|part| part.as_ref().to_owned()).collect();
            let [section, attempt, part] = names.as_slice() else {
                there.closed |= names.first().is_some_and(|name| name == CLOSED);
                continue;
            };
            let (Ok(section), Ok(part)) = (section.parse::<u8>(), part.parse::<u64>()) else { continue };
            let newest = there.sections.entry(section).or_default();
            // Sorted: a later attempt comes behind all parts of the one before.
            if newest.name != *attempt {
                there.old.extend(newest.parts.drain(..).map(|(key, _)| key));
                *newest = Attempt { name: attempt.clone(), ..Attempt::default() };
            }
            newest.next = newest.next.max(part + 1);
            newest.parts.push((object.location, object.size));
        }
        Ok(Some(there))
    }

    async fn put(&self, key: &Path, bytes: Bytes) -> object_store::Result<()> {
        self.store.put(key, bytes.into()).await.map(drop)
    }

    async fn delete(&self, keys: Vec<Path>) -> object_store::Result<()> {
        for key in keys {
            match self.store.delete(&key).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What this process knows of an output, read when it begins to write.
    async fn writer<'a>(&self, id: &OutputId, held: &'a mut Option<Writer>) -> object_store::Result<&'a mut Writer> {
        if held.is_none() {
            let there = self.there(id).await?.unwrap_or_default();
            *held = Some(Writer { sections: there.sections, cut: None, closed: there.closed });
        }
        Ok(held.get_or_insert_default())
    }

    async fn begin(&self, id: &OutputId, output: &Output, section: u8) -> object_store::Result<()> {
        let mut held = output.writer.lock().await;
        let writer = self.writer(id, &mut held).await?;
        let old = writer.sections.get(&section).cloned().unwrap_or_default();
        let now = format!("{:020}", SystemClock.now().0);
        // Later than the one before, whatever the clock says.
        let name = if now > old.name { now } else { format!("{}0", old.name) };
        let first = part(id, section, &name, 0);
        self.put(&first, Bytes::new()).await?;
        writer.sections.insert(section, Attempt { name, parts: vec![(first, 0)], next: 1 });
        if writer.cut == Some(section) {
            writer.cut = None;
        }
        if writer.closed {
            self.delete(vec![folder(id).join(CLOSED)]).await?;
            writer.closed = false;
        }
        self.delete(old.parts.into_iter().map(|(key, _)| key).collect()).await?;
        output.changed.send_replace(());
        Ok(())
    }

    async fn write(&self, id: &OutputId, output: &Output, section: u8, bytes: Bytes) -> object_store::Result<()> {
        let mut held = output.writer.lock().await;
        let writer = self.writer(id, &mut held).await?;
        let size: u64 = writer.sections.values().flat_map(|attempt| &attempt.parts).map(|(_, size)| size).sum();
        let bytes = match MAX_BYTES.checked_sub(size + bytes.len() as u64) {
            Some(_) => bytes,
            None if writer.cut.is_some() => return Ok(()),
            None => {
                writer.cut = Some(section);
                Bytes::from_static(CUT.as_bytes())
            }
        };
        let attempt = writer.sections.entry(section).or_default();
        if attempt.name.is_empty() {
            attempt.name = format!("{:020}", SystemClock.now().0);
        }
        let (key, size) = (part(id, section, &attempt.name, attempt.next), bytes.len() as u64);
        self.put(&key, bytes).await?;
        attempt.next += 1;
        attempt.parts.push((key, size));
        output.changed.send_replace(());
        Ok(())
    }

    async fn close(&self, id: &OutputId, output: &Output) -> object_store::Result<()> {
        let mut held = output.writer.lock().await;
        self.put(&folder(id).join(CLOSED), Bytes::new()).await?;
        *held = None;
        output.changed.send_replace(());
        Ok(())
    }
}

fn folder(id: &OutputId) -> Path {
    Path::from_iter(["outputs", id.as_str()])
}

fn part(id: &OutputId, section: u8, attempt: &str, number: u64) -> Path {
    folder(id).join(format!("{section:03}")).join(attempt).join(format!("{number:08}"))
}

#[async_trait]
impl OutputStore for ObjectOutputs {
    async fn begin(&self, output: &OutputId, section: u8) -> Result<(), PortError> {
        outside::check("OutputStore::begin");
        let Some(open) = self.0.output(output) else { return Ok(()) };
        let begun = self.0.begin(output, &open, section).await;
        begun.map_err(|error| PortError::transient("starting an output section", error))
    }

    async fn write(&self, output: &OutputId, section: u8, bytes: Bytes) -> Result<(), PortError> {
        outside::check("OutputStore::write");
        let Some(open) = self.0.output(output).filter(|_| !bytes.is_empty()) else { return Ok(()) };
        let written = self.0.write(output, &open, section, bytes).await;
        written.map_err(|error| PortError::transient("storing output", error))
    }

    async fn close(&self, output: &OutputId) -> Result<(), PortError> {
        outside::check("OutputStore::close");
        let Some(open) = self.0.output(output) else { return Ok(()) };
        self.0.close(output, &open).await.map_err(|error| PortError::transient("closing an output", error))
    }

    async fn follow(&self, output: &OutputId) -> Result<BoxStream<'static, Bytes>, PortError> {
        outside::check("OutputStore::follow");
        let missing = || PortError::NotFound("this output".into());
        let open = self.0.output(output).ok_or_else(missing)?;
        let changed = open.changed.subscribe();
        let there = self.0.there(output).await.map_err(|error| PortError::transient("reading an output", error))?;
        there.ok_or_else(missing)?;
        let reader =
            Reader { inner: Arc::clone(&self.0), id: output.clone(), changed, _open: open, section: 0, offset: 0 };
        Ok(stream::unfold(reader, |mut reader| async { reader.next().await.map(|parts| (parts, reader)) })
            .flat_map(stream::iter)
            .boxed())
    }

    async fn remove(&self, output: &OutputId) -> Result<(), PortError> {
        outside::check("OutputStore::remove");
        let failed = |error| PortError::transient("removing an output", error);
        let open = {
            let mut outputs = self.0.outputs();
            outputs.removed.insert(output.clone());
            outputs.open.remove(output)
        };
        // Until what is just being written is there, so that it goes too.
        let held = match &open {
            Some(open) => Some(open.writer.lock().await),
            None => None,
        };
        if let Some(there) = self.0.there(output).await.map_err(failed)? {
            let newest = there.sections.into_values().flat_map(|attempt| attempt.parts).map(|(key, _)| key);
            let keys = there.old.into_iter().chain(newest).chain([folder(output).join(CLOSED)]).collect();
            self.0.delete(keys).await.map_err(failed)?;
        }
        drop(held);
        if let Some(open) = open {
            open.changed.send_replace(());
        }
        Ok(())
    }

    async fn all(&self) -> Result<Vec<OutputId>, PortError> {
        outside::check("OutputStore::all");
        let listed = self.0.store.list_with_delimiter(Some(&Path::from("outputs"))).await;
        let listed = listed.map_err(|error| PortError::transient("listing outputs", error))?;
        let name = |folder: &Path| folder.filename()?.parse().ok();
        Ok(listed.common_prefixes.iter().filter_map(name).collect())
    }
}

/// Someone who reads an output.
struct Reader {
    inner: Arc<Inner>,
    id: OutputId,
    changed: watch::Receiver<()>,
    /// Keeps it from being forgotten: its writer must find us.
    _open: Arc<Output>,
    section: u8,
    offset: u64,
}

impl Reader {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Vec<Bytes>> {
        loop {
            // Before looking, so that what comes in between wakes us.
            self.changed.borrow_and_update();
            match self.inner.there(&self.id).await {
                // It was removed.
                Ok(None) => return None,
                Ok(Some(there)) => {
                    let (bytes, ended) = self.take(&there).await;
                    if !bytes.is_empty() {
                        return Some(bytes);
                    }
                    if ended {
                        return None;
                    }
                }
                Err(error) => tracing::debug!(id = %self.id, %error, "an output cannot be read now"),
            }
            // Woken, or not: it looks.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.changed.changed()).await;
        }
    }

    /// What there is beyond our place, and whether nothing will follow.
    async fn take(&mut self, there: &There) -> (Vec<Bytes>, bool) {
        for (section, attempt) in there.sections.range(self.section..) {
            if *section != self.section {
                (self.section, self.offset) = (*section, 0);
            }
            let mut begins = 0;
            let mut wanted = Vec::new();
            for (key, size) in &attempt.parts {
                if begins + size > self.offset {
                    wanted.push((key.clone(), self.offset.saturating_sub(begins)));
                }
                begins += size;
            }
            let store = &self.inner.store;
            let fetched = stream::iter(wanted).map(|(key, skip)| async move {
                let bytes = store.get(&key).await?.bytes().await?;
                let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
                Ok::<_, object_store::Error>(bytes.slice(skip..))
            });
            let mut fetched = fetched.buffered(AT_ONCE);
            let mut bytes = Vec::new();
            // A part that went away is of an attempt that does not count any more.
            while let Some(Ok(part)) = fetched.next().await {
                self.offset += part.len() as u64;
                bytes.push(part);
            }
            if !bytes.is_empty() {
                return (bytes, false);
            }
            if self.offset < begins {
                return (bytes, false);
            }
        }
        (Vec::new(), there.closed)
    }
}
