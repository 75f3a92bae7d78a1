//! One task for each dyno that runs: takes its output over, waits until it serves, stops it when told to,
//! and sees to its end. It works from facts and from the engine, so after a restart of the server a new
//! task for the same container goes on where the old one was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::query_parameters::WaitContainerOptionsBuilder;
use futures_util::StreamExt as _;
use paas_domain::{DynoKind, Timestamp};
use paas_ports::PortError;
use tokio::net::TcpStream;

use super::Inner;
use super::book::Dyno;
use super::facts::{Exit, Failure};
use super::follow::follow;
use super::look::Stage;
use super::voice;

/// How often a starting web dyno is tried at first: half of it is what a start costs more than it must.
const PROBE_SOON: Duration = Duration::from_millis(4);
/// How often one is tried that takes its time.
const PROBE_LATER: Duration = Duration::from_millis(20);
/// When it does.
const PROBE_TURN: Duration = Duration::from_secs(5);
/// The most that one try may take.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
/// A dyno that does not listen is up when it ran this long.
const STABLE: Duration = Duration::from_millis(500);
/// The least that a web dyno is tried, also when the server was away while it booted.
const LEAST_BOOT: Duration = Duration::from_secs(2);
/// How often a draining dyno's requests are counted.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// The grace of an app's dynos when the app is destroyed.
const QUICK_GRACE: Duration = Duration::from_secs(10);
/// How long to wait for an ended dyno's last lines before its end is said all the same.
const LAST_LINES: Duration = Duration::from_secs(5);

/// How a dyno's container ended.
enum End {
    Exited {
        code: i32,
        oom: bool,
    },
    /// It is not there any more: someone else removed it.
    Gone,
}

impl Inner {
    /// Sees to it that this dyno has its task.
    pub(crate) fn mind(self: &Arc<Self>, dyno: &Arc<Dyno>) {
        if dyno.claim() {
            let (inner, dyno) = (Arc::clone(self), Arc::clone(dyno));
            self.spawn(async move { inner.see_through(&dyno).await });
        }
    }

    async fn see_through(self: &Arc<Self>, dyno: &Arc<Dyno>) {
        if matches!(dyno.facts().failure, Some(Failure::CannotStart(_))) || dyno.tag.attach {
            // Nothing was written, or it went to whoever attached.
            dyno.note(|f| f.drained = true);
        }
        let follower = (!dyno.facts().drained).then(|| {
            let (inner, dyno) = (Arc::clone(self), Arc::clone(dyno));
            self.spawn(async move { follow(&inner, &dyno).await })
        });
        let end = match dyno.facts().exit {
            Some(exit) => End::Exited { code: exit.code, oom: false },
            None => tokio::select! {
                end = self.ended(dyno) => end,
                () = forever(self.boot(dyno)) => End::Gone,
                () = forever(self.stop_when_told(dyno)) => End::Gone,
            },
        };
        match end {
            End::Exited { code, oom } => self.note_exit(dyno, code, oom).await,
            End::Gone => dyno.note(|f| f.exit = f.exit.or(Some(Exit { code: 137, at: self.clock.now() }))),
        }
        self.changed(dyno).await;
        if let Some(follower) = follower {
            let _ = tokio::time::timeout(LAST_LINES, follower).await;
        }
        self.say_exit(dyno).await;
        if matches!(end, End::Gone) && dyno.tag.is_service() {
            self.book.strike(dyno);
            self.changed(dyno).await;
        } else if dyno.tag.is_service() {
            self.tidy_when_told(dyno).await;
        }
    }

