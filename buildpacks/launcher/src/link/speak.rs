//! The link's thread: connects, speaks, and comes back when it is cut.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use paas_link_frames::{FromDyno, FromHub, Hello, MAX_FRAME, PING_EVERY_S, SILENT_FOR_S, VERSION, Welcome, take};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::ClientConfig;

use super::chance::jitter;
use super::connect::{Connection, greet, plain};
use super::shared::Said;
use super::{INPUT, Settings, Shared, identity};
use crate::supervise::Event;

/// How long is waited before the first and the later new attempts; each wait is twice the one before.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long is waited after the hub said that it does not know this dyno.
const UNKNOWN: Duration = Duration::from_secs(60);
/// When a side says that it is there.
const PING_EVERY: Duration = Duration::from_secs(PING_EVERY_S);
/// When a side takes the link for cut.
const SILENT_FOR: Duration = Duration::from_secs(SILENT_FOR_S);
/// While this much of what was said has not left, nothing is added.
const UNDER_WAY: usize = 64 << 10;

pub(crate) struct Link {
    pub(crate) settings: Settings,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: Sender<Event>,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Link {
    /// Keeps linked until the hub has the exit.
    pub(crate) fn run(self) {
        let mut wait = BACK_OFF.0;
        loop {
            let reached = || {
                self.shared.state().asked = true;
                let _ = self.events.send(Event::Asked);
            };
            let (mut pause, linked) = match greet(&self.settings, &self.tls, reached, || self.hello()) {
                Ok((connection, FromHub::Welcome(welcome))) => {
                    wait = BACK_OFF.0;
                    // Why it was cut does not matter: it is made anew.
                    let _ = self.speak(connection, welcome);
                    (jitter(wait), true)
                }
                Ok((_, FromHub::Refused { soon: false, why })) => {
                    let _ = self.events.send(Event::Refused(why));
                    (UNKNOWN, false)
                }
                Ok(_) | Err(_) => (jitter(wait), false),
            };
            if self.shared.state().bye {
                self.shared.notify();
                return;
            }
            if !linked {
                wait = (wait * 2).min(BACK_OFF.1);
            }
            if self.shared.is_down() && self.settings.attach {
                let _ = self.events.send(Event::LinkLost);
            }
            if self.shared.state().exit.is_some() {
                // Only seconds are left.
                pause = pause.min(BACK_OFF.0);
            }
            self.rest(pause);
        }
    }

    /// Waits, but not through the moment when the command ends.
    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut state = self.shared.state();
        let had_ended = state.exit.is_some();
        while state.exit.is_some() == had_ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.wait(state, left);
        }
    }

    /// Finds out what task this is, once.
    fn find_task(&self) {
        if self.shared.state().task.is_some() {
            return;
        }
        let told = self.settings.metadata.as_deref().and_then(identity::task_arn);
        let none = self.settings.metadata.is_none();
        let task = told.or_else(|| none.then(|| self.settings.dyno.clone()));
        if let Some(task) = task.filter(|task| !task.is_empty()) {
            self.shared.state().task = Some(task);
        }
    }

    /// What we say first. What task this is, is asked only here, when the hub is reached: the half second that a dyno waits
    /// for the hub is not spent on it.
    fn hello(&self) -> Hello {
        self.find_task();
        let state = self.shared.state();
        Hello {
            version: VERSION,
            token: self.settings.token.clone(),
            app: self.settings.app.clone(),
            task: state.task.clone().unwrap_or_default(),
            process_type: self.settings.process_type.clone(),
            dyno: self.settings.dyno.clone(),
            started_as: state.name.clone(),
            attach: self.settings.attach,
            lines_taken: state.lines.taken_up_to(),
            output_from: state.output.base(),
            input_next: state.input_next,
        }
    }

    /// Speaks until the link is cut, or the hub has said goodbye.
    fn speak(&self, mut connection: Connection, welcome: Welcome) -> io::Result<()> {
        {
            let mut state = self.shared.state();
            state.lines.resume(welcome.lines_taken);
            state.output.resume(welcome.output_next).map_err(io::Error::other)?;
            (state.down_since, state.given_up, state.asked) = (None, false, false);
        }
        let _ = self.events.send(Event::Named(welcome.name));
        connection.tls.set_buffer_limit(None);
        let mut said = Said::default();
        let (mut heard, mut spoke) = (Instant::now(), Instant::now());
        let result = loop {
            match self.turn(&mut connection, &mut said, &mut heard, &mut spoke) {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.shared.state().down_since = Some(Instant::now());
        result
    }

    /// Says what there is to say, waits for something to happen, and hears what there is; `true` at the end.
    fn turn(
        &self,
        connection: &mut Connection,
        said: &mut Said,
        heard: &mut Instant,
        spoke: &mut Instant,
    ) -> io::Result<bool> {
        let Connection { tcp, tls, inbox } = connection;
        while let Some((kind, fields)) = take(inbox, MAX_FRAME).map_err(io::Error::other)? {
            if self.heed(FromHub::read(kind, &fields).map_err(io::Error::other)?)? {
                tls.send_close_notify();
                let _ = tls.write_tls(tcp);
                return Ok(true);
            }
        }
        let mut under_way = false;
        while tls.wants_write() {
            match tls.write_tls(tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    under_way = true;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if !under_way {
            let mut out = Vec::new();
            self.shared.state().tell(said, &mut out);
            if out.is_empty() && spoke.elapsed() >= PING_EVERY {
                FromDyno::Ping.put(&mut out);
            }
            if !out.is_empty() {
                *spoke = Instant::now();
                for piece in out.chunks(UNDER_WAY) {
                    tls.writer().write_all(piece)?;
                }
                return Ok(false);
            }
        }
        let socket = if under_way { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&*tcp, socket), PollFd::new(self.shared.wake_fd(), PollFlags::IN)];
        // While it does not take what was said, news cannot be told either.
        let watched = if under_way { &mut fds[..1] } else { &mut fds[..] };
        match poll(watched, Some(&timespec(Duration::from_secs(1)))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable = fds[0].revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        if !fds[1].revents().is_empty() {
            self.quiet();
        }
        if readable {
            match tls.read_tls(tcp) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {
                    *heard = Instant::now();
                    plain(tls, inbox)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if heard.elapsed() >= SILENT_FOR {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(false)
    }

    /// Does what the hub says; `true` when that was the last of it.
    fn heed(&self, frame: FromHub) -> io::Result<bool> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let mut state = self.shared.state();
        match frame {
            FromHub::Welcome(_) | FromHub::Refused { .. } => return Err(bad()),
            FromHub::LinesTaken { number } => state.lines.taken(number),
            FromHub::OutputTaken { offset } => state.output.taken(offset).map_err(|_| bad())?,
            FromHub::Input { offset, bytes } => {
                // What came before the link was cut comes again.
                let known = state.input_next.checked_sub(offset).ok_or_else(bad)?;
                let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
                let new = &bytes[known..];
                if state.input.len() + new.len() > INPUT {
                    return Err(bad());
                }
                state.input_next += new.len() as u64;
                if state.input_closed {
                    state.input_taken += new.len() as u64;
                } else {
                    state.input.extend(new);
                }
            }
            FromHub::InputEnd { offset } if offset == state.input_next => state.input_ended = true,
            FromHub::InputEnd { .. } => return Err(bad()),
            FromHub::Bye => state.bye = state.exit.is_some(),
            FromHub::Start => drop(self.events.send(Event::Start)),
            FromHub::HangUp => drop(self.events.send(Event::HangUp)),
            FromHub::Stop => drop(self.events.send(Event::Stop)),
            FromHub::Ping => {}
        }
        let bye = state.bye;
        drop(state);
        self.shared.notify();
        Ok(bye)
    }

    /// Takes back the wish to be woken.
    fn quiet(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(self.shared.wake_fd(), &mut count);
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}
