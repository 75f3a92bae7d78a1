//! What takes the place of some promises where the platform has a scheduler of its own (ECS).

use std::time::{Duration, Instant};

use paas_domain::DynoState;

use super::bench::{
    RuntimeBench, dynos, logged, names, next, pool, quantity, released, rolled_out_by_three_drivers, settle, settled,
    until, was_killed, web,
};
use crate::{MemberState, Progress, ServiceSpec};

/// A dyno that dies is seen, said with its exit status, and replaced in its slot by the scheduler, without `revive`.
pub async fn a_crashed_dyno_is_seen_and_replaced_in_its_slot(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(2), ..web(bench, "serve") };
    settled(bench, &spec).await;
    let first = dynos(bench, &spec.app).await;
    bench.kill(&first[0]).await;
    let lines = logged(bench, &spec.app, "State changed from up to crashed").await;
    assert!(lines.contains(&"heroku[web.1]: Process exited with status 137".to_owned()), "{lines:#?}");
    until("it is replaced", || async {
        let progress = bench.runtime().ensure(&spec).await.expect("ensure");
        let seen = dynos(bench, &spec.app).await;
        progress == Progress::Settled && seen.len() == 2 && !seen.iter().any(|dyno| dyno.id == first[0].id)
    })
    .await;
    assert_eq!(names(bench, &spec.app).await, ["web.1", "web.2"]);
    assert!(dynos(bench, &spec.app).await.iter().any(|dyno| dyno.id == first[1].id), "the other one lives on");
}

