//! `run`, joined with a rendezvous as the platform keeps one.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::support::*;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

pub(crate) type Line = StreamOwned<ServerConnection, std::net::TcpStream>;

/// A listener for one conversation, with a certificate of its own for `localhost` in the file `ca.pem` of `home`.
/// Sends on what `serve` returned.
pub(crate) fn tls_server(
    home: &std::path::Path,
    serve: impl FnOnce(&mut Line) -> Vec<u8> + Send + 'static,
) -> (u16, Receiver<Vec<u8>>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(home.join("ca.pem"), made.cert.pem()).expect("written");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a configuration");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (heard, hears) = channel();
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a connection");
        let mut line = StreamOwned::new(ServerConnection::new(Arc::new(config)).expect("TLS"), socket);
        let said = serve(&mut line);
        line.conn.send_close_notify();
        let _ = line.flush();
        let _ = heard.send(said);
    });
    (port, hears)
}

/// The same, behind the token that opens a rendezvous.
fn rendezvous(
    home: &std::path::Path,
    serve: impl FnOnce(&mut Line) -> Vec<u8> + Send + 'static,
) -> (u16, Receiver<Vec<u8>>) {
    tls_server(home, |line| {
        let mut token = [0; 8];
        if line.read_exact(&mut token).is_err() {
            return Vec::new(); // the client did not trust us
        }
        assert_eq!(&token, b"to/ken\r\n");
        serve(line)
    })
}

pub(crate) fn say(line: &mut Line, text: &str) {
    line.write_all(text.as_bytes()).expect("said");
    line.flush().expect("said");
}

/// The stub, the binary, and the dyno's end.
fn hello(serve: impl FnOnce(&mut Line) -> Vec<u8> + Send + 'static) -> (Stub, Paas, Receiver<Vec<u8>>) {
    let stub = Stub::start();
    let paas = Paas::of(&stub).env("PAAS_APP", "hello");
    let (port, hears) = rendezvous(paas.home.path(), serve);
    let mut made = dyno("run.77", "python", "starting");
    made["attach_url"] = format!("rendezvous://localhost:{port}/to/ken").into();
    stub.answers("POST /apps/hello/dynos", made);
    let ca = paas.home.path().join("ca.pem").display().to_string();
    (stub, paas.env("PAAS_CA", &ca), hears)
}

/// Everything up to the byte that ends the input.
fn hear_all(line: &mut Line) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut byte = [0];
    while line.read_exact(&mut byte).is_ok() && byte != [4] {
        heard.push(byte[0]);
    }
    heard
}

#[test]
fn pipes_stdin_and_returns_the_exit_code() {
    let (stub, paas, hears) = hello(|line| {
        say(line, "rendezvous\r\n");
        let heard = hear_all(line);
        say(line, "42\nhalf \u{FFFF} heroku-command-");
        say(line, "exit-status: 7\r\n");
        heard
    });
    let paas = paas.input("print(6*7)\n");
    let ran = paas.run("run --no-tty -e A=1;B=2 --size basic python -u");
    assert_eq!(ran.out, "42\nhalf ");
    ran.fails(7, "Running python -u on hello... up, run.77\n");
    assert_eq!(hears.recv_timeout(Duration::from_secs(5)).expect("heard"), b"print(6*7)\n");
    let sent = stub.sent("POST /apps/hello/dynos");
    assert_eq!(sent["command"], "python -u ; echo \"\u{FFFF} heroku-command-exit-status: $?\"");
    assert_eq!((&sent["attach"], &sent["force_no_tty"], &sent["size"]), (&json!(true), &json!(true), &json!("basic")));
    assert_eq!(sent["env"], json!({"A": "1", "B": "2"}));
}

