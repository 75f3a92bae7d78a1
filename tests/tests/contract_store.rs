//! What the store promises, on SQLite and on PostgreSQL: one text of SQL, one behaviour.

use std::collections::BTreeMap;

use paas_domain::{
    AppName, ConfigVars, Digest, DynoId, DynoKind, DynoName, DynoSize, DynoState, Generation, HostName, ProcessType,
    Quantity, ReleaseStatus, RolloutState, Timestamp,
};
use paas_ports::outside;
use paas_store::{
    Account, AppScope, AwsRow, DomainKind, Dyno, Image, JobKind, JobState, MasterKey, NewAuthorization, NewBuild,
    NewDyno, NewRelease, Service, Store, StoreError, Uow,
};
use paas_tests::database::Database;
use secrecy::{ExposeSecret as _, SecretString};

const T0: Timestamp = Timestamp(1_700_000_000_000);

fn at(s: i64) -> Timestamp {
    T0.plus_s(s)
}

fn name(text: &str) -> AppName {
    text.parse().expect("a name")
}

fn host(text: &str) -> HostName {
    text.parse().expect("a host name")
}

fn process(text: &str) -> ProcessType {
    text.parse().expect("a process type")
}

fn digest(n: u8) -> Digest {
    format!("sha256:{}", format!("{n:02x}").repeat(32)).parse().expect("a digest")
}

fn vars(pairs: &[(&str, &str)]) -> ConfigVars {
    pairs.iter().map(|(k, v)| (k.parse().expect("a name"), SecretString::from((*v).to_owned()))).collect()
}

async fn saved<T>(store: &Store, change: impl AsyncFnOnce(&mut Uow) -> Result<T, StoreError>) -> T {
    let mut uow = store.begin().await.expect("a transaction");
    let done = change(&mut uow).await.expect("the change");
    uow.save().await.expect("saved");
    done
}

async fn account(store: &Store, email: &str) -> Account {
    saved(store, async |uow| uow.create_account(email, T0).await).await
}

async fn app(store: &Store, of: &Account, text: &str) -> AppScope {
    saved(store, async |uow| uow.create_app(&name(text), &of.id, T0).await).await
}

async fn world(store: &Store) -> (Account, AppScope) {
    let account = account(store, "dev@example.com").await;
    let app = app(store, &account, "hello").await;
    (account, app)
}

async fn a_release(uow: &mut Uow, app: &AppScope, account: &Account) -> paas_store::Release {
    let config = uow.app(app).await.expect("the app").head_config;
    let new = NewRelease {
        status: ReleaseStatus::Pending,
        image: Some(digest(1)),
        config,
        process_types: BTreeMap::from([(process("web"), "serve".to_owned())]),
        description: "Deploy".to_owned(),
        account: account.id.clone(),
        build: None,
        output: None,
        commit: Some("c0ffee".to_owned()),
    };
    uow.create_release(app, &new, T0).await.expect("a release")
}

fn one_off(slot: u32, hash: Option<&str>) -> NewDyno {
    NewDyno {
        name: DynoName { process_type: process("run"), slot },
        kind: DynoKind::Run,
        release: paas_domain::ReleaseVersion(1),
        size: DynoSize::Basic,
        command: "bash".to_owned(),
        attach: hash.is_some(),
        tty: true,
        attach_hash: hash.map(str::to_owned),
        env: vars(&[("SECRET", "canary-env")]),
    }
}

async fn a_transaction_that_is_not_saved_never_was(db: &Database) {
    let store = db.open().await;
    let (account, _) = world(&store).await;
    let before = db.dump().await;
    {
        let mut uow = store.begin().await.expect("a transaction");
        uow.create_app(&name("other"), &account.id, T0).await.expect("an app");
        if !store.is_shared() {
            let mut look = store.read().await.expect("a look does not wait for a writer");
            assert_eq!(look.apps(&account.id).await.expect("apps").len(), 1);
        }
    }
    assert_eq!(db.dump().await, before);
}

