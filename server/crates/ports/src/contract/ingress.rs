//! What every [`Ingress`] promises, and every [`Pools`] beside it.
//!
//! `ingress_contract!` is for every ingress; `pools_contract!` for one whose pools a runtime driver fills (`pools`).

mod pools;

use std::sync::Arc;

use async_trait::async_trait;
use paas_domain::{AppId, DynoName, Generation, HostName, ProcessType};

use crate::{Attachment, Ingress, Member, Pools, PortError, Route, outside};

pub use self::pools::*;

/// What a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// 404: no app has this host.
    NoSuchApp,
    /// H80.
    Maintenance,
    /// H81.
    Blank,
    /// H14.
    NoWebDynos,
    /// H10.
    Crashed,
    /// The answer of this dyno.
    Served(DynoName),
}

/// A request that its dyno has not answered yet.
#[async_trait]
pub trait Held: Send {
    /// Lets the dyno answer, and returns what the client got.
    async fn finish(self: Box<Self>) -> Seen;
}

/// An ingress, its pools and the world around them.
#[async_trait]
pub trait IngressBench: Send + Sync + Sized + 'static {
    /// An ingress without routes.
    async fn start() -> Self;
    /// The driver.
    fn ingress(&self) -> Arc<dyn Ingress>;
    /// The pools behind it.
    fn pools(&self) -> Arc<dyn Pools>;
    /// Another driver of the same world takes over, as after the server was killed.
    async fn restart(&self);
    /// A dyno that answers requests, as a member that is up.
    async fn dyno(&self, name: &str) -> Member;
    /// Sends a request for this `Host` and returns what came.
    async fn ask(&self, host: &str) -> Seen;
    /// The same as a client with these cookies, which keeps what it is told.
    async fn visit(&self, host: &str, cookies: &mut Option<String>) -> Seen;
    /// Sends a request that its dyno holds on to; returns when the dyno has it.
    async fn hold(&self, host: &str) -> Box<dyn Held>;
    /// Whether a closing dot in `Host` is nothing: AWS's balancers match what was sent.
    fn strips_a_closing_dot(&self) -> bool {
        true
    }
    /// Hosts that no app can have here.
    fn impossible(&self) -> Vec<HostName> {
        Vec::new()
    }
    /// Removes what the promises left.
    async fn finish(&self);
}

/// Every promise of an ingress, as tests for one bench.
#[macro_export]
macro_rules! ingress_contract {
    ($bench:ty) => {
        $crate::contract_tests!(
            ingress,
            IngressBench,
            $bench,
            [
                placing_twice_gives_the_same_pool,
                a_published_host_is_served,
                a_host_that_left_the_route_is_gone,
                publishing_twice_changes_nothing,
                maintenance_comes_and_goes,
                an_app_without_a_release_is_blank,
                an_app_without_web_says_so,
                an_older_generation_is_superseded,
                the_generation_is_remembered_beyond_removal_and_restart,
                wildcards_match_below_and_the_most_specific_wins,
                a_host_is_one_in_every_spelling,
                a_host_belongs_to_who_claimed_it_last,
                removing_twice_leaves_nothing,
                every_app_with_a_route_or_a_pool_is_listed,
                routes_survive_a_restart_of_the_server,
                a_client_keeps_its_dyno_where_the_app_wishes_so,
                a_pool_that_is_not_the_apps_is_refused,
                a_look_at_hosts_promises_and_changes_nothing,
                a_host_that_nobody_can_have_is_refused_by_both,
                no_route_is_touched_in_a_transaction,
            ]
        );
    };
}

fn host(text: &str) -> HostName {
    text.parse().expect("a host name")
}

fn served(name: &str) -> Seen {
    Seen::Served(name.parse().expect("a dyno name"))
}

fn route(app: &AppId, generation: i64, hosts: &[&str], attachment: &Attachment) -> Route {
    Route {
        app: app.clone(),
        app_name: "example-app".parse().expect("a name"),
        generation: Generation(generation),
        hosts: hosts.iter().map(|h| host(h)).collect(),
        attachment: Some(attachment.clone()),
        released: true,
        maintenance: false,
        session_affinity: false,
    }
}

