//! What to ask of ECS next for one process type, and where it stands. Pure.
//!
//! ECS rolls: it starts new tasks, waits for their health, drains and stops old ones, and replaces what crashes.
//! What is left to decide here: when to change a service, when a rollout has failed (at the first task that ends,
//! long before ECS gives up), what to withdraw to then, and when to rest a service that only crashes.
//!
//! After that ECS tries as often as its circuit breaker allows and goes back to the last release that served; where
//! there is none, and nothing is healthy, the service's count goes to zero. It is tried again when `revive` says so. A crash after a deployment has served is
//! ECS's to replace, at once; the second one within [`CRASH_RESET_S`] while nothing runs rests the service.
//!
//! Where ECS starts no tasks for want of room it goes on trying, and so is not told to do anything; only who wants Spot
//! is moved on demand then, for [`SPOT_AGAIN_S`].

use std::time::Duration;

use paas_domain::{CRASH_RESET_S, DynoId, DynoName, Generation, Timestamp};
use paas_ports::{Progress, RolloutFailure};

use super::Capacity;
use super::failure::{ending, had_no_room, is_fault, unplaced};
use super::note::{Failed, Note};
use super::sight::{Deployment, Health, Refusal, Rollout, SPOT, Service, Task};

/// When to look again at what no event announces.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a task of a completed deployment runs without a word of its health until it counts as healthy: events
/// say nothing of it.
const UNSAID_S: i64 = 15;
/// How long ECS may start nothing until it is said: it tries again by itself, and often in no time.
const HELD_UP_S: i64 = 5;
/// How long a service that found no room on Spot stays on demand.
const SPOT_AGAIN_S: i64 = 3600;

/// How a process type should run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The wish.
    pub generation: Generation,
    /// What its definition is made of.
    pub fingerprint: String,
    /// How many.
    pub quantity: u32,
    /// What to take them from.
    pub capacity: Capacity,
    /// Counts restarts.
    pub restart: i64,
    /// Whether what crashed may be tried again now.
    pub revive: bool,
    /// Whether its dynos have to listen.
    pub web: bool,
    /// How long they may take to.
    pub boot_timeout_s: u64,
}

/// What to ask of ECS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Register a definition when there is none like it, and make the service.
    Create,
    /// Register a definition and let the service run it.
    Deploy,
    /// Let the service run a definition that is registered.
    Point {
        /// Its ARN.
        definition: String,
        /// How many.
        desired: u32,
        /// Whether new tasks are wanted though it is the same definition.
        force: bool,
    },
    /// Change the service's count only.
    Scale {
        /// How many.
        desired: u32,
    },
}

impl Wanted {
    /// What the service is to take its dynos from: on demand while Spot is known to have no room.
    #[must_use]
    pub fn capacity(&self, note: &Note) -> Capacity {
        if note.no_spot.is_some() { Capacity::OnDemand } else { self.capacity }
    }
}

/// The next step, the note to write before it is taken, and where the process type stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What to ask.
    pub step: Step,
    /// What to remember.
    pub note: Note,
    /// Where it stands.
    pub progress: Progress,
}

/// What is there.
#[derive(Clone, Copy, Debug)]
pub struct There<'a> {
    /// The service, when there is one.
    pub service: Option<&'a Service>,
    /// Its tasks, those that ended lately included.
    pub tasks: &'a [Task],
    /// The names of its dynos.
    pub names: &'a dyn DynoNames,
}

/// Knows dynos' names.
pub trait DynoNames: std::fmt::Debug + Sync {
    /// This one's.
    fn name(&self, dyno: &DynoId) -> Option<DynoName>;
}

