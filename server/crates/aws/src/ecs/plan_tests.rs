use paas_domain::ProcessType;

use super::*;

/// A task of a deployment that runs, without a word of its health.
pub(crate) fn task(n: u8, deployment: &str) -> Task {
    let arn = format!("arn:aws:ecs:us-east-1:1:task/c/{n:032x}");
    Task {
        dyno: crate::ecs::names::dyno_of_task(&arn).expect("an id"),
        arn,
        definition: "td:1".to_owned(),
        started_by: deployment.to_owned(),
        service: Some("paas-x-web".to_owned()),
        last_status: "RUNNING".to_owned(),
        leaving: false,
        health: Health::Unknown,
        address: None,
        created_at: Timestamp(1_000),
        started_at: Some(Timestamp(1_500)),
        stopping_at: None,
        stopped_at: None,
        exit_code: None,
        stop_code: String::new(),
        reason: String::new(),
        container_reason: String::new(),
        version: 1,
    }
}

fn crashed(n: u8, deployment: &str, at: i64) -> Task {
    Task {
        last_status: "STOPPED".to_owned(),
        leaving: true,
        exit_code: Some(3),
        stop_code: "EssentialContainerExited".to_owned(),
        stopped_at: Some(Timestamp(at)),
        ..task(n, deployment)
    }
}

fn leaving(task: Task) -> Task {
    Task { leaving: true, last_status: "DEACTIVATING".to_owned(), ..task }
}

fn healthy(task: Task) -> Task {
    Task { health: Health::Healthy, ..task }
}

#[derive(Debug)]
struct Names;

impl DynoNames for Names {
    fn name(&self, _dyno: &DynoId) -> Option<DynoName> {
        Some(DynoName { process_type: ProcessType::web(), slot: 2 })
    }
}

fn service(desired: u32, deployments: &[(&str, &str, Rollout)]) -> Service {
    Service {
        name: "paas-x-web".to_owned(),
        app: None,
        active: true,
        desired,
        deployments: deployments
            .iter()
            .enumerate()
            .map(|(n, (id, definition, rollout))| Deployment {
                id: (*id).to_owned(),
                primary: n == 0,
                definition: (*definition).to_owned(),
                rollout: *rollout,
                reason: String::new(),
            })
            .collect(),
        generation: Generation(0),
        install: None,
        spot: false,
        refusal: None,
    }
}

fn wanted(quantity: u32) -> Wanted {
    Wanted {
        generation: Generation(5),
        fingerprint: "f2".to_owned(),
        quantity,
        capacity: Capacity::OnDemand,
        restart: 0,
        revive: false,
        web: true,
        boot_timeout_s: 60,
    }
}

/// Release 2 was asked for while release 1 served.
fn rolling() -> Note {
    Note {
        fingerprint: "f2".to_owned(),
        definition: "td:2".to_owned(),
        replaced: Some("d1".to_owned()),
        deployment: Some("d2".to_owned()),
        serving: Some("td:1".to_owned()),
        ..Note::default()
    }
}

fn served() -> Note {
    Note { served: true, serving: Some("td:2".to_owned()), ..rolling() }
}

fn ask(wanted: &Wanted, note: &Note, service: Option<&Service>, tasks: &[Task]) -> Plan {
    plan(wanted, note, There { service, tasks, names: &Names }, Timestamp(20_000))
}

fn moving(plan: &Plan) -> bool {
    matches!(plan.progress, Progress::Moving { .. })
}

#[test]
fn nothing_is_made_for_nothing() {
    let made = ask(&wanted(1), &Note::default(), None, &[]);
    assert_eq!((&made.step, moving(&made)), (&Step::Create, true));
    let none = ask(&wanted(0), &Note::default(), None, &[]);
    assert_eq!((none.step, none.progress), (Step::Rest, Progress::Settled));
}

#[test]
fn scaling_and_restarting_register_nothing() {
    let service = service(1, &[("d2", "td:2", Rollout::Completed)]);
    let tasks = [healthy(task(1, "d2"))];
    let rest = ask(&wanted(1), &served(), Some(&service), &tasks);
    assert_eq!((rest.step, rest.progress), (Step::Rest, Progress::Settled));
    let more = ask(&wanted(3), &served(), Some(&service), &tasks);
    assert_eq!((&more.step, moving(&more)), (&Step::Scale { desired: 3 }, true));
    let less = ask(&wanted(0), &served(), Some(&service), &tasks);
    assert_eq!(less.step, Step::Scale { desired: 0 });
    let again = ask(&Wanted { restart: 1, ..wanted(1) }, &served(), Some(&service), &tasks);
    assert_eq!(again.step, Step::Point { definition: "td:2".to_owned(), desired: 1, force: true });
    // Asked again before ECS shows it, and again when it was cut short: the same, once.
    assert_eq!((again.note.restart, again.note.deployment.clone()), (1, None));
    let cut_short = ask(&Wanted { restart: 1, ..wanted(1) }, &again.note, Some(&service), &tasks);
    assert_eq!(cut_short.step, Step::Point { definition: "td:2".to_owned(), desired: 1, force: true });
    let service = self::service(1, &[("d3", "td:2", Rollout::InProgress), ("d2", "td:2", Rollout::Completed)]);
    let arrived = ask(&Wanted { restart: 1, ..wanted(1) }, &again.note, Some(&service), &tasks);
    assert_eq!((arrived.step, arrived.note.deployment.as_deref()), (Step::Rest, Some("d3")));
}