async fn one_name_one_owner(db: &Database) {
    let store = db.open().await;
    let (dev, scope) = world(&store).await;
    let other = account(&store, "other@example.com").await;
    let taken = async |what: &str, change: &dyn Fn() -> &'static str| {
        let mut uow = store.begin().await.expect("a transaction");
        let refused = match change() {
            "app" => uow.create_app(&name("hello"), &other.id, T0).await.err(),
            "email" => uow.create_account("dev@example.com", T0).await.err(),
            _ => uow.create_domain(&scope, &host("www.example.com"), DomainKind::Custom, T0).await.err(),
        };
        assert!(matches!(refused, Some(StoreError::Taken(said)) if said == what), "{what}: {refused:?}");
    };
    saved(&store, async |uow| uow.create_domain(&scope, &host("www.example.com"), DomainKind::Custom, T0).await).await;
    taken("Name", &|| "app").await;
    taken("Email", &|| "email").await;
    taken("Domain", &|| "domain").await;
    // Somebody else's app is as one that is not there, by name and by id.
    let mut look = store.read().await.expect("a look");
    for known in ["hello", scope.id().as_str()] {
        assert!(look.authorize(&dev.id, known).await.expect("a look").is_some());
        assert!(look.authorize(&other.id, known).await.expect("a look").is_none());
    }
    assert_eq!(look.first_account().await.expect("a look"), Some(dev));
}

async fn a_host_is_not_taken_by_a_wildcard_of_another_account(db: &Database) {
    let store = db.open().await;
    let (_, mine) = world(&store).await;
    let other = account(&store, "other@example.com").await;
    let theirs = app(&store, &other, "theirs").await;
    saved(&store, async |uow| uow.create_domain(&theirs, &host("*.example.com"), DomainKind::Custom, T0).await).await;
    saved(&store, async |uow| uow.create_domain(&theirs, &host("a.example.org"), DomainKind::Custom, T0).await).await;
    let mut look = store.read().await.expect("a look");
    for (wanted, overlaps) in [
        ("www.example.com", true),
        ("deep.www.example.com", true),
        ("*.example.org", true),
        ("example.com", false),
        ("wwwexample.com", false),
        ("*.example.net", false),
        ("b.example.org", false),
    ] {
        let found = look.foreign_overlap(&mine, &host(wanted)).await.expect("a look");
        assert_eq!(found.is_some(), overlaps, "{wanted}");
        assert!(look.foreign_overlap(&theirs, &host(wanted)).await.expect("a look").is_none(), "{wanted}: one's own");
    }
}

