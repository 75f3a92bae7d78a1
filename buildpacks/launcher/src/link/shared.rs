//! What the link's thread shares with those that run the command.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use paas_link_frames::{Exit, FromDyno, Line, MAX_BYTES, RESUME_WITHIN_S, SendBuffer, WINDOW};
use rustix::event::{EventfdFlags, eventfd};

use super::Ring;

/// How much input may wait for the command.
pub(crate) const INPUT: usize = WINDOW;
/// How long a cut link may stay down until nobody is thought to be attached any more.
const RESUME_WITHIN: Duration = Duration::from_secs(RESUME_WITHIN_S);

/// The state, a signal for those who wait for it to change, and one for the link's thread.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    wake: OwnedFd,
}

pub(crate) struct State {
    /// What task this is, once it is known.
    pub(crate) task: Option<String>,
    /// What the command was started as; empty before.
    pub(crate) name: String,
    pub(crate) lines: Ring,
    pub(crate) output: SendBuffer,
    pub(crate) input: VecDeque<u8>,
    /// The offset behind the last input byte that came, and behind the last one that the command has.
    pub(crate) input_next: u64,
    pub(crate) input_taken: u64,
    pub(crate) input_ended: bool,
    /// The command takes no more.
    pub(crate) input_closed: bool,
    pub(crate) exit: Option<Exit>,
    /// The hub has the exit.
    pub(crate) bye: bool,
    /// The hub was reached and has not let us in yet.
    pub(crate) asked: bool,
    /// Since when there is no link.
    pub(crate) down_since: Option<Instant>,
    /// There was no link for too long: output goes nowhere.
    pub(crate) given_up: bool,
}

/// What one connection has told the hub.
#[derive(Default)]
pub(crate) struct Said {
    started: bool,
    input_taken: u64,
    input_closed: bool,
    exit: bool,
}

impl Shared {
    /// # Errors
    /// When the kernel has no event to give.
    pub(crate) fn new() -> Result<Self, String> {
        let state = State {
            task: None,
            name: String::new(),
            lines: Ring::new(),
            output: SendBuffer::new(0, WINDOW),
            input: VecDeque::new(),
            input_next: 0,
            input_taken: 0,
            input_ended: false,
            input_closed: false,
            exit: None,
            bye: false,
            asked: false,
            down_since: Some(Instant::now()),
            given_up: false,
        };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = wake.map_err(|e| format!("starting the link: {e}"))?;
        Ok(Self { state: Mutex::new(state), changed: Condvar::new(), wake })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the link's thread listens to besides its socket.
    pub(crate) fn wake_fd(&self) -> &OwnedFd {
        &self.wake
    }

    /// Has the link's thread look at the state.
    pub(crate) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Has everybody else look at it.
    pub(crate) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for the state to change, at most this long.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// One more line of the app's log. Never waits.
    pub(crate) fn line(&self, line: Line) {
        let mut state = self.state();
        // Only the first unsent line has something new to say.
        let idle = state.lines.all_sent();
        state.lines.push(line);
        drop(state);
        if idle {
            self.wake();
        }
    }

    /// Bytes for whoever is attached: waits until they are on their way, or nobody is there any more.
    pub(crate) fn output(&self, mut bytes: &[u8]) {
        let mut state = self.state();
        while !bytes.is_empty() && !state.given_up {
            let taken = state.output.push(bytes);
            bytes = &bytes[taken..];
            if taken > 0 {
                self.wake();
            } else {
                state = self.wait(state, Duration::from_secs(1));
            }
        }
    }

    /// The next input for the command; `None` when it has ended.
    pub(crate) fn input(&self) -> Option<Vec<u8>> {
        let mut state = self.state();
        loop {
            if !state.input.is_empty() {
                let count = state.input.len().min(MAX_BYTES);
                return Some(state.input.drain(..count).collect());
            }
            if state.input_ended {
                return None;
            }
            state = self.wait(state, Duration::from_secs(60));
        }
    }

    /// The command has these bytes.
    pub(crate) fn input_taken(&self, count: usize) {
        self.state().input_taken += count as u64;
        self.wake();
    }

    /// The command has closed its input: what still comes goes nowhere.
    pub(crate) fn input_closed(&self) {
        let mut state = self.state();
        state.input_closed = true;
        state.input_taken += state.input.len() as u64;
        state.input.clear();
        drop(state);
        self.wake();
    }

    /// The command has ended; everything that it wrote is here.
    pub(crate) fn exited(&self, code: u8) {
        let mut state = self.state();
        state.exit = Some(Exit { code, lines: state.lines.count(), output: state.output.end() });
        drop(state);
        self.notify();
        self.wake();
    }

    /// Notes that the link is down; answers whether it has been for too long.
    pub(crate) fn is_down(&self) -> bool {
        let mut state = self.state();
        let since = *state.down_since.get_or_insert_with(Instant::now);
        let long = since.elapsed() >= RESUME_WITHIN;
        if long && !state.given_up && !state.name.is_empty() {
            state.given_up = true;
            drop(state);
            self.notify();
        }
        long
    }
}

impl State {
    /// What the hub has to hear, as frames behind `out`; at most about a hundred kilobytes at a time.
    pub(crate) fn tell(&mut self, said: &mut Said, out: &mut Vec<u8>) {
        if !self.name.is_empty() && !said.started {
            said.started = true;
            FromDyno::Started { name: self.name.clone() }.put(out);
        }
        let news = self.input_taken - said.input_taken.min(self.input_taken);
        if news >= WINDOW as u64 / 8 || (news > 0 && self.input.is_empty()) {
            said.input_taken = self.input_taken;
            FromDyno::InputTaken { offset: self.input_taken }.put(out);
        }
        if self.input_closed && !said.input_closed {
            said.input_closed = true;
            FromDyno::InputClosed.put(out);
        }
        if let Some(lines) = self.lines.next() {
            FromDyno::Lines(lines).put(out);
        }
        for _ in 0..4 {
            let Some((offset, bytes)) = self.output.next(MAX_BYTES) else { break };
            FromDyno::Output { offset, bytes }.put(out);
        }
        let all = self.lines.all_sent() && self.output.all_given();
        if let Some(exit) = self.exit.filter(|_| all && !said.exit) {
            said.exit = true;
            FromDyno::Exit(exit).put(out);
        }
    }
}
