//! Which dyno each task is: its slot, what became of it, and what the app's log says of it.
//!
//! A slot is taken when a task is first seen, and given back when the dyno has ended and its end was said. A dyno
//! that crashed keeps its slot, and is seen as crashed, until a new dyno of its process type takes its place.

use std::collections::{BTreeMap, BTreeSet};

use paas_domain::{AppId, DynoId, DynoKind, DynoName, DynoState, ProcessType, Timestamp};
use paas_ports::{LogLine, LogSource, ObservedDyno, PortError};

use super::failure::{Ending, ending, exited, is_fault};
use super::note::{self, Definition, DynoNote, Exit, NOT_YET_S, Note};
use super::plan::DynoNames;
use super::sight::{Service, Task};
use super::world::Sight;
use super::{Inner, names};

/// The exit status of a dyno that SIGTERM ended.
const TERMINATED: i32 = 143;
/// The exit status of one that SIGKILL ended.
const KILLED: i32 = 137;

/// A process type's dynos.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) dynos: BTreeMap<DynoId, DynoNote>,
    /// The names of those that were let go of and that ECS still shows.
    told: BTreeMap<DynoId, DynoName>,
}

impl DynoNames for Book {
    fn name(&self, dyno: &DynoId) -> Option<DynoName> {
        self.dynos.get(dyno).map(|note| &note.name).or(self.told.get(dyno)).cloned()
    }
}

impl Inner {
    /// Brings what is known of a process type's dynos up to what was seen: slots, ends, lines in the app's log.
    ///
    /// `note.ready` says who serves.
    pub(crate) async fn keep_book(
        &self,
        app: &AppId,
        process_type: &ProcessType,
        note: &mut Note,
        notes: &BTreeMap<String, String>,
        sight: &Sight,
    ) -> Result<Book, PortError> {
        note.told.retain(|dyno, _| sight.tasks.iter().any(|task| task.dyno == *dyno));
        let mut book = Book { dynos: service_dynos(notes, process_type), told: BTreeMap::new() };
        let known: BTreeSet<DynoId> = book.dynos.keys().cloned().collect();
        // Ends first: who crashed may leave its slot to who comes.
        for task in sight.tasks.iter().filter(|task| task.stopped()) {
            if let Some(dyno) = book.dynos.get_mut(&task.dyno) {
                self.note_end(app, task, dyno).await?;
            }
        }
        let old = self.options.clock.now().plus_s(-NOT_YET_S);
        let gone: Vec<DynoId> = known
            .iter()
            .filter(|dyno| !sight.tasks.iter().any(|task| task.dyno == **dyno))
            .filter(|dyno| book.dynos[*dyno].exit.is_none() && book.dynos[*dyno].made_at < old)
            .cloned()
            .collect();
        for dyno in gone {
            // ECS does not show it any more, and nobody saw it end.
            self.strike(app, &mut book, note, &dyno).await?;
        }
        self.tidy(app, &mut book, note, sight).await?;
        for task in sight.tasks.iter().filter(|task| !known.contains(&task.dyno)) {
            if note.told.contains_key(&task.dyno) {
                continue;
            }
            // What ended before anyone saw it is told of only while it matters.
            let late = task.stopped() && (!is_fault(task) || task_before(task, note));
            if !late {
                self.enter(app, process_type, note, task, &mut book).await?;
            }
        }
        self.note_lives(app, note, &mut book, sight).await?;
        book.told.clone_from(&note.told);
        Ok(book)
    }

    /// Says of dynos that came to serve or were told to stop.
    pub(crate) async fn note_lives(
        &self,
        app: &AppId,
        note: &Note,
        book: &mut Book,
        sight: &Sight,
    ) -> Result<(), PortError> {
        for task in sight.tasks.iter().filter(|task| !task.stopped()) {
            if let Some(dyno) = book.dynos.get_mut(&task.dyno) {
                self.note_life(app, note, task, dyno).await?;
            }
        }
        Ok(())
    }

    /// A task is seen for the first time.
    async fn enter(
        &self,
        app: &AppId,
        process_type: &ProcessType,
        note: &mut Note,
        task: &Task,
        book: &mut Book,
    ) -> Result<(), PortError> {
        let Some(definition) = self.definition_of(app, note, &task.definition).await? else { return Ok(()) };
        let place = book.dynos.iter().filter(|(_, dyno)| makes_room(note, dyno));
        if let Some(place) = place.min_by_key(|(_, dyno)| dyno.name.slot).map(|(id, _)| id.clone()) {
            self.strike(app, book, note, &place).await?;
        }
        let slot = self.options.ledger.take_slot(app, process_type, &task.arn).await?;
        let mut dyno = DynoNote {
            kind: DynoKind::Service,
            name: DynoName { process_type: process_type.clone(), slot },
            release: definition.release,
            generation: definition.generation,
            size: definition.size,
            command: definition.command.clone(),
            task: Some(task.arn.clone()),
            made_at: task.created_at,
            up_at: None,
            stop_at: None,
            exit: None,
            forgotten: false,
            awaited: false,
            own_definition: None,
            why: None,
            for_good: false,
        };
        self.say(app, &dyno, task.created_at, format!("Starting process with command `{}`", dyno.command)).await;
        if task.stopped() {
            self.note_end(app, task, &mut dyno).await?;
        } else {
            self.keep(app, &task.dyno, &dyno).await?;
        }
        book.dynos.insert(task.dyno.clone(), dyno);
        Ok(())
    }

