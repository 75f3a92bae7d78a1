//! The fake platform's own rollout: short, since it has the whole world in its hands.

use std::collections::BTreeSet;
use std::time::Duration;

use paas_domain::{DynoId, DynoKind, DynoName, Generation, Timestamp};

use super::dyno::{FakeDyno, FakeTiming};
use super::world::{State, Wish};
use crate::{OneOffSpec, PortError, Progress, ServiceSpec};

const LOOK_AGAIN: Duration = Duration::from_millis(50);

fn is_current(dyno: &FakeDyno, spec: &ServiceSpec) -> bool {
    dyno.stop_at.is_none() && dyno.release == spec.release && dyno.size == spec.size && dyno.restart >= spec.restart
}

/// The dynos that the spec's quantity keeps, by slot, with their ids.
fn kept<'a>(state: &'a State, spec: &ServiceSpec) -> Vec<(&'a DynoId, &'a FakeDyno)> {
    let mut current = state.services(&spec.app, &spec.process_type);
    current.retain(|(_, d)| is_current(d, spec));
    current.sort_by_key(|(_, d)| d.name.slot);
    current.truncate(usize::from(spec.quantity.get()));
    current
}

/// One pass towards the spec.
pub(crate) fn pass(state: &mut State, spec: &ServiceSpec, now: Timestamp) -> Result<(), PortError> {
    let carried = state.services(&spec.app, &spec.process_type).iter().map(|(_, d)| d.generation).max();
    let wish = state.wishes.entry((spec.app.clone(), spec.process_type.clone())).or_default();
    if carried.unwrap_or_default().max(wish.generation) > spec.generation {
        return Err(PortError::Superseded);
    }
    *wish = Wish {
        generation: spec.generation,
        attachment: spec.attachment.clone(),
        wanted: spec.quantity.get(),
        placement: (spec.architecture, spec.capacity),
    };

    if spec.revive {
        let crashed: Vec<DynoId> =
            kept(state, spec).iter().filter(|(_, d)| d.exit.is_some()).map(|(id, _)| (*id).clone()).collect();
        crashed.iter().for_each(|id| drop(state.dynos.remove(id)));
    }
    let wanted = usize::from(spec.quantity.get());
    let all = state.services(&spec.app, &spec.process_type);
    let old_serves =
        all.iter().any(|(_, d)| d.runs() && d.stop_at.is_none() && d.up_at.is_some() && !is_current(d, spec));
    let keep = kept(state, spec);
    let keep_ids: BTreeSet<DynoId> = keep.iter().map(|(id, _)| (*id).clone()).collect();
    let failed = keep.iter().any(|(_, d)| d.exit.is_some());
    let up = keep.iter().filter(|(_, d)| d.runs() && d.up_at.is_some()).count();
    let coming = keep.iter().any(|(_, d)| d.runs() && d.up_at.is_none());
    let withdrawn = failed && old_serves;

    let mut going: Vec<DynoId> = Vec::new();
    for (id, dyno) in all.iter().filter(|(_, d)| d.stop_at.is_none()) {
        let goes = if keep_ids.contains(*id) {
            withdrawn && dyno.exit.is_none()
        } else if is_current(dyno, spec) {
            dyno.up_at.is_none() || dyno.exit.is_some() || !coming
        } else {
            dyno.exit.is_some() || dyno.up_at.is_none() || up == wanted
        };
        if goes {
            going.push((*id).clone());
        }
    }
    for id in &going {
        order_stop(state, id, now, false);
        if state.dynos.get(id).is_some_and(|d| d.exit.is_some()) {
            state.dynos.remove(id);
        }
    }
    if !withdrawn && state.no_room.is_none() {
        for _ in keep_ids.len()..wanted {
            create(state, spec, now);
        }
    }
    Ok(())
}

fn create(state: &mut State, spec: &ServiceSpec, now: Timestamp) {
    let taken: BTreeSet<u32> = state.services(&spec.app, &spec.process_type).iter().map(|(_, d)| d.name.slot).collect();
    let slot = (1..).find(|slot| !taken.contains(slot)).unwrap_or(1);
    let id = DynoId::new();
    let web = spec.attachment.is_some();
    let dyno = FakeDyno {
        name: DynoName { process_type: spec.process_type.clone(), slot },
        kind: DynoKind::Service,
        generation: spec.generation,
        restart: spec.restart,
        web,
        attach: false,
        script: state.script(&spec.command, true, web),
        ..blank(
            &OneOffSpec {
                app: spec.app.clone(),
                name: DynoName { process_type: spec.process_type.clone(), slot },
                kind: DynoKind::Service,
                release: spec.release,
                image: spec.image.clone(),
                command: spec.command.clone(),
                config: spec.config.clone(),
                config_id: Some(spec.config_id.clone()),
                size: spec.size,
                architecture: spec.architecture,
                capacity: spec.capacity,
                attach: false,
                tty: false,
                link: None,
            },
            now,
        )
    };
    state.dynos.insert(id.clone(), dyno);
    state.start(&id, now);
}

/// A one-off dyno that was made and not started.
pub(crate) fn one_off(state: &State, spec: &OneOffSpec, now: Timestamp) -> FakeDyno {
    FakeDyno { script: state.script(&spec.command, false, false), ..blank(spec, now) }
}

fn blank(spec: &OneOffSpec, now: Timestamp) -> FakeDyno {
    FakeDyno {
        app: spec.app.clone(),
        name: spec.name.clone(),
        kind: spec.kind,
        release: spec.release,
        generation: Generation(0),
        restart: 0,
        size: spec.size,
        command: spec.command.clone(),
        config: spec.config.expose(),
        web: false,
        web_bound: false,
        attach: spec.attach,
        script: Vec::new(),
        made_at: now,
        started_at: None,
        step_since: now,
        up_at: None,
        stop_at: None,
        quick: false,
        drained: false,
        term_at: None,
        ignores_term: false,
        timed_out: false,
        exit: None,
        out: Vec::new(),
        logged: 0,
        input: Vec::new(),
        input_ended: false,
    }
}

/// Orders a dyno to go; one that never ran has ended with that.
pub(crate) fn order_stop(state: &mut State, id: &DynoId, now: Timestamp, quick: bool) {
    if let Some(dyno) = state.dynos.get_mut(id) {
        dyno.stop_at = dyno.stop_at.or(Some(now));
        dyno.quick |= quick;
        if dyno.started_at.is_none() && dyno.exit.is_none() {
            dyno.exit = Some((143, now));
        }
    }
}

/// Where the process type stands.
pub(crate) fn standing(state: &State, spec: &ServiceSpec, timing: &FakeTiming) -> Progress {
    let keep = kept(state, spec);
    let failures = keep.iter().filter_map(|(_, d)| d.failure(timing));
    if let Some(reason) = failures.min_by_key(|f| f.at) {
        return Progress::Failed { reason };
    }
    let wanted = usize::from(spec.quantity.get());
    let up = keep.iter().filter(|(_, d)| d.up_at.is_some()).count();
    if let Some(cause) = state.no_room.clone().filter(|_| keep.len() < wanted) {
        Progress::HeldUp { cause, look_again: LOOK_AGAIN }
    } else if up < wanted {
        Progress::Moving { look_again: LOOK_AGAIN }
    } else if state.services(&spec.app, &spec.process_type).len() == wanted {
        Progress::Settled
    } else {
        Progress::Serving { look_again: LOOK_AGAIN }
    }
}
