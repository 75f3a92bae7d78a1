//! What is never broken, whatever is published, moved and removed in whatever order.

use paas_domain::Generation;
use paas_ports::Attachment;
use proptest::prelude::*;

use super::*;
use crate::alb::book::{Published, Shard};

fn terms(quotas: Quotas) -> Terms {
    Terms { quotas, app_domain: "apps.test".to_owned() }
}

fn host(text: &str) -> HostName {
    text.parse().expect("a host name")
}

/// Does what the driver does: makes the shard that is needed, and tries again.
fn with_shards<T>(book: &mut Book, mut decide: impl FnMut(&mut Book) -> Result<T, Refusal>) -> Result<T, PortError> {
    loop {
        let mut next = book.clone();
        match decide(&mut next) {
            Ok(done) => {
                *book = next;
                return Ok(done);
            }
            Err(Refusal::Port(error)) => return Err(error),
            Err(Refusal::NeedsShard(number)) => {
                let text = Some(format!("lb-{number}"));
                let shard = Shard { load_balancer: text.clone(), listener: text, ..Shard::default() };
                assert_eq!(book.shards.insert(number, shard), None, "a shard is made once");
            }
        }
    }
}

fn placed(book: &mut Book, app: &AppId, terms: &Terms) -> Result<Attachment, PortError> {
    let web = ProcessType::web();
    with_shards(book, |book| book.place(app, &web, terms))?;
    let arn = format!("group-{app}");
    book.groups.insert((app.clone(), web), Group { arn: Some(arn.clone()) });
    Ok(Attachment(arn))
}

fn route(app: &AppId, generation: i64, hosts: &[HostName], attachment: Option<Attachment>) -> Route {
    Route {
        app: app.clone(),
        app_name: "example".parse().expect("a name"),
        generation: Generation(generation),
        hosts: hosts.to_vec(),
        attachment,
        released: true,
        maintenance: false,
    }
}

/// What AWS would have been told, so that an app counts as being on its shard.
fn tell(book: &mut Book, app: &AppId) {
    for key in book.rules_of(app) {
        let rule = book.rules[&key].clone();
        match book.content(&rule) {
            None => drop(book.rules.remove(&key)),
            Some(content) => {
                let rule = book.rules.get_mut(&key).expect("there");
                (rule.arn, rule.told) = (Some("arn".to_owned()), Some(content.digest()));
            }
        }
    }
    let idle = book.parked_needlessly(app);
    book.unpark(&idle);
    book.rules.retain(|_, rule| rule.of != Owner::Parking || !rule.groups.is_empty());
}