    /// It came to serve, or was told to stop.
    async fn note_life(&self, app: &AppId, note: &Note, task: &Task, dyno: &mut DynoNote) -> Result<(), PortError> {
        let mut changed = false;
        if dyno.up_at.is_none() && note.ready.contains(&task.dyno) {
            dyno.up_at = Some(self.options.clock.now());
            changed = true;
            self.say(app, dyno, self.options.clock.now(), state_changed("starting", "up")).await;
        }
        if dyno.stop_at.is_none() && task.leaving && !task.reason.contains("health checks") {
            let at = task.stopping_at.unwrap_or_else(|| self.options.clock.now());
            dyno.stop_at = Some(at);
            changed = true;
            self.say(app, dyno, at, "Stopping all processes with SIGTERM").await;
        }
        if changed { self.keep(app, &task.dyno, dyno).await } else { Ok(()) }
    }

    /// It has ended. Says so once.
    pub(crate) async fn note_end(&self, app: &AppId, task: &Task, dyno: &mut DynoNote) -> Result<(), PortError> {
        if dyno.exit.is_some() {
            return Ok(());
        }
        let web = dyno.name.process_type.is_web();
        let once = dyno.kind != DynoKind::Service;
        let ended = ending(task, web && !once, dyno.up_at.is_some(), self.options.timing.boot_timeout.as_secs());
        let crashed = is_fault(task) && (once || dyno.stop_at.is_none());
        let told = dyno.stop_at.is_some() || !crashed;
        let code = task.exit_code.or((told && task.started_at.is_some()).then_some(TERMINATED));
        if told && dyno.stop_at.is_none() {
            dyno.stop_at = Some(task.stopping_at.unwrap_or(ended.at));
            self.say(app, dyno, task.stopping_at.unwrap_or(ended.at), "Stopping all processes with SIGTERM").await;
        }
        self.say_end(app, dyno, &ended, code, crashed, task.started_at.is_some()).await;
        let heard = match &self.options.links {
            Some(links) => links.exit_code(&task.dyno).await.is_some(),
            None => false,
        };
        if !heard && task.started_at.is_some() {
            let container = dyno.name.process_type.as_str();
            self.options.logs.look_for_rest(app, &dyno.name.to_string(), container, &task.arn);
        }
        dyno.exit = Some(Exit { code, at: ended.at, crashed });
        self.keep(app, &task.dyno, dyno).await
    }

    async fn say_end(&self, app: &AppId, dyno: &DynoNote, ended: &Ending, code: Option<i32>, crashed: bool, ran: bool) {
        let grace = self.options.timing.stop_grace.as_secs();
        let mut lines = Vec::new();
        if dyno.stop_at.is_some() && code == Some(KILLED) && !crashed {
            lines.push(format!(
                "Error R12 (Exit timeout) -> At least one process failed to exit within {grace} seconds of SIGTERM"
            ));
            lines.push("Stopping remaining processes with SIGKILL".to_owned());
        }
        if crashed && (code.is_none() || ended.message != code.map(exited).unwrap_or_default()) {
            lines.push(ended.message.clone());
        }
        lines.extend(code.filter(|_| ran || code.is_some()).map(exited));
        let from = if dyno.up_at.is_some() || dyno.kind != DynoKind::Service { "up" } else { "starting" };
        let to = match dyno.kind {
            DynoKind::Run | DynoKind::Release => "complete",
            DynoKind::Service if crashed => "crashed",
            DynoKind::Service => "down",
        };
        lines.push(state_changed(from, to));
        for line in lines {
            self.say(app, dyno, ended.at, line).await;
        }
    }

    /// Lets go of dynos that ended, and of crashed ones that are in nobody's place any more.
    async fn tidy(&self, app: &AppId, book: &mut Book, note: &mut Note, sight: &Sight) -> Result<(), PortError> {
        let wanted = sight.service.as_ref().map_or(0, |service: &Service| service.desired);
        let live = sight.tasks.iter().filter(|task| !task.stopped() && !task.leaving).count();
        let whole = live >= usize::try_from(wanted).unwrap_or(usize::MAX);
        // While a rollout has failed, or may have to be judged, what failed stays to be seen.
        let forgiven = note.failure.is_none() && (whole && note.served || wanted == 0);
        // Those that the scheduler started meanwhile failed no rollout.
        let failure = note.failure.as_ref();
        let gone = book.dynos.iter().filter(|(_, dyno)| {
            dyno.exit.as_ref().is_some_and(|exit| {
                let later = failure.is_some_and(|failure| {
                    let another = failure.dyno.as_ref().is_some_and(|name| *name != dyno.name);
                    exit.at > failure.at || exit.at == failure.at && another
                });
                !exit.crashed || forgiven || later || exit.at <= note.forgiven
            })
        });
        let gone: Vec<DynoId> = gone.map(|(dyno, _)| dyno.clone()).collect();
        for dyno in gone {
            self.strike(app, book, note, &dyno).await?;
        }
        Ok(())
    }

