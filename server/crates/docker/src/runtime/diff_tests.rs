//! Every rollout we thought of, a row each: what is wanted, what is there, what is done, where it stands.

use paas_domain::{DynoName, Timestamp};

use super::*;

/// `web.<slot> r<release> <phase>`; phases: made, starting, up, leaving, crashed.
fn seen(rows: &[&str]) -> Vec<Seen> {
    rows.iter()
        .map(|row| {
            let words: Vec<&str> = row.split(' ').collect();
            let [slot, release, phase] = words[..] else { panic!("three words: {row}") };
            let slot: u32 = slot.parse().expect("a slot");
            let (release, restart) = release.split_once('+').unwrap_or((release, "0"));
            Seen {
                id: id(slot),
                slot,
                revision: Revision {
                    release: ReleaseVersion(release[1..].parse().expect("a release")),
                    size: DynoSize::Basic,
                    restart: restart.parse().expect("a restart number"),
                },
                phase: match phase {
                    "made" => Phase::Made,
                    "starting" => Phase::Starting,
                    "up" => Phase::Up,
                    "leaving" => Phase::Leaving,
                    "crashed" => Phase::Crashed(failure(slot)),
                    other => panic!("{other}"),
                },
            }
        })
        .collect()
}

fn id(slot: u32) -> DynoId {
    format!("00000000-0000-7000-8000-{slot:012}").parse().expect("an id")
}

fn failure(slot: u32) -> RolloutFailure {
    let name: DynoName = format!("web.{slot}").parse().expect("a name");
    RolloutFailure { dyno: Some(name), code: None, message: "exit".to_owned(), at: Timestamp(i64::from(slot)) }
}

fn want(release: i64, quantity: u16) -> Desired {
    Desired {
        revision: Revision { release: ReleaseVersion(release), size: DynoSize::Basic, restart: 0 },
        quantity: Quantity::new(quantity).expect("small"),
        revive: false,
    }
}

fn shown(actions: &[Action]) -> String {
    let slot = |d: &DynoId| d.as_str()[24..].trim_start_matches('0').to_owned();
    let words: Vec<String> = actions
        .iter()
        .map(|a| match a {
            Action::Discard(d) => format!("discard {}", slot(d)),
            Action::Create { slot, after_crash } => {
                format!("{} {slot}", if *after_crash { "revive" } else { "create" })
            }
            Action::Start(d) => format!("start {}", slot(d)),
            Action::Stop(d) => format!("stop {}", slot(d)),
        })
        .collect();
    words.join(", ")
}

fn stands(progress: &Progress) -> &'static str {
    match progress {
        Progress::Settled => "settled",
        Progress::Serving { .. } => "serving",
        Progress::Moving { .. } => "moving",
        Progress::HeldUp { .. } => "held up",
        Progress::Failed { .. } => "failed",
    }
}

#[track_caller]
fn row(desired: &Desired, there: &[&str], actions: &str, standing: &str) {
    let observed = seen(there);
    let done = diff(desired, &observed);
    assert_eq!(shown(&done), actions, "{there:?}");
    assert_eq!(stands(&progress(desired, &observed, &done)), standing, "{there:?}");
}

#[test]
fn first_start() {
    row(&want(3, 2), &[], "create 1, create 2", "moving");
    row(&want(3, 2), &["1 r3 starting", "2 r3 starting"], "", "moving");
    row(&want(3, 2), &["1 r3 up", "2 r3 starting"], "", "moving");
    row(&want(3, 2), &["1 r3 up", "2 r3 up"], "", "settled");
}

#[test]
fn a_container_that_was_only_made_is_started() {
    row(&want(3, 1), &["1 r3 made"], "start 1", "moving");
    row(&want(4, 1), &["1 r3 made"], "stop 1, create 2", "moving");
}

#[test]
fn a_rollout_brings_all_new_ones_up_before_an_old_one_goes() {
    row(&want(4, 2), &["1 r3 up", "2 r3 up"], "create 3, create 4", "moving");
    row(&want(4, 2), &["1 r3 up", "2 r3 up", "3 r4 up", "4 r4 starting"], "", "moving");
    row(&want(4, 2), &["1 r3 up", "2 r3 up", "3 r4 up", "4 r4 up"], "stop 1, stop 2", "serving");
    row(&want(4, 2), &["1 r3 leaving", "2 r3 leaving", "3 r4 up", "4 r4 up"], "", "serving");
    row(&want(4, 2), &["3 r4 up", "4 r4 up"], "", "settled");
    row(&want(5, 2), &["3 r4 up", "4 r4 up"], "create 1, create 2", "moving");
}

#[test]
fn a_rollout_may_change_the_quantity_too() {
    row(&want(4, 1), &["1 r3 up", "2 r3 up", "3 r4 up"], "stop 1, stop 2", "serving");
    row(&want(4, 3), &["1 r3 up"], "create 2, create 3, create 4", "moving");
}

