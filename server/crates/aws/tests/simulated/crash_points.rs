//! A server that ends before or behind any call, or any row it writes, and another one that goes on.

use std::collections::BTreeSet;
use std::time::Duration;

use paas_domain::{AppId, ProcessType};
use paas_ports::Runtime as _;

use super::account::{Account, Pace};
use super::drive::{Wish, World};

fn worker() -> ProcessType {
    "worker".parse().expect("a type")
}

/// An account whose events are read a few at a time.
fn world(pace: Pace) -> World {
    World { events_every: Duration::from_secs(2), ..World::new(Account::new(pace)) }
}

/// What the account holds of this app is what the wish says, and nothing else.
async fn converged(world: &World, wish: &Wish, context: &str) {
    world.sweep().await;
    let mut slots: Vec<(ProcessType, u32, String)> = Vec::new();
    for slot in paas_aws::Ledger::slots(&world.memory.ledger, &wish.app).await.expect("slots") {
        slots.push((slot.process_type, slot.slot, slot.task));
    }
    let state = world.account.lock();
    let (ecs, install) = (&state.ecs, &world.install);
    assert!(ecs.without_secret.is_empty(), "{context}: {:?} lacked their secrets", ecs.without_secret);
    let there = ecs.services.iter().filter(|(_, service)| service.now.status != "INACTIVE");
    let names: Vec<&String> = there.map(|(name, _)| name).collect();
    let wanted = wish.types.keys().map(|t| paas_domain::outside_name(install, &wish.app, t.as_str()));
    let wanted: Vec<String> = wanted.collect();
    assert!(names.iter().all(|name| wanted.contains(name)), "{context}: services {names:?}");
    let mut named: BTreeSet<String> = BTreeSet::new();
    let mut active = BTreeSet::new();
    for (process_type, quantity) in &wish.types {
        let name = paas_domain::outside_name(install, &wish.app, process_type.as_str());
        let Some(service) = ecs.services.get(&name).map(|service| &service.now) else {
            assert_eq!(*quantity, 0, "{context}: {name}");
            continue;
        };
        let live: Vec<_> =
            ecs.tasks.iter().filter(|(_, t)| t.now.live() && t.now.service.as_ref() == Some(&name)).collect();
        assert_eq!(
            (service.desired, live.len()),
            (usize::from(*quantity), usize::from(*quantity)),
            "{context}: {name}"
        );
        let running = &service.deployments[0].definition;
        let definition = &ecs.definitions[running];
        assert!(definition.active, "{context}: {running}");
        if *quantity > 0 {
            assert_eq!(definition.tag("paas:release"), wish.release.to_string(), "{context}: {name}");
        }
        assert!(live.iter().all(|(_, task)| task.now.definition == *running), "{context}: {name}");
        let mut taken: Vec<u32> = Vec::new();
        for (arn, _) in live {
            let slot = slots.iter().position(|(_, _, task)| task == arn);
            let slot = slots.remove(slot.unwrap_or_else(|| panic!("{context}: {arn} has no slot")));
            taken.push(slot.1);
        }
        taken.sort_unstable();
        assert!(taken.windows(2).all(|pair| pair[0] < pair[1]), "{context}: {taken:?}");
        active.insert(running.clone());
        named.extend(definition.secrets());
    }
    assert!(slots.is_empty(), "{context}: slots of nobody: {slots:?}");
    for (dyno, _) in &wish.once {
        let runs = ecs.tasks.values().filter(|task| task.now.started_by == dyno.as_str()).count();
        assert_eq!(runs, 1, "{context}: {dyno} ran {runs} times");
    }
    // One-off dynos' newest definition stays for the next one.
    let family = paas_domain::outside_name(install, &wish.app, "-run");
    // So does the one that served last, of what is scaled to zero.
    let asleep = wish.types.iter().filter(|(_, quantity)| **quantity == 0);
    let asleep = asleep.map(|(t, _)| paas_domain::outside_name(install, &wish.app, t.as_str()));
    let mut kept: Vec<String> = asleep.chain([family]).collect();
    for (arn, found) in ecs.definitions.iter().filter(|(arn, found)| found.active && !active.contains(*arn)) {
        let place = kept.iter().position(|family| *family == found.family);
        kept.remove(place.unwrap_or_else(|| panic!("{context}: a definition is left: {arn} ({wish:?})")));
        named.extend(found.secrets());
    }
    let secrets: BTreeSet<String> = state.others.secrets.keys().cloned().collect();
    assert_eq!(secrets, named, "{context}: secrets");
}

