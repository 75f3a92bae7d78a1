//! What the hub knows of one dyno. It outlives the connections that the dyno makes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use paas_domain::{DynoId, DynoName, Timestamp};
use paas_link_frames::{FromHub, Hello, MAX_BYTES, NotThere, SendBuffer, WINDOW};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::output::{Kept, Output};
use crate::{HubOptions, LinkedDyno};

/// The numbers that launchers choose from ([`paas_link_frames::fallback_name`]).
const OWN_SLOTS: std::ops::Range<u32> = 10_000..100_000;

/// One dyno.
pub(crate) struct Session {
    /// Who it is, with the name that it was first let in with.
    linked: LinkedDyno,
    /// Whether it is a one-off dyno, whose output is kept.
    pub(crate) one_off: Option<DynoId>,
    /// Whether it was started for somebody to attach.
    pub(crate) attached: bool,
    /// Its connection has something to say.
    pub(crate) say: Notify,
    /// Held by the connection that speaks for it, so that calls about it come one at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// For what is to happen later, also when something is dropped outside of a task.
    pub(crate) runtime: Handle,
    state: Mutex<State>,
}

pub(crate) struct State {
    /// What it is called by now.
    name: DynoName,
    /// The connection that speaks for it; cancelled when a newer one does.
    connection: Option<CancellationToken>,
    /// Since when it has none.
    pub(crate) without_link: Option<Instant>,
    /// Its link was down for too long for whoever is attached.
    pub(crate) lost: bool,
    /// The number of the last line that was handed on, and when it was read.
    pub(crate) lines: u64,
    pub(crate) last_line: Option<Timestamp>,
    pub(crate) input: SendBuffer,
    pub(crate) input_ended: bool,
    /// The command takes no more.
    pub(crate) input_closed: bool,
    pub(crate) writers: Vec<Waker>,
    pub(crate) output: Output,
    /// Counts those who attached.
    pub(crate) attachments: u64,
    pub(crate) hang_up: bool,
    pub(crate) stop: bool,
    pub(crate) exit: Option<u8>,
}

/// What one connection has told its dyno.
#[derive(Default)]
pub(crate) struct Said {
    lines: u64,
    output: u64,
    start: bool,
    input_end: bool,
    hang_up: bool,
    stop: bool,
    bye: bool,
}

