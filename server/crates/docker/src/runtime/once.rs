//! One-off dynos: started at most once ever, attached to, stopped, forgotten.
//!
//! The container of an attached dyno is made by `start_once` and started by `attach`, after the engine has
//! joined the streams: no byte is lost, and a server that dies between the two leaves a container that was
//! never started, which the next `attach` starts. The engine would start an exited container again, so we
//! only ever start one that it calls `created`, one caller at a time. A release command, to which nobody types, is read from
//! the engine's log instead.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use paas_domain::{DynoId, DynoKind, Generation};
use paas_ports::{Duplex, OneOffSpec, PortError};
use tokio::sync::{Mutex, MutexGuard};

use super::attach::hijack;
use super::book::Dyno;
use super::facts::{Exit, Facts};
use super::look::Stage;
use super::tag::Tag;
use super::{Inner, voice};

/// How long forgetting waits for a dyno's last lines.
const FORGET_LIMIT: Duration = Duration::from_secs(5);

/// Whose turn it is with a one-off dyno: a few locks, shared by all ids.
#[derive(Default)]
pub(crate) struct Turns([Mutex<()>; 16]);

impl Turns {
    async fn turn(&self, dyno: &DynoId) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        dyno.hash(&mut hasher);
        let lock = usize::try_from(hasher.finish() % 16).unwrap_or(0);
        self.0[lock].lock().await
    }
}

impl Inner {
    pub(crate) async fn start_once(self: &Arc<Self>, id: &DynoId, spec: &OneOffSpec) -> Result<(), PortError> {
        let _turn = self.once.turn(id).await;
        let facts = self.files.facts(id).unwrap_or_default();
        let mut found = self.find(id).await?;
        if found.is_none() {
            if facts.started || facts.forgotten {
                return Err(PortError::NotFound(spec.name.to_string()));
            }
            self.create(tag(id, spec), &spec.image, &spec.config).await?;
            found = self.find(id).await?;
        }
        let found = found.ok_or_else(|| PortError::transient(format!("starting {}", spec.name), "it is gone"))?;
        let dynos = self.adopt(std::slice::from_ref(&found));
        let dyno = &dynos[0];
        let facts = dyno.facts();
        if found.stage == Stage::Created && !dyno.tag.attach && facts.stop.is_none() && facts.exit.is_none() {
            self.start_now(dyno).await?;
        }
        Ok(())
    }

    async fn start_now(self: &Arc<Self>, dyno: &Arc<Dyno>) -> Result<(), PortError> {
        self.say(&dyno.tag, voice::starting(&dyno.tag)).await;
        self.start(dyno).await
    }

    pub(crate) async fn attach(self: &Arc<Self>, id: &DynoId) -> Result<Duplex, PortError> {
        let _turn = self.once.turn(id).await;
        let gone = || PortError::NotFound(format!("dyno {id}"));
        let found = self.find(id).await?.ok_or_else(gone)?;
        let dynos = self.adopt(std::slice::from_ref(&found));
        let dyno = &dynos[0];
        let facts = dyno.facts();
        match found.stage {
            Stage::Created if facts.stop.is_some() || facts.exit.is_some() => Err(gone()),
            Stage::Created if !dyno.tag.attach => Err(PortError::transient("attaching to a dyno", "it is starting")),
            // Nobody types at it. And a server may have died as it started it: then it runs before we are attached, and
            // what it says until then would be missed.
            Stage::Created if dyno.tag.kind == DynoKind::Release => {
                self.start_now(dyno).await?;
                Ok(self.output_only(dyno))
            }
            Stage::Created => {
                let duplex = hijack(&self.socket, dyno, false).await?;
                self.start_now(dyno).await?;
                Ok(duplex)
            }
            Stage::Running if dyno.tag.tty => hijack(&self.socket, dyno, true).await,
            // Its stdin ended with whoever was attached first.
            Stage::Running | Stage::Exited => Ok(self.output_only(dyno)),
        }
    }

    pub(crate) async fn hang_up(&self, id: &DynoId) -> Result<(), PortError> {
        match self.find(id).await? {
            Some(found) if found.stage == Stage::Running && !found.tag.is_service() => {
                self.signal(&found.container, "SIGHUP").await
            }
            _ => Ok(()),
        }
    }

    /// Ends a dyno that was never started: it never will be.
    pub(crate) async fn cancel(self: &Arc<Self>, dyno: &Arc<Dyno>) -> Result<(), PortError> {
        let _turn = self.once.turn(&dyno.tag.dyno).await;
        // It may have been started while we waited for our turn.
        let seen = self.inspect(&dyno.container, None).await?;
        self.order_stop(dyno, false);
        if seen.is_some_and(|s| s.stage == Stage::Created) {
            let at = self.clock.now();
            // 143: as if SIGTERM had reached it.
            dyno.note(|f| {
                f.exit = Some(Exit { code: 143, at });
                f.exit_said = true;
                f.drained = true;
            });
            self.tell(&dyno.tag.app);
        }
        Ok(())
    }

    pub(crate) async fn forget(self: &Arc<Self>, id: &DynoId) -> Result<(), PortError> {
        let _turn = self.once.turn(id).await;
        let Some(found) = self.find(id).await? else { return Ok(()) };
        let dynos = self.adopt(std::slice::from_ref(&found));
        let dyno = &dynos[0];
        let doing = format!("forgetting {}", dyno.tag.name);
        if found.stage == Stage::Running {
            return Err(PortError::transient(doing, "it still runs"));
        }
        if found.stage == Stage::Exited {
            let mut facts = dyno.watch();
            let said = facts.wait_for(|f| f.drained && f.exit_said);
            let Ok(Ok(_)) = tokio::time::timeout(FORGET_LIMIT, said).await else {
                return Err(PortError::transient(doing, "its log is not stored yet"));
            };
        }
        self.remove_container(&dyno.container).await?;
        dyno.note(|f| *f = Facts { forgotten: true, ..f.clone() });
        self.book.strike(dyno);
        Ok(())
    }
}

fn tag(id: &DynoId, spec: &OneOffSpec) -> Tag {
    Tag {
        app: spec.app.clone(),
        dyno: id.clone(),
        name: spec.name.clone(),
        kind: spec.kind,
        release: spec.release,
        // One-off dynos belong to no wish.
        generation: Generation(0),
        restart: 0,
        size: spec.size,
        command: spec.command.clone(),
        port: None,
        attach: spec.attach,
        tty: spec.tty,
    }
}
