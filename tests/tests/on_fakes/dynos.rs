//! What the core does about dynos in time: one-off dynos that nobody wants any more, and quick changes of mind.

use std::sync::Arc;
use std::time::Duration;

use paas_domain::{ConfigVars, DynoKind, DynoState, QuantityChange};
use paas_ports::{TailQuery, outside};
use paas_server::crash_point::CrashPoints;
use paas_server::ops::accept_build::{BuildSource, Verdict, accept_build, await_verdict};
use paas_server::ops::run_dyno::{RunRequest, run_dyno};
use paas_server::ops::scale_formation::{FormationUpdate, scale_formation};
use paas_store::{AppScope, Build, Dyno};
use paas_tests::core_world::{AheadClock, Core, Outside};

const SOON: Duration = Duration::from_secs(10);

async fn push(core: &Core, app: &AppScope, procfile: &str) -> Build {
    core.cx.repositories.ensure(app.id()).await.expect("a repository");
    let commit = core.commit_as(app, 0o100_644, procfile.as_bytes());
    let source = BuildSource::Commit { commit, branch: "main".to_owned() };
    let account = core.account().await;
    outside::task(accept_build(&core.cx, app, &account, source)).await.expect("accepted")
}

async fn verdict(core: &Core, app: &AppScope, build: &Build) -> Verdict {
    let waiting = outside::task(await_verdict(&core.cx, app, &build.id));
    tokio::time::timeout(SOON, waiting).await.expect("an end").expect("a verdict")
}

async fn deployed(core: &Core, procfile: &str) -> AppScope {
    let app = core.create_app("example").await;
    let build = push(core, &app, procfile).await;
    assert_eq!(verdict(core, &app, &build).await, Verdict::Deployed);
    app
}

async fn run(core: &Core, app: &AppScope, attach: bool, time_to_live_s: Option<u32>) -> Dyno {
    let request = RunRequest {
        command: "say here; worker".to_owned(),
        env: ConfigVars::new(),
        attach,
        tty: false,
        size: None,
        time_to_live_s,
        process_type: None,
    };
    let account = core.account().await;
    let (dyno, token) = outside::task(run_dyno(&core.cx, app, &account, request)).await.expect("accepted");
    assert_eq!(token.is_some(), attach);
    dyno
}

async fn row(core: &Core, app: &AppScope, dyno: &Dyno) -> Dyno {
    outside::task(async { core.cx.store.read().await.expect("a look").dyno(app, &dyno.id).await.expect("its row") })
        .await
}

async fn comes_to(core: &Core, app: &AppScope, dyno: &Dyno, what: &str, is: impl Fn(&Dyno) -> bool) {
    core.until(what, async |cx| {
        let row = cx.store.read().await.ok()?.dyno(app, &dyno.id).await.ok()?;
        is(&row).then_some(())
    })
    .await;
}

