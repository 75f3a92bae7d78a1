//! `ps:*`, `config:*`, `releases:*`, `builds:*` and `logs`, as transcripts.

use crate::support::*;
use serde_json::json;

fn hello() -> (Stub, Paas) {
    let stub = Stub::start();
    stub.answers("GET /apps/hello", app(&stub, "hello"));
    let paas = Paas::of(&stub).env("PAAS_APP", "hello");
    (stub, paas)
}

const SINCE: &str = "2026/01/02 03:04:05 +0000";

#[test]
fn ps_shows_dynos_by_command() {
    let (stub, paas) = hello();
    let dynos = json!([
        dyno("web.10", "python app.py", "up"),
        dyno("web.2", "python app.py", "crashed"),
        dyno("run.12", "bash", "up")
    ]);
    stub.answers("GET /apps/hello/dynos", dynos);
    paas.run("ps").shows(
        &format!(
            "=== run: one-off processes (1)\n\nrun.12 (Basic): up {SINCE}: bash\n\n\
             === web (Basic): python app.py (2)\n\nweb.2: crashed {SINCE}\nweb.10: up {SINCE}\n\n"
        ),
        "",
    );
    paas.run("ps run").shows(&format!("=== run: one-off processes (1)\n\nrun.12 (Basic): up {SINCE}: bash\n\n"), "");
    paas.run("ps nope").fails(1, " ▸    No nope dynos on hello\n");
    assert!(paas.run("ps --json").out.contains("\"state\": \"crashed\""));
    let empty = Stub::start();
    empty.answers("GET /apps/x/dynos", json!([]));
    Paas::of(&empty).run("ps -a x").shows("No dynos on x\n", "");
}

#[test]
fn scale_sends_what_heroku_sends() {
    let (stub, paas) = hello();
    stub.answers(
        "PATCH /apps/hello/formation",
        json!([formation("web", 2), formation("worker", 1), formation("clock", 0)]),
    );
    stub.answers("GET /apps/hello/formation", json!([formation("worker", 0), formation("web", 1)]));
    paas.run("scale web=2:basic worker+1")
        .shows("", "Scaling dynos... done, now running web at 2:Basic, worker at 1:Basic\n");
    assert_eq!(
        stub.sent("PATCH /apps/hello/formation"),
        json!({"updates": [{"type": "web", "quantity": "2", "size": "basic"}, {"type": "worker", "quantity": "+1"}]})
    );
    paas.run("ps:scale").shows("web=1:Basic worker=0:Basic\n", "");
    paas.run("ps:scale web=-1").fails(2, " ▸    `=-1` is not a quantity: use `=3`, `+1` or `-1`\n");
    paas.run("ps:scale web+a").fails(2, " ▸    `+a` is not a quantity: use `=3`, `+1` or `-1`\n");
    paas.run("ps:scale web=1 🦀=1").fails(2, " ▸    `🦀` is not a process type: use letters, digits, `-` and `_`\n");
    assert_eq!(stub.asked().len(), 2);

    stub.on(
        "PATCH /apps/hello/formation",
        Answer::error(422, "invalid_params", "Cannot scale \u{1b}[31mthat\u{1b}[0m"),
    );
    paas.run("scale web=3");
    paas.run("scale web=4").fails(
        2,
        "Scaling dynos... !\n ▸    Cannot scale \\u{1b}[31mthat\\u{1b}[0m\n ▸\n ▸    Error ID: invalid_params\n",
    );
}

#[test]
fn types_are_shown_and_changed() {
    let (stub, paas) = hello();
    stub.answers("GET /apps/hello/formation", json!([formation("web", 2), formation("worker", 1)]));
    stub.answers("PATCH /apps/hello/formation", json!([]));
    let shown = "=== Process Types\n\n  type     size    qty\n ──────────────────────\n  web      Basic   2\n  worker   Basic   1\n\n\n\
                 === Dyno Totals\n\n  type    total\n ───────────────\n  Basic   3\n\n";
    paas.run("ps:type").shows(shown, "");
    paas.run("ps:type web=standard-2x").shows(shown, "Scaling dynos on hello... done\n");
    assert_eq!(stub.sent("PATCH /apps/hello/formation"), json!({"updates": [{"type": "web", "size": "standard-2x"}]}));
    paas.run("resize basic").shows(shown, "Scaling dynos on hello... done\n");
    assert_eq!(stub.sent("PATCH /apps/hello/formation")["updates"].as_array().map(Vec::len), Some(2));
    paas.run("ps:type nope=basic")
        .fails(1, " ▸    Type nope not found in process formation.\n ▸    Types: web, worker\n");
}

