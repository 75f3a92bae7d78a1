//! What deploys cost.

use std::time::Duration;

use paas_aws::{Call, Family};
use paas_domain::ProcessType;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::account::{Account, Pace};
use super::drive::{Server, Wish, World};

/// When the last new target of a release became healthy.
fn healthy(account: &Account, wish: &Wish) -> Instant {
    let state = account.lock();
    let tasks = state.ecs.tasks.values().map(|task| &task.now);
    let of_release = tasks.filter(|task| {
        let definition = &state.ecs.definitions[&task.definition];
        definition.tag("paas:app") == wish.app.as_str() && definition.tag("paas:release") == wish.release.to_string()
    });
    of_release.filter_map(|task| task.healthy_at).max().expect("it serves")
}

/// From `since` until the release's targets were healthy, less what ECS and the target groups took for it.
fn added(account: &Account, wish: &Wish, since: Instant) -> Duration {
    healthy(account, wish) - since - account.pace.start - account.pace.health
}

/// What our own bucket of this family makes `calls` at once wait for.
fn bound(family: Family, calls: u32) -> Duration {
    let (size, per_second) = family.limit();
    Duration::from_secs_f64((f64::from(calls) - size * 0.8).max(0.0) / (per_second * 0.8))
}

/// An app that serves, on an account as slow as Fargate is.
async fn serving(balancers: bool) -> (World, Server, Wish) {
    let s = Duration::from_secs;
    let world = World::new(Account::new(Pace { start: s(30), health: s(10), drain: s(35), ..Pace::default() }));
    let (server, wish) = (world.server(balancers).await, Wish::web());
    server.settle(&wish).await;
    (world, server, wish)
}

#[tokio::test(start_paused = true)]
async fn the_account_counts_and_throttles() {
    let account = Account::new(Pace { call: Duration::ZERO, ..Pace::default() });
    let aws = account.aws(&paas_domain::InstallId::random()).await;
    let once = aws_sdk_ecs::config::Builder::new().retry_config(aws_config::retry::RetryConfig::disabled());
    let register = || {
        let request = aws.ecs.register_task_definition().family("f");
        let container = aws_sdk_ecs::types::ContainerDefinition::builder().name("c").build();
        request.container_definitions(container).customize().config_override(once.clone()).send()
    };
    let (size, per_second) = Family::EcsRegister.limit();
    let mut granted = 0.0;
    while register().await.is_ok() {
        granted += 1.0;
    }
    assert!((granted - size).abs() < 0.5, "{granted} of {size} at once");
    assert_eq!((account.refused(), account.count(Call::RegisterTaskDefinition)), (1, 21));
    sleep(Duration::from_secs_f64(3.0 / per_second)).await;
    for _ in 0..3 {
        register().await.expect("refilled");
    }
    let error = register().await.expect_err("empty again");
    assert_eq!(aws_sdk_ecs::error::ProvideErrorMetadata::code(&error), Some("ThrottlingException"));
}