/// An app with one dyno, `web.<slot>`, not published yet.
async fn app_with_dyno(bench: &impl IngressBench, slot: u32) -> (AppId, Attachment) {
    let app = AppId::new();
    let pool = bench.ingress().place(&app, &ProcessType::web()).await.expect("placed");
    let dyno = bench.dyno(&format!("web.{slot}")).await;
    bench.pools().set(&pool, 1, &[dyno]).await.expect("set");
    (app, pool)
}

/// An app that serves `host` with one dyno.
async fn serving(bench: &impl IngressBench, slot: u32, host: &str) -> (AppId, Attachment) {
    let (app, pool) = app_with_dyno(bench, slot).await;
    bench.ingress().publish(&route(&app, 1, &[host], &pool)).await.expect("published");
    (app, pool)
}

/// A pool is the same whenever it is placed; no two process types share one.
pub async fn placing_twice_gives_the_same_pool<B: IngressBench>(bench: &B) {
    let (app, web) = (AppId::new(), ProcessType::web());
    let first = bench.ingress().place(&app, &web).await.expect("placed");
    assert_eq!(bench.ingress().place(&app, &web).await.expect("placed"), first);
    bench.restart().await;
    assert_eq!(bench.ingress().place(&app, &web).await.expect("placed"), first);
    let api: ProcessType = "api".parse().expect("a process type");
    assert_ne!(bench.ingress().place(&app, &api).await.expect("placed"), first);
    assert_ne!(bench.ingress().place(&AppId::new(), &web).await.expect("placed"), first);
}

/// When `publish` returns, the next request is served.
pub async fn a_published_host_is_served<B: IngressBench>(bench: &B) {
    assert_eq!(bench.ask("a.example.com").await, Seen::NoSuchApp);
    serving(bench, 1, "a.example.com").await;
    assert_eq!(bench.ask("a.example.com").await, served("web.1"));
    assert_eq!(bench.ask("b.example.com").await, Seen::NoSuchApp);
}

/// A route is the whole truth about its app's hosts.
pub async fn a_host_that_left_the_route_is_gone<B: IngressBench>(bench: &B) {
    let (app, pool) = serving(bench, 1, "a.example.com").await;
    bench.ingress().publish(&route(&app, 2, &["b.example.com"], &pool)).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, Seen::NoSuchApp);
    assert_eq!(bench.ask("b.example.com").await, served("web.1"));
    bench.ingress().publish(&route(&app, 3, &[], &pool)).await.expect("published");
    assert_eq!(bench.ask("b.example.com").await, Seen::NoSuchApp);
}

/// Publishing what is published already succeeds.
pub async fn publishing_twice_changes_nothing<B: IngressBench>(bench: &B) {
    let (app, pool) = serving(bench, 1, "a.example.com").await;
    for _ in 0..2 {
        bench.ingress().publish(&route(&app, 1, &["a.example.com"], &pool)).await.expect("published");
    }
    assert_eq!(bench.ask("a.example.com").await, served("web.1"));
}

/// Maintenance answers for the app, and ends.
pub async fn maintenance_comes_and_goes<B: IngressBench>(bench: &B) {
    let (app, pool) = serving(bench, 1, "a.example.com").await;
    let on = Route { maintenance: true, ..route(&app, 2, &["a.example.com"], &pool) };
    bench.ingress().publish(&on).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, Seen::Maintenance);
    bench.ingress().publish(&route(&app, 3, &["a.example.com"], &pool)).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, served("web.1"));
}

/// H81 until something is released.
pub async fn an_app_without_a_release_is_blank<B: IngressBench>(bench: &B) {
    let (app, pool) = app_with_dyno(bench, 1).await;
    let blank = Route { released: false, attachment: None, ..route(&app, 1, &["a.example.com"], &pool) };
    bench.ingress().publish(&blank).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, Seen::Blank);
}

