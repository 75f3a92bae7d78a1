//! What is never broken, whatever is published, moved and removed in whatever order.

use paas_domain::Generation;
use paas_ports::Attachment;
use proptest::prelude::*;

use super::*;
use crate::alb::book::{CertificateState, Group, Published, Shard};

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
    book.groups.insert((app.clone(), web), Group { arn: Some(arn.clone()), ..Group::default() });
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
        session_affinity: false,
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
    for (generation, (count, fits)) in [(400, true), (420, true), (421, false)].into_iter().enumerate() {
        let wanted = route(&app, i64::try_from(generation).expect("small"), &hosts[..count], None);
        let published = with_shards(&mut book, |book| book.publish(&wanted, &terms));
        assert_eq!(published.is_ok(), fits, "{count}: {published:?}");
        tell(&mut book, &app);
    }
    assert_eq!((book.shards.len(), book.rules_on(1)), (1, 84), "the rest is for parked groups");
}

/// An app with its own host, as it is made, and then pushed.
fn made(book: &mut Book, name: &str, terms: &Terms) -> AppId {
    let app = AppId::new();
    let own = host(&format!("{name}.apps.test"));
    let blank = route(&app, 1, &[own], None);
    with_shards(book, |book| book.publish(&blank, terms)).expect("made");
    tell(book, &app);
    app
}

/// Its next route: as many hosts more, served by its group.
fn grown(book: &mut Book, app: &AppId, more: &[HostName], terms: &Terms) -> Result<(), PortError> {
    let group = placed(book, app, terms)?;
    let mut hosts = book.hosts_of(app);
    hosts.extend(more.iter().cloned());
    let generation = book.routes[app].generation + 1;
    with_shards(book, |book| book.publish(&route(app, generation, &hosts, Some(group.clone())), terms))?;
    tell(book, app);
    Ok(())
}

#[test]
fn every_app_of_a_full_balancer_may_sleep_at_once() {
    let (mut book, terms) = (Book::default(), terms(Quotas::default()));
    let apps: Vec<AppId> = (0..80).map(|number| made(&mut book, &format!("app-{number}"), &terms)).collect();
    for app in &apps {
        grown(&mut book, app, &[], &terms).expect("pushed");
    }
    let more: Vec<HostName> = (0..24).map(|number| host(&format!("more-{number}.apps.test"))).collect();
    grown(&mut book, &apps[0], &more, &terms).expect("the balancer has room for it");
    assert!(grown(&mut book, &apps[0], &[host("one-more.apps.test")], &terms).is_err(), "and for no more");
    assert_eq!((book.shards.len(), book.rules_on(1)), (1, 84));
    for (number, app) in apps.iter().enumerate() {
        let hosts = book.hosts_of(app);
        let group = placed(&mut book, app, &terms).expect("placed");
        let asleep = match number % 3 {
            0 => Route { maintenance: true, ..route(app, 9, &hosts, Some(group)) },
            _ => route(app, 9, &hosts, None),
        };
        with_shards(&mut book, |book| book.publish(&asleep, &terms)).expect("everybody may");
        tell(&mut book, app);
        check(&book, Quotas::default());
    }
    assert_eq!(book.rules_on(1), 100);
}

#[test]
fn certificates_of_apps_that_are_there_bring_a_balancer_at_four_fifths() {
    let (mut book, terms) = (Book::default(), terms(Quotas::default()));
    for number in 0..25 {
        let app = made(&mut book, &format!("app-{number}"), &terms);
        grown(&mut book, &app, &[host(&format!("www.shop-{number}.example"))], &terms).expect("it has a certificate");
        assert_eq!(book.shard_of(&app), Some(if number < 20 { 1 } else { 2 }), "{number}");
    }
    assert_eq!((book.certificates_on(1), book.certificates_on(2)), (20, 5));
    check(&book, Quotas::default());
}

#[test]
fn rules_of_apps_that_are_there_bring_a_balancer_at_four_fifths() {
    let (mut book, terms) = (Book::default(), terms(Quotas::default()));
    for number in 0..25 {
        let app = made(&mut book, &format!("app-{number}"), &terms);
        let more: Vec<HostName> = (1..20).map(|more| host(&format!("h{more}.app-{number}.apps.test"))).collect();
        grown(&mut book, &app, &more, &terms).expect("4 rules");
        assert_eq!(book.shard_of(&app), Some(if number < 20 { 1 } else { 2 }), "{number}");
    }
    assert_eq!((book.rules_on(1), book.rules_on(2)), (80, 20));
    check(&book, Quotas::default());
}

/// 80 apps are there, and 25 of them have a domain each.
fn full_of_certificates(terms: &Terms) -> (Book, Vec<AppId>) {
    let mut book = Book::default();
    let apps: Vec<AppId> = (0..80).map(|number| made(&mut book, &format!("app-{number}"), terms)).collect();
    for (number, app) in apps.iter().enumerate().take(25) {
        grown(&mut book, app, &[host(&format!("www.shop-{number}.example"))], terms).expect("it has a certificate");
    }
    (book, apps)
}

