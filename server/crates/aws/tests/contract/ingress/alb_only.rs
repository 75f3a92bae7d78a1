//! What is AWS's own: a second balancer, drift, what is not ours, records, certificates, parked groups.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, FixedResponseActionConfig, HostHeaderConditionConfig, ProtocolEnum, Rule, RuleCondition,
    Tag, TargetTypeEnum,
};
use aws_sdk_route53::types::{ResourceRecord, ResourceRecordSet, RrType};
use paas_aws::alb::{Certificate, CertificateState, Quotas};
use paas_aws::ledger::{Key, Ledger as _};
use paas_aws::{AlbIngress, Aws, AwsOptions, MemoryLedger};
use paas_domain::{AppId, Generation, HostName, ProcessType};
use paas_ports::{Attachment, Ingress as _, PortError, Route};

use super::world::{World, ask_patiently, ask_tls, dyno, front_door_looks};
use crate::support;

/// Runs a test in a world of its own, which is cleared away also when the test fails.
async fn in_world<F: Future<Output = ()> + Send + 'static>(test: impl FnOnce(Arc<World>) -> F) {
    let world = Arc::new(World::start().await);
    let result = tokio::spawn(test(world.clone())).await;
    world.finish().await;
    if let Err(broken) = result {
        std::panic::resume_unwind(broken.into_panic());
    }
}

fn route(app: &AppId, generation: i64, hosts: &[String], attachment: Option<&Attachment>) -> Route {
    Route {
        app: app.clone(),
        app_name: "example-app".parse().expect("a name"),
        generation: Generation(generation),
        hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
        attachment: attachment.cloned(),
        released: true,
        maintenance: false,
        session_affinity: false,
    }
}

/// A driver whose every call would fail.
async fn offline(world: &World) -> AlbIngress {
    let options = AwsOptions {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        tries: 1,
        try_timeout: Duration::from_secs(1),
        ..support::options()
    };
    let aws = Aws::new(options, world.aws.foundation.clone(), world.aws.install.clone()).await;
    AlbIngress::new(aws, world.ledger.clone())
}

/// An app with one dyno and one host of its own below the platform's domain.
async fn serving(driver: &AlbIngress, world: &World, name: &str) -> (AppId, Attachment, String) {
    let app = AppId::new();
    let host = format!("{name}.{}", world.aws.foundation.app_domain);
    let pool = driver.place(&app, &ProcessType::web()).await.expect("placed");
    world.register(&pool.0, &[dyno(name).await]).await;
    driver.publish(&route(&app, 1, std::slice::from_ref(&host), Some(&pool))).await.expect("published");
    (app, pool, host)
}

async fn assert_served(host: &str, by: &str) {
    let reply = ask_patiently(host).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, by), "{host}");
}

fn names_group(rule: &Rule, group: &str) -> bool {
    format!("{:?}", rule.actions()).contains(group)
}

fn names_host(rule: &Rule, host: &str) -> bool {
    format!("{:?}", rule.conditions()).contains(host)
}

