//! How pushes and release phases end when something comes between: other code, a platform that does not do its part,
//! an hour that is over. On fakes whose time the test moves, so that nothing happens before its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paas_domain::{Clock, DynoKind, ManualClock, ReleaseStatus, Timestamp};
use paas_ports::outside;
use paas_server::crash_point::CrashPoints;
use paas_server::ops::accept_build::{BuildSource, Verdict, accept_build, build_verdict};
use paas_server::ops::roll_back::roll_back;
use paas_server::ops::set_config::set_config;
use paas_store::{AppScope, Build, Release};
use paas_tests::core_world::{Core, Outside};
use paas_tests::invariants::fakes::{self, Closely};
use paas_tests::invariants::{Look, Promises, Rows, check};

const MINUTE_MS: i64 = 60_000;

/// An app on a server whose clock stands still.
struct World {
    clock: Arc<ManualClock>,
    world: Outside,
    core: Core,
    app: AppScope,
    promises: Promises,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_795_446_245_123)));
        let world = Outside::at(Arc::clone(&clock) as Arc<dyn Clock>);
        let core = world.start(CrashPoints::none()).await;
        let app = core.create_app("app").await;
        let mut promises = Promises::default();
        promises.app_made(app.clone(), "app");
        core.cx.repositories.ensure(app.id()).await.expect("a repository");
        Self { clock, world, core, app, promises }
    }

    async fn rows(&self) -> Rows {
        outside::task(Rows::read(&self.core.cx.store, &self.app)).await.expect("a look").expect("rows")
    }

    /// Waits until `look` answers something, while the clock makes steps of so many milliseconds.
    async fn stepping<T>(&self, step_ms: i64, what: &str, look: impl AsyncFn(&Self) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "it did not come to it: {what}");
            self.clock.advance_ms(step_ms);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn accept(&mut self, procfile: &str) -> (Build, String) {
        let (account, commit) = (self.core.account().await, self.core.commit(&self.app, procfile));
        let source = BuildSource::Commit { commit: commit.clone(), branch: "main".to_owned() };
        let build = outside::task(accept_build(&self.core.cx, &self.app, &account, source)).await.expect("accepted");
        self.promises.of(self.app.id()).builds.insert(build.id.clone());
        (build, commit)
    }

    async fn verdict(&mut self, build: &Build, commit: &str) -> Verdict {
        self.verdict_by(20, build, commit).await
    }

    async fn verdict_by(&mut self, step_ms: i64, build: &Build, commit: &str) -> Verdict {
        let verdict = self
            .stepping(step_ms, "a verdict", async |world| {
                let (cx, app) = (&world.core.cx, &world.app);
                outside::task(build_verdict(cx, app, &build.id)).await.expect("a look")
            })
            .await;
        let promised = self.promises.of(self.app.id());
        match &verdict {
            Verdict::Deployed => promised.push_deployed(commit),
            Verdict::Declined(_) => promised.push_declined(commit),
        }
        verdict
    }

    async fn push(&mut self, procfile: &str) -> (Verdict, String) {
        let (build, commit) = self.accept(procfile).await;
        (self.verdict(&build, &commit).await, commit)
    }

    /// Waits until this release is the current one; the clock stands.
    async fn current_is(&self, version: i64) {
        let is = async |world: &Self| (world.rows().await.current()?.version.0 == version).then_some(());
        self.stepping(0, "the current release", is).await;
    }

    async fn tip(&self) -> Option<String> {
        self.rows().await.branches.into_iter().find(|(name, _)| name == "main").map(|(_, commit)| commit)
    }

    async fn release(&self, version: i64) -> Release {
        self.rows().await.releases.into_iter().find(|release| release.version.0 == version).expect("the release")
    }

    async fn set_config(&mut self, key: &str) {
        let account = self.core.account().await;
        let change = (key.parse().expect("a key"), Some("x".into()));
        outside::task(set_config(&self.core.cx, &self.app, &account, &[change])).await.expect("set");
        self.promises.of(self.app.id()).config.insert(key.to_owned(), Some("x".to_owned()));
    }

    fn output(&self, of: &paas_domain::OutputId) -> String {
        String::from_utf8(self.world.logs.output(of).unwrap_or_default()).expect("text")
    }

    /// The dyno of a release's phase, while the platform has it.
    async fn phase_of(&self, version: i64) -> Option<paas_ports::ObservedDyno> {
        let seen = self.core.cx.runtime.observe(self.app.id()).await.expect("a look");
        seen.dynos.into_iter().find(|dyno| dyno.name.process_type.is_release() && dyno.release.0 == version)
    }

    /// Waits until nothing is under way, and holds everything against the invariants.
    async fn rests(&self) {
        self.stepping(20, "rest", async |world| world.rows().await.are_at_rest().then_some(())).await;
        let since = Instant::now();
        loop {
            let seen = fakes::look(&self.world, &self.core.cx, &self.promises, Closely::AtRest).await;
            let violations = check(&Look { seen: &seen, promises: &self.promises, at_rest: true });
            if violations.is_empty() {
                return;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "{violations:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_rollback_during_a_rollout_declines_the_push() {
    let mut world = World::new().await;
    let (verdict, first) = world.push("web: serve\n").await;
    assert_eq!(verdict, Verdict::Deployed);
    let (build, second) = world.accept("web: sleep 200; serve\n").await;
    world.current_is(4).await;
    let account = world.core.account().await;
    outside::task(roll_back(&world.core.cx, &world.app, &account, "v3")).await.expect("rolled back");
    assert_eq!(world.verdict(&build, &second).await, Verdict::Declined("superseded by v5".to_owned()));
    assert_eq!(world.tip().await, Some(first));
    world.rests().await;
    let output = world.output(&build.output);
    for words in
        ["Verifying deploy... failed.", "v5 (Rollback to v3) was released before v4 served", "Push rejected to app."]
    {
        assert!(output.contains(words), "no {words:?} in {output}");
    }
}

#[tokio::test]
async fn a_build_that_is_lost_with_its_builder_is_run_again() {
    let mut world = World::new().await;
    world.world.builds.lose(2);
    let (build, commit) = world.accept("web: serve\n").await;
    assert_eq!(world.verdict(&build, &commit).await, Verdict::Deployed);
    assert_eq!(world.world.builds.runs(&build.id), 3);
    world.rests().await;
    world.world.builds.lose(usize::MAX);
    let (build, second) = world.accept("web: serve --now\n").await;
    let lost = "the build was lost with its builder, again and again".to_owned();
    assert_eq!(world.verdict(&build, &second).await, Verdict::Declined(lost));
    assert_eq!(world.tip().await, Some(commit));
    world.rests().await;
}

#[tokio::test]
async fn a_change_of_config_during_a_rollout_carries_the_push_on() {
    let mut world = World::new().await;
    world.push("web: serve\n").await;
    let (build, second) = world.accept("web: sleep 200; serve\n").await;
    world.current_is(4).await;
    world.set_config("GREETING").await;
    world.current_is(5).await;
    assert_eq!(world.verdict(&build, &second).await, Verdict::Deployed);
    assert_eq!(world.tip().await, Some(second));
    world.rests().await;
    let serving = world.rows().await.service("web").expect("a service").serving_release;
    assert_eq!(serving.map(|version| version.0), Some(5));
}

#[tokio::test]
async fn a_change_of_config_whose_dynos_do_not_start_declines_the_push_it_carried() {
    let mut world = World::new().await;
    let (_, first) = world.push("web: serve\n").await;
    let (build, second) = world.accept("web: sleep 200; exit 3\n").await;
    world.current_is(4).await;
    world.set_config("GREETING").await;
    world.current_is(5).await;
    let verdict = world.verdict(&build, &second).await;
    assert!(matches!(&verdict, Verdict::Declined(why) if why.contains("status 3")), "{verdict:?}");
    assert_eq!(world.tip().await, Some(first));
}

#[tokio::test]
async fn a_release_command_has_an_hour() {
    let mut world = World::new().await;
    let (build, commit) = world.accept("web: serve\nrelease: say begun; sleep 7200000\n").await;
    world
        .stepping(0, "the command runs", async |world| world.output(&build.output).contains("begun").then_some(()))
        .await;
    world.clock.advance_ms(59 * MINUTE_MS);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(world.phase_of(3).await.and_then(|dyno| dyno.exit_code), None, "it still has a minute");
    world.clock.advance_ms(MINUTE_MS);
    let verdict = world.verdict(&build, &commit).await;
    assert_eq!(verdict, Verdict::Declined("Release phase exceeded its time limit".to_owned()));
    let release = world.release(3).await;
    assert_eq!(release.status, ReleaseStatus::Failed);
    for output in [&build.output, release.output.as_ref().expect("an output")] {
        let output = world.output(output);
        assert!(output.contains("begun") && output.contains("exceeded its time limit"), "{output}");
    }
    world.rests().await;
}

#[tokio::test]
async fn the_hour_begins_with_the_command_and_not_with_the_release() {
    let mut world = World::new().await;
    let (build, commit) = world.accept("web: serve\nrelease: sleep 3000000\n").await;
    world.stepping(0, "the command runs", async |world| world.phase_of(3).await).await;
    // Cut at once, and run fifty minutes later.
    world.set_config("GREETING").await;
    world.clock.advance_ms(50 * MINUTE_MS);
    assert_eq!(world.verdict(&build, &commit).await, Verdict::Deployed);
    world.stepping(20, "the second command runs", async |world| world.phase_of(4).await).await;
    world.clock.advance_ms(40 * MINUTE_MS);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(world.release(4).await.status, ReleaseStatus::Pending, "it was cut ninety minutes ago");
    world.clock.advance_ms(11 * MINUTE_MS);
    world.current_is(4).await;
    world.rests().await;
}

#[tokio::test]
async fn a_platform_that_does_not_answer_for_a_while_only_delays_a_release_command() {
    let mut world = World::new().await;
    for method in ["attach", "observe", "start_once"] {
        world.world.dynos.fail_next(method, 2);
        let (build, commit) = world.accept(&format!("web: serve\nrelease: say {method} works; say once\n")).await;
        assert_eq!(world.verdict(&build, &commit).await, Verdict::Deployed, "{method}");
        let output = world.output(&build.output);
        assert_eq!(output.matches(&format!("{method} works")).count(), 1, "{output}");
        let lines = world.world.logs.lines(world.app.id());
        assert_eq!(lines.iter().filter(|line| line.message == format!("{method} works")).count(), 1, "{method}");
    }
    assert!(world.world.dynos.most_starts() <= 1);
    world.rests().await;
}

#[tokio::test]
async fn a_release_command_that_cannot_be_started_says_why() {
    let mut world = World::new().await;
    let (_, first) = world.push("web: serve\n").await;
    let why = "the release's image cannot be pulled";
    for at_attach in [true, false] {
        match at_attach {
            true => world.world.dynos.never_start_commands_with("migrate", why),
            false => world.world.dynos.refuse_commands_with("migrate", why),
        }
        let (build, commit) = world.accept(&format!("web: serve\nrelease: migrate {at_attach}\n")).await;
        let verdict = world.verdict(&build, &commit).await;
        assert!(matches!(&verdict, Verdict::Declined(reason) if reason.contains(why)), "{verdict:?}");
        world.rests().await;
        let version = world.rows().await.releases.last().expect("a release").version.0;
        let release = world.release(version).await;
        assert_eq!(release.status, ReleaseStatus::Failed);
        for output in [&build.output, release.output.as_ref().expect("an output")] {
            assert!(world.output(output).contains(why), "{}", world.output(output));
        }
        let rows = world.rows().await.dynos;
        assert!(world.phase_of(version).await.is_none() && rows.iter().all(|dyno| dyno.kind != DynoKind::Release));
        world.world.dynos.start_commands_again();
    }
    assert_eq!(world.tip().await, Some(first));
}

#[tokio::test]
async fn a_job_that_gives_up_leaves_nothing() {
    let mut world = World::new().await;
    let (_, first) = world.push("web: serve\n").await;
    let sources = world.world.folder().join("objects/sources");
    for method in ["build", "export"] {
        world.world.builds.fail_next(method, 100);
        let (build, commit) = world.accept(&format!("web: serve\nother: {method}\n")).await;
        let verdict = world.verdict_by(200, &build, &commit).await;
        world.world.builds.fail_next(method, 0);
        assert!(matches!(&verdict, Verdict::Declined(why) if why.contains("told to fail")), "{verdict:?}");
        world.rests().await;
        assert_eq!(world.world.builds.left(), [], "{method}");
        let left = std::fs::read_dir(sources.join(world.app.id().as_str())).into_iter().flatten().count();
        assert_eq!(left, 0, "{method}");
        assert!(world.output(&build.output).contains("Push rejected to app."), "{}", world.output(&build.output));
    }
    // And a release phase whose command runs when its job gives up.
    let (build, commit) = world.accept("web: serve\nrelease: say begun; sleep 600000\n").await;
    world
        .stepping(0, "the command runs", async |world| world.output(&build.output).contains("begun").then_some(()))
        .await;
    world.world.dynos.fail_next("observe", 1_000);
    world.clock.advance_ms(61 * MINUTE_MS);
    let verdict = world.verdict_by(200, &build, &commit).await;
    assert!(matches!(verdict, Verdict::Declined(_)), "{verdict:?}");
    world.world.dynos.fail_next("observe", 0);
    world.rests().await;
    assert!(world.phase_of(4).await.is_none());
    assert_eq!(world.tip().await, Some(first));
}
