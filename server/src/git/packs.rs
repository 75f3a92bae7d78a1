//! An app's packs in Objects, so that any host can make its repository again.
//!
//! `packs/<app id>/pack-<hash>.idx` and `.pack`, the pack last: where it is, both are. Git never changes a pack, and
//! nothing here ever repacks; so what has to be sent is what is not there yet, and repositories are caches.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use paas_domain::AppId;
use paas_ports::PortError;

use crate::objects::Objects;

/// The packs of every app.
#[derive(Debug)]
pub(super) struct Packs {
    objects: Objects,
    /// Names of packs that are known to be there.
    sent: Mutex<HashMap<AppId, BTreeSet<String>>>,
}

impl Packs {
    pub(super) fn new(objects: Objects) -> Self {
        Self { objects, sent: Mutex::default() }
    }

    /// Puts those packs of the repository there that are not yet. After `Ok` all of them are.
    pub(super) async fn send_new(&self, app: &AppId, repository: &Path) -> Result<(), PortError> {
        let here = names(repository)?;
        if here.is_subset(self.sent().entry(app.clone()).or_default()) {
            return Ok(());
        }
        let there = self.there(app).await?;
        for name in here.difference(&there) {
            for part in ["idx", "pack"] {
                let file = folder(repository).join(format!("{name}.{part}"));
                self.objects.send(&key(app, &format!("{name}.{part}")), &file).await?;
            }
        }
        self.sent().entry(app.clone()).or_default().extend(here);
        Ok(())
    }

    /// Brings those packs into the repository that it does not have.
    pub(super) async fn fetch_missing(&self, app: &AppId, repository: &Path) -> Result<(), PortError> {
        let (here, there) = (names(repository)?, self.there(app).await?);
        for name in there.difference(&here) {
            // Git looks for the index first, and takes the pack for there when it finds it.
            for part in ["pack", "idx"] {
                let file = folder(repository).join(format!("{name}.{part}"));
                self.objects.fetch(&key(app, &format!("{name}.{part}")), &file).await?;
            }
            tracing::info!(%app, pack = name, "a pack came from Objects");
        }
        self.sent().entry(app.clone()).or_default().extend(there);
        Ok(())
    }

    /// Removes an app's packs. Succeeds when there are none.
    pub(super) async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        self.sent().remove(app);
        self.objects.remove_all(&prefix(app)).await
    }

    async fn there(&self, app: &AppId) -> Result<BTreeSet<String>, PortError> {
        let keys = self.objects.list(&prefix(app)).await?;
        let name = |key: &String| Some(key.rsplit('/').next()?.strip_suffix(".pack")?.to_owned());
        Ok(keys.iter().filter_map(name).collect())
    }

    fn sent(&self) -> MutexGuard<'_, HashMap<AppId, BTreeSet<String>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prefix(app: &AppId) -> String {
    format!("packs/{app}")
}

fn key(app: &AppId, file: &str) -> String {
    format!("{}/{file}", prefix(app))
}

fn folder(repository: &Path) -> std::path::PathBuf {
    repository.join("objects/pack")
}

/// The packs that a repository has whole.
fn names(repository: &Path) -> Result<BTreeSet<String>, PortError> {
    let read = || {
        let entries = match fs::read_dir(folder(repository)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries?,
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|part| part == "idx")
                && path.with_extension("pack").is_file()
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            {
                names.insert(name.to_owned());
            }
        }
        io::Result::Ok(names)
    };
    read().map_err(|e| PortError::transient("looking at the packs", e))
}
