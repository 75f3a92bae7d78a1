//! What the runtime driver notes down for itself: ECS forgets a task after an hour, and a restart of the server must
//! not lose what was asked of it.
//!
//! A note is a text under a key of an app. Only whoever works on the app writes (one pass at a time, under the app's
//! lease), so a note is simply written over. The server implements [`DynoNotes`] over its store; [`MemoryNotes`] is
//! for tests of drivers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use paas_domain::AppId;
use paas_ports::PortError;

/// The runtime driver's memory. Everything that returned is there after a crash.
///
/// No method is called while a transaction is open; each opens its own.
#[async_trait]
pub trait DynoNotes: Send + Sync {
    /// An app's notes, by key.
    async fn notes(&self, app: &AppId) -> Result<BTreeMap<String, String>, PortError>;

    /// A note whose app is not known: whose it is, and its text. Used with keys that hold an id.
    async fn find_note(&self, key: &str) -> Result<Option<(AppId, String)>, PortError>;

    /// Writes a note, over what was there.
    async fn put_note(&self, app: &AppId, key: &str, text: &str) -> Result<(), PortError>;

    /// Removes a note. Succeeds when there is none.
    async fn drop_note(&self, app: &AppId, key: &str) -> Result<(), PortError>;

    /// Removes every note of an app. Succeeds when there is none.
    async fn drop_notes(&self, app: &AppId) -> Result<(), PortError>;

    /// Every app with a note.
    async fn noted_apps(&self) -> Result<Vec<AppId>, PortError>;
}

/// Notes in memory.
#[derive(Debug, Default)]
pub struct MemoryNotes(Mutex<BTreeMap<(AppId, String), String>>);

impl MemoryNotes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(AppId, String), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DynoNotes for MemoryNotes {
    async fn notes(&self, app: &AppId) -> Result<BTreeMap<String, String>, PortError> {
        let notes = self.lock();
        let ours = notes.iter().filter(|((owner, _), _)| owner == app);
        Ok(ours.map(|((_, key), text)| (key.clone(), text.clone())).collect())
    }

    async fn find_note(&self, key: &str) -> Result<Option<(AppId, String)>, PortError> {
        let notes = self.lock();
        let found = notes.iter().find(|((_, found), _)| found == key);
        Ok(found.map(|((app, _), text)| (app.clone(), text.clone())))
    }

    async fn put_note(&self, app: &AppId, key: &str, text: &str) -> Result<(), PortError> {
        self.lock().insert((app.clone(), key.to_owned()), text.to_owned());
        Ok(())
    }

    async fn drop_note(&self, app: &AppId, key: &str) -> Result<(), PortError> {
        self.lock().remove(&(app.clone(), key.to_owned()));
        Ok(())
    }

    async fn drop_notes(&self, app: &AppId) -> Result<(), PortError> {
        self.lock().retain(|(owner, _), _| owner != app);
        Ok(())
    }

    async fn noted_apps(&self) -> Result<Vec<AppId>, PortError> {
        let mut apps: Vec<AppId> = self.lock().keys().map(|(app, _)| app.clone()).collect();
        apps.dedup();
        Ok(apps)
    }
}
