//! Endless work: makes each app what its rows say, one bounded pass at a time, under the app's lease.
//!
//! The loop runs when kicked and on a timer, takes no hint about what changed, and so behaves the same after a
//! restart. A pass reads the wish, asks the drivers to move one step, looks at what is there, and writes what it
//! found; it may run again at any time.

mod collect;
mod destroy;
mod one_offs;
mod pass;
mod quiet;
mod refused;
mod service;

use std::sync::Arc;
use std::time::Duration;

use paas_ports::outside;
use paas_store::{AppLease, StoreError};
use tokio::sync::{Semaphore, watch};

pub use pass::PassStep;

use crate::cx::Cx;
use crate::ops::manage_sources::sweep_sources;

/// How long a reconciler that has died holds an app.
const LEASE: Duration = Duration::from_secs(30);
/// How many apps are worked on at the same time.
const WORKERS: usize = 16;
/// How long to wait after the first pass that failed; it doubles with each further one.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// The longest wait after a pass that failed.
const AFTER_ERRORS: Duration = Duration::from_secs(60);
/// After how many failed passes an outage is told to the app: by then it has lasted half a minute.
const TOLD_AFTER: u32 = 5;

/// Reconciles until `stop` says so. Passes under way are dropped then: going on is what a restart does anyway.
pub async fn run(cx: Cx, owner: String, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(WORKERS));
    let mut running = tokio::task::JoinSet::new();
    let mut swept = tokio::time::Instant::now();
    // One sweep at a time, beside the passes; and beside both one look for what no row names: its lists may be many calls.
    let (sweeper, looker) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
    let mut listed: Option<tokio::time::Instant> = None;
    while !*stop.borrow() {
        // Who is claimed is worked on at once: nobody else can have it meanwhile.
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot,
            _ = stop.changed() => continue,
        };
        let Ok(slot) = slot else { break };
        let kicked = cx.kicks.apps.notified();
        match outside::task(claim(&cx, &owner)).await {
            Ok(Claimed::App(lease)) => {
                let cx = cx.clone();
                running.spawn(async move {
                    outside::task(work(&cx, lease)).await;
                    drop(slot);
                    cx.kicks.apps.notify_one();
                    cx.kicks.changed.notify_waiters();
                });
                continue;
            }
            Ok(Claimed::NothingUntil(wait)) => {
                tokio::select! {
                    () = kicked => {}
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.changed() => {}
                }
            }
            Err(error) => {
                tracing::error!(%error, "apps cannot be claimed");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
        while running.try_join_next().is_some() {}
        if swept.elapsed() < cx.settings.sweep {
            continue;
        }
        if let Ok(turn) = Arc::clone(&sweeper).try_acquire_owned() {
            swept = tokio::time::Instant::now();
            let cx = cx.clone();
            running.spawn(async move {
                if let Err(error) = outside::task(sweep(&cx)).await {
                    tracing::error!(%error, "the sweep failed");
                }
                drop(turn);
            });
        }
        if listed.is_none_or(|listed| listed.elapsed() >= cx.settings.orphans)
            && let Ok(turn) = Arc::clone(&looker).try_acquire_owned()
        {
            listed = Some(tokio::time::Instant::now());
            let cx = cx.clone();
            running.spawn(async move {
                if let Err(error) = outside::task(collect::everywhere(&cx)).await {
                    tracing::error!(%error, "what no row names could not be looked for");
                }
                drop(turn);
            });
        }
    }
    running.shutdown().await;
}

enum Claimed {
    App(AppLease),
    NothingUntil(Duration),
}

async fn claim(cx: &Cx, owner: &str) -> Result<Claimed, StoreError> {
    let now = cx.now();
    // A look first: an idle server must not write.
    let due = cx.store.read().await?.next_due_app().await?;
    if due.is_some_and(|at| at <= now) {
        let mut uow = cx.begin().await?;
        let claimed = uow.claim_due_app(owner, now, pass::after(now, LEASE)).await?;
        uow.save().await?;
        if let Some(lease) = claimed {
            return Ok(Claimed::App(lease));
        }
    }
    let wait =
        due.map_or(cx.settings.sweep, |at| Duration::from_millis(u64::try_from(at.since_ms(now)).unwrap_or(0).max(5)));
    Ok(Claimed::NothingUntil(wait.min(cx.settings.sweep)))
}

/// Makes every app due, and removes dynos and routes that no row names any more.
async fn sweep(cx: &Cx) -> Result<(), StoreError> {
    let mut uow = cx.begin().await?;
    uow.kick_all_apps(cx.now()).await?;
    uow.save().await?;
    // The loop has looked before, and sleeps.
    cx.kicks.apps.notify_one();
    if let Err(error) = sweep_sources(cx).await {
        tracing::warn!(%error, "expired sources are still there");
    }
    collect::dynos_and_routes(cx).await
}

/// Keeps the lease alive, since a pass may wait long for AWS to grant it calls; returns when somebody else has the app.
async fn lost(cx: &Cx, lease: &AppLease) {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        let renewed = outside::task(async {
            let mut uow = cx.begin().await?;
            uow.renew_app(lease, pass::after(cx.now(), LEASE)).await?;
            uow.save().await
        });
        if let Err(StoreError::Fenced) = renewed.await {
            return;
        }
    }
}

/// One pass over one app.
async fn work(cx: &Cx, lease: AppLease) {
    if !lease.knows {
        cx.runtime.doubt(lease.scope.id());
    }
    let passed = tokio::select! {
        passed = pass::pass(cx, &lease) => passed,
        () = lost(cx, &lease) => return tracing::info!(app = %lease.scope.id(), "the app was taken away"),
    };
    let Err(error) = passed else { return };
    match error {
        pass::PassError::Store(StoreError::Fenced) => return,
        ref other => tracing::warn!(app = %lease.scope.id(), error = %other, "the pass failed; it is tried again"),
    }
    let wait = AFTER_ERROR.saturating_mul(1 << lease.failed_passes.min(16)).min(AFTER_ERRORS);
    let again = cx.now().plus_ms(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    if let Err(error) = refused::write(cx, &lease, &error, again).await {
        tracing::warn!(app = %lease.scope.id(), %error, "the app's lease runs out by itself");
    }
}
