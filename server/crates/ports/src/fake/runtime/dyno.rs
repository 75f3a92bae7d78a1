//! One dyno of the fake world, and how time passes for it.

use std::collections::BTreeMap;
use std::time::Duration;

use paas_domain::{AppId, DynoKind, DynoName, DynoSize, Generation, ReleaseVersion, Timestamp};

use super::script::Word;
use crate::{LogLine, LogSource, MemberState, RolloutFailure};

/// How long things may take in the fake world.
#[derive(Clone, Copy, Debug)]
pub struct FakeTiming {
    /// Until a web dyno has to serve (R10).
    pub boot_timeout: Duration,
    /// From SIGTERM to SIGKILL (R12).
    pub stop_grace: Duration,
    /// The longest wait for requests in flight.
    pub drain_timeout: Duration,
}

impl Default for FakeTiming {
    fn default() -> Self {
        let (boot, half) = (Duration::from_secs(60), Duration::from_secs(30));
        Self { boot_timeout: boot, stop_grace: half, drain_timeout: half }
    }
}

/// A dyno and all that happened to it.
#[derive(Clone, Debug)]
pub(crate) struct FakeDyno {
    pub(crate) app: AppId,
    pub(crate) name: DynoName,
    pub(crate) kind: DynoKind,
    pub(crate) release: ReleaseVersion,
    pub(crate) generation: Generation,
    pub(crate) restart: i64,
    pub(crate) size: DynoSize,
    pub(crate) command: String,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) web: bool,
    pub(crate) web_bound: bool,
    pub(crate) attach: bool,
    pub(crate) script: Vec<Word>,
    pub(crate) made_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) step_since: Timestamp,
    pub(crate) up_at: Option<Timestamp>,
    pub(crate) stop_at: Option<Timestamp>,
    pub(crate) quick: bool,
    pub(crate) drained: bool,
    pub(crate) term_at: Option<Timestamp>,
    pub(crate) ignores_term: bool,
    pub(crate) timed_out: bool,
    pub(crate) exit: Option<(i32, Timestamp)>,
    /// What it wrote; how much of it is in the log.
    pub(crate) out: Vec<u8>,
    pub(crate) logged: usize,
    pub(crate) input: Vec<u8>,
    pub(crate) input_ended: bool,
}

impl FakeDyno {
    pub(crate) fn is_service(&self) -> bool {
        self.kind == DynoKind::Service
    }

    pub(crate) fn runs(&self) -> bool {
        self.started_at.is_some() && self.exit.is_none()
    }

    /// Lets it live until `now`; what the platform says of it comes back.
    pub(crate) fn live(&mut self, now: Timestamp, timing: &FakeTiming) -> Vec<LogLine> {
        let mut said = Vec::new();
        if self.runs() && !self.is_service() {
            self.be_up(now, &mut said);
        }
        if self.runs() {
            self.act(now);
        }
        if self.web_bound {
            self.be_up(now, &mut said);
        }
        if self.runs() && !self.web {
            self.be_up(now, &mut said);
        }
        if self.runs() && self.up_at.is_none() && passed(now, self.started_at, timing.boot_timeout) {
            self.timed_out = true;
            said.push(self.says(now, self.boot_timeout_text(timing)));
            said.push(self.says(now, "Stopping process with SIGKILL"));
            self.exit = Some((137, now));
        }
        if self.runs() && self.stop_at.is_some() {
            self.be_stopped(now, timing, &mut said);
        }
        self.take_lines(now, &mut said);
        said
    }

    fn act(&mut self, now: Timestamp) {
        while self.exit.is_none() {
            let Some(word) = self.script.first().cloned() else {
                self.exit = Some((0, now));
                return;
            };
            match word {
                Word::Serve => {
                    self.web_bound = self.web;
                    return;
                }
                Word::Worker => return,
                Word::Exit(code) => self.exit = Some((code, now)),
                Word::Say(text) => self.out.extend(format!("{text}\n").bytes()),
                Word::Print(name) => self.out.extend(self.config.get(&name).cloned().unwrap_or_default().bytes()),
                Word::Cat => {
                    self.out.append(&mut self.input);
                    if !self.input_ended {
                        return;
                    }
                }
                Word::Sleep(ms) => {
                    if now.since_ms(self.step_since) < i64::try_from(ms).unwrap_or(i64::MAX) {
                        return;
                    }
                }
                Word::IgnoreTerm => self.ignores_term = true,
            }
            self.script.remove(0);
            self.step_since = now;
        }
    }

