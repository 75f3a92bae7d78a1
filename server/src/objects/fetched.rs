//! What this machine has of a bucket: files that were asked for, until nobody asks for them or their app is gone.

use std::io;
use std::path::Path as FilePath;

use paas_ports::{PortError, outside};

use super::{Objects, is_old};

impl Objects {
    /// The names of the folders right below this one in what this machine has of a bucket; none when objects are here.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn fetched(&self, folder: &str) -> Result<Vec<String>, PortError> {
        outside::check("Objects::fetched");
        if !self.remote {
            return Ok(Vec::new());
        }
        let listed = async {
            let mut entries = tokio::fs::read_dir(self.place(folder)).await?;
            let mut names = Vec::new();
            while let Some(entry) = entries.next_entry().await? {
                names.extend(entry.file_name().into_string());
            }
            io::Result::Ok(names)
        };
        match listed.await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|e| PortError::transient("listing what was fetched of a bucket", e)),
        }
    }

    /// Removes what this machine has of a folder of a bucket; the bucket keeps it. Objects that are here stay.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn forget(&self, folder: &str) -> Result<(), PortError> {
        outside::check("Objects::forget");
        if !self.remote {
            return Ok(());
        }
        match tokio::fs::remove_dir_all(self.place(folder)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PortError::transient("removing what was fetched of a bucket", error))
            }
            _ => Ok(()),
        }
    }

    /// Removes what this machine has of a bucket and nobody has asked for within an hour: who does is given it anew.
    ///
    /// # Errors
    /// When it cannot be looked through.
    pub async fn forget_unused(&self) -> Result<(), PortError> {
        outside::check("Objects::forget_unused");
        if !self.remote {
            return Ok(());
        }
        let root = self.root.clone();
        let cleared = tokio::task::spawn_blocking(move || {
            for kind in ["sources", "uploads"] {
                clear_old(&root.join(kind));
            }
        });
        cleared.await.map_err(|e| PortError::transient("clearing what was fetched of a bucket", e))
    }
}

/// Removes old files below a folder, and old folders with nothing in them. One that is new may be about to get a file.
fn clear_old(folder: &FilePath) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() {
            clear_old(&entry.path());
        }
        if is_old(&found) {
            // What is still in use, or gone, stays as it is.
            let _ = if found.is_dir() { std::fs::remove_dir(entry.path()) } else { std::fs::remove_file(entry.path()) };
        }
    }
}

/// Whether a file is there, which is asked for now.
pub(super) async fn is_kept(place: &FilePath) -> bool {
    let place = place.to_owned();
    let touch = move || std::fs::File::options().write(true).open(place)?.set_modified(std::time::SystemTime::now());
    matches!(tokio::task::spawn_blocking(touch).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use object_store::ObjectStore;

    use super::super::ABANDONED;
    use super::*;

    #[tokio::test]
    async fn what_nobody_asks_for_is_fetched_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let bucket: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let objects = Objects::in_bucket(bucket, folder.path().join("objects")).expect("objects");
        let keys = ["sources/a/old.tar", "sources/a/asked-for.tar", "uploads/new.tgz"];
        for key in keys {
            objects.put(key, Bytes::from_static(b"x")).await.expect("put");
            objects.local(key).await.expect("fetched");
        }
        let place = |key: &str| folder.path().join("objects").join(key);
        let long_ago = std::time::SystemTime::now() - 2 * ABANDONED;
        for key in &keys[..2] {
            let file = std::fs::File::options().write(true).open(place(key)).expect("a file");
            file.set_modified(long_ago).expect("its time");
        }
        objects.local(keys[1]).await.expect("there");
        objects.forget_unused().await.expect("cleared");
        assert_eq!(keys.map(|key| place(key).exists()), [false, true, true]);
        objects.local(keys[0]).await.expect("fetched again");
    }

    #[tokio::test]
    async fn objects_that_are_here_are_not_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let objects = Objects::in_folder(folder.path().join("objects")).expect("objects");
        objects.put("sources/a/b.tar", Bytes::from_static(b"x")).await.expect("put");
        assert!(objects.fetched("sources").await.expect("a list").is_empty());
        objects.forget("sources/a").await.expect("nothing to do");
        assert!(objects.exists("sources/a/b.tar").await.expect("an answer"));
    }
}