/// What to do next. Ask only when the wish is not out of date.
#[must_use]
pub fn plan(wanted: &Wanted, note: &Note, there: There<'_>, now: Timestamp) -> Plan {
    let mut note = Note { generation: wanted.generation, ..note.clone() };
    note.ready.retain(|dyno| there.tasks.iter().any(|task| task.dyno == *dyno && !task.stopped()));
    note.ready
        .extend(there.tasks.iter().filter(|t| t.running() && t.health == Health::Healthy).map(|t| t.dyno.clone()));
    note.no_spot = note.no_spot.filter(|since| wanted.capacity == Capacity::Spot && since.plus_s(SPOT_AGAIN_S) > now);
    let moving = Progress::Moving { look_again: LOOK_AGAIN };
    let live = there.tasks.iter().filter(|task| !task.stopped()).count();
    let Some(service) = there.service else {
        if wanted.quantity > 0 {
            note.deployment = None;
            note.replaced = None;
            note.failure = None;
            note.restart = note.restart.max(wanted.restart);
            return Plan { step: Step::Create, note, progress: moving };
        }
        note.restart = wanted.restart;
        return Plan { step: Step::Rest, note, progress: emptied(live) };
    };
    if !service.active {
        return Plan { step: Step::Rest, note, progress: moving };
    }
    if wanted.quantity == 0 {
        // Nothing to roll: what is wanted then is registered when somebody scales it up.
        note.failure = None;
        note.crashes.clear();
        let step = if service.desired == 0 { Step::Rest } else { Step::Scale { desired: 0 } };
        let progress = if service.desired == 0 { emptied(live) } else { moving };
        return Plan { step, note, progress };
    }
    if note.fingerprint != wanted.fingerprint {
        note.replaced = service.primary().map(|deployment| deployment.id.clone());
        anew(&mut note, now);
        note.restart = note.restart.max(wanted.restart);
        return Plan { step: Step::Deploy, note, progress: moving };
    }
    let Some(primary) = service.primary() else { return Plan { step: Step::Rest, note, progress: moving } };
    if wanted.restart > note.restart {
        note.restart = wanted.restart;
        return point(wanted, note, primary, now);
    }
    adopt(&mut note, primary);
    let ours = note.failure.is_none() && note.deployment.as_ref() == Some(&primary.id);
    let on_spot = wanted.capacity(&note) == Capacity::Spot && service.spot;
    if ours && on_spot && spot_is_full(wanted, &note, service, there, now) {
        note.no_spot = Some(now);
        return point(wanted, note, primary, now);
    }
    if note.failure.is_some() {
        return failed(wanted, note, service, primary, there, now);
    }
    if primary.definition != note.definition || note.deployment.is_none() {
        return strayed(wanted, note, service, primary, there, now);
    }
    if note.served && service.spot != (wanted.capacity(&note) == Capacity::Spot) {
        return point(wanted, note, primary, now);
    }
    if note.deployment.as_ref() != Some(&primary.id) {
        // Somebody asked for the same definition again: theirs is ours.
        note.deployment = Some(primary.id.clone());
        note.served = false;
    }
    watch(wanted, note, service, primary, there, now)
}

fn emptied(live: usize) -> Progress {
    if live == 0 { Progress::Settled } else { Progress::Serving { look_again: LOOK_AGAIN } }
}

/// Forgets what became of the last try.
fn anew(note: &mut Note, now: Timestamp) {
    note.deployment = None;
    note.served = false;
    note.failure = None;
    note.forgiven = now;
    note.crashes.clear();
}

/// Takes a deployment that came of our last change for ours.
fn adopt(note: &mut Note, primary: &Deployment) {
    let ours = primary.definition == note.definition && note.replaced.as_ref() != Some(&primary.id);
    if note.deployment.is_none() && ours {
        note.deployment = Some(primary.id.clone());
    }
}

/// Whether ECS starts fewer tasks of our deployment than it should.
#[must_use]
pub fn lacks_tasks(wanted: &Wanted, note: &Note, there: There<'_>) -> bool {
    let live = current(note, there).filter(|task| !task.stopped()).count();
    live < usize::try_from(wanted.quantity).unwrap_or(usize::MAX)
}

/// Why ECS starts none of those that are lacking, once that has lasted. (What was said before our last change holds on
/// until something is started: AWS does not say the same twice.)
fn held_up<'a>(
    wanted: &Wanted,
    note: &Note,
    service: &'a Service,
    there: There<'_>,
    now: Timestamp,
) -> Option<&'a Refusal> {
    let refusal = service.refusal.as_ref()?;
    let lasts = refusal.at.max(note.forgiven).plus_s(HELD_UP_S) <= now;
    (lasts && lacks_tasks(wanted, note, there)).then_some(refusal)
}

/// Whether Spot, of which the service takes some, has no room for it.
fn spot_is_full(wanted: &Wanted, note: &Note, service: &Service, there: There<'_>, now: Timestamp) -> bool {
    let of_spot = |refusal: &Refusal| refusal.providers.is_empty() || refusal.providers.iter().any(|name| name == SPOT);
    let ended = |task: &Task| had_no_room(task) && task_end(task) > note.forgiven;
    held_up(wanted, note, service, there, now).is_some_and(of_spot) || current(note, there).any(ended)
}

