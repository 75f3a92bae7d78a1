//! Promises about process types: rolling out, scaling, crashing, stopping.

use std::time::Duration;

use paas_domain::{ConfigVars, DynoState, Generation};
use secrecy::SecretString;

use super::bench::{
    RuntimeBench, dynos, exit_of, logged, names, next, pool, quantity, released, rolled_out_by_three_drivers, settle,
    settled, until, was_killed, web,
};
use crate::{MemberState, PortError, Progress, ServiceSpec};

/// Asking for what is so changes nothing.
pub async fn ensure_twice_equals_once(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(2), ..web(bench, "serve") };
    settled(bench, &spec).await;
    let first = dynos(bench, &spec.app).await;
    assert_eq!(bench.runtime().ensure(&spec).await.expect("ensure"), Progress::Settled);
    assert_eq!(dynos(bench, &spec.app).await, first);
    assert_eq!(names(bench, &spec.app).await, ["web.1", "web.2"]);
    assert!(first.iter().all(|d| d.state == DynoState::Up && d.release == spec.release && d.exit_code.is_none()));
    let (wanted, members) = bench.pools().last(&pool(&spec));
    assert_eq!((wanted, members.len()), (2, 2));
    for member in members {
        assert_eq!(member.state, MemberState::Up);
        assert!(bench.listens(&member).await);
    }
}

/// A quantity of zero stops every dyno and leaves an empty pool.
pub async fn zero_stops_all(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(2), ..web(bench, "serve") };
    settled(bench, &spec).await;
    settled(bench, &ServiceSpec { quantity: quantity(0), ..next(&spec) }).await;
    assert!(dynos(bench, &spec.app).await.is_empty());
    assert_eq!(bench.pools().last(&pool(&spec)), (0, vec![]));
    let lines = logged(bench, &spec.app, "State changed from up to down").await;
    assert!(lines.contains(&"heroku[web.1]: Stopping all processes with SIGTERM".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"heroku[web.1]: Process exited with status 143".to_owned()), "{lines:#?}");
}

/// Nothing to remove is no error, however it is asked.
pub async fn removing_what_is_gone_succeeds(bench: &impl RuntimeBench) {
    let spec = web(bench, "serve");
    let runtime = bench.runtime();
    let nobody = paas_domain::DynoId::new();
    runtime.remove(&spec.app, &spec.process_type, Generation(9)).await.expect("remove");
    runtime.stop(&nobody).await.expect("stop");
    runtime.forget(&nobody).await.expect("forget");
    assert!(runtime.remove_app(&spec.app).await.expect("remove_app"));

    let spec = web(bench, "serve");
    settled(bench, &spec).await;
    runtime.remove(&spec.app, &spec.process_type, spec.generation).await.expect("remove");
    until("the dyno is gone", || async { dynos(bench, &spec.app).await.is_empty() }).await;
    runtime.remove(&spec.app, &spec.process_type, spec.generation).await.expect("remove again");
}

/// At no moment of a rollout is there less than the old dynos or the new ones in the pool.
pub async fn new_serves_before_old_stops(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(2), ..web(bench, "serve") };
    settled(bench, &spec).await;
    let told = bench.pools().history(&pool(&spec)).len();
    let new = released(&spec, "sleep 300; serve");
    settled(bench, &new).await;
    // Slots are never shared: the new ones have others.
    assert_eq!(names(bench, &spec.app).await, ["web.3", "web.4"]);
    for (_, members) in &bench.pools().history(&pool(&spec))[told..] {
        let up: Vec<u32> = members.iter().filter(|m| m.state == MemberState::Up).map(|m| m.name.slot).collect();
        let whole = [[1, 2], [3, 4]].iter().any(|set| set.iter().all(|slot| up.contains(slot)));
        assert!(whole, "a moment with {up:?} only");
        let old_leaves = members.iter().any(|m| m.name.slot <= 2 && m.state != MemberState::Up);
        assert!(!old_leaves || (up.contains(&3) && up.contains(&4)));
    }
}

