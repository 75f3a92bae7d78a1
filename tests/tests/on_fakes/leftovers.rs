//! What must not stay, on fakes: of an app that is destroyed while something of it is under way, of builds whose image
//! no release names, and of apps that no row names any more. And what must.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use paas_domain::{
    AppId, Architecture, BuildId, Capacity, ConfigVars, DynoId, DynoKind, DynoSize, DynoState, OutputId, ProcessType,
};
use paas_ports::fake::FakeScript;
use paas_ports::{BuildSpec, ImageRef, LogLine, LogSource, OneOffSpec, PortError, outside};
use paas_server::crash_point::{CrashPoints, Side};
use paas_server::cx::Cx;
use paas_server::jobs::{BuildStep, ReleasePhaseStep};
use paas_server::ops::accept_build::{BuildSource, Verdict, accept_build, build_verdict};
use paas_server::ops::destroy_app::destroy_app;
use paas_server::ops::roll_back::roll_back;
use paas_server::ops::run_dyno::{RunRequest, run_dyno};
use paas_server::ops::set_config::set_config;
use paas_store::{AppScope, Build};
use paas_tests::core_world::{Core, Outside};
use tokio::sync::Notify;

/// Lives at the same time: they mostly wait.
const AT_ONCE: usize = 6;

async fn accept(core: &Core, app: &AppScope, procfile: &str) -> Build {
    let source = BuildSource::Commit { commit: core.commit(app, procfile), branch: "main".to_owned() };
    let account = core.account().await;
    outside::task(accept_build(&core.cx, app, &account, source)).await.expect("accepted")
}

async fn verdict(core: &Core, app: &AppScope, build: &Build) -> Verdict {
    core.until("a verdict", async |cx| build_verdict(cx, app, &build.id).await.expect("a look")).await
}

async fn push(core: &Core, app: &AppScope, procfile: &str) -> Verdict {
    let build = accept(core, app, procfile).await;
    verdict(core, app, &build).await
}

async fn new_app(core: &Core, name: &str) -> AppScope {
    let app = core.create_app(name).await;
    core.cx.repositories.ensure(app.id()).await.expect("a repository");
    app
}

async fn last_row_goes(core: &Core, app: &AppScope) {
    let gone = async |cx: &Cx| cx.store.read().await.expect("a look").app(app).await.is_err().then_some(());
    core.until("the last row goes", gone).await;
}

/// What becomes of the worker whose app is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    /// It is in the middle of something that does not end.
    Waits,
    /// It has looked whether the job is still its own, and goes on.
    GoesOn,
    /// Its server dies, and another one starts.
    Dies,
}

/// Destroys an app while its worker is at this point. Nothing of it stays.
async fn destroyed_at(point: (&'static str, Side), worker: Worker) {
    let world = Outside::new();
    let app: Arc<OnceLock<(Cx, AppScope)>> = Arc::default();
    let (hit, done) = (Arc::new(Notify::new()), AtomicBool::new(false));
    let points = CrashPoints::none();
    let (notify, victim) = (Arc::clone(&hit), Arc::clone(&app));
    points.set(move |step, side| {
        if (step, side) != point || done.swap(true, Ordering::SeqCst) {
            return false;
        }
        let Some((cx, app)) = victim.get() else { return false };
        if worker == Worker::GoesOn {
            let destroying = outside::task(destroy_app(cx, app));
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on(destroying)).expect("destroyed");
        }
        notify.notify_one();
        worker != Worker::GoesOn
    });
    let mut core = world.start(points).await;
    let scope = new_app(&core, "doomed").await;
    assert!(app.set((core.cx.clone(), scope.clone())).is_ok());
    accept(&core, &scope, "web: serve\nrelease: say migrating; sleep 20; exit 0\n").await;
    if ReleasePhaseStep::ALL.iter().any(|step| step.as_str() == point.0) {
        let deployed = async |cx: &Cx| {
            let release = cx.store.read().await.expect("a look").current_release(&scope).await.expect("a look");
            release.filter(|release| release.image.is_some()).map(drop)
        };
        core.until("it is deployed", deployed).await;
        let account = core.account().await;
        let set = [("GREETING".parse().expect("a key"), Some("hello".to_owned().into()))];
        outside::task(set_config(&core.cx, &scope, &account, &set)).await.expect("set");
    }
    tokio::time::timeout(Duration::from_secs(10), hit.notified()).await.unwrap_or_else(|_| panic!("{point:?} comes"));
    if worker != Worker::GoesOn {
        outside::task(destroy_app(&core.cx, &scope)).await.expect("destroyed");
    }
    if worker == Worker::Dies {
        core.crash().await;
        core = world.start(CrashPoints::none()).await;
    }
    last_row_goes(&core, &scope).await;
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{point:?} {worker:?}");
    core.stop().await;
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{point:?} {worker:?}, at the end");
}

