//! Kill -9 of the server at every durable step, on each platform, with traffic on another app.
//!
//! At each step the server kills itself before the effect, and again between the effect and the transaction that
//! writes its result. It is started again, and what was asked for is asked for again; in the end there is exactly
//! one release of each commit and it serves, and the other app answered every request meanwhile. Behind every kill the
//! invariants are checked twice: at once after the restart, and when everything has come to rest.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use paas_server::crash_point::Side;
use paas_server::jobs::{BuildStep, ReleasePhaseStep};
use paas_server::reconcile::PassStep;
use paas_tests::invariants::eyes::Eyes;
use paas_tests::invariants::{Look, Promised, Promises, check};
use paas_tests::on_each_platform;
use paas_tests::platform::{Kind, Method, Platform, Repository, until};

on_each_platform!(a_kill_at_every_step_loses_nothing);

/// A config var's value that may be seen nowhere.
const CANARY: &str = "c4n4ry-7d1e5-do-not-tell";
/// Perl that counts its lines, under a word that each start has for itself.
const COUNT: &str = "my $run = join '-', $$, time, int rand 1e9; print \"run $run count $_ of 3\\n\" for 1 .. 3;\n";
/// Requests per second on the app that nothing is done to.
const RATE: u32 = 50;

/// How long it may take from a kill until all is as it was asked for.
fn soon(platform: &Platform) -> Duration {
    platform.soon() * 2
}

/// What makes the server come to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// A push of a new commit, whose release has a release phase.
    Push,
    /// A push of a new commit whose release phase fails.
    PushInVain,
    /// A push of a new commit whose image goes from the engine before its release phase.
    PushLost,
    /// `releases:retry` of that.
    RetryLost,
    /// `config:set` on an app with a release phase.
    SetConfig,
    /// `run:detached`.
    Run,
    /// `ps:stop` of a one-off dyno.
    Stop,
    /// A push of a commit without one of the process types.
    DropType,
    /// `ps:restart` of the whole app.
    Restart,
    /// `apps:destroy`.
    Destroy,
}

/// Every step of the platform and what leads to it. A step that is new in one of the enums is here by itself, and
/// does not compile where it needs a deed of its own.
fn steps(kind: Kind) -> Vec<(&'static str, Deed)> {
    let build = BuildStep::ALL.iter().filter(|step| **step != BuildStep::GiveUp);
    let build = build.map(|step| (step.as_str(), Deed::Push));
    let phase = ReleasePhaseStep::ALL.iter().filter(|step| **step != ReleasePhaseStep::GiveUp);
    let phase = phase.map(|step| (step.as_str(), Deed::SetConfig));
    let pass = PassStep::ALL.iter().map(|step| {
        let deed = match step {
            PassStep::Place | PassStep::Publish | PassStep::Ensure | PassStep::Write => Deed::Push,
            PassStep::StartOneOffs => Deed::Run,
            PassStep::StopDynos => Deed::Stop,
            PassStep::RemoveTypes => Deed::DropType,
            PassStep::Destroy => Deed::Destroy,
        };
        (step.as_str(), deed)
    });
    // First: a change of config behind them would carry their code on.
    let mut steps = vec![(BuildStep::Promote.as_str(), Deed::PushInVain)];
    if kind == Kind::Local {
        // ECR keeps what it has: there the jobs that give up are crashed on the fakes of its drivers.
        steps.push((BuildStep::GiveUp.as_str(), Deed::PushLost));
        steps.push((ReleasePhaseStep::GiveUp.as_str(), Deed::RetryLost));
    }
    steps.extend(build.chain(phase).chain(pass));
    // Behind a push, the first pass is the one that its release command calls for, which has nothing to do. Here it is a rollout's.
    let rollout = [PassStep::Place, PassStep::Publish, PassStep::Ensure, PassStep::Write];
    let destroy = steps.pop();
    steps.extend(rollout.map(|step| (step.as_str(), Deed::Restart)));
    steps.extend(destroy);
    steps
}

/// Where the server kills itself at the step of this number. On AWS, where everything takes several times as long, once at each step,
/// on either side by turns; crashes on the fakes of its drivers are on both.
fn sides(kind: Kind, number: usize) -> Vec<Side> {
    match kind {
        Kind::Local => Side::ALL.to_vec(),
        Kind::Aws => vec![Side::ALL[number % 2]],
    }
}