/// Nothing of the app is left.
async fn gone(world: &World, app: &AppId, context: &str) {
    world.sweep().await;
    let notes = paas_aws::DynoNotes::notes(&world.memory.notes, app).await.expect("notes");
    let state = world.account.lock();
    let ecs = &state.ecs;
    assert!(ecs.services.values().all(|service| service.now.status == "INACTIVE"), "{context}: services");
    assert!(ecs.tasks.values().all(|task| !task.now.live()), "{context}: tasks");
    assert!(ecs.definitions.values().all(|definition| !definition.active), "{context}: definitions");
    assert!(state.others.secrets.is_empty(), "{context}: {:?}", state.others.secrets.keys());
    assert!(notes.is_empty(), "{context}: {notes:?}");
}

/// Cuts a server off at each point on the way from one wish to the next, until the way has no further point.
async fn at_every_point(name: &str, from: Option<Wish>, to: Wish) {
    let mut point = 0;
    loop {
        point += 1;
        let (context, world) = (format!("{name}, point {point}"), world(Pace::default()));
        let server = world.server(false).await;
        if let Some(from) = &from {
            server.settle(from).await;
        }
        world.account.cut_at(Some(point));
        let whole = world.account.until_cut(server.settle(&to)).await.is_some();
        drop(server);
        world.account.cut_at(None);
        world.server(false).await.settle(&to).await;
        converged(&world, &to, &context).await;
        if whole {
            println!("{name}: {} points", point - 1);
            assert!(point > 4, "{name} has hardly any point");
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_deploy() {
    at_every_point("a first deploy", None, Wish::web()).await;
}

#[tokio::test(start_paused = true)]
async fn a_redeploy() {
    let wish = Wish::web();
    at_every_point("a redeploy", Some(wish.clone()), wish.pushed()).await;
    at_every_point("a change of config", Some(wish.clone()), wish.configured()).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_scale_or_types() {
    let wish = Wish::web();
    at_every_point("scaling up", Some(wish.clone()), wish.scaled(&ProcessType::web(), 3)).await;
    at_every_point("scaling to zero", Some(wish.clone()), wish.scaled(&ProcessType::web(), 0)).await;
    at_every_point("a restart", Some(wish.clone()), wish.restarted()).await;
    let more = wish.pushed().scaled(&worker(), 2);
    at_every_point("a type more", Some(wish), more.clone()).await;
    at_every_point("a type less", Some(more.clone()), more.without(&worker())).await;
}

#[tokio::test(start_paused = true)]
async fn a_one_off_dyno() {
    let wish = Wish::web();
    at_every_point("a one-off dyno", Some(wish.clone()), wish.running(false)).await;
    at_every_point("one with its own config", Some(wish.clone()), wish.running(true)).await;
    let before = wish.running(false);
    at_every_point("one of another release", Some(before.clone()), before.configured().running(false)).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_of_an_app() {
    let wish = Wish::web().scaled(&worker(), 1).running(false);
    let mut point = 0;
    loop {
        point += 1;
        let world = world(Pace::default());
        let server = world.server(false).await;
        server.settle(&wish).await;
        let remove = async |server: &super::drive::Server| {
            while !server.runtime.remove_app(&wish.app).await.expect("removed") {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        world.account.cut_at(Some(point));
        let whole = world.account.until_cut(remove(&server)).await.is_some();
        drop(server);
        world.account.cut_at(None);
        remove(&world.server(false).await).await;
        gone(&world, &wish.app, &format!("the end of an app, point {point}")).await;
        if whole {
            println!("the end of an app: {} points", point - 1);
            assert!(point > 10);
            return;
        }
    }
}

/// A die that always falls the same way.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[tokio::test(start_paused = true)]
async fn anything_in_any_order() {
    for seed in 0..20 {
        let mut dice = Dice(seed);
        let s = Duration::from_secs;
        // Events late and in any order, answers that are a moment old.
        let pace =
            Pace { late: s(dice.below(8)), stale: Duration::from_millis(500 * dice.below(4)), ..Pace::default() };
        let world = world(pace);
        let mut wish = Wish::web();
        world.server(false).await.settle(&wish).await;
        for _ in 0..8 {
            let quantity = u16::try_from(dice.below(4)).expect("small");
            wish = match dice.below(7) {
                0 => wish.pushed(),
                1 => wish.configured(),
                2 => wish.restarted(),
                3 => wish.scaled(&ProcessType::web(), quantity),
                4 => wish.running(dice.below(2) == 0),
                5 if wish.types.contains_key(&worker()) => wish.without(&worker()),
                _ => {
                    wish.gone.clear();
                    wish.pushed().scaled(&worker(), quantity)
                }
            };
            let server = world.server(false).await;
            world.account.cut_at(Some(usize::try_from(dice.below(40)).expect("small") + 1));
            let _ = world.account.until_cut(server.settle(&wish)).await;
        }
        world.account.cut_at(None);
        world.server(false).await.settle(&wish).await;
        converged(&world, &wish, &format!("seed {seed}")).await;
    }
}
