//! Twenty deploys of an app that is asked all the time, through the front door: no request fails.

use std::time::Instant;

use paas_tests::platform::{Kind, Platform, Repository};
use paas_tests::traffic::Traffic;

/// Requests per second.
const RATE: u32 = 120;
/// How many requests there are at least.
const REQUESTS: usize = 10_000;
/// How many deploys: every fourth is a push of a new commit, the others are changes of config.
const DEPLOYS: usize = 20;

#[test]
fn no_request_fails_in_twenty_deploys() {
    let platform = Platform::on(Kind::Aws);
    let app = platform.repository("flask");
    app.paas("create loaded").done();
    app.push().done();
    app.paas("scale web=2").done();
    platform.are_up("loaded", "web", 2);
    platform.serves("loaded", "Hello from flask v1", platform.soon());

    let traffic = Traffic::on(&platform, "loaded", "Hello from flask v", RATE);
    traffic.while_doing(REQUESTS, || {
        for number in 1..=DEPLOYS {
            let since = Instant::now();
            let text = if number % 4 == 0 { push(&app, number) } else { set_config(&app, number) };
            platform.serves("loaded", &text, platform.soon());
            eprintln!("deploy {number} serves after {:.1?}", since.elapsed());
        }
    });
    assert_eq!(platform.releases("loaded").len(), 3 + DEPLOYS, "each deploy made one release");
    platform.are_up("loaded", "web", 2);
    platform.finish();
}

/// A new commit, and what it says.
fn push(app: &Repository<'_>, number: usize) -> String {
    let text = format!("Hello from flask v{number}");
    let before = std::fs::read_to_string(app.folder().join("app.py")).expect("a file");
    let at = before.find("Hello from flask v").expect("what it says");
    let end = at + before[at..].find('\\').expect("the line's end");
    app.write("app.py", &format!("{}{text}{}", &before[..at], &before[end..]));
    app.commit(&text);
    app.push().done();
    format!("{text}\n")
}

fn set_config(app: &Repository<'_>, number: usize) -> String {
    app.paas(&format!("config:set GREETING=hello-{number}")).done();
    format!("GREETING=hello-{number}\n")
}