#[test]
fn restart_and_stop_reach_the_right_dynos() {
    let (stub, paas) = hello();
    for route in ["DELETE /apps/hello/dynos", "DELETE /apps/hello/dynos/web.1", "DELETE /apps/hello/formations/web"] {
        stub.answers(route, json!({}));
    }
    stub.answers("POST /apps/hello/dynos/web.1/actions/stop", json!({}));
    stub.answers("POST /apps/hello/formations/web/actions/stop", json!({}));
    paas.run("restart").shows("", "Restarting all dynos on hello... done\n");
    paas.run("ps:restart web.1").shows("", "Restarting dyno web.1 on hello... done\n");
    paas.run("ps:restart -d web.1").shows("", "Restarting dyno web.1 on hello... done\n");
    paas.run("ps:restart web").shows("", "Restarting all web dynos on hello... done\n");
    paas.run("ps:restart -p web").shows("", "Restarting all web dynos on hello... done\n");
    paas.run("stop web.1").shows("", "Stopping dyno web.1 on hello... done\n");
    paas.run("ps:stop --process-type web").shows("", "Stopping all web dynos on hello... done\n");
    paas.run("ps:stop")
        .fails(2, " ▸    Please specify a process type or dyno name to stop.\n ▸    See more help with --help\n");
    assert_eq!(paas.run("restart -d web.1 -p web").code, 2);
    let stop = stub.last("POST /apps/hello/dynos/web.1/actions/stop");
    assert_eq!(
        (stop.headers.get("content-length").map(String::as_str), stop.headers.get("content-type")),
        (Some("0"), None)
    );
}

#[test]
fn config_in_every_form() {
    let (stub, paas) = hello();
    let vars = json!({"A": "1", "EMPTY": "", "LONG_NAME": "x y'z\nsecond", "URL": "http://a/b"});
    stub.answers("GET /apps/hello/config-vars", vars.clone()).answers("PATCH /apps/hello/config-vars", vars);
    stub.answers("GET /apps/hello/releases", json!([release(4, "Set A", "succeeded", true)]));
    paas.run("config").shows(
        "=== hello Config Vars\n\nA:         1\nEMPTY:     \nLONG_NAME: x y'z\nsecond\nURL:       http://a/b\n",
        "",
    );
    paas.run("config -s").shows("A=1\nEMPTY=\nLONG_NAME=\"x y'z\\nsecond\"\nURL='http://a/b'\n", "");
    assert!(paas.run("config --json").out.starts_with("{\n  \"A\": \"1\",\n"));
    paas.run("config:get URL").shows("http://a/b\n", "");
    paas.run("config:get URL NOPE -s").shows("URL='http://a/b'\nNOPE=\n", "");
    paas.run("config:get NOPE --json").shows("{\n  \"key\": \"NOPE\",\n  \"value\": null\n}\n", "");

    paas.run("config:set URL=http://a/b A=1")
        .shows("A:   1\nURL: http://a/b\n", "Setting URL, A and restarting hello... done, v4\n");
    assert_eq!(stub.sent("PATCH /apps/hello/config-vars"), json!({"A": "1", "URL": "http://a/b"}));
    assert_eq!(stub.last("GET /apps/hello/releases").headers["range"], "version ..; order=desc,max=1");
    paas.run_words(&["config:add", "A=a b=c"]);
    assert_eq!(stub.sent("PATCH /apps/hello/config-vars"), json!({"A": "a b=c"}));
    paas.run("config:unset A B").shows("", "Unsetting A, B and restarting hello... done, v4\n");
    assert_eq!(stub.sent("PATCH /apps/hello/config-vars"), json!({"A": null, "B": null}));
    paas.run("config:set FOO").fails(1, " ▸    FOO is invalid. Must be in the format FOO=bar.\n");
    paas.run("config:set").fails(
        1,
        " ▸    Usage: paas config:set KEY1=VALUE1 [KEY2=VALUE2 ...]\n ▸    Must specify KEY and VALUE to set.\n",
    );
}