/// H14 when there is no web process type.
pub async fn an_app_without_web_says_so<B: IngressBench>(bench: &B) {
    let (app, pool) = app_with_dyno(bench, 1).await;
    let workers_only = Route { attachment: None, ..route(&app, 1, &["a.example.com"], &pool) };
    bench.ingress().publish(&workers_only).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, Seen::NoWebDynos);
}

/// Whoever is out of date is told so, and changes nothing.
pub async fn an_older_generation_is_superseded<B: IngressBench>(bench: &B) {
    let (app, pool) = app_with_dyno(bench, 1).await;
    bench.ingress().publish(&route(&app, 7, &["new.example.com"], &pool)).await.expect("published");
    let stale = bench.ingress().publish(&route(&app, 6, &["old.example.com"], &pool)).await;
    assert!(matches!(stale, Err(PortError::Superseded)), "{stale:?}");
    assert_eq!(bench.ask("old.example.com").await, Seen::NoSuchApp);
    assert_eq!(bench.ask("new.example.com").await, served("web.1"));
    bench.ingress().publish(&route(&app, 7, &["same.example.com"], &pool)).await.expect("the same generation is good");
}

/// A delayed writer cannot bring back what was removed.
pub async fn the_generation_is_remembered_beyond_removal_and_restart<B: IngressBench>(bench: &B) {
    let (app, pool) = app_with_dyno(bench, 1).await;
    bench.ingress().publish(&route(&app, 7, &["a.example.com"], &pool)).await.expect("published");
    bench.restart().await;
    let stale = Route { attachment: None, ..route(&app, 6, &["a.example.com"], &pool) };
    assert!(matches!(bench.ingress().publish(&stale).await, Err(PortError::Superseded)));
    bench.ingress().remove(&app).await.expect("removed");
    assert!(matches!(bench.ingress().publish(&stale).await, Err(PortError::Superseded)));
    assert_eq!(bench.ask("a.example.com").await, Seen::NoSuchApp);
}

/// `*.x` is every name below `x`, not `x`; a name of its own beats it.
pub async fn wildcards_match_below_and_the_most_specific_wins<B: IngressBench>(bench: &B) {
    serving(bench, 1, "*.example.com").await;
    serving(bench, 2, "*.shop.example.com").await;
    serving(bench, 3, "one.shop.example.com").await;
    assert_eq!(bench.ask("a.example.com").await, served("web.1"));
    assert_eq!(bench.ask("shop.example.com").await, served("web.1"));
    assert_eq!(bench.ask("two.shop.example.com").await, served("web.2"));
    assert_eq!(bench.ask("a.b.shop.example.com").await, served("web.2"));
    assert_eq!(bench.ask("one.shop.example.com").await, served("web.3"));
    assert_eq!(bench.ask("example.com").await, Seen::NoSuchApp);
}

/// Case, port and a closing dot do not matter (the dot, where the bench says so).
pub async fn a_host_is_one_in_every_spelling<B: IngressBench>(bench: &B) {
    serving(bench, 1, "a.example.com").await;
    for spelling in ["A.Example.COM", "a.example.com:443", "a.example.com:99999", "a.example.com.", "A.example.com.:80"]
    {
        let dotted = spelling.ends_with('.') || spelling.contains(".:");
        if dotted && !bench.strips_a_closing_dot() {
            continue;
        }
        assert_eq!(bench.ask(spelling).await, served("web.1"), "{spelling}");
    }
}

/// A host that moved stays moved, whatever its old owner repeats.
pub async fn a_host_belongs_to_who_claimed_it_last<B: IngressBench>(bench: &B) {
    let (first, first_pool) = serving(bench, 1, "a.example.com").await;
    let (second, second_pool) = serving(bench, 2, "a.example.com").await;
    assert_eq!(bench.ask("a.example.com").await, served("web.2"));
    bench.ingress().publish(&route(&first, 1, &["a.example.com"], &first_pool)).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, served("web.2"));
    bench.ingress().publish(&route(&first, 2, &[], &first_pool)).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, served("web.2"));
    bench.ingress().publish(&route(&first, 3, &["a.example.com"], &first_pool)).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, served("web.1"));
    bench.ingress().publish(&route(&second, 2, &["b.example.com"], &second_pool)).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, served("web.1"));
}