    /// Waits for the container's end, however often the engine goes away meanwhile.
    async fn ended(&self, dyno: &Dyno) -> End {
        let mut pause = Duration::from_millis(20);
        loop {
            let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
            let answer = self.docker.wait_container(&dyno.container, Some(options)).next().await;
            if matches!(&answer, Some(Ok(_) | Err(Error::DockerContainerWaitError { .. }))) {
                pause = Duration::from_millis(5);
            }
            match self.inspect(&dyno.container, dyno.tag.port).await {
                Ok(None) => return End::Gone,
                Ok(Some(seen)) if seen.stage == Stage::Exited => {
                    return End::Exited { code: seen.code, oom: seen.oom };
                }
                Ok(Some(_)) | Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Waits until the dyno serves, or kills it for not doing so in time (R10).
    async fn boot(&self, dyno: &Arc<Dyno>) {
        let facts = dyno.facts();
        if facts.failure.is_some() {
            // Blamed before a restart of the server, perhaps not killed yet.
            return self.kill(dyno).await;
        }
        if facts.up_at.is_some() {
            return;
        }
        let started = loop {
            match self.inspect(&dyno.container, dyno.tag.port).await {
                Ok(Some(seen)) if seen.stage == Stage::Running => {
                    dyno.set_address(seen.address);
                    break seen.started.unwrap_or_else(|| self.clock.now());
                }
                Ok(_) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        };
        let age = since(self.clock.now(), started);
        let Some(address) = dyno.address() else {
            tokio::time::sleep(STABLE.saturating_sub(age)).await;
            return self.is_up(dyno).await;
        };
        let limit = self.timing.boot_timeout.saturating_sub(age).max(LEAST_BOOT.min(self.timing.boot_timeout));
        let tried_since = Instant::now();
        let bound = async {
            loop {
                match tokio::time::timeout(PROBE_LIMIT, TcpStream::connect(address)).await {
                    Ok(Ok(_)) => return,
                    Ok(Err(_)) | Err(_) => {
                        let later = tried_since.elapsed() > PROBE_TURN;
                        tokio::time::sleep(if later { PROBE_LATER } else { PROBE_SOON }).await;
                    }
                }
            }
        };
        match tokio::time::timeout(limit, bound).await {
            Ok(()) => self.is_up(dyno).await,
            Err(_) => self.boot_timed_out(dyno).await,
        }
    }

    async fn is_up(&self, dyno: &Arc<Dyno>) {
        let now = self.clock.now();
        dyno.note(|f| f.up_at = f.up_at.or(Some(now)));
        self.changed(dyno).await;
        self.say(&dyno.tag, voice::state_changed("starting", "up")).await;
    }

    async fn boot_timed_out(&self, dyno: &Arc<Dyno>) {
        if !dyno.blame(Failure::BootTimeout) {
            return;
        }
        self.changed(dyno).await;
        self.say(&dyno.tag, voice::boot_timeout(self.timing.boot_timeout.as_secs())).await;
        self.kill(dyno).await;
    }

    /// Kills a dyno for a fault and keeps at it.
    pub(crate) async fn kill(&self, dyno: &Dyno) {
        self.say(&dyno.tag, voice::SIGKILL).await;
        while self.signal(&dyno.container, "SIGKILL").await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits for the order to stop and carries it out: drain, SIGTERM, grace, SIGKILL.
    async fn stop_when_told(&self, dyno: &Arc<Dyno>) {
        let mut facts = dyno.watch();
        if facts.wait_for(|f| f.stop.is_some()).await.is_err() {
            return;
        }
        if dyno.facts().failure.is_some() {
            // Whoever found its fault kills it.
            return;
        }
        if dyno.facts().term_at.is_none() {
            self.drain(dyno).await;
            self.say(&dyno.tag, voice::SIGTERM).await;
        }
        // Sent again after a restart of the server: it may have died before the first one was sent.
        while self.signal(&dyno.container, "SIGTERM").await.is_err() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let now = self.clock.now();
        dyno.note(|f| f.term_at = f.term_at.or(Some(now)));
        loop {
            let told = dyno.facts();
            let quick = told.stop.is_some_and(|s| s.quick);
            let grace = if quick { self.timing.stop_grace.min(QUICK_GRACE) } else { self.timing.stop_grace };
            let left = grace.saturating_sub(since(self.clock.now(), told.term_at.unwrap_or(now)));
            if left.is_zero() {
                self.say(&dyno.tag, voice::exit_timeout(grace.as_secs())).await;
                break;
            }
            let _ = tokio::time::timeout(left, facts.changed()).await;
        }
        self.say(&dyno.tag, voice::SIGKILL_REMAINING).await;
        loop {
            let _ = self.signal(&dyno.container, "SIGKILL").await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }

    /// Takes a dyno out of its pool and waits until it serves nothing any more, for a bounded time.
    async fn drain(&self, dyno: &Arc<Dyno>) {
        let Some(pool) = self.wish_of(dyno).attachment else { return };
        if dyno.tag.port.is_none() {
            return;
        }
        loop {
            let told = dyno.facts().stop;
            let asked = told.map_or_else(|| self.clock.now(), |s| s.asked_at);
            if told.is_some_and(|s| s.quick) || since(self.clock.now(), asked) >= self.timing.drain_timeout {
                return;
            }
            // Only after the pool has heard of it, none in flight means none to come.
            if self.publish(&dyno.tag.app, dyno.tag.process_type()).await.is_ok() {
                break;
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
        loop {
            if let Ok(0) | Err(PortError::NotFound(_)) = self.pools.in_flight(&pool, &dyno.tag.dyno).await {
                return;
            }
            let told = dyno.facts().stop;
            let asked = told.map_or_else(|| self.clock.now(), |s| s.asked_at);
            if told.is_some_and(|s| s.quick) || since(self.clock.now(), asked) >= self.timing.drain_timeout {
                return;
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    async fn note_exit(&self, dyno: &Dyno, code: i32, oom: bool) {
        let at = self.clock.now();
        dyno.note(|f| f.exit = f.exit.or(Some(Exit { code, at })));
        let told_to_go = dyno.facts().stop.is_some();
        if oom && code == 137 && !told_to_go && dyno.blame(Failure::MemoryVastlyExceeded) {
            self.say_memory_vastly_exceeded(dyno).await;
        }
    }

    /// Says the end of a dyno once, behind its last line.
    async fn say_exit(&self, dyno: &Dyno) {
        let facts = dyno.facts();
        let Some(exit) = facts.exit.filter(|_| !facts.exit_said) else { return };
        let from = if facts.up_at.is_some() { "up" } else { "starting" };
        let to = match dyno.tag.kind {
            DynoKind::Run | DynoKind::Release => "complete",
            // What ended by itself or for a fault is told to go only so that its slot is free.
            DynoKind::Service if facts.failure.is_none() && facts.stop.is_some_and(|s| s.asked_at < exit.at) => "down",
            DynoKind::Service => "crashed",
        };
        let now = self.clock.now();
        let mut lines = Vec::new();
        if let Some(Failure::CannotStart(_)) = facts.failure {
            lines.push(voice::line(&dyno.tag, now, voice::reason(facts.failure.as_ref(), None, 0).1));
        }
        lines.push(voice::line(&dyno.tag, now, voice::exited(exit)));
        lines.push(voice::line(&dyno.tag, now, voice::state_changed(from, to)));
        self.say_lines(&dyno.tag.app, lines).await;
        dyno.note(|f| f.exit_said = true);
        self.tell(&dyno.tag.app);
    }

    /// Removes an ended service dyno's container as soon as it is told to go and its log is stored.
    async fn tidy_when_told(self: &Arc<Self>, dyno: &Arc<Dyno>) {
        let mut facts = dyno.watch();
        if facts.wait_for(|f| f.stop.is_some() && f.drained).await.is_err() {
            return;
        }
        while let Err(e) = self.remove_container(&dyno.container).await {
            tracing::debug!(dyno = %dyno.tag.name, error = %e, "removing again");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.book.strike(dyno);
        self.changed(dyno).await;
    }

    /// The pool first, then whoever wants to look again.
    pub(crate) async fn changed(&self, dyno: &Dyno) {
        if dyno.tag.is_service() {
            let published = self.publish(&dyno.tag.app, dyno.tag.process_type()).await;
            if let Err(e) = published {
                tracing::warn!(app = %dyno.tag.app, error = %e, "cannot tell the pool");
            }
        }
        self.tell(&dyno.tag.app);
    }
}

async fn forever(work: impl Future<Output = ()>) {
    work.await;
    std::future::pending::<()>().await;
}

fn since(now: Timestamp, earlier: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.since_ms(earlier)).unwrap_or(0))
}