#[test]
fn releases_and_rollback() {
    let (stub, paas) = hello();
    let all = json!([
        release(5, "Deploy def", "failed", false),
        release(4, "Set A config vars", "succeeded", true),
        release(3, "Deploy abc", "succeeded", false),
    ]);
    stub.answers("GET /apps/hello/releases", all)
        .answers("POST /apps/hello/releases", release(6, "Rollback to v3", "succeeded", true));
    stub.answers("GET /apps/hello/releases/3", release(3, "Deploy abc", "succeeded", false));
    stub.answers("GET /apps/hello/releases/3/config-vars", json!({"A": "1"}));
    paas.run("releases -n 3").shows(
        &format!(
            "=== hello Releases - Current: v4\n\n  v    description                         user              created_at\n \
             ──────────────────────────────────────────────────────────────────────────────────────\n  \
             v5   Deploy def release command failed   ada@example.com   {SINCE}\n  \
             v4   Set A config vars                   ada@example.com   {SINCE}\n  \
             v3   Deploy abc                          ada@example.com   {SINCE}\n\n"
        ),
        "",
    );
    assert_eq!(stub.last("GET /apps/hello/releases").headers["range"], "version ..; max=3, order=desc");
    paas.run("releases:info v3").shows(
        "=== Release v3\n\nBy:                     ada@example.com\nChange:                 Deploy abc\n\
         Eligible for Rollback?: Yes\nWhen:                   2026-01-02T03:04:05Z\n\n=== v3 Config vars\n\nA: 1\n",
        "",
    );
    let warned = " ▸    Warning: Rollback affects code and config vars; it doesn't add or remove addons.\n ▸    Warning: To undo, run: paas rollback v5\n";
    paas.run("rollback v3").shows("", &format!("Rolling back hello to v3... done, v6\n{warned}"));
    assert_eq!(stub.sent("POST /apps/hello/releases"), json!({"release": "release-3"}));
    // The newest one failed and the current one is no way back.
    paas.run("releases:rollback").shows("", &format!("Rolling back hello to v3... done, v6\n{warned}"));
    paas.run("releases:output v3").shows("", " ▸    Warning: Release v3 has no release output available.\n");
}

#[test]
fn release_output_streams() {
    let (stub, paas) = hello();
    let mut with_phase = release(6, "Retry", "pending", false);
    with_phase["output_stream_url"] = format!("{}/streams/6?token=t", stub.url()).into();
    stub.answers("GET /apps/hello/releases/6", with_phase.clone()).answers("POST /apps/hello/releases", with_phase);
    stub.answers("GET /apps/hello/releases", json!([release(5, "Deploy def", "failed", false)]));
    stub.answers("GET /apps/hello/formation", json!([formation("web", 1)]));
    stub.on("GET /streams/6?token=t", Answer::text(200, "text/plain", "migrating...\n"));
    paas.run("releases:output 6").shows("migrating...\n", "");
    assert!(!stub.last("GET /streams/6?token=t").headers.contains_key("authorization"));
    paas.run("releases:retry").fails(2, " ▸    App must have a release-phase command to use this command.\n");
    stub.forget("GET /apps/hello/formation");
    stub.answers("GET /apps/hello/formation", json!([formation("web", 1), formation("release", 0)]));
    paas.run("releases:retry")
        .shows("Running release command...\nmigrating...\n", "Retrying v5 on hello... done, v6\n");
    assert_eq!(stub.sent("POST /apps/hello/releases"), json!({"slug": ID, "description": "Retry of v5: Deploy def"}));
}