/// Waits until every app was looked at again.
async fn looked_at(core: &Core, app: &AppScope) {
    outside::task(async {
        let mut uow = core.cx.begin().await.expect("a transaction");
        uow.raise_generation(app, core.cx.now()).await.expect("raised");
        uow.save().await.expect("saved");
    })
    .await;
    core.cx.kick();
    core.until("a pass", async |cx| {
        let app = cx.store.read().await.ok()?.app(app).await.ok()?;
        (app.settled_generation == app.generation).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dyno_that_nobody_attaches_to_is_given_up_after_a_minute() {
    let clock = Arc::new(AheadClock::default());
    let world = Outside::at(clock.clone());
    let core = world.start(CrashPoints::none()).await;
    let app = deployed(&core, "web: serve\n").await;
    let dyno = run(&core, &app, true, None).await;
    clock.advance_s(50);
    looked_at(&core, &app).await;
    let waiting = row(&core, &app, &dyno).await;
    assert!(waiting.attach_open && waiting.ended_at.is_none(), "{waiting:?}");

    clock.advance_s(11);
    comes_to(&core, &app, &dyno, "it is given up", |dyno| dyno.ended_at.is_some() && !dyno.attach_open).await;
    assert_eq!(world.dynos.starts(&dyno.id), 0, "it never ran");
    let query = TailQuery { lines: TailQuery::MAX_LINES, ..TailQuery::default() };
    let tail = outside::task(async { core.cx.logs.tail(app.id(), query).await }).await.expect("a tail");
    let lines: Vec<_> = futures_util::StreamExt::collect::<Vec<_>>(tail).await;
    let said = lines.iter().filter(|tail| tail.line.process == dyno.name.to_string());
    let said: Vec<&str> = said.map(|tail| tail.line.message.as_str()).collect();
    assert_eq!(said, ["Error R13 (Attach error) -> Failed to attach to process"]);
    core.stop().await;
}

#[tokio::test]
async fn a_time_to_live_ends_a_dyno_and_no_other() {
    let clock = Arc::new(AheadClock::default());
    let world = Outside::at(clock.clone());
    let core = world.start(CrashPoints::none()).await;
    let app = deployed(&core, "web: serve\n").await;
    let short = run(&core, &app, false, Some(3600)).await;
    let long = run(&core, &app, false, None).await;
    for dyno in [&short, &long] {
        comes_to(&core, &app, dyno, "it runs", |dyno| dyno.state == DynoState::Up).await;
    }
    clock.advance_s(3500);
    looked_at(&core, &app).await;
    assert_eq!(row(&core, &app, &short).await.stop_requested_at, None);

    clock.advance_s(101);
    comes_to(&core, &app, &short, "its time is over", |dyno| dyno.ended_at.is_some()).await;
    let other = row(&core, &app, &long).await;
    assert_eq!((other.state, other.stop_requested_at), (DynoState::Up, None));
    core.stop().await;
}

#[tokio::test]
async fn up_and_down_ten_times_ends_with_none() {
    let clock = Arc::new(AheadClock::default());
    let world = Outside::at(clock.clone());
    let core = world.start(CrashPoints::none()).await;
    let app = deployed(&core, "web: serve\n").await;
    let account = core.account().await;
    for quantity in [100, 0].into_iter().cycle().take(20) {
        let update = FormationUpdate {
            process_type: "web".parse().expect("a process type"),
            quantity: Some(QuantityChange::Set(quantity)),
            size: None,
        };
        outside::task(scale_formation(&core.cx, &app, &account, &[update])).await.expect("scaled");
    }
    core.until("none is left", async |cx| {
        let seen = cx.runtime.observe(app.id()).await.ok()?;
        let mut uow = cx.store.read().await.ok()?;
        let (rows, app) = (uow.dynos(&app).await.ok()?, uow.app(&app).await.ok()?);
        let rows = rows.iter().any(|dyno| dyno.kind == DynoKind::Service);
        (seen.dynos.is_empty() && !rows && app.settled_generation == app.generation).then_some(())
    })
    .await;
    assert!(world.dynos.apps_with_dynos().is_empty());
    core.stop().await;
}

#[tokio::test]
async fn a_release_phase_ends_after_its_hour() {
    let clock = Arc::new(AheadClock::default());
    let world = Outside::at(clock.clone());
    let core = world.start(CrashPoints::none()).await;
    let app = deployed(&core, "web: serve\n").await;
    let before = outside::task(async { core.cx.store.read().await.expect("a look").app(&app).await }).await;
    let build = push(&core, &app, "web: serve\nrelease: say begun; worker\n").await;
    core.until("the command runs", async |cx| {
        let seen = cx.runtime.observe(app.id()).await.ok()?;
        seen.dynos.iter().any(|dyno| dyno.kind == DynoKind::Release && dyno.state == DynoState::Up).then_some(())
    })
    .await;
    core.crash().await;
    // What another server finds of it, an hour later, it ends.
    clock.advance_s(3600);
    let core = world.start(CrashPoints::none()).await;
    let verdict = verdict(&core, &app, &build).await;
    assert!(matches!(&verdict, Verdict::Declined(why) if why.contains("time limit")), "{verdict:?}");
    let after = outside::task(async { core.cx.store.read().await.expect("a look").app(&app).await }).await;
    let current = |app: paas_store::App| app.current_release;
    assert_eq!(after.map(current).expect("the app"), before.map(current).expect("the app"), "the old one serves");
    core.stop().await;
}
