//! What must change for the dynos that are there to become those that are wanted. Pure.
//!
//! One process type of one app at a time. All new dynos come up before an old one goes (at least 100 %,
//! at most 200 % of the quantity). Slots are never shared: a new dyno takes the lowest slot that no other
//! dyno holds, leaving ones included; scaling down gives the highest slots back. The time that things take
//! (booting, draining, stopping) is kept elsewhere and arrives here as a [`Phase`].

use std::collections::BTreeSet;
use std::time::Duration;

use paas_domain::{DynoId, DynoSize, Quantity, ReleaseVersion};
use paas_ports::{Progress, RolloutFailure};

/// When to look again at what no event announces. Events come first; this is the net under them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What makes two dynos of a process type the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Whose image, config and command it runs.
    pub release: ReleaseVersion,
    /// How large it is.
    pub size: DynoSize,
    /// The restart it was made for.
    pub restart: i64,
}

impl Revision {
    /// Whether a dyno of this revision does for `wanted`. A higher restart number is as good.
    fn serves_for(self, wanted: Self) -> bool {
        self.release == wanted.release && self.size == wanted.size && self.restart >= wanted.restart
    }
}

/// How a process type should run.
#[derive(Clone, Copy, Debug)]
pub struct Desired {
    /// What each dyno should be.
    pub revision: Revision,
    /// How many.
    pub quantity: Quantity,
    /// Whether crashed dynos of this revision may be replaced now.
    pub revive: bool,
}

/// What a dyno does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its container is made and was never started.
    Made,
    /// Runs, and does not serve yet.
    Starting,
    /// Serves.
    Up,
    /// Drains, or was told to stop, or has stopped and is not tidied away yet.
    Leaving,
    /// Ended by itself, or was killed for a fault of its own.
    Crashed(RolloutFailure),
}

/// A dyno that is there.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its id.
    pub id: DynoId,
    /// Its slot.
    pub slot: u32,
    /// What it is.
    pub revision: Revision,
    /// What it does.
    pub phase: Phase,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tidy a crashed dyno away; frees its slot for a `Create` of the same plan.
    Discard(DynoId),
    /// Make and start a dyno in this slot. `after_crash` when it takes a crashed one's place.
    Create {
        /// The slot.
        slot: u32,
        /// Whether a crashed dyno of the same revision was there.
        after_crash: bool,
    },
    /// Start a dyno whose container is made.
    Start(DynoId),
    /// Drain and stop a dyno.
    Stop(DynoId),
}

/// What must change for `observed` to become `desired`. Nothing when it is so already.
#[must_use]
pub fn diff(desired: &Desired, observed: &[Seen]) -> Vec<Action> {
    let mut actions = Vec::new();
    let staying = || observed.iter().filter(|d| d.phase != Phase::Leaving);
    let (mut current, old): (Vec<&Seen>, Vec<&Seen>) = staying().partition(|d| d.revision.serves_for(desired.revision));
    current.sort_by_key(|d| d.slot);
    let wanted = usize::from(desired.quantity.get());

    // A newer spec forgives old crashes, and old dynos that never came to serve are in nobody's way.
    for dyno in &old {
        match dyno.phase {
            Phase::Crashed(_) => actions.push(Action::Discard(dyno.id.clone())),
            Phase::Made | Phase::Starting => actions.push(Action::Stop(dyno.id.clone())),
            Phase::Up | Phase::Leaving => {}
        }
    }
    let serving_old: Vec<&&Seen> = old.iter().filter(|d| d.phase == Phase::Up).collect();

    let surplus = current.split_off(current.len().min(wanted));
    // One that serves stays until the lower slots, which are kept, do.
    let kept_is_coming = current.iter().any(|d| match d.phase {
        Phase::Made | Phase::Starting => true,
        Phase::Crashed(_) => desired.revive,
        Phase::Up | Phase::Leaving => false,
    });
    let goes = surplus.iter().filter(|d| d.phase != Phase::Up || !kept_is_coming);
    actions.extend(goes.map(|d| leave(d)));

    let (crashed, alive): (Vec<&Seen>, Vec<&Seen>) =
        current.into_iter().partition(|d| matches!(d.phase, Phase::Crashed(_)));
    let mut refill: Vec<u32> = Vec::new();
    if desired.revive {
        refill.extend(crashed.iter().map(|d| d.slot));
        actions.extend(crashed.iter().map(|d| Action::Discard(d.id.clone())));
    } else if !crashed.is_empty() && !serving_old.is_empty() {
        // The rollout failed: its healthy dynos are withdrawn, so that only the release that served serves on.
        actions.extend(alive.iter().map(|d| Action::Stop(d.id.clone())));
        return actions;
    }

    actions.extend(alive.iter().filter(|d| d.phase == Phase::Made).map(|d| Action::Start(d.id.clone())));

    let holding = alive.len() + if desired.revive { 0 } else { crashed.len() };
    let freed: BTreeSet<&DynoId> =
        actions.iter().filter_map(|a| if let Action::Discard(id) = a { Some(id) } else { None }).collect();
    let taken: BTreeSet<u32> = observed.iter().filter(|d| !freed.contains(&d.id)).map(|d| d.slot).collect();
    let free = (1..).filter(|slot| !taken.contains(slot) && !refill.contains(slot));
    let slots: Vec<(u32, bool)> = refill
        .iter()
        .map(|s| (*s, true))
        .chain(free.map(|s| (s, false)))
        .take(wanted.saturating_sub(holding))
        .collect();
    actions.extend(slots.into_iter().map(|(slot, after_crash)| Action::Create { slot, after_crash }));

    let all_up = alive.len() == wanted && alive.iter().all(|d| d.phase == Phase::Up);
    if all_up {
        actions.extend(serving_old.into_iter().map(|d| Action::Stop(d.id.clone())));
    }
    actions
}

fn leave(dyno: &Seen) -> Action {
    match dyno.phase {
        Phase::Crashed(_) => Action::Discard(dyno.id.clone()),
        _ => Action::Stop(dyno.id.clone()),
    }
}

/// Where the process type stands, given what is there and what is about to be done.
#[must_use]
pub fn progress(desired: &Desired, observed: &[Seen], actions: &[Action]) -> Progress {
    let wanted = usize::from(desired.quantity.get());
    let mut current: Vec<&Seen> =
        observed.iter().filter(|d| d.phase != Phase::Leaving && d.revision.serves_for(desired.revision)).collect();
    current.sort_by_key(|d| d.slot);
    current.truncate(wanted);
    if !desired.revive {
        let failures = current.iter().filter_map(|d| if let Phase::Crashed(f) = &d.phase { Some(f) } else { None });
        if let Some(first) = failures.min_by_key(|f| f.at) {
            return Progress::Failed { reason: first.clone() };
        }
    }
    let up = current.iter().filter(|d| d.phase == Phase::Up).count();
    if up < wanted {
        Progress::Moving { look_again: LOOK_AGAIN }
    } else if actions.is_empty() && observed.len() == wanted {
        Progress::Settled
    } else {
        Progress::Serving { look_again: LOOK_AGAIN }
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