async fn keys_open_an_account_until_they_end(db: &Database) {
    let store = db.open().await;
    let (dev, _) = world(&store).await;
    let other = account(&store, "other@example.com").await;
    let new = |hash: &str, expires_at| NewAuthorization {
        token_hash: hash.to_owned(),
        token_hint: "H**".to_owned(),
        description: "laptop".to_owned(),
        scope: vec!["read".to_owned(), "write".to_owned()],
        expires_at,
    };
    let key = saved(&store, async |uow| uow.create_authorization(&dev.id, &new("h1", Some(at(60))), T0).await).await;
    saved(&store, async |uow| uow.create_authorization(&dev.id, &new("h2", None), T0).await).await;
    let mut look = store.read().await.expect("a look");
    let (who, found) = look.authenticate("h1", at(59)).await.expect("a look").expect("a key");
    assert_eq!((who, found), (dev.clone(), key.clone()));
    assert!(look.authenticate("h1", at(60)).await.expect("a look").is_none());
    assert!(look.authenticate("laptop", T0).await.expect("a look").is_none());
    assert_eq!(look.authorizations(&dev.id, at(59)).await.expect("keys").len(), 2);
    assert_eq!(look.authorizations(&dev.id, at(60)).await.expect("keys").len(), 1);
    assert!(matches!(look.authorization(&other.id, &key.id, T0).await, Err(StoreError::NotFound(_))));
    drop(look);
    saved(&store, async |uow| uow.update_authorization(&dev.id, &key.id, Some("desk"), None).await).await;
    saved(&store, async |uow| uow.update_authorization(&dev.id, &key.id, None, Some(("h3", "H3"))).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert!(uow.authenticate("h1", T0).await.expect("a look").is_none());
    assert_eq!(uow.authenticate("h3", T0).await.expect("a look").expect("a key").1.description, "desk");
    assert!(!uow.delete_authorization(&other.id, &key.id).await.expect("done"));
    assert!(uow.delete_authorization(&dev.id, &key.id).await.expect("done"));
    assert!(uow.authenticate("h3", T0).await.expect("a look").is_none());
}

async fn a_job_has_one_worker_and_only_the_newest_one_counts(db: &Database) {
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
    saved(&store, async |uow| uow.finish_job(&third, Some("broken"), at(51)).await).await;
    assert!(claim(at(99), at(199)).await.is_none());
    let mut look = store.read().await.expect("a look");
    let done = look.job_about(&app, "b1").await.expect("a look").expect("the job");
    assert_eq!((done.state, done.error.as_deref()), (JobState::Failed, Some("broken")));
    assert_eq!(look.next_due_job().await.expect("a look"), None);
}

async fn jobs_of_one_queue_run_one_after_the_other(db: &Database) {
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

async fn of_many_claims_at_once_one_wins(db: &Database) {
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

async fn an_app_has_one_actor_and_only_the_newest_one_counts(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let claim = async |now, until| saved(&store, async |uow| uow.claim_due_app("w", now, until).await).await;
    let first = claim(T0, at(10)).await.expect("a new app is due");
    assert!(claim(at(9), at(20)).await.is_none(), "its lease holds");
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
    assert_eq!(store.read().await.expect("a look").next_due_app().await.expect("a look"), Some(at(500)));
    let fourth = claim(at(500), at(600)).await.expect("time to look again");
    saved(&store, async |uow| uow.release_app(&fourth, Some(generation), None).await).await;
    assert!(claim(at(9_999), at(10_000)).await.is_none());
}

async fn a_wish_raises_the_generation_and_makes_the_app_due(db: &Database) {
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
    // The only server starts again: nobody holds anything.
    saved(&store, async |uow| uow.free_leases().await).await;
    saved(&store, async |uow| uow.kick_all_apps(at(3)).await).await;
    assert!(saved(&store, async |uow| uow.claim_due_app("w", at(3), at(99)).await).await.is_some());
}

async fn releases_are_numbered_without_gaps(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            let (store, app, dev) = (store.clone(), app.clone(), dev.clone());
            tokio::spawn(outside::task(async move {
                let mut uow = store.begin().await.expect("a transaction");
                uow.lock_app(&app).await.expect("the row");
                a_release(&mut uow, &app, &dev).await;
                uow.save().await.expect("saved");
            }))
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    let mut uow = store.begin().await.expect("a transaction");
    let releases = uow.releases(&app).await.expect("releases");
    assert_eq!(releases.iter().map(|r| r.version.0).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(releases[0].process_types[&process("web")], "serve");
    let finished = uow.finish_release(&app, &releases[9].id, ReleaseStatus::Failed, T0).await.expect("done");
    let again = uow.finish_release(&app, &releases[9].id, ReleaseStatus::Succeeded, T0).await.expect("done");
    assert!(finished && !again, "an end is final");
    assert_eq!(uow.newest_release_with_image(&app).await.expect("a look").expect("one").version.0, 10);
    assert!(uow.current_release(&app).await.expect("a look").is_none());
    uow.set_current_release(&app, &releases[3].id, Some(at(7))).await.expect("done");
    assert_eq!(uow.current_release(&app).await.expect("a look").expect("one").version.0, 4);
    uow.set_current_release(&app, &releases[4].id, None).await.expect("done");
    assert_eq!(uow.app(&app).await.expect("the app").released_at, Some(at(7)));
    let by_version = uow.release_by_version(&app, paas_domain::ReleaseVersion(5)).await.expect("a look");
    assert_eq!(by_version.map(|r| r.id), Some(releases[4].id.clone()));
}

async fn config_is_sealed(db: &Database) {
    let store = db.open().await;
    let (_, mine) = world(&store).await;
    let other = account(&store, "other@example.com").await;
    let theirs = app(&store, &other, "theirs").await;
    let wanted = vars(&[("PLAIN_NAME", "canary-config"), ("EMPTY", ""), ("LINES", "a\r\nb\t\u{1F600} ")]);
    let id = saved(&store, async |uow| uow.create_config(&mine, &wanted, T0).await).await;
    saved(&store, async |uow| uow.set_head_config(&mine, &id).await).await;
    saved(&store, async |uow| uow.create_dyno(&mine, &one_off(1, None), T0).await).await;
    saved(&store, async |uow| uow.create_output(&mine, "canary-output-token", "hash", T0).await).await;
    let mut look = store.read().await.expect("a look");
    assert_eq!(look.config(&mine, &id).await.expect("the config").vars, wanted);
    assert!(matches!(look.config(&theirs, &id).await, Err(StoreError::NotFound(_))));
    drop(look);
    // Neither as text nor as the bytes of a text.
    let dump = format!("{:?}", db.dump().await).to_lowercase();
    for canary in ["canary-config", "canary-env", "canary-output-token", "plain_name"] {
        let hex: String = canary.bytes().map(|b| format!("{b:02x}")).collect();
        assert!(!dump.contains(canary) && !dump.contains(&hex), "{canary} is readable");
    }
    let with_another_key = Store::open(db.url(), MasterKey::new(&[8; 32]).expect("a key")).await.expect("opens");
    let mut look = with_another_key.read().await.expect("a look");
    assert!(matches!(look.config(&mine, &id).await, Err(StoreError::Unsealable)));
}

async fn a_slot_is_free_when_its_dyno_has_ended(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let first = saved(&store, async |uow| uow.create_dyno(&app, &one_off(7, Some("hash")), T0).await).await;
    assert_eq!((first.state, first.attach, first.tty), (DynoState::Starting, true, true));
    {
        let mut uow = store.begin().await.expect("a transaction");
        assert!(matches!(uow.create_dyno(&app, &one_off(7, None), T0).await, Err(StoreError::Taken(_))));
    }
    let env = store.read().await.expect("a look").dyno_env(&app, &first.id).await.expect("its environment");
    assert_eq!(
        env.get(&"SECRET".parse().expect("a name")).map(|v| v.expose_secret().to_owned()),
        Some("canary-env".into())
    );
    // An attach token works once.
    let claimed = saved(&store, async |uow| uow.claim_attach("hash").await).await.expect("its dyno");
    assert_eq!((claimed.0.id(), &claimed.1.id), (app.id(), &first.id));
    assert!(saved(&store, async |uow| uow.claim_attach("hash").await).await.is_none());
    saved(&store, async |uow| uow.set_dyno_state(&app, &first.id, DynoState::Up, None, at(1)).await).await;
    assert!(saved(&store, async |uow| uow.request_dyno_stop(&app, &first.id, at(2)).await).await);
    saved(&store, async |uow| uow.end_dyno(&app, &first.id, Some(137), at(3)).await).await;
    saved(&store, async |uow| uow.end_dyno(&app, &first.id, Some(0), at(4)).await).await;
    let ended = store.read().await.expect("a look").dyno(&app, &first.id).await.expect("its row");
    assert_eq!((ended.state, ended.exit_code, ended.ended_at), (DynoState::Ended, Some(137), Some(at(3))));
    let gone = store.read().await.expect("a look").dyno_env(&app, &first.id).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "its environment is gone");
    assert!(!saved(&store, async |uow| uow.request_dyno_stop(&app, &first.id, at(5)).await).await);
    saved(&store, async |uow| uow.create_dyno(&app, &one_off(7, None), at(5)).await).await;
    assert_eq!(store.read().await.expect("a look").dynos(&app).await.expect("dynos").len(), 1);
    saved(&store, async |uow| uow.prune_dynos(&app, at(9)).await).await;
    assert!(matches!(store.read().await.expect("a look").dyno(&app, &first.id).await, Err(StoreError::NotFound(_))));
}

async fn formation_and_rollouts_are_kept(db: &Database) {
    let store = db.open().await;
    let (_, app) = world(&store).await;
    let (web, worker) = (process("web"), process("worker"));
    let two = Quantity::new(2).expect("small");
    for process_type in [&web, &worker] {
        saved(&store, async |uow| uow.set_formation(&app, process_type, two, DynoSize::Basic, T0).await).await;
    }
    saved(&store, async |uow| uow.set_formation(&app, &web, Quantity::default(), DynoSize::Standard1X, at(1)).await)
        .await;
    saved(&store, async |uow| uow.restart_formation(&app, None, at(2)).await).await;
    saved(&store, async |uow| uow.restart_formation(&app, Some(&web), at(3)).await).await;
    let lines = store.read().await.expect("a look").formation(&app).await.expect("lines");
    let seen: Vec<_> = lines.iter().map(|l| (l.process_type.as_str(), l.quantity.get(), l.size, l.restart)).collect();
    assert_eq!(seen, [("web", 0, DynoSize::Standard1X, 2), ("worker", 2, DynoSize::Basic, 1)]);
    let service = Service {
        process_type: web.clone(),
        target_release: Some(paas_domain::ReleaseVersion(4)),
        serving_release: None,
        state: RolloutState::Failed,
        reason: Some("Process exited with status 1".to_owned()),
        crashes: 3,
        next_try_at: Some(at(30)),
        updated_at: at(4),
    };
    saved(&store, async |uow| uow.put_service(&app, &service).await).await;
    saved(&store, async |uow| uow.put_service(&app, &service).await).await;
    assert_eq!(store.read().await.expect("a look").services(&app).await.expect("services"), [service]);
    saved(&store, async |uow| uow.reset_crashes(&app, Some(&worker)).await).await;
    saved(&store, async |uow| uow.reset_crashes(&app, None).await).await;
    let service = store.read().await.expect("a look").services(&app).await.expect("services").remove(0);
    assert_eq!((service.crashes, service.next_try_at), (0, None));
    saved(&store, async |uow| uow.delete_service(&app, &web).await).await;
    assert!(store.read().await.expect("a look").services(&app).await.expect("services").is_empty());
    let dyno = Dyno {
        id: DynoId::new(),
        name: DynoName { process_type: web, slot: 1 },
        kind: DynoKind::Service,
        release: paas_domain::ReleaseVersion(4),
        size: DynoSize::Basic,
        command: "serve".to_owned(),
        state: DynoState::Starting,
        exit_code: None,
        attach: false,
        attach_open: false,
        tty: false,
        stop_requested_at: None,
        created_at: T0,
        updated_at: T0,
        ended_at: None,
    };
    saved(&store, async |uow| uow.put_service_dyno(&app, &dyno).await).await;
    let up = Dyno { state: DynoState::Up, updated_at: at(9), ..dyno };
    saved(&store, async |uow| uow.put_service_dyno(&app, &up).await).await;
    assert_eq!(store.read().await.expect("a look").dynos(&app).await.expect("dynos"), [up]);
}

async fn builds_end_once(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    let output = saved(&store, async |uow| uow.create_output(&app, "token", "hash", T0).await).await;
    let new = NewBuild {
        commit: Some("c0ffee".to_owned()),
        branch: Some("main".to_owned()),
        source_key: None,
        output: output.clone(),
        account: dev.id.clone(),
    };
    let one = saved(&store, async |uow| uow.create_build(&app, &new, T0).await).await;
    let two = saved(&store, async |uow| uow.create_build(&app, &new, T0).await).await;
    saved(&store, async |uow| uow.set_build_source(&app, &one.id, "sources/x.tar").await).await;
    let release = saved(&store, async |uow| Ok(a_release(uow, &app, &dev).await)).await;
    saved(&store, async |uow| uow.succeed_build(&app, &one.id, &digest(1), &release.id, at(1)).await).await;
    assert!(!saved(&store, async |uow| uow.fail_build(&app, &one.id, "late", at(2)).await).await);
    assert!(saved(&store, async |uow| uow.fail_build(&app, &two.id, "superseded", at(2)).await).await);
    let image = Image {
        id: digest(1),
        process_types: BTreeMap::from([(process("web"), "serve".to_owned())]),
        builder: "sha256:b".to_owned(),
        size: 1 << 33,
        description: Some("Python".to_owned()),
    };
    for _ in 0..2 {
        saved(&store, async |uow| uow.put_image(&app, &image, T0).await).await;
    }
    saved(&store, async |uow| uow.set_branch(&app, "main", "c0ffee", T0).await).await;
    saved(&store, async |uow| uow.set_branch(&app, "main", "decaf", T0).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert_eq!(uow.image(&app, &digest(1)).await.expect("the image"), image);
    assert!(matches!(uow.image(&app, &digest(2)).await, Err(StoreError::NotFound(_))));
    assert_eq!(uow.branches(&app).await.expect("branches"), [("main".to_owned(), "decaf".to_owned())]);
    assert!(
        uow.delete_branch(&app, "main").await.expect("done") && !uow.delete_branch(&app, "main").await.expect("done")
    );
    let builds = uow.builds(&app).await.expect("builds");
    assert_eq!(builds[0].release, Some(release.id));
    assert_eq!(builds[0].source_key.as_deref(), Some("sources/x.tar"));
    assert_eq!(builds[1].reason.as_deref(), Some("superseded"));
    assert!(uow.pending_builds(&app).await.expect("builds").is_empty());
    assert_eq!(uow.output_token(&app, &output).await.expect("the token"), "token");
    assert_eq!(uow.output_by_token("hash").await.expect("a look"), Some(output.clone()));
    assert_eq!(uow.output_by_token("token").await.expect("a look"), None);
    assert_eq!(uow.outputs(&app).await.expect("outputs"), [output]);
}

async fn what_a_url_opens_ends(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    saved(&store, async |uow| uow.create_log_session(&app, "l", "{}", T0, at(60)).await).await;
    let of_app = saved(&store, async |uow| uow.create_source(&dev.id, Some(&app), "s1", at(60)).await).await;
    saved(&store, async |uow| uow.create_source(&dev.id, None, "s2", at(90)).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert_eq!(uow.log_session("l", at(59)).await.expect("a look").map(|s| s.app), Some(app.id().clone()));
    assert!(uow.log_session("l", at(60)).await.expect("a look").is_none());
    assert_eq!(uow.source_by_token("s1", at(59)).await.expect("a look"), Some(of_app.clone()));
    assert!(uow.source_by_token("s1", at(60)).await.expect("a look").is_none());
    assert_eq!(uow.source_by_token("s2", at(60)).await.expect("a look").expect("a source").app, None);
    assert!(uow.mark_source_uploaded(&of_app).await.expect("done"));
    assert!(!uow.mark_source_uploaded(&of_app).await.expect("done"), "of two uploads one counts");
    assert_eq!(uow.sources(&app).await.expect("sources").len(), 1);
    let expired = uow.expired_sources(at(60)).await.expect("sources");
    assert_eq!(expired.iter().map(|s| &s.id).collect::<Vec<_>>(), [&of_app.id]);
    uow.delete_source(&of_app).await.expect("done");
    assert!(uow.expired_sources(at(60)).await.expect("sources").is_empty());
}

async fn a_destroyed_app_frees_its_names_and_leaves_no_row(db: &Database) {
    let store = db.open().await;
    let (dev, app) = world(&store).await;
    saved(&store, async |uow| uow.create_domain(&app, &host("www.example.com"), DomainKind::Custom, T0).await).await;
    saved(&store, async |uow| uow.create_log_session(&app, "l", "{}", T0, at(60)).await).await;
    saved(&store, async |uow| uow.create_source(&dev.id, Some(&app), "s", at(60)).await).await;
    saved(&store, async |uow| uow.set_formation(&app, &process("web"), Quantity::default(), DynoSize::Eco, T0).await)
        .await;
    saved(&store, async |uow| uow.create_dyno(&app, &one_off(7, None), T0).await).await;
    saved(&store, async |uow| uow.set_branch(&app, "main", "c0ffee", T0).await).await;
    saved(&store, async |uow| Ok(a_release(uow, &app, &dev).await)).await;
    let output = saved(&store, async |uow| uow.create_output(&app, "token", "hash", T0).await).await;
    let build = NewBuild { commit: None, branch: None, source_key: None, output, account: dev.id.clone() };
    saved(&store, async |uow| uow.create_build(&app, &build, T0).await).await;
    saved(&store, async |uow| uow.create_job(&app, "q", JobKind::BuildApp, "b1", "one", T0).await).await;
    saved(&store, async |uow| uow.delete_app(&app, at(1)).await).await;

    let mut uow = store.begin().await.expect("a transaction");
    assert!(uow.authorize(&dev.id, "hello").await.expect("a look").is_none());
    assert!(uow.authorize(&dev.id, app.id().as_str()).await.expect("a look").is_none());
    assert!(uow.apps(&dev.id).await.expect("apps").is_empty());
    assert!(matches!(uow.lock_app(&app).await, Err(StoreError::NotFound("app"))));
    assert!(uow.app(&app).await.expect("its row is still there").deleted_at.is_some());
    assert!(uow.log_session("l", T0).await.expect("a look").is_none());
    assert!(uow.source_by_token("s", T0).await.expect("a look").is_none());
    assert_eq!(uow.sources(&app).await.expect("sources").len(), 1, "its object is still there");
    let again = uow.create_app(&name("hello"), &dev.id, at(2)).await.expect("the name is free at once");
    uow.create_domain(&again, &host("www.example.com"), DomainKind::Custom, at(2)).await.expect("the host is free");
    uow.save().await.expect("saved");

    let due = saved(&store, async |uow| uow.claim_due_app("w", at(2), at(10)).await).await;
    assert!(due.is_some(), "a destroyed app is due");
    saved(&store, async |uow| uow.forget_app(&app).await).await;
    saved(&store, async |uow| uow.forget_app(&again).await).await;
    for (table, rows) in db.dump().await {
        let of_app = rows.iter().filter(|row| row.contains(app.id().as_str())).count();
        assert_eq!(of_app, usize::from(table == "jobs"), "{table}");
    }
    let left = store.read().await.expect("a look").all_app_ids().await.expect("ids");
    assert_eq!(left, [again.id().clone()], "an app that lives is not forgotten");
}

async fn what_aws_was_told_is_written_by_one_at_a_time(db: &Database) {
    let store = db.open().await;
    let row = |body: &str| AwsRow {
        kind: "rule".to_owned(),
        owner: "1".to_owned(),
        name: "17".to_owned(),
        body: body.to_owned(),
    };
    let revision = saved(&store, async |uow| uow.aws_revision().await).await;
    for (body, counts) in [("first", true), ("late", false)] {
        let mut uow = store.begin().await.expect("a transaction");
        assert_eq!(uow.raise_aws_revision(revision).await.expect("answered"), counts);
        if counts {
            uow.put_aws_row(&row(body)).await.expect("put");
            uow.save().await.expect("saved");
        }
    }
    saved(&store, async |uow| uow.put_aws_row(&row("second")).await).await;
    let mut uow = store.begin().await.expect("a transaction");
    assert_eq!(uow.aws_rows().await.expect("rows"), [row("second")], "one rule for one priority");
    assert_eq!(uow.aws_row("rule", "1", "17").await.expect("a look").as_deref(), Some("second"));
    assert_eq!(uow.aws_revision().await.expect("a look"), revision + 1);
    uow.delete_aws_row("rule", "1", "17").await.expect("gone");
    uow.delete_aws_row("rule", "1", "17").await.expect("gone twice");
    assert_eq!(uow.aws_row("rule", "1", "17").await.expect("a look"), None);
}

async fn tasks_never_share_a_slot(db: &Database) {
    let store = db.open().await;
    let (app, web) = (paas_domain::AppId::new(), process("web"));
    for (task, slot) in [("a", 1), ("b", 2), ("a", 1)] {
        assert_eq!(saved(&store, async |uow| uow.take_aws_slot(&app, &web, task).await).await, slot);
    }
    saved(&store, async |uow| uow.free_aws_slot("a").await).await;
    assert_eq!(saved(&store, async |uow| uow.take_aws_slot(&app, &web, "c").await).await, 1);
    let slots = saved(&store, async |uow| uow.aws_slots(&app).await).await;
    let slots: Vec<_> = slots.iter().map(|slot| (slot.slot, slot.task.as_str())).collect();
    assert_eq!(slots, [(1, "c"), (2, "b")]);
}

async fn notes_about_dynos_are_written_over_and_go_with_their_app(db: &Database) {
    let store = db.open().await;
    let (one, two) = (paas_domain::AppId::new(), paas_domain::AppId::new());
    for (app, key, body) in [(&one, "a", "first"), (&one, "a", "second"), (&one, "b", ""), (&two, "c", "theirs")] {
        saved(&store, async |uow| uow.put_dyno_note(app, key, body).await).await;
    }
    let notes = saved(&store, async |uow| uow.dyno_notes(&one).await).await;
    assert_eq!(notes, [("a", "second"), ("b", "")].map(|(key, body)| (key.to_owned(), body.to_owned())).into());
    let found = saved(&store, async |uow| uow.find_dyno_note("c").await).await;
    assert_eq!(found, Some((two.clone(), "theirs".to_owned())));
    saved(&store, async |uow| uow.drop_dyno_notes(&one, Some("a")).await).await;
    assert_eq!(saved(&store, async |uow| uow.noted_apps().await).await, [one.clone(), two.clone()]);
    saved(&store, async |uow| uow.drop_dyno_notes(&one, None).await).await;
    saved(&store, async |uow| uow.drop_dyno_notes(&one, None).await).await;
    assert_eq!(saved(&store, async |uow| uow.noted_apps().await).await, [two]);
}

async fn an_installation_keeps_its_id(db: &Database) {
    let store = db.open().await;
    let id = saved(&store, async |uow| uow.installation(T0).await).await;
    store.close().await;
    // A second start finds the schema done.
    let store = db.open().await;
    assert_eq!(saved(&store, async |uow| uow.installation(at(9)).await).await, id);
}

/// One test for each promise and database.
macro_rules! store_contract {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let db = Database::sqlite();
                outside::task(super::$promise(&db)).await;
            })*
        }

        mod on_postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let db = Database::postgres().await;
                outside::task(super::$promise(&db)).await;
                db.remove().await;
            })*
        }
    };
}

store_contract!(
    a_destroyed_app_frees_its_names_and_leaves_no_row,
    a_host_is_not_taken_by_a_wildcard_of_another_account,
    a_job_has_one_worker_and_only_the_newest_one_counts,
    a_slot_is_free_when_its_dyno_has_ended,
    a_transaction_that_is_not_saved_never_was,
    a_wish_raises_the_generation_and_makes_the_app_due,
    an_app_has_one_actor_and_only_the_newest_one_counts,
    an_installation_keeps_its_id,
    builds_end_once,
    config_is_sealed,
    formation_and_rollouts_are_kept,
    jobs_of_one_queue_run_one_after_the_other,
    keys_open_an_account_until_they_end,
    notes_about_dynos_are_written_over_and_go_with_their_app,
    of_many_claims_at_once_one_wins,
    one_name_one_owner,
    releases_are_numbered_without_gaps,
    tasks_never_share_a_slot,
    what_a_url_opens_ends,
    what_aws_was_told_is_written_by_one_at_a_time,
);
