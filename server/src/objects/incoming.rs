//! Files on their way in: one writer for each name, and nothing left of what does not arrive.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The names that are being written on this machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(Arc<Mutex<HashSet<String>>>);

impl Names {
    /// The file of this name in `folder`, to be written by the caller alone; `None` while somebody else writes it.
    pub(super) fn claim(&self, folder: &Path, name: &str) -> Option<Incoming> {
        let is_first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        is_first.then(|| Incoming { path: folder.join(name), name: name.to_owned(), names: self.clone() })
    }
}

/// A file on its way in. Dropping this gives its name back, and removes the file unless it was moved away.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    name: String,
    names: Names,
}

impl Incoming {
    /// Where to write it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        self.names.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_writers_until_it_is_done() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = Names::default();
        let first = names.claim(folder.path(), "a").expect("is free");
        assert!(names.clone().claim(folder.path(), "a").is_none());
        assert!(names.claim(folder.path(), "b").is_some(), "another name is another file");
        let path = first.path().to_owned();
        std::fs::write(&path, "half").expect("writes");
        drop(first);
        assert!(!path.exists());
        assert!(names.claim(folder.path(), "a").is_some());
    }
}
