//! Keeps calls under AWS's rates, fair among apps: one bucket per family of calls, four fifths of AWS's own.
//!
//! AWS counts per account and region, and somebody else may call too: hence four fifths, which the servers of an
//! installation divide among them. When calls wait, apps take turns, so that an app with a hundred calls does not hold
//! up one with a single call.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paas_domain::AppId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::call::Family;

/// The share of AWS's rate that we use.
const SHARE: f64 = 0.8;

/// The share of a bucket that is left to others by calls that can wait.
const LEFT: f64 = 0.25;

/// The buckets of one account and region.
#[derive(Clone, Default)]
pub struct Rates(Arc<Mutex<Buckets>>);

struct Buckets {
    of: HashMap<Family, Arc<Bucket>>,
    /// How many servers take from them.
    servers: usize,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { of: HashMap::new(), servers: 1 }
    }
}

/// The part of a family's rate that each of so many servers has: the bucket's size, and tokens a second.
fn share(family: Family, servers: usize) -> (f64, f64) {
    let (size, per_second) = family.limit();
    // More servers than anybody starts are still a number that divides.
    let part = SHARE / f64::from(u32::try_from(servers.max(1)).unwrap_or(u32::MAX));
    ((size * part).max(1.0), per_second * part)
}

impl Rates {
    /// So many servers divide the rates from now on. Tokens that are there stay, as far as the bucket holds them.
    pub fn share_with(&self, servers: usize) {
        let mut buckets = lock(&self.0);
        buckets.servers = servers;
        for (family, bucket) in &buckets.of {
            bucket.resize(share(*family, servers));
        }
    }

    /// Waits for this app's turn and takes a token.
    pub async fn take(&self, family: Family, app: Option<&AppId>) {
        self.bucket(family).take(Some(app.map(AppId::as_str).unwrap_or_default())).await;
    }

    /// The same for what nobody waits for: it lets everybody else go first, and leaves them some tokens.
    pub async fn take_idle(&self, family: Family) {
        self.bucket(family).take(None).await;
    }

    fn bucket(&self, family: Family) -> Arc<Bucket> {
        let mut buckets = lock(&self.0);
        let servers = buckets.servers;
        let bucket = buckets.of.entry(family);
        Arc::clone(bucket.or_insert_with(|| Arc::new(Bucket::new(share(family, servers)))))
    }
}

/// The round of what nobody waits for.
const LAST: u64 = u64::MAX;

struct Bucket {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    size: f64,
    per_second: f64,
    tokens: f64,
    at: Instant,
    /// Who waits, by round and then by arrival: one call of each app per round.
    waiting: BTreeSet<(u64, u64)>,
    /// The last round that an app has a call in.
    rounds: HashMap<String, u64>,
    round: u64,
    arrivals: u64,
}

impl Bucket {
    fn new((size, per_second): (f64, f64)) -> Self {
        let state = State {
            size,
            per_second,
            tokens: size,
            at: Instant::now(),
            waiting: BTreeSet::new(),
            rounds: HashMap::new(),
            round: 0,
            arrivals: 0,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn resize(&self, (size, per_second): (f64, f64)) {
        {
            let mut state = lock(&self.state);
            // What came until now came at the old rate.
            state.refill();
            (state.size, state.per_second) = (size, per_second);
            state.tokens = state.tokens.min(size);
        }
        // Whoever sleeps until there is a token computes anew when that is.
        self.changed.notify_waiters();
    }

    /// Takes a token for an app, or, for nobody, one that is left over.
    async fn take(&self, app: Option<&str>) {
        let turn = Turn { bucket: self, ticket: lock(&self.state).queue(app) };
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before the look: what changes after it wakes us.
            changed.as_mut().enable();
            let wait = {
                let mut state = lock(&self.state);
                state.refill();
                // Of a small bucket, all that it holds is all that can be left over.
                let needs = app.map_or((1.0 + state.size * LEFT).min(state.size), |_| 1.0);
                let first = state.waiting.first().is_none_or(|ticket| *ticket == turn.ticket);
                if first && state.tokens >= needs {
                    state.tokens -= 1.0;
                    if app.is_some() {
                        state.round = turn.ticket.0;
                    }
                    return;
                }
                first.then(|| Duration::from_secs_f64((needs - state.tokens) / state.per_second))
            };
            match wait {
                // A nanosecond more than computed, so that rounding never makes it look once too often.
                Some(wait) => {
                    let _ = tokio::time::timeout(wait + Duration::from_nanos(1), changed).await;
                }
                None => changed.await,
            }
        }
    }
}

impl State {
    fn queue(&mut self, app: Option<&str>) -> (u64, u64) {
        if self.waiting.is_empty() {
            self.rounds.clear();
        }
        let round = app.map_or(LAST, |app| {
            let last = self.rounds.entry(app.to_owned()).or_insert(self.round);
            *last = (*last).max(self.round) + 1;
            *last
        });
        let ticket = (round, self.arrivals);
        self.arrivals += 1;
        self.waiting.insert(ticket);
        ticket
    }

