//! What every [`Ingress`] promises, and every [`Pools`] beside it.
//!
//! `ingress_contract!` is for every ingress; `pools_contract!` for one whose pools a runtime driver fills.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use paas_domain::{AppId, DynoName, Generation, HostName, ProcessType};
use tokio::time::timeout;

use crate::{Attachment, Ingress, Member, MemberState, Pools, PortError, Route, outside};

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
    /// Sends a request that its dyno holds on to; returns when the dyno has it.
    async fn hold(&self, host: &str) -> Box<dyn Held>;
    /// Whether a closing dot in `Host` is nothing: AWS's balancers match what was sent.
    fn strips_a_closing_dot(&self) -> bool {
        true
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
                a_pool_that_is_not_the_apps_is_refused,
                no_route_is_touched_in_a_transaction,
            ]
        );
    };
}

/// Every promise of pools, as tests for one bench.
#[macro_export]
macro_rules! pools_contract {
    ($bench:ty) => {
        $crate::contract_tests!(
            ingress,
            IngressBench,
            $bench,
            [
                only_members_that_are_up_get_requests,
                requests_spread_over_members,
                a_draining_member_finishes_what_it_has,
                a_member_that_left_finishes_what_it_has,
                requests_wait_for_a_starting_member,
                requests_wait_while_no_member_is_known,
                crashed_members_alone_are_a_crashed_app,
                nothing_wanted_is_no_web_dynos,
                pools_never_meet,
                a_pool_that_is_not_there_cannot_be_set,
            ]
        );
    };
}

const SOON: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(10);

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

fn member(name: &str, state: MemberState) -> Member {
    Member { dyno: paas_domain::DynoId::new(), name: name.parse().expect("a dyno name"), address: None, state }
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

/// Starting, draining and crashed members get nothing while another one is up.
pub async fn only_members_that_are_up_get_requests<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 1, "a.example.com").await;
    let (up, mut draining) = (bench.dyno("web.2").await, bench.dyno("web.3").await);
    draining.state = MemberState::Draining;
    let members = [member("web.1", MemberState::Starting), up, draining, member("web.4", MemberState::Crashed)];
    bench.pools().set(&pool, 4, &members).await.expect("set");
    for _ in 0..20 {
        assert_eq!(bench.ask("a.example.com").await, served("web.2"));
    }
}

/// With several members up, each gets some.
pub async fn requests_spread_over_members<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 9, "a.example.com").await;
    let members = [bench.dyno("web.1").await, bench.dyno("web.2").await];
    bench.pools().set(&pool, 2, &members).await.expect("set");
    let first = bench.hold("a.example.com").await;
    let second = bench.hold("a.example.com").await;
    let mut seen = [first.finish().await, second.finish().await];
    seen.sort_by_key(|s| format!("{s:?}"));
    assert_eq!(seen, [served("web.1"), served("web.2")], "two requests at once, two dynos");
}

/// A draining member answers what it has, is counted until then, and gets nothing more.
pub async fn a_draining_member_finishes_what_it_has<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 9, "a.example.com").await;
    let (mut old, new) = (bench.dyno("web.1").await, bench.dyno("web.2").await);
    bench.pools().set(&pool, 1, std::slice::from_ref(&old)).await.expect("set");
    let held = bench.hold("a.example.com").await;
    assert_eq!(bench.pools().in_flight(&pool, &old.dyno).await.expect("counted"), 1);
    old.state = MemberState::Draining;
    bench.pools().set(&pool, 1, &[old.clone(), new.clone()]).await.expect("set");
    for _ in 0..5 {
        assert_eq!(bench.ask("a.example.com").await, served("web.2"));
    }
    assert_eq!(bench.pools().in_flight(&pool, &old.dyno).await.expect("counted"), 1);
    assert_eq!(held.finish().await, served("web.1"));
    none_in_flight(bench, &pool, &old).await;
    bench.pools().set(&pool, 1, &[new]).await.expect("set");
    assert_eq!(bench.ask("a.example.com").await, served("web.2"));
}