/// Lets the service run what it should, with new tasks.
fn point(wanted: &Wanted, mut note: Note, primary: &Deployment, now: Timestamp) -> Plan {
    note.replaced = Some(primary.id.clone());
    anew(&mut note, now);
    let force = primary.definition == note.definition;
    let step = Step::Point { definition: note.definition.clone(), desired: wanted.quantity, force };
    Plan { step, note, progress: Progress::Moving { look_again: LOOK_AGAIN } }
}

/// The service does not run what it should, or our last change never arrived.
fn strayed(
    wanted: &Wanted,
    mut note: Note,
    service: &Service,
    primary: &Deployment,
    there: There<'_>,
    now: Timestamp,
) -> Plan {
    let Some(ours) = note.deployment.clone() else { return point(wanted, note, primary, now) };
    let given_up = service.deployment(&ours).is_none_or(|deployment| deployment.rollout == Rollout::Failed);
    let fault = first_fault(wanted, &note, there);
    if !note.served && (fault.is_some() || given_up && note.serving.as_ref() == Some(&primary.definition)) {
        // ECS has taken it back while nobody looked.
        let reason = service.deployment(&ours).map(|deployment| deployment.reason.clone()).unwrap_or_default();
        note.failure = Some(fault.unwrap_or_else(|| given_up_failure(&reason, service, now)));
        return failed(&Wanted { revive: false, ..wanted.clone() }, note, service, primary, there, now);
    }
    point(wanted, note, primary, now)
}

fn given_up_failure(reason: &str, service: &Service, now: Timestamp) -> Failed {
    let message = match &service.refusal {
        Some(refusal) => unplaced(&refusal.said),
        None if reason.is_empty() => "The new dynos did not come to serve".to_owned(),
        None => reason.to_owned(),
    };
    Failed { dyno: None, code: None, message, at: now }
}

/// A rollout has failed and may or may not be tried again.
fn failed(
    wanted: &Wanted,
    mut note: Note,
    service: &Service,
    primary: &Deployment,
    there: There<'_>,
    now: Timestamp,
) -> Plan {
    let in_charge = note.deployment.as_ref() == Some(&primary.id);
    if wanted.revive {
        let under_way = in_charge && primary.rollout == Rollout::InProgress && service.desired == wanted.quantity;
        if !under_way {
            return point(wanted, note, primary, now);
        }
        // ECS still tries.
        note.failure = None;
        note.forgiven = now;
        return watch(wanted, note, service, primary, there, now);
    }
    let running = current(&note, there).filter(|task| task.running()).count();
    let whole = running == usize::try_from(wanted.quantity).unwrap_or(usize::MAX);
    if in_charge && primary.rollout == Rollout::Completed && whole {
        // ECS tried again by itself, and now it serves.
        note.failure = None;
        note.forgiven = now;
        return watch(wanted, note, service, primary, there, now);
    }
    // Going back ourselves would replace old dynos that serve; ECS's circuit breaker goes back to those that run.
    let ecs_tries = in_charge && primary.rollout == Rollout::InProgress;
    // Also those of the deployment before, which may be of the same definition: they serve on.
    let anyone = there.tasks.iter().any(Task::running);
    let step = match note.serving.clone().filter(|serving| *serving != note.definition) {
        Some(serving) if primary.definition != serving && !ecs_tries => {
            Step::Point { definition: serving, desired: wanted.quantity, force: false }
        }
        Some(_) if service.desired != wanted.quantity => Step::Scale { desired: wanted.quantity },
        None if !anyone && service.desired != 0 => Step::Scale { desired: 0 },
        _ => Step::Rest,
    };
    let progress = match &note.failure {
        Some(failure) => Progress::Failed { reason: RolloutFailure::from(failure) },
        None => Progress::Moving { look_again: LOOK_AGAIN },
    };
    Plan { step, note, progress }
}

