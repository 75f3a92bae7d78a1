//! One process type of one app: what was last wished of it, and its pool.

use std::sync::{Arc, Mutex, PoisonError};

use paas_domain::{AppId, ProcessType};
use paas_ports::PortError;
use tokio::sync::Mutex as TurnMutex;

use super::Inner;
use super::book::Dyno;
use super::facts::{Files, Wish};

/// A process type that this process has come across.
pub(crate) struct Group {
    app: AppId,
    process_type: ProcessType,
    wish: Mutex<Wish>,
    files: Files,
    /// One pass at a time.
    pub(crate) pass: TurnMutex<()>,
    /// One telling of the pool at a time, so that the last one told is the last one true.
    telling: TurnMutex<()>,
}

impl Group {
    pub(crate) fn wish(&self) -> Wish {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the wish, on disk too.
    pub(crate) fn set_wish(&self, change: impl FnOnce(&mut Wish)) {
        let mut wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = wish.clone();
        change(&mut next);
        if next != *wish {
            self.files.write_wish(&self.app, &self.process_type, &next);
            *wish = next;
        }
    }
}

impl Inner {
    /// The group of this process type.
    pub(crate) fn group(&self, app: &AppId, process_type: &ProcessType) -> Arc<Group> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let group = groups.entry((app.clone(), process_type.clone())).or_insert_with(|| {
            Arc::new(Group {
                app: app.clone(),
                process_type: process_type.clone(),
                wish: Mutex::new(self.files.wish(app, process_type)),
                files: self.files.clone(),
                pass: TurnMutex::default(),
                telling: TurnMutex::default(),
            })
        });
        Arc::clone(group)
    }

    pub(crate) fn wish_of(&self, dyno: &Dyno) -> Wish {
        self.group(&dyno.tag.app, dyno.tag.process_type()).wish()
    }

    /// Drops the groups of an app and what is kept of them.
    pub(crate) fn drop_groups(&self, app: &AppId) {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).retain(|(a, _), _| a != app);
        self.files.drop_app(app);
    }

    /// Makes the pool what the facts say.
    pub(crate) async fn publish(&self, app: &AppId, process_type: &ProcessType) -> Result<(), PortError> {
        let group = self.group(app, process_type);
        let _turn = group.telling.lock().await;
        let wish = group.wish();
        let Some(pool) = wish.attachment else { return Ok(()) };
        let members = self.book.members(app, process_type);
        match self.pools.set(&pool, wish.wanted, &members).await {
            // The pool of a destroyed app goes before its dynos do: nobody is left to tell.
            Err(PortError::NotFound(_)) if wish.wanted == 0 => Ok(()),
            told => told,
        }
    }
}
