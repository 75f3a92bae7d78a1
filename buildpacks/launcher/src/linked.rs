//! A dyno with a link: it asks for its slot, has its lines go to the server too, and `run` speaks through it.
//!
//! A dyno of the formation waits half a second for somebody to ask for its slot, and seconds for the answer, and then
//! starts without; after that, nothing here makes the app wait. A dyno that somebody attaches to does not start before they have.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use paas_link_frames::{Stream, fallback_name};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::link::{self, Settings, Shared};
use crate::pump::{self, Pump, Way};
use crate::supervise::{self, Event};

/// How long a dyno of the formation waits for the hub to be there. Without it, it starts.
const HUB_WITHIN: Duration = Duration::from_millis(500);
/// How long it waits for its slot when the hub is there: apps elect leaders by it, and the account may be slow to
/// tell the hub which task this is. Next to the time that a dyno takes to come, it is not much.
const SLOT_WITHIN: Duration = Duration::from_secs(5);
/// How long the link of an attached dyno may take.
const LINK_WITHIN: Duration = Duration::from_secs(60);
/// How long somebody may then take to attach. (The server gives up earlier.)
const ATTACH_WITHIN: Duration = Duration::from_secs(180);
/// How long the exit waits for the hub to have it, and the lines before it.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// How long, when the hub is there and has not let us in yet: what ends as soon as it starts needs to be heard, too.
const FLUSH_ASKED_WITHIN: Duration = Duration::from_secs(10);

/// Runs `argv` as a dyno with this link; answers its exit status.
///
/// # Errors
/// When it cannot be started, or nobody can attach to it.
pub(crate) fn run(settings: Settings, argv: &[OsString], mut vars: BTreeMap<OsString, OsString>) -> Result<u8, String> {
    // Else the app, which is the same user, could read the token from our environment.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let began = Instant::now();
    let (to, events) = mpsc::channel();
    supervise::listen(to.clone())?;
    let shared = Arc::new(Shared::new()?);
    let (attach, tty) = (settings.attach, settings.tty);
    let fallback = Fallback { process_type: settings.process_type.clone(), metadata: settings.metadata.clone() };
    let linking = link::start(settings, &shared, to);
    // Without a link nothing is ever waited for.
    shared.state().given_up = linking.is_err();

    // What the platform says wins over a config var of the same name.
    let name = env::var("DYNO").ok().filter(|name| !name.is_empty());
    let mut early = None;
    let name = match (name, &linking) {
        (Some(name), _) => name,
        (None, Ok(())) => match wait_for_name(&events, began) {
            Ok(name) => name.unwrap_or_else(|| fallback.name(&shared)),
            Err(status) => {
                early = Some(status);
                fallback.name(&shared)
            }
        },
        (None, Err(_)) => fallback.name(&shared),
    };
    if early.is_none() && attach {
        linking?;
        early = wait_for_start(&events, &shared, began)?;
    }
    if let Some(status) = early {
        return Ok(end(&shared, status, attach, &events));
    }
    vars.insert("DYNO".into(), name.clone().into());
    let started = start(argv, &vars, attach, tty, &shared);
    shared.state().name = name;
    shared.wake();
    let (child, pump) = match started {
        Ok(started) => started,
        Err(why) => {
            say(&shared, attach, &format!("launcher: {why}\n"));
            return Ok(end(&shared, crate::CANNOT_START, attach, &events));
        }
    };
    let status = supervise::wait(&child, &events);
    pump.finish();
    Ok(end(&shared, status, attach, &events))
}

/// Where a name comes from that nobody told.
struct Fallback {
    process_type: String,
    metadata: Option<String>,
}

impl Fallback {
    fn name(&self, shared: &Shared) -> String {
        let task = shared.state().task.clone();
        let task = task.or_else(|| self.metadata.as_deref().map(|m| link::task_in_address(m).to_owned()));
        // Without either, the container's own name still tells dynos apart.
        let task = task.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        fallback_name(&self.process_type, &task)
    }
}

/// The dyno's name, when the hub tells it in time. An exit status when the dyno is to end before that.
fn wait_for_name(events: &Receiver<Event>, began: Instant) -> Result<Option<String>, u8> {
    let mut until = began + HUB_WITHIN;
    loop {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Asked) => until = began + SLOT_WITHIN,
            Ok(Event::Named(name)) => return Ok(Some(name).filter(|name| !name.is_empty())),
            Ok(Event::Refused(_)) => return Ok(None),
            Ok(event) => {
                if let Some(signal) = event.stop() {
                    return Err(status_of(signal));
                }
            }
            Err(_) => return Ok(None),
        }
    }
}

