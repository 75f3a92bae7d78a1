//! What becomes of a one-off dyno behind its start: attaching, how it ends and why, forgetting.
//!
//! A dyno's end is noted down once. One that never ran says why in the app's log and to whoever waits for it, whatever
//! else was asked of it meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use paas_domain::{AppId, DynoId, DynoKind, Timestamp};
use paas_ports::{Duplex, ObservedDyno, PortError, SecretKey};
use tokio::time::Instant;

use super::Inner;
use super::book::observed;
use super::failure::{ending, exited, is_fault};
use super::note::{self, DynoNote, Exit, NOT_YET_S};
use super::once::UNKNOWN;
use super::sight::Task;

/// How long marks of used ids are kept: no client asks that late.
const MARK_S: i64 = 7 * 24 * 3600;
/// How often it is looked whether a dyno has linked.
const LINK_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether its task still lives, meanwhile.
const TASK_EVERY: Duration = Duration::from_secs(2);
/// The exit status of a dyno that was stopped before it ran.
const TERMINATED: i32 = 143;

impl Inner {
    /// A one-off dyno, brought up to date.
    pub(crate) async fn observe_one(&self, app: &AppId, id: &DynoId) -> Result<Option<ObservedDyno>, PortError> {
        let found = self.find_dyno(id).await?.filter(|(whose, dyno)| whose == app && !dyno.forgotten);
        let Some((_, mut dyno)) = found else { return Ok(None) };
        if let (Some(task), None) = (dyno.task.clone(), &dyno.exit) {
            let task = self.look_once(app, &[task]).await?.pop();
            self.note_once(app, id, &mut dyno, task.as_ref()).await?;
        }
        Ok(Some(observed(id, &dyno)))
    }

    /// One-off dynos that are not forgotten, brought up to date; a release phase's is its job's to bring up to date,
    /// which may run on another server.
    pub(crate) async fn observe_once(
        &self,
        app: &AppId,
        notes: &BTreeMap<String, String>,
    ) -> Result<Vec<ObservedDyno>, PortError> {
        let mut dynos = once_dynos(notes);
        let running = |dyno: &DynoNote| dyno.kind == DynoKind::Run && dyno.exit.is_none() && !dyno.forgotten;
        let running_now = dynos.iter().filter(|(_, dyno)| running(dyno));
        let arns: Vec<String> = running_now.filter_map(|(_, dyno)| dyno.task.clone()).collect();
        let tasks = self.look_once(app, &arns).await?;
        let mut seen = Vec::new();
        for (id, dyno) in &mut dynos {
            if dyno.forgotten {
                if dyno.made_at.plus_s(MARK_S) < self.options.clock.now() {
                    self.options.notes.drop_note(app, &note::dyno_key(id)).await?;
                }
                continue;
            }
            if running(dyno) && dyno.task.is_some() {
                let task = tasks.iter().find(|task| task.dyno == *id);
                self.note_once(app, id, dyno, task).await?;
            }
            seen.push(observed(id, dyno));
        }
        Ok(seen)
    }

    async fn note_once(
        &self,
        app: &AppId,
        id: &DynoId,
        dyno: &mut DynoNote,
        task: Option<&Task>,
    ) -> Result<(), PortError> {
        let now = self.options.clock.now();
        // The link tells it long before ECS has taken the task down.
        let linked = match &self.options.links {
            Some(links) => links.exit_code(id).await,
            None => None,
        };
        if task.is_none() && linked.is_none() && dyno.made_at.plus_s(NOT_YET_S) > now {
            // It was made a moment ago: AWS may not show it everywhere.
            return Ok(());
        }
        if !dyno.awaited && task.is_none_or(|task| task.started_at.is_some()) {
            let at = task.and_then(|task| task.started_at).unwrap_or(now);
            self.up_once(app, id, dyno, at).await?;
        }
        match (linked, task) {
            (Some(code), _) => self.end_once(app, id, dyno, i32::from(code), now).await,
            (None, Some(task)) if task.stopped() => {
                self.hang_up(id).await;
                let ended = ending(task, false, true, 0);
                // Whoever told it to stop meanwhile is not why it never ran.
                let told = dyno.stop_at.is_some() && !is_fault(task);
                let code = task.exit_code.unwrap_or(if told { TERMINATED } else { UNKNOWN });
                if task.exit_code.is_none() && !told {
                    self.say(app, dyno, ended.at, ended.message.clone()).await;
                    dyno.why = Some(ended.message);
                }
                self.end_once(app, id, dyno, code, ended.at).await
            }
            (None, Some(_)) => Ok(()),
            // ECS shows it no more, and nobody heard how it ended.
            (None, None) => {
                self.hang_up(id).await;
                self.end_once(app, id, dyno, UNKNOWN, now).await
            }
        }
    }

