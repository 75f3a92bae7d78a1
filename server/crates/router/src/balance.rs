//! Which dyno a request goes to, and what happens when there is none.
//!
//! Of two dynos drawn at random, the one with fewer requests in flight. A request waits when dynos are starting
//! (H20 ends that) or when all of them have their hands full (H12 ends that), as long as not too many wait (H11).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::code::Code;
use crate::options::Limits;
use crate::table::{Dyno, Members, Pool, Slot};
use crate::worker::Worker;

/// The outcome of one look at a pool.
enum Pick {
    Slot(Slot),
    /// Nothing at the moment; this code when it stays so for this long.
    Wait(Code, Duration),
    No(Code),
}

/// Finds a place for a request, waiting for one when that makes sense. `tried` were asked already by this
/// request and could not be connected to.
///
/// # Errors
/// The code to answer with. H99 when every dyno was tried.
pub(crate) async fn place(worker: &Worker, pool: &Arc<Pool>, tried: &[Arc<Dyno>]) -> Result<Slot, Code> {
    match pick(worker, pool, tried) {
        Pick::Slot(slot) => Ok(slot),
        Pick::No(code) => Err(code),
        Pick::Wait(..) => wait(worker, pool, tried).await,
    }
}

async fn wait(worker: &Worker, pool: &Arc<Pool>, tried: &[Arc<Dyno>]) -> Result<Slot, Code> {
    let _waiting = Waiting::new(pool);
    if pool.waiting.load(Ordering::Relaxed) > backlog(pool, worker.limits()) {
        return Err(Code::H11);
    }
    let began = Instant::now();
    loop {
        let mut changed = std::pin::pin!(pool.changed.notified());
        // Before the look: what changes after it wakes us.
        changed.as_mut().enable();
        let (code, limit) = match pick(worker, pool, tried) {
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

struct Waiting<'a>(&'a Pool);

impl<'a> Waiting<'a> {
    fn new(pool: &'a Pool) -> Self {
        pool.waiting.fetch_add(1, Ordering::Relaxed);
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A wake-up that this one had for itself and cannot use any more goes on to the next.
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) > 1 {
            self.0.changed.notify_one();
        }
    }
}

fn pick(worker: &Worker, pool: &Arc<Pool>, tried: &[Arc<Dyno>]) -> Pick {
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
        match choose(&members, tried, worker.random(), worker.now_ms(), limits) {
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
