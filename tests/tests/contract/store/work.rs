//! Jobs, leases and wishes: one worker at a time, and only the newest one counts.

use super::*;

/// A server that does everything.
const ALL: Takes = Takes { builds: Some(Architecture::X86), others: true };

pub(super) async fn a_job_has_one_worker_and_only_the_newest_one_counts(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    saved(&store, async |uow| uow.create_job(&app, "q", JobKind::BuildApp, "b1", "one", T0).await).await;
    let claim = async |now, until| saved(&store, async |uow| uow.claim_job("w", ALL, now, until).await).await;
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
    assert_eq!(look.next_due_job(ALL).await.expect("a look"), None);
}

pub(super) async fn jobs_of_one_queue_run_one_after_the_other(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    for (queue, subject) in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")] {
        saved(&store, async |uow| uow.create_job(&app, queue, JobKind::BuildApp, subject, "one", T0).await).await;
    }
    let claim = async || saved(&store, async |uow| uow.claim_job("w", ALL, T0, at(10)).await).await;
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
    let again = saved(&store, async |uow| uow.claim_job("w", ALL, at(5), at(10)).await).await.expect("its next try");
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

pub(super) async fn a_job_that_ends_under_a_claim_has_ended(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    saved(&store, async |uow| uow.create_job(&app, "q", JobKind::BuildApp, "b1", "one", T0).await).await;
    let mut ending = store.begin().await.expect("a transaction");
    assert!(ending.cancel_waiting_job(&app, "b1", "superseded", T0).await.expect("cancelled"));
    let claiming = {
        let store = store.clone();
        tokio::spawn(outside::task(async move {
            saved(&store, async |uow| uow.claim_job("w", ALL, T0, at(10)).await).await
        }))
    };
    // By now it has found the job, and waits for its row (or, on SQLite, for its turn).
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    ending.save().await.expect("saved");
    assert!(claiming.await.expect("no panic").is_none());
    let job = store.read().await.expect("a look").job_about(&app, "b1").await.expect("a look").expect("the job");
    assert_eq!(job.state, JobState::Failed);
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
                let job = uow.claim_job(&owner, ALL, T0, at(10)).await;
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

pub(super) async fn a_cancelled_job_is_held_until_its_worker_lets_go(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let held = async |now| store.read().await.expect("a look").jobs_held_until(&app, now).await.expect("a look");
    let check = async |lease: &paas_store::JobLease| store.read().await.expect("a look").check_job(lease).await;
    let job = async |queue: &str| {
        saved(&store, async |uow| uow.create_job(&app, queue, JobKind::BuildApp, queue, "one", T0).await).await;
        saved(&store, async |uow| uow.claim_job("w", ALL, T0, at(15)).await).await.expect("a job")
    };
    assert_eq!(held(T0).await, None);
    let (first, second) = (job("a").await, job("b").await);
    saved(&store, async |uow| uow.create_job(&app, "a", JobKind::BuildApp, "waits", "one", T0).await).await;
    check(&first).await.expect("it is its worker's");
    // A worker that ends nothing lets go of nothing.
    saved(&store, async |uow| uow.let_go_of_job(&first, at(1)).await).await;
    check(&first).await.expect("it still is");
    saved(&store, async |uow| uow.cancel_jobs(&app, "destroyed", at(1)).await).await;
    assert!(matches!(check(&first).await, Err(StoreError::Fenced)));
    assert!(!store.read().await.expect("a look").has_open_job(&app).await.expect("a look"));
    assert_eq!(held(at(1)).await, Some(at(15)), "two workers are at it");
    saved(&store, async |uow| uow.let_go_of_job(&first, at(2)).await).await;
    assert_eq!(held(at(1)).await, Some(at(15)));
    saved(&store, async |uow| uow.let_go_of_job(&second, at(3)).await).await;
    assert_eq!(held(at(2)).await, Some(at(3)));
    saved(&store, async |uow| uow.let_go_of_job(&second, at(9)).await).await;
    assert_eq!(held(at(3)).await, None, "who has let go holds nothing again");

    // One whose worker died is held until its lease runs out, or until it is known that all of them have.
    let third = job("c").await;
    saved(&store, async |uow| uow.cancel_jobs(&app, "destroyed", at(4)).await).await;
    assert_eq!((held(at(14)).await, held(at(15)).await), (Some(at(15)), None));
    saved(&store, async |uow| uow.free_leases_of("w").await).await;
    assert_eq!(held(at(5)).await, None);
    // What somebody else took meanwhile is not ours to let go of.
    let fourth = job("d").await;
    let other =
        saved(&store, async |uow| uow.claim_job("v", ALL, at(15), at(40)).await).await.expect("of a dead worker");
    assert_eq!(fourth.job.id, other.job.id);
    saved(&store, async |uow| uow.cancel_jobs(&app, "destroyed", at(16)).await).await;
    saved(&store, async |uow| uow.let_go_of_job(&fourth, at(16)).await).await;
    saved(&store, async |uow| uow.let_go_of_job(&third, at(16)).await).await;
    assert_eq!(held(at(16)).await, Some(at(40)));
    saved(&store, async |uow| uow.free_leases().await).await;
    assert_eq!(held(at(16)).await, None);
}

pub(super) async fn what_was_told_of_a_failed_pass_is_known_until_one_ends_well(db: &Database) {
    let store = db.open().await;
    let _ = world(&store).await;
    let pass = async |told: Option<&str>| {
        let lease = saved(&store, async |uow| uow.claim_due_app("w", T0, at(10)).await).await.expect("due");
        saved(&store, async |uow| uow.release_failed_app(&lease, T0, told).await).await;
        (lease.told, lease.failed_passes)
    };
    assert_eq!(pass(None).await, (None, 0));
    assert_eq!(pass(Some("3 no")).await, (None, 1));
    // A failure of which nothing is told changes nothing of what was.
    assert_eq!(pass(None).await, (Some("3 no".to_owned()), 2));
    assert_eq!(pass(Some("4 no")).await, (Some("3 no".to_owned()), 3));
    let lease = saved(&store, async |uow| uow.claim_due_app("w", T0, at(10)).await).await.expect("due");
    assert_eq!(lease.told.as_deref(), Some("4 no"));
    saved(&store, async |uow| uow.release_app(&lease, None, Some(T0)).await).await;
    assert_eq!(pass(None).await, (None, 0));
}

pub(super) async fn images_of_builds_are_looked_through_once(db: &Database) {
    let store = db.open().await;
    let (account, app) = world(&store).await;
    let since = async || store.read().await.expect("a look").build_since_collection(&app).await.expect("a look");
    assert_eq!(since().await, None, "nothing was built");
    let build = async |token: &str| {
        saved(&store, async |uow| {
            let output = uow.create_output(&app, token, token, T0).await?;
            let account = account.id.clone();
            let new = NewBuild { commit: None, branch: None, source_key: None, output, account };
            uow.create_build(&app, &new, T0).await
        })
        .await
        .id
    };
    let first = build("one").await;
    let second = build("two").await;
    assert_eq!(since().await, Some(second.clone()));
    saved(&store, async |uow| uow.mark_collected(&app, &first).await).await;
    assert_eq!(since().await, Some(second.clone()));
    saved(&store, async |uow| uow.mark_collected(&app, &second).await).await;
    assert_eq!(since().await, None);

    let image = |n| Image {
        architecture: Architecture::X86,
        id: digest(n),
        process_types: BTreeMap::new(),
        builder: "b".to_owned(),
        size: 1,
        description: None,
    };
    saved(&store, async |uow| {
        a_release(uow, &app, &account).await;
        for n in [1, 2] {
            uow.put_image(&app, &image(n), T0).await?;
            uow.delete_image(&app, &digest(n)).await?;
        }
        Ok(())
    })
    .await;
    let mut look = store.read().await.expect("a look");
    assert_eq!(look.released_images(&app).await.expect("a look"), [digest(1)], "whatever became of the release");
    look.image(&app, &digest(1)).await.expect("what a release names stays");
    assert!(matches!(look.image(&app, &digest(2)).await, Err(StoreError::NotFound(_))));
}

pub(super) async fn a_build_is_for_who_builds_for_its_app(db: &Database) {
    let store = db.open().await;
    let (dev, plain) = world(&store).await;
    let arm = app(&store, &dev, "arm").await;
    saved(&store, async |uow| uow.set_placement(&arm, Some(Architecture::Arm), Capacity::OnDemand).await).await;
    let job = async |of: &AppScope, subject: &str, kind, step: &str| {
        saved(&store, async |uow| uow.create_job(of, subject, kind, subject, step, T0).await).await
    };
    job(&arm, "arm-build", JobKind::BuildApp, "stage_source").await;
    job(&arm, "arm-phase", JobKind::RunReleasePhase, "run").await;
    let due = async |takes| store.read().await.expect("a look").next_due_job(takes).await.expect("a look");
    let claim = async |takes| {
        let lease = saved(&store, async |uow| uow.claim_job("w", takes, at(1), at(9)).await).await;
        lease.map(|lease| lease.job.subject)
    };
    let takes = |builds, others| Takes { builds, others };
    let (x86, arm_builder) = (takes(Some(Architecture::X86), true), takes(Some(Architecture::Arm), false));
    // One that builds for another architecture takes what is no build, one that builds nothing too.
    assert_eq!(claim(x86).await.as_deref(), Some("arm-phase"));
    assert_eq!((claim(x86).await, due(x86).await), (None, Some(at(9))), "what it has itself is all that is due for it");
    assert_eq!((claim(takes(None, true)).await, due(takes(None, false)).await), (None, None));
    assert_eq!(due(arm_builder).await, Some(T0));
    assert_eq!(claim(arm_builder).await.as_deref(), Some("arm-build"));
    assert_eq!(claim(arm_builder).await, None, "a builder takes nothing else");
    // An app that says nothing is built by whoever builds.
    job(&plain, "plain-build", JobKind::BuildApp, "run_build").await;
    assert_eq!(claim(takes(None, true)).await, None);
    assert_eq!(claim(arm_builder).await.as_deref(), Some("plain-build"));
    // With the image there, anybody goes on.
    job(&arm, "arm-built", JobKind::BuildApp, "cut_release").await;
    assert_eq!(claim(takes(None, true)).await.as_deref(), Some("arm-built"));
}

pub(super) async fn what_a_server_holds_is_its_own_while_it_is_alive(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let takes = Takes { builds: Some(Architecture::X86), others: true };
    let claim = async |who: &str, now| saved(&store, async |uow| uow.claim_job(who, takes, now, now).await).await;
    saved(&store, async |uow| uow.create_job(&app, "q", JobKind::BuildApp, "b", "run_build", T0).await).await;
    saved(&store, async |uow| uow.put_server("one", None, T0).await).await;
    for (step, is_ones, now) in [("export_image", true, 1), ("cut_release", false, 3), ("run_release_phase", true, 5)] {
        let lease = claim("one", at(now)).await.expect("it is free");
        saved(&store, async |uow| uow.advance_job(&lease, step, "{}", at(now)).await).await;
        let other = claim("two", at(now + 1)).await;
        assert_eq!(other.is_none(), is_ones, "{step}");
    }
    // One that ends in an orderly way is expected back as well.
    saved(&store, async |uow| uow.forget_server("one").await).await;
    assert!(claim("two", at(7)).await.is_none());
    assert!(claim("one", at(7)).await.is_some());
    // One that died is not.
    saved(&store, async |uow| uow.forget_servers(at(9)).await).await;
    let lease = claim("two", at(8)).await.expect("nobody else has it");
    saved(&store, async |uow| uow.retry_job(&lease, "passing", at(9), at(8)).await).await;
    saved(&store, async |uow| uow.put_server("two", None, at(8)).await).await;
    assert!(claim("one", at(9)).await.is_none(), "it is the other one's now");
    assert!(claim("two", at(9)).await.is_some());
}

pub(super) async fn servers_are_known_while_they_are_seen(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    saved(&store, async |uow| uow.set_placement(&app, Some(Architecture::Arm), Capacity::OnDemand).await).await;
    let output = saved(&store, async |uow| uow.create_output(&app, "token", "hash", T0).await).await;
    let new =
        NewBuild { commit: None, branch: None, source_key: None, output: output.clone(), account: dev.id.clone() };
    for _ in 0..2 {
        let build = saved(&store, async |uow| uow.create_build(&app, &new, T0).await).await;
        let id = build.id.to_string();
        saved(&store, async |uow| uow.create_job(&app, "q", JobKind::BuildApp, &id, "stage_source", T0).await).await;
    }
    let seen = async |id: &str, builds, now| saved(&store, async |uow| uow.put_server(id, builds, now).await).await;
    let known = async || {
        let servers = saved(&store, async |uow| uow.servers().await).await;
        servers.into_iter().map(|server| (server.id, server.builds)).collect::<Vec<_>>()
    };
    let waiting = async || saved(&store, async |uow| uow.unbuildable().await).await;
    let alone = [Unbuildable { app: app.id().clone(), output, architecture: Some(Architecture::Arm) }];
    assert_eq!(waiting().await, alone, "nobody builds; the second one waits for the first one first");
    seen("a", Some(Architecture::X86), T0).await;
    seen("b", None, at(1)).await;
    assert_eq!(known().await, [("a".to_owned(), Some(Architecture::X86)), ("b".to_owned(), None)]);
    assert_eq!(waiting().await, alone, "nobody builds for that");
    saved(&store, async |uow| uow.set_placement(&app, None, Capacity::OnDemand).await).await;
    assert_eq!(waiting().await, []);
    saved(&store, async |uow| uow.set_placement(&app, Some(Architecture::Arm), Capacity::OnDemand).await).await;
    seen("a", Some(Architecture::Arm), at(2)).await;
    assert_eq!(waiting().await, []);
    saved(&store, async |uow| uow.forget_servers(at(2)).await).await;
    assert_eq!(known().await, [("a".to_owned(), Some(Architecture::Arm))], "the other one was not seen since");
    saved(&store, async |uow| uow.forget_server("a").await).await;
    assert_eq!((known().await, waiting().await), (vec![], alone.to_vec()));
}