/// The app that everything is done to.
struct Victim<'a> {
    platform: &'a Platform,
    eyes: &'a Eyes<'a>,
    promises: Promises,
    app: Repository<'a>,
    name: String,
    round: usize,
}

fn a_kill_at_every_step_loses_nothing(kind: Kind) {
    let platform = Platform::on(kind);
    let plan = platform.home().join("crash-at");
    platform.kill_server();
    let crashing = [("PAAS_CRASH_AT", plan.to_str().expect("a path"))];
    platform.start_server(&crashing);

    let witness = platform.repository("procfile-only");
    witness.paas("create witness").done();
    witness.push().done();
    witness.paas("scale web=2").done();
    platform.are_up("witness", "web", 2);
    let eyes = Eyes::open(&platform);
    let mut promises = Promises::default();
    promises.canaries.push(CANARY.to_owned());
    let scope = eyes.scope("witness");
    promises.app_made(scope.clone(), "witness");
    let promised = promises.of(scope.id());
    promised.says = Some("Hello from procfile-only".to_owned());
    promised.formation.insert("web".to_owned(), 2);
    let mut victim = Victim::new(&platform, &eyes, promises, 0);
    victim.push(None);

    let traffic = Traffic::default();
    std::thread::scope(|threads| {
        let running = threads.spawn(|| traffic.run(&platform));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (number, (step, deed)) in steps(kind).into_iter().enumerate() {
                for side in sides(kind, number) {
                    let since = Instant::now();
                    let crash = Crash { at: format!("{step}:{}", side.as_str()), plan: &plan, crashing: &crashing };
                    victim.suffer(deed, &crash);
                    victim.rests(&crash);
                    eprintln!("{:<36} {deed:?} {:.1?}", crash.at, since.elapsed());
                }
            }
        }));
        traffic.stop.store(true, Ordering::Relaxed);
        running.join().expect("the traffic");
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
    let (sent, failed) = (traffic.sent.load(Ordering::Relaxed), traffic.failed.load(Ordering::Relaxed));
    eprintln!("{sent} requests on the other app, {failed} failed");
    assert_eq!(failed, 0, "of {sent} requests on the other app");
    assert!(sent > 500, "only {sent} requests");
    assert_eq!(platform.releases("witness").len(), 3);
    drop(victim);
    drop(eyes);
    platform.finish();
}

/// Steady requests on the app `witness`, each on a connection of its own.
#[derive(Default)]
struct Traffic {
    stop: AtomicBool,
    sent: AtomicUsize,
    failed: AtomicUsize,
}

impl Traffic {
    fn run(&self, platform: &Platform) {
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            self.sent.fetch_add(1, Ordering::Relaxed);
            match platform.try_get("witness", "/") {
                Ok(answer) if answer.status == 200 && answer.body.contains("Hello from procfile-only") => {}
                other => {
                    eprintln!("a request on the other app failed: {other:?}");
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            next += Duration::from_secs(1) / RATE;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }
}

/// One planned end of the server.
struct Crash<'a> {
    at: String,
    plan: &'a std::path::Path,
    crashing: &'a [(&'a str, &'a str)],
}

impl Crash<'_> {
    fn arm(&self) {
        std::fs::write(self.plan, &self.at).expect("a plan");
    }

    /// The server has killed itself there.
    fn ended(&self, platform: &Platform) {
        platform.server_ended(soon(platform));
        assert!(!self.plan.exists(), "the server ended elsewhere than at {}", self.at);
    }

    /// The server has killed itself there; starts it again.
    fn happened(&self, platform: &Platform) {
        self.ended(platform);
        platform.start_server(self.crashing);
    }
}

impl<'a> Victim<'a> {
    fn new(platform: &'a Platform, eyes: &'a Eyes<'a>, mut promises: Promises, round: usize) -> Self {
        let app = platform.repository("release-phase");
        app.write("Procfile", "web: perl serve.pl\nrelease: perl release.pl\nworker: perl work.pl\n");
        app.write("release.pl", &format!("$| = 1;\n{COUNT}"));
        app.write("work.pl", &format!("$| = 1;\n{COUNT}sleep 1000;\n"));
        let name = format!("victim{round}");
        app.paas(&format!("create {name}")).done();
        app.paas(&format!("config:set SECRET={CANARY} -a {name}")).done();
        let scope = eyes.scope(&name);
        promises.app_made(scope.clone(), &name);
        let promised = promises.of(scope.id());
        promised.says = Some(format!(" of {name}."));
        promised.counts = [("web".to_owned(), 3), ("worker".to_owned(), 3)].into();
        promised.config.insert("SECRET".to_owned(), Some(CANARY.to_owned()));
        Self { platform, eyes, promises, app, name, round }
    }