    fn refill(&mut self) {
        let now = Instant::now();
        self.tokens = (self.tokens + (now - self.at).as_secs_f64() * self.per_second).min(self.size);
        self.at = now;
    }
}

/// A place in the queue; given up when its call is, whether it got its token or not.
struct Turn<'a> {
    bucket: &'a Bucket,
    ticket: (u64, u64),
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.bucket.state).waiting.remove(&self.ticket);
        self.bucket.changed.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn never_more_than_four_fifths() {
        let (rates, since) = (Rates::default(), Instant::now());
        for _ in 0..16 {
            rates.take(Family::EcsRegister, None).await;
        }
        assert!(since.elapsed() < Duration::from_millis(1));
        for _ in 0..8 {
            rates.take(Family::EcsRegister, None).await;
        }
        let took = since.elapsed().as_secs_f64();
        assert!((10.0..10.01).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn two_servers_have_half_of_it_each() {
        let (one, two, since) = (Rates::default(), Rates::default(), Instant::now());
        for rates in [&one, &two] {
            rates.share_with(2);
        }
        // The same sixteen tokens and four in five seconds as for one server, whoever takes them.
        for _ in 0..8 {
            one.take(Family::EcsRegister, None).await;
            two.take(Family::EcsRegister, None).await;
        }
        assert!(since.elapsed() < Duration::from_millis(1));
        for _ in 0..4 {
            tokio::join!(one.take(Family::EcsRegister, None), two.take(Family::EcsRegister, None));
        }
        let took = since.elapsed().as_secs_f64();
        assert!((10.0..10.01).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_hears_of_servers_that_come_and_go() {
        let (rates, since) = (Rates::default(), Instant::now());
        rates.share_with(4);
        for _ in 0..4 {
            rates.take(Family::EcsRegister, None).await;
        }
        // A fifth of a token a second: five seconds for the next one. The other three servers go after one of them.
        let waiting = rates.clone();
        let waiting = tokio::spawn(async move { waiting.take(Family::EcsRegister, None).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!waiting.is_finished());
        rates.share_with(1);
        waiting.await.expect("its turn comes");
        let took = since.elapsed().as_secs_f64();
        assert!((2.0..2.01).contains(&took), "{took}");
        // With more servers than tokens what can wait still comes to its turn.
        rates.share_with(40);
        let idle = tokio::time::timeout(Duration::from_secs(60), rates.take_idle(Family::EcsRegister)).await;
        assert!(idle.is_ok(), "a bucket of one token");
        rates.share_with(1);
        // Now three more come: a full bucket is a quarter of what it was.
        tokio::time::sleep(Duration::from_secs(60)).await;
        rates.share_with(4);
        let again = Instant::now();
        for _ in 0..5 {
            rates.take(Family::EcsRegister, None).await;
        }
        let took = again.elapsed().as_secs_f64();
        assert!((5.0..5.01).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn apps_take_turns() {
        let (rates, busy, calm) = (Rates::default(), AppId::new(), AppId::new());
        for _ in 0..16 {
            rates.take(Family::EcsRegister, Some(&busy)).await;
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = tokio::task::JoinSet::new();
        for (app, count) in [(&busy, 5), (&calm, 2)] {
            for _ in 0..count {
                let (rates, app, order, calm) = (rates.clone(), app.clone(), Arc::clone(&order), calm.clone());
                tasks.spawn(async move {
                    rates.take(Family::EcsRegister, Some(&app)).await;
                    lock(&order).push(app == calm);
                });
                tokio::task::yield_now().await;
            }
        }
        tasks.join_all().await;
        let order = lock(&order).clone();
        assert!(order[..4].iter().filter(|calm| **calm).count() == 2, "{order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_leaves_tokens_and_goes_last() {
        let (rates, app, since) = (Rates::default(), AppId::new(), Instant::now());
        for _ in 0..12 {
            rates.take_idle(Family::EcsRegister).await;
        }
        let idle = rates.clone();
        let idle = tokio::spawn(async move { idle.take_idle(Family::EcsRegister).await });
        tokio::task::yield_now().await;
        for _ in 0..4 {
            rates.take(Family::EcsRegister, Some(&app)).await;
        }
        assert!(since.elapsed() < Duration::from_millis(1) && !idle.is_finished());
        rates.take(Family::EcsRegister, Some(&app)).await;
        assert!((1.2..1.3).contains(&since.elapsed().as_secs_f64()));
        idle.await.expect("its turn comes");
        assert!((7.4..7.6).contains(&since.elapsed().as_secs_f64()), "{:?}", since.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_up_holds_nobody_up() {
        let rates = Rates::default();
        for _ in 0..16 {
            rates.take(Family::EcsRegister, None).await;
        }
        let given_up = tokio::time::timeout(Duration::from_millis(10), rates.take(Family::EcsRegister, None)).await;
        assert!(given_up.is_err());
        let next = tokio::time::timeout(Duration::from_secs(2), rates.take(Family::EcsRegister, None)).await;
        assert!(next.is_ok());
    }
}