#[test]
fn new_code_is_deployed_and_serves_when_old_tasks_leave() {
    let old = service(1, &[("d1", "td:1", Rollout::Completed)]);
    let before = Note { fingerprint: "f1".to_owned(), ..served() };
    let deploy = ask(&wanted(1), &before, Some(&old), &[healthy(task(1, "d1"))]);
    assert_eq!((&deploy.step, deploy.note.replaced.as_deref()), (&Step::Deploy, Some("d1")));

    let both = service(1, &[("d2", "td:2", Rollout::InProgress), ("d1", "td:1", Rollout::Completed)]);
    let started = ask(&wanted(1), &rolling(), Some(&both), &[healthy(task(1, "d1")), task(2, "d2")]);
    assert!(moving(&started) && !started.note.served);
    let relieved = ask(&wanted(1), &rolling(), Some(&both), &[leaving(task(1, "d1")), task(2, "d2")]);
    assert!(matches!(relieved.progress, Progress::Serving { .. }) && relieved.note.served);
    assert_eq!(relieved.note.serving.as_deref(), Some("td:2"));
    let gone = ask(&wanted(1), &relieved.note, Some(&both), &[task(2, "d2")]);
    assert_eq!(gone.progress, Progress::Settled);
}

#[test]
fn the_first_task_that_ends_fails_the_rollout_and_the_old_release_serves_on() {
    let both = service(2, &[("d2", "td:2", Rollout::InProgress), ("d1", "td:1", Rollout::Completed)]);
    let tasks = [healthy(task(1, "d1")), healthy(task(2, "d1")), task(3, "d2"), crashed(4, "d2", 9_000)];
    let failed = ask(&wanted(2), &rolling(), Some(&both), &tasks);
    assert_eq!(failed.step, Step::Rest, "ECS goes back by itself");
    let Progress::Failed { reason } = &failed.progress else { panic!("{:?}", failed.progress) };
    assert_eq!((reason.message.as_str(), reason.at), ("Process exited with status 3", Timestamp(9_000)));
    // Asking again does not try again.
    let back = service(2, &[("d3", "td:1", Rollout::Completed)]);
    let again = ask(&wanted(2), &failed.note, Some(&back), &tasks);
    assert_eq!((&again.step, &again.progress), (&Step::Rest, &failed.progress));
    // The ladder says so, or somebody restarts.
    let revived = ask(&Wanted { revive: true, ..wanted(2) }, &failed.note, Some(&back), &tasks);
    assert_eq!(revived.step, Step::Point { definition: "td:2".to_owned(), desired: 2, force: false });
    assert!(revived.note.failure.is_none() && moving(&revived));
    let restarted = ask(&Wanted { restart: 1, ..wanted(2) }, &failed.note, Some(&back), &tasks);
    assert_eq!(restarted.step, Step::Point { definition: "td:2".to_owned(), desired: 2, force: false });
}

#[test]
fn ecs_took_it_back_while_nobody_looked() {
    let back = service(1, &[("d3", "td:1", Rollout::Completed), ("d2", "td:2", Rollout::Failed)]);
    let seen = ask(&wanted(1), &rolling(), Some(&back), &[healthy(task(1, "d1"))]);
    assert!(matches!(seen.progress, Progress::Failed { .. }), "{seen:?}");
    assert_eq!(seen.step, Step::Rest);
    // A stranger's change is repaired.
    let other = service(1, &[("d9", "td:9", Rollout::Completed)]);
    let repaired = ask(&wanted(1), &served(), Some(&other), &[]);
    assert_eq!(repaired.step, Step::Point { definition: "td:2".to_owned(), desired: 1, force: false });
}

