//! The checker can fail: each invariant is broken on purpose, and is named.

use std::time::Duration;

use paas_domain::{
    AppId, ConfigId, ConfigVars, Digest, DynoId, DynoKind, DynoName, DynoSize, Generation, ProcessType, Quantity,
    QuantityChange, ReleaseVersion, Timestamp,
};
use paas_ports::{ImageRef, LogLine, LogSource, OneOffSpec, Route, ServiceSpec, outside};
use paas_server::crash_point::CrashPoints;
use paas_server::cx::Cx;
use paas_server::ops::accept_build::{BuildSource, Verdict, accept_build, await_verdict};
use paas_server::ops::run_dyno::{RunRequest, run_dyno};
use paas_server::ops::scale_formation::{FormationUpdate, scale_formation};
use paas_server::ops::set_config::set_config;
use paas_store::AppScope;

use super::fakes::{Closely, look};
use super::{BalancerRule, Invariant, Look, Promises, Rows, Violation, check};
use crate::core_world::{Core, Outside};

const CANARY: &str = "c4n4ry-do-not-tell";
const COUNT: &str = "say count 1 of 2; say count 2 of 2";

/// A world at rest whose server does nothing any more: v3 deployed, v4 a change of config, v5 a release phase that failed.
struct Rested {
    world: Outside,
    cx: Cx,
    promises: Promises,
    app: AppScope,
    other: AppScope,
    /// What a balancer would have beside the fakes' world.
    rules: Vec<BalancerRule>,
}

async fn push(core: &Core, promises: &mut Promises, app: &AppScope, procfile: &str) {
    let (account, commit) = (core.account().await, core.commit(app, procfile));
    let source = BuildSource::Commit { commit: commit.clone(), branch: "main".to_owned() };
    let build = outside::task(accept_build(&core.cx, app, &account, source)).await.expect("accepted");
    promises.of(app.id()).builds.insert(build.id.clone());
    match outside::task(await_verdict(&core.cx, app, &build.id)).await.expect("a verdict") {
        Verdict::Deployed => promises.of(app.id()).push_deployed(&commit),
        Verdict::Declined(_) => promises.of(app.id()).push_declined(&commit),
    }
}

async fn settled(core: &Core, app: &AppScope) {
    let rests = async |cx: &Cx| {
        let rows = Rows::read(&cx.store, app).await.ok()??;
        let up = cx.runtime.observe(app.id()).await.ok()?.dynos.iter().filter(|d| d.kind == DynoKind::Service).count();
        (rows.are_at_rest() && up == 2).then_some(())
    };
    core.until("everything rests", rests).await;
}

impl Rested {
    async fn new() -> Self {
        let (world, mut promises) = (Outside::new(), Promises::default());
        promises.canaries.push(CANARY.to_owned());
        let core = world.start(CrashPoints::none()).await;
        let (other, app) = (core.create_app("other").await, core.create_app("app").await);
        promises.app_made(other.clone(), "other");
        promises.app_made(app.clone(), "app");
        promises.of(app.id()).counts = [("web".to_owned(), 2), ("worker".to_owned(), 2)].into();
        core.cx.repositories.ensure(app.id()).await.expect("a repository");
        let account = core.account().await;
        let phase = "release: say count 1 of 1";
        push(&core, &mut promises, &app, &format!("web: {COUNT}; serve\nworker: {COUNT}; worker\n{phase}\n")).await;
        let worker: ProcessType = "worker".parse().expect("a type");
        let update = FormationUpdate { process_type: worker, quantity: Some(QuantityChange::Set(1)), size: None };
        outside::task(scale_formation(&core.cx, &app, &account, &[update])).await.expect("scaled");
        promises.of(app.id()).formation.insert("worker".to_owned(), 1);
        settled(&core, &app).await;
        let change = ("SECRET".parse().expect("a key"), Some(CANARY.into()));
        outside::task(set_config(&core.cx, &app, &account, &[change])).await.expect("set");
        promises.of(app.id()).config.insert("SECRET".to_owned(), Some(CANARY.to_owned()));
        settled(&core, &app).await;
        push(&core, &mut promises, &app, "web: serve\nrelease: exit 3\n").await;
        let request = RunRequest {
            command: "say count 1 of 1".to_owned(),
            env: ConfigVars::new(),
            attach: false,
            tty: false,
            size: None,
            time_to_live_s: None,
            process_type: None,
        };
        let (dyno, _) = outside::task(run_dyno(&core.cx, &app, &account, request)).await.expect("accepted");
        promises.of(app.id()).one_offs.insert(dyno.id.clone(), (dyno.name, true));
        let ended = async |cx: &Cx| cx.store.read().await.ok()?.dyno(&app, &dyno.id).await.ok()?.ended_at;
        core.until("the one-off dyno ends", ended).await;
        settled(&core, &app).await;
        // The last lines are on their way to the log.
        tokio::time::sleep(Duration::from_millis(50)).await;
        core.stop().await;
        let cx = world.start_idle().await;
        let rules = vec![rule(1, &app)];
        Self { world, cx, promises, app, other, rules }
    }

    async fn violations(&self, closely: Closely) -> Vec<Violation> {
        let mut seen = look(&self.world, &self.cx, &self.promises, closely).await;
        seen.rules.clone_from(&self.rules);
        check(&Look { seen: &seen, promises: &self.promises, at_rest: closely != Closely::Moving })
    }

