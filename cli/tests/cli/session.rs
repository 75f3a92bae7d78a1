//! Keys, errors and words that are wrong: what surrounds every command.

use std::os::unix::fs::PermissionsExt;

use crate::support::*;
use serde_json::json;

#[test]
fn login_keeps_a_key_and_logout_forgets_it() {
    let stub = Stub::start();
    stub.answers("POST /oauth/authorizations", authorization("a-1", "HRKU-new")).answers("GET /account", account());
    let paas = Paas::of(&stub).without("PAAS_API_KEY").input("ada@example.com\nhunter2\n");
    let netrc = paas.home.path().join(".netrc");
    let others = "machine api.heroku.com\n  login me\n  password theirs\n";
    std::fs::write(&netrc, others).expect("written");
    std::fs::set_permissions(&netrc, std::fs::Permissions::from_mode(0o600)).expect("set");

    paas.run("login -i")
        .shows("Logged in as ada@example.com\n", "paas: Enter your login credentials\nEmail: Password or API key: ");
    let asked = stub.last("POST /oauth/authorizations");
    assert_eq!(asked.headers["authorization"], "Basic YWRhQGV4YW1wbGUuY29tOmh1bnRlcjI=");
    assert_eq!(stub.last("GET /account").headers["authorization"], "Bearer HRKU-new");
    let host = format!("localhost:{}", stub.port);
    let kept = std::fs::read_to_string(&netrc).expect("read");
    assert_eq!(kept, format!("{others}machine {host}\n  login ada@example.com\n  password HRKU-new\n"));
    assert_eq!(std::fs::metadata(&netrc).expect("there").permissions().mode() & 0o777, 0o600);
    paas.run("whoami").shows("ada@example.com\n", "");
    paas.run("auth:token").shows("HRKU-new\n", "");

    stub.answers(
        "GET /oauth/authorizations",
        json!([authorization("a-0", "HRKU-old"), authorization("a-1", "HRKU-n**********w")]),
    );
    stub.on("GET /oauth/authorizations/~", Answer::error(404, "not_found", "No"));
    stub.answers("DELETE /oauth/authorizations/a-1", authorization("a-1", ""));
    paas.run("logout").shows("", "Logging out... done\n");
    assert!(stub.asked().contains(&"DELETE /oauth/authorizations/a-1".to_owned()));
    assert_eq!(std::fs::read_to_string(&netrc).expect("read"), others);
    paas.run("whoami").fails(100, " ▸    not logged in\n");
    paas.run("apps").fails(2, " ▸    not logged in: run `paas login`, or set PAAS_API_KEY\n");
}

#[test]
fn logout_leaves_the_accounts_own_key_alone() {
    let stub = Stub::start();
    let paas = Paas::of(&stub).without("PAAS_API_KEY");
    let entry = format!("machine localhost:{}\n  login a\n  password HRKU-own\n", stub.port);
    std::fs::write(paas.home.path().join(".netrc"), entry).expect("written");
    stub.answers("GET /oauth/authorizations", json!([authorization("own", "HRKU-own")]));
    stub.answers("GET /oauth/authorizations/~", authorization("own", "HRKU-own"));
    assert_eq!(paas.run("logout").code, 0);
    assert!(!stub.asked().iter().any(|line| line.starts_with("DELETE")));
}

#[test]
fn login_with_a_second_factor_and_login_refused() {
    let stub = Stub::start();
    stub.on("POST /oauth/authorizations", Answer::error(403, "two_factor", "A second factor is needed."));
    stub.answers("POST /oauth/authorizations", authorization("a", "HRKU-2fa")).answers("GET /account", account());
    let paas = Paas::of(&stub).without("PAAS_API_KEY").input("ada@example.com\nx\n123456\n");
    assert_eq!(paas.run("login").code, 0);
    assert_eq!(stub.last("POST /oauth/authorizations").headers["heroku-two-factor-code"], "123456");

    let stub = Stub::start();
    stub.on("POST /oauth/authorizations", Answer::error(401, "unauthorized", "Invalid credentials provided."));
    let paas = Paas::of(&stub).without("PAAS_API_KEY").input("a\nb\n");
    let ran = paas.run("login");
    assert_eq!(ran.code, 2);
    assert!(ran.err.ends_with(" ▸    Invalid credentials provided.\n ▸\n ▸    Error ID: unauthorized\n"), "{ran:?}");
    assert!(!paas.home.path().join(".netrc").exists());
    Paas::of(&stub).run("login").fails(2, " ▸    Cannot log in with PAAS_API_KEY set\n");
}