/// The service runs what it should: has it come to serve, and does it still?
fn watch(
    wanted: &Wanted,
    mut note: Note,
    service: &Service,
    primary: &Deployment,
    there: There<'_>,
    now: Timestamp,
) -> Plan {
    let quantity = usize::try_from(wanted.quantity).unwrap_or(usize::MAX);
    if !note.served {
        let given_up = primary.rollout == Rollout::Failed;
        let fault = first_fault(wanted, &note, there);
        if fault.is_some() || given_up {
            note.failure = Some(fault.unwrap_or_else(|| given_up_failure(&primary.reason, service, now)));
            return failed(&Wanted { revive: false, ..wanted.clone() }, note, service, primary, there, now);
        }
    }
    let snapshot = note.clone();
    let running: Vec<&Task> = current(&snapshot, there).filter(|task| task.running()).collect();
    let others: Vec<&Task> = there
        .tasks
        .iter()
        .filter(|task| !task.stopped() && snapshot.deployment.as_ref() != Some(&task.started_by))
        .collect();
    let leaving = current(&snapshot, there).filter(|task| task.leaving && !task.stopped()).count();
    // ECS lets old tasks go only when new ones are healthy, in their target group too.
    let relieved = !others.is_empty() && others.iter().all(|task| task.leaving) && running.len() == quantity;
    let completed = primary.rollout == Rollout::Completed;
    for task in &running {
        let aged = task.started_at.is_some_and(|at| at.plus_s(UNSAID_S) <= now);
        let known = relieved || completed && (!note.served || aged);
        if known && task.health != Health::Unhealthy {
            note.ready.insert(task.dyno.clone());
        }
    }
    let serves = running.len() == quantity && running.iter().all(|task| note.ready.contains(&task.dyno));
    if serves && !note.served {
        note.served = true;
        note.serving = Some(note.definition.clone());
    }
    if note.served {
        let faults = current(&note, there).filter(|task| is_fault(task) && task_end(task) > note.forgiven);
        let faults: Vec<(DynoId, Timestamp)> = faults.map(|task| (task.dyno.clone(), task_end(task))).collect();
        note.crashes.extend(faults);
        note.crashes.retain(|_, at| at.plus_s(CRASH_RESET_S) > now);
        if running.is_empty() && note.crashes.len() >= 2 && service.desired > 0 {
            let last = note.crashes.iter().max_by_key(|(_, at)| **at).map(|(dyno, _)| dyno.clone());
            let task = there.tasks.iter().find(|task| Some(&task.dyno) == last.as_ref());
            note.failure = task.map(|task| failure_of(wanted, &note, task, there));
            if note.failure.is_some() {
                return failed(&Wanted { revive: false, ..wanted.clone() }, note, service, primary, there, now);
            }
        }
    }
    let step = if service.desired == wanted.quantity { Step::Rest } else { Step::Scale { desired: wanted.quantity } };
    let progress = if !serves || step != Step::Rest && running.len() < quantity {
        match held_up(wanted, &note, service, there, now).filter(|_| step == Step::Rest) {
            Some(refusal) => Progress::HeldUp { cause: unplaced(&refusal.said), look_again: LOOK_AGAIN },
            None => Progress::Moving { look_again: LOOK_AGAIN },
        }
    } else if step == Step::Rest && others.is_empty() && leaving == 0 {
        Progress::Settled
    } else {
        Progress::Serving { look_again: LOOK_AGAIN }
    };
    Plan { step, note, progress }
}

fn current<'a>(note: &'a Note, there: There<'a>) -> impl Iterator<Item = &'a Task> {
    there.tasks.iter().filter(move |task| note.deployment.as_ref() == Some(&task.started_by))
}

fn task_end(task: &Task) -> Timestamp {
    task.stopped_at.or(task.stopping_at).unwrap_or(task.created_at)
}

/// The first task of our deployment that ended for a fault of its own.
fn first_fault(wanted: &Wanted, note: &Note, there: There<'_>) -> Option<Failed> {
    let faults = current(note, there).filter(|task| is_fault(task) && task_end(task) > note.forgiven);
    let first = faults.min_by_key(|task| task_end(task))?;
    Some(failure_of(wanted, note, first, there))
}

fn failure_of(wanted: &Wanted, note: &Note, task: &Task, there: There<'_>) -> Failed {
    let ending = ending(task, wanted.web, note.served, wanted.boot_timeout_s);
    Failed {
        dyno: there.names.name(&task.dyno),
        code: ending.code.map(str::to_owned),
        message: ending.message,
        at: ending.at,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