    async fn strike(&self, app: &AppId, book: &mut Book, note: &mut Note, dyno: &DynoId) -> Result<(), PortError> {
        if let Some(gone) = book.dynos.remove(dyno) {
            note.told.insert(dyno.clone(), gone.name);
            if let Some(task) = gone.task {
                self.options.ledger.free_slot(&task).await?;
            }
        }
        self.options.notes.drop_note(app, &note::dyno_key(dyno)).await
    }

    pub(crate) async fn keep(&self, app: &AppId, dyno: &DynoId, note: &DynoNote) -> Result<(), PortError> {
        note::write(&*self.options.notes, app, &note::dyno_key(dyno), note).await
    }

    /// Says something about a dyno in its app's log. Best effort: it must not hold up what is done.
    pub(crate) async fn say(&self, app: &AppId, dyno: &DynoNote, at: Timestamp, message: impl Into<String>) {
        self.say_as(app, dyno.name.to_string(), at, message).await;
    }

    /// The same of a process type.
    pub(crate) async fn say_as(&self, app: &AppId, process: String, at: Timestamp, message: impl Into<String>) {
        let line = LogLine { at, source: LogSource::Heroku, process, message: message.into() };
        if let Err(e) = self.options.logs.append(app, vec![line]).await {
            tracing::warn!(%app, error = %e, "cannot store a line of the platform");
        }
    }

    /// What a definition is for: as it was noted, else as its tags say (somebody lost the notes).
    pub(crate) async fn definition_of(
        &self,
        app: &AppId,
        note: &Note,
        arn: &str,
    ) -> Result<Option<Definition>, PortError> {
        if let Some(known) = note.definitions.get(arn) {
            return Ok(Some(known.clone()));
        }
        self.read_definition(app, arn).await
    }
}

/// The dynos of a process type that were noted.
pub(crate) fn service_dynos(
    notes: &BTreeMap<String, String>,
    process_type: &ProcessType,
) -> BTreeMap<DynoId, DynoNote> {
    let of_type = |dyno: &DynoNote| dyno.kind == DynoKind::Service && dyno.name.process_type == *process_type;
    note::dynos(notes).filter(|(_, dyno)| of_type(dyno)).collect()
}

/// Whether a dyno has crashed and makes room for who comes. What failed a rollout stays to be seen.
pub(crate) fn makes_room(note: &Note, dyno: &DynoNote) -> bool {
    let crashed = dyno.exit.as_ref().filter(|exit| exit.crashed);
    note.failure.is_none() && crashed.is_some_and(|exit| note.served || exit.at <= note.forgiven)
}

fn task_before(task: &Task, note: &Note) -> bool {
    task.stopped_at.is_none_or(|at| at <= note.forgiven)
}

fn state_changed(from: &str, to: &str) -> String {
    format!("State changed from {from} to {to}")
}

/// A dyno as the core sees it.
pub(crate) fn observed(id: &DynoId, dyno: &DynoNote) -> ObservedDyno {
    let (state, since) = match (&dyno.exit, dyno.stop_at, dyno.up_at) {
        (Some(exit), ..) if exit.crashed && dyno.kind == DynoKind::Service => (DynoState::Crashed, exit.at),
        (Some(exit), ..) => (DynoState::Ended, exit.at),
        (None, Some(at), _) => (DynoState::Stopping, at),
        (None, None, Some(at)) => (DynoState::Up, at),
        (None, None, None) => (DynoState::Starting, dyno.made_at),
    };
    ObservedDyno {
        id: id.clone(),
        name: dyno.name.clone(),
        kind: dyno.kind,
        release: dyno.release,
        generation: dyno.generation,
        command: dyno.command.clone(),
        size: dyno.size,
        state,
        exit_code: dyno.exit.as_ref().and_then(|exit| exit.code),
        since,
        platform_ref: dyno.task.clone().unwrap_or_default(),
    }
}

/// The process types that notes or dynos tell of.
pub(crate) fn types(notes: &BTreeMap<String, String>) -> BTreeSet<ProcessType> {
    notes.keys().filter_map(|key| note::type_of_key(key)).collect()
}

impl Inner {
    /// The name of a process type's service.
    pub(crate) fn service_name(&self, app: &AppId, process_type: &ProcessType) -> String {
        names::service(&self.aws.install, app, process_type)
    }
}