/// A rule as somebody else makes it by hand.
async fn foreign_rule(world: &World, priority: i32, host: &str, ours: bool) -> String {
    let hosts = HostHeaderConditionConfig::builder().values(host).build();
    let condition = RuleCondition::builder().field("host-header").host_header_config(hosts).build();
    let page = FixedResponseActionConfig::builder().status_code("418").content_type("text/plain").message_body("tea");
    let action = Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(page.build()).build();
    let create = world.aws.elb.create_rule().listener_arn(&world.aws.foundation.https_listener_arn).priority(priority);
    let install = if ours { world.aws.install.as_str() } else { "other1" };
    let tag = Tag::builder().key("paas:install").value(install).build();
    let made = create.conditions(condition).actions(action).tags(tag).send().await.expect("a rule");
    made.rules()[0].rule_arn().expect("an ARN").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_balancer_appears_by_itself() {
    in_world(|world| async move {
        let mut apps = tokio::task::JoinSet::new();
        // As many servers at once, each with rates of its own: nobody waits for a token, and everybody writes.
        for server in 0..26 {
            let world = world.clone();
            apps.spawn(async move {
                let driver = world.another().await;
                let mut served = Vec::new();
                for number in 0..5 {
                    let name = format!("app-{}", server * 5 + number);
                    let (app, pool, host) = serving(&driver, &world, &name).await;
                    served.push((name, app, pool, host));
                }
                served
            });
        }
        let served: Vec<_> = apps.join_all().await.into_iter().flatten().collect();
        assert_eq!(served.len(), 130);
        assert_eq!(world.balancers().await.len(), 2, "80 apps on the first, 50 on the second");
        front_door_looks().await;
        for (name, _, _, host) in &served {
            assert_served(host, name).await;
        }
        // What is published already costs no call, also from another server and of a newer generation.
        let offline = offline(&world).await;
        for (_, app, pool, host) in served.iter().take(10) {
            for generation in [1, 2] {
                let same = route(app, generation, std::slice::from_ref(host), Some(pool));
                offline.publish(&same).await.expect("nothing to do");
            }
            assert_eq!(offline.place(app, &ProcessType::web()).await.expect("placed"), *pool);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_repaired_and_what_is_not_ours_is_left() {
    in_world(|world| async move {
        let driver = world.another().await;
        let listener = world.aws.foundation.https_listener_arn.clone();
        let elb = &world.aws.elb;
        // Somebody else is here before us, and has the first priority.
        let foreign = foreign_rule(&world, 1, "tea.example.org", false).await;
        let mut served = Vec::new();
        for name in ["one", "two", "three"] {
            served.push(serving(&driver, &world, name).await);
        }
        let before = world.rules(&listener).await;
        assert_eq!(before.len(), 4);
        let rule_of = |host: &str| {
            let rule = before.iter().find(|rule| names_host(rule, host)).expect("a rule");
            rule.rule_arn().expect("an ARN").to_owned()
        };
        // A rule is gone; one leads to another app; one is nobody's; a record is gone.
        elb.delete_rule().rule_arn(rule_of(&served[0].2)).send().await.expect("gone");
        let stolen = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(&served[2].1.0).build();
        elb.modify_rule().rule_arn(rule_of(&served[1].2)).actions(stolen).send().await.expect("changed");
        let orphan = foreign_rule(&world, 777, "orphan.example.org", true).await;
        let zone = &world.aws.foundation.hosted_zone_id;
        let records = world.aws.route53.list_resource_record_sets().hosted_zone_id(zone).send().await.expect("records");
        let record =
            records.resource_record_sets().iter().find(|set| set.name().starts_with("three.")).expect("a record");
        world.change_record(aws_sdk_route53::types::ChangeAction::Delete, record.clone()).await;

        let found = driver.repair().await.expect("repaired");
        assert_eq!((found.changed, found.orphans, found.unplaced.len()), (3, 1, 0));
        let after = world.rules(&listener).await;
        assert_eq!(after.len(), 4);
        assert!(after.iter().any(|rule| rule.rule_arn() == Some(&foreign)), "what is not ours is not touched");
        assert!(after.iter().all(|rule| rule.rule_arn() != Some(&orphan)));
        front_door_looks().await;
        for (at, name) in ["one", "two", "three"].into_iter().enumerate() {
            assert_served(&served[at].2, name).await;
        }
        assert_eq!(driver.repair().await.expect("looked"), paas_aws::alb::Repaired::default(), "nothing is left");

        // A group is gone with its rule: the app is placed again.
        let (app, pool, host) = &served[0];
        let rule = after.iter().find(|rule| names_host(rule, host)).and_then(Rule::rule_arn).expect("a rule");
        elb.delete_rule().rule_arn(rule).send().await.expect("gone");
        elb.delete_target_group().target_group_arn(&pool.0).send().await.expect("gone");
        let found = driver.repair().await.expect("looked");
        assert_eq!(found.unplaced, std::slice::from_ref(app));
        let again = driver.place(app, &ProcessType::web()).await.expect("placed");
        assert_ne!(again, *pool);
        world.register(&again.0, &[dyno("one again").await]).await;
        driver.publish(&route(app, 1, std::slice::from_ref(host), Some(&again))).await.expect("published");
        front_door_looks().await;
        assert_served(host, "one again").await;

        for (app, ..) in &served {
            driver.remove(app).await.expect("removed");
        }
        let left = world.rules(&listener).await;
        assert_eq!(left.iter().map(|rule| rule.rule_arn().expect("an ARN")).collect::<Vec<_>>(), [foreign.as_str()]);
        assert_eq!(driver.apps().await.expect("listed"), vec![]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_not_ours_survives_the_app() {
    in_world(|world| async move {
        let driver = world.another().await;
        let domain = &world.aws.foundation.app_domain;
        let named = async |host: &str| {
            let zone = &world.aws.foundation.hosted_zone_id;
            let found = world.aws.route53.list_resource_record_sets().hosted_zone_id(zone).send().await;
            let sets = found.expect("records").resource_record_sets().to_vec();
            sets.into_iter().find(|set| set.name().trim_end_matches('.') == host)
        };
        let theirs = format!("theirs.{domain}");
        let value = ResourceRecord::builder().value("192.0.2.7").build().expect("a value");
        let set = ResourceRecordSet::builder().name(&theirs).r#type(RrType::A).ttl(60).resource_records(value);
        world.record(set.build().expect("a record")).await;
        let before = named(&theirs).await;
        assert!(before.is_some());

        let app = AppId::new();
        let pool = driver.place(&app, &ProcessType::web()).await.expect("placed");
        for generation in [1, 2] {
            let refused = driver.publish(&route(&app, generation, std::slice::from_ref(&theirs), Some(&pool))).await;
            let Err(PortError::Permanent { cause, .. }) = &refused else { panic!("{refused:?}") };
            assert!(cause.contains(&theirs), "{cause}");
            assert_eq!(named(&theirs).await, before);
        }
        driver.repair().await.expect("looked");
        driver.remove(&app).await.expect("removed");
        assert_eq!(named(&theirs).await, before, "it is not ours to change or to delete");

        // One that leads to a balancer of ours is what a server has left that died behind the call.
        let left = format!("left.{domain}");
        world.point(&left).await;
        let (again, _, _) = serving(&driver, &world, "left").await;
        front_door_looks().await;
        assert_served(&left, "left").await;
        driver.remove(&again).await.expect("removed");
        assert_eq!((named(&left).await, named(&theirs).await), (None, before));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_and_a_rule_without_our_tag_are_never_touched() {
    in_world(|world| async move {
        let driver = world.another().await;
        let (elb, listener) = (&world.aws.elb, &world.aws.foundation.https_listener_arn);
        let app = AppId::new();
        // Named as ours would be, and on a rule that has the app's host.
        let name = paas_domain::outside_name(&world.aws.install, &app, "web");
        let made = elb.create_target_group().name(&name).target_type(TargetTypeEnum::Ip).protocol(ProtocolEnum::Http);
        let made = made.port(5000).vpc_id(&world.aws.foundation.vpc_id).send().await.expect("a group");
        let group = made.target_groups()[0].target_group_arn().expect("an ARN").to_owned();
        let host = format!("one.{}", world.aws.foundation.app_domain);
        let hosts = HostHeaderConditionConfig::builder().values(&host).build();
        let condition = RuleCondition::builder().field("host-header").host_header_config(hosts).build();
        let action = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(&group).build();
        let made = elb.create_rule().listener_arn(listener).priority(1).conditions(condition).actions(action);
        let rule = made.send().await.expect("a rule").rules()[0].rule_arn().expect("an ARN").to_owned();

        let refused = driver.place(&app, &ProcessType::web()).await;
        let Err(PortError::Permanent { cause, .. }) = &refused else { panic!("{refused:?}") };
        assert!(cause.contains(&name), "{cause}");
        driver.publish(&route(&app, 1, std::slice::from_ref(&host), None)).await.expect("at another priority");
        driver.repair().await.expect("looked");
        driver.remove(&app).await.expect("removed");
        assert_eq!(driver.apps().await.expect("listed"), vec![]);
        // Nor when no row knows the app.
        let stranger = AlbIngress::new(world.aws.clone(), Arc::new(MemoryLedger::default()));
        assert_eq!(stranger.apps().await.expect("listed"), vec![]);
        stranger.remove(&app).await.expect("nothing to do");
        let left = world.rules(listener).await;
        assert_eq!(left.iter().map(|rule| rule.rule_arn().expect("an ARN")).collect::<Vec<_>>(), [rule.as_str()]);
        assert!(names_group(&left[0], &group) && names_host(&left[0], &host));
        assert!(elb.describe_target_groups().target_group_arns(&group).send().await.is_ok());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_is_asked_every_5_s_and_drains_for_35() {
    in_world(|world| async move {
        let pool = world.another().await.place(&AppId::new(), &ProcessType::web()).await.expect("placed");
        let found = world.aws.elb.describe_target_groups().target_group_arns(&pool.0).send().await.expect("a group");
        let group = &found.target_groups()[0];
        assert_eq!((group.health_check_interval_seconds(), group.health_check_timeout_seconds()), (Some(5), Some(4)));
        assert_eq!((group.healthy_threshold_count(), group.unhealthy_threshold_count()), (Some(2), Some(2)));
        assert_eq!(group.matcher().and_then(|matcher| matcher.http_code()), Some("200-499"));
        let found = world.aws.elb.describe_target_group_attributes().target_group_arn(&pool.0).send().await;
        let found = found.expect("attributes");
        let delay = found.attributes().iter().find(|one| one.key() == Some("deregistration_delay.timeout_seconds"));
        assert_eq!(delay.and_then(|one| one.value()), Some("35"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_without_room_comes_when_another_domain_goes() {
    in_world(|world| async move {
        let quotas = Quotas { certificates: 2, ..Quotas::default() };
        let driver = AlbIngress::with_quotas(world.aws.clone(), world.ledger.clone(), quotas);
        // The apps are there before their domains.
        let mut apps = Vec::new();
        for name in ["one", "two", "three"] {
            let (app, pool, own) = serving(&driver, &world, name).await;
            apps.push((app, pool, [own, format!("www-{name}.{}", world.domain)]));
        }
        let state = async |at: usize| {
            let key = Key::Certificate(apps[at].0.clone(), apps[at].2[1].parse().expect("a host"));
            let body = world.ledger.row(&key).await.expect("a look");
            body.map(|body| Certificate::read(&body).expect("read").state)
        };
        for (app, pool, both) in &apps[..2] {
            driver.publish(&route(app, 2, both, Some(pool))).await.expect("published");
        }
        let (app, pool, both) = &apps[2];
        let hosts: Vec<HostName> = both.iter().map(|host| host.parse().expect("a host")).collect();
        let refused = driver.check_hosts(app, &hosts).await;
        let Err(PortError::Permanent { cause, .. }) = &refused else { panic!("{refused:?}") };
        assert!(cause.contains("the 2 certificates"), "{cause}");
        // Promised at the same moment as another one: it waits, and the route holds all the same.
        driver.publish(&route(app, 2, both, Some(pool))).await.expect("published");
        assert_eq!(state(2).await, Some(CertificateState::NoRoom));
        driver.repair().await.expect("looked");
        assert_eq!(state(2).await, Some(CertificateState::NoRoom), "there is none yet");

        let (app, pool, both) = &apps[0];
        driver.publish(&route(app, 3, &both[..1], Some(pool))).await.expect("published");
        assert_eq!((state(0).await, state(2).await), (None, Some(CertificateState::Pending)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_always_on_its_balancer() {
    in_world(|world| async move {
        let driver = world.another().await;
        let listener = world.aws.foundation.https_listener_arn.clone();
        let (app, pool, host) = serving(&driver, &world, "one").await;
        let hosts = std::slice::from_ref(&host);
        let named = || async { world.rules(&listener).await.iter().filter(|rule| names_group(rule, &pool.0)).count() };
        assert_eq!((named().await, world.rules(&listener).await.len()), (1, 1));
        let maintenance = Route { maintenance: true, ..route(&app, 2, hosts, Some(&pool)) };
        for asleep in [maintenance, route(&app, 3, hosts, None), route(&app, 4, &[], Some(&pool))] {
            driver.publish(&asleep).await.expect("published");
            assert_eq!(named().await, 1, "{asleep:?}");
        }
        driver.publish(&route(&app, 5, hosts, Some(&pool))).await.expect("published");
        assert_eq!((named().await, world.rules(&listener).await.len()), (1, 1), "it serves, and costs one rule");
        front_door_looks().await;
        assert_served(&host, "one").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_others_have_filled_is_left_to_them() {
    in_world(|world| async move {
        for number in 0..100 {
            foreign_rule(&world, 1000 + number, &format!("h{number}.example.org"), false).await;
        }
        let driver = world.another().await;
        let (_, _, host) = serving(&driver, &world, "one").await;
        assert_eq!(world.balancers().await.len(), 2);
        front_door_looks().await;
        assert_served(&host, "one").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_place_is_refused_before_anything_is_made() {
    in_world(|world| async move {
        let driver = world.another().await;
        let app = AppId::new();
        let hosts: Vec<String> = (0..401).map(|n| format!("h{n}.{}", world.aws.foundation.app_domain)).collect();
        let refused = driver.publish(&route(&app, 1, &hosts, None)).await;
        let Err(PortError::Permanent { cause, .. }) = &refused else { panic!("{refused:?}") };
        assert!(cause.contains("paas domains:remove"), "{cause}");
        assert!(world.rules(&world.aws.foundation.https_listener_arn).await.is_empty());
        assert_eq!(driver.apps().await.expect("listed"), vec![]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_custom_domain_gets_its_certificate() {
    in_world(|world| async move {
        let driver = world.another().await;
        let listener = world.aws.foundation.https_listener_arn.clone();
        let host: HostName = format!("www.{}", world.domain).parse().expect("a host");
        let (app, pool, own) = serving(&driver, &world, "one").await;
        let both = [own.clone(), host.to_string()];
        driver.publish(&route(&app, 2, &both, Some(&pool))).await.expect("published");
        let row = || async {
            let key = Key::Certificate(app.clone(), host.clone());
            let body = world.ledger.row(&key).await.expect("a look");
            body.map(|body| Certificate::read(&body).expect("read"))
        };
        let eventually = async |state: CertificateState| {
            for _ in 0..100 {
                let now = row().await.expect("a row");
                if now.state == state && (now.validation.is_some() || state != CertificateState::Pending) {
                    return now;
                }
                driver.look_at_certificates().await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            panic!("it does not become {state:?}: {:?}", row().await);
        };
        let pending = eventually(CertificateState::Pending).await;
        assert!(ask_tls(host.as_str()).await.is_err(), "nobody has a certificate for it yet");
        let record = pending.validation.expect("the record to make");
        assert_eq!(record.kind, "CNAME");
        world.cname(&record.name, &record.value).await;
        let attached = eventually(CertificateState::Attached).await;
        let arn = attached.arn.expect("an ARN");
        // Its owner points it at the balancer, and a browser trusts it.
        world.point(host.as_str()).await;
        front_door_looks().await;
        assert_served(host.as_str(), "one").await;
        assert_eq!(ask_tls(host.as_str()).await.as_deref(), Ok("one"));
        let shown = || async {
            let found = world.aws.elb.describe_listener_certificates().listener_arn(&listener).send().await;
            let found = found.expect("certificates");
            found.certificates().iter().any(|one| one.certificate_arn() == Some(&arn))
        };
        assert!(shown().await);
        // Somebody takes it off the listener: the sweep puts it back.
        let taken = aws_sdk_elasticloadbalancingv2::types::Certificate::builder().certificate_arn(&arn).build();
        let take = world.aws.elb.remove_listener_certificates().listener_arn(&listener).certificates(taken);
        take.send().await.expect("taken");
        assert_eq!(driver.repair().await.expect("repaired").changed, 1);
        assert!(shown().await);
        // It goes with its domain.
        driver.publish(&route(&app, 3, std::slice::from_ref(&own), Some(&pool))).await.expect("published");
        assert!(!shown().await);
        assert_eq!(row().await, None);
        assert!(world.aws.acm.describe_certificate().certificate_arn(&arn).send().await.is_err());
    })
    .await;
}