    fn be_up(&mut self, now: Timestamp, said: &mut Vec<LogLine>) {
        if self.up_at.is_none() {
            self.up_at = Some(now);
            said.push(self.says(now, "State changed from starting to up"));
        }
    }

    fn be_stopped(&mut self, now: Timestamp, timing: &FakeTiming, said: &mut Vec<LogLine>) {
        if !self.web || self.quick || passed(now, self.stop_at, timing.drain_timeout) {
            self.drained = true;
        }
        if !self.drained {
            return;
        }
        if self.term_at.is_none() {
            said.push(self.says(now, "Stopping all processes with SIGTERM"));
            self.term_at = Some(now);
        }
        if !self.ignores_term {
            self.exit = Some((143, now));
        } else if passed(now, self.term_at, timing.stop_grace) {
            said.push(self.says(
                now,
                format!(
                    "Error R12 (Exit timeout) -> At least one process failed to exit within {} seconds of SIGTERM",
                    timing.stop_grace.as_secs()
                ),
            ));
            said.push(self.says(now, "Stopping remaining processes with SIGKILL"));
            self.exit = Some((137, now));
        }
    }

    fn take_lines(&mut self, now: Timestamp, said: &mut Vec<LogLine>) {
        if self.attach {
            return;
        }
        let new = &self.out[self.logged..];
        let whole =
            if self.exit.is_some() { new.len() } else { new.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1) };
        let text = String::from_utf8_lossy(&new[..whole]).into_owned();
        let process = self.name.to_string();
        said.extend(text.lines().map(|message| LogLine {
            at: now,
            source: LogSource::App,
            process: process.clone(),
            message: message.to_owned(),
        }));
        self.logged += whole;
    }

    /// What the platform says of its end.
    pub(crate) fn end_lines(&self) -> Vec<LogLine> {
        let Some((code, at)) = self.exit else { return Vec::new() };
        let from = if self.up_at.is_some() { "up" } else { "starting" };
        let to = match self.kind {
            DynoKind::Run | DynoKind::Release => "complete",
            DynoKind::Service if self.stop_at.is_some() => "down",
            DynoKind::Service => "crashed",
        };
        vec![
            self.says(at, format!("Process exited with status {code}")),
            self.says(at, format!("State changed from {from} to {to}")),
        ]
    }

    pub(crate) fn says(&self, at: Timestamp, message: impl Into<String>) -> LogLine {
        LogLine { at, source: LogSource::Heroku, process: self.name.to_string(), message: message.into() }
    }

    fn boot_timeout_text(&self, timing: &FakeTiming) -> String {
        format!(
            "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {} seconds of launch",
            timing.boot_timeout.as_secs()
        )
    }

    /// Why it crashed.
    pub(crate) fn failure(&self, timing: &FakeTiming) -> Option<RolloutFailure> {
        let (code, at) = self.exit?;
        let (code, message) = if self.timed_out {
            (Some("R10"), self.boot_timeout_text(timing))
        } else {
            (None, format!("Process exited with status {code}"))
        };
        Some(RolloutFailure { dyno: Some(self.name.clone()), code, message, at })
    }

    pub(crate) fn member_state(&self) -> Option<MemberState> {
        match (self.exit, self.stop_at, self.up_at) {
            (Some(_), Some(_), _) => None,
            (Some(_), None, _) => Some(MemberState::Crashed),
            (None, Some(_), _) => Some(MemberState::Draining),
            (None, None, Some(_)) => Some(MemberState::Up),
            (None, None, None) => Some(MemberState::Starting),
        }
    }
}

fn passed(now: Timestamp, since: Option<Timestamp>, limit: Duration) -> bool {
    since.is_some_and(|since| now.since_ms(since) >= i64::try_from(limit.as_millis()).unwrap_or(i64::MAX))
}