fn check(book: &Book, quotas: Quotas) {
    for number in book.shards.keys() {
        assert!(book.rules_on(*number) <= quotas.rules, "too many rules on {number}");
        assert!(book.apps_on(*number) <= quotas.groups, "too many groups on {number}");
        assert!(book.certificates_on(*number) <= quotas.certificates, "too many certificates on {number}");
    }
    for (key, rule) in &book.rules {
        assert!(rule.hosts.len() <= HOSTS_PER_RULE && rule.groups.len() <= GROUPS_PER_RULE);
        assert!((1..=50_000).contains(&key.1), "{key:?}");
        match &rule.of {
            Owner::App(app) => {
                assert_eq!(book.shard_of(app), Some(key.0), "a rule on a shard that is not its app's");
                for host in &rule.hosts {
                    assert_eq!(book.owner(host), Some(app), "{host} leads to an app that has it not");
                    assert!(band(host).contains(&key.1), "{host} at {}", key.1);
                }
            }
            Owner::Parking => assert!(PARKING.contains(&key.1)),
            Owner::Foreign => {}
        }
    }
    for (app, Published { shard, answer, removed, .. }) in &book.routes {
        if *removed || shard.is_none() {
            continue;
        }
        let hosts = book.hosts_of(app);
        for host in &hosts {
            let rules = book.rules.values().filter(|rule| rule.hosts.contains(host)).count();
            assert_eq!(rules, 1, "{host} has {rules} rules");
        }
        for group in book.groups_of(app) {
            let parked = book.rules.iter().filter(|(_, rule)| rule.groups.contains(group)).collect::<Vec<_>>();
            let named = *answer == Answer::Forward(group.clone()) && !hosts.is_empty();
            assert_eq!(parked.len(), usize::from(!named), "{group}: {answer:?} {hosts:?}");
            assert!(parked.iter().all(|(key, _)| Some(key.0) == *shard));
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Publish { app: usize, hosts: Vec<usize>, maintenance: bool, blank: bool },
    Remove { app: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let publish = (0..8_usize, proptest::collection::vec(0..30_usize, 0..12), any::<bool>(), any::<bool>());
    prop_oneof![
        6 => publish.prop_map(|(app, hosts, maintenance, blank)| Act::Publish { app, hosts, maintenance, blank }),
        1 => (0..8_usize).prop_map(|app| Act::Remove { app }),
    ]
}

fn some_host(number: usize) -> HostName {
    match number % 5 {
        0 => host(&format!("*.h{number}.example.com")),
        1 => host(&format!("h{number}.apps.test")),
        2 => host(&format!("*.a.h{number}.example.com")),
        _ => host(&format!("h{number}.example.com")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_ever_misplaced(acts in proptest::collection::vec(act(), 1..40)) {
        let quotas = Quotas { groups: 5, rules: 14, certificates: 5 };
        let terms = terms(quotas);
        let apps: Vec<AppId> = (0..8).map(|_| AppId::new()).collect();
        let mut book = Book::default();
        for (generation, act) in acts.into_iter().enumerate() {
            let before = book.clone();
            match act {
                Act::Publish { app, hosts, maintenance, blank } => {
                    let app = &apps[app];
                    let Ok(attachment) = placed(&mut book, app, &terms) else { continue };
                    let mut hosts: Vec<HostName> = hosts.into_iter().map(some_host).collect();
                    hosts.sort();
                    hosts.dedup();
                    let generation = i64::try_from(generation).expect("small");
                    let wanted = Route {
                        maintenance,
                        ..route(app, generation, &hosts, (!blank).then_some(attachment))
                    };
                    let kept = book.clone();
                    match with_shards(&mut book, |book| book.publish(&wanted, &terms)) {
                        Ok(affected) => affected.iter().for_each(|app| tell(&mut book, app)),
                        Err(PortError::Permanent { cause, .. }) => {
                            prop_assert!(cause.contains("domains:remove"), "{cause}");
                            let shards = book.shards.clone();
                            prop_assert_eq!(&Book { shards, ..kept }, &book, "a refusal changes nothing");
                            // A group that was placed is not parked before its first publishing.
                            book = before;
                        }
                        Err(other) => prop_assert!(false, "{other}"),
                    }
                }
                Act::Remove { app } => {
                    let heirs = book.remove(&apps[app], &terms);
                    tell(&mut book, &apps[app]);
                    heirs.iter().for_each(|heir| tell(&mut book, heir));
                    book.groups.retain(|(of, _), _| *of != apps[app]);
                    book.certificates.retain(|(of, _), _| *of != apps[app]);
                    if let Some(route) = book.routes.get_mut(&apps[app]) {
                        route.shard = None;
                    }
                }
            }
            check(&book, quotas);
        }
    }
}

#[test]
fn the_second_balancer_comes_at_four_fifths() {
    let (mut book, terms) = (Book::default(), terms(Quotas::default()));
    let mut shards = Vec::new();
    for number in 0..130 {
        let app = AppId::new();
        let group = placed(&mut book, &app, &terms).expect("placed");
        let wanted = route(&app, 1, &[host(&format!("app-{number}.apps.test"))], Some(group));
        with_shards(&mut book, |book| book.publish(&wanted, &terms)).expect("published");
        tell(&mut book, &app);
        shards.push(book.shard_of(&app).expect("a shard"));
    }
    assert_eq!(shards[..80], [1; 80]);
    assert_eq!(shards[80..], [2; 50]);
    check(&book, Quotas::default());
}

#[test]
fn certificates_fill_a_balancer_too() {
    let (mut book, terms) = (Book::default(), terms(Quotas::default()));
    for number in 0..21 {
        let app = AppId::new();
        let wanted = route(&app, 1, &[host(&format!("www.shop-{number}.example"))], None);
        with_shards(&mut book, |book| book.publish(&wanted, &terms)).expect("published");
        assert_eq!(book.shard_of(&app), Some(if number < 20 { 1 } else { 2 }));
    }
}

#[test]
fn what_cannot_be_placed_says_what_to_do() {
    let (mut book, terms) = (Book::default(), terms(Quotas::default()));
    let hosts: Vec<HostName> = (0..401).map(|n| host(&format!("h{n}.apps.test"))).collect();
    let app = AppId::new();
    let refused = with_shards(&mut book, |book| book.publish(&route(&app, 1, &hosts, None), &terms));
    let Err(PortError::Permanent { cause, .. }) = refused else { panic!("{refused:?}") };
    assert!(cause.contains("need 81 listener rules") && cause.contains("paas domains:remove"), "{cause}");
    let long = host(&format!("{0}.{0}.{0}.apps.test", "a".repeat(50)));
    let refused =
        with_shards(&mut book, |book| book.publish(&route(&app, 1, std::slice::from_ref(&long), None), &terms));
    assert!(matches!(refused, Err(PortError::Permanent { .. })), "{refused:?}");
    assert!(book.routes.is_empty() && book.rules.is_empty());
}

#[test]
fn an_app_grows_beyond_four_fifths_and_not_beyond_the_whole() {
    let quotas = Quotas::default();
    let (mut book, terms) = (Book::default(), terms(quotas));
    let app = AppId::new();
    let hosts: Vec<HostName> = (0..500).map(|n| host(&format!("h{n}.apps.test"))).collect();
    for (generation, (count, fits)) in [(400, true), (480, true), (481, false)].into_iter().enumerate() {
        let wanted = route(&app, i64::try_from(generation).expect("small"), &hosts[..count], None);
        let published = with_shards(&mut book, |book| book.publish(&wanted, &terms));
        assert_eq!(published.is_ok(), fits, "{count}: {published:?}");
        tell(&mut book, &app);
    }
    assert_eq!((book.shards.len(), book.rules_on(1)), (1, 96));
}

#[test]
fn wildcards_come_behind_exact_hosts_and_long_ones_first() {
    let (exact, long, short) = (host("a.b.c.example.com"), host("*.shop.example.com"), host("*.example.com"));
    assert!(band(&exact).end() < band(&long).start() && band(&long).end() < band(&short).start());
    assert!(band(&host("*.b.c")).end() < PARKING.start());
}