    fn promised(&mut self) -> &mut Promised {
        self.promises.living(&self.name).expect("the app lives")
    }

    /// The server has killed itself and runs again: what holds always is looked at once.
    fn killed(&mut self, crash: &Crash<'_>) {
        crash.happened(self.platform);
        self.looks(crash);
    }

    fn looks(&self, crash: &Crash<'_>) {
        let seen = self.eyes.look(&self.promises);
        let violations = check(&Look { seen: &seen, promises: &self.promises, at_rest: false });
        assert!(violations.is_empty(), "behind the restart at {}: {violations:#?}", crash.at);
    }

    /// Everything was asked for and answered: it becomes true, with all that takes a moment.
    fn rests(&mut self, crash: &Crash<'_>) {
        let since = Instant::now();
        let mut before = Vec::new();
        loop {
            let seen = self.eyes.look(&self.promises);
            let violations = check(&Look { seen: &seen, promises: &self.promises, at_rest: true });
            if violations.is_empty() {
                break;
            }
            assert!(since.elapsed() < soon(self.platform), "at rest behind {}: {violations:#?}", crash.at);
            if violations != before {
                eprintln!("{:.1?} behind {}: {violations:?}", since.elapsed(), crash.at);
                before = violations;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Some(promised) = self.promises.living(&self.name) {
            promised.untouched = None;
        }
    }

    fn suffer(&mut self, deed: Deed, crash: &Crash<'_>) {
        match deed {
            Deed::Push => self.push(Some(crash)),
            Deed::PushInVain => self.push_in_vain(crash),
            Deed::PushLost => self.push_lost(crash),
            Deed::RetryLost => self.retry_lost(crash),
            Deed::SetConfig => self.set_config(crash),
            Deed::Run => self.run(crash),
            Deed::Stop => self.stop(crash),
            Deed::DropType => self.drop_type(crash),
            Deed::Restart => self.restart(crash),
            Deed::Destroy => self.destroy(crash),
        }
    }

    /// A new commit.
    fn change(&mut self) -> (String, String) {
        self.round += 1;
        let text = format!("round {} of {}.", self.round, self.name);
        let serve = include_str!("../fixtures/apps/release-phase/serve.pl");
        let serve =
            serve.replace("release-phase v1", &text).replace("print \"listening", &format!("{COUNT}print \"listening"));
        self.app.write("serve.pl", &serve);
        let commit = self.app.commit(&text);
        (text, commit)
    }

    fn push(&mut self, crash: Option<&Crash<'_>>) {
        let (text, commit) = self.change();
        self.promised().pushed.insert(commit.clone());
        if let Some(crash) = crash {
            crash.arm();
            self.app.push();
            self.killed(crash);
        }
        self.app.push().done();
        self.promised().push_deployed(&commit);
        self.is_released_once(&commit, &text);
    }

    fn push_in_vain(&mut self, crash: &Crash<'_>) {
        self.is_to_stay();
        let tip = self.app.git("ls-remote aws refs/heads/main").done().stdout;
        self.app.write("release.pl", &format!("$| = 1;\n{COUNT}exit 3;\n"));
        let (_, commit) = self.change();
        crash.arm();
        self.app.push();
        self.killed(crash);
        self.app.push().exits(1).tells("Release command failed (exit status 3)");
        self.promised().push_declined(&commit);
        assert_eq!(self.app.git("ls-remote aws refs/heads/main").done().stdout, tip, "the branch stays");
        self.app.write("release.pl", &format!("$| = 1;\n{COUNT}"));
    }

    /// What serves is to serve on, whatever comes of what is done next.
    fn is_to_stay(&mut self) {
        let before = self.eyes.look(&self.promises);
        let scope = self.eyes.scope(&self.name);
        self.promised().untouched = before.standing(scope.id());
    }

    /// The server dies before the release phase, and meanwhile somebody removes the image: the job gives up.
    fn push_lost(&mut self, crash: &Crash<'_>) {
        let id = self.platform.app_id(&self.name);
        self.is_to_stay();
        let tip = self.app.git("ls-remote aws refs/heads/main").done().stdout;
        let kept = self.platform.images_of(&id);
        let (_, commit) = self.change();
        let at = format!("{}:{}", BuildStep::RunReleasePhase.as_str(), Side::BeforeEffect.as_str());
        let earlier = Crash { at, ..*crash };
        earlier.arm();
        self.app.push();
        earlier.ended(self.platform);
        let lost: Vec<String> =
            self.platform.images_of(&id).into_iter().filter(|image| !kept.contains(image)).collect();
        assert_eq!(lost.len(), 1, "the commit's image: {lost:?}");
        self.platform.remove_image(&lost[0]);
        crash.arm();
        // Its job gives up as soon as the server runs.
        self.platform.start_server_to_end(crash.crashing);
        self.killed(crash);
        self.declined_release(&format!("Deploy {}", &commit[..8]));
        self.promised().push_declined(&commit);
        assert_eq!(self.app.git("ls-remote aws refs/heads/main").done().stdout, tip, "the branch stays");
    }

    /// The code of the release that failed last, whose image is gone, is asked for again.
    fn retry_lost(&mut self, crash: &Crash<'_>) {
        self.is_to_stay();
        let releases = self.platform.releases(&self.name);
        let failed = releases.iter().rfind(|release| release["status"] == "failed").expect("a failed release");
        let description = format!("Retry {}", self.round);
        let body = serde_json::json!({"slug": failed["slug"]["id"], "description": description});
        self.round += 1;
        crash.arm();
        let _ = self.platform.try_api(Method::Post, &format!("/apps/{}/releases", self.name), Some(&body));
        self.killed(crash);
        self.declined_release(&description);
    }

    /// Waits until the release of this description has failed; there is one.
    fn declined_release(&self, description: &str) {
        until("the release has failed", soon(self.platform), || {
            let releases = self.platform.releases(&self.name);
            let of_it: Vec<_> = releases.iter().filter(|release| release["description"] == *description).collect();
            assert!(of_it.len() == 1, "{description}: {releases:#?}");
            (of_it[0]["status"] == "failed").then_some(())
        });
    }

    fn is_released_once(&self, commit: &str, text: &str) {
        self.platform.serves(&self.name, text, soon(self.platform));
        let deploy = format!("Deploy {}", &commit[..8]);
        let releases = self.platform.releases(&self.name);
        let of_commit: Vec<_> = releases.iter().filter(|release| release["description"] == deploy.as_str()).collect();
        assert!(of_commit.len() == 1 && of_commit[0]["status"] == "succeeded", "{of_commit:#?}");
        let versions: Vec<_> = releases.iter().filter_map(|release| release["version"].as_u64()).collect();
        assert!(versions.iter().zip(1..).all(|(a, b)| *a == b), "versions are dense: {versions:?}");
        let tip = self.app.git("ls-remote aws refs/heads/main").done().stdout;
        assert!(tip.starts_with(commit), "the branch names {tip}, and {commit} serves");
    }

    fn set_config(&mut self, crash: &Crash<'_>) {
        self.round += 1;
        let greeting = format!("hello {}", self.round);
        let before = self.platform.releases(&self.name).len();
        self.promised().config.remove("GREETING");
        crash.arm();
        let body = serde_json::json!({"GREETING": greeting});
        // The answer may be cut off by the end; that the row is there shows after the restart.
        let answer = self.platform.try_api(Method::Patch, &format!("/apps/{}/config-vars", self.name), Some(&body));
        crash.happened(self.platform);
        if answer.is_ok_and(|answer| answer.status == 200) {
            self.promised().config.insert("GREETING".to_owned(), Some(greeting.clone()));
        }
        self.looks(crash);
        self.platform.serves(&self.name, &format!("GREETING={greeting}"), soon(self.platform));
        let releases = self.platform.releases(&self.name);
        assert_eq!(releases.len(), before + 1);
        assert_eq!(releases[before]["status"], "succeeded");
    }

    fn run(&mut self, crash: &Crash<'_>) {
        self.round += 1;
        let word = format!("once-{}", self.round);
        crash.arm();
        let count = "t=$(date +%s%N); for n in 1 2 3; do echo \"run $t count $n of 3\"; done";
        let body = serde_json::json!({"attach": false, "command": format!("{count}; echo said {word}")});
        let path = format!("/apps/{}/dynos", self.name);
        let answer = self.platform.try_api(Method::Post, &path, Some(&body));
        crash.happened(self.platform);
        match answer {
            Ok(answer) => self.accepted(&answer.json(), true),
            // What became of it, one look says.
            Err(_) => self.platform.dynos(&self.name, "run", "").iter().for_each(|dyno| self.accepted(dyno, true)),
        }
        self.looks(crash);
        let said = |lines: &str| lines.lines().filter(|line| line.ends_with(&format!(": said {word}"))).count();
        let logs = || self.app.paas(&format!("logs -n 1500 -a {}", self.name)).done().stdout;
        until("the one-off dyno ran", soon(self.platform), || (said(&logs()) > 0).then_some(()));
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(said(&logs()), 1, "a one-off dyno runs once");
    }

    /// A one-off dyno was accepted.
    fn accepted(&mut self, dyno: &serde_json::Value, counts: bool) {
        let text = |field: &str| dyno[field].as_str().unwrap_or_else(|| panic!("no dyno: {dyno}"));
        let (id, name) = (text("id").parse().expect("an id"), text("name").parse().expect("a name"));
        self.promised().one_offs.entry(id).or_insert((name, counts));
    }

    fn stop(&mut self, crash: &Crash<'_>) {
        let body = serde_json::json!({"attach": false, "command": "sleep 600"});
        let dyno = self.platform.api(Method::Post, &format!("/apps/{}/dynos", self.name), Some(&body)).json();
        self.accepted(&dyno, false);
        let dyno = dyno["name"].as_str().expect("a dyno").to_owned();
        until("the one-off dyno is up", soon(self.platform), || {
            self.platform.dynos(&self.name, "run", "up").iter().any(|up| up["name"] == dyno.as_str()).then_some(())
        });
        crash.arm();
        let _ = self.platform.try_api(Method::Post, &format!("/apps/{}/dynos/{dyno}/actions/stop", self.name), None);
        self.killed(crash);
        until("the one-off dyno is gone", soon(self.platform), || {
            let dynos = self.platform.api(Method::Get, &format!("/apps/{}/dynos", self.name), None).body;
            (!dynos.contains(&dyno)).then_some(())
        });
    }

    fn drop_type(&mut self, crash: &Crash<'_>) {
        let procfile = "web: perl serve.pl\nrelease: perl release.pl\n";
        self.app.write("Procfile", &format!("{procfile}worker: perl work.pl\n"));
        self.push(None);
        self.app.paas(&format!("scale worker=1 -a {}", self.name)).done();
        self.promised().formation.insert("worker".to_owned(), 1);
        self.platform.are_up(&self.name, "worker", 1);
        self.app.write("Procfile", procfile);
        self.push(Some(crash));
        until("no worker is left", soon(self.platform), || {
            let dynos = self.platform.api(Method::Get, &format!("/apps/{}/dynos", self.name), None).body;
            (!dynos.contains("worker.")).then_some(())
        });
    }

    fn restart(&mut self, crash: &Crash<'_>) {
        let before = self.platform.dyno_ids(&self.name, "web");
        crash.arm();
        // Its row is there before the pass that ends here begins.
        let _ = self.platform.try_api(Method::Delete, &format!("/apps/{}/dynos", self.name), None);
        self.killed(crash);
        self.platform.have_restarted(&self.name, "web", &before);
    }

    fn destroy(&mut self, crash: &Crash<'_>) {
        let id = self.platform.app_id(&self.name);
        crash.arm();
        // Whether it was answered or not: where it kills itself, the app is destroyed.
        self.promised().destroyed = true;
        let _ = self.platform.try_api(Method::Delete, &format!("/apps/{}", self.name), None);
        self.killed(crash);
        self.platform.app_is_gone(&id);
        *self = Self::new(self.platform, self.eyes, std::mem::take(&mut self.promises), self.round + 1);
        self.push(None);
    }
}
