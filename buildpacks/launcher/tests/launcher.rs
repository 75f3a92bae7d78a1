//! The binary itself as process 1's stand-in: what the app sees, how it ends, what is passed on.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The launcher with this command line, these config vars, and an otherwise small environment.
fn launcher(command: &str, config: &[(&str, &str)]) -> Command {
    let config: BTreeMap<String, String> = config.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let mut launcher = Command::new(env!("CARGO_BIN_EXE_launcher"));
    launcher.env_clear().env("PATH", "/usr/bin:/bin").env("PAAS_COMMAND", command).envs(paas_dyno_env::encode(&config));
    launcher
}

fn output(command: &str, config: &[(&str, &str)]) -> Output {
    launcher(command, config).output().expect("runs")
}

/// Starts a command that prints `ready`, and waits for that.
fn started(command: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = launcher(command, &[]).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    lines.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    (child, lines)
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).expect("sent");
}

#[test]
fn config_arrives_byte_for_byte_and_nothing_of_ours_does() {
    let odd = "a\tb\n\"q\" 'x' $HOME `id` héllo=1";
    let seen = output("printf %s \"$ODD\"; env | grep -c ^PAAS_", &[("ODD", odd)]);
    assert_eq!(String::from_utf8_lossy(&seen.stdout), format!("{odd}0\n"));
}

#[test]
fn exits_as_the_command_did() {
    assert_eq!(output("exit 42", &[]).status.code(), Some(42));
    assert_eq!(output("kill -KILL $$", &[]).status.code(), Some(137));
    assert_eq!(output("no-such-program-here", &[]).status.code(), Some(127));
}

#[test]
fn damaged_config_is_one_line_and_no_start() {
    let seen = launcher("echo started", &[]).env("PAAS_CONFIG_0", "AAAA").output().expect("runs");
    assert_eq!(seen.status.code(), Some(126));
    assert!(seen.stdout.is_empty());
    assert_eq!(String::from_utf8_lossy(&seen.stderr), "launcher: the config of this dyno is damaged (deflate)\n");
}

#[test]
fn a_stop_reaches_children_behind_a_shell_and_waits_for_them() {
    let script = "sh -c 'trap \"sleep 0.3; echo bye; exit 0\" TERM; echo ready; while :; do sleep 0.05; done' ; true";
    let (mut child, mut lines) = started(script);
    signal(&child, rustix::process::Signal::TERM);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).expect("reads");
    assert_eq!(rest, "bye\n");
    assert_eq!(child.wait().expect("ends").code(), Some(143));
}

#[test]
fn other_signals_go_to_the_command_alone() {
    let (mut child, mut lines) = started("trap 'echo usr1; exit 3' USR1; echo ready; while :; do sleep 0.05; done");
    signal(&child, rustix::process::Signal::USR1);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).expect("reads");
    assert_eq!((rest.as_str(), child.wait().expect("ends").code()), ("usr1\n", Some(3)));
}

#[test]
fn orphans_are_reaped() {
    let script = "(sh -c 'sleep 0.1' &) ; echo ready; sleep 0.6; ps -o stat= --ppid \"$PPID\" | grep -c Z; true";
    let (mut child, mut lines) = started(script);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).expect("reads");
    assert_eq!((rest.as_str(), child.wait().expect("ends").code()), ("0\n", Some(0)));
}

#[test]
fn stdin_is_the_commands() {
    let mut child = launcher("cat", &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    std::io::Write::write_all(child.stdin.as_mut().expect("piped"), b"line\n").expect("writes");
    drop(child.stdin.take());
    assert_eq!(child.wait_with_output().expect("ends").stdout, b"line\n");
}

#[test]
fn a_web_dyno_is_healthy_once_its_port_listens() {
    let health = |port: u16| {
        let mut check = Command::new(env!("CARGO_BIN_EXE_launcher"));
        check.arg("health").env("PORT", port.to_string()).output().expect("runs")
    };
    let free = TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = free.local_addr().expect("has one").port();
    let seen = health(port);
    assert!(!seen.status.success());
    assert!(String::from_utf8_lossy(&seen.stdout).contains("bound to localhost only"));
    drop(free);
    assert!(String::from_utf8_lossy(&health(port).stdout).contains("nothing listens"));
}

#[test]
fn on_a_terminal_the_command_may_read() {
    // `script` gives the launcher a terminal of its own; a background reader would be stopped for ever.
    let inner = format!("{} </dev/tty", env!("CARGO_BIN_EXE_launcher"));
    let mut child = Command::new("script")
        .args(["-qec", &inner, "/dev/null"])
        .env("PAAS_COMMAND", "read -r line; echo \"got $line\"")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("not run: no script (bsdutils)");
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, b"hello\n").expect("writes");
    let until = Instant::now() + Duration::from_secs(10);
    while child.try_wait().expect("looks").is_none() {
        assert!(Instant::now() < until, "the command never got its line");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut seen = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut seen).expect("reads");
    assert!(seen.contains("got hello"), "{seen}");
}
