//! What goes wrong as a Heroku user knows it, and says so as Heroku does.

use std::time::{Duration, Instant, SystemTime};

use paas_tests::on_each_platform;
use paas_tests::platform::{Kind, Platform, Ran, Repository, SEEN_WITHIN, until};

on_each_platform!(
    a_build_that_fails_changes_nothing,
    a_release_phase_that_fails_leaves_the_old_release_serving,
    a_worker_needs_no_web,
    a_newer_push_supersedes_a_waiting_one,
    a_closed_terminal_cancels_nothing,
    an_app_that_crashes,
    an_app_that_never_listens,
);

const DECLINED: &str = "! [remote rejected] main -> main (pre-receive hook declined)";

/// The commit that the platform's `main` names.
fn tip(app: &Repository<'_>) -> String {
    app.git("ls-remote aws refs/heads/main").done().stdout.split('\t').next().unwrap_or_default().to_owned()
}

/// The page of an app without a dyno that serves. A load balancer has a page of its own.
fn says_application_error(platform: &Platform, app: &str) {
    let page = platform.get(app);
    let says = page.body.contains("Application error") || !platform.has_router();
    assert!(page.status == 503 && says, "{page:?}");
}

/// A repository whose app serves `procfile-only`.
fn serving<'a>(platform: &'a Platform, name: &str) -> Repository<'a> {
    let app = platform.repository("procfile-only");
    app.paas(&format!("create {name}")).done();
    app.push().done();
    platform.serves(name, "Hello from procfile-only v1", platform.soon());
    app
}

fn a_build_that_fails_changes_nothing(kind: Kind) {
    let platform = Platform::on(kind);
    let app = serving(&platform, "broken");
    let served = tip(&app);

    app.write("requirements.txt", "./no-such-package\n");
    app.commit("Broken");
    let push = app.push().exits(1).tells("remote: -----> Python app detected");
    let push = push.tells("remote:  !     Push rejected, failed to compile").tells("remote:  !     Push failed");
    push.tells("remote:  !     Push rejected to broken.").tells(DECLINED);
    assert_eq!(tip(&app), served);

    app.write("requirements.txt", "");
    app.write(".python-version", "2.7\n");
    app.commit("Too old");
    let push = app.push().exits(1).tells("Python 2.7 isn't available").tells("These versions are available:");
    push.tells("3.").tells(DECLINED);

    let nothing = platform.repository("static");
    nothing.git("rm -rq .").done();
    nothing.write("notes.txt", "no app\n");
    nothing.commit("No app");
    nothing.paas("git:remote -a broken").done();
    let push = nothing.git("push -f aws main").exits(1);
    push.tells("remote:  !     No default language could be detected for this app.").tells(DECLINED);

    assert_eq!(tip(&app), served);
    platform.serves("broken", "Hello from procfile-only v1", SEEN_WITHIN);
    assert_eq!(platform.releases("broken").len(), 3, "a failed build makes no release");
    platform.finish();
}

fn a_release_phase_that_fails_leaves_the_old_release_serving(kind: Kind) {
    let platform = Platform::on(kind);
    let app = platform.repository("release-phase");
    app.paas("create phased").done();
    app.paas("config:set RELEASE_EXIT=3").done();

    let push = app.push().exits(1).tells("Running release command...").tells("migrating with status 3");
    push.tells("Release command failed (exit status 3)").tells(DECLINED);
    assert_eq!(tip(&app), "");
    app.paas("releases").done().says("release command failed");
    app.paas("releases:output v4").done().says("migrating with status 3");

    // As on Heroku: with the cause gone, the pushed code is carried on.
    app.paas("config:unset RELEASE_EXIT").done();
    platform.serves("phased", "Hello from release-phase v1", platform.soon());
    let commit = app.git("rev-parse HEAD").done().stdout.trim().to_owned();
    app.push().done().tells("is released as v5 and serves");
    assert_eq!(tip(&app), commit);

    // A cause that goes away by itself: the same release once more.
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let then = now() + platform.soon().as_secs();
    app.write("release.pl", &format!("$| = 1; print \"is it time?\\n\"; exit(time < {then} ? 9 : 0);\n"));
    app.replace("serve.pl", "release-phase v1", "release-phase v2");
    app.commit("Not yet");
    app.push().exits(1).tells("is it time?").tells("Release command failed (exit status 9)").tells(DECLINED);
    platform.serves("phased", "Hello from release-phase v1", SEEN_WITHIN);
    assert_eq!(tip(&app), commit);
    std::thread::sleep(Duration::from_secs(then.saturating_sub(now()) + 1));
    app.paas("releases:retry").done().tells("Retrying v6 on phased... done, v7").says("is it time?");
    platform.serves("phased", "Hello from release-phase v2", platform.soon());
    app.paas("releases").done().says("Current: v7");
    platform.finish();
}

