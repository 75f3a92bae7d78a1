//! The fake platform: outlives every driver and every server that talks to it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paas_domain::{AppId, Architecture, Capacity, Clock, DynoId, Generation, ProcessType, Timestamp};
use tokio::sync::watch;

use super::dyno::{FakeDyno, FakeTiming};
use super::script::{Word, parse};
use crate::{Attachment, LogLine, Member, PortError};

/// What outlives a server: every dyno there is, how often each was started, what is wished.
pub struct FakeDynos {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    timing: FakeTiming,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) dynos: BTreeMap<DynoId, FakeDyno>,
    pub(crate) wishes: HashMap<(AppId, ProcessType), Wish>,
    pub(crate) starts: HashMap<DynoId, u32>,
    /// Lines that no log store has taken yet.
    pub(crate) lines: Vec<(AppId, LogLine)>,
    /// How often each app was collected of.
    pub(crate) collected: HashMap<AppId, u32>,
    /// How often each method still fails before, or after, it did its work.
    fail: HashMap<&'static str, usize>,
    lose: HashMap<&'static str, usize>,
    refused: HashMap<&'static str, String>,
    scripts: Vec<(String, String)>,
    /// Why no further dyno is started, while none is.
    pub(crate) no_room: Option<String>,
    /// Words of command lines that are not started, why, and whether it shows only once somebody attaches.
    unstartable: Vec<(String, String, bool)>,
    /// Apps that something happened to from outside.
    touched: Vec<AppId>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) generation: Generation,
    pub(crate) attachment: Option<Attachment>,
    pub(crate) wanted: u16,
    pub(crate) placement: (Architecture, Capacity),
}

impl FakeDynos {
    /// An empty world with this time, and Heroku's limits.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::with_timing(clock, FakeTiming::default())
    }

    /// An empty world with its own limits.
    #[must_use]
    pub fn with_timing(clock: Arc<dyn Clock>, timing: FakeTiming) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), clock, timing, changed: watch::Sender::new(0) })
    }

    /// From now on a dyno whose command line contains `words` does what `script` says ([`super::script`]).
    /// Later rules come first. A command line that no rule and no script word knows serves (web), works
    /// (other process types) or ends with 0 (one-off dynos).
    pub fn when_command_has(&self, words: &str, script: &str) {
        self.state().scripts.insert(0, (words.to_owned(), script.to_owned()));
    }

    /// From now on no one-off dyno is made whose command line contains `words`: the platform refuses it for good.
    pub fn refuse_commands_with(&self, words: &str, why: &str) {
        self.state().unstartable.push((words.to_owned(), why.to_owned(), false));
    }

    /// From now on a one-off dyno whose command line contains `words` is made and ends before it has started, as where
    /// its image cannot be had; whoever attaches hears why.
    pub fn never_start_commands_with(&self, words: &str, why: &str) {
        self.state().unstartable.push((words.to_owned(), why.to_owned(), true));
    }

    /// Takes back every [`Self::refuse_commands_with`] and [`Self::never_start_commands_with`].
    pub fn start_commands_again(&self) {
        self.state().unstartable.clear();
    }

    /// How often this dyno was started: never more than once, whatever was asked.
    #[must_use]
    pub fn starts(&self, dyno: &DynoId) -> u32 {
        self.state().starts.get(dyno).copied().unwrap_or_default()
    }

    /// How often what an app's earlier releases left was collected.
    #[must_use]
    pub fn collected(&self, app: &AppId) -> u32 {
        self.state().collected.get(app).copied().unwrap_or_default()
    }

    /// The highest number of starts of any dyno.
    #[must_use]
    pub fn most_starts(&self) -> u32 {
        self.state().starts.values().copied().max().unwrap_or_default()
    }

    /// The config vars that a dyno was given.
    #[must_use]
    pub fn config_of(&self, dyno: &DynoId) -> Option<BTreeMap<String, String>> {
        self.state().dynos.get(dyno).map(|d| d.config.clone())
    }

    /// What a process type was last asked to run on.
    #[must_use]
    pub fn placement_of(&self, app: &AppId, process_type: &ProcessType) -> Option<(Architecture, Capacity)> {
        self.state().wishes.get(&(app.clone(), process_type.clone())).map(|wish| wish.placement)
    }

    /// Ends a running dyno from outside, as the kernel would.
    pub fn kill(&self, dyno: &DynoId) {
        let now = self.clock.now();
        self.change(|state| {
            if let Some(dyno) = state.dynos.get_mut(dyno).filter(|d| d.runs()) {
                dyno.exit = Some((137, now));
                let lines = dyno.end_lines();
                let app = dyno.app.clone();
                state.lines.extend(lines.into_iter().map(|line| (app.clone(), line)));
                state.touched.push(app);
            }
        });
    }

    /// The engine dies and comes back: everything that ran has ended (255) and nothing was restarted.
    pub fn restart_engine(&self) {
        let now = self.clock.now();
        self.change(|state| {
            for dyno in state.dynos.values_mut().filter(|d| d.runs()) {
                dyno.exit = Some((255, now));
                let lines = dyno.end_lines();
                state.lines.extend(lines.into_iter().map(|line| (dyno.app.clone(), line)));
                state.touched.push(dyno.app.clone());
            }
        });
    }

    /// The next `times` calls of `method` ("ensure", "start_once", …) fail without having done anything.
    pub fn fail_next(&self, method: &'static str, times: usize) {
        self.state().fail.insert(method, times);
    }

    /// The next `times` calls of `method` do their work and fail all the same: an answer that got lost.
    pub fn lose_next(&self, method: &'static str, times: usize) {
        self.state().lose.insert(method, times);
    }

    /// Every call of `method` fails for good, for this cause, until [`Self::allow`].
    pub fn refuse(&self, method: &'static str, cause: &str) {
        self.state().refused.insert(method, cause.to_owned());
    }

    /// Ends [`Self::refuse`].
    pub fn allow(&self, method: &'static str) {
        self.state().refused.remove(method);
    }

    /// From now on no further dyno is started, for this reason; with `None` they are again.
    pub fn no_room(&self, cause: Option<&str>) {
        self.state().no_room = cause.map(str::to_owned);
    }

    /// Every app that has a dyno.
    #[must_use]
    pub fn apps_with_dynos(&self) -> Vec<AppId> {
        let mut apps: Vec<AppId> = self.state().dynos.values().map(|d| d.app.clone()).collect();
        apps.sort();
        apps.dedup();
        apps
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.send_modify(|n| *n += 1);
        result
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn timing(&self) -> &FakeTiming {
        &self.timing
    }

    pub(crate) fn may_fail(&self, method: &'static str) -> Result<(), PortError> {
        if let Some(cause) = self.state().refused.get(method) {
            return Err(PortError::permanent(method, cause));
        }
        counted(&mut self.state().fail, method)
    }

    pub(crate) fn may_get_lost(&self, method: &'static str) -> Result<(), PortError> {
        counted(&mut self.state().lose, method)
    }

    /// Lets everyone live until now; answers with the apps in which something happened.
    pub(crate) fn advance(&self) -> Vec<AppId> {
        let now = self.now();
        let mut state = self.state();
        let state = &mut *state;
        let mut touched = std::mem::take(&mut state.touched);
        for dyno in state.dynos.values_mut() {
            let before = (dyno.up_at, dyno.exit, dyno.term_at, dyno.out.len());
            let mut said = dyno.live(now, &self.timing);
            if before.1.is_none() && dyno.exit.is_some() {
                said.extend(dyno.end_lines());
            }
            state.lines.extend(said.into_iter().map(|line| (dyno.app.clone(), line)));
            if before != (dyno.up_at, dyno.exit, dyno.term_at, dyno.out.len()) {
                touched.push(dyno.app.clone());
            }
        }
        let gone = |d: &FakeDyno| d.is_service() && d.exit.is_some() && d.stop_at.is_some();
        touched.extend(state.dynos.values().filter(|d| gone(d)).map(|d| d.app.clone()));
        state.dynos.retain(|_, d| !gone(d));
        touched.sort();
        touched.dedup();
        if !touched.is_empty() {
            self.changed.send_modify(|n| *n += 1);
        }
        touched
    }
}

