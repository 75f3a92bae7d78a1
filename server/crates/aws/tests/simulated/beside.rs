//! A job on one server, beside the passes of another one over the same app.

use std::time::Duration;

use paas_aws::DynoNotes as _;
use paas_domain::{DynoKind, ProcessType};
use paas_ports::Runtime as _;
use tokio::time::sleep;

use super::account::{Account, Pace};
use super::drive::{Wish, World};

#[tokio::test(start_paused = true)]
async fn a_job_writes_of_its_own_dyno_only() {
    let world = World::new(Account::new(Pace::default()));
    let (one, other, wish) = (world.server(false).await, world.server(false).await, Wish::web());
    one.settle(&wish).await;
    let wish = wish.scaled(&ProcessType::web(), 2);
    one.pass(&wish).await.expect("a pass");
    // The second dyno runs, and no pass has seen it.
    sleep(Duration::from_secs(60)).await;
    let (dyno, mut phase) = wish.running(false).once.remove(0);
    phase.kind = DynoKind::Release;
    other.runtime.start_once(&dyno, &phase).await.expect("started");
    let of_others = async || {
        let mut notes = world.memory.notes.notes(&wish.app).await.expect("notes");
        notes.remove(&format!("dyno/{dyno}")).expect("a note of the job's dyno");
        notes
    };
    let before = of_others().await;
    loop {
        let seen = other.runtime.observe_one(&wish.app, &dyno).await.expect("an answer").expect("it was started");
        if seen.exit_code.is_some() {
            break;
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(of_others().await, before, "the book is kept by whoever has the app's lease");
    let seen = one.runtime.observe(&wish.app).await.expect("an answer");
    assert_eq!(seen.dynos.iter().filter(|dyno| dyno.kind == DynoKind::Service).count(), 2);
    assert_ne!(of_others().await, before, "and that one keeps it");
}
