//! The story's commands with the unmodified heroku CLI. What it prints judges what we answer.

use paas_tests::on_each_platform;
use paas_tests::platform::{Kind, Method, Platform, SEEN_WITHIN, until};

on_each_platform!(an_app_lives);

/// The variables that make git ask heroku's own credential helper, as on a machine without `paas`.
fn without_our_helper(platform: &Platform) -> Vec<(String, String)> {
    let vars = platform.vars();
    let count: usize = vars["GIT_CONFIG_COUNT"].parse().expect("a number");
    let mut kept = Vec::new();
    let mut changed = Vec::new();
    for at in 0..count {
        let (key, value) = (format!("GIT_CONFIG_KEY_{at}"), format!("GIT_CONFIG_VALUE_{at}"));
        if !vars[&key].ends_with(".helper") {
            kept.push((vars[&key].clone(), vars[&value].clone()));
        }
        changed.extend([(key, String::new()), (value, String::new())]);
    }
    for (at, (key, value)) in kept.iter().enumerate() {
        changed.push((format!("GIT_CONFIG_KEY_{at}"), key.clone()));
        changed.push((format!("GIT_CONFIG_VALUE_{at}"), value.clone()));
    }
    changed.push(("GIT_CONFIG_COUNT".to_owned(), kept.len().to_string()));
    changed
}