fn an_app_that_crashes(kind: Kind) {
    let platform = Platform::on(kind);
    let app = platform.repository("crash-at-boot");
    app.paas("create crashing").done();
    let push = app.push().exits(1).tells("remote:        Released v3").tells("v3 did not start: web.1");
    push.tells("Process exited with status 3").tells("cannot reach the flux capacitor").tells(DECLINED);
    assert_eq!(tip(&app), "");
    says_application_error(&platform, "crashing");
    let logs = "at=error code=H10 desc=\"App crashed\" method=GET path=\"/\"";
    if platform.has_router() {
        until("H10 in the log", platform.soon(), || app.paas("logs -n 500").done().stdout.contains(logs).then_some(()));
    }
    app.paas("logs -n 500").done().says("heroku[web.1]: State changed from starting to crashed");
    // The crash ladder's first try may be under way at this moment.
    until("the crashed dyno in ps", platform.soon(), || {
        app.paas("ps").done().stdout.contains("web.1: crashed ").then_some(())
    });

    // A later push that crashes: the release before it serves on.
    let app = serving(&platform, "steady");
    let served = tip(&app);
    app.write("Procfile", "web: perl boot.pl\n");
    app.write("boot.pl", "$| = 1; print \"no flux\\n\"; exit 4;\n");
    app.commit("Crashes");
    let push = app.push().exits(1).tells("v4 did not start").tells("Process exited with status 4").tells("no flux");
    push.tells("The release that served before still serves").tells(DECLINED);
    assert_eq!(tip(&app), served);
    for _ in 0..20 {
        platform.serves("steady", "Hello from procfile-only v1", SEEN_WITHIN);
    }
    until("the crashed dyno in ps", platform.soon(), || {
        app.paas("ps").done().stdout.contains(": crashed ").then_some(())
    });
    platform.finish();
}

fn an_app_that_never_listens(kind: Kind) {
    let platform = Platform::start_on(kind, &["--boot-timeout-s", "3"]);
    let app = platform.repository("never-binds");
    app.paas("create deaf").done();
    let push = app.push().exits(1).tells("v3 did not start: web.1");
    push.tells("Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 3 seconds of launch")
        .tells(DECLINED);
    let logs = in_the_log(&app, "heroku[web.1]: State changed from starting to crashed", platform.soon());
    let logs = logs.says("app[web.1]: thinking about it");
    let logs = logs.says("heroku[web.1]: Error R10 (Boot timeout) -> Web process failed to bind");
    if platform.has_router() {
        // As on Heroku, nobody asks it to end first. ECS always does.
        logs.lacks("SIGTERM");
    }
    says_application_error(&platform, "deaf");
    platform.finish();
}