#[test]
fn a_bad_netrc_is_told_without_its_secrets() {
    let stub = Stub::start();
    stub.answers("GET /account", account());
    let paas = Paas::of(&stub).without("PAAS_API_KEY");
    let netrc = paas.home.path().join(".netrc");
    std::fs::write(&netrc, format!("machine localhost:{} login a password HRKU-secret\n", stub.port)).expect("written");
    std::fs::set_permissions(&netrc, std::fs::Permissions::from_mode(0o644)).expect("set");
    let ran = paas.run("whoami");
    assert!(ran.code == 0 && ran.err.contains("can be read by others") && !ran.err.contains("HRKU"), "{ran:?}");

    std::fs::write(&netrc, b"machine \xff\xfe password HRKU-secret").expect("written");
    let ran = paas.run("apps");
    assert!(ran.code == 1 && ran.err.contains("not UTF-8") && !ran.err.contains("HRKU"), "{ran:?}");
    std::fs::remove_file(&netrc).expect("removed");
    std::os::unix::fs::symlink(&netrc, &netrc).expect("linked");
    assert_eq!(paas.run("apps").code, 1);
    std::fs::remove_file(&netrc).expect("removed");
    std::fs::File::create(&netrc).and_then(|f| f.set_len(100 * 1024 * 1024)).expect("made");
    assert_eq!(paas.run("apps").code, 1);
    let ran = Paas::of(&stub).without("PAAS_API_KEY").env("HOME", "").run("login");
    ran.fails(1, " ▸    HOME is not set, so there is nowhere to keep the key. Set PAAS_API_KEY instead.\n");
}

#[test]
fn a_key_goes_to_its_server_only() {
    let (stub, other) = (Stub::start(), Stub::start());
    let elsewhere = format!("http://127.0.0.1:{}/stolen", other.port);
    other.answers("GET /stolen", account());
    stub.on(
        "GET /account",
        Answer { status: 302, ..Answer::text(302, "text/plain", "") }.header("location", &elsewhere),
    );
    let ran = Paas::of(&stub).run("whoami");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!other.last("GET /stolen").headers.contains_key("authorization"));

    // netrc holds a key for one server; another server never gets it.
    let paas = Paas::of(&other).without("PAAS_API_KEY");
    std::fs::write(paas.home.path().join(".netrc"), format!("machine localhost:{} login a password k\n", stub.port))
        .expect("written");
    assert_eq!(paas.run("apps").code, 2);
    // Heroku's own variables are not ours to use.
    let paas = paas.env("HEROKU_API_KEY", "HRKU-heroku").env("HEROKU_HOST", "evil.example");
    assert_eq!(paas.run("apps").code, 2);
    assert_eq!(other.asked().len(), 1);
}

#[test]
fn trouble_with_the_server_is_said_in_words() {
    let stub = Stub::start();
    stub.on("GET /apps/hello", Answer::text(502, "text/html", "<html><h1>Bad Gateway</h1></html>"));
    let paas = Paas::of(&stub);
    let said = format!(
        " ▸    The server at http://localhost:{} answered 502 Bad Gateway, and not as the API does.\n",
        stub.port
    );
    paas.run("maintenance -a hello").fails(1, &said);
    stub.on("GET /apps/html", Answer::text(200, "text/html", "<html>"));
    assert!(paas.run("maintenance -a html").err.contains("did not answer as the API does"));
    stub.on("GET /apps/secret", Answer::error(401, "unauthorized", "Invalid credentials provided."));
    assert!(paas.run("maintenance -a secret").err.contains("The token provided to PAAS_API_KEY is invalid."));
    let refused = Paas::bare().env("PAAS_URL", "http://localhost:1").env("PAAS_API_KEY", "k").run("apps");
    refused
        .fails(1, " ▸    Couldn't talk to http://localhost:1: the connection was refused. Is the platform running?\n");
    assert!(Paas::bare().run("apps").err.contains("PAAS_URL is not set"));
    assert!(Paas::bare().env("PAAS_URL", "nonsense").run("apps").err.contains("PAAS_URL"));
    let warned = Answer::json(app(&stub, "warn")).header("x-heroku-warning", "Warning: soon");
    stub.on("GET /apps/warn", warned);
    paas.run("maintenance -a warn").shows("off\n", " ▸    Warning: soon\n");
    assert_eq!(Paas::of(&stub).env("PAAS_API_KEY", "a\nb").run("apps").code, 2);
}

