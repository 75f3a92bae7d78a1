//! Jobs, leases and wishes: one worker at a time, and only the newest one counts.

use super::*;

pub(super) async fn a_job_has_one_worker_and_only_the_newest_one_counts(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    saved(&store, async |uow| uow.create_job(&app, "q", JobKind::BuildApp, "b1", "one", T0).await).await;
    let claim = async |now, until| saved(&store, async |uow| uow.claim_job("w", now, until).await).await;
    assert!(claim(at(-1), at(10)).await.is_none(), "not before its time");
    let first = claim(T0, at(10)).await.expect("the job");
    assert_eq!((first.job.step.as_str(), first.job.state, first.scope.id()), ("one", JobState::Running, app.id()));
    assert!(claim(at(9), at(20)).await.is_none(), "its lease holds");
    saved(&store, async |uow| uow.renew_job(&first, at(15)).await).await;
    assert!(claim(at(14), at(20)).await.is_none(), "its lease was renewed");
    let second = claim(at(15), at(30)).await.expect("the job of a dead worker");
    assert!(second.fence > first.fence);
    for stale in ["advance", "finish", "retry", "renew"] {
        let mut uow = store.begin().await.expect("a transaction");
        let refused = match stale {
            "advance" => uow.advance_job(&first, "two", "{}", T0).await,
            "finish" => uow.finish_job(&first, None, T0).await,
            "retry" => uow.retry_job(&first, "x", T0, T0).await,
            _ => uow.renew_job(&first, at(99)).await,
        };
        assert!(matches!(refused, Err(StoreError::Fenced)), "{stale}");
    }
    saved(&store, async |uow| uow.advance_job(&second, "two", "{\"a\":1}", T0).await).await;
    saved(&store, async |uow| uow.retry_job(&second, "busy", at(50), at(16)).await).await;
    assert!(claim(at(49), at(60)).await.is_none(), "not before its next try");
    let third = claim(at(50), at(60)).await.expect("its next try");
    assert_eq!((third.job.step.as_str(), third.job.memo.as_str(), third.job.attempts), ("two", "{\"a\":1}", 1));
    assert!(store.read().await.expect("a look").has_open_job(&app).await.expect("a look"));
    saved(&store, async |uow| uow.finish_job(&third, Some("broken"), at(51)).await).await;
    assert!(!store.read().await.expect("a look").has_open_job(&app).await.expect("a look"));
    assert!(claim(at(99), at(199)).await.is_none());
    let mut look = store.read().await.expect("a look");
    let done = look.job_about(&app, "b1").await.expect("a look").expect("the job");
    assert_eq!((done.state, done.error.as_deref()), (JobState::Failed, Some("broken")));
    assert_eq!(look.next_due_job().await.expect("a look"), None);
}

pub(super) async fn jobs_of_one_queue_run_one_after_the_other(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    for (queue, subject) in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")] {
        saved(&store, async |uow| uow.create_job(&app, queue, JobKind::BuildApp, subject, "one", T0).await).await;
    }
    let claim = async || saved(&store, async |uow| uow.claim_job("w", T0, at(10)).await).await;
    let first = claim().await.expect("a job");
    let second = claim().await.expect("a job");
    assert_eq!((first.job.subject.as_str(), second.job.subject.as_str()), ("a1", "b1"));
    assert!(claim().await.is_none());
    // A try that waits keeps its queue.
    saved(&store, async |uow| uow.retry_job(&first, "x", at(5), T0).await).await;
    assert!(claim().await.is_none());
    let cancel = async |subject: &str| {
        saved(&store, async |uow| uow.cancel_waiting_job(&app, subject, "superseded", T0).await).await
    };
    assert!(cancel("a2").await, "one that waits can be cancelled");
    assert!(!cancel("a1").await, "one that runs cannot");
    let again = saved(&store, async |uow| uow.claim_job("w", at(5), at(10)).await).await.expect("its next try");
    assert_eq!(again.job.subject, "a1");
    saved(&store, async |uow| uow.finish_job(&again, None, T0).await).await;
    let third = claim().await.expect("the next of the queue");
    assert_eq!(third.job.subject, "a3");
    saved(&store, async |uow| uow.cancel_jobs(&app, "destroyed", T0).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert!(matches!(uow.finish_job(&third, None, T0).await, Err(StoreError::Fenced)));
    let states: Vec<JobState> = uow.jobs(&app).await.expect("jobs").iter().map(|job| job.state).collect();
    assert_eq!(states, [JobState::Done, JobState::Failed, JobState::Failed, JobState::Failed]);
}

pub(super) async fn of_many_claims_at_once_one_wins(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    saved(&store, async |uow| uow.create_job(&app, "q", JobKind::BuildApp, "b1", "one", T0).await).await;
    let tasks: Vec<_> = (0..8)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(outside::task(async move {
                let owner = format!("w{i}");
                let mut uow = store.begin().await.expect("a transaction");
                let job = uow.claim_job(&owner, T0, at(10)).await;
                let app = uow.claim_due_app(&owner, T0, at(10)).await;
                // PostgreSQL may refuse a claim that lost: the loop asks again.
                let (job, app) = (job.ok().flatten().is_some(), app.ok().flatten().is_some());
                if uow.save().await.is_err() { (false, false) } else { (job, app) }
            }))
        })
        .collect();
    let (mut jobs, mut apps) = (0, 0);
    for task in tasks {
        let (job, app) = task.await.expect("no panic");
        jobs += usize::from(job);
        apps += usize::from(app);
    }
    assert_eq!((jobs, apps), (1, 1));
}

