//! DNS records of apps: made once and taken away, wherever a server ends on the way; what others have made stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use paas_aws::{AlbIngress, Call};
use paas_domain::{AppId, Generation};
use paas_ports::{Ingress as _, PortError, Route};

use super::account::{Account, Pace};
use super::drive::World;

const HOST: &str = "example.apps.test";
/// The name of the account's balancers.
const BALANCER: &str = "lb.test";

fn route(app: &AppId, generation: i64, hosts: &[&str]) -> Route {
    Route {
        app: app.clone(),
        app_name: "example".parse().expect("a name"),
        generation: Generation(generation),
        hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
        attachment: None,
        released: false,
        maintenance: false,
        session_affinity: false,
    }
}

/// The driver of a server that has just been started.
async fn driver(world: &World) -> AlbIngress {
    AlbIngress::new(world.account.aws(&world.install).await, Arc::clone(&world.memory) as _)
}

fn records(world: &World) -> BTreeMap<String, String> {
    world.account.lock().others.records.clone()
}

fn one(host: &str, target: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(host.to_owned(), target.to_owned())])
}

fn account() -> World {
    World::new(Account::new(Pace::default()))
}

#[tokio::test(start_paused = true)]
async fn a_record_comes_and_goes_wherever_a_server_ends() {
    for point in 1.. {
        let (world, app) = (account(), AppId::new());
        world.account.cut_at(Some(point));
        let first = driver(&world).await;
        let goes = AtomicBool::new(false);
        let whole = world
            .account
            .until_cut(async {
                first.publish(&route(&app, 1, &[HOST])).await.expect("published");
                goes.store(true, Ordering::Relaxed);
                first.remove(&app).await.expect("removed");
            })
            .await
            .is_some();
        world.account.cut_at(None);
        if whole {
            println!("a record: {} points", point - 1);
            assert!(point > 10, "there is hardly any point");
            return;
        }
        // Another server goes on with either wish. An app that goes is never published again.
        let next = driver(&world).await;
        if point % 2 == 0 && !goes.load(Ordering::Relaxed) {
            next.publish(&route(&app, 2, &[HOST])).await.expect("published");
            assert_eq!(records(&world), one(HOST, BALANCER), "point {point}");
        }
        next.remove(&app).await.expect("removed");
        assert_eq!(records(&world), BTreeMap::new(), "point {point}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_somebody_else_outlives_the_app() {
    let (world, app) = (account(), AppId::new());
    let others = one(HOST, "shop.example.org");
    world.account.lock().others.records = others.clone();
    let ingress = driver(&world).await;
    for generation in 1..3 {
        // The other names of the app are made all the same.
        let refused = ingress.publish(&route(&app, generation, &[HOST, "more.apps.test"])).await;
        let Err(PortError::Permanent { cause, .. }) = &refused else { panic!("{refused:?}") };
        assert!(cause.contains(HOST) && cause.contains("delete it"), "{cause}");
        assert_eq!(records(&world).get(HOST), others.get(HOST));
        assert_eq!(records(&world).get("more.apps.test").map(String::as_str), Some(BALANCER));
    }
    ingress.repair().await.expect("looked");
    ingress.remove(&app).await.expect("removed");
    assert_eq!(records(&world), others);

    // Its owner takes it away: the name is free.
    world.account.lock().others.records.clear();
    ingress.publish(&route(&app, 3, &[HOST])).await.expect("published");
    assert_eq!(records(&world), one(HOST, BALANCER));
}

#[tokio::test(start_paused = true)]
async fn a_name_goes_from_one_app_to_the_next_with_its_record() {
    let (world, old, new) = (account(), AppId::new(), AppId::new());
    let ingress = driver(&world).await;
    ingress.publish(&route(&old, 1, &[HOST])).await.expect("published");
    world.account.forget_calls();
    ingress.publish(&route(&new, 1, &[HOST])).await.expect("published");
    assert_eq!(world.account.count(Call::ListResourceRecordSets), 0, "a row says whose the record is");
    ingress.publish(&route(&old, 2, &["other.apps.test"])).await.expect("published");
    ingress.remove(&old).await.expect("removed");
    assert_eq!(records(&world), one(HOST, BALANCER));
    ingress.remove(&new).await.expect("removed");
    assert_eq!(records(&world), BTreeMap::new());
}