fn an_app_lives(kind: Kind) {
    let platform = Platform::on(kind);
    let soon = platform.soon();
    let app = platform.repository("flask");
    let url = platform.url("hello");
    let remote = format!("https://localhost:{}/hello.git", platform.port("api"));

    app.heroku("create hello").done().tells("Creating hello... done").says(&format!("{url} | {remote}"));
    app.git("remote get-url heroku").done().says(&remote);
    app.git("remote remove heroku").done();
    app.heroku("git:remote -a hello").done().says(&format!("set git remote heroku to {remote}"));

    let vars = without_our_helper(&platform);
    let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let push = app.run_with(&["git", "push", "heroku", "main"], &vars, "").done();
    push.tells("remote: -----> Python app detected")
        .tells("remote:        Released v3")
        .tells("Verifying deploy... done.");
    platform.serves("hello", "Hello from flask v1", SEEN_WITHIN);

    let set = app.heroku("config:set GREETING=hi OTHER=x").done();
    set.tells("Setting GREETING, OTHER and restarting hello... done, v4").says("GREETING: hi");
    app.heroku("config:get GREETING").done().says("hi\n");
    app.heroku("config").done().says("=== hello Config Vars").says("GREETING: hi").says("OTHER:");
    app.heroku("config:unset OTHER").done().tells("Unsetting OTHER and restarting hello... done, v5");
    platform.serves("hello", "GREETING=hi", soon);

    app.heroku("ps:scale web=2").done().tells("Scaling dynos... done, now running web at 2:");
    platform.are_up("hello", "web", 2);
    let ps = app.heroku("ps").done().says("=== web (").says("gunicorn app:app --bind 0.0.0.0:$PORT (2)");
    assert_eq!(ps.stdout.matches(": up ").count(), 2, "{ps}");
    app.heroku("ps:scale").done().says("web=2:");
    let earlier = platform.dyno_ids("hello", "web");
    app.heroku("ps:restart").done().tells("Restarting all dynos on hello... done");
    platform.have_restarted("hello", "web", &earlier);
    let dyno = platform.dynos("hello", "web", "up")[0]["name"].as_str().expect("a name").to_owned();
    let restarted = app.heroku(&format!("ps:restart --dyno-name {dyno}")).done();
    restarted.tells(&format!("Restarting dyno {dyno} on hello... done"));
    app.heroku("ps:scale nope=1").exits(2).tells("Couldn't find that process type");

    let marked = platform.try_get("hello", "/?first-line").expect("an answer");
    assert_eq!(marked.status, 200);
    // The router's line, or where there is none the app's own.
    let line = |mark: &str| match platform.has_router() {
        true => format!("heroku[router]: at=info method=GET path=\"/?{mark}\""),
        false => format!("\"GET /?{mark} HTTP/1.1\" 200"),
    };
    until("the line is in the log", soon, || {
        app.paas("logs -n 1500").done().stdout.contains(&line("first-line")).then_some(())
    });
    let logs = app.heroku("logs -n 1500").done().says(&line("first-line"));
    logs.says("app[web.1]: ")
        .says("heroku[web.1]: State changed from starting to up")
        .says("app[api]: Scaled to web@2:");
    let tail = app.spawn("heroku logs --tail");
    tail.writes("app[web.", soon);
    let marked = platform.try_get("hello", "/?second-line").expect("an answer");
    assert_eq!(marked.status, 200);
    let seen = tail.writes(&line("second-line"), soon);
    eprintln!("a new line came after {seen:.1?}");
    tail.hang_up();

    let python = app.run_with(&["heroku", "run", "--no-tty", "python"], &[], "print(6*7)\n").done();
    python.tells("Running python on hello... up, run.").says("42");
    app.run(&["heroku", "run", "-x", "--no-tty", "--", "python", "-c", "import sys; sys.exit(7)"]).exits(7);
    app.run(&["heroku", "run", "-x", "--no-tty", "true"]).exits(0);
    let detached = app.run(&["heroku", "run:detached", "echo", "far", "away"]).done();
    let detached =
        detached.tells("Running echo far away on hello... done, run.").says("heroku logs --app hello --dyno run.");
    until("its line is in the log", soon, || {
        app.paas("logs -n 1500 -s app")
            .done()
            .stdout
            .lines()
            .any(|line| line.contains("app[run.") && line.ends_with(": far away"))
            .then_some(())
    });
    drop(detached);

    let releases =
        app.heroku("releases").done().says("hello Releases - Current: v5").says("Set GREETING, OTHER config vars");
    releases.says("Enable Logplex").says("admin@localhost");
    app.heroku("releases:info v4").done().says("=== Release v4").says("=== v4 Config vars").says("GREETING: hi");
    let rolled = app.heroku("rollback v3").done().tells("Rolling back hello to v3... done, v6");
    rolled.tells("To undo, run: heroku rollback v5");
    until("the rollback serves", soon, || platform.get("hello").body.ends_with("GREETING=\n").then_some(()));

    let feature = "http-session-affinity";
    app.heroku("features").done().says("=== App Features hello").says(&format!("[ ] {feature}"));
    let enabling = format!("Enabling {feature} for hello...");
    app.heroku(&format!("features:enable {feature}")).done().tells(&format!("{enabling} done"));
    app.heroku(&format!("features:enable {feature}")).exits(1).tells("is already enabled.");
    app.heroku(&format!("features:info {feature}")).done().says("Enabled:     true");
    app.heroku(&format!("features:disable {feature}")).done().tells(&format!("Disabling {feature} for hello... done"));

    app.heroku("maintenance:on").done().tells("Enabling maintenance mode for hello... done");
    until("the maintenance page", soon, || (platform.get("hello").status == 503).then_some(()));
    app.heroku("maintenance").done().says("on");
    app.heroku("maintenance:off").done().tells("Disabling maintenance mode for hello... done");
    platform.serves("hello", "Hello from flask v1", soon);

    let own = &format!("www-{}.example.test", platform.install());
    let added = app.heroku(&format!("domains:add {own}")).done().tells(&format!("Adding {own} to hello... done"));
    added.says("Configure your app's DNS provider to point to the DNS Target ");
    app.heroku("domains").done().says("=== hello Heroku Domain").says(&platform.host("hello")).says(own);
    app.heroku(&format!("domains:remove {own}")).done().tells(&format!("Removing {own} from hello... done"));

    let info = app.heroku("apps:info").done().says("=== hello").says(&format!("Web URL:        {url}"));
    info.says("Owner:          admin@localhost").says("Dynos:          web: 2");
    app.heroku("apps").done().says("hello");
    let renamed = app.heroku("apps:rename goodbye").done().tells("Renaming hello to goodbye... done");
    renamed.says("Git remote heroku updated");
    platform.serves("goodbye", "Hello from flask v1", soon);
    platform.leads_nowhere("hello");

    let id = platform.app_id("goodbye");
    app.heroku("apps:destroy --confirm goodbye").done().tells("Destroying goodbye (including all add-ons)... done");
    assert_eq!(platform.api(Method::Get, "/apps/goodbye", None).status, 404);
    platform.app_is_gone(&id);
    platform.finish();
}
