//! Every durable step of every job and of a reconcile pass × {before its effect, between effect and commit}, by
//! dropping the server there and starting another one on the same world; seeds vary which occurrence, what
//! else goes on, and where a second crash falls. Behind every crash the invariants are checked twice: at once after
//! the restart, and when everything has come to rest.
//!
//! A step joins its enum and is covered here without being told; a step that no life passes fails the test.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use paas_domain::{
    BuildId, BuildStatus, DynoKind, DynoState, ProcessType, QuantityChange, ReleaseStatus, RolloutState,
};
use paas_ports::fake::FakeScript;
use paas_ports::fake::ingress::Decision;
use paas_ports::{BuildFailure, BuildVerdict, outside};
use paas_server::crash_point::{CrashPoints, Side};
use paas_server::cx::OpError;
use paas_server::jobs::{BuildStep, ReleasePhaseStep};
use paas_server::ops::accept_build::{BuildSource, Verdict, accept_build, build_verdict};
use paas_server::ops::restart_dynos::{Which, restart_dynos};
use paas_server::ops::run_dyno::{RunRequest, run_dyno};
use paas_server::ops::scale_formation::{FormationUpdate, scale_formation};
use paas_server::ops::{destroy_app::destroy_app, set_config::set_config};
use paas_server::reconcile::PassStep;
use paas_store::{Account, AppScope, Build, JobState};
use paas_tests::core_world::{Core, Outside};
use paas_tests::invariants::fakes::{self, Closely};
use paas_tests::invariants::{Look, Promised, Promises, Rows, Violation, check};

/// How many lives for each step and side.
const SEEDS: u64 = 20;
/// Lives at the same time: they mostly wait.
const AT_ONCE: usize = 24;
/// How long to wait before another look: the looks of so many lives are most of what there is to compute.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// How long a life may take to come to each of its stages.
const PATIENCE: Duration = Duration::from_secs(20);

fn points() -> Vec<(&'static str, Side)> {
    let build = BuildStep::ALL.iter().map(|step| step.as_str());
    let phase = ReleasePhaseStep::ALL.iter().map(|step| step.as_str());
    let pass = PassStep::ALL.iter().map(|step| step.as_str());
    build.chain(phase).chain(pass).flat_map(|step| Side::ALL.map(|side| (step, side))).collect()
}