#[test]
fn an_app_that_is_destroyed_at_any_step_of_a_job_leaves_nothing() {
    let steps = BuildStep::ALL.iter().map(|step| step.as_str());
    let steps = steps.chain(ReleasePhaseStep::ALL.iter().map(|step| step.as_str()));
    // No job comes to these by itself: those that give up have lives of their own.
    let gives_up = [BuildStep::GiveUp.as_str(), ReleasePhaseStep::GiveUp.as_str()];
    let steps = steps.filter(|step| !gives_up.contains(step));
    let points = steps.flat_map(|step| Side::ALL.map(|side| (step, side)));
    let workers = [Worker::Waits, Worker::GoesOn, Worker::Dies];
    let lives: Vec<_> = points.flat_map(|point| workers.map(|worker| (point, worker))).collect();
    let lives = Mutex::new(lives);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                // More than one thread each: an app is destroyed in the middle of its worker's.
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let runtime = runtime.expect("a runtime");
                loop {
                    let Some((point, worker)) = lives.lock().expect("a lock").pop() else { return };
                    runtime.block_on(destroyed_at(point, worker));
                }
            });
        }
    });
}

/// A build, a release command and a one-off dyno that run: each ends with its app, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_is_destroyed_while_it_works_leaves_nothing() {
    let world = Outside::new();
    world.builds.when_source_says("endless", FakeScript::says("it begins\n").waits("never"));
    let core = world.start(CrashPoints::none()).await;

    let building = new_app(&core, "building").await;
    let build = accept(&core, &building, "web: serve # endless\n").await;
    core.until("the build runs", async |_| (world.builds.runs(&build.id) == 1).then_some(())).await;
    outside::task(destroy_app(&core.cx, &building)).await.expect("destroyed");
    last_row_goes(&core, &building).await;
    assert_eq!(world.leftovers(), Vec::<String>::new());

    let phased = new_app(&core, "phased").await;
    accept(&core, &phased, "web: serve\nrelease: say migrating; sleep 100000\n").await;
    let says = |text: &'static str| world.logs.lines(phased.id()).iter().any(|line| line.message == text);
    core.until("the release command runs", async |_| says("migrating").then_some(())).await;
    outside::task(destroy_app(&core.cx, &phased)).await.expect("destroyed");
    last_row_goes(&core, &phased).await;
    assert_eq!(world.leftovers(), Vec::<String>::new());

    let running = new_app(&core, "running").await;
    assert_eq!(push(&core, &running, "web: serve\n").await, Verdict::Deployed);
    let request = RunRequest {
        time_to_live_s: None,
        command: "say working; sleep 100000".to_owned(),
        env: ConfigVars::new(),
        attach: false,
        tty: false,
        size: None,
        process_type: None,
    };
    let account = core.account().await;
    let (dyno, _) = outside::task(run_dyno(&core.cx, &running, &account, request)).await.expect("accepted");
    core.until("the one-off dyno runs", async |_| (world.dynos.starts(&dyno.id) == 1).then_some(())).await;
    outside::task(destroy_app(&core.cx, &running)).await.expect("destroyed");
    last_row_goes(&core, &running).await;
    assert_eq!(world.leftovers(), Vec::<String>::new());
    core.stop().await;
}

async fn images(core: &Core, app: &AppScope) -> Vec<ImageRef> {
    core.cx.registry.list(app.id()).await.expect("a list")
}

async fn image_of(core: &Core, app: &AppScope, version: i64) -> ImageRef {
    let version = paas_domain::ReleaseVersion(version);
    let release = outside::task(async { core.cx.store.read().await?.release_by_version(app, version).await }).await;
    ImageRef(release.expect("a look").expect("the release").image.expect("an image"))
}

