//! What is refused for good, on fakes that refuse: it holds up nothing but itself, and its cause reaches the app.

use paas_domain::{ConfigVars, DynoState, ProcessType, QuantityChange, RolloutState};
use paas_ports::fake::ingress::Decision;
use paas_ports::outside;
use paas_server::crash_point::CrashPoints;
use paas_server::ops::accept_build::{BuildSource, Verdict, accept_build, build_verdict};
use paas_server::ops::run_dyno::{RunRequest, run_dyno};
use paas_server::ops::scale_formation::{FormationUpdate, scale_formation};
use paas_server::ops::update_app::{AppChange, update_app};
use paas_store::{AppScope, Service};
use paas_tests::core_world::{Core, Outside};

struct World {
    outside: Outside,
    core: Core,
    app: AppScope,
}

impl World {
    async fn start() -> Self {
        let outside = Outside::new();
        let core = outside.start(CrashPoints::none()).await;
        let app = core.create_app("refused").await;
        core.cx.repositories.ensure(app.id()).await.expect("a repository");
        Self { outside, core, app }
    }

    async fn push(&self, procfile: &str) -> Verdict {
        let commit = self.core.commit(&self.app, procfile);
        let source = BuildSource::Commit { commit, branch: "main".to_owned() };
        let account = self.core.account().await;
        let build = outside::task(accept_build(&self.core.cx, &self.app, &account, source)).await.expect("accepted");
        self.core.until("a verdict", async |cx| build_verdict(cx, &self.app, &build.id).await.expect("a look")).await
    }

    async fn scale(&self, process_type: &str, to: u16) {
        let process_type: ProcessType = process_type.parse().expect("a type");
        let update = FormationUpdate { process_type, quantity: Some(QuantityChange::Set(to)), size: None };
        let account = self.core.account().await;
        outside::task(scale_formation(&self.core.cx, &self.app, &account, &[update])).await.expect("scaled");
    }

    async fn maintenance(&self, on: bool) {
        let change = AppChange { maintenance: Some(on), ..AppChange::default() };
        outside::task(update_app(&self.core.cx, &self.app, &change)).await.expect("changed");
    }

    async fn up(&self, process_type: &str, count: usize) {
        let what = format!("{count} of {process_type} are up");
        let all = async |cx: &paas_server::cx::Cx| {
            let dynos = cx.runtime.observe(self.app.id()).await.expect("a look").dynos;
            let of_type = dynos.iter().filter(|dyno| dyno.name.process_type.as_str() == process_type);
            (of_type.filter(|dyno| dyno.state == DynoState::Up).count() == count).then_some(())
        };
        self.core.until(&what, all).await;
    }

    async fn settled(&self) {
        let settled = async |cx: &paas_server::cx::Cx| {
            let app = cx.store.read().await.expect("a look").app(&self.app).await.expect("the app");
            (app.settled_generation == app.generation).then_some(())
        };
        self.core.until("the wish is true", settled).await;
    }

    async fn service(&self, process_type: &str, looks: impl Fn(&Service) -> bool) -> Service {
        let row = async |cx: &paas_server::cx::Cx| {
            let rows = cx.store.read().await.expect("a look").services(&self.app).await.expect("rows");
            rows.into_iter().find(|row| row.process_type.as_str() == process_type && looks(row))
        };
        self.core.until(&format!("the rollout of {process_type}"), row).await
    }

    /// How often the app's log says this cause.
    fn told(&self, cause: &str) -> usize {
        let said = format!("Error: {cause}");
        self.outside.logs.lines(self.app.id()).iter().filter(|line| line.message == said).count()
    }

    async fn is_told(&self, cause: &str, times: usize) {
        self.core.until(&format!("{cause:?} is told"), async |_| (self.told(cause) == times).then_some(())).await;
    }

