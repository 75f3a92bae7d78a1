//! Four real apps with their dependencies: pushed, changed and pushed again, scaled, rolled back.

use std::time::Duration;

use paas_tests::on_each_platform;
use paas_tests::platform::{Kind, Platform, Ran};

on_each_platform!(flask, express, go, static_site);

struct Case {
    fixture: &'static str,
    /// What the first push says.
    detected: &'static str,
    /// What the second push says of dependencies that have not changed.
    reused: Option<&'static str>,
    /// What only the first push says.
    fetched: Option<&'static str>,
    /// The file with the answer.
    answer: &'static str,
}

fn flask(kind: Kind) {
    let case = Case {
        fixture: "flask",
        detected: "remote: -----> Python app detected",
        reused: Some("remote: -----> Using cached dependencies"),
        fetched: Some("Installing dependencies"),
        answer: "app.py",
    };
    goes_its_way(kind, &case);
}

fn express(kind: Kind) {
    let case = Case {
        fixture: "express",
        detected: "remote: -----> Node.js app detected",
        reused: Some("remote:        - node_modules: dependencies have not changed"),
        fetched: Some("Installing dependencies"),
        answer: "index.js",
    };
    goes_its_way(kind, &case);
}

fn go(kind: Kind) {
    let case = Case {
        fixture: "go",
        detected: "remote: -----> Go app detected",
        reused: Some("remote: -----> Using go1."),
        fetched: Some("remote: -----> Installing go1."),
        answer: "main.go",
    };
    goes_its_way(kind, &case);
}

fn static_site(kind: Kind) {
    let case = Case {
        fixture: "static",
        detected: "remote: -----> Static HTML app detected",
        reused: None,
        fetched: None,
        answer: "public/index.html",
    };
    goes_its_way(kind, &case);
}

fn goes_its_way(kind: Kind, case: &Case) {
    let platform = Platform::on(kind);
    let fixture = case.fixture;
    let name = &format!("my-{fixture}");
    let app = platform.repository(fixture);
    app.paas(&format!("create {name}")).done();

    let first = app.push();
    in_herokus_form(&first, 3);
    if !app.folder().join("Procfile").exists() {
        let types = "Procfile declares types -> (none)        \nremote:        Default types for buildpack -> web";
        assert!(first.stderr.contains(types), "{first}");
    }
    let first = case.fetched.into_iter().fold(first.done().tells(case.detected), Ran::tells);
    platform.serves(name, &format!("Hello from {fixture} v1"), Duration::from_secs(1));

    app.replace(case.answer, &format!("{fixture} v1"), &format!("{fixture} v2"));
    app.commit("Second");
    let second = app.push();
    in_herokus_form(&second, 4);
    let second = second.done().tells(case.detected);
    let second = case.fetched.into_iter().fold(case.reused.into_iter().fold(second, Ran::tells), Ran::lacks);
    platform.serves(name, &format!("Hello from {fixture} v2"), Duration::from_secs(1));
    eprintln!("{name} ({kind:?}): first push {:.1?}, second push {:.1?}", first.took, second.took);

    app.paas("ps:scale web=2").done().tells("Scaling dynos... done, now running web at 2:");
    platform.are_up(name, "web", 2);
    let ps = app.paas("ps").done();
    assert_eq!(ps.stdout.matches(": up ").count(), 2, "{ps}");

    app.paas("rollback v3").done().tells(&format!("Rolling back {name} to v3... done, v5"));
    platform.serves(name, &format!("Hello from {fixture} v1"), platform.soon());
    platform.are_up(name, "web", 2);
    platform.finish();
}

/// The lines that people and their scripts know from Heroku.
fn in_herokus_form(push: &Ran, version: u32) {
    let version = format!("remote:        Released v{version}");
    let mut rest = push.stderr.as_str();
    for line in [
        "remote: -----> ",
        "remote: -----> Discovering process types",
        "remote: -----> Compressing...",
        "remote:        Done: ",
        "remote: -----> Launching...",
        &version,
        "remote:        http",
        "remote: Verifying deploy... done.",
    ] {
        let at = rest.find(line).unwrap_or_else(|| panic!("no {line:?} where it belongs: {push}"));
        rest = &rest[at + line.len()..];
    }
}