/// After `remove` there is no host, no pool and no app, and removing again succeeds.
pub async fn removing_twice_leaves_nothing<B: IngressBench>(bench: &B) {
    let (app, pool) = serving(bench, 1, "a.example.com").await;
    serving(bench, 2, "b.example.com").await;
    for _ in 0..2 {
        bench.ingress().remove(&app).await.expect("removed");
        assert_eq!(bench.ask("a.example.com").await, Seen::NoSuchApp);
    }
    assert!(!bench.ingress().apps().await.expect("listed").contains(&app));
    assert!(matches!(bench.pools().set(&pool, 1, &[]).await, Err(PortError::NotFound(_))));
    assert_eq!(bench.ask("b.example.com").await, served("web.2"));
    bench.ingress().remove(&AppId::new()).await.expect("removing what never was succeeds");
}

/// `apps` names everything that a collection would have to look at.
pub async fn every_app_with_a_route_or_a_pool_is_listed<B: IngressBench>(bench: &B) {
    assert_eq!(bench.ingress().apps().await.expect("listed"), Vec::new());
    let (routed, _) = serving(bench, 1, "a.example.com").await;
    let placed = AppId::new();
    bench.ingress().place(&placed, &ProcessType::web()).await.expect("placed");
    let mut expected = vec![routed, placed];
    expected.sort();
    assert_eq!(bench.ingress().apps().await.expect("listed"), expected);
}

/// The world outside does not notice that the server was killed.
pub async fn routes_survive_a_restart_of_the_server<B: IngressBench>(bench: &B) {
    let (app, pool) = serving(bench, 1, "a.example.com").await;
    bench.restart().await;
    assert_eq!(bench.ask("a.example.com").await, served("web.1"));
    bench.ingress().publish(&route(&app, 2, &["b.example.com"], &pool)).await.expect("published");
    assert_eq!(bench.ask("a.example.com").await, Seen::NoSuchApp);
    assert_eq!(bench.ask("b.example.com").await, served("web.1"));
}

/// Session affinity: by a cookie, from when it is published until it is published no more.
pub async fn a_client_keeps_its_dyno_where_the_app_wishes_so<B: IngressBench>(bench: &B) {
    let (app, pool) = serving(bench, 9, "a.example.com").await;
    let members = [bench.dyno("web.1").await, bench.dyno("web.2").await, bench.dyno("web.3").await];
    bench.pools().set(&pool, 3, &members).await.expect("set");
    let mut cookies = None;
    bench.visit("a.example.com", &mut cookies).await;
    assert_eq!(cookies, None, "nobody wished for it");
    let sticky = Route { session_affinity: true, ..route(&app, 2, &["a.example.com"], &pool) };
    bench.ingress().publish(&sticky).await.expect("published");
    let first = bench.visit("a.example.com", &mut cookies).await;
    assert!(matches!(first, Seen::Served(_)) && cookies.is_some(), "{first:?} {cookies:?}");
    for _ in 0..12 {
        assert_eq!(bench.visit("a.example.com", &mut cookies).await, first);
    }
    bench.restart().await;
    bench.ingress().publish(&sticky).await.expect("published");
    assert_eq!(bench.visit("a.example.com", &mut cookies).await, first);
    bench.ingress().publish(&route(&app, 3, &["a.example.com"], &pool)).await.expect("published");
    let mut fresh = None;
    assert!(matches!(bench.visit("a.example.com", &mut fresh).await, Seen::Served(_)));
    assert_eq!(fresh, None, "nobody wishes for it any more");
}