impl Session {
    pub(crate) fn new(
        linked: LinkedDyno,
        one_off: Option<DynoId>,
        hello: &Hello,
        options: &HubOptions,
        kept: Arc<Kept>,
    ) -> Self {
        let attached = hello.attach && one_off.is_some();
        let state = State {
            name: linked.name.clone(),
            connection: None,
            without_link: None,
            lost: false,
            lines: hello.lines_taken,
            last_line: None,
            input: SendBuffer::new(hello.input_next, WINDOW),
            input_ended: false,
            input_closed: false,
            writers: Vec::new(),
            output: Output::new(hello.output_from, attached, options.replay_bytes, kept),
            attachments: 0,
            hang_up: false,
            stop: false,
            exit: None,
        };
        Self {
            linked,
            attached,
            one_off,
            say: Notify::new(),
            turn: tokio::sync::Mutex::new(()),
            runtime: Handle::current(),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn task(&self) -> &str {
        &self.linked.task
    }

    /// Who it is by now.
    pub(crate) fn who(&self) -> LinkedDyno {
        LinkedDyno { name: self.state().name.clone(), ..self.linked.clone() }
    }

    /// It was let in as `admitted`, and its command knows itself as `started`. Where both differ it is the command's
    /// name if it is one that a launcher gives itself: never another dyno's slot.
    pub(crate) fn call(&self, admitted: Option<&DynoName>, started: Option<&DynoName>) {
        let own = started.filter(|name| {
            Some(*name) == admitted
                || (name.process_type == self.linked.name.process_type && OWN_SLOTS.contains(&name.slot))
        });
        if let Some(name) = own.or(admitted) {
            self.state().name = name.clone();
        }
    }

    /// A new connection speaks for this dyno, and an older one no more.
    pub(crate) fn take_over(&self, connection: &CancellationToken) {
        let older = self.state().connection.replace(connection.clone());
        if let Some(older) = older {
            older.cancel();
        }
    }

    /// Sending goes on where the new connection says.
    ///
    /// # Errors
    /// When that cannot be: the dyno is told by what it then misses.
    pub(crate) fn resume(&self, hello: &Hello) -> Result<(), NotThere> {
        let mut state = self.state();
        state.input.resume(hello.input_next)?;
        if hello.output_from > state.output.received() {
            return Err(NotThere);
        }
        // Another hub may have taken lines meanwhile.
        state.lines = state.lines.max(hello.lines_taken);
        (state.without_link, state.lost) = (None, false);
        Ok(())
    }

    /// This connection is no more; answers whether it was the one that spoke for the dyno.
    pub(crate) fn leave(&self, connection: &CancellationToken) -> bool {
        let mut state = self.state();
        // A connection that was replaced has been cancelled by its successor.
        if connection.is_cancelled() && state.connection.as_ref().is_some_and(|c| !c.is_cancelled()) {
            return false;
        }
        state.connection = None;
        state.without_link = Some(Instant::now());
        true
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.state().connection.is_some()
    }

    /// Gives up on a link that is still down: whoever is attached hears an error.
    pub(crate) fn lose(&self) {
        let mut state = self.state();
        if state.connection.is_none() {
            state.lost = true;
            state.output.wake();
            state.wake_writers();
        }
    }

    /// Hangs it up after this time, unless somebody is attached or comes.
    pub(crate) fn hang_up_after(self: &Arc<Self>, after: Duration) {
        let session = self.clone();
        let attachments = session.state().attachments;
        self.runtime.spawn(async move {
            sleep(after).await;
            let mut state = session.state();
            if state.attachments == attachments && !state.output.has_readers() {
                state.hang_up = true;
                drop(state);
                session.say.notify_one();
            }
        });
    }

    /// Ends its output: nothing more comes.
    pub(crate) fn end(&self, code: Option<u8>) {
        let mut state = self.state();
        if state.exit.is_none() {
            state.exit = code;
        }
        state.output.end();
        state.wake_writers();
        drop(state);
        self.say.notify_one();
    }

    /// What the dyno has to hear, as frames behind `out`.
    pub(crate) fn tell(&self, said: &mut Said, out: &mut Vec<u8>) {
        let mut state = self.state();
        if state.lines > said.lines {
            said.lines = state.lines;
            FromHub::LinesTaken { number: said.lines }.put(out);
        }
        let taken = state.output.taken();
        // Not for each keystroke's echo, yet early enough that nothing stands still.
        let news = self.attached && taken > said.output;
        if news && (taken - said.output >= WINDOW as u64 / 8 || taken == state.output.received()) {
            said.output = taken;
            FromHub::OutputTaken { offset: taken }.put(out);
        }
        if self.attached && state.attachments > 0 && !said.start {
            said.start = true;
            FromHub::Start.put(out);
        }
        // A few frames at a time: the connection takes more once these are on their way.
        for _ in 0..4 {
            let Some((offset, bytes)) = state.input.next(MAX_BYTES) else { break };
            FromHub::Input { offset, bytes }.put(out);
        }
        if state.input_ended && state.input.all_given() && !said.input_end {
            said.input_end = true;
            FromHub::InputEnd { offset: state.input.end() }.put(out);
        }
        if state.hang_up && !said.hang_up {
            said.hang_up = true;
            FromHub::HangUp.put(out);
        }
        if state.stop && !said.stop {
            said.stop = true;
            FromHub::Stop.put(out);
        }
        if state.exit.is_some() && !said.bye {
            said.bye = true;
            FromHub::Bye.put(out);
        }
    }
}

impl State {
    pub(crate) fn wake_writers(&mut self) {
        self.writers.drain(..).for_each(Waker::wake);
    }

    /// Whether it can be forgotten before others: nobody reads it and it has no link.
    pub(crate) fn is_idle(&self) -> bool {
        self.connection.is_none() && !self.output.has_readers()
    }
}

impl Said {
    /// What a [`paas_link_frames::Welcome`] says.
    pub(crate) fn welcome(lines: u64, output: u64) -> Self {
        Self { lines, output, ..Self::default() }
    }
}
