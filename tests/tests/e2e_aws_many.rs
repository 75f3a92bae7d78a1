//! One image for 130 web apps of one installation, more than a load balancer takes: the second one appears by itself,
//! and every host answers for its own app.
//!
//! It takes as long as the requests that AWS grants for 130 apps, so it is no part of `make test`: `make test-many`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paas_tests::platform::{Kind, Method, Platform, Repository, until};
use paas_tests::traffic::Client;
use serde_json::json;

/// How many apps there are. A balancer takes newcomers until it is four fifths full, at 80.
const APPS: usize = 130;
/// How many of them are pushed at the same time.
const PUSHED_AT_ONCE: usize = 6;
/// How many requests there are in all, from so many clients.
const REQUESTS: usize = 20_000;
const CLIENTS: usize = 8;
/// How long everything may take to be gone: AWS grants one definition a second, and each app's is marked and deleted.
const GONE_WITHIN: Duration = Duration::from_secs(900);

#[test]
fn every_app_answers_for_itself_behind_two_balancers() {
    let platform = Platform::on(Kind::Aws);
    let repository = platform.repository("procfile-only");
    let since = Instant::now();
    in_turns(PUSHED_AT_ONCE, APPS, |number| release(&platform, &repository, number));
    eprintln!("{APPS} apps serve after {:.0?}", since.elapsed());

    let images: BTreeSet<String> = (0..APPS).map(|number| image_of(&platform, &name(number))).collect();
    assert_eq!(images.len(), 1, "every app runs the same image");
    let balancers = platform.hosts_by_balancer();
    let mut hosts: Vec<usize> = balancers.values().map(Vec::len).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, [APPS - 80, 80], "apps behind each balancer: {balancers:#?}");

    let since = Instant::now();
    let wrong = ask_everyone(&platform);
    eprintln!("{REQUESTS} requests in {:.0?}, {} wrong: {wrong:#?}", since.elapsed(), wrong.len());
    assert!(wrong.is_empty());
    end(platform);
}

fn name(number: usize) -> String {
    format!("many-{number}")
}

/// What the app of this number says.
fn says(number: usize) -> String {
    format!("Hello from procfile-only v1\nGREETING={}\n", name(number))
}

fn release(platform: &Platform, repository: &Repository<'_>, number: usize) {
    let (name, since) = (name(number), Instant::now());
    let created = platform.api(Method::Post, "/apps", Some(&json!({"name": name})));
    assert_eq!(created.status, 201, "{created:?}");
    let set = platform.api(Method::Patch, &format!("/apps/{name}/config-vars"), Some(&json!({"GREETING": name})));
    assert_eq!(set.status, 200, "{set:?}");
    repository.git(&format!("push https://localhost:{}/{name}.git main", platform.port("api"))).done();
    platform.serves(&name, &says(number), platform.soon());
    eprintln!("{name} serves after {:.1?}", since.elapsed());
}

/// The slug of the app's current release, which stands for its image.
fn image_of(platform: &Platform, app: &str) -> String {
    let releases = platform.releases(app);
    let slug = &releases.last().expect("a release")["slug"]["id"];
    slug.as_str().expect("a slug").to_owned()
}

/// Asks all hosts in a mixed order, and gives every answer that is not of the host's own app. Half of the clients keep
/// their connection from one host to the next.
fn ask_everyone(platform: &Platform) -> Vec<String> {
    let expected: Vec<(String, String)> =
        (0..APPS).map(|number| (platform.host(&name(number)), says(number))).collect();
    let (wrong, asked) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::<&str, usize>::new()));
    in_turns_with(
        CLIENTS,
        REQUESTS,
        |client| Client::at(platform.front_port(), client % 2 == 0),
        |client, number| {
            // A step without a common divisor comes to every host.
            let (host, says) = &expected[number * 47 % APPS];
            *asked.lock().expect("nobody panicked").entry(host).or_default() += 1;
            match client.get(host) {
                Ok((200, body)) if body == *says => {}
                other => wrong.lock().expect("nobody panicked").push(format!("{host}: {other:?}")),
            }
        },
    );
    assert_eq!(asked.into_inner().expect("nobody panicked").len(), APPS, "every host was asked");
    wrong.into_inner().expect("nobody panicked")
}

/// Destroys all apps beside one another; nothing of them stays. The second balancer does, for apps to come.
fn end(platform: Platform) {
    let ids: Vec<String> = (0..APPS).map(|number| platform.app_id(&name(number))).collect();
    let since = Instant::now();
    for number in 0..APPS {
        let destroyed = platform.api(Method::Delete, &format!("/apps/{}", name(number)), None);
        assert!(destroyed.status < 300, "{destroyed:?}");
    }
    for id in ids {
        until("nothing of the apps is left", GONE_WITHIN, || platform.left_of_app(&id).is_empty().then_some(()));
    }
    assert!(platform.hosts_by_balancer().is_empty(), "no record stays");
    eprintln!("gone after {:.0?}", since.elapsed());
    let install = platform.install();
    let mut left = platform.objects(&install);
    left.retain(|object| !object.contains(&format!("/app/paas-{install}-2/")));
    assert!(left.is_empty(), "left behind: {left:#?}");
}

/// Does the work for `0..count`, so many at the same time.
fn in_turns(at_once: usize, count: usize, work: impl Fn(usize) + Sync) {
    in_turns_with(at_once, count, |_| (), |(), number| work(number));
}

/// The same, where each thread has something of its own.
fn in_turns_with<T>(
    at_once: usize,
    count: usize,
    own: impl Fn(usize) -> T + Sync,
    work: impl Fn(&mut T, usize) + Sync,
) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for thread in 0..at_once {
            let (next, own, work) = (&next, &own, &work);
            threads.spawn(move || {
                let mut mine = own(thread);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    work(&mut mine, number);
                }
            });
        }
    });
}