/// Waits until somebody attaches. An exit status when the dyno is to end before that.
fn wait_for_start(events: &Receiver<Event>, shared: &Shared, began: Instant) -> Result<Option<u8>, String> {
    let mut until = began + LINK_WITHIN;
    let mut linked = false;
    loop {
        if !linked && shared.state().down_since.is_none() {
            linked = true;
            until = Instant::now() + ATTACH_WITHIN;
        }
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Start) => return Ok(None),
            Ok(Event::Refused(why)) => return Err(format!("the platform refused this dyno's link: {why}")),
            Ok(event) => {
                if let Some(signal) = event.stop() {
                    return Ok(Some(status_of(signal)));
                }
            }
            Err(RecvTimeoutError::Timeout) if linked => return Err("nobody attached to this dyno".to_owned()),
            Err(_) => return Err("the platform could not be reached over the dyno link within 60 s".to_owned()),
        }
    }
}

fn status_of(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Starts the command with its output through us.
fn start(
    argv: &[OsString],
    vars: &BTreeMap<OsString, OsString>,
    attach: bool,
    tty: bool,
    shared: &Arc<Shared>,
) -> Result<(Child, Pump), String> {
    let (program, args) = argv.split_first().ok_or("nothing to run")?;
    let piped = |what: &str| {
        let what = what.to_owned();
        move |e: io::Error| format!("{what}: {e}")
    };
    if attach && tty {
        let failed = piped("making the dyno's terminal");
        let (ours, theirs) = crate::terminal::open(vars).map_err(&failed)?;
        let input = ours.try_clone().map_err(&failed)?;
        let mut command = crate::terminal::command(argv, theirs).map_err(&failed)?;
        let child = supervise::start(command.env_clear().envs(vars), program)?;
        // Else our own copies of its end would keep the terminal open.
        drop(command);
        let pump = Pump::start(Way::Attached, vec![(Stream::Out, ours)], Arc::clone(shared)).map_err(&failed)?;
        pump::feed(input, true, Arc::clone(shared)).map_err(&failed)?;
        return Ok((child, pump));
    }
    let failed = piped("making the dyno's pipes");
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(vars).process_group(0);
    let (out, out_end) = io::pipe().map_err(&failed)?;
    let (way, ends, input) = if attach {
        let (input_end, input) = io::pipe().map_err(&failed)?;
        command.stdin(Stdio::from(OwnedFd::from(input_end)));
        command.stderr(Stdio::from(OwnedFd::from(out_end.try_clone().map_err(&failed)?)));
        (Way::Attached, vec![(Stream::Out, OwnedFd::from(out))], Some(OwnedFd::from(input)))
    } else {
        let (err, err_end) = io::pipe().map_err(&failed)?;
        command.stderr(Stdio::from(OwnedFd::from(err_end)));
        (Way::Log, vec![(Stream::Out, OwnedFd::from(out)), (Stream::Err, OwnedFd::from(err))], None)
    };
    command.stdout(Stdio::from(OwnedFd::from(out_end)));
    let child = supervise::start(&mut command, program)?;
    drop(command);
    let pump = Pump::start(way, ends, Arc::clone(shared)).map_err(&failed)?;
    if let Some(input) = input {
        pump::feed(input, false, Arc::clone(shared)).map_err(&failed)?;
    }
    Ok((child, pump))
}

/// Says something of our own where the command's output goes.
fn say(shared: &Shared, attach: bool, text: &str) {
    if attach {
        shared.output(text.as_bytes());
    } else {
        pump::say(shared, text);
    }
}

/// Has the hub hear how it ended. Whoever is attached gets every byte, however slowly they read, while there is a
/// link; the log waits for seconds only.
fn end(shared: &Shared, status: u8, attach: bool, events: &Receiver<Event>) -> u8 {
    shared.exited(status);
    let ended = Instant::now();
    let mut state = shared.state();
    while !state.bye && !state.given_up {
        let within = if state.asked { FLUSH_ASKED_WITHIN } else { FLUSH_WITHIN };
        if !attach && ended.elapsed() >= within {
            break;
        }
        // Whoever is attached may have been given up on while it was read: a signal ends the wait, too.
        if events.try_iter().any(|event| event.stop().is_some()) {
            break;
        }
        state = shared.wait(state, Duration::from_millis(100));
    }
    status
}