#[tokio::test(start_paused = true)]
async fn a_web_redeploy_costs_few_calls_and_little_time() {
    let (world, server, first) = serving(true).await;
    let account = &world.account;
    let mut wish = first;
    // At once, and after hours in which only the sweep came by: what is known is old then.
    for idle in [0, 250, 2 * 3600 + 17] {
        sleep(Duration::from_secs(idle)).await;
        wish = wish.pushed();
        account.forget_calls();
        let since = Instant::now();
        server.settle(&wish).await;
        let (ecs, elb, added) =
            (account.calls("ecs"), account.calls("elasticloadbalancing"), added(account, &wish, since));
        println!(
            "a web redeploy after {idle} s: {ecs} ECS calls, {elb} ELBv2 calls, {added:?} added ({})",
            account.told()
        );
        assert!(ecs <= 4 && elb == 0, "{}", account.told());
        assert!(added <= Duration::from_millis(300), "{added:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn scale_and_restart_register_nothing() {
    let (world, server, first) = serving(false).await;
    let account = &world.account;
    let web = ProcessType::web();
    let mut wish = first;
    account.forget_calls();
    for (what, next) in [
        ("scale up", Wish::scaled as fn(&Wish, &ProcessType, u16) -> Wish),
        ("restart", |wish, _, _| wish.restarted()),
        ("scale to zero", |wish, web, _| wish.scaled(web, 0)),
        ("scale from zero", |wish, web, _| wish.scaled(web, 2)),
    ] {
        wish = next(&wish, &web, 3);
        server.settle(&wish).await;
        println!("{what}: {}", account.told());
        assert_eq!(account.count(Call::RegisterTaskDefinition), 0, "{what}");
        assert_eq!(account.count(Call::UpdateService), 1, "{what}");
        account.forget_calls();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_deploys_at_once_are_as_fast_as_the_buckets_allow() {
    const APPS: u32 = 100;
    const TYPES_OF_ONE: u32 = 10;
    // What ECS takes counts for nothing here.
    let s = Duration::from_secs;
    let world = World::new(Account::new(Pace { start: s(2), health: s(1), drain: s(2), ..Pace::default() }));
    let server = std::sync::Arc::new(world.server(false).await);
    let mut wishes: Vec<Wish> = (0..APPS).map(|_| Wish::web()).collect();
    // One of them is busier than the others.
    for number in 1..TYPES_OF_ONE {
        wishes[0].types.insert(format!("worker{number}").parse().expect("a type"), 1);
    }
    let deploy = async |wishes: &[Wish]| {
        let mut errors = 0;
        let mut tasks = JoinSet::new();
        for wish in wishes {
            let (wish, server) = (wish.clone(), std::sync::Arc::clone(&server));
            tasks.spawn(async move { server.settle(&wish).await });
        }
        while let Some(failed) = tasks.join_next().await {
            errors += failed.expect("settled");
        }
        errors
    };
    assert_eq!(deploy(&wishes).await, 0);
    // The buckets are full again.
    sleep(Duration::from_secs(60)).await;
    wishes = wishes.iter().map(Wish::pushed).collect();
    world.account.forget_calls();
    let since = Instant::now();
    assert_eq!(deploy(&wishes).await, 0, "nobody hears of a failed pass");
    let (all, one_each) = (bound(Family::EcsRegister, APPS + TYPES_OF_ONE - 1), bound(Family::EcsRegister, APPS));
    let last = wishes.iter().map(|wish| added(&world.account, wish, since)).max().expect("apps");
    let last_calm = wishes[1..].iter().map(|wish| added(&world.account, wish, since)).max().expect("apps");
    println!("{APPS} deploys at once: {last:?}, the bucket's bound is {all:?}; {}", world.account.told());
    println!("apps with one process type: {last_calm:?}, the bound of one call each is {one_each:?}");
    assert_eq!(world.account.refused(), 0, "nothing is throttled");
    assert!(last <= all.mul_f64(1.1), "{last:?} of {all:?}");
    assert!(last_calm <= one_each.mul_f64(1.1), "a busy app holds nobody up: {last_calm:?} of {one_each:?}");
}

#[tokio::test(start_paused = true)]
async fn superseded_releases_coalesce() {
    for pause in [0, 200] {
        let (world, server, first) = serving(false).await;
        world.account.forget_calls();
        let (newest, mut wishes) = watch::channel(first.pushed());
        let settled = tokio::spawn(async move { (server.settle_newest(&mut wishes).await.len(), server) });
        for _ in 0..9 {
            sleep(Duration::from_millis(pause)).await;
            newest.send_modify(|wish| *wish = wish.pushed());
        }
        let last = newest.borrow().clone();
        let (errors, _server) = settled.await.expect("settled");
        let registered = world.account.count(Call::RegisterTaskDefinition);
        println!("10 releases of one app, one each {pause} ms: {registered} registered");
        assert_eq!(errors, 0);
        assert!(registered <= 4, "{registered}");
        healthy(&world.account, &last);
    }
}
