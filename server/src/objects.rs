//! Objects: source archives and git packs, by key. A folder, or a bucket with a folder of this machine before it.
//!
//! Keys of sources are written once: what a machine has of a bucket need never be asked for again.

mod fetched;
mod incoming;

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::buffered::BufWriter;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use paas_aws::bucket::is_refused;
use paas_ports::{PortError, outside};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use fetched::is_kept;
pub use incoming::Incoming;

/// What is sent to a bucket in one part.
const PART_BYTES: usize = 8 << 20;
/// After how long without a write a file that was to become an object never will.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Source archives and packs.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Where objects are, or what this machine has of them.
    root: PathBuf,
    /// Whether the objects are elsewhere.
    remote: bool,
    /// Which files are on their way in.
    names: incoming::Names,
}

impl Objects {
    /// Keeps objects in a folder, which is made when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn in_folder(root: PathBuf) -> Result<Self, PortError> {
        let doing = "opening the folder of objects";
        std::fs::create_dir_all(&root).map_err(|e| PortError::permanent(doing, e))?;
        let store = LocalFileSystem::new_with_prefix(&root).map_err(|e| PortError::permanent(doing, e))?;
        Ok(Self {
            store: Arc::new(store.with_automatic_cleanup(true)),
            root,
            remote: false,
            names: incoming::Names::default(),
        })
    }

    /// Keeps objects in a bucket. `cache` holds files that this machine works on; what an earlier process left
    /// there goes.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn in_bucket(store: Arc<dyn ObjectStore>, cache: PathBuf) -> Result<Self, PortError> {
        let make = || {
            match std::fs::remove_dir_all(&cache) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            std::fs::create_dir_all(&cache)
        };
        make().map_err(|e| PortError::permanent("opening the folder of objects", e))?;
        Ok(Self { store, root: cache, remote: true, names: incoming::Names::default() })
    }

    /// Whether the objects are not on this machine: others may share them.
    #[must_use]
    pub fn are_elsewhere(&self) -> bool {
        self.remote
    }

    /// Writes an object whole: readers see all of it or nothing. The same key again replaces it.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), PortError> {
        outside::check("Objects::put");
        let put = self.store.put(&Path::from(key), bytes.into()).await;
        put.map(drop).map_err(|e| failed("storing the source", &e))
    }

    /// Moves a finished file of this machine in as an object.
    ///
    /// # Errors
    /// When it could not be moved.
    pub async fn put_file(&self, key: &str, file: &FilePath) -> Result<(), PortError> {
        outside::check("Objects::put_file");
        if self.remote {
            self.send(key, file).await?;
        }
        let target = self.place(key);
        let moved = async {
            if let Some(folder) = target.parent() {
                tokio::fs::create_dir_all(folder).await?;
            }
            tokio::fs::rename(file, &target).await
        };
        moved.await.map_err(|e| PortError::transient("storing the source", e))
    }

    /// Writes a file of this machine as an object. The file stays.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn send(&self, key: &str, file: &FilePath) -> Result<(), PortError> {
        outside::check("Objects::send");
        let send = async {
            let mut file = tokio::fs::File::open(file).await?;
            let mut object = BufWriter::with_capacity(Arc::clone(&self.store), Path::from(key), PART_BYTES);
            match tokio::io::copy(&mut file, &mut object).await {
                Ok(_) => object.shutdown().await,
                Err(error) => {
                    // Parts of it may be there, and would be paid for.
                    let _ = object.abort().await;
                    Err(error)
                }
            }
        };
        send.await.map_err(|e| broken_off("storing an object", &e))
    }

    /// Whether an object is there.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn exists(&self, key: &str) -> Result<bool, PortError> {
        outside::check("Objects::exists");
        match self.store.head(&Path::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed("looking for the source", &error)),
        }
    }

    /// The keys that begin with this folder's, which ends without a slash.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, PortError> {
        outside::check("Objects::list");
        let found = self.store.list(Some(&Path::from(folder)));
        let keys = found.map_ok(|object| object.location.to_string()).try_collect().await;
        keys.map_err(|e| failed("listing objects", &e))
    }

    /// A file of this machine that has an object's bytes, for builders: the object itself, or what was fetched of it.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when a bucket does not have it; a folder is not looked into.
    pub async fn local(&self, key: &str) -> Result<PathBuf, PortError> {
        outside::check("Objects::local");
        let place = self.place(key);
        if self.remote && !is_kept(&place).await {
            self.fetch(key, &place).await?;
        }
        Ok(place)
    }

    /// Writes an object's bytes to a file: all of them, or there is no file.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when there is no such object.
    pub async fn fetch(&self, key: &str, into: &FilePath) -> Result<(), PortError> {
        outside::check("Objects::fetch");
        let doing = "fetching an object";
        let found = match self.store.get(&Path::from(key)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(PortError::NotFound(format!("the object {key}"))),
            Err(error) => return Err(failed(doing, &error)),
        };
        let write = async {
            let folder = into.parent().unwrap_or(&self.root);
            tokio::fs::create_dir_all(folder).await?;
            let part = NamedTempFile::new_in(folder)?;
            let mut file = tokio::fs::File::from_std(part.reopen()?);
            let mut bytes = found.into_stream();
            while let Some(chunk) = bytes.next().await {
                file.write_all(&chunk?).await?;
            }
            file.sync_all().await?;
            part.persist(into)?;
            io::Result::Ok(())
        };
        write.await.map_err(|e| broken_off(doing, &e))
    }

    /// A folder on the same disk for files that become objects.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<PathBuf, PortError> {
        let folder = self.root.join("incoming");
        std::fs::create_dir_all(&folder).map_err(|e| PortError::permanent("making a folder", e))?;
        Ok(folder)
    }

    /// The names of the folders right below this one.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, PortError> {
        outside::check("Objects::folders");
        let found = self.store.list_with_delimiter(Some(&Path::from(folder))).await;
        let found = found.map_err(|e| failed("listing objects", &e))?;
        Ok(found.common_prefixes.iter().filter_map(|folder| folder.filename().map(str::to_owned)).collect())
    }

    /// Removes files in [`Self::scratch`] whose names begin so: what was to become an object and never will.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub async fn discard(&self, begins: &str) -> Result<(), PortError> {
        outside::check("Objects::discard");
        self.clear_scratch(|name, _| name.starts_with(begins)).await
    }

    /// Removes files in [`Self::scratch`] that nobody has written to for an hour: whoever did has died.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub async fn discard_abandoned(&self) -> Result<(), PortError> {
        outside::check("Objects::discard_abandoned");
        self.clear_scratch(|_, file| is_old(file)).await
    }

    async fn clear_scratch(&self, goes: impl Fn(&str, &std::fs::Metadata) -> bool) -> Result<(), PortError> {
        let folder = self.scratch()?;
        let clear = async {
            let mut entries = tokio::fs::read_dir(&folder).await?;
            while let Some(entry) = entries.next_entry().await? {
                // Gone meanwhile: it became an object.
                let Ok(file) = entry.metadata().await else { continue };
                if entry.file_name().to_str().is_some_and(|name| goes(name, &file)) {
                    let _ = tokio::fs::remove_file(entry.path()).await;
                }
            }
            io::Result::Ok(())
        };
        clear.await.map_err(|e| PortError::transient("clearing the folder of incoming files", e))
    }

    /// A file on the same disk that becomes an object, for one writer at a time; `None` while there is another.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn incoming(&self, name: &str) -> Result<Option<Incoming>, PortError> {
        Ok(self.names.claim(&self.scratch()?, name))
    }

    /// Removes an object. Succeeds when there is none.
    ///
    /// # Errors
    /// When it could not be removed.
    pub async fn remove(&self, key: &str) -> Result<(), PortError> {
        outside::check("Objects::remove");
        if self.remote {
            // Goes with the next start at the latest.
            let place = self.place(key);
            let _ = tokio::fs::remove_file(&place).await;
            if let Some(folder) = place.parent() {
                // Fails while it holds something else, as it should.
                let _ = tokio::fs::remove_dir(folder).await;
            }
        }
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("removing a source", &error)),
        }
    }

    /// Removes all objects of a folder. Succeeds when there are none.
    ///
    /// # Errors
    /// When one could not be removed.
    pub async fn remove_all(&self, folder: &str) -> Result<(), PortError> {
        outside::check("Objects::remove_all");
        for key in self.list(folder).await? {
            self.remove(&key).await?;
        }
        // An empty folder may be left of an object that was not moved in to its end.
        let _ = tokio::fs::remove_dir(self.place(folder)).await;
        Ok(())
    }

    fn place(&self, key: &str) -> PathBuf {
        self.root.join(Path::from(key).as_ref())
    }
}