#[test]
fn the_app_comes_from_flag_environment_or_remote() {
    let stub = Stub::start();
    for name in ["a", "b", "c", "d"] {
        stub.answers(&format!("GET /apps/{name}"), app(&stub, name));
    }
    let paas = Paas::of(&stub);
    let hint = " ▸    Missing required flag app\n ▸    Say which app: --app APP, PAAS_APP, or a git remote (paas git:remote --app APP).\n ▸    See more help with --help\n";
    paas.run("maintenance").fails(2, hint);
    paas.git("init -q");
    paas.git("remote add origin https://github.com/me/x.git");
    paas.run("maintenance").fails(2, hint);
    paas.git(&format!("remote add aws https://localhost:{}/a.git", stub.port));
    paas.run("maintenance").shows("off\n", "");
    paas.git(&format!("remote add staging https://localhost:{}/b.git", stub.port));
    assert!(paas.run("maintenance").err.contains("Multiple apps in git remotes"));
    paas.run("maintenance -r staging");
    paas.run("maintenance -r nope").fails(2, " ▸    remote nope not found in git remotes\n");
    let paas = paas.env("HEROKU_APP", "c");
    paas.run("maintenance");
    paas.run("maintenance -a d");
    paas.run("maintenance -r staging");
    let asked: Vec<_> = stub.asked().iter().map(|line| line.replace("GET /apps/", "")).collect();
    assert_eq!(asked, ["a", "b", "c", "d", "b"]);
}

#[test]
fn words_that_are_no_command() {
    let paas = Paas::bare();
    paas.run("zzzz")
        .fails(127, " ▸    zzzz is not a paas command.\n ▸    Run paas help for a list of available commands.\n");
    paas.run("ps:scal web=1").fails(
        127,
        " ▸    ps:scal is not a paas command.\n ▸    Perhaps you meant ps:scale.\n ▸    Run paas help ps for a list of available commands.\n",
    );
    paas.run("ps --bogus").fails(2, " ▸    Nonexistent flag: --bogus\n ▸    See more help with --help\n");
    let version = paas.run("version");
    assert!(version.out.starts_with("paas/") && version.code == 0);
    assert_eq!(paas.run("--version").out, version.out);
    assert!(paas.run("help").out.contains("ps:scale") && paas.run("").out.contains("ps:scale"));
    assert!(paas.run("help ps:scale").out.contains("TYPE=QUANTITY"));
    assert!(paas.run("ps:scale --help").out.contains("web=2:Standard-2X"));
    assert!(paas.run("completions bash").out.contains("complete -F _paas paas"));
    paas.run("__complete -- ps:sc").shows("ps:scale\n", "");
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff\xfe");
    let output = paas.command(&["config:get"]).arg(std::ffi::OsStr::to_owned(odd)).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_https_api_is_trusted_by_its_own_authority() {
    let paas = Paas::bare().env("PAAS_API_KEY", "k");
    let body = account().to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    let serve = move |line: &mut crate::run::Line| {
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"\r\n\r\n") && std::io::Read::read_exact(line, &mut byte).is_ok() {
            asked.push(byte[0]);
        }
        crate::run::say(line, &answer);
        asked
    };
    let (port, hears) = crate::run::tls_server(paas.home.path(), serve);
    let ca = paas.home.path().join("ca.pem").display().to_string();
    let paas = paas.env("PAAS_URL", &format!("https://localhost:{port}")).env("PAAS_CA", &ca);
    assert_eq!(paas.run("whoami").out, "ada@example.com\n");
    let asked = hears.recv_timeout(std::time::Duration::from_secs(5)).expect("heard");
    assert!(String::from_utf8_lossy(&asked).contains("Bearer k"));

    let (port, _hears) = crate::run::tls_server(paas.home.path(), |_| Vec::new());
    let paas = paas.env("PAAS_URL", &format!("https://localhost:{port}")).without("PAAS_CA");
    let ran = paas.run("apps");
    assert!(ran.code == 1 && ran.err.contains("PAAS_CA can name a certificate authority"), "{ran:?}");
    assert!(paas.env("PAAS_CA", "/nonexistent").run("apps").err.contains("PAAS_CA: couldn't read /nonexistent"));
}