/// A release that never binds fails (R10), is seen and logged, and the old one serves on.
pub async fn an_unhealthy_release_leaves_the_old_one_serving(bench: &impl RuntimeBench) {
    let spec = web(bench, "serve");
    settled(bench, &spec).await;
    let bad = released(&spec, "never-bind");
    let Progress::Failed { reason } = settle(bench, &bad).await else { panic!("it never binds") };
    assert_eq!((reason.code, reason.dyno.map(|d| d.to_string())), (Some("R10"), Some("web.2".to_owned())));
    let text = "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 2 seconds of launch";
    assert_eq!(reason.message, text);
    let lines = logged(bench, &spec.app, "State changed from starting to crashed").await;
    assert!(lines.contains(&format!("heroku[web.2]: {text}")), "{lines:#?}");
    let up = bench.pools().up(&pool(&spec));
    assert_eq!(up.iter().map(|m| m.name.to_string()).collect::<Vec<_>>(), ["web.1"]);
    assert!(bench.listens(&up[0]).await);
    let seen = dynos(bench, &spec.app).await;
    assert_eq!(seen.iter().map(|d| d.state).collect::<Vec<_>>(), [DynoState::Up, DynoState::Crashed]);
    // Asking again does not try again.
    assert!(matches!(bench.runtime().ensure(&bad).await.expect("ensure"), Progress::Failed { .. }));
    assert_eq!(dynos(bench, &spec.app).await, seen);
    // A newer release takes over, and the failed dyno goes.
    let good = released(&bad, "serve");
    settled(bench, &good).await;
    assert!(dynos(bench, &spec.app).await.iter().all(|d| d.release == good.release));
}

/// A dyno that dies is seen at once, stays as it is, and is replaced in its slot when that is allowed.
pub async fn a_crashed_dyno_is_seen_and_comes_back_with_revive_only(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(2), ..web(bench, "serve") };
    settled(bench, &spec).await;
    let first = dynos(bench, &spec.app).await;
    bench.kill(&first[0]).await;
    let crashed = |states: Vec<MemberState>| states == [MemberState::Crashed, MemberState::Up];
    until("the pool hears of the crash, without being asked", || async {
        let mut members = bench.pools().last(&pool(&spec)).1;
        members.sort_by_key(|m| m.name.slot);
        crashed(members.iter().map(|m| m.state).collect())
    })
    .await;
    let Progress::Failed { reason } = settle(bench, &spec).await else { panic!("it crashed") };
    assert_eq!(reason.message, "Process exited with status 137");
    assert_eq!(reason.dyno.map(|d| d.to_string()).as_deref(), Some("web.1"));
    let seen = dynos(bench, &spec.app).await;
    assert_eq!(
        (seen[0].id.clone(), seen[0].state, seen[0].exit_code),
        (first[0].id.clone(), DynoState::Crashed, Some(137))
    );
    logged(bench, &spec.app, "State changed from up to crashed").await;

    settled(bench, &ServiceSpec { revive: true, ..spec.clone() }).await;
    let revived = dynos(bench, &spec.app).await;
    assert_eq!(names(bench, &spec.app).await, ["web.1", "web.2"]);
    assert_ne!(revived[0].id, first[0].id);
    assert_eq!(revived[1].id, first[1].id);
}

/// A process type without an attachment needs no port to be up.
pub async fn a_worker_is_up_without_a_port(bench: &impl RuntimeBench) {
    let mut spec = web(bench, "say working; worker");
    spec.process_type = "worker".parse().expect("a process type");
    spec.attachment = None;
    settled(bench, &spec).await;
    assert_eq!(dynos(bench, &spec.app).await[0].state, DynoState::Up);
    let lines = logged(bench, &spec.app, "State changed from starting to up").await;
    assert!(lines.contains(&"heroku[worker.1]: Starting process with command `say working; worker`".to_owned()));
    assert!(logged(bench, &spec.app, "app[worker.1]: working").await.len() >= 3);
}

/// 60 KB and a PEM in config vars are what the process sees.
pub async fn config_arrives_byte_for_byte(bench: &impl RuntimeBench) {
    use tokio::io::AsyncReadExt as _;

    let pem = "-----BEGIN KEY-----\nab+/= \"quoted\" 'x' $HOME `x` \\ é🦀\n-----END KEY-----\n\n";
    // Hardly compressible.
    let noise: Vec<u8> =
        (0_u64..60_000).map(|n| b'!' + u8::try_from(((n * n * 2_654_435_761) >> 9) % 90).unwrap_or(0)).collect();
    let large = String::from_utf8(noise).expect("ascii");
    for (name, value) in [("PEM", pem), ("LARGE", large.as_str()), ("EMPTY", "")] {
        let (id, mut spec) = super::bench::one_off(bench, &format!("print {name}"), true);
        let mut config = ConfigVars::new();
        config.set("PEM".parse().expect("a key"), SecretString::from(pem));
        config.set("LARGE".parse().expect("a key"), SecretString::from(large.clone()));
        config.set("EMPTY".parse().expect("a key"), SecretString::from(""));
        spec.config = config;
        bench.runtime().start_once(&id, &spec).await.expect("start_once");
        let mut stream = bench.runtime().attach(&id).await.expect("attach");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("reads");
        assert!(bytes == value.as_bytes(), "{name}: {} bytes arrived as {}", value.len(), bytes.len());
        assert_eq!(exit_of(bench, &spec.app, &id).await, 0);
    }
}

