//! Which dyno a request goes to, and what happens when there is none.
//!
//! Of two dynos drawn at random, the one with fewer requests in flight. A request waits when dynos are starting
//! (H20 ends that) or when all of them have their hands full (H12 ends that), as long as not too many wait (H11).
//!
//! A client that was told to come back to a dyno gets that one while it is up, also when it has to wait for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::code::Code;
use crate::options::Limits;
use crate::table::{Dyno, DynoMark, Members, Pool, Slot};
use crate::worker::Worker;

/// The outcome of one look at a pool.
enum Pick {
    Slot(Slot),
    /// Nothing at the moment; this code when it stays so for this long.
    Wait(Code, Duration),
    No(Code),
}

/// Finds a place for a request, waiting for one when that makes sense. `tried` were asked already by this
/// request and could not be connected to; `kept` is the dyno that its client comes back to.
///
/// # Errors
/// The code to answer with. H99 when every dyno was tried.
pub(crate) async fn place(
    worker: &Worker,
    pool: &Arc<Pool>,
    tried: &[Arc<Dyno>],
    kept: Option<DynoMark>,
) -> Result<Slot, Code> {
    match pick(worker, pool, tried, kept) {
        Pick::Slot(slot) => Ok(slot),
        Pick::No(code) => Err(code),
        Pick::Wait(..) => wait(worker, pool, tried, kept).await,
    }
}

async fn wait(worker: &Worker, pool: &Arc<Pool>, tried: &[Arc<Dyno>], kept: Option<DynoMark>) -> Result<Slot, Code> {
    let _waiting = Waiting::new(pool, kept.is_some());
    if pool.waiting.load(Ordering::Relaxed) > backlog(pool, worker.limits()) {
        return Err(Code::H11);
    }
    let began = Instant::now();
    loop {
        let mut changed = std::pin::pin!(pool.changed.notified());
        // Before the look: what changes after it wakes us.
        changed.as_mut().enable();
        let (code, limit) = match pick(worker, pool, tried, kept) {
            Pick::Slot(slot) => return Ok(slot),
            Pick::No(code) => return Err(code),
            Pick::Wait(code, limit) => (code, limit),
        };
        if tokio::time::timeout_at(began + limit, changed).await.is_err() {
            return Err(code);
        }
    }
}

/// How many requests may wait.
fn backlog(pool: &Pool, limits: &Limits) -> u32 {
    let members = pool.members.load();
    let dynos = members.up.len().max(usize::from(members.wanted)).max(1);
    limits.backlog_per_dyno.saturating_mul(u32::try_from(dynos).unwrap_or(u32::MAX))
}

struct Waiting<'a> {
    pool: &'a Pool,
    for_own: bool,
}

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool, for_own: bool) -> Self {
        if for_own {
            pool.waiting_for_own.fetch_add(1, Ordering::Relaxed);
        }
        pool.waiting.fetch_add(1, Ordering::Relaxed);
        Self { pool, for_own }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A wake-up that this one had for itself and cannot use any more goes on to the next.
        if self.for_own {
            self.pool.waiting_for_own.fetch_sub(1, Ordering::Relaxed);
        }
        if self.pool.waiting.fetch_sub(1, Ordering::Relaxed) > 1 {
            self.pool.wake();
        }
    }
}

fn pick(worker: &Worker, pool: &Arc<Pool>, tried: &[Arc<Dyno>], kept: Option<DynoMark>) -> Pick {
    let limits = worker.limits();
    loop {
        let members = pool.members.load();
        if members.wanted == 0 {
            return Pick::No(Code::H14);
        }
        if members.up.is_empty() {
            return if members.starting == 0 && members.crashed > 0 {
                Pick::No(Code::H10)
            } else {
                Pick::Wait(Code::H20, limits.boot())
            };
        }
        let own = kept.and_then(|mark| come_back(&members, mark, tried, worker.now_ms(), limits));
        match own.unwrap_or_else(|| choose(&members, tried, worker.random(), worker.now_ms(), limits)) {
            Choice::Dyno(dyno) => {
                if let Some(slot) = Slot::take(pool, dyno) {
                    return Pick::Slot(slot);
                }
                // It left since the look, and members are swapped before anyone leaves: look again.
            }
            Choice::Full => return Pick::Wait(Code::H12, limits.first_byte()),
            Choice::None => return Pick::No(Code::H99),
        }
    }
}