/// A build whose image is stored and that fails all the same.
async fn fails_behind_its_export(world: &Outside, core: &Core, app: &AppScope, procfile: &str) -> ImageRef {
    let before = images(core, app).await;
    world.images.refuse("resolve", "the registry is being moved");
    let declined = push(core, app, procfile).await;
    assert!(matches!(declined, Verdict::Declined(_)), "{declined:?}");
    let left = images(core, app).await.into_iter().find(|image| !before.contains(image));
    world.images.allow("resolve");
    left.expect("the build left an image")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_no_release_names_go_and_all_others_stay() {
    let world = Outside::new();
    let core = world.start(CrashPoints::none()).await;
    let app = new_app(&core, "pictured").await;
    assert_eq!(push(&core, &app, "web: serve # one\n").await, Verdict::Deployed);
    assert_eq!(push(&core, &app, "web: serve # two\n").await, Verdict::Deployed);
    // Of a release that failed the code is carried on by the next change of config: its image stays.
    let declined = push(&core, &app, "web: serve # three\nrelease: exit 3\n").await;
    assert!(matches!(declined, Verdict::Declined(_)), "{declined:?}");
    let failed = fails_behind_its_export(&world, &core, &app, "web: serve # four\n").await;

    let gone = async |_: &Cx| (!images(&core, &app).await.contains(&failed)).then_some(());
    core.until("the image of the failed build goes", gone).await;
    let mut kept = Vec::new();
    for version in [3, 4, 5] {
        kept.push(image_of(&core, &app, version).await);
    }
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(images(&core, &app).await, kept);
    let looked_through = async |cx: &Cx| {
        let left = cx.store.read().await.expect("a look").build_since_collection(&app).await.expect("a look");
        left.is_none().then_some(())
    };
    core.until("nothing is left to look through", looked_through).await;
    let row = outside::task(async { core.cx.store.read().await?.image(&app, &failed.0).await }).await;
    assert!(row.is_err(), "{row:?}");

    // An old release still runs, and so does the source whose image went.
    let account = core.account().await;
    let release = outside::task(roll_back(&core.cx, &app, &account, "v3")).await.expect("rolled back");
    let up = async |cx: &Cx| {
        let dynos = cx.runtime.observe(app.id()).await.expect("a look").dynos;
        let serves = |dyno: &&paas_ports::ObservedDyno| dyno.release == release.version && dyno.state == DynoState::Up;
        dynos.iter().any(|dyno| serves(&dyno)).then_some(())
    };
    core.until("the old release serves", up).await;
    assert_eq!(release.image.map(ImageRef), Some(image_of(&core, &app, 3).await));
    assert_eq!(push(&core, &app, "web: serve # four\n").await, Verdict::Deployed);
    assert!(core.cx.registry.resolve(app.id(), &failed).await.expect("an answer"));
    core.stop().await;
}

/// A build that is under way may be about to name any image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_image_goes_while_a_job_is_open() {
    let world = Outside::new();
    world.builds.when_source_says("endless", FakeScript::says("it begins\n").waits("its time"));
    let passes = Arc::new(AtomicUsize::new(0));
    let points = CrashPoints::none();
    let counted = Arc::clone(&passes);
    points.set(move |step, side| {
        counted.fetch_add(usize::from(step == "write" && side == Side::BeforeCommit), Ordering::SeqCst);
        false
    });
    let core = world.start(points).await;
    let app = new_app(&core, "busy").await;
    let left = fails_behind_its_export(&world, &core, &app, "web: serve # same\n").await;
    let build = accept(&core, &app, "web: serve # endless\n").await;
    core.until("the build runs", async |_| (world.builds.runs(&build.id) == 1).then_some(())).await;
    if images(&core, &app).await.contains(&left) {
        // Not collected before the job began: then not before it has ended.
        let before = passes.load(Ordering::SeqCst);
        core.until("many passes", async |_| (passes.load(Ordering::SeqCst) > before + 5).then_some(())).await;
        assert!(images(&core, &app).await.contains(&left));
    }
    world.builds.open("its time");
    assert_eq!(verdict(&core, &app, &build).await, Verdict::Deployed);
    core.until("it goes then", async |_| (!images(&core, &app).await.contains(&left)).then_some(())).await;
    assert_eq!(images(&core, &app).await, [image_of(&core, &app, 3).await]);
    core.stop().await;
}