/// A member that is taken off the list at once still answers what it has.
pub async fn a_member_that_left_finishes_what_it_has<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 9, "a.example.com").await;
    let (old, new) = (bench.dyno("web.1").await, bench.dyno("web.2").await);
    bench.pools().set(&pool, 1, std::slice::from_ref(&old)).await.expect("set");
    let held = bench.hold("a.example.com").await;
    bench.pools().set(&pool, 1, &[new]).await.expect("set");
    assert_eq!(bench.ask("a.example.com").await, served("web.2"));
    assert_eq!(bench.pools().in_flight(&pool, &old.dyno).await.expect("counted"), 1);
    assert_eq!(held.finish().await, served("web.1"));
    none_in_flight(bench, &pool, &old).await;
}

async fn none_in_flight(bench: &impl IngressBench, pool: &Attachment, member: &Member) {
    let drained = async {
        while bench.pools().in_flight(pool, &member.dyno).await.expect("counted") > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LATE, drained).await.expect("drained soon after the last answer");
}

/// A request that comes while the only dyno starts is served when it is up.
pub async fn requests_wait_for_a_starting_member<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 9, "a.example.com").await;
    let members = [member("web.1", MemberState::Starting), member("web.2", MemberState::Crashed)];
    bench.pools().set(&pool, 2, &members).await.expect("set");
    waits_for_a_dyno(bench, &pool).await;
}

/// So is one that comes before the runtime has said anything.
pub async fn requests_wait_while_no_member_is_known<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 9, "a.example.com").await;
    bench.pools().set(&pool, 1, &[]).await.expect("set");
    waits_for_a_dyno(bench, &pool).await;
}

async fn waits_for_a_dyno(bench: &impl IngressBench, pool: &Attachment) {
    let mut asked = std::pin::pin!(bench.ask("a.example.com"));
    assert!(timeout(SOON, asked.as_mut()).await.is_err(), "answered before a dyno was up");
    let up = bench.dyno("web.1").await;
    bench.pools().set(pool, 1, &[up]).await.expect("set");
    assert_eq!(timeout(LATE, asked).await.expect("answered when it is up"), served("web.1"));
}

/// H10 when every member crashed.
pub async fn crashed_members_alone_are_a_crashed_app<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 9, "a.example.com").await;
    let members = [member("web.1", MemberState::Crashed), member("web.2", MemberState::Crashed)];
    bench.pools().set(&pool, 2, &members).await.expect("set");
    assert_eq!(bench.ask("a.example.com").await, Seen::Crashed);
}

/// H14 when the app is scaled to zero, from the moment it is asked for.
pub async fn nothing_wanted_is_no_web_dynos<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 9, "a.example.com").await;
    bench.pools().set(&pool, 0, &[bench.dyno("web.1").await]).await.expect("set");
    assert_eq!(bench.ask("a.example.com").await, Seen::NoWebDynos);
    bench.pools().set(&pool, 0, &[]).await.expect("set");
    assert_eq!(bench.ask("a.example.com").await, Seen::NoWebDynos);
}

/// One app's dynos never answer for another.
pub async fn pools_never_meet<B: IngressBench>(bench: &B) {
    let (_, pool) = serving(bench, 1, "a.example.com").await;
    serving(bench, 2, "b.example.com").await;
    bench.pools().set(&pool, 1, &[member("web.1", MemberState::Crashed)]).await.expect("set");
    assert_eq!(bench.ask("a.example.com").await, Seen::Crashed);
    assert_eq!(bench.ask("b.example.com").await, served("web.2"));
}

/// A late word of a runtime does not make a pool.
pub async fn a_pool_that_is_not_there_cannot_be_set<B: IngressBench>(bench: &B) {
    let pool = Attachment(format!("{}/web", AppId::new()));
    assert!(matches!(bench.pools().set(&pool, 1, &[]).await, Err(PortError::NotFound(_))));
    assert_eq!(bench.pools().in_flight(&pool, &paas_domain::DynoId::new()).await.expect("counted"), 0);
    assert_eq!(bench.ingress().apps().await.expect("listed"), Vec::new());
}