/// Waits until the app's log says this, and gives it.
///
/// # Panics
/// When it does not; shows what it says.
fn in_the_log(app: &Repository<'_>, text: &str, within: Duration) -> Ran {
    let since = Instant::now();
    loop {
        let logs = app.paas("logs -n 500").done();
        if logs.stdout.contains(text) {
            return logs;
        }
        assert!(since.elapsed() < within, "{text:?} is not in the log within {within:?}: {logs}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn a_worker_needs_no_web(kind: Kind) {
    let platform = Platform::on(kind);
    let app = platform.repository("worker-only");
    app.paas("create working").done();
    app.push().done().tells("Procfile declares types -> worker").tells("Verifying deploy... done.");
    assert_eq!(platform.get("working").status, 503);
    let logs = "at=error code=H14 desc=\"No web processes running\"";
    if platform.has_router() {
        until("H14 in the log", platform.soon(), || app.paas("logs").done().stdout.contains(logs).then_some(()));
    }
    app.paas("ps:scale web=1").exits(2).tells("Couldn't find that process type");
    app.paas("ps:scale worker=1").done();
    platform.are_up("working", "worker", 1);
    until("it works", platform.soon(), || {
        app.paas("logs -p worker").done().stdout.contains("app[worker.1]: working").then_some(())
    });
    platform.finish();
}

/// An app whose build takes a while.
fn slow<'a>(platform: &'a Platform, seconds: u32) -> Repository<'a> {
    let app = platform.empty_repository("slow");
    let scripts =
        format!("{{\"build\": \"echo it begins; sleep {seconds}; echo it ends\", \"start\": \"node index.js\"}}");
    app.write("package.json", &format!("{{\"name\": \"slow\", \"version\": \"1.0.0\", \"scripts\": {scripts}}}\n"));
    app.write(
        "index.js",
        "require('http').createServer((q, r) => r.end('Hello from slow v1\\n')).listen(process.env.PORT, '0.0.0.0');\n",
    );
    app.commit("First");
    app
}

fn a_newer_push_supersedes_a_waiting_one(kind: Kind) {
    let platform = Platform::on(kind);
    let app = slow(&platform, 6);
    app.paas("create busy").done();
    let first = app.spawn("git push aws main");
    first.writes("it begins", Duration::from_secs(60));

    let push_of = |version: &str| {
        let other = platform.repository("procfile-only");
        other.replace("serve.pl", "procfile-only v1", version);
        other.commit(version);
        other.paas("git:remote -a busy").done();
        other.spawn("git push -f aws main")
    };
    let second = push_of("second");
    // Accepted, and waiting behind the first.
    until("the second build waits", platform.soon(), || (builds(&platform, "busy").len() == 2).then_some(()));
    let third = push_of("third");
    let second = second.wait().exits(1).tells("superseded by a newer push");
    second.tells(DECLINED);
    first.wait().done().tells("remote:        Released v3");
    third.wait().done().tells("remote:        Released v4");
    platform.serves("busy", "Hello from third", SEEN_WITHIN);
    platform.finish();
}

fn builds(platform: &Platform, app: &str) -> Vec<serde_json::Value> {
    let answer = platform.api(paas_tests::platform::Method::Get, &format!("/apps/{app}/builds"), None);
    answer.json().as_array().cloned().unwrap_or_default()
}

fn a_closed_terminal_cancels_nothing(kind: Kind) {
    let platform = Platform::on(kind);
    let app = slow(&platform, 6);
    app.paas("create patient").done();
    let push = app.spawn("git push aws main");
    push.writes("it begins", Duration::from_secs(60));
    push.hang_up();

    // The same commit again: from the first byte, to the end of the same build.
    let push = app.push().done().tells("Node.js app detected").tells("it begins").tells("it ends");
    push.tells("remote:        Released v3").tells("Verifying deploy... done.");
    assert_eq!(builds(&platform, "patient").len(), 1);
    assert_eq!(platform.releases("patient").len(), 3);

    // And when nobody comes back, it ends all the same.
    app.replace("index.js", "slow v1", "slow v2");
    let commit = app.commit("Second");
    let push = app.spawn("git push aws main");
    push.writes("it begins", Duration::from_secs(60));
    push.hang_up();
    platform.serves("patient", "Hello from slow v2", platform.soon() * 3);
    until("the branch moves", platform.soon(), || (tip(&app) == commit).then_some(()));
    platform.finish();
}
