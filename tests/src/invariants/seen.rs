//! What an installation shows from outside at one moment, in the same words for every platform.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use paas_domain::{AppId, DynoId, DynoKind, DynoName, DynoState, ReleaseVersion, Timestamp};
use paas_store::{
    App, AppScope, Build, Domain, Dyno, FormationLine, Job, JobState, Release, Service, Store, StoreError,
};

use super::promises::Promises;

/// One moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The rows of each app that has some.
    pub rows: BTreeMap<AppId, Rows>,
    /// Every dyno that the platform has.
    pub dynos: Vec<SeenDyno>,
    /// How often each one-off dyno and each release command was started.
    pub starts: BTreeMap<(AppId, DynoName), usize>,
    /// Objects with our tag that no row names, each in a few words.
    pub strays: Vec<String>,
    /// Objects of others that are not as they were.
    pub disturbed: Vec<String>,
    /// Where requests for each host come out.
    pub hosts: Vec<Host>,
    /// The rules of load balancers that lead to target groups of the installation.
    pub rules: Vec<BalancerRule>,
    /// What the apps' repositories tell as their `main`.
    pub tips: BTreeMap<AppId, Option<String>>,
    /// Where a secret was found.
    pub leaks: Vec<String>,
    /// What processes that count their lines have in the log.
    pub runs: Vec<Run>,
}

impl Seen {
    /// What must stand when something fails: the app's current version, and the dynos of its formation.
    #[must_use]
    pub fn standing(&self, app: &AppId) -> Option<(i64, BTreeSet<DynoId>)> {
        let current = self.rows.get(app)?.current()?.version.0;
        Some((current, serving_ids(self.dynos.iter().filter(|dyno| dyno.app == *app))))
    }

    /// Reads what the apps' repositories tell; `path` says where each is.
    pub(super) fn read_tips(&mut self, path: impl Fn(&AppId) -> PathBuf) {
        for app in self.rows.keys() {
            let Ok(repository) = git2::Repository::open_bare(path(app)) else { continue };
            let tip = repository.refname_to_id("refs/heads/main").ok();
            self.tips.insert(app.clone(), tip.map(|tip| tip.to_string()));
        }
    }
}

/// An app's rows at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// The app's own.
    pub app: App,
    /// Oldest first.
    pub releases: Vec<Release>,
    /// Oldest first.
    pub builds: Vec<Build>,
    /// Its rollouts.
    pub services: Vec<Service>,
    /// How many of each type.
    pub formation: Vec<FormationLine>,
    /// Those that have not ended.
    pub dynos: Vec<Dyno>,
    /// Branches and their commits.
    pub branches: Vec<(String, String)>,
    /// When each branch was last moved.
    pub moved: BTreeMap<String, Timestamp>,
    /// Its jobs, ended ones included.
    pub jobs: Vec<Job>,
    /// Its hosts.
    pub domains: Vec<Domain>,
    /// The config vars that the next release gets.
    pub config: BTreeMap<String, String>,
}

