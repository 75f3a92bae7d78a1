//! `apps:*`, `git:*`, `maintenance:*` and `domains:*`, as transcripts.

use crate::support::*;
use serde_json::json;

fn hello() -> (Stub, Paas) {
    let stub = Stub::start();
    stub.answers("GET /apps/hello", app(&stub, "hello")).answers("GET /account", account());
    let paas = Paas::of(&stub);
    (stub, paas)
}

#[test]
fn lists_apps_of_mine_and_others() {
    let (stub, paas) = hello();
    let mut other = app(&stub, "zap");
    other["owner"]["email"] = "o@x.co".into();
    other["region"]["name"] = "eu".into();
    // Two pages.
    let page = Answer { status: 206, ..Answer::json(json!([other])) }.header("next-range", "]x..; max=1");
    stub.on("GET /users/~/apps", page).answers("GET /users/~/apps", json!([app(&stub, "hello")]));
    paas.run("apps").shows(
        "=== ada@example.com Apps\n\nhello\n\nCollaborated Apps\n\n  Name       Email\n ───────────────────\n  zap (eu)   o@x.co\n\n",
        "",
    );
    assert_eq!(stub.last("GET /users/~/apps").headers["range"], "]x..; max=1");
    assert_eq!(stub.last("GET /account").headers["authorization"], "Bearer HRKU-key");
    assert_eq!(stub.last("GET /account").headers["accept"], "application/vnd.heroku+json; version=3");

    let none = Stub::start();
    none.answers("GET /users/~/apps", json!([]));
    Paas::of(&none).run("list").shows("You have no apps.\n", "");
}

#[test]
fn create_adds_a_remote_inside_a_repository() {
    let (stub, paas) = hello();
    stub.answers("POST /apps", app(&stub, "hello"));
    let url = format!("https://localhost:{}/hello.git", stub.port);
    let summary = format!("http://hello.localhost:5080/ | {url}\n");
    paas.run("create hello").shows(&summary, "Creating hello... done\n");
    assert_eq!(stub.sent("POST /apps"), json!({"name": "hello"}));

    paas.git("init -q");
    paas.run("create").shows(&summary, "Creating app... done, hello\n");
    assert_eq!(stub.sent("POST /apps"), json!({}));
    assert_eq!(paas.git("remote get-url aws"), url);
    paas.run("create hello --remote staging").shows(&summary, "Creating hello... done\n");
    assert_eq!(paas.git("remote get-url staging"), url);

    paas.git("remote set-url aws https://elsewhere/x.git");
    let ran = paas.run("create hello -s heroku-24 --region us");
    assert!(ran.err.starts_with("Creating hello... done, region is us, stack is heroku-24\n ▸    Warning: git remote aws leads to https://elsewhere"), "{ran:?}");
    assert_eq!(paas.git("remote get-url aws"), "https://elsewhere/x.git");
}

#[test]
fn info_in_three_forms() {
    let (stub, paas) = hello();
    let dynos = json!([dyno("web.1", "x", "up"), dyno("web.2", "x", "up"), dyno("run.5", "bash", "up")]);
    stub.answers("GET /apps/hello/dynos", dynos);
    let url = format!("https://localhost:{}/hello.git", stub.port);
    paas.run("apps:info -a hello").shows(
        &format!(
            "=== hello\n\nAuto Cert Mgmt: false\nGit URL:        {url}\nWeb URL:        http://hello.localhost:5080/\n\
             Repo Size:      121 KB\nSlug Size:      10 MB\nOwner:          ada@example.com\nRegion:         us\n\
             Dynos:          web: 2, run: 1\nStack:          heroku-24\n"
        ),
        "",
    );
    let shell = paas.run("info hello -s");
    assert!(
        shell.out.starts_with("auto_cert_mgmt=false\naddons=\ncollaborators=\ngit_url=https://localhost"),
        "{shell:?}"
    );
    assert!(shell.out.ends_with("dynos={ web: 2, run: 1 }\nstack=heroku-24\n"), "{shell:?}");
    assert!(paas.run("info -j -a hello").out.contains("\"name\": \"hello\""));
}

#[test]
fn destroy_wants_the_name() {
    let (stub, paas) = hello();
    stub.answers("DELETE /apps/hello", app(&stub, "hello"));
    paas.run("apps:destroy -a hello --confirm x").fails(1, " ▸    Confirmation x did not match hello. Aborted.\n");
    let asked = " ▸    Warning: This will delete hello including all add-ons.\n\nTo proceed, type hello or re-run this command with --confirm hello: ";
    let refused = " ▸    Confirmation did not match hello. Aborted.\n";
    paas.run("destroy hello").fails(1, &format!("{asked}\n{refused}"));
    assert!(!stub.asked().contains(&"DELETE /apps/hello".to_owned()));

    let paas = paas.input("hello\n");
    paas.git("init -q");
    paas.git(&format!("remote add aws https://localhost:{}/hello.git", stub.port));
    paas.git("remote add origin https://elsewhere/hello.git");
    paas.run("destroy").shows("", &format!("{asked}Destroying hello (including all add-ons)... done\n"));
    assert_eq!(paas.git("remote"), "origin");
    paas.run("apps:delete -a hello -c hello").shows("", "Destroying hello (including all add-ons)... done\n");
}

