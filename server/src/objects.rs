//! Objects: source archives, by key. A folder here; S3 behind the same crate on AWS.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use paas_ports::{PortError, outside};

/// Source archives.
#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    root: PathBuf,
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
        Ok(Self { store: Arc::new(store.with_automatic_cleanup(true)), root })
    }

    /// Writes an object whole: readers see all of it or nothing. The same key again replaces it.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), PortError> {
        outside::check("Objects::put");
        let put = self.store.put(&Path::from(key), bytes.into()).await;
        put.map(drop).map_err(|e| PortError::transient("storing the source", e))
    }

    /// Moves a finished file of this machine in as an object.
    ///
    /// # Errors
    /// When it could not be moved.
    pub async fn put_file(&self, key: &str, file: &std::path::Path) -> Result<(), PortError> {
        outside::check("Objects::put_file");
        let target = self.root.join(Path::from(key).as_ref());
        let moved = async {
            if let Some(folder) = target.parent() {
                tokio::fs::create_dir_all(folder).await?;
            }
            tokio::fs::rename(file, &target).await
        };
        moved.await.map_err(|e| PortError::transient("storing the source", e))
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
            Err(error) => Err(PortError::transient("looking for the source", error)),
        }
    }

    /// Where builders of this machine read an object.
    #[must_use]
    pub fn path(&self, key: &str) -> PathBuf {
        self.root.join(Path::from(key).as_ref())
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

    /// Removes an object. Succeeds when there is none.
    ///
    /// # Errors
    /// When it could not be removed.
    pub async fn remove(&self, key: &str) -> Result<(), PortError> {
        outside::check("Objects::remove");
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(PortError::transient("removing a source", error)),
        }
    }
}