/// Whether a file was not written to or asked for within [`ABANDONED`].
fn is_old(file: &std::fs::Metadata) -> bool {
    file.modified().ok().and_then(|at| at.elapsed().ok()) > Some(ABANDONED)
}

/// What the store refuses is not asked for again; the rest passes.
fn failed(doing: &str, error: &object_store::Error) -> PortError {
    if is_refused(error) { PortError::permanent(doing, error) } else { PortError::transient(doing, error) }
}

/// The same of a stream, which wraps what the store said.
fn broken_off(doing: &str, error: &io::Error) -> PortError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<object_store::Error>()) {
        Some(error) => failed(doing, error),
        None => PortError::transient(doing, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_not_tried_again() {
        let refused =
            || object_store::Error::PermissionDenied { path: "a/b".to_owned(), source: "AccessDenied".into() };
        let busy = || object_store::Error::Generic { store: "S3", source: "SlowDown".into() };
        let is_permanent = |error: PortError| matches!(error, PortError::Permanent { .. });
        assert!(is_permanent(failed("storing", &refused())) && is_permanent(broken_off("storing", &refused().into())));
        assert!(!is_permanent(failed("storing", &busy())) && !is_permanent(broken_off("storing", &busy().into())));
        assert!(!is_permanent(broken_off("storing", &io::Error::other("the disk is full"))));
        let said = broken_off("storing", &refused().into()).to_string();
        assert!(said.contains("AccessDenied"), "{said}");
    }

    #[tokio::test]
    async fn a_bucket_is_fetched_from_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let bucket: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let host = |name: &str| Objects::in_bucket(Arc::clone(&bucket), folder.path().join(name)).expect("objects");
        let (one, two) = (host("one"), host("two"));
        let file = one.scratch().expect("scratch").join("x");
        let bytes = vec![7; PART_BYTES * 2 + 1];
        std::fs::write(&file, &bytes).expect("a file");
        one.put_file("sources/a/b.tar", &file).await.expect("put");
        assert!(!file.exists() && two.exists("sources/a/b.tar").await.expect("an answer"));
        for host in [&one, &two] {
            let local = host.local("sources/a/b.tar").await.expect("a file");
            assert_eq!(std::fs::read(local).expect("bytes"), bytes);
        }
        two.remove("sources/a/b.tar").await.expect("removed");
        assert!(two.local("sources/a/b.tar").await.is_err());
        assert!(one.list("sources/a").await.expect("a list").is_empty());
        // The other one still has the file that it sent, until it is told.
        assert_eq!(one.fetched("sources").await.expect("a list"), ["a"]);
        assert!(two.fetched("sources").await.expect("a list").is_empty());
        one.forget("sources/a").await.expect("forgotten");
        one.forget("sources/a").await.expect("forgotten again");
        assert!(one.fetched("sources").await.expect("a list").is_empty());
    }

    #[tokio::test]
    async fn folders_are_listed_and_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = Objects::in_folder(folder.path().join("objects")).expect("objects");
        for key in ["packs/a/1", "packs/a/2", "packs/ab/3"] {
            objects.put(key, Bytes::from_static(b"x")).await.expect("put");
        }
        let mut folders = objects.folders("packs").await.expect("a list");
        folders.sort();
        assert_eq!(folders, ["a", "ab"]);
        let mut keys = objects.list("packs/a").await.expect("a list");
        keys.sort();
        assert_eq!(keys, ["packs/a/1", "packs/a/2"]);
        objects.remove_all("packs/a").await.expect("removed");
        objects.remove_all("packs/a").await.expect("removed again");
        assert_eq!(objects.list("packs").await.expect("a list"), ["packs/ab/3"]);
        assert_eq!(objects.folders("packs").await.expect("a list"), ["ab"]);
        assert!(objects.folders("nothing").await.expect("a list").is_empty());
    }

    #[tokio::test]
    async fn what_never_becomes_an_object_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = Objects::in_folder(folder.path().join("objects")).expect("objects");
        let scratch = objects.scratch().expect("a folder");
        let names = || {
            let read = std::fs::read_dir(&scratch).expect("a folder").flatten();
            let mut names: Vec<_> = read.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        for name in ["one.tar", "one-more.tar", "two.tar", "three.tar"] {
            std::fs::write(scratch.join(name), b"x").expect("a file");
        }
        objects.discard("one").await.expect("removed");
        assert_eq!(names(), ["three.tar", "two.tar"]);
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        let file = std::fs::File::options().write(true).open(scratch.join("two.tar")).expect("a file");
        file.set_modified(long_ago).expect("its time");
        objects.discard_abandoned().await.expect("removed");
        assert_eq!(names(), ["three.tar"]);
    }
}