#[test]
fn large_input_and_output_arrive_whole() {
    let (_stub, paas, hears) = hello(|line| {
        say(line, "rendezvous\r\n");
        let heard = hear_all(line);
        line.write_all(&heard).expect("said");
        say(line, "\u{FFFF} heroku-command-exit-status: 0\n");
        heard
    });
    let big: String = (0..200_000).map(|i| format!("line {i} é\n")).collect();
    let ran = paas.input(&big).run("run cat");
    assert!(ran.code == 0 && ran.out == big, "{} of {} bytes, {}", ran.out.len(), big.len(), ran.err);
    assert_eq!(hears.recv_timeout(Duration::from_secs(5)).map(|h| h.len()), Ok(big.len()));
}

#[test]
fn output_right_behind_the_banner_is_kept_and_a_missing_status_told() {
    let (_stub, paas, _hears) = hello(|line| {
        say(line, "rendez");
        say(line, "vous\r\nfirst words\n");
        Vec::new()
    });
    let ran = paas.run("run -x worker");
    assert_eq!(ran.out, "first words\n");
    ran.fails(1, "Running worker on hello... up, run.77\n ▸    No exit code returned\n");
}

#[test]
fn what_is_no_dyno_is_not_believed() {
    let (_stub, paas, _hears) = hello(|line| {
        say(line, "HTTP/1.1 400 Bad Request\r\n\r\n");
        Vec::new()
    });
    paas.run("run ls").fails(1, "Running ls on hello... !\n ▸    What answered at the rendezvous is not a dyno.\n");

    let (_stub, paas, _hears) = hello(|_| Vec::new());
    let ran = paas.without("PAAS_CA").run("run ls");
    assert!(ran.code == 1 && ran.err.contains("PAAS_CA can name a certificate authority"), "{ran:?}");
}

#[test]
fn an_interrupt_stops_the_dyno() {
    let (stub, paas, hears) = hello(|line| {
        say(line, "rendezvous\r\n");
        say(line, "working\n");
        let mut rest = Vec::new();
        let _ = line.read_to_end(&mut rest);
        rest
    });
    stub.answers("POST /apps/hello/dynos/run.77/actions/stop", json!({}));
    let mut command = paas.command(&["run", "sleep", "100"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("runs");
    let mut first = [0; 8];
    child.stdout.as_mut().expect("stdout").read_exact(&mut first).expect("output");
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("signalled");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    hears.recv_timeout(Duration::from_secs(5)).expect("the line was closed");
    assert!(stub.asked().contains(&"POST /apps/hello/dynos/run.77/actions/stop".to_owned()));
}

#[test]
fn a_dyno_that_cannot_start_yet_is_asked_for_again() {
    let (stub, paas, _hears) = hello(|line| {
        say(line, "rendezvous\r\n\u{FFFF} heroku-command-exit-status: 3\n");
        Vec::new()
    });
    let again = Stub::start();
    let conflict = Answer::error(409, "conflict", "No release yet.");
    let made: serde_json::Value = {
        let ran = paas.run("run x");
        assert_eq!(ran.code, 3, "{ran:?}");
        stub.sent("POST /apps/hello/dynos")
    };
    assert!(made["command"].as_str().is_some_and(|c| c.starts_with("x ; echo")));
    again.on("POST /apps/hello/dynos", conflict);
    let ran = Paas::of(&again).run("run x -a hello");
    ran.fails(2, " ▸    No release yet.\n ▸\n ▸    Error ID: conflict\n");
    assert_eq!(again.asked().len(), 3);
    Paas::of(&again).run("run -a hello").fails(1, " ▸    Usage: paas run COMMAND\n ▸\n ▸    Example: paas run bash\n");
}

#[test]
fn detached_points_to_the_log() {
    let stub = Stub::start();
    stub.answers("POST /apps/hello/dynos", dyno("run.77", "ls", "starting"));
    Paas::of(&stub).run("run:detached ls -a hello").shows(
        "Run paas logs --app hello --dyno run.77 to view the output.\n\n",
        "Running ls on hello... done, run.77\n",
    );
    let sent = stub.sent("POST /apps/hello/dynos");
    assert_eq!((&sent["attach"], &sent["command"]), (&json!(false), &json!("ls")));
}