/// A release that ends at once, with nothing to go back to, rests: it is not started again and again.
pub async fn a_first_release_that_ends_at_once_rests_until_it_is_revived(bench: &impl RuntimeBench) {
    let spec = web(bench, "say no such module: flask; exit 3");
    let Progress::Failed { reason } = settle(bench, &spec).await else { panic!("it exits") };
    assert_eq!((reason.code, reason.message.as_str()), (None, "Process exited with status 3"));
    let who = reason.dyno.expect("a dyno").to_string();
    let starts = async || {
        let lines = logged(bench, &spec.app, "State changed from starting to crashed").await;
        let order = [
            "app[NAME]: no such module: flask",
            "heroku[NAME]: Process exited with status 3",
            "heroku[NAME]: State changed from starting to crashed",
        ];
        let at = order.map(|text| lines.iter().position(|line| *line == text.replace("NAME", &who)));
        assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{at:?} {lines:#?}");
        lines.iter().filter(|line| line.contains("Starting process")).count()
    };
    // The scheduler may have started another one before it was told to rest.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(matches!(bench.runtime().ensure(&spec).await.expect("ensure"), Progress::Failed { .. }));
    let rested = starts().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(matches!(bench.runtime().ensure(&spec).await.expect("ensure"), Progress::Failed { .. }));
    assert_eq!(starts().await, rested, "it rests");
    assert_eq!(dynos(bench, &spec.app).await.iter().map(|dyno| dyno.state).collect::<Vec<_>>(), [DynoState::Crashed]);
    bench.runtime().ensure(&ServiceSpec { revive: true, ..spec.clone() }).await.expect("ensure");
    let since = Instant::now();
    while starts().await == rested {
        assert!(since.elapsed() < Duration::from_secs(30), "it is not tried again");
        bench.runtime().ensure(&spec).await.expect("ensure");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A release that never binds fails (R10) at the first dyno, is said, and the old one serves on; a newer one takes over.
pub async fn an_unhealthy_release_fails_at_once_and_the_old_one_serves_on(bench: &impl RuntimeBench) {
    let spec = web(bench, "serve");
    settled(bench, &spec).await;
    let old = dynos(bench, &spec.app).await.remove(0);
    let bad = released(&spec, "never-bind");
    let Progress::Failed { reason } = settle(bench, &bad).await else { panic!("it never binds") };
    let text = "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 2 seconds of launch";
    assert_eq!((reason.code, reason.message.as_str()), (Some("R10"), text));
    let who = reason.dyno.expect("a dyno").to_string();
    let lines = logged(bench, &spec.app, "State changed from starting to crashed").await;
    assert!(lines.contains(&format!("heroku[{who}]: {text}")), "{lines:#?}");
    assert!(matches!(bench.runtime().ensure(&bad).await.expect("ensure"), Progress::Failed { .. }));
    let up = bench.pools().up(&pool(&spec));
    assert_eq!(up.iter().map(|member| &member.dyno).collect::<Vec<_>>(), [&old.id]);
    assert!(bench.listens(&up[0]).await);
    let good = released(&bad, "serve");
    settled(bench, &good).await;
    assert!(dynos(bench, &spec.app).await.iter().all(|dyno| dyno.release == good.release));
}

/// At no moment of a rollout do fewer serve than are wanted. (Which ones, the scheduler decides.)
pub async fn never_fewer_than_wanted_in_a_rollout(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(2), ..web(bench, "serve") };
    settled(bench, &spec).await;
    let told = bench.pools().history(&pool(&spec)).len();
    let new = released(&spec, "sleep 300; serve");
    settled(bench, &new).await;
    // Slots are never shared: the new ones have others.
    let names = names(bench, &spec.app).await;
    assert!(names.len() == 2 && !names.iter().any(|name| name == "web.1" || name == "web.2"), "{names:?}");
    for (_, members) in &bench.pools().history(&pool(&spec))[told..] {
        let up = members.iter().filter(|member| member.state == MemberState::Up).count();
        assert!(up >= 2, "a moment with {members:?} only");
    }
}

/// SIGTERM, then SIGKILL after the grace (R12); the scheduler puts another dyno in its place.
pub async fn a_stopped_dyno_gets_sigterm_then_sigkill_and_is_replaced(bench: &impl RuntimeBench) {
    let spec = web(bench, "ignore-term; serve");
    settled(bench, &spec).await;
    let first = dynos(bench, &spec.app).await;
    bench.runtime().stop(&first[0].id).await.expect("stop");
    bench.runtime().stop(&first[0].id).await.expect("stop again");
    until("another one serves", || async {
        let progress = bench.runtime().ensure(&spec).await.expect("ensure");
        let seen = dynos(bench, &spec.app).await;
        progress == Progress::Settled && seen.len() == 1 && seen[0].id != first[0].id
    })
    .await;
    was_killed(bench, &spec.app).await;
}

/// As many stay as are wanted, and the lowest free slot is taken by the next. (Which ones stay, the scheduler decides.)
pub async fn scaling_down_keeps_as_many_as_are_wanted(bench: &impl RuntimeBench) {
    let spec = ServiceSpec { quantity: quantity(3), ..web(bench, "serve") };
    settled(bench, &spec).await;
    let before = dynos(bench, &spec.app).await;
    let one = ServiceSpec { quantity: quantity(1), ..next(&spec) };
    settled(bench, &one).await;
    let kept = dynos(bench, &spec.app).await;
    assert!(kept.len() == 1 && before.contains(&kept[0]), "{kept:?}");
    settled(bench, &ServiceSpec { quantity: quantity(2), ..next(&one) }).await;
    let names = names(bench, &spec.app).await;
    let other = if kept[0].name.slot == 1 { "web.2" } else { "web.1" };
    assert!(names.len() == 2 && names.contains(&other.to_owned()), "{names:?}");
}

/// A server that dies in the middle of a rollout costs nothing: no dyno twice, no line twice, no dyno left.
pub async fn a_new_driver_goes_on_with_the_rollout(bench: &impl RuntimeBench) {
    let new = rolled_out_by_three_drivers(bench).await;
    let lines = logged(bench, &new.app, "app[web.2]: bound").await;
    for once in ["app[web.1]: first", "app[web.2]: second", "heroku[web.2]: State changed from starting to up"] {
        assert_eq!(lines.iter().filter(|line| *line == once).count(), 1, "{once}: {lines:#?}");
    }
}