/// What happens to one app leaves another alone.
pub async fn two_apps_never_meet(bench: &impl RuntimeBench) {
    let (one, two) = (web(bench, "say one; serve"), web(bench, "say two; serve"));
    settled(bench, &one).await;
    settled(bench, &two).await;
    let before = dynos(bench, &two.app).await;
    assert_eq!(before.len(), 1);
    assert!(!dynos(bench, &one.app).await.iter().any(|d| d.id == before[0].id));
    until("one is removed", || async { bench.runtime().remove_app(&one.app).await.expect("remove_app") }).await;
    assert_eq!(dynos(bench, &two.app).await, before);
    let apps = bench.runtime().apps().await.expect("apps");
    assert!(apps.contains(&two.app) && !apps.contains(&one.app));
    assert!(!logged(bench, &two.app, "app[web.1]: two").await.iter().any(|line| line.contains("one")));
    assert_eq!(bench.pools().up(&pool(&two)).len(), 1);
}

/// Who obeys SIGTERM ends with 143; who does not is killed after the grace (R12).
pub async fn stop_is_sigterm_then_sigkill(bench: &impl RuntimeBench) {
    let spec = web(bench, "ignore-term; serve");
    settled(bench, &spec).await;
    let first = dynos(bench, &spec.app).await;
    bench.runtime().stop(&first[0].id).await.expect("stop");
    bench.runtime().stop(&first[0].id).await.expect("stop again");
    until("it is gone", || async { dynos(bench, &spec.app).await.is_empty() }).await;
    was_killed(bench, &spec.app).await;
    // A dyno that was stopped is missing: the next one takes its slot.
    settled(bench, &spec).await;
    let again = dynos(bench, &spec.app).await;
    assert_eq!(again[0].name, first[0].name);
    assert_ne!(again[0].id, first[0].id);
}

