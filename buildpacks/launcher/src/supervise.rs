//! Runs one command as a good process 1: signals in, exit status out, nothing left behind.
//!
//! The command leads a process group of its own, which is the terminal's foreground group when there is a
//! terminal. A request to stop goes to the whole group, as Heroku sends SIGTERM to every process of a dyno;
//! the dyno then ends when all of the group has, so that a shell in front does not cut its children short.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::Sender;
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

/// What happens to a dyno from outside.
#[derive(Debug)]
pub(crate) enum Event {
    /// A signal came.
    Signal(i32),
    /// The hub says: SIGTERM.
    Stop,
    /// The hub says that nobody is attached any more.
    HangUp,
    /// Somebody attached.
    Start,
    /// The hub was reached and is asked who this dyno is.
    Asked,
    /// The hub says what this dyno is called.
    Named(String),
    /// The hub does not know this dyno.
    Refused(String),
    /// The link has been down for too long.
    LinkLost,
}

impl Event {
    /// The signal that asks the dyno to end, when it is that.
    pub(crate) fn stop(&self) -> Option<i32> {
        match self {
            Self::Signal(signal) if STOPS.contains(signal) => Some(*signal),
            Self::Stop => Some(signal::SIGTERM),
            Self::HangUp | Self::LinkLost => Some(signal::SIGHUP),
            _ => None,
        }
    }
}

/// Runs `argv` with exactly `vars` as its environment until it ends; answers its exit status, or 128 plus the
/// signal that ended it.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(argv: &[OsString], vars: &BTreeMap<OsString, OsString>) -> Result<u8, String> {
    let (program, args) = argv.split_first().ok_or("nothing to run")?;
    let mut signals = signals()?;
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(vars).process_group(0);
    let child = start(&mut command, program)?;
    give_terminal_to(Pid::from_child(&child));
    Ok(wait(&child, signals.forever().map(Event::Signal)))
}

/// Has signals come to us, from here on. Before the command starts, or its end could be missed.
fn signals() -> Result<Signals, String> {
    let listened = STOPS.iter().chain(&FOR_THE_COMMAND).chain(&[signal::SIGCHLD]);
    Signals::new(listened).map_err(|e| format!("listening to signals: {e}"))
}

/// Has signals come as events among others, from here on.
///
/// # Errors
/// When they cannot be listened to.
pub(crate) fn listen(to: Sender<Event>) -> Result<(), String> {
    let mut signals = signals()?;
    let forward = move || {
        for signal in signals.forever() {
            if to.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("signals".to_owned()).spawn(forward);
    thread.map(drop).map_err(|e| format!("listening to signals: {e}"))
}

/// Starts the command; the dyno ends with it.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn start(command: &mut Command, program: &OsString) -> Result<Child, String> {
    // Orphans come to us even where an init of the engine's is process 1.
    let _ = process::set_child_subreaper(Some(process::getpid()));
    command.spawn().map_err(|e| format!("starting {}: {e}", program.display()))
}

/// Passes on what happens until the command has ended; answers its exit status.
pub(crate) fn wait(child: &Child, events: impl IntoIterator<Item = Event>) -> u8 {
    let command = Pid::from_child(child);
    let mut stopping = false;
    for event in events {
        if let Event::Signal(signal::SIGCHLD) = event {
            if let Some(status) = reap(command) {
                if stopping {
                    wait_for_group(command);
                }
                return status;
            }
        } else if let Some(named) = event.stop().and_then(Signal::from_named_raw) {
            stopping = true;
            let _ = process::kill_process_group(command, named);
        } else if let Event::Signal(signal) = event
            && let Some(named) = Signal::from_named_raw(signal)
        {
            let _ = process::kill_process(command, named);
        }
    }
    // Signals are listened to for as long as we live.
    1
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