    /// It will not speak again: whoever is attached need not wait for its link to come back.
    async fn hang_up(&self, id: &DynoId) {
        if let Some(links) = &self.options.links {
            links.over(id).await;
        }
    }

    /// Its command runs.
    async fn up_once(&self, app: &AppId, id: &DynoId, dyno: &mut DynoNote, at: Timestamp) -> Result<(), PortError> {
        if dyno.up_at.is_some() {
            return Ok(());
        }
        dyno.up_at = Some(at);
        dyno.awaited = false;
        self.say(app, dyno, dyno.made_at, format!("Starting process with command `{}`", dyno.command)).await;
        self.say(app, dyno, at, "State changed from starting to up").await;
        self.keep(app, id, dyno).await
    }

    async fn end_once(
        &self,
        app: &AppId,
        id: &DynoId,
        dyno: &mut DynoNote,
        code: i32,
        at: Timestamp,
    ) -> Result<(), PortError> {
        self.say(app, dyno, at, exited(code)).await;
        let from = if dyno.why.is_some() { "starting" } else { "up" };
        self.say(app, dyno, at, format!("State changed from {from} to complete")).await;
        dyno.exit = Some(Exit { code: Some(code), at, crashed: false });
        self.keep(app, id, dyno).await
    }

    pub(crate) async fn attach(&self, id: &DynoId) -> Result<Duplex, PortError> {
        let gone = || PortError::NotFound(format!("dyno {id}"));
        let Some(links) = &self.options.links else {
            return Err(PortError::permanent("attaching to a dyno", "this server has no dyno link"));
        };
        let since = Instant::now();
        let mut looked: Option<Instant> = None;
        loop {
            let (app, dyno) = self.find_dyno(id).await?.filter(|(_, dyno)| !dyno.forgotten).ok_or_else(gone)?;
            match links.attach(id).await {
                Ok(duplex) => {
                    self.attached(&app, id).await?;
                    return Ok(duplex);
                }
                Err(error) if !error.is_transient() || since.elapsed() > self.options.timing.attach_patience => {
                    return Err(error);
                }
                Err(_) => {}
            }
            let why = |message: String| PortError::permanent(format!("starting {}", dyno.name), message);
            if let Some(cause) = dyno.why.clone() {
                // What AWS refuses to start may be started a moment later, or not for hours.
                let lasts = dyno.task.is_none() && since.elapsed() > self.options.timing.attach_patience / 3;
                if dyno.exit.is_some() || dyno.for_good || lasts {
                    return Err(why(cause));
                }
            }
            if dyno.stop_at.is_some() {
                return Err(gone());
            }
            if let Some(exit) = &dyno.exit {
                return Err(why(exited(exit.code.unwrap_or(UNKNOWN))));
            }
            let due = looked.is_none_or(|at| at.elapsed() > TASK_EVERY);
            if let Some(task) = dyno.task.clone().filter(|_| due) {
                looked = Some(Instant::now());
                let known = self.world.once(id).filter(Task::stopped);
                let task = match known {
                    Some(task) => Some(task),
                    None => self.look_once(&app, &[task]).await?.pop(),
                };
                // A task that ended without a link says why.
                if let Some(task) = task.filter(Task::stopped) {
                    return Err(why(ending(&task, false, true, 0).message));
                }
            }
            tokio::time::sleep(LINK_EVERY).await;
        }
    }