#[test]
fn a_domain_whose_certificate_has_no_room_is_refused_or_waits_for_some() {
    let terms = terms(Quotas::default());
    let (mut book, apps) = full_of_certificates(&terms);
    grown(&mut book, &apps[30], &[], &terms).expect("pushed");
    let own = host("www.late.example");
    let mut hosts = book.hosts_of(&apps[30]);
    hosts.push(own.clone());
    let refused = book.admits(&apps[30], &hosts, &terms);
    let Err(PortError::Permanent { cause, .. }) = refused else { panic!("{refused:?}") };
    assert!(cause.contains("a custom domain of this app") && cause.contains("--alb-certificates"), "{cause}");
    book.admits(&apps[30], &[host("more.apps.test")], &terms).expect("a host that needs none");

    // Two were promised at the same moment.
    grown(&mut book, &apps[30], std::slice::from_ref(&own), &terms).expect("published all the same");
    let row = |book: &Book| book.certificates[&(apps[30].clone(), own.clone())].clone();
    assert_eq!((row(&book).state, row(&book).shard), (CertificateState::NoRoom, None));
    assert!(row(&book).reason.is_some_and(|reason| reason.contains("as soon as there is room")));
    assert!(book.take_up_waiting(&terms).is_empty());
    book.admits(&apps[30], &[own.clone(), host("more.apps.test")], &terms).expect("that it waits is known");

    // Another app's domain goes, and with it its certificate.
    let kept = [host("app-3.apps.test")];
    let less = route(&apps[3], 9, &kept, None);
    with_shards(&mut book, |book| book.publish(&less, &terms)).expect("published");
    assert!(book.take_up_waiting(&terms).is_empty() || book.certificates_on(1) <= 25);
    book.certificates.retain(|_, row| row.state != CertificateState::Going);
    book.take_up_waiting(&terms);
    assert_eq!((row(&book).state, row(&book).shard), (CertificateState::Wanted, Some(1)));
    assert_eq!(book.certificates_on(1), 25);
}

#[test]
fn an_app_without_dynos_goes_where_there_is_room() {
    let terms = terms(Quotas::default());
    let (mut book, apps) = full_of_certificates(&terms);
    let app = &apps[40];
    let hosts = [host("app-40.apps.test"), host("www.new.example")];
    book.admits(app, &hosts, &terms).expect("there is room elsewhere");
    with_shards(&mut book, |book| book.publish(&route(app, 2, &hosts, None), &terms)).expect("published");
    assert_eq!(book.shard_of(app), Some(2));
    let left: Vec<&Rule> = book.rules_of(app).iter().filter(|key| key.0 == 1).map(|key| &book.rules[key]).collect();
    assert!(left.len() == 1 && left[0].hosts.is_empty(), "what AWS was told is to go: {left:?}");
    assert!(book.routes[app].records.values().all(|record| record.shard == 2 && !record.told));
    tell(&mut book, app);
    check(&book, Quotas::default());
    // One that has served stays.
    grown(&mut book, app, &[], &terms).expect("pushed");
    let more: Vec<HostName> = (0..25).map(|number| host(&format!("www{number}.new.example"))).collect();
    assert!(book.admits(app, &more, &terms).is_ok(), "instead of the one that it has");
    let all: Vec<HostName> = more.iter().chain(&hosts).cloned().collect();
    assert!(book.admits(app, &all, &terms).is_err());
}

#[test]
fn hosts_that_no_balancer_takes_are_known_before() {
    let (book, terms, app) = (Book::default(), terms(Quotas::default()), AppId::new());
    // What a rule takes, 128 characters, a certificate does not.
    let fits = format!("{}.example", "a".repeat(56));
    assert_eq!(fits.len(), 64);
    for good in ["www.example.com", "*.example.museum", "xn--bcher-kva.example", "1.2.3.example", &fits] {
        book.admits(&app, &[host(good)], &terms).expect(good);
    }
    for bad in [
        format!("b{fits}"),
        format!("{}.{fits}", "c".repeat(63)),
        format!("{}.{}.{fits}", "c".repeat(63), "d"),
        "example.xn--p1ai".to_owned(),
        "example.c0m".to_owned(),
    ] {
        let refused = book.admits(&app, &[host(&bad)], &terms);
        let Err(PortError::Permanent { cause, .. }) = refused else { panic!("{bad}: {refused:?}") };
        assert!(cause.starts_with(&bad), "{cause}");
    }
}

#[test]
fn wildcards_come_behind_exact_hosts_and_long_ones_first() {
    let (exact, long, short) = (host("a.b.c.example.com"), host("*.shop.example.com"), host("*.example.com"));
    assert!(band(&exact).end() < band(&long).start() && band(&long).end() < band(&short).start());
    assert!(band(&host("*.b.c")).end() < PARKING.start());
}
