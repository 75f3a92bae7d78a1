//! Every AWS call that the drivers make × every fault of AWS, through the rig's fault proxy.
//!
//! [`Call::ALL`] and [`Fault::ALL`] make the matrix; [`stories`] has for each call an operation of a driver that makes
//! it (a call without one does not compile). In each cell the fault strikes that call while the operation is made. It
//! succeeds all the same or says what AWS said, in the right way; it does not hang or panic; and made again when AWS
//! is well it reaches what was wanted, with nothing double and nothing half-done, which is asked of the account itself.
//! That the fault has struck is read from the proxy, so that no cell proves nothing. Where a fault cannot strike, a
//! rule says so and why.
//!
//! `PAAS_TEST_FAULTS=CreateRule` (or `Lost`, or `CreateRule×Lost`) plays the cells with that in their names only.

#[path = "../support/mod.rs"]
mod support;

mod bucket;
mod cell;
mod fault;
mod heard;
#[path = "../contract/runtime/image.rs"]
mod image;
mod line;
mod stories;

use std::collections::BTreeMap;
use std::sync::Arc;

use cell::Outcome;
use fault::Fault;
use paas_aws::Call;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many cells are played at the same time: most of their time they wait.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_meets_every_fault() {
    heard::listen();
    let only = std::env::var("PAAS_TEST_FAULTS").unwrap_or_default();
    let base = paas_aws::account::sdk_config(&support::options()).await;
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut cells = JoinSet::new();
    let mut counts: BTreeMap<Fault, [usize; 3]> = BTreeMap::new();
    let mut reasons: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut wanted = 0;
    for (call, fault) in Call::ALL.iter().flat_map(|call| Fault::ALL.iter().map(move |fault| (*call, *fault))) {
        let name = format!("{call:?}×{fault:?}");
        if !name.contains(&only) {
            continue;
        }
        wanted += 1;
        match fault::strike(call, fault) {
            Err(why) => {
                counts.entry(fault).or_default()[2] += 1;
                *reasons.entry(why).or_default() += 1;
            }
            Ok(told) => {
                let (base, room) = (base.clone(), Arc::clone(&room));
                cells.spawn(async move {
                    let _room = room.acquire_owned().await;
                    let task = tokio::spawn(async move { cell::play(&base, call, fault, told).await });
                    let played = task.await.unwrap_or_else(|broken| Err(format!("the cell itself: {broken}")));
                    (name, fault, played)
                });
            }
        }
    }
    let mut broken = Vec::new();
    while let Some(played) = cells.join_next().await {
        let (name, fault, played) = played.expect("not cancelled");
        match played {
            Ok(Outcome::Converged) => counts.entry(fault).or_default()[0] += 1,
            Ok(Outcome::Reported) => counts.entry(fault).or_default()[1] += 1,
            Err(why) => broken.push(format!("{name}: {why}")),
        }
    }
    println!("{:<12} {:>9} {:>9} {:>14}", "fault", "converged", "reported", "not applicable");
    let mut sum = [0; 3];
    for (fault, count) in &counts {
        println!("{:<12} {:>9} {:>9} {:>14}", format!("{fault:?}"), count[0], count[1], count[2]);
        (0..3).for_each(|at| sum[at] += count[at]);
    }
    println!("{:<12} {:>9} {:>9} {:>14}   of {wanted}", "all", sum[0], sum[1], sum[2]);
    reasons.iter().for_each(|(why, count)| println!("not applicable {count:>3}: {why}"));
    broken.sort();
    assert!(broken.is_empty(), "{} cells are broken:\n{}", broken.len(), broken.join("\n"));
    assert_eq!(sum.iter().sum::<usize>(), wanted, "every cell is counted");
    assert!(heard::count() > 0, "the drivers' log is listened to");
    assert_eq!(heard::last_of(cell::CANARY), None, "a secret is in the log");
    stories::finish(&base).await;
}