#[test]
fn a_first_release_that_fails_rests() {
    let first = Note { serving: None, replaced: None, ..rolling() };
    let service = service(1, &[("d2", "td:2", Rollout::InProgress)]);
    let failed = ask(&wanted(1), &first, Some(&service), &[crashed(1, "d2", 9_000)]);
    assert_eq!(failed.step, Step::Scale { desired: 0 });
    assert!(matches!(failed.progress, Progress::Failed { .. }));
    let rested = self::service(0, &[("d2", "td:2", Rollout::InProgress)]);
    let again = ask(&wanted(1), &failed.note, Some(&rested), &[crashed(1, "d2", 9_000)]);
    assert_eq!((again.step, &again.progress), (Step::Rest, &failed.progress));
    let revived = ask(&Wanted { revive: true, ..wanted(1) }, &failed.note, Some(&rested), &[crashed(1, "d2", 9_000)]);
    assert_eq!(revived.step, Step::Point { definition: "td:2".to_owned(), desired: 1, force: true });
}

#[test]
fn one_crash_is_ecs_to_replace_and_a_loop_is_rested() {
    let service = service(1, &[("d2", "td:2", Rollout::Completed)]);
    let once = ask(&wanted(1), &served(), Some(&service), &[crashed(1, "d2", 9_000)]);
    assert_eq!((&once.step, moving(&once)), (&Step::Rest, true));
    let replaced = ask(&wanted(1), &once.note, Some(&service), &[crashed(1, "d2", 9_000), healthy(task(2, "d2"))]);
    assert_eq!(replaced.progress, Progress::Settled);
    let tasks = [crashed(1, "d2", 9_000), crashed(2, "d2", 11_000)];
    let twice = ask(&wanted(1), &replaced.note, Some(&service), &tasks);
    assert_eq!(twice.step, Step::Scale { desired: 0 });
    let Progress::Failed { reason } = &twice.progress else { panic!("{:?}", twice.progress) };
    assert_eq!(reason.at, Timestamp(11_000));
    let beside = [tasks[0].clone(), tasks[1].clone(), healthy(task(3, "d2"))];
    assert_eq!(ask(&wanted(1), &replaced.note, Some(&service), &beside).progress, Progress::Settled);
}

const FULL: &str = "Capacity is unavailable at this time.";

fn refused(at: i64, service: Service) -> Service {
    let refusal = Refusal { said: FULL.to_owned(), at: Timestamp(at), providers: vec![] };
    Service { refusal: Some(refusal), ..service }
}

fn is_held_up(plan: &Plan) -> bool {
    matches!(&plan.progress, Progress::HeldUp { cause, .. } if cause.contains(FULL))
}

#[test]
fn what_ecs_places_nowhere_is_said_once_it_lasts_and_goes_on() {
    let both = || service(2, &[("d2", "td:2", Rollout::InProgress), ("d1", "td:1", Rollout::Completed)]);
    let old = [healthy(task(1, "d1")), healthy(task(2, "d1"))];
    let early = ask(&wanted(2), &rolling(), Some(&refused(16_000, both())), &old);
    assert!(moving(&early), "ECS tries again by itself: {early:?}");
    let lasting = ask(&wanted(2), &rolling(), Some(&refused(15_000, both())), &old);
    assert!(lasting.step == Step::Rest && is_held_up(&lasting), "{lasting:?}");
    // What was said before our change holds, but only now it is about us.
    let changed = Note { forgiven: Timestamp(16_000), ..rolling() };
    assert!(moving(&ask(&wanted(2), &changed, Some(&refused(1_000, both())), &old)));
    let changed = Note { forgiven: Timestamp(14_000), ..rolling() };
    assert!(is_held_up(&ask(&wanted(2), &changed, Some(&refused(1_000, both())), &old)));
    // One of two has no place yet; then both have one.
    let one = [old[0].clone(), old[1].clone(), task(3, "d2")];
    assert!(is_held_up(&ask(&wanted(2), &rolling(), Some(&refused(15_000, both())), &one)));
    let two = [old[0].clone(), old[1].clone(), task(3, "d2"), task(4, "d2")];
    assert!(moving(&ask(&wanted(2), &rolling(), Some(&refused(15_000, both())), &two)));
    // More dynos of what serves have no place: that serves on.
    let wider = refused(1_000, service(2, &[("d2", "td:2", Rollout::Completed)]));
    assert!(is_held_up(&ask(&wanted(2), &served(), Some(&wider), &[healthy(task(1, "d2"))])));
    // ECS gives up: this is why.
    let back = service(2, &[("d3", "td:1", Rollout::Completed), ("d2", "td:2", Rollout::Failed)]);
    let failed = ask(&wanted(2), &rolling(), Some(&refused(15_000, back)), &old);
    let Progress::Failed { reason } = &failed.progress else { panic!("{:?}", failed.progress) };
    assert!(reason.message.contains(FULL), "{reason:?}");
}