#[test]
fn builds_are_listed_and_made() {
    let (stub, paas) = hello();
    stub.answers("GET /apps/hello/builds", json!([build(&stub, "b1", "failed"), build(&stub, "b2", "succeeded")]));
    stub.answers("GET /apps/hello/builds/b2", build(&stub, "b2", "succeeded"));
    stub.answers("GET /apps/hello/builds/b1", build(&stub, "b1", "failed"));
    stub.on("GET /streams/b2", Answer::text(200, "text/plain", "-----> Python\n"));
    stub.on("GET /streams/b1", Answer::text(200, "text/plain", "-----> Broken\n"));
    assert!(paas.run("builds").out.contains("\n  b2   succeeded   01234567   ada@example.com   2026/01/02"));
    assert!(paas.run("builds:info b2").out.contains("Status:     succeeded\n"));
    paas.run("builds:output").shows("-----> Python\n", "");
    paas.run("builds:output b1").shows("-----> Broken\n", "");

    let put = format!("{}/put?token=t", stub.url());
    stub.answers("POST /apps/hello/sources", json!({"source_blob": {"get_url": "the-source", "put_url": put}}));
    stub.on("PUT /put?token=t", Answer::text(200, "text/plain", ""));
    stub.answers("POST /apps/hello/builds", build(&stub, "b2", "pending"))
        .answers("POST /apps/hello/builds", build(&stub, "b1", "pending"));
    std::fs::write(paas.home.path().join("app.py"), "print(1)").expect("written");
    paas.run("builds:create --version v7").shows("-----> Python\n", "Uploading source... done\n");
    assert_eq!(stub.sent("POST /apps/hello/builds")["source_blob"]["url"], "the-source");
    assert!(!stub.last("PUT /put?token=t").headers.contains_key("authorization"));
    paas.run("builds:create --source-url http://x/y.tgz").fails(1, " ▸    Build failed\n");
}

#[test]
fn logs_end_or_go_on() {
    let (stub, paas) = hello();
    let session =
        json!({"id": ID, "created_at": AT, "updated_at": AT, "logplex_url": format!("{}/logs?token=t", stub.url())});
    stub.answers("POST /apps/hello/log-sessions", session);
    let events = |of: &str| Answer::text(200, "text/event-stream", of);
    stub.on(
        "GET /logs?token=t",
        events("id: 1\ndata: t app[web.1]: one\n\n: ping\n\nid: 2\ndata: t app[web.1]: two\n\n"),
    );
    paas.run("logs -n 5 -d web.1 -s app").shows("t app[web.1]: one\nt app[web.1]: two\n", "");
    assert_eq!(
        stub.sent("POST /apps/hello/log-sessions"),
        json!({"dyno": "web.1", "lines": 5, "source": "app", "tail": false})
    );
    let asked = stub.last("GET /logs?token=t");
    assert_eq!((asked.headers["accept"].as_str(), asked.headers.get("authorization")), ("text/event-stream", None));

    // A broken connection, a server that is away, and the end of the session.
    let stub2 = Stub::start();
    let session = json!({"id": ID, "created_at": AT, "updated_at": AT, "logplex_url": format!("{}/logs", stub2.url())});
    stub2.answers("POST /apps/hello/log-sessions", session);
    stub2.on("GET /logs", events("id: 1\ndata: one\n\n")).on("GET /logs", Answer::text(503, "text/plain", "away"));
    stub2
        .on("GET /logs", events("id: 2\ndata: two\n\nid: 3\ndata: cut"))
        .on("GET /logs", Answer::text(404, "text/plain", ""));
    let ran = Paas::of(&stub2).run("logs --tail --ps web -a hello");
    assert_eq!(ran.out, "one\ntwo\n");
    ran.fails(
        1,
        " ▸    Warning: The log stream broke off. Connecting again...\n ▸    Log stream timed out. Please try again.\n",
    );
    assert_eq!(stub2.last("GET /logs").headers["last-event-id"], "2");
}

#[test]
fn a_reader_that_goes_away_ends_us_quietly() {
    let (stub, paas) = hello();
    let session = json!({"id": ID, "created_at": AT, "updated_at": AT, "logplex_url": format!("{}/logs", stub.url())});
    stub.answers("POST /apps/hello/log-sessions", session);
    let many: String =
        (0..20_000).map(|i| format!("id: {i}\ndata: line {i} of many that do not fit into a pipe\n\n")).collect();
    stub.on("GET /logs", Answer::text(200, "text/event-stream", &many));
    let mut child = paas
        .command(&["logs"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    let mut first = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().expect("stdout"), &mut first).expect("read");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()), (Some(0), String::new()));
}
