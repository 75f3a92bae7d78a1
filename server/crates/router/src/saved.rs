//! The table on disk: what a router starts from when nobody tells it anything.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paas_domain::{AppId, Generation, HostName, ProcessType};
use paas_ports::{Attachment, Member, Route};
use serde::{Deserialize, Serialize};

/// Everything the registry knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) next_claim: u64,
    pub(crate) apps: Vec<SavedApp>,
    pub(crate) pools: Vec<SavedPool>,
    /// Removed apps and the last generation they were seen with.
    pub(crate) removed: Vec<(AppId, Generation)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedApp {
    pub(crate) route: Arc<Route>,
    /// When each host came to this app, as a number that grows.
    pub(crate) claims: Arc<Vec<(HostName, u64)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedPool {
    pub(crate) pool: Attachment,
    pub(crate) app: AppId,
    pub(crate) process_type: ProcessType,
    pub(crate) wanted: u16,
    pub(crate) members: Arc<Vec<Member>>,
}

/// Where the table of a state folder is.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("table.json")
}

impl Saved {
    /// The table on disk; empty when there is none. One that cannot be read is put aside, so that the next
    /// write does not destroy what someone may want to look at.
    pub(crate) fn load(state_dir: &Path) -> io::Result<Self> {
        let path = path(state_dir);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(e),
        };
        match serde_json::from_slice(&bytes) {
            Ok(saved) => Ok(saved),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the table on disk cannot be read; starting without one");
                fs::rename(&path, path.with_extension("bad"))?;
                Ok(Self::default())
            }
        }
    }

    /// Writes the table so that a reader, or a crash at any moment, finds the old one or this one.
    pub(crate) fn store(&self, state_dir: &Path) -> io::Result<()> {
        let path = path(state_dir);
        let fresh = path.with_extension("new");
        let mut file = BufWriter::new(File::create(&fresh)?);
        serde_json::to_writer(&mut file, self)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(state_dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_an_older_router_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let old = serde_json::json!({
            "next_claim": 1, "pools": [], "removed": [],
            "apps": [{"claims": [["a.example.com", 1]], "route": {
                "app": AppId::new(), "app_name": "example-app", "generation": 1, "hosts": ["a.example.com"], "attachment": null,
                "released": true, "maintenance": false,
            }}],
        });
        fs::write(path(dir.path()), old.to_string()).expect("writes");
        let saved = Saved::load(dir.path()).expect("loads");
        assert!(saved.apps.len() == 1 && !saved.apps[0].route.session_affinity);
    }

    #[test]
    fn an_unreadable_table_is_put_aside() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(Saved::load(dir.path()).expect("loads"), Saved::default());
        let saved = Saved { next_claim: 7, ..Saved::default() };
        saved.store(dir.path()).expect("stores");
        assert_eq!(Saved::load(dir.path()).expect("loads"), saved);
        fs::write(path(dir.path()), b"{").expect("writes");
        assert_eq!(Saved::load(dir.path()).expect("loads"), Saved::default());
        assert!(dir.path().join("table.bad").exists());
    }
}
