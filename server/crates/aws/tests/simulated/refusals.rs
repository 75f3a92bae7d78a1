//! What AWS does not start: services and one-off dynos without room, images and secrets that are gone.

use std::time::Duration;

use paas_aws::Call;
use paas_domain::{Capacity, DynoId, ProcessType};
use paas_ports::{Attachment, OneOffSpec, PortError, Progress, Runtime as _};
use tokio::time::{Instant, sleep};

use super::account::{Account, Pace};
use super::drive::{Server, Wish, World};

const FULL: &str = "Capacity is unavailable at this time. Please try again later or in a different availability zone.";
const LIMIT: &str = "You've reached the limit on the number of vCPUs you can run concurrently.";

/// Passes over the app's web dynos until they stand as wanted; how long that took.
async fn until(server: &Server, wish: &Wish, stands: impl Fn(&Progress) -> bool) -> Duration {
    let since = Instant::now();
    loop {
        let attachment = Some(Attachment(format!("arn:of:{}", wish.app)));
        let spec = wish.service(&ProcessType::web(), wish.types[&ProcessType::web()], attachment);
        let progress = server.runtime.ensure(&spec).await.expect("a pass");
        server.runtime.observe(&wish.app).await.expect("a look");
        if stands(&progress) {
            return since.elapsed();
        }
        assert!(since.elapsed() < Duration::from_secs(300), "it never stands so: {progress:?}");
        sleep(Duration::from_secs(1)).await;
    }
}

fn held_up_by(words: &'static str) -> impl Fn(&Progress) -> bool {
    move |progress| matches!(progress, Progress::HeldUp { cause, .. } if cause.contains(words))
}

fn settled(progress: &Progress) -> bool {
    *progress == Progress::Settled
}