fn on_spot(quantity: u32) -> Wanted {
    Wanted { capacity: Capacity::Spot, ..wanted(quantity) }
}

fn mixed(service: Service) -> Service {
    Service { spot: true, ..service }
}

#[test]
fn without_room_on_spot_a_service_is_moved_on_demand_for_an_hour() {
    let both = || mixed(service(2, &[("d2", "td:2", Rollout::InProgress), ("d1", "td:1", Rollout::Completed)]));
    let old = [healthy(task(1, "d1")), healthy(task(2, "d1")), task(3, "d2")];
    assert_eq!(ask(&on_spot(2), &rolling(), Some(&both()), &old).step, Step::Rest);
    let moved = ask(&on_spot(2), &rolling(), Some(&refused(15_000, both())), &old);
    assert_eq!(moved.step, Step::Point { definition: "td:2".to_owned(), desired: 2, force: true });
    assert_eq!(moved.note.no_spot, Some(Timestamp(20_000)));
    assert_eq!(on_spot(2).capacity(&moved.note), Capacity::OnDemand);
    // A task that was made and got no room is no fault of the release either.
    let ended = Task { exit_code: None, stop_code: "TaskFailedToStart".to_owned(), ..crashed(4, "d2", 9_000) };
    let ended = [old[2].clone(), Task { reason: FULL.to_owned(), ..ended }];
    assert_eq!(ask(&on_spot(2), &rolling(), Some(&both()), &ended).note.no_spot, Some(Timestamp(20_000)));
    // It is the capacity on demand that has none: nothing is gained.
    let mut elsewhere = refused(15_000, both());
    elsewhere.refusal.as_mut().expect("one").providers = vec!["FARGATE".to_owned()];
    assert!(is_held_up(&ask(&on_spot(2), &rolling(), Some(&elsewhere), &old)));
    // Whoever never wanted Spot is told, as ever.
    let plain = Service { spot: false, ..refused(15_000, both()) };
    assert!(is_held_up(&ask(&wanted(2), &rolling(), Some(&plain), &old)));
}

#[test]
fn after_an_hour_a_service_goes_back_to_spot() {
    let there = service(1, &[("d2", "td:2", Rollout::Completed)]);
    let tasks = [healthy(task(1, "d2"))];
    let since = |s: i64| Note { no_spot: Some(Timestamp(20_000 - s * 1_000)), ..served() };
    let stays = ask(&on_spot(1), &since(3_599), Some(&there), &tasks);
    assert_eq!((stays.step, stays.progress), (Step::Rest, Progress::Settled));
    let back = ask(&on_spot(1), &since(3_600), Some(&there), &tasks);
    assert_eq!(back.step, Step::Point { definition: "td:2".to_owned(), desired: 1, force: true });
    assert_eq!((back.note.no_spot, on_spot(1).capacity(&back.note)), (None, Capacity::Spot));
    // Once ECS has it, there is nothing left to do; and so it is when somebody changes the wish.
    let mixed = mixed(there.clone());
    assert_eq!(ask(&on_spot(1), &served(), Some(&mixed), &tasks).step, Step::Rest);
    let dear = ask(&wanted(1), &served(), Some(&mixed), &tasks);
    assert_eq!(dear.step, Step::Point { definition: "td:2".to_owned(), desired: 1, force: true });
}

#[test]
fn what_somebody_scaled_by_hand_is_set_right() {
    let service = service(7, &[("d2", "td:2", Rollout::Completed)]);
    let tasks: Vec<Task> = (1..=7).map(|n| healthy(task(n, "d2"))).collect();
    assert_eq!(ask(&wanted(2), &served(), Some(&service), &tasks).step, Step::Scale { desired: 2 });
}

#[test]
fn dynos_that_serve_outlive_a_failed_restart_of_the_same_definition() {
    let note = Note { served: false, serving: Some("td:2".to_owned()), ..rolling() };
    let of = service(1, &[("d2", "td:2", Rollout::InProgress), ("d1", "td:2", Rollout::Completed)]);
    let plan_made = ask(&wanted(1), &note, Some(&of), &[healthy(task(1, "d1")), crashed(2, "d2", 10_000)]);
    assert!(matches!(plan_made.progress, Progress::Failed { .. }), "{plan_made:?}");
    assert_eq!(plan_made.step, Step::Rest);
    // With nobody left there is nothing to keep, and the ladder brings it back.
    let plan_made = ask(&wanted(1), &note, Some(&of), &[crashed(2, "d2", 10_000)]);
    assert_eq!(plan_made.step, Step::Scale { desired: 0 });
}