/// An app's hosts lead to its own dynos only.
pub async fn a_pool_that_is_not_the_apps_is_refused<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 1, "a.example.com").await;
    let thief = AppId::new();
    let stolen = bench.ingress().publish(&route(&thief, 1, &["b.example.com"], &pool)).await;
    assert!(matches!(stolen, Err(PortError::Permanent { .. })), "{stolen:?}");
    let nowhere = Attachment(format!("{thief}/web"));
    let nowhere = bench.ingress().publish(&route(&thief, 1, &["b.example.com"], &nowhere)).await;
    assert!(matches!(nowhere, Err(PortError::NotFound(_))), "{nowhere:?}");
    assert_eq!(bench.ask("b.example.com").await, Seen::NoSuchApp);
}

/// Asking whether an app could have a host gives it to nobody, whoever has it.
pub async fn a_look_at_hosts_promises_and_changes_nothing<B: IngressBench>(bench: &B) {
    serving(bench, 1, "a.example.com").await;
    let listed = bench.ingress().apps().await.expect("listed");
    let hosts = ["a.example.com", "b.example.com", "*.example.com", "xn--bcher-kva.example.com"].map(host);
    for _ in 0..2 {
        bench.ingress().check_hosts(&AppId::new(), &hosts).await.expect("it could have them");
    }
    assert_eq!(bench.ingress().apps().await.expect("listed"), listed);
    assert_eq!(bench.ask("b.example.com").await, Seen::NoSuchApp);
    assert_eq!(bench.ask("a.example.com").await, served("web.1"));
}

/// What cannot be routed is known before it is promised, and whoever publishes it all the same loses nothing.
pub async fn a_host_that_nobody_can_have_is_refused_by_both<B: IngressBench>(bench: &B) {
    let (app, pool) = serving(bench, 1, "a.example.com").await;
    for impossible in bench.impossible() {
        let hosts = [host("a.example.com"), impossible];
        for refused in [
            bench.ingress().check_hosts(&app, &hosts).await,
            bench.ingress().publish(&Route { hosts: hosts.to_vec(), ..route(&app, 2, &[], &pool) }).await,
        ] {
            let Err(PortError::Permanent { cause, .. }) = &refused else { panic!("{hosts:?}: {refused:?}") };
            assert!(cause.contains(hosts[1].as_str()), "{cause}");
        }
        assert_eq!(bench.ask("a.example.com").await, served("web.1"));
    }
    bench.ingress().publish(&route(&app, 2, &["a.example.com", "b.example.com"], &pool)).await.expect("published");
    assert_eq!(bench.ask("b.example.com").await, served("web.1"));
}

/// Every call asserts that no transaction is open.
pub async fn no_route_is_touched_in_a_transaction<B: IngressBench>(bench: &B) {
    let (ingress, pools) = (bench.ingress(), bench.pools());
    let (app, web) = (AppId::new(), ProcessType::web());
    let pool = ingress.place(&app, &web).await.expect("placed");
    let published = route(&app, 1, &["a.example.com"], &pool);
    refused({
        let (ingress, app) = (ingress.clone(), app.clone());
        async move { drop(ingress.place(&app, &web).await) }
    })
    .await;
    refused({
        let (ingress, app) = (ingress.clone(), app.clone());
        async move { drop(ingress.check_hosts(&app, &[]).await) }
    })
    .await;
    refused({
        let ingress = ingress.clone();
        async move { drop(ingress.publish(&published).await) }
    })
    .await;
    refused({
        let ingress = ingress.clone();
        async move { drop(ingress.apps().await) }
    })
    .await;
    refused(async move { drop(ingress.remove(&app).await) }).await;
    refused({
        let (pools, pool) = (pools.clone(), pool.clone());
        async move { drop(pools.set(&pool, 1, &[]).await) }
    })
    .await;
    refused(async move { drop(pools.in_flight(&pool, &paas_domain::DynoId::new()).await) }).await;
}

async fn refused(call: impl Future<Output = ()> + Send + 'static) {
    let inside = tokio::spawn(outside::task(async move {
        let _open = outside::enter();
        call.await;
    }));
    assert!(inside.await.is_err_and(|e| e.is_panic()), "a call inside a transaction went through");
}