fn counted(counts: &mut HashMap<&'static str, usize>, method: &'static str) -> Result<(), PortError> {
    match counts.get_mut(method) {
        Some(left) if *left > 0 => {
            *left -= 1;
            Err(PortError::transient(method, "the fake platform was told to fail"))
        }
        _ => Ok(()),
    }
}

impl State {
    /// What a command line does.
    pub(crate) fn script(&self, command: &str, service: bool, web: bool) -> Vec<Word> {
        let rule = self.scripts.iter().find(|(words, _)| command.contains(words.as_str()));
        let known = parse(rule.map_or(command, |(_, script)| script));
        known.unwrap_or_else(|| match (service, web) {
            (true, true) => vec![Word::Serve],
            (true, false) => vec![Word::Worker],
            (false, _) => vec![Word::Exit(0)],
        })
    }

    /// Why no dyno with this command line starts, at the one moment or the other.
    pub(crate) fn unstartable(&self, command: &str, at_attach: bool) -> Option<PortError> {
        let mut rules = self.unstartable.iter().filter(|(_, _, later)| *later == at_attach);
        let (_, why, _) = rules.find(|(words, _, _)| command.contains(words.as_str()))?;
        Some(PortError::permanent("starting a dyno", why))
    }

    pub(crate) fn services(&self, app: &AppId, process_type: &ProcessType) -> Vec<(&DynoId, &FakeDyno)> {
        let ours = |d: &FakeDyno| d.is_service() && d.app == *app && d.name.process_type == *process_type;
        self.dynos.iter().filter(|(_, d)| ours(d)).collect()
    }

    pub(crate) fn start(&mut self, id: &DynoId, now: Timestamp) {
        let Some(dyno) = self.dynos.get_mut(id) else { return };
        if dyno.started_at.is_some() || dyno.exit.is_some() {
            return;
        }
        dyno.started_at = Some(now);
        dyno.step_since = now;
        *self.starts.entry(id.clone()).or_default() += 1;
        let line = dyno.says(now, format!("Starting process with command `{}`", dyno.command));
        self.lines.push((dyno.app.clone(), line));
    }

    pub(crate) fn members(&self, app: &AppId, process_type: &ProcessType) -> Vec<Member> {
        // An address that nobody has (TEST-NET-1): a fake dyno serves nothing.
        let address = |runs: bool| runs.then(|| std::net::SocketAddr::from(([192, 0, 2, 1], 5000)));
        let services = self.services(app, process_type).into_iter();
        let mut members: Vec<Member> = services
            .filter_map(|(id, d)| {
                let state = d.member_state()?;
                Some(Member { dyno: id.clone(), name: d.name.clone(), address: address(d.runs()), state })
            })
            .collect();
        members.sort_by_key(|m| m.name.slot);
        members
    }
}