/// An image that was taken for a leftover just as a build found it there is made again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_image_that_goes_under_a_build_is_made_again() {
    let world = Outside::new();
    let points = CrashPoints::none();
    let app: Arc<OnceLock<(Cx, AppId)>> = Arc::default();
    let (victim, went) = (Arc::clone(&app), AtomicBool::new(false));
    points.set(move |step, side| {
        let cuts = (step, side) == (BuildStep::CutRelease.as_str(), Side::BeforeEffect);
        if let Some((cx, app)) = victim.get()
            && cuts
            && !went.swap(true, Ordering::SeqCst)
        {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::block_in_place(|| runtime.block_on(cx.registry.remove_app(app))).expect("removed");
        }
        false
    });
    let core = world.start(points).await;
    let scope = new_app(&core, "raced").await;
    assert!(app.set((core.cx.clone(), scope.id().clone())).is_ok());
    assert_eq!(push(&core, &scope, "web: serve\n").await, Verdict::Deployed);
    let image = image_of(&core, &scope, 3).await;
    assert!(core.cx.registry.resolve(scope.id(), &image).await.expect("an answer"));
    assert_eq!(world.builds.started().len(), 1, "nothing was built twice");
    core.stop().await;
}

/// Something of an app wherever an app can have something.
async fn litter(world: &Outside, core: &Core, app: &AppId) -> Result<(), PortError> {
    let (cx, build) = (&core.cx, BuildId::new());
    let source = world.folder().join(format!("{build}.source"));
    std::fs::write(&source, format!("web: serve # {app}")).expect("a source");
    let spec = BuildSpec {
        app: app.clone(),
        build,
        source,
        commit: None,
        config: ConfigVars::new(),
        timeout: Duration::from_secs(1),
    };
    let (sender, _receiver) = tokio::sync::mpsc::channel(16);
    cx.builder.build(&spec, sender.clone()).await?;
    let image = cx.builder.export(&spec, sender).await?.image;
    cx.ingress.place(app, &ProcessType::web()).await?;
    let run = OneOffSpec {
        architecture: Architecture::default(),
        capacity: Capacity::default(),
        app: app.clone(),
        name: "run.1".parse().expect("a name"),
        kind: DynoKind::Run,
        release: paas_domain::ReleaseVersion(3),
        image,
        command: "sleep 100000".to_owned(),
        config: ConfigVars::new(),
        config_id: None,
        size: DynoSize::default(),
        attach: false,
        tty: false,
        link: None,
    };
    cx.runtime.start_once(&DynoId::new(), &run).await?;
    let line = LogLine { at: cx.now(), source: LogSource::App, process: "web.1".to_owned(), message: "hi".to_owned() };
    cx.logs.append(app, vec![line]).await?;
    cx.repositories.ensure(app).await?;
    for key in [format!("sources/{app}/x.tar"), format!("packs/{app}/x.tar")] {
        cx.objects.put(&key, "x".into()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_row_names_goes_wherever_it_is_and_nothing_else() {
    let world = Outside::new();
    let core = world.start(CrashPoints::none()).await;
    let app = new_app(&core, "living").await;
    assert_eq!(push(&core, &app, "web: serve\n").await, Verdict::Deployed);
    let cx = &core.cx;
    let strays = [AppId::new(), AppId::new()];
    for stray in &strays {
        litter(&world, &core, stray).await.expect("litter");
    }
    let output = OutputId::new();
    cx.outputs.write(&output, 1, "x".into()).await.expect("written");
    cx.objects.put("uploads/nobody.tgz", "x".into()).await.expect("put");

    let found = async |_: &Cx| {
        let mut apps = cx.runtime.apps().await.expect("a list");
        apps.extend(cx.ingress.apps().await.expect("a list"));
        apps.extend(cx.builder.apps().await.expect("a list"));
        apps.extend(cx.registry.apps().await.expect("a list"));
        apps.extend(cx.logs.apps().await.expect("a list"));
        apps.extend(cx.repositories.all().await.expect("a list"));
        for folder in ["sources", "packs"] {
            let folders = cx.objects.folders(folder).await.expect("a list");
            apps.extend(folders.iter().map(|folder| folder.parse().expect("an app")));
        }
        let uploads = cx.objects.list("uploads").await.expect("a list");
        let outputs = cx.outputs.all().await.expect("a list");
        let left = apps.iter().any(|app| strays.contains(app)) || outputs.contains(&output) || !uploads.is_empty();
        (!left).then_some(apps)
    };
    let apps = core.until("the strays are gone", found).await;
    // The app that lives has a runtime, a route, layers, an image, a log and a repository.
    assert_eq!(apps.iter().filter(|there| *there == app.id()).count(), 6, "{apps:?}");
    assert!(!cx.outputs.all().await.expect("a list").is_empty(), "its build's output stays");
    assert!(!world.dynos.apps_with_dynos().iter().any(|app| strays.contains(app)));
    core.stop().await;
}
