//! Runs one command as a good process 1: signals in, exit status out, nothing left behind.
//!
//! The command leads a process group of its own, which is the terminal's foreground group when there is a
//! terminal. A request to stop goes to the whole group, as Heroku sends SIGTERM to every process of a dyno;
//! the dyno then ends when all of the group has, so that a shell in front does not cut its children short.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{self, Pid, Signal, WaitOptions, WaitStatus};
use rustix::termios;
use signal_hook::consts as signal;
use signal_hook::iterator::Signals;

/// Signals that ask a dyno to end: for its whole group.
const STOPS: [i32; 3] = [signal::SIGTERM, signal::SIGINT, signal::SIGHUP];
/// Signals that mean something to the command itself.
const FOR_THE_COMMAND: [i32; 4] = [signal::SIGQUIT, signal::SIGUSR1, signal::SIGUSR2, signal::SIGWINCH];
/// How long the rest of the group may take after the command itself has ended on request. The platform
/// allows 30 s in all, then kills.
const STRAGGLERS: Duration = Duration::from_secs(25);

/// Runs `argv` with exactly `vars` as its environment until it ends; answers its exit status, or 128 plus the
/// signal that ended it.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(argv: &[OsString], vars: &BTreeMap<OsString, OsString>) -> Result<u8, String> {
    let (program, args) = argv.split_first().ok_or("nothing to run")?;
    let listened = STOPS.iter().chain(&FOR_THE_COMMAND).chain(&[signal::SIGCHLD]);
    // Before the command starts, or its end could be missed.
    let mut signals = Signals::new(listened).map_err(|e| format!("listening to signals: {e}"))?;
    // Orphans come to us even where an init of the engine's is process 1.
    let _ = process::set_child_subreaper(Some(process::getpid()));

    let child = Command::new(program).args(args).env_clear().envs(vars).process_group(0).spawn();
    let child = child.map_err(|e| format!("starting {}: {e}", program.display()))?;
    let command = Pid::from_child(&child);
    give_terminal_to(command);

    let mut stopping = false;
    for signal in signals.forever() {
        if signal == signal::SIGCHLD {
            if let Some(status) = reap(command) {
                if stopping {
                    wait_for_group(command);
                }
                return Ok(status);
            }
        } else if let Some(named) = Signal::from_named_raw(signal) {
            if STOPS.contains(&signal) {
                stopping = true;
                let _ = process::kill_process_group(command, named);
            } else {
                let _ = process::kill_process(command, named);
            }
        }
    }
    Err("signals ended".to_owned())
}

/// Makes the command's group the foreground one, so that it may read and gets Ctrl-C.
fn give_terminal_to(command: Pid) {
    let stdin = io::stdin();
    if stdin.is_terminal() && termios::tcsetpgrp(&stdin, command).is_ok() {
        // It may have tried to read before, and been stopped for it.
        let _ = process::kill_process_group(command, Signal::CONT);
    }
}

/// Collects every child that has ended; answers the command's exit status when it is among them.
fn reap(command: Pid) -> Option<u8> {
    let mut ended = None;
    while let Ok(Some((pid, status))) = process::wait(WaitOptions::NOHANG) {
        if pid == command {
            ended = exit_status(status);
        }
    }
    ended
}

/// The status a shell would report: a signal's number counts from 128.
fn exit_status(status: WaitStatus) -> Option<u8> {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|n| 128 + n))?;
    Some(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Waits until nothing of the group is left, or its time is up.
fn wait_for_group(command: Pid) {
    let until = Instant::now() + STRAGGLERS;
    loop {
        reap(command);
        if process::test_kill_process_group(command).is_err() || Instant::now() >= until {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
