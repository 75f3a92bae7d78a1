//! The story of the README, word for word: an app from its first push to its end, with `paas` and `git`.

use paas_tests::on_each_platform;
use paas_tests::platform::{Kind, Method, Platform, until};

on_each_platform!(an_app_lives);

fn an_app_lives(kind: Kind) {
    let platform = Platform::on(kind);
    let soon = platform.soon();
    let (api, http) = (platform.port("api"), platform.front_port());
    let app = platform.repository("flask");
    app.write("Procfile", "web: gunicorn app:app --bind 0.0.0.0:$PORT\nworker: python worker.py\n");
    app.write("worker.py", "import time\nwhile True:\n    print('working', flush=True)\n    time.sleep(1)\n");
    app.commit("A worker");

    let url = platform.url("hello");
    let remote = format!("https://localhost:{api}/hello.git");
    app.paas("create hello").done().tells("Creating hello... done").says(&format!("{url} | {remote}"));
    app.git("remote get-url aws").done().says(&remote);

    app.push()
        .done()
        .tells("remote: -----> Python app detected")
        .tells("remote: -----> Discovering process types")
        .tells("remote:        Procfile declares types -> web, worker")
        .tells("remote:        Released v3")
        .tells(&format!("remote:        {url} deployed to paas"))
        .tells("remote: Verifying deploy... done.")
        .tells("main -> main");
    app.run(&["curl", "--fail", "--silent", "--show-error", &url]).done().says("Hello from flask v1\n");
    app.push().done().tells("Everything up-to-date");

    let set = app.paas("config:set GREETING=hi").done();
    set.tells("Setting GREETING and restarting hello... done, v4").says("GREETING: hi");
    platform.serves("hello", "GREETING=hi", soon);
    app.paas("config:get GREETING").done().says("hi\n");

    app.paas("scale web=3 worker=1").done().tells("Scaling dynos... done, now running web at 3:");
    platform.are_up("hello", "web", 3);
    platform.are_up("hello", "worker", 1);
    let ps = app.paas("ps").done();
    let ps = ps.says("gunicorn app:app --bind 0.0.0.0:$PORT (3)");
    // Which slots are free depends on whether the release before has drained.
    assert_eq!(ps.stdout.matches(": up ").count(), 4, "{ps}");
    ps.says("python worker.py (1)").says("worker.1: up ");

    let tail = app.spawn("paas logs --tail");
    tail.writes("heroku[worker.1]: State changed from starting to up", soon);
    let asked = platform.try_get("hello", "/?a-line-to-see").expect("an answer");
    assert_eq!(asked.status, 200);
    if platform.has_router() {
        let seen = tail.writes("path=\"/?a-line-to-see\"", soon);
        eprintln!("a line of the router came after {seen:.1?}");
    }
    let seen = tail.writes("\"GET /?a-line-to-see HTTP/1.1\" 200", soon);
    eprintln!("a line of the app came after {seen:.1?}");
    tail.hang_up();
    let lines = app.paas("logs -n 1500").done();
    let lines = lines.says("app[api]: Release v4 created by user admin@localhost").says("app[worker.1]: working");
    if platform.has_router() {
        lines.says("heroku[router]: at=info method=GET path=\"/?a-line-to-see\"");
    }

    let releases = app.paas("releases").done().says("=== hello Releases - Current: v4");
    releases.says("Set GREETING config vars").says("Deploy ").says("Enable Logplex").says("Initial release");
    app.paas("rollback v3").done().tells("Rolling back hello to v3... done, v5");
    until("the rollback serves", soon, || platform.get("hello").body.ends_with("GREETING=\n").then_some(()));
    platform.are_up("hello", "web", 3);
    app.paas("releases").done().says("Current: v5").says("Rollback to v3");

    let python = app.run_with(&["paas", "run", "--no-tty", "python"], &[], "print(6*7)\n").done();
    assert_eq!(python.stdout, "42\n", "{python}");
    let python = python.tells("Running python on hello... up, run.");
    eprintln!("a one-off dyno took {:.1?}", python.took);
    app.run(&["paas", "run", "--no-tty", "python", "-c", "import sys; sys.exit(7)"]).exits(7);
    app.paas("run -x --no-tty false").exits(1).tells("Process exited with code 1");

    app.paas("maintenance:on").done().tells("Enabling maintenance mode for hello... done");
    until("the maintenance page", soon, || (platform.get("hello").status == 503).then_some(()));
    assert!(platform.get("hello").body.contains("Offline for Maintenance"));
    app.paas("maintenance").done().says("on");
    app.paas("maintenance:off").done().tells("Disabling maintenance mode for hello... done");
    platform.serves("hello", "Hello from flask v1", soon);

    let own = &format!("www-{}.example.test", platform.install());
    app.paas(&format!("domains:add {own}")).done().tells(&format!("Adding {own} to hello... done"));
    app.paas("domains").done().says(&platform.host("hello")).says(own);
    platform.leads_here(own, &platform.host("hello"));
    let asked = ["curl", "-s", "-H", &format!("Host: {own}"), &format!("http://127.0.0.1:{http}/")];
    until("the domain leads to the app", soon, || app.run(&asked).stdout.contains("Hello from flask").then_some(()));
    app.paas(&format!("domains:remove {own}")).done().tells(&format!("Removing {own} from hello... done"));
    until("the domain leads nowhere", soon, || app.run(&asked).stdout.contains("No such app").then_some(()));

    let id = platform.app_id("hello");
    // On AWS they are in the registry, whose repository goes with the app.
    let images = platform.images_of(&id);
    assert!(!images.is_empty() || kind == Kind::Aws);
    app.paas("apps:destroy --confirm other").exits(1).tells("Confirmation other did not match hello. Aborted.");
    app.paas("apps:destroy --confirm hello").done().tells("Destroying hello (including all add-ons)... done");
    assert_eq!(platform.api(Method::Get, "/apps/hello", None).status, 404);
    platform.app_is_gone(&id);
    platform.images_are_gone(&images);
    platform.leads_nowhere("hello");
    app.git("remote").done().lacks("aws");
    platform.finish();
}