/// Where a life is to crash, and whether it did.
struct Plan {
    /// The points still to come: the step, the side, and how many passes of it to let go by.
    crashes: Mutex<Vec<(&'static str, Side, usize)>>,
    crashed: tokio::sync::Notify,
    count: AtomicUsize,
    /// Looks at the invariants: right behind a restart, and at rest.
    looks: [AtomicUsize; 2],
    passes: Mutex<HashMap<(String, bool), usize>>,
}

impl Plan {
    fn pass(&self, step: &str, side: Side) -> bool {
        *self.passes.lock().expect("a lock").entry((step.to_owned(), side == Side::BeforeEffect)).or_default() += 1;
        let mut crashes = self.crashes.lock().expect("a lock");
        let Some(first) = crashes.first_mut() else { return false };
        if first.0 != step || first.1 != side {
            return false;
        }
        if first.2 > 0 {
            first.2 -= 1;
            return false;
        }
        crashes.remove(0);
        self.count.fetch_add(1, Ordering::SeqCst);
        self.crashed.notify_one();
        true
    }
}

struct Life {
    world: Outside,
    core: Option<Core>,
    plan: Arc<Plan>,
    seed: u64,
    name: String,
    app: Option<AppScope>,
    promises: Promises,
    /// Whether there was a crash since everything was last seen at rest.
    unrested: bool,
}

/// How many passes of a point to let go by: what a life comes to all the time, it crashes at all along.
fn skipped(step: &str, seed: u64) -> usize {
    let often = ["place", "publish", "ensure", "write"].contains(&step);
    usize::try_from(if often { seed } else { seed % 2 }).expect("small")
}

impl Life {
    async fn begin(point: (&'static str, Side), seed: u64) -> Self {
        let all = points();
        let mut crashes = vec![(point.0, point.1, skipped(point.0, seed))];
        if seed % 4 >= 2 {
            let second = all[usize::try_from(seed * 7 + 3).expect("small") % all.len()];
            crashes.push((second.0, second.1, 0));
        }
        let plan = Arc::new(Plan {
            crashes: Mutex::new(crashes),
            crashed: tokio::sync::Notify::new(),
            count: AtomicUsize::new(0),
            looks: Default::default(),
            passes: Mutex::default(),
        });
        let (name, promises) = (format!("app-{seed}"), Promises::default());
        let mut life =
            Self { world: Outside::new(), core: None, plan, seed, name, app: None, promises, unrested: false };
        let fails = FakeScript::says("no luck\n").ends(BuildVerdict::Failed(BuildFailure::Buildpack(7)));
        life.world.builds.when_source_says("unbuildable", fails);
        life.start().await;
        life
    }

    async fn start(&mut self) {
        let points = CrashPoints::none();
        let plan = Arc::clone(&self.plan);
        points.set(move |step, side| plan.pass(step, side));
        self.core = Some(self.world.start(points).await);
    }

    fn core(&self) -> &Core {
        self.core.as_ref().expect("a server runs")
    }

    fn scope(&self) -> AppScope {
        self.app.clone().expect("the app was made")
    }

    /// What the app was promised.
    fn promised(&mut self) -> &mut Promised {
        let app = self.scope();
        self.promises.of(app.id())
    }

    /// Every breach of an invariant at this moment.
    async fn violations(&self, closely: Closely) -> Vec<Violation> {
        let seen = fakes::look(&self.world, &self.core().cx, &self.promises, closely).await;
        let at_rest = closely != Closely::Moving;
        self.plan.looks[usize::from(at_rest)].fetch_add(1, Ordering::SeqCst);
        check(&Look { seen: &seen, promises: &self.promises, at_rest })
    }

    /// Restarts the server when it has crashed, and looks at once at what holds always.
    async fn revive(&mut self) -> bool {
        let crashed = tokio::time::timeout(Duration::from_millis(1), self.plan.crashed.notified()).await.is_ok();
        if crashed {
            self.core.take().expect("a server ran").crash().await;
            self.start().await;
            self.unrested = true;
            let violations = self.violations(Closely::Moving).await;
            assert!(violations.is_empty(), "seed {}, behind a restart: {violations:#?}", self.seed);
        }
        crashed
    }

    /// Waits until `look` answers something, over crashes.
    async fn until<T>(&mut self, what: &str, mut look: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            self.revive().await;
            if let Some(found) = outside::task(look(self)).await {
                return found;
            }
            assert!(since.elapsed() < PATIENCE, "seed {}: it did not come to it: {what}", self.seed);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn rows(&self) -> Rows {
        let app = self.scope();
        let rows = outside::task(Rows::read(&self.core().cx.store, &app)).await;
        rows.expect("a look").expect("the app's rows")
    }

    async fn account(&self) -> Account {
        self.core().account().await
    }

    fn commit(&self, procfile: &str) -> String {
        self.core().commit(&self.scope(), procfile)
    }

    async fn accept(&self, commit: &str) -> Result<Build, OpError> {
        let source = BuildSource::Commit { commit: commit.to_owned(), branch: "main".to_owned() };
        let account = self.account().await;
        outside::task(accept_build(&self.core().cx, &self.scope(), &account, source)).await
    }

    /// Pushes a commit, again after every crash, until it is deployed.
    async fn push(&mut self, commit: &str) {
        let first = self.accept(commit).await.expect("the build is accepted");
        self.promised().pushed.insert(commit.to_owned());
        self.promised().builds.insert(first.id.clone());
        let since = Instant::now();
        loop {
            // Where the branch has moved, git itself says "Everything up-to-date" and asks for nothing.
            if self.revive().await && self.tip().await.as_deref() != Some(commit) {
                let again = self.accept(commit).await.expect("the build is accepted again");
                assert_eq!(again.id, first.id, "seed {}: a second build of one commit", self.seed);
            }
            let verdict = outside::task(build_verdict(&self.core().cx, &self.scope(), &first.id)).await;
            match verdict.expect("a look at the verdict") {
                Some(Verdict::Deployed) => return self.promised().push_deployed(commit),
                Some(Verdict::Declined(why)) => panic!("seed {}: declined: {why}", self.seed),
                None => {}
            }
            assert!(since.elapsed() < PATIENCE, "seed {}: the push did not end", self.seed);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Pushes what must fail, one behind the other, and waits until each is declined. Nothing else changes meanwhile.
    async fn push_in_vain(&mut self, commits: &[String]) {
        let seen = fakes::look(&self.world, &self.core().cx, &self.promises, Closely::Moving).await;
        let app = self.scope();
        self.promised().untouched = seen.standing(app.id());
        let mut builds: Vec<(BuildId, &String)> = Vec::new();
        for commit in commits {
            let build = self.accept(commit).await.expect("the build is accepted");
            self.promised().builds.insert(build.id.clone());
            builds.push((build.id, commit));
        }
        for (build, commit) in builds {
            let verdict = self.until("a failing push is declined", async |life| {
                build_verdict(&life.core().cx, &life.scope(), &build).await.ok()?
            });
            let verdict = verdict.await;
            assert!(matches!(verdict, Verdict::Declined(_)), "seed {}: {verdict:?}", self.seed);
            self.promised().push_declined(commit);
        }
    }

    /// Waits until everything that was asked for is true; behind a crash it is then held against the invariants.
    async fn at_rest(&mut self, formation: &[(&str, usize)]) {
        let wanted: BTreeMap<String, usize> = formation.iter().map(|(t, n)| ((*t).to_owned(), *n)).collect();
        self.until("at rest", async |life| {
            let (cx, app) = (&life.core().cx, life.scope());
            let mut uow = cx.store.read().await.ok()?;
            let row = uow.app(&app).await.ok()?;
            if row.settled_generation != row.generation {
                return None;
            }
            let jobs = uow.jobs(&app).await.ok()?;
            let services = uow.services(&app).await.ok()?;
            let current = uow.current_release(&app).await.ok()??.version;
            drop(uow);
            let observed = cx.runtime.observe(app.id()).await.ok()?;
            let mut up: BTreeMap<String, usize> = BTreeMap::new();
            for dyno in observed.dynos.iter().filter(|d| d.kind == DynoKind::Service) {
                if dyno.release != current || dyno.state != DynoState::Up {
                    return None;
                }
                *up.entry(dyno.name.process_type.to_string()).or_default() += 1;
            }
            let rested = jobs.iter().all(|job| matches!(job.state, JobState::Done | JobState::Failed))
                && services.iter().all(|service| service.state == RolloutState::Settled);
            (rested && up == wanted).then_some(())
        })
        .await;
        if self.unrested {
            self.rests(Closely::AtRest).await;
        }
    }

    /// Holds everything against the invariants, those included that take a moment to become true.
    async fn rests(&mut self, closely: Closely) {
        let since = Instant::now();
        loop {
            self.revive().await;
            let violations = self.violations(closely).await;
            if violations.is_empty() {
                self.unrested = false;
                return;
            }
            assert!(since.elapsed() < PATIENCE, "seed {}, at rest: {violations:#?}", self.seed);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// A build that was not superseded ran once, and no release but one was cut of it.
    async fn runs_once(&self) {
        let seed = self.seed;
        let rows = self.rows().await;
        for build in &rows.builds {
            let superseded = build.reason.as_ref().is_some_and(|reason| reason.contains("superseded"));
            assert_eq!(self.world.builds.runs(&build.id), usize::from(!superseded), "seed {seed}: runs of {build:?}");
            let releases = rows.releases.iter().filter(|release| release.build.as_ref() == Some(&build.id)).count();
            let cut = usize::from(build.status == BuildStatus::Succeeded);
            assert_eq!(releases, cut, "seed {seed}: releases of {build:?}");
        }
        assert!(self.world.dynos.most_starts() <= 1, "seed {seed}: no dyno is started twice");
    }

    async fn tip(&self) -> Option<String> {
        let app = self.scope();
        let row = outside::task(async {
            let branches = self.core().cx.store.read().await.ok()?.branches(&app).await.ok()?;
            branches.into_iter().find(|(name, _)| name == "main").map(|(_, commit)| commit)
        });
        row.await
    }

    fn serves(&self) -> bool {
        let app = self.scope();
        matches!(self.world.routes.route(&format!("{}.localhost", self.name)),
            Decision::Serve { app: owner, .. } if owner == *app.id())
    }
}

/// A whole life of an app, from its creation to its end.
async fn live(point: (&'static str, Side), seed: u64) -> Arc<Plan> {
    let mut life = Life::begin(point, seed).await;
    let with_phase = !seed.is_multiple_of(3) || ReleasePhaseStep::ALL.iter().any(|step| step.as_str() == point.0);
    let with_phase = with_phase || matches!(point.0, "run_release_phase" | "promote");
    let phase =
        if with_phase { "release: say count 1 of 3; sleep 10; say count 2 of 3; say count 3 of 3\n" } else { "" };
    let account = life.account().await;
    let canary = format!("c4n4ry-{seed}-do-not-tell");
    life.promises.canaries.push(canary.clone());

    if seed.is_multiple_of(4) {
        let other = format!("other-{seed}");
        let scope = life.core().create_app(&other).await;
        life.promises.app_made(scope, &other);
    }
    let scope = life.core().create_app(&life.name).await;
    life.app = Some(scope.clone());
    life.promises.app_made(scope.clone(), &life.name);
    life.promised().counts = [("web".to_owned(), 2), ("worker".to_owned(), 2)].into();
    life.core().cx.repositories.ensure(scope.id()).await.expect("a repository");
    life.until("the empty app settles", async |life| {
        let row = life.core().cx.store.read().await.ok()?.app(&life.scope()).await.ok()?;
        (row.settled_generation == row.generation).then_some(())
    })
    .await;

    let counts = "say count 1 of 2; say count 2 of 2";
    let first = life.commit(&format!("web: {counts}; serve\nworker: {counts}; worker\n{phase}"));
    life.push(&first).await;
    assert_eq!(life.tip().await.as_deref(), Some(first.as_str()), "seed {seed}: the branch moved");
    life.until("a push that succeeded serves", async |life| life.serves().then_some(())).await;
    life.at_rest(&[("web", 1)]).await;

    let worker: ProcessType = "worker".parse().expect("a type");
    let update = FormationUpdate { process_type: worker, quantity: Some(QuantityChange::Set(2)), size: None };
    outside::task(scale_formation(&life.core().cx, &scope, &account, &[update])).await.expect("scaled");
    life.promised().formation.insert("worker".to_owned(), 2);
    life.at_rest(&[("web", 1), ("worker", 2)]).await;

    let changes = [("GREETING", format!("hello-{seed}")), ("SECRET", canary)];
    let set = changes.clone().map(|(key, value)| (key.parse().expect("a key"), Some(value.into())));
    let (_, release) = outside::task(set_config(&life.core().cx, &scope, &account, &set)).await.expect("set");
    let version = release.expect("a release").version;
    life.promised().versions.insert(version.0);
    life.promised().config.extend(changes.map(|(key, value)| (key.to_owned(), Some(value))));
    life.until("the config's release is current", async |life| {
        let current = life.core().cx.store.read().await.ok()?.current_release(&life.scope()).await.ok()??;
        (current.version == version).then_some(())
    })
    .await;
    life.at_rest(&[("web", 1), ("worker", 2)]).await;

    if seed % 2 == 1 {
        // With a build that fails, two more wait: the second takes the place of the first.
        let builds = ["a", "b", "c"].map(|what| life.commit(&format!("web: serve\nbad: unbuildable {what}\n")));
        let phase = [life.commit("web: serve\nrelease: say count 1 of 1; exit 3\n")];
        let commits: &[String] = if seed % 4 == 1 { &builds } else { &phase };
        life.push_in_vain(commits).await;
        assert_eq!(life.tip().await.as_deref(), Some(first.as_str()), "seed {seed}: the branch stays");
        life.at_rest(&[("web", 1), ("worker", 2)]).await;
        life.promised().untouched = None;
    }

    if seed.is_multiple_of(2) && with_phase {
        // The platform starts no release command for a while: the build's job gives up, and so does that of a change.
        life.world.dynos.refuse_commands_with("count 1 of 3", "no luck");
        let refused = [life.commit(&format!("web: serve\n{phase}"))];
        life.push_in_vain(&refused).await;
        let change = [("LATER".parse().expect("a key"), Some("x".into()))];
        let (_, release) = outside::task(set_config(&life.core().cx, &scope, &account, &change)).await.expect("set");
        let version = release.expect("a release").version;
        life.promised().versions.insert(version.0);
        life.promised().config.insert("LATER".to_owned(), Some("x".to_owned()));
        life.until("the change's release has failed", async |life| {
            let release =
                life.core().cx.store.read().await.ok()?.release_by_version(&life.scope(), version).await.ok()??;
            (release.status == ReleaseStatus::Failed).then_some(())
        })
        .await;
        life.at_rest(&[("web", 1), ("worker", 2)]).await;
        life.promised().untouched = None;
        life.world.dynos.start_commands_again();
    }

    let request = RunRequest {
        command: format!("{counts}; exit 3"),
        env: paas_domain::ConfigVars::new(),
        attach: false,
        tty: false,
        size: None,
        time_to_live_s: None,
        process_type: None,
    };
    let (dyno, _) = outside::task(run_dyno(&life.core().cx, &scope, &account, request)).await.expect("accepted");
    life.promised().one_offs.insert(dyno.id.clone(), (dyno.name.clone(), true));
    let exit = life
        .until("the one-off dyno ends", async |life| {
            let row = life.core().cx.store.read().await.ok()?.dyno(&life.scope(), &dyno.id).await.ok()?;
            row.ended_at.map(|_| row.exit_code)
        })
        .await;
    assert_eq!((exit, life.world.dynos.starts(&dyno.id)), (Some(3), 1), "seed {seed}: it ran, once");

    let before = life.core().cx.runtime.observe(scope.id()).await.expect("a look");
    let web = before.dynos.into_iter().find(|d| d.name.process_type.is_web()).expect("a web dyno");
    let which = Which::One(web.name.clone());
    outside::task(restart_dynos(&life.core().cx, &scope, &account, &which)).await.expect("restarted");
    life.until("the dyno is another one", async |life| {
        let seen = life.core().cx.runtime.observe(life.scope().id()).await.ok()?;
        let other =
            seen.dynos.iter().any(|d| d.name.process_type.is_web() && d.id != web.id && d.state == DynoState::Up);
        other.then_some(())
    })
    .await;
    life.at_rest(&[("web", 1), ("worker", 2)]).await;

    let second = life.commit(&format!("web: {counts}; sleep 5; serve\n{phase}"));
    life.push(&second).await;
    assert_eq!(life.tip().await.as_deref(), Some(second.as_str()), "seed {seed}: the branch moved");
    life.at_rest(&[("web", 1)]).await;

    life.rests(Closely::AtRest).await;
    life.runs_once().await;
    let gone = outside::task(destroy_app(&life.core().cx, &scope)).await;
    assert!(gone.is_ok(), "seed {seed}: {gone:?}");
    life.promised().destroyed = true;
    life.until("the last row goes", async |life| {
        let row = life.core().cx.store.read().await.ok()?.app(&life.scope()).await;
        row.is_err().then_some(())
    })
    .await;
    life.rests(Closely::AtTheEnd).await;
    assert_eq!(life.world.leftovers(), Vec::<String>::new(), "{point:?} seed {seed}: nothing is left outside");
    while life.revive().await {
        life.rests(Closely::AtTheEnd).await;
    }
    assert!(!life.unrested, "{point:?} seed {seed}: a crash behind which nothing was checked at rest");
    let plan = Arc::clone(&life.plan);
    life.core.take().expect("a server runs").stop().await;
    plan
}

#[test]
fn every_step_survives_a_crash_on_either_side_of_its_effect() {
    let mut waiting: Vec<_> =
        points().into_iter().flat_map(|point| (0..SEEDS).map(move |seed| (point, seed))).collect();
    waiting.reverse();
    let waiting = Mutex::new(waiting);
    let (crashes, runs, looks) = (AtomicUsize::new(0), AtomicUsize::new(0), [0; 2].map(AtomicUsize::new));
    let passed: Mutex<HashMap<(&str, bool), usize>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                loop {
                    let Some((point, seed)) = waiting.lock().expect("a lock").pop() else { return };
                    let plan = runtime.block_on(live(point, seed));
                    runs.fetch_add(1, Ordering::SeqCst);
                    crashes.fetch_add(plan.count.load(Ordering::SeqCst), Ordering::SeqCst);
                    for (all, of_life) in looks.iter().zip(&plan.looks) {
                        all.fetch_add(of_life.load(Ordering::SeqCst), Ordering::SeqCst);
                    }
                    let key = (point.0.to_owned(), point.1 == Side::BeforeEffect);
                    let passes = plan.passes.lock().expect("a lock").get(&key).copied().unwrap_or(0);
                    *passed.lock().expect("a lock").entry((point.0, key.1)).or_default() += passes;
                }
            });
        }
    });
    let passed = passed.into_inner().expect("a lock");
    let (crashes, runs) = (crashes.into_inner(), runs.into_inner());
    for (step, side) in points() {
        let count = passed.get(&(step, side == Side::BeforeEffect)).copied().unwrap_or(0);
        assert!(count > 0, "no life passes {step} {side:?}: the step has no test");
    }
    let [behind, at_rest] = looks.map(AtomicUsize::into_inner);
    println!(
        "{} points, {runs} lives, {crashes} crashes, {behind} restarts with a look right behind each, {at_rest} looks at rest, 0 violations",
        points().len()
    );
}