#[test]
fn scaling_fills_the_lowest_slots_and_gives_the_highest_back() {
    row(&want(3, 3), &["2 r3 up"], "create 1, create 3", "moving");
    row(&want(3, 1), &["1 r3 up", "2 r3 up", "3 r3 up"], "stop 2, stop 3", "serving");
    row(&want(3, 1), &["1 r3 up", "2 r3 crashed"], "discard 2", "serving");
    row(&want(3, 2), &["1 r3 leaving", "2 r3 up"], "create 3", "moving");
}

#[test]
fn zero_stops_all() {
    row(&want(3, 0), &["1 r3 up", "2 r3 crashed", "3 r3 starting"], "stop 1, discard 2, stop 3", "serving");
    row(&want(4, 0), &["1 r3 up", "2 r3 crashed"], "discard 2, stop 1", "serving");
    row(&want(3, 0), &["1 r3 leaving"], "", "serving");
    row(&want(3, 0), &[], "", "settled");
}

#[test]
fn a_restart_replaces_lower_numbers_only() {
    let mut desired = want(3, 1);
    desired.revision.restart = 2;
    row(&desired, &["1 r3+1 up"], "create 2", "moving");
    row(&desired, &["1 r3+1 up", "2 r3+2 up"], "stop 1", "serving");
    row(&desired, &["2 r3+3 up"], "", "settled");
    row(&desired, &["1 r3+1 crashed"], "discard 1, create 1", "moving");
}

#[test]
fn another_size_is_another_dyno() {
    let mut desired = want(3, 1);
    desired.revision.size = DynoSize::Standard2X;
    row(&desired, &["1 r3 up"], "create 2", "moving");
}

#[test]
fn a_crashed_dyno_waits_for_revive() {
    row(&want(3, 2), &["1 r3 crashed", "2 r3 up"], "", "failed");
    let revive = Desired { revive: true, ..want(3, 2) };
    row(&revive, &["1 r3 crashed", "2 r3 up"], "discard 1, revive 1", "moving");
    row(&revive, &["1 r3 up", "2 r3 up"], "", "settled");
    row(&want(3, 3), &["1 r3 crashed", "2 r3 up"], "create 3", "failed");
}

#[test]
fn a_failed_rollout_leaves_the_old_release_serving() {
    row(&want(4, 1), &["1 r3 up", "2 r4 crashed"], "", "failed");
    row(&want(4, 2), &["1 r3 up", "2 r3 up", "3 r4 up", "4 r4 crashed"], "stop 3", "failed");
    row(&want(4, 2), &["1 r3 up", "2 r3 up", "4 r4 crashed"], "", "failed");
    let revive = Desired { revive: true, ..want(4, 2) };
    row(&revive, &["1 r3 up", "2 r3 up", "4 r4 crashed"], "discard 4, revive 4, create 3", "moving");
}

#[test]
fn a_newer_spec_forgives_and_forgets() {
    row(&want(5, 1), &["1 r3 up", "2 r4 crashed"], "discard 2, create 2", "moving");
    row(&want(5, 1), &["1 r3 up", "2 r4 starting"], "stop 2, create 3", "moving");
    row(&want(4, 1), &["1 r3 crashed"], "discard 1, create 1", "moving");
}

#[test]
fn doing_what_it_says_settles_from_anywhere() {
    // Every set of up to three dynos in every phase and two revisions, played forward with things going well.
    let phases = ["made", "starting", "up", "leaving", "crashed"];
    let kinds: Vec<String> = ["r3", "r4"].iter().flat_map(|r| phases.iter().map(move |p| format!("{r} {p}"))).collect();
    for a in &kinds {
        for b in &kinds {
            for c in &kinds {
                let mut world = seen(&[&format!("1 {a}"), &format!("2 {b}"), &format!("3 {c}")]);
                let desired = Desired { revive: true, ..want(4, 2) };
                let had_up = world.iter().filter(|d| d.phase == Phase::Up).count();
                for _ in 0..12 {
                    let actions = diff(&desired, &world);
                    for action in &actions {
                        match action {
                            Action::Discard(id) => world.retain(|d| d.id != *id),
                            Action::Create { slot, .. } => {
                                assert!(world.iter().all(|d| d.slot != *slot), "slot {slot} is shared");
                                world.push(Seen {
                                    id: id(*slot),
                                    slot: *slot,
                                    revision: desired.revision,
                                    phase: Phase::Starting,
                                });
                            }
                            Action::Start(id) => set(&mut world, id, Phase::Starting),
                            Action::Stop(id) => set(&mut world, id, Phase::Leaving),
                        }
                    }
                    let up = world.iter().filter(|d| d.phase == Phase::Up).count();
                    assert!(up >= had_up.min(2), "fewer serve than did: {a} {b} {c}");
                    world.retain(|d| d.phase != Phase::Leaving);
                    world.iter_mut().filter(|d| d.phase == Phase::Starting).for_each(|d| d.phase = Phase::Up);
                }
                assert_eq!(progress(&desired, &world, &diff(&desired, &world)), Progress::Settled, "{a} {b} {c}");
            }
        }
    }
}

fn set(world: &mut [Seen], id: &DynoId, phase: Phase) {
    world.iter_mut().filter(|d| d.id == *id).for_each(|d| d.phase = phase.clone());
}
