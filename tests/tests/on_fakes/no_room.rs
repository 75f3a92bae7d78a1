//! A platform without room for further dynos: who pushes or runs hears why, and nothing else of the app waits.

use std::time::Duration;

use paas_domain::{ConfigVars, DynoKind, ReleaseStatus};
use paas_ports::outside;
use paas_server::crash_point::CrashPoints;
use paas_server::cx::Cx;
use paas_server::ops::accept_build::{BuildSource, Verdict, accept_build, build_verdict};
use paas_server::ops::run_dyno::{RunRequest, run_dyno};
use paas_store::{AppScope, Build};
use paas_tests::core_world::{Core, Outside};

const FULL: &str = "AWS has no room for this dyno at the moment";

async fn push(core: &Core, app: &AppScope, procfile: &str) -> Build {
    let commit = core.commit(app, procfile);
    let account = core.account().await;
    let source = BuildSource::Commit { commit, branch: "main".to_owned() };
    outside::task(accept_build(&core.cx, app, &account, source)).await.expect("accepted")
}

/// Why a push was declined, once it has ended; `None` when it was not.
async fn ended(core: &Core, app: &AppScope, build: &Build) -> Option<String> {
    let verdict = async |cx: &Cx| build_verdict(cx, app, &build.id).await.expect("a look");
    match core.until("the push has a verdict", verdict).await {
        Verdict::Deployed => None,
        Verdict::Declined(why) => Some(why),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_finds_no_room_is_declined_with_the_cause_and_served_once_there_is() {
    let world = Outside::new();
    let core = world.start(CrashPoints::none()).await;
    let app = core.create_app("crowded").await;
    core.cx.repositories.ensure(app.id()).await.expect("a repository");
    let first = push(&core, &app, "web: serve").await;
    assert_eq!(ended(&core, &app, &first).await, None);
    world.dynos.no_room(Some(FULL));
    let second = push(&core, &app, "web: serve # 2").await;
    let declined = ended(&core, &app, &second).await.expect("declined");
    assert!(declined.contains(FULL), "{declined}");
    let output = String::from_utf8_lossy(&world.logs.output(&second.output).expect("an output")).into_owned();
    // Said as soon as it was known, and again with the verdict.
    let said: Vec<usize> = output.match_indices(FULL).map(|(at, _)| at).collect();
    assert!(said.len() >= 2 && said[0] < output.find("failed.").expect("failed"), "{output}");
    assert!(output.contains("It is tried on"), "{output}");
    let log = world.logs.lines(app.id());
    assert_eq!(log.iter().filter(|line| line.message.contains(FULL)).count(), 1, "{log:?}");
    let releases = outside::task(async {
        let mut uow = core.cx.store.read().await.expect("a look");
        (uow.services(&app).await.expect("rows"), uow.current_release(&app).await.expect("a row").expect("one"))
    });
    let (services, current) = releases.await;
    assert_eq!((current.status, services[0].serving_release < Some(current.version)), (ReleaseStatus::Succeeded, true));
    world.dynos.no_room(None);
    core.until("the release serves", async |cx| {
        let services = cx.store.read().await.expect("a look").services(&app).await.expect("rows");
        (services[0].serving_release == Some(current.version) && services[0].reason.is_none()).then_some(())
    })
    .await;
    core.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_off_dyno_without_room_holds_up_nothing_else() {
    let world = Outside::new();
    let core = world.start(CrashPoints::none()).await;
    let app = core.create_app("waiting").await;
    core.cx.repositories.ensure(app.id()).await.expect("a repository");
    let first = push(&core, &app, "web: serve").await;
    assert_eq!(ended(&core, &app, &first).await, None);
    world.dynos.fail_next("start_once", usize::MAX);
    let account = core.account().await;
    let request = RunRequest {
        time_to_live_s: None,
        command: "done".to_owned(),
        env: ConfigVars::new(),
        attach: false,
        tty: false,
        size: None,
        process_type: None,
    };
    outside::task(run_dyno(&core.cx, &app, &account, request)).await.expect("asked for");
    let second = push(&core, &app, "web: serve # 2").await;
    assert_eq!(ended(&core, &app, &second).await, None, "a deploy does not wait for it");
    world.dynos.fail_next("start_once", 0);
    core.until("it has run", async |cx| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let dynos = cx.store.read().await.expect("a look").dynos(&app).await.expect("rows");
        (!dynos.iter().any(|dyno| dyno.kind == DynoKind::Run)).then_some(())
    })
    .await;
    assert_eq!(world.dynos.most_starts(), 1);
    core.stop().await;
}