/// A dyno with requests gets no new ones and no SIGTERM until they are done.
pub async fn a_dyno_in_use_is_drained_first(bench: &impl RuntimeBench) {
    let spec = web(bench, "serve");
    settled(bench, &spec).await;
    let old = dynos(bench, &spec.app).await.remove(0);
    bench.pools().occupy(&old.id, 1);
    let new = released(&spec, "serve");
    until("the new one serves", || async {
        matches!(bench.runtime().ensure(&new).await.expect("ensure"), Progress::Serving { .. })
            && bench.pools().up(&pool(&spec)).iter().all(|m| m.dyno != old.id)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let seen = dynos(bench, &spec.app).await;
    let old_now = seen.iter().find(|d| d.id == old.id).expect("it is still there");
    assert_eq!(old_now.state, DynoState::Stopping);
    let member = bench.pools().last(&pool(&spec)).1.into_iter().find(|m| m.dyno == old.id);
    assert_eq!(member.map(|m| m.state), Some(MemberState::Draining));
    assert!(!bench.lines(&spec.app).await.iter().any(|line| line.message.contains("SIGTERM")));
    bench.pools().occupy(&old.id, 0);
    settled(bench, &new).await;
}

/// Whoever comes with an older wish is refused, and nothing changes.
pub async fn a_lower_generation_is_superseded(bench: &impl RuntimeBench) {
    let old = web(bench, "serve");
    let new = ServiceSpec { quantity: quantity(0), ..next(&old) };
    settled(bench, &old).await;
    settled(bench, &new).await;
    assert!(matches!(bench.runtime().ensure(&old).await, Err(PortError::Superseded)));
    bench.restart().await;
    assert!(matches!(bench.runtime().ensure(&old).await, Err(PortError::Superseded)));
    let removed = bench.runtime().remove(&old.app, &old.process_type, old.generation).await;
    assert!(matches!(removed, Err(PortError::Superseded)));
    assert!(dynos(bench, &old.app).await.is_empty());
}

/// What another installation runs is neither seen nor touched, whatever its labels say.
pub async fn others_are_untouched(bench: &impl RuntimeBench) {
    let spec = web(bench, "serve");
    bench.plant_other(&spec.app).await;
    settled(bench, &spec).await;
    assert_eq!(names(bench, &spec.app).await, ["web.1"]);
    until("our app is removed", || async { bench.runtime().remove_app(&spec.app).await.expect("remove_app") }).await;
    assert!(!bench.runtime().apps().await.expect("apps").contains(&spec.app));
    assert!(bench.other_runs().await);
}

/// Removing an app ends everything of it: services, workers, one-off dynos, crashed ones, and its pool.
pub async fn remove_app_leaves_nothing(bench: &impl RuntimeBench) {
    let spec = web(bench, "ignore-term; serve");
    settled(bench, &spec).await;
    let mut worker = ServiceSpec { attachment: None, command: "exit 3".to_owned(), ..spec.clone() };
    worker.process_type = "worker".parse().expect("a process type");
    // A slow machine may take it for up before it ends.
    until("the worker has crashed", || async { matches!(settle(bench, &worker).await, Progress::Failed { .. }) }).await;
    let (id, mut run) = super::bench::one_off(bench, "worker", false);
    run.app = spec.app.clone();
    bench.runtime().start_once(&id, &run).await.expect("start_once");
    let (id, mut never) = super::bench::one_off(bench, "cat", true);
    never.app = spec.app.clone();
    bench.runtime().start_once(&id, &never).await.expect("start_once");
    // A scheduler of the platform's own may have started one worker more before it was told to rest.
    until("one of each is there", || async { dynos(bench, &spec.app).await.len() == 4 }).await;
    until("it is removed", || async { bench.runtime().remove_app(&spec.app).await.expect("remove_app") }).await;
    assert!(dynos(bench, &spec.app).await.is_empty());
    assert!(!bench.runtime().apps().await.expect("apps").contains(&spec.app));
    assert_eq!(bench.pools().last(&pool(&spec)), (0, vec![]));
}

/// A restart is a rollout of the same release.
pub async fn a_higher_restart_number_replaces(bench: &impl RuntimeBench) {
    let spec = web(bench, "serve");
    settled(bench, &spec).await;
    let before = dynos(bench, &spec.app).await;
    settled(bench, &ServiceSpec { restart: 1, ..next(&spec) }).await;
    let after = dynos(bench, &spec.app).await;
    assert_eq!(after.len(), 1);
    assert_ne!(after[0].id, before[0].id);
    assert_eq!(after[0].release, before[0].release);
}

/// The last words of a dyno that ends before it serves are in the log, before its end is.
pub async fn lines_of_dynos_that_never_served_arrive(bench: &impl RuntimeBench) {
    let spec = web(bench, "say no such module: flask; exit 3");
    let Progress::Failed { reason } = settle(bench, &spec).await else { panic!("it exits") };
    assert_eq!((reason.code, reason.message.as_str()), (None, "Process exited with status 3"));
    let lines = logged(bench, &spec.app, "State changed from starting to crashed").await;
    let expected = [
        "heroku[web.1]: Starting process with command `say no such module: flask; exit 3`",
        "app[web.1]: no such module: flask",
        "heroku[web.1]: Process exited with status 3",
        "heroku[web.1]: State changed from starting to crashed",
    ];
    assert_eq!(lines, expected);
    let members = bench.pools().last(&pool(&spec)).1;
    assert_eq!(members.iter().map(|m| m.state).collect::<Vec<_>>(), [MemberState::Crashed]);
}

/// The lowest slots stay, and the lowest free one is taken.
pub async fn scaling_down_gives_back_the_highest_slots(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(3), ..web(bench, "serve") };
    settled(bench, &spec).await;
    let before = dynos(bench, &spec.app).await;
    let one = ServiceSpec { quantity: quantity(1), ..next(&spec) };
    settled(bench, &one).await;
    assert_eq!(dynos(bench, &spec.app).await, before[..1]);
    settled(bench, &ServiceSpec { quantity: quantity(2), ..next(&one) }).await;
    assert_eq!(names(bench, &spec.app).await, ["web.1", "web.2"]);
}

/// A server that dies in the middle of a rollout costs nothing: no dyno twice, no line twice, no dyno left.
pub async fn a_new_driver_goes_on_where_the_old_one_was(bench: &impl RuntimeBench) {
    let new = rolled_out_by_three_drivers(bench).await;
    bench.kill(&dynos(bench, &new.app).await[0]).await;
    let Progress::Failed { .. } = settle(bench, &new).await else { panic!("it was killed") };
    let lines = logged(bench, &new.app, "heroku[web.2]: State changed from up to crashed").await;
    for once in [
        "app[web.1]: first",
        "app[web.2]: second",
        "app[web.2]: bound",
        "heroku[web.2]: Process exited with status 137",
    ] {
        assert_eq!(lines.iter().filter(|line| *line == once).count(), 1, "{once}: {lines:#?}");
    }
}

/// However often and wherever an ensure is cut short, the next ones come to the same end.
pub async fn an_ensure_cut_short_leaves_nothing_half(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(2), ..web(bench, "serve") };
    for cut_ms in [1, 5, 20, 40, 80, 150, 300] {
        let runtime = bench.runtime();
        let _ = tokio::time::timeout(Duration::from_millis(cut_ms), runtime.ensure(&spec)).await;
    }
    settled(bench, &spec).await;
    assert_eq!(names(bench, &spec.app).await, ["web.1", "web.2"]);
    assert_eq!(bench.pools().up(&pool(&spec)).len(), 2);
    assert_eq!(bench.runtime().apps().await.expect("apps").iter().filter(|app| **app == spec.app).count(), 1);
}