    async fn sql(&self, sql: &'static str) {
        let file = self.world.folder().join("paas.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let pool = sqlx::sqlite::SqlitePoolOptions::new().connect_with(options).await.expect("the database");
        let done = sqlx::query(sql).execute(&pool).await.expect("a statement");
        assert!(done.rows_affected() > 0, "{sql}");
        pool.close().await;
    }

    async fn start(&self, app: &AppId, kind: DynoKind, name: &str, release: i64) {
        let spec = OneOffSpec {
            app: app.clone(),
            name: name.parse().expect("a name"),
            kind,
            release: ReleaseVersion(release),
            image: image(),
            command: "sleep 60000".to_owned(),
            config: ConfigVars::new(),
            config_id: None,
            size: DynoSize::default(),
            architecture: paas_domain::Architecture::default(),
            capacity: paas_domain::Capacity::default(),
            attach: false,
            tty: false,
            link: None,
        };
        outside::task(self.cx.runtime.start_once(&DynoId::new(), &spec)).await.expect("started");
    }

    /// Runs the worker of this release, as if it were the current one.
    async fn run_worker_of(&self, release: i64) {
        let spec = ServiceSpec {
            app: self.app.id().clone(),
            process_type: "worker".parse().expect("a type"),
            generation: Generation(1_000),
            release: ReleaseVersion(release),
            image: image(),
            command: format!("{COUNT}; worker"),
            config: ConfigVars::new(),
            config_id: ConfigId::new(),
            size: DynoSize::default(),
            architecture: paas_domain::Architecture::default(),
            capacity: paas_domain::Capacity::default(),
            quantity: Quantity::new(1).expect("one"),
            attachment: None,
            restart: 0,
            revive: false,
        };
        outside::task(self.cx.runtime.ensure(&spec)).await.expect("ensured");
    }

    async fn log(&self, process: &str, message: &str) {
        let (process, message) = (process.to_owned(), message.to_owned());
        let line = LogLine { at: Timestamp(0), source: LogSource::App, process, message };
        outside::task(self.cx.logs.append(self.app.id(), vec![line])).await.expect("logged");
    }

    /// Breaks an invariant; answers at which look it has to show.
    async fn violate(&mut self, invariant: Invariant) -> Closely {
        match invariant {
            Invariant::I1 => self.sql("UPDATE formation SET quantity = 7 WHERE process_type = 'worker'").await,
            Invariant::I2 => self.sql("UPDATE releases SET version = 9 WHERE version = 4").await,
            Invariant::I3 => self.run_worker_of(3).await,
            Invariant::I4 => self.run_worker_of(5).await,
            Invariant::I5 => {
                self.sql("UPDATE branches SET commit_id = (SELECT commit_id FROM releases WHERE status = 'failed')")
                    .await;
            }
            Invariant::I6 => {
                self.start(&AppId::new(), DynoKind::Run, "run.1234", 3).await;
                return Closely::AtRest;
            }
            Invariant::I7 => {
                let route = Route {
                    app: self.other.id().clone(),
                    app_name: "other".parse().expect("a name"),
                    generation: Generation(1_000),
                    hosts: vec!["app.localhost".parse().expect("a host")],
                    attachment: None,
                    released: true,
                    maintenance: false,
                    session_affinity: false,
                };
                outside::task(self.cx.ingress.publish(&route)).await.expect("published");
            }
            Invariant::I8 => self.rules.push(rule(2, &self.other)),
            Invariant::I9 => self.start(self.app.id(), DynoKind::Run, "run.1234", 4).await,
            Invariant::I10 => self.start(self.app.id(), DynoKind::Release, "release.4", 4).await,
            Invariant::I11 => self.log("web.1", &format!("connecting with {CANARY}")).await,
            Invariant::I12 => {
                let name: DynoName = "release.3".parse().expect("a name");
                self.log(&name.to_string(), "count 1 of 1").await;
            }
        }
        Closely::Moving
    }
}

/// A rule for the host of the app, which leads to a target group of `to`.
fn rule(priority: u32, to: &AppScope) -> BalancerRule {
    BalancerRule {
        listener: "443".to_owned(),
        priority: priority.to_string(),
        hosts: vec!["app.localhost".to_owned()],
        app: Some(to.id().clone()),
    }
}

fn image() -> ImageRef {
    let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().expect("a digest");
    ImageRef(digest)
}

#[tokio::test]
async fn each_breach_is_named() {
    for invariant in Invariant::ALL {
        let mut rested = Rested::new().await;
        for closely in [Closely::Moving, Closely::AtTheEnd] {
            let before = rested.violations(closely).await;
            assert!(before.is_empty(), "{closely:?}: {before:#?}");
        }
        let closely = rested.violate(invariant).await;
        let named = rested.violations(closely).await;
        assert!(named.iter().any(|violation| violation.invariant == invariant), "no {invariant:?}: {named:#?}");
        println!("{named:#?}");
    }
}

/// What converges is no breach while it moves.
#[tokio::test]
async fn a_stray_may_be_there_for_a_while() {
    let mut rested = Rested::new().await;
    rested.violate(Invariant::I6).await;
    let now = rested.violations(Closely::Moving).await;
    assert!(now.is_empty(), "{now:#?}");
}

/// A release serves that is newer than the pushed one and has other code: the pushed one never came to serve.
#[tokio::test]
async fn a_branch_does_not_move_to_what_other_code_took_the_place_of() {
    let rested = Rested::new().await;
    rested.sql("UPDATE releases SET commit_id = 'another' WHERE version = 4").await;
    // A rollback after the push served is no breach.
    let before = rested.violations(Closely::Moving).await;
    assert!(before.is_empty(), "{before:#?}");
    rested.sql("UPDATE branches SET updated_at = updated_at + 3600000").await;
    let named = rested.violations(Closely::Moving).await;
    assert!(named.iter().any(|violation| violation.invariant == Invariant::I5), "{named:#?}");
}