#[test]
fn rename_moves_the_remote() {
    let (stub, paas) = hello();
    stub.answers("PATCH /apps/hello", app(&stub, "newname"));
    paas.git("init -q");
    paas.git(&format!("remote add aws https://localhost:{}/hello.git", stub.port));
    let url = format!("https://localhost:{}/newname.git", stub.port);
    paas.run("rename newname").shows(
        &format!("http://newname.localhost:5080/ | {url}\nGit remote aws updated\n"),
        "Renaming hello to newname... done\n ▸    Warning: Don't forget to update git remotes for all other local checkouts of the app.\n",
    );
    assert_eq!(paas.git("remote get-url aws"), url);
    assert_eq!(stub.sent("PATCH /apps/hello"), json!({"name": "newname"}));
}

#[test]
fn open_prints_the_url_where_no_browser_is() {
    let (_stub, paas) = hello();
    paas.run("open /x?y=1 -a hello").shows("http://hello.localhost:5080/x?y=1\n", "");
}

#[test]
fn maintenance_on_and_off() {
    let (stub, paas) = hello();
    stub.answers("PATCH /apps/hello", app(&stub, "hello"));
    paas.run("maintenance -a hello").shows("off\n", "");
    paas.run("maintenance:on -a hello").shows("", "Enabling maintenance mode for hello... done\n");
    assert_eq!(stub.sent("PATCH /apps/hello"), json!({"maintenance": true}));
    paas.run("maintenance:off -a hello").shows("", "Disabling maintenance mode for hello... done\n");
    assert_eq!(stub.sent("PATCH /apps/hello"), json!({"maintenance": false}));
}

#[test]
fn features_are_listed_and_switched() {
    let (stub, paas) = hello();
    let feature = |enabled: bool| {
        json!({"created_at": AT, "description": "Keeps clients", "display_name": "HTTP Session Affinity",
            "doc_url": "https://devcenter.heroku.com/x", "enabled": enabled, "feedback_email": "ada@example.com", "id": ID,
            "name": "http-session-affinity", "state": "general", "updated_at": AT})
    };
    let (list, one) = ("GET /apps/hello/features", "GET /apps/hello/features/http-session-affinity");
    let patch = "PATCH /apps/hello/features/http-session-affinity";
    stub.answers(list, json!([feature(false)])).answers(list, json!([feature(true)]));
    stub.answers(one, feature(false)).answers(one, feature(true));
    stub.answers(patch, feature(true));
    paas.run("features -a hello").shows("=== App Features hello\n\n[ ] http-session-affinity  Keeps clients\n", "");
    let enabling = "Enabling http-session-affinity for hello...";
    paas.run("features:enable http-session-affinity -a hello").shows("", &format!("{enabling} done\n"));
    assert_eq!(stub.sent(patch), json!({"enabled": true}));
    paas.run("features:enable http-session-affinity -a hello")
        .fails(1, &format!("{enabling} !\n ▸    http-session-affinity is already enabled.\n"));
    paas.run("features -a hello").shows("=== App Features hello\n\n[+] http-session-affinity  Keeps clients\n", "");
    paas.run("features:info http-session-affinity -a hello").shows(
        "=== http-session-affinity\n\nDescription: Keeps clients\nDocs:        https://devcenter.heroku.com/x\n\
         Enabled:     true\n",
        "",
    );
    paas.run("features:disable http-session-affinity -a hello")
        .shows("", "Disabling http-session-affinity for hello... done\n");
    assert_eq!(stub.sent(patch), json!({"enabled": false}));
    assert!(paas.run("features --json -a hello").out.contains("\"enabled\": true"));
}

#[test]
fn placement_is_shown_and_changed() {
    let (stub, paas) = hello();
    let path = "/paas/apps/hello/placement";
    stub.answers(&format!("GET {path}"), json!({"architecture": "x86_64", "capacity": "on_demand"}));
    paas.run("placement -a hello").shows("=== hello Placement\n\nArchitecture: x86_64\nCapacity:     on_demand\n", "");
    assert_eq!(
        paas.run("placement --json -a hello").out,
        "{\n  \"architecture\": \"x86_64\",\n  \"capacity\": \"on_demand\"\n}\n"
    );
    let patch = format!("PATCH {path}");
    stub.answers(&patch, json!({"architecture": "arm64", "capacity": "spot"}));
    paas.run("placement:set --architecture arm64 --capacity spot -a hello")
        .shows("The next push is built for arm64.\n", "Changing the placement of hello... done, spot on arm64\n");
    assert_eq!(stub.sent(&patch), json!({"architecture": "arm64", "capacity": "spot"}));
    paas.run("placement:set --capacity on-demand -a hello")
        .shows("", "Changing the placement of hello... done, spot on arm64\n");
    assert_eq!(stub.sent(&patch), json!({"capacity": "on_demand"}));
    paas.run("placement:set -a hello")
        .fails(2, " ▸    Say what to change: --architecture or --capacity\n ▸    See more help with --help\n");
    stub.forget(&patch);
    stub.on(
        &patch,
        Answer::error(422, "invalid_params", "This platform is one machine, and runs apps on x86_64 only."),
    );
    paas.run("placement:set --architecture arm64 -a hello").fails(
        2,
        "Changing the placement of hello... !\n ▸    This platform is one machine, and runs apps on x86_64 only.\n ▸\n \
         ▸    Error ID: invalid_params\n",
    );
}