pub(super) async fn an_app_has_one_actor_and_only_the_newest_one_counts(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let claim = async |now, until| saved(&store, async |uow| uow.claim_due_app("w", now, until).await).await;
    let first = claim(T0, at(10)).await.expect("a new app is due");
    assert!(claim(at(9), at(20)).await.is_none(), "its lease holds");
    let due = async || store.read().await.expect("a look").next_due_app().await.expect("a look");
    assert_eq!(due().await, Some(at(10)), "its worker may have died: somebody has to come then");
    saved(&store, async |uow| uow.kick_app(app.id(), at(5)).await).await;
    assert_eq!(due().await, Some(at(10)), "a kick waits as long");
    let second = claim(at(10), at(20)).await.expect("the app of a dead worker");
    assert!(second.fence > first.fence);
    let mut uow = store.begin().await.expect("a transaction");
    assert!(matches!(uow.check_lease(&first).await, Err(StoreError::Fenced)));
    assert!(matches!(uow.release_app(&first, None, None).await, Err(StoreError::Fenced)));
    uow.check_lease(&second).await.expect("it holds");
    drop(uow);
    // A kick that comes while the lease is held is not lost.
    saved(&store, async |uow| uow.kick_app(app.id(), at(11)).await).await;
    let generation = store.read().await.expect("a look").app(&app).await.expect("the app").generation;
    saved(&store, async |uow| uow.release_app(&second, Some(generation), Some(at(500))).await).await;
    let third = claim(at(11), at(20)).await.expect("the kick");
    saved(&store, async |uow| uow.release_app(&third, Some(generation), Some(at(500))).await).await;
    assert!(claim(at(499), at(600)).await.is_none(), "settled");
    assert_eq!(due().await, Some(at(500)));
    let fourth = claim(at(500), at(600)).await.expect("time to look again");
    saved(&store, async |uow| uow.renew_app(&fourth, at(700)).await).await;
    assert!(claim(at(699), at(800)).await.is_none(), "it is at work still");
    assert_eq!(due().await, Some(at(700)), "whatever it was to look at, somebody has to");
    let fifth = claim(at(700), at(800)).await.expect("the app of a dead worker");
    let mut uow = store.begin().await.expect("a transaction");
    assert!(matches!(uow.renew_app(&fourth, at(900)).await, Err(StoreError::Fenced)));
    drop(uow);
    saved(&store, async |uow| uow.release_app(&fifth, Some(generation), None).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert!(matches!(uow.renew_app(&fifth, at(900)).await, Err(StoreError::Fenced)), "its pass is over");
    drop(uow);
    assert!(claim(at(9_999), at(10_000)).await.is_none());
}

pub(super) async fn who_works_on_an_app_knows_what_others_have_heard(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let knows = async |who: &str, now| {
        let lease = saved(&store, async |uow| uow.claim_due_app(who, now, now.plus_s(1)).await).await.expect("due");
        saved(&store, async |uow| uow.release_app(&lease, None, Some(now)).await).await;
        lease.knows
    };
    let heard = async |who: &str| saved(&store, async |uow| uow.heard_of_app(app.id(), who, at(1)).await).await;
    assert!(!knows("v", at(1)).await, "nobody has looked");
    assert!(knows("v", at(2)).await);
    heard("v").await;
    assert!(knows("v", at(3)).await, "it has heard itself");
    heard("w").await;
    heard("v").await;
    assert!(!knows("v", at(4)).await, "another one has heard more");
    assert!(knows("v", at(5)).await);
    assert!(!knows("w", at(6)).await, "another one has worked on it");
    heard("v").await;
    assert!(!knows("w", at(7)).await);
    assert!(knows("w", at(8)).await);
}

pub(super) async fn a_wish_raises_the_generation_and_makes_the_app_due(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let lease = saved(&store, async |uow| uow.claim_due_app("w", T0, at(10)).await).await.expect("due");
    // The wish comes while somebody works on the last one.
    let wished = saved(&store, async |uow| uow.raise_generation(&app, at(1)).await).await;
    saved(&store, async |uow| uow.release_app(&lease, Some(Generation(wished.0 - 1)), None).await).await;
    let seen = store.read().await.expect("a look").app(&app).await.expect("the app");
    assert_eq!((seen.generation, seen.settled_generation), (wished, Generation(wished.0 - 1)));
    let lease = saved(&store, async |uow| uow.claim_due_app("w", at(1), at(10)).await).await.expect("due again");
    saved(&store, async |uow| uow.release_app(&lease, Some(wished), None).await).await;
    assert!(saved(&store, async |uow| uow.claim_due_app("w", at(2), at(10)).await).await.is_none());
    saved(&store, async |uow| uow.kick_all_apps(at(2)).await).await;
    let held = saved(&store, async |uow| uow.claim_due_app("w", at(2), at(99)).await).await;
    assert!(held.is_some(), "the sweep looks at all");
    // Another server starts again, then this one.
    saved(&store, async |uow| uow.free_leases_of("v").await).await;
    saved(&store, async |uow| uow.kick_all_apps(at(3)).await).await;
    assert!(saved(&store, async |uow| uow.claim_due_app("w", at(3), at(99)).await).await.is_none());
    saved(&store, async |uow| uow.free_leases_of("w").await).await;
    assert!(saved(&store, async |uow| uow.claim_due_app("w", at(3), at(99)).await).await.is_some());
    // The only server starts again: nobody holds anything.
    saved(&store, async |uow| uow.free_leases().await).await;
    saved(&store, async |uow| uow.kick_all_apps(at(3)).await).await;
    assert!(saved(&store, async |uow| uow.claim_due_app("w", at(3), at(99)).await).await.is_some());
}