enum Choice<'a> {
    Dyno(&'a Arc<Dyno>),
    Full,
    None,
}

/// The dyno that a client comes back to, unless it is not up or was just found not to answer.
fn come_back<'a>(
    members: &'a Members,
    mark: DynoMark,
    tried: &[Arc<Dyno>],
    now_ms: u64,
    limits: &Limits,
) -> Option<Choice<'a>> {
    let dyno = members.up.iter().find(|dyno| dyno.mark == mark)?;
    if dyno.is_quarantined(now_ms) || tried.iter().any(|t| Arc::ptr_eq(t, dyno)) {
        return None;
    }
    Some(if dyno.unanswered() < limits.requests_per_dyno { Choice::Dyno(dyno) } else { Choice::Full })
}

fn choose<'a>(members: &'a Members, tried: &[Arc<Dyno>], random: u64, now_ms: u64, limits: &Limits) -> Choice<'a> {
    let up = &members.up;
    let free = |dyno: &Arc<Dyno>| {
        dyno.unanswered() < limits.requests_per_dyno
            && !dyno.is_quarantined(now_ms)
            && !tried.iter().any(|t| Arc::ptr_eq(t, dyno))
    };
    let n = up.len() as u64;
    let first = ((random >> 32) * n) >> 32;
    // Another one than the first, when there is another.
    let second = if n > 1 { (first + 1 + (((random & 0xffff_ffff) * (n - 1)) >> 32)) % n } else { first };
    let (first, second) = (&up[first as usize], &up[second as usize]);
    let (less, more) = if second.in_flight() < first.in_flight() { (second, first) } else { (first, second) };
    if free(less) {
        return Choice::Dyno(less);
    }
    if free(more) {
        return Choice::Dyno(more);
    }
    if let Some(dyno) = up.iter().filter(|d| free(d)).min_by_key(|d| d.in_flight()) {
        return Choice::Dyno(dyno);
    }
    // All that are left are full or in quarantine. One in quarantine is better than none at all, but only
    // when none is just busy.
    let untried = || up.iter().filter(|d| !tried.iter().any(|t| Arc::ptr_eq(t, d)));
    if untried().any(|d| !d.is_quarantined(now_ms)) {
        return Choice::Full;
    }
    match untried().min_by_key(|d| d.in_flight()) {
        Some(dyno) => Choice::Dyno(dyno),
        None => Choice::None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use paas_domain::DynoId;
    use paas_ports::Attachment;

    use super::*;

    fn up(count: u16) -> Members {
        let (events, _) = tokio::sync::mpsc::unbounded_channel();
        let dyno = |n: u16| {
            let (address, pool) = (SocketAddr::from((Ipv4Addr::LOCALHOST, n)), Attachment("pool".to_owned()));
            Arc::new(Dyno::new(DynoId::new(), format!("web.{n}"), address, pool, 1, events.clone()))
        };
        Members { wanted: count, up: (1..=count).map(dyno).collect(), ..Members::default() }
    }

    /// Members may change between a dyno that could not be connected to and the next one.
    #[test]
    fn a_request_that_was_offered_to_all_there_are_is_h99() {
        let (members, limits) = (up(3), Limits::default());
        let chosen = |tried: &[Arc<Dyno>]| match choose(&members, tried, 7, 0, &limits) {
            Choice::Dyno(dyno) => Some(dyno.clone()),
            Choice::Full => panic!("none has anything to do"),
            Choice::None => None,
        };
        let mut tried = Vec::new();
        while let Some(dyno) = chosen(&tried) {
            assert!(!tried.iter().any(|t| Arc::ptr_eq(t, &dyno)), "{} is offered it twice", dyno.label);
            tried.push(dyno);
        }
        assert_eq!(tried.len(), 3);
        assert_eq!((Code::H99.description(), Code::H99.status()), ("Platform error", 503));
    }
}