    /// Waits until so many more calls of the ingress were refused.
    async fn refused_again(&self, method: &'static str, times: usize) {
        let before = self.outside.routes.refusals(method);
        let more =
            async |_: &paas_server::cx::Cx| (self.outside.routes.refusals(method) >= before + times).then_some(());
        self.core.until("it is tried again", more).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_route_holds_up_nothing_else() {
    let world = World::start().await;
    assert_eq!(world.push("web: serve\nworker: worker\n").await, Verdict::Deployed);
    world.settled().await;
    let cause = "ingress publish: that host is none";
    world.outside.routes.refuse("publish", "that host is none");
    world.maintenance(true).await;
    world.is_told(cause, 1).await;
    // Tried again and again, told once.
    world.refused_again("publish", 5).await;
    assert_eq!(world.told(cause), 1);

    // A new wish is told of it once more, and is true all the same.
    world.scale("worker", 2).await;
    world.up("worker", 2).await;
    world.is_told(cause, 2).await;
    let request = RunRequest {
        time_to_live_s: None,
        command: "exit 3".to_owned(),
        env: ConfigVars::new(),
        attach: false,
        tty: false,
        size: None,
        process_type: None,
    };
    let account = world.core.account().await;
    let (dyno, _) = outside::task(run_dyno(&world.core.cx, &world.app, &account, request)).await.expect("accepted");
    let exit = async |cx: &paas_server::cx::Cx| {
        let row = cx.store.read().await.expect("a look").dyno(&world.app, &dyno.id).await.expect("its row");
        row.ended_at.map(|_| row.exit_code)
    };
    assert_eq!(world.core.until("the one-off dyno ends", exit).await, Some(3));
    // What was routed before is routed still: a new release comes to serve.
    assert_eq!(world.push("web: serve # v2\nworker: worker\n").await, Verdict::Deployed);

    world.outside.routes.allow("publish");
    world.settled().await;
    assert_eq!(world.outside.routes.route("refused.localhost"), Decision::Maintenance(world.app.id().clone()));
    let before = world.told(cause);
    world.maintenance(false).await;
    world.settled().await;
    assert_eq!(world.told(cause), before, "what is mended is not told");
    // Refused once more, it is news.
    world.outside.routes.refuse("publish", "that host is none");
    world.maintenance(true).await;
    world.is_told(cause, before + 1).await;
    world.core.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_release_that_no_host_leads_to_is_declined_with_the_cause() {
    for method in ["publish", "place"] {
        let world = World::start().await;
        world.settled().await;
        world.outside.routes.refuse(method, "the quota of rules is used up");
        let cause = format!("ingress {method}: the quota of rules is used up");
        match world.push("web: serve\nworker: worker\n").await {
            Verdict::Declined(why) => assert_eq!(why, cause),
            Verdict::Deployed => panic!("no host leads to it"),
        }
        world.is_told(&cause, world.told(&cause).max(1)).await;
        // Workers need no host.
        world.scale("worker", 1).await;
        world.up("worker", 1).await;
        assert_eq!(world.service("web", |_| true).await.serving_release, None);
        world.outside.routes.allow(method);
        let web = world.service("web", |row| row.state == RolloutState::Settled).await;
        assert_eq!((web.serving_release, web.reason), (web.target_release, None));
        assert!(matches!(world.outside.routes.route("refused.localhost"), Decision::Serve { .. }));
        world.core.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_change_of_what_serves_is_told() {
    let world = World::start().await;
    assert_eq!(world.push("web: serve\nworker: worker\n").await, Verdict::Deployed);
    world.settled().await;
    world.outside.dynos.refuse("ensure", "not authorized to perform: ecs:UpdateService");
    world.scale("web", 2).await;
    let cause = "ensure: not authorized to perform: ecs:UpdateService";
    let web = world.service("web", |row| row.state == RolloutState::Failed).await;
    assert_eq!(web.reason.as_deref(), Some(cause));
    assert_eq!(web.serving_release, web.target_release, "it serves all the same");
    world.is_told(cause, 1).await;
    assert!(matches!(world.outside.routes.route("refused.localhost"), Decision::Serve { .. }));
    world.outside.dynos.allow("ensure");
    world.up("web", 2).await;
    let web = world.service("web", |row| row.state == RolloutState::Settled).await;
    assert_eq!(web.reason, None);
    world.core.stop().await;
}