impl Rows {
    /// Reads them at one moment; `None` when the last is gone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn read(store: &Store, of: &AppScope) -> Result<Option<Self>, StoreError> {
        let mut uow = store.read().await?;
        let app = match uow.app(of).await {
            Err(StoreError::NotFound(_)) => return Ok(None),
            app => app?,
        };
        Ok(Some(Self {
            releases: uow.releases(of).await?,
            builds: uow.builds(of).await?,
            services: uow.services(of).await?,
            formation: uow.formation(of).await?,
            dynos: uow.dynos(of).await?,
            branches: uow.branches(of).await?,
            moved: uow.branch_moves(of).await?,
            jobs: uow.jobs(of).await?,
            domains: uow.domains(of).await?,
            config: uow.config(of, &app.head_config).await?.vars.expose(),
            app,
        }))
    }

    /// Those of each promised app that has some.
    pub(super) async fn of_all(store: &Store, promises: &Promises) -> BTreeMap<AppId, Self> {
        let mut rows = BTreeMap::new();
        for app in promises.apps() {
            if let Some(of_app) = Self::read(store, &app.scope).await.expect("rows") {
                rows.insert(app.scope.id().clone(), of_app);
            }
        }
        rows
    }

    /// The release that should run.
    #[must_use]
    pub fn current(&self) -> Option<&Release> {
        self.releases.iter().find(|release| Some(&release.id) == self.app.current_release.as_ref())
    }

    /// The release whose dynos last came to serve, of a process type.
    #[must_use]
    pub fn service(&self, process_type: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.process_type.as_str() == process_type)
    }

    /// Whether somebody still works on it.
    #[must_use]
    pub fn has_open_jobs(&self) -> bool {
        self.jobs.iter().any(|job| matches!(job.state, JobState::Waiting | JobState::Running))
    }

    /// Whether nothing is under way: every wish was made true or has failed with a reason.
    #[must_use]
    pub fn are_at_rest(&self) -> bool {
        let moves = |service: &Service| service.state == paas_domain::RolloutState::Rolling;
        !self.has_open_jobs()
            && self.app.deleted_at.is_none()
            && self.app.settled_generation == self.app.generation
            && !self.services.iter().any(moves)
    }

    /// What is compared to know whether a look was of one moment: not when rows were last touched.
    pub(super) fn moment(&self) -> impl PartialEq + use<> {
        let app = &self.app;
        let dynos: Vec<_> = self.dynos.iter().map(|dyno| (dyno.id.clone(), dyno.state)).collect();
        let services: Vec<_> = self
            .services
            .iter()
            .map(|s| (s.process_type.clone(), s.state, s.target_release, s.serving_release))
            .collect();
        let releases: Vec<_> = self.releases.iter().map(|release| (release.version, release.status)).collect();
        (app.generation, app.settled_generation, app.current_release.clone(), app.deleted_at, releases, services, dynos)
    }
}

/// A dyno as the platform shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDyno {
    /// Whose.
    pub app: AppId,
    /// Its id.
    pub id: DynoId,
    /// Its name.
    pub name: DynoName,
    /// Why it runs.
    pub kind: DynoKind,
    /// Of which release.
    pub release: ReleaseVersion,
    /// What it does.
    pub state: DynoState,
}

impl SeenDyno {
    /// Whether it serves the formation, or is about to.
    #[must_use]
    pub fn runs_as_service(&self) -> bool {
        self.kind == DynoKind::Service && matches!(self.state, DynoState::Starting | DynoState::Up)
    }
}

/// A host, and where a request for it comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The app whose domain it is.
    pub owner: Option<AppId>,
    /// Who answers.
    pub reached: Reached,
}

/// Who answers a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// This app, or a page about it.
    App(AppId),
    /// A page of the router's that says nothing of any app.
    Page,
    /// Nobody: there is no such app.
    Nobody,
}

/// A load balancer's rule, and a target group that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerRule {
    /// Which listener's.
    pub listener: String,
    /// Its priority; no other rule of the listener has it.
    pub priority: String,
    /// The hosts that it is for.
    pub hosts: Vec<String>,
    /// Whose target group it leads to; `None` when nobody's that has rows.
    pub app: Option<AppId>,
}

/// A process that counts its lines: each says `count <which of how many>`, as `count 2 of 3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose.
    pub app: AppId,
    /// As the log names it: `web.1`.
    pub process: String,
    /// The numbers, in the order of the log.
    pub numbers: Vec<u32>,
    /// How many it says in all.
    pub total: u32,
    /// How many lines the log says that it has lost.
    pub dropped: u32,
}

/// `count 2 of 3`, anywhere in a text: `(2, 3)`, the last one.
pub(super) fn count_in(text: &str) -> Option<(u32, u32)> {
    let (_, rest) = text.rsplit_once("count ")?;
    let mut words = rest.split(|c: char| !c.is_ascii_alphanumeric());
    let number = words.next()?.parse().ok()?;
    (words.next()? == "of").then_some(())?;
    Some((number, words.next()?.parse().ok()?))
}

/// `Error L11 (…) -> This tail session dropped 7 messages since …`: 7.
pub(super) fn dropped_in(text: &str) -> u32 {
    let counted = || text.strip_prefix("Error L")?.split_once(" dropped ")?.1.split(' ').next()?.parse().ok();
    counted().unwrap_or(0)
}

/// The ids of a set of dynos.
pub(super) fn serving_ids<'a>(dynos: impl Iterator<Item = &'a SeenDyno>) -> BTreeSet<DynoId> {
    dynos.filter(|dyno| dyno.runs_as_service()).map(|dyno| dyno.id.clone()).collect()
}