#[tokio::test(start_paused = true)]
async fn a_service_without_room_says_why_and_goes_on_when_there_is() {
    // With the scheduler's event, and where that is lost.
    for (quiet, at_most) in [(false, 8), (true, 20)] {
        let world = World::new(Account::new(Pace::default()));
        let (server, wish) = (world.server(false).await, Wish::web());
        server.settle(&wish).await;
        world.account.lock().ecs.quiet = quiet;
        world.account.set_room("FARGATE", Some(LIMIT));
        let next = wish.pushed();
        world.account.forget_calls();
        let told = until(&server, &next, held_up_by(LIMIT)).await;
        assert!((5..=at_most).contains(&told.as_secs()), "{told:?}");
        // It goes on like this, and asks for little meanwhile.
        sleep(Duration::from_secs(60)).await;
        until(&server, &next, held_up_by(LIMIT)).await;
        assert_eq!(world.account.count(Call::UpdateService), 1);
        assert!(world.account.calls("ecs") < 40, "{}", world.account.told());
        world.account.set_room("FARGATE", None);
        until(&server, &next, settled).await;
        // The next one finds room, though an old refusal is on the list.
        let last = next.pushed();
        until(&server, &last, |progress| {
            assert!(!matches!(progress, Progress::HeldUp { .. }), "{progress:?}");
            settled(progress)
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_on_spot_falls_back_on_demand_and_returns_after_an_hour() {
    let world = World::new(Account::new(Pace::default()));
    let (server, wish) = (world.server(false).await, Wish { capacity: Capacity::Spot, ..Wish::web() });
    let name = paas_domain::outside_name(&world.install, &wish.app, "web");
    let strategy = || world.account.lock().ecs.services[&name].now.strategy.clone();
    server.settle(&wish).await;
    assert_eq!(strategy(), ["FARGATE", "FARGATE_SPOT"]);
    world.account.set_room("FARGATE_SPOT", Some(FULL));
    let next = wish.pushed();
    let moved = until(&server, &next, settled).await;
    assert!(moved < Duration::from_secs(60), "{moved:?}");
    assert_eq!(strategy(), ["FARGATE"]);
    let said = world.logs.lines(&wish.app);
    assert_eq!(said.iter().filter(|line| line.message.contains("Spot has no room")).count(), 1, "{said:?}");
    // Within the hour it stays there, whatever is deployed.
    world.account.set_room("FARGATE_SPOT", None);
    let last = next.pushed();
    until(&server, &last, settled).await;
    assert_eq!(strategy(), ["FARGATE"]);
    sleep(Duration::from_secs(3600)).await;
    until(&server, &last, |progress| settled(progress) && strategy().len() == 2).await;
    assert_eq!(world.account.lock().ecs.services[&name].now.desired, 1);
}

async fn why(server: &Server, dyno: &DynoId) -> (String, Duration) {
    let since = Instant::now();
    let error = server.runtime.attach(dyno).await.err().expect("it never runs");
    assert!(matches!(error, PortError::Permanent { .. }), "{error:?}");
    (error.to_string(), since.elapsed())
}

/// A dyno that somebody attaches to, of an app without any other.
async fn attached(world: &World) -> (Server, Wish, DynoId, OneOffSpec) {
    let (server, wish) = (world.server(false).await, Wish::web());
    let spec = OneOffSpec { attach: true, ..wish.one_off(0, false) };
    (server, wish, DynoId::new(), spec)
}

fn with_links() -> World {
    World { links: true, ..World::new(Account::new(Pace::default())) }
}

#[tokio::test(start_paused = true)]
async fn a_one_off_dyno_without_room_says_why_once_it_lasts() {
    let world = with_links();
    let (server, wish, dyno, spec) = attached(&world).await;
    world.account.set_room("FARGATE", Some(FULL));
    for _ in 0..3 {
        let error = server.runtime.start_once(&dyno, &spec).await.expect_err("refused");
        assert!(error.is_transient() && error.to_string().contains(FULL), "{error:?}");
    }
    let (told, after) = why(&server, &dyno).await;
    assert!(told.starts_with("starting run.1: AWS has no room") && told.contains(FULL), "{told}");
    assert!((60..65).contains(&after.as_secs()), "{after:?}");
    let said = world.logs.lines(&wish.app);
    assert_eq!(said.iter().filter(|line| line.message.contains(FULL)).count(), 1, "{said:?}");
    // Who gave up is not started later.
    server.runtime.stop(&dyno).await.expect("stopped");
    world.account.set_room("FARGATE", None);
    server.runtime.start_once(&dyno, &spec).await.expect_err("it is over");
    let seen = server.runtime.observe_one(&wish.app, &dyno).await.expect("a look").expect("one");
    assert_eq!((seen.exit_code, world.account.lock().ecs.tasks.len()), (Some(1), 0));
    // Another one, for which there is room in time.
    let (next, spec) = (DynoId::new(), wish.one_off(1, false));
    world.account.set_room("FARGATE", Some(LIMIT));
    server.runtime.start_once(&next, &spec).await.expect_err("refused");
    world.account.set_room("FARGATE", None);
    server.runtime.start_once(&next, &spec).await.expect("started");
    sleep(Duration::from_secs(30)).await;
    let seen = server.runtime.observe_one(&wish.app, &next).await.expect("a look").expect("one");
    assert_eq!(seen.exit_code, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_one_off_dyno_that_may_not_start_says_why_at_once() {
    let world = with_links();
    let (server, wish, dyno, spec) = attached(&world).await;
    world.account.lock().ecs.denied = true;
    let error = server.runtime.start_once(&dyno, &spec).await.expect_err("refused");
    assert!(!error.is_transient(), "{error:?}");
    let (told, after) = why(&server, &dyno).await;
    assert!(told.contains("ecs:RunTask") && told == error.to_string() && after.is_zero(), "{told} after {after:?}");
    // The core ends it; then there is nothing left to wait for.
    server.runtime.stop(&dyno).await.expect("stopped");
    let seen = server.runtime.observe_one(&wish.app, &dyno).await.expect("a look").expect("one");
    assert_eq!(seen.exit_code, Some(1));
    server.runtime.forget(&dyno).await.expect("forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_one_off_dyno_that_fails_to_start_says_why_also_when_it_is_stopped_meanwhile() {
    let pull = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found";
    let gone = "ResourceInitializationError: unable to pull secrets or registry auth: secret was not found";
    for (reason, says) in [(pull, "image cannot be pulled"), (gone, "config vars cannot be read")] {
        for stopped in [false, true] {
            let world = with_links();
            let (server, wish, dyno, spec) = attached(&world).await;
            world.account.lock().ecs.broken = reason;
            server.runtime.start_once(&dyno, &spec).await.expect("AWS makes a task");
            let (told, _) = why(&server, &dyno).await;
            assert!(told.contains(says), "{told}");
            // As the meeting place does it for a client that it turns away.
            if stopped {
                server.runtime.stop(&dyno).await.expect("stopped");
            }
            let seen = server.runtime.observe_one(&wish.app, &dyno).await.expect("a look").expect("one");
            assert_eq!(seen.exit_code, Some(1), "{reason} {stopped}");
            let said = world.logs.lines(&wish.app);
            assert_eq!(said.iter().filter(|line| line.message.contains(says)).count(), 1, "{said:?}");
            assert!(!said.iter().any(|line| line.message.contains("SIGTERM")), "{said:?}");
            assert!(why(&server, &dyno).await.0.contains(says), "and whoever comes later");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_before_a_restart_is_named() {
    let pull = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found";
    let gone = "ResourceInitializationError: unable to pull secrets or registry auth: secret was not found";
    for (reason, says) in [(pull, "push again to store it anew"), (gone, "change a config var to make a new release")] {
        let world = World::new(Account::new(Pace::default()));
        let (server, wish) = (world.server(false).await, Wish::web());
        server.settle(&wish).await;
        world.account.lock().ecs.broken = reason;
        let restarted = wish.restarted();
        until(
            &server,
            &restarted,
            |progress| matches!(progress, Progress::Failed { reason } if reason.message.contains(says)),
        )
        .await;
        let state = world.account.lock();
        let serving = state.ecs.tasks.values().filter(|task| task.now.healthy_at.is_some() && task.now.live()).count();
        assert_eq!(serving, 1, "the old dyno serves on");
    }
}