#[test]
fn what_is_to_be_done_for_a_certificate_is_shown() {
    let (stub, paas) = hello();
    let (mut pending, mut ok) = (domain("www.example.com", "custom"), domain("example.org", "custom"));
    pending["acm_status"] = json!("pending");
    pending["acm_status_reason"] = json!("Make this DNS record, and keep it: _a.www.example.com CNAME _b.example.net");
    ok["acm_status"] = json!("ok");
    stub.answers("GET /apps/hello/domains", json!([domain("hello.localhost", "heroku"), pending, ok]));
    paas.run("domains -a hello").shows(
        "=== hello Heroku Domain\n\nhello.localhost\n\n\n=== hello Custom Domains\n\n\
         \x20 Domain Name       DNS Record Type   DNS Target        SNI Endpoint\n\
         \x20────────────────────────────────────────────────────────────────────\n\
         \x20 www.example.com   CNAME             hello.localhost\n\
         \x20 example.org       ALIAS or ANAME    hello.localhost\n\n\
         === hello Certificates\n\n\
         www.example.com: pending. Make this DNS record, and keep it: _a.www.example.com CNAME _b.example.net\n\
         example.org: ok\n",
        "",
    );
}

#[test]
fn domains_are_listed_added_removed() {
    let (stub, paas) = hello();
    let all = json!([
        domain("hello.localhost", "heroku"),
        domain("www.example.com", "custom"),
        domain("example.org", "custom")
    ]);
    stub.answers("GET /apps/hello/domains", all);
    stub.answers("POST /apps/hello/domains", domain("www.example.com", "custom"));
    stub.answers("DELETE /apps/hello/domains/www.example.com", domain("www.example.com", "custom"));
    paas.run("domains -a hello").shows(
        "=== hello Heroku Domain\n\nhello.localhost\n\n\n=== hello Custom Domains\n\n\
         \x20 Domain Name       DNS Record Type   DNS Target        SNI Endpoint\n\
         \x20────────────────────────────────────────────────────────────────────\n\
         \x20 www.example.com   CNAME             hello.localhost\n\
         \x20 example.org       ALIAS or ANAME    hello.localhost\n\n",
        "",
    );
    paas.run("domains:add www.example.com -a hello").shows(
        "Configure your app's DNS provider to point to the DNS Target hello.localhost.\n",
        "Adding www.example.com to hello... done\n",
    );
    assert_eq!(stub.sent("POST /apps/hello/domains"), json!({"hostname": "www.example.com", "sni_endpoint": null}));
    paas.run("domains:remove www.example.com -a hello").shows("", "Removing www.example.com from hello... done\n");
    paas.run("domains:remove ../x -a hello")
        .fails(2, "Removing ../x from hello... !\n ▸    Couldn't find that app.\n ▸\n ▸    Error ID: not_found\n");
    assert_eq!(stub.asked().last().map(String::as_str), Some("DELETE /apps/hello/domains/..%2Fx"));
}

#[test]
fn git_remote_and_credentials() {
    let (stub, paas) = hello();
    paas.git("init -q");
    let url = format!("https://localhost:{}/hello.git", stub.port);
    paas.run("git:remote -a hello").shows(&format!("set git remote aws to {url}\n"), "");
    paas.run("git:remote hello -r other").shows(&format!("set git remote other to {url}\n"), "");
    paas.run("git:remote -a hello").shows(&format!("set git remote aws to {url}\n"), "");
    assert_eq!(paas.git("remote get-url other"), url);

    let host = format!("localhost:{}", stub.port);
    let paas = paas.input(&format!("protocol=https\nhost={host}\n\n"));
    paas.run("git:credentials get")
        .shows(&format!("protocol=https\nhost={host}\nusername=heroku\npassword=HRKU-key\n"), "");
    for foreign in [
        format!("protocol=https\nhost={host}0\n"),
        "protocol=https\nhost=github.com\n".into(),
        "protocol=ssh\n".into(),
        String::new(),
    ] {
        Paas::of(&stub).input(&foreign).run("git:credentials get").shows("", "");
    }
    paas.run("git:credentials store").shows("", "");
    paas.run("git:credentials nope").fails(2, " ▸    unknown command: nope\n");
    let far = Paas::bare()
        .env("PAAS_URL", "http://far.example.com")
        .env("PAAS_API_KEY", "k")
        .input("protocol=http\nhost=far.example.com\n");
    assert_eq!(far.run("git:credentials get").out, "");
}
