//! Which of a pool's members get a request, and what becomes of it where none can.

use std::time::Duration;

use paas_domain::AppId;
use tokio::time::timeout;

use super::{IngressBench, Seen, route, served, serving};
use crate::{Attachment, Member, MemberState, PortError, Route};

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
                a_client_whose_dyno_is_not_up_gets_another_and_keeps_it,
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

fn member(name: &str, state: MemberState) -> Member {
    Member { dyno: paas_domain::DynoId::new(), name: name.parse().expect("a dyno name"), address: None, state }
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

/// A cookie of a dyno that drains, has left or never was is worth nothing; the client is told another one.
pub async fn a_client_whose_dyno_is_not_up_gets_another_and_keeps_it<B: IngressBench>(bench: &B) {
    let (app, pool) = serving(bench, 9, "a.example.com").await;
    let sticky = Route { session_affinity: true, ..route(&app, 2, &["a.example.com"], &pool) };
    bench.ingress().publish(&sticky).await.expect("published");
    let (mut old, new) = (bench.dyno("web.1").await, bench.dyno("web.2").await);
    bench.pools().set(&pool, 1, std::slice::from_ref(&old)).await.expect("set");
    let mut cookies = None;
    assert_eq!(bench.visit("a.example.com", &mut cookies).await, served("web.1"));
    old.state = MemberState::Draining;
    bench.pools().set(&pool, 1, &[old.clone(), new.clone()]).await.expect("set");
    let before = cookies.clone();
    assert_eq!(bench.visit("a.example.com", &mut cookies).await, served("web.2"));
    assert_ne!(cookies, before);
    // The old one comes back: that client has another one by now.
    old.state = MemberState::Up;
    bench.pools().set(&pool, 2, &[old, new]).await.expect("set");
    for _ in 0..12 {
        assert_eq!(bench.visit("a.example.com", &mut cookies).await, served("web.2"));
    }
    let mut strange = before.map(|text| text.replace(|c: char| c.is_ascii_digit(), "x"));
    assert!(matches!(bench.visit("a.example.com", &mut strange).await, Seen::Served(_)));
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