    /// The first attach starts the command.
    async fn attached(&self, app: &AppId, id: &DynoId) -> Result<(), PortError> {
        let pass = self.pass(app);
        let _pass = pass.lock().await;
        match self.find_dyno(id).await? {
            Some((_, mut dyno)) if dyno.awaited => self.up_once(app, id, &mut dyno, self.options.clock.now()).await,
            _ => Ok(()),
        }
    }

    pub(crate) async fn find_dyno(&self, id: &DynoId) -> Result<Option<(AppId, DynoNote)>, PortError> {
        let found = self.options.notes.find_note(&note::dyno_key(id)).await?;
        Ok(found.and_then(|(app, text)| Some((app, serde_json::from_str(&text).ok()?))))
    }

    /// Stops one dyno, whatever it is.
    pub(crate) async fn stop(&self, id: &DynoId) -> Result<(), PortError> {
        let Some((app, _)) = self.find_dyno(id).await? else { return Ok(()) };
        let pass = self.pass(&app);
        let _pass = pass.lock().await;
        let Some((_, mut dyno)) = self.find_dyno(id).await? else { return Ok(()) };
        if dyno.exit.is_some() || dyno.forgotten {
            return Ok(());
        }
        let service = dyno.kind == DynoKind::Service;
        if let Some(ended) = self.world.once(id).filter(|task| !service && task.stopped()) {
            // Nobody has noted it down yet: why it ended is not that it is told to stop now.
            return self.note_once(&app, id, &mut dyno, Some(&ended)).await;
        }
        if !service && dyno.stop_at.is_none() {
            let now = self.options.clock.now();
            dyno.stop_at = Some(now);
            if dyno.task.is_none() {
                // It never will run: start_once finds its end.
                let code = if dyno.why.is_some() { UNKNOWN } else { TERMINATED };
                dyno.exit = Some(Exit { code: Some(code), at: now, crashed: false });
            } else {
                self.say(&app, &dyno, now, "Stopping all processes with SIGTERM").await;
            }
            self.keep(&app, id, &dyno).await?;
        }
        if let Some(links) = self.options.links.as_ref().filter(|_| !service) {
            links.stop(id).await;
        }
        let Some(task) = &dyno.task else { return Ok(()) };
        self.stop_task(&app, task, "stopped by its app").await?;
        if service {
            self.world.doubt(&self.service_name(&app, &dyno.name.process_type));
        }
        Ok(())
    }

    pub(crate) async fn forget(&self, id: &DynoId) -> Result<(), PortError> {
        let Some((app, _)) = self.find_dyno(id).await? else { return Ok(()) };
        let pass = self.pass(&app);
        let _pass = pass.lock().await;
        let Some((_, mut dyno)) = self.find_dyno(id).await? else { return Ok(()) };
        if dyno.kind == DynoKind::Service || dyno.forgotten {
            return Ok(());
        }
        if dyno.exit.is_none() {
            let task = match &dyno.task {
                Some(task) => self.look_once(&app, std::slice::from_ref(task)).await?.pop(),
                None => None,
            };
            self.note_once(&app, id, &mut dyno, task.as_ref()).await?;
        }
        if dyno.exit.is_none() {
            return Err(PortError::transient(format!("forgetting {}", dyno.name), "it still runs"));
        }
        if let Some(definition) = dyno.own_definition.take() {
            self.deregister(&app, &definition).await?;
            self.options.secrets.remove(&app, &SecretKey::Dyno(id.clone())).await?;
        }
        if let Some(links) = &self.options.links {
            links.forget(id).await;
        }
        self.world.forget_once(id);
        dyno.forgotten = true;
        dyno.command.clear();
        self.keep(&app, id, &dyno).await
    }
}

/// The one-off dynos that were noted.
pub(crate) fn once_dynos(notes: &BTreeMap<String, String>) -> BTreeMap<DynoId, DynoNote> {
    note::dynos(notes).filter(|(_, dyno)| dyno.kind != DynoKind::Service).collect()
}
