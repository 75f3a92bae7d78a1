//! One bounded pass over one app.
//!
//! | step | effect |
//! | --- | --- |
//! | place | the pool of `web` is there |
//! | publish | the app's hosts lead to it, or to a page |
//! | start_one_offs | one-off dynos that were asked for are started, once each |
//! | stop_dynos | dynos that were told to stop are stopped |
//! | ensure | each process type moves one step towards its spec |
//! | remove_types | dynos of process types that the release has not are stopped |
//! | observe | what is there is read |
//! | write | rows are made like it; the lease ends |

use std::time::Duration;

use paas_domain::{ConfigVars, DynoKind, DynoState, Generation, ProcessType, Quantity, Timestamp};
use paas_ports::{Attachment, ImageRef, LogSource, Observed, OneOffSpec, PortError, Route};
use paas_store::{App, AppLease, Dyno, FormationLine, Release, Service, StoreError, Uow};

use super::destroy;
use super::service::{self, Found};
use crate::crash_point::Side;
use crate::cx::Cx;

/// The effects of a pass, for the tests that end the server before and behind each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PassStep {
    /// The pool of `web` is there.
    Place,
    /// The app's hosts lead to it.
    Publish,
    /// One-off dynos are started.
    StartOneOffs,
    /// Dynos are told to stop.
    StopDynos,
    /// Each process type moves towards its spec.
    Ensure,
    /// Process types that are not wanted any more go.
    RemoveTypes,
    /// What is there is read; the rows follow.
    Write,
    /// A destroyed app's outside objects and rows go.
    Destroy,
}

impl PassStep {
    /// Every step, in order.
    pub const ALL: &'static [Self] = &[
        Self::Place,
        Self::Publish,
        Self::StartOneOffs,
        Self::StopDynos,
        Self::Ensure,
        Self::RemoveTypes,
        Self::Write,
        Self::Destroy,
    ];

    /// Its name at a crash point.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Place => "place",
            Self::Publish => "publish",
            Self::StartOneOffs => "start_one_offs",
            Self::StopDynos => "stop_dynos",
            Self::Ensure => "ensure",
            Self::RemoveTypes => "remove_types",
            Self::Write => "write",
            Self::Destroy => "destroy",
        }
    }
}

/// Why a pass did not end.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Port(#[from] PortError),
}

/// How long a one-off dyno that somebody wants to attach to waits for them (Heroku's R13).
const ATTACH_WAIT_S: i64 = 60;
/// How long the container of an ended one-off dyno is kept, so that its last bytes reach whoever reads them.
const KEEP_ENDED_S: i64 = 10;
/// How long a pass may collect what earlier releases left. A driver lets deploys go first, for as long as there are any;
/// whatever is wanted of this app is not to wait for them.
const COLLECT_WITHIN: Duration = Duration::from_secs(5);
/// How long rows of ended dynos are kept.
const KEEP_ROWS_S: i64 = 3600;

/// What the rows say, read at one moment.
pub(super) struct Wish {
    pub(super) app: App,
    pub(super) release: Option<Release>,
    pub(super) config: ConfigVars,
    pub(super) formation: Vec<FormationLine>,
    pub(super) services: Vec<Service>,
    dynos: Vec<Dyno>,
    hosts: Vec<paas_domain::HostName>,
}

impl Wish {
    pub(super) async fn read(cx: &Cx, lease: &AppLease) -> Result<Self, StoreError> {
        let scope = &lease.scope;
        let mut uow = cx.store.read().await?;
        let app = uow.app(scope).await?;
        let release = uow.current_release(scope).await?;
        let config = match &release {
            Some(release) => uow.config(scope, &release.config).await?.vars,
            None => ConfigVars::new(),
        };
        Ok(Self {
            release,
            config,
            formation: uow.formation(scope).await?,
            services: uow.services(scope).await?,
            dynos: uow.dynos(scope).await?,
            hosts: uow.domains(scope).await?.into_iter().map(|domain| domain.hostname).collect(),
            app,
        })
    }

    #[cfg(test)]
    pub(super) fn for_test(app: App, release: Release, config: ConfigVars, services: Vec<Service>) -> Self {
        Self { app, release: Some(release), config, formation: vec![], services, dynos: vec![], hosts: vec![] }
    }

    /// The current release when it has code.
    pub(super) fn code(&self) -> Option<&Release> {
        self.release.as_ref().filter(|release| release.image.is_some())
    }

    /// Whether any dyno is to answer requests.
    fn wants_web(&self) -> bool {
        let line = self.formation.iter().find(|line| line.process_type.is_web());
        line.map_or_else(Quantity::default, |line| line.quantity).get() > 0
    }

    /// The process types of the current release that can have dynos.
    pub(super) fn types(&self) -> impl Iterator<Item = (&ProcessType, &String)> {
        self.code().into_iter().flat_map(|r| r.process_types.iter()).filter(|(t, _)| !t.is_release())
    }
}

/// Sooner of two times to look again.
pub(super) fn sooner(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

async fn around(cx: &Cx, step: PassStep, side: Side) {
    cx.crash_points.pass(step.as_str(), side).await;
}

pub(super) async fn pass(cx: &Cx, lease: &AppLease) -> Result<(), PassError> {
    let wish = Wish::read(cx, lease).await?;
    if wish.app.deleted_at.is_some() {
        around(cx, PassStep::Destroy, Side::BeforeEffect).await;
        return destroy::destroy(cx, lease).await;
    }
    let generation = wish.app.generation;
    let mut look_again = None;

    let has_web = wish.types().any(|(process_type, _)| process_type.is_web());
    let attachment = place(cx, &wish, has_web).await?;
    // Scaled to zero is like having none (H14): a load balancer cannot know how many dynos are wanted.
    publish(cx, &wish, attachment.clone().filter(|_| wish.wants_web())).await?;
    look_again = sooner(look_again, start_one_offs(cx, lease, &wish).await?);
    stop_dynos(cx, &wish).await?;

    let mut outcomes = Vec::new();
    around(cx, PassStep::Ensure, Side::BeforeEffect).await;
    for (process_type, command) in wish.types() {
        let attachment = if process_type.is_web() { attachment.clone() } else { None };
        let outcome = service::ensure(cx, &wish, process_type, command, attachment).await?;
        outcomes.push(outcome);
    }
    around(cx, PassStep::Ensure, Side::BeforeCommit).await;

    let seen = cx.runtime.observe(&wish.app.id).await?;
    look_again = sooner(look_again, remove_types(cx, &wish, &seen, generation).await?);
    around(cx, PassStep::Write, Side::BeforeEffect).await;
    let found = Found { now: cx.now(), seen: &seen };
    let mut rows = Vec::new();
    let mut settled = true;
    for outcome in outcomes {
        let (row, at, done) = service::judge(&wish, &outcome, &found);
        look_again = sooner(look_again, at);
        settled &= done;
        rows.push(row);
    }
    look_again = sooner(look_again, forget_ended(cx, &wish, &seen).await?);
    if settled {
        collect(cx, lease, &wish).await?;
    }
    around(cx, PassStep::Write, Side::BeforeCommit).await;
    write(cx, lease, &wish, &seen, &rows, settled.then_some(generation), look_again).await
}

async fn place(cx: &Cx, wish: &Wish, has_web: bool) -> Result<Option<Attachment>, PassError> {
    if !has_web {
        return Ok(None);
    }
    around(cx, PassStep::Place, Side::BeforeEffect).await;
    let attachment = cx.ingress.place(&wish.app.id, &ProcessType::web()).await?;
    around(cx, PassStep::Place, Side::BeforeCommit).await;
    Ok(Some(attachment))
}

async fn publish(cx: &Cx, wish: &Wish, attachment: Option<Attachment>) -> Result<(), PassError> {
    around(cx, PassStep::Publish, Side::BeforeEffect).await;
    let route = Route {
        app: wish.app.id.clone(),
        app_name: wish.app.name.clone(),
        generation: wish.app.generation,
        hosts: wish.hosts.clone(),
        attachment,
        released: wish.code().is_some(),
        maintenance: wish.app.maintenance,
    };
    cx.ingress.publish(&route).await?;
    around(cx, PassStep::Publish, Side::BeforeCommit).await;
    Ok(())
}

async fn start_one_offs(cx: &Cx, lease: &AppLease, wish: &Wish) -> Result<Option<Timestamp>, PassError> {
    let mut look_again = None;
    let wanted = wish.dynos.iter().filter(|dyno| {
        dyno.kind == DynoKind::Run && dyno.state == DynoState::Starting && dyno.stop_requested_at.is_none()
    });
    for dyno in wanted {
        around(cx, PassStep::StartOneOffs, Side::BeforeEffect).await;
        let (release, mut config) = {
            let mut uow = cx.store.read().await?;
            let release = uow.release_by_version(&lease.scope, dyno.release).await?;
            let release = release.ok_or(StoreError::NotFound("release"))?;
            let config = uow.config(&lease.scope, &release.config).await?.vars;
            (release, config)
        };
        let Some(image) = release.image else { continue };
        let extra = cx.store.read().await?.dyno_env(&lease.scope, &dyno.id).await?;
        let config_id = extra.is_empty().then(|| release.config.clone());
        for (key, value) in extra.iter() {
            config.set(key.clone(), value.clone());
        }
        let spec = OneOffSpec {
            app: wish.app.id.clone(),
            name: dyno.name.clone(),
            kind: DynoKind::Run,
            release: release.version,
            image: ImageRef(image),
            command: dyno.command.clone(),
            config,
            config_id,
            size: dyno.size,
            attach: dyno.attach,
            tty: dyno.tty,
        };
        match cx.runtime.start_once(&dyno.id, &spec).await {
            Ok(()) => {}
            Err(error) if error.is_transient() => return Err(error.into()),
            Err(error) => {
                cx.say(&wish.app.id, LogSource::Heroku, &dyno.name.to_string(), error.to_string()).await;
                let mut uow = cx.begin().await?;
                uow.end_dyno(&lease.scope, &dyno.id, Some(1), cx.now()).await?;
                uow.save().await?;
            }
        }
        around(cx, PassStep::StartOneOffs, Side::BeforeCommit).await;
    }
    // Whoever asked for a dyno to attach to and never came.
    for dyno in wish.dynos.iter().filter(|dyno| dyno.attach_open) {
        let due = dyno.created_at.plus_s(ATTACH_WAIT_S);
        if due > cx.now() {
            look_again = sooner(look_again, Some(due));
            continue;
        }
        let line = "Error R13 (Attach error) -> Failed to attach to process";
        cx.say(&wish.app.id, LogSource::Heroku, &dyno.name.to_string(), line).await;
        let mut uow = cx.begin().await?;
        uow.request_dyno_stop(&lease.scope, &dyno.id, cx.now()).await?;
        uow.close_attach(&lease.scope, &dyno.id).await?;
        uow.save().await?;
        look_again = Some(cx.now());
    }
    Ok(look_again)
}

async fn stop_dynos(cx: &Cx, wish: &Wish) -> Result<(), PassError> {
    for dyno in wish.dynos.iter().filter(|dyno| dyno.stop_requested_at.is_some()) {
        around(cx, PassStep::StopDynos, Side::BeforeEffect).await;
        cx.runtime.stop(&dyno.id).await?;
        around(cx, PassStep::StopDynos, Side::BeforeCommit).await;
    }
    Ok(())
}

/// Stops dynos of process types that the current release has not.
async fn remove_types(
    cx: &Cx,
    wish: &Wish,
    seen: &Observed,
    generation: Generation,
) -> Result<Option<Timestamp>, PassError> {
    let wanted: Vec<&ProcessType> = wish.types().map(|(process_type, _)| process_type).collect();
    let mut gone: Vec<&ProcessType> = seen
        .dynos
        .iter()
        .filter(|dyno| dyno.kind == DynoKind::Service && !wanted.contains(&&dyno.name.process_type))
        .map(|dyno| &dyno.name.process_type)
        .collect();
    // One that was scaled to zero has no dynos, but may have a service.
    gone.extend(wish.services.iter().map(|row| &row.process_type).filter(|row| !wanted.contains(row)));
    gone.sort();
    gone.dedup();
    let mut look_again = None;
    for process_type in gone {
        around(cx, PassStep::RemoveTypes, Side::BeforeEffect).await;
        cx.runtime.remove(&wish.app.id, process_type, generation).await?;
        around(cx, PassStep::RemoveTypes, Side::BeforeCommit).await;
        look_again = Some(cx.now().plus_ms(500));
    }
    Ok(look_again)
}

/// Removes the containers of one-off dynos whose rows ended a while ago.
async fn forget_ended(cx: &Cx, wish: &Wish, seen: &Observed) -> Result<Option<Timestamp>, PassError> {
    let mut look_again = None;
    for dyno in seen.dynos.iter().filter(|dyno| dyno.kind == DynoKind::Run && dyno.exit_code.is_some()) {
        let due = dyno.since.plus_s(KEEP_ENDED_S);
        if due <= cx.now() && !wish.dynos.iter().any(|row| row.id == dyno.id) {
            cx.runtime.forget(&dyno.id).await?;
        } else {
            look_again = sooner(look_again, Some(due.max(cx.now().plus_ms(100))));
        }
    }
    Ok(look_again)
}

/// Removes what earlier releases left, once nothing is under way: never in the way of a deploy. What is left then is
/// for the sweep's next pass.
async fn collect(cx: &Cx, lease: &AppLease, wish: &Wish) -> Result<(), PassError> {
    let quiet_since = cx.now().plus_ms(-i64::try_from(cx.settings.sweep.as_millis()).unwrap_or(i64::MAX));
    let is_quiet = wish.code().is_some_and(|release| release.created_at < quiet_since);
    if !is_quiet || cx.store.read().await?.has_open_job(&lease.scope).await? {
        return Ok(());
    }
    match tokio::time::timeout(COLLECT_WITHIN, cx.runtime.collect(&wish.app.id)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(app = %wish.app.id, %error, "what earlier releases left stays until the next pass")
        }
        Err(_) => {
            tracing::debug!(app = %wish.app.id, "others deploy: what earlier releases left stays until the next pass")
        }
    }
    Ok(())
}

/// Makes the rows like what was seen and ends the lease, in one transaction.
async fn write(
    cx: &Cx,
    lease: &AppLease,
    wish: &Wish,
    seen: &Observed,
    services: &[Service],
    settled: Option<Generation>,
    look_again: Option<Timestamp>,
) -> Result<(), PassError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.check_lease(lease).await?;
    for service in services {
        if !wish.services.contains(service) {
            uow.put_service(&lease.scope, service).await?;
        }
    }
    for old in &wish.services {
        let has_dynos = seen.dynos.iter().any(|dyno| dyno.name.process_type == old.process_type);
        if !services.iter().any(|s| s.process_type == old.process_type) && !has_dynos {
            uow.delete_service(&lease.scope, &old.process_type).await?;
        }
    }
    sync_dynos(&mut uow, lease, wish, seen, now).await?;
    uow.prune_dynos(&lease.scope, now.plus_s(-KEEP_ROWS_S)).await?;
    uow.release_app(lease, settled, look_again).await?;
    uow.save().await?;
    Ok(())
}

async fn sync_dynos(
    uow: &mut Uow,
    lease: &AppLease,
    wish: &Wish,
    seen: &Observed,
    now: Timestamp,
) -> Result<(), StoreError> {
    let scope = &lease.scope;
    // Ends first: a slot must be free before its next dyno takes it.
    for row in &wish.dynos {
        let there = seen.dynos.iter().find(|dyno| dyno.id == row.id);
        match (row.kind, there) {
            (DynoKind::Service, None) => uow.end_dyno(scope, &row.id, None, now).await?,
            (DynoKind::Service, Some(dyno)) if dyno.state == DynoState::Ended => {
                uow.end_dyno(scope, &row.id, dyno.exit_code, now).await?;
            }
            (DynoKind::Run, Some(dyno)) if matches!(dyno.state, DynoState::Ended | DynoState::Crashed) => {
                uow.end_dyno(scope, &row.id, dyno.exit_code, now).await?;
            }
            (DynoKind::Run, Some(dyno)) if dyno.state != row.state => {
                uow.set_dyno_state(scope, &row.id, dyno.state, dyno.exit_code, now).await?;
            }
            // It ran and is gone (somebody removed its container), or was told to stop before it was started.
            (DynoKind::Run, None) if row.state != DynoState::Starting || row.stop_requested_at.is_some() => {
                uow.end_dyno(scope, &row.id, None, now).await?;
            }
            _ => {}
        }
    }
    for dyno in seen.dynos.iter().filter(|d| d.kind == DynoKind::Service && d.state != DynoState::Ended) {
        let row = wish.dynos.iter().find(|row| row.id == dyno.id);
        if row.is_some_and(|row| row.state == dyno.state && row.exit_code == dyno.exit_code) {
            continue;
        }
        let created_at = row.map_or(dyno.since, |row| row.created_at);
        let mirrored = Dyno {
            id: dyno.id.clone(),
            name: dyno.name.clone(),
            kind: DynoKind::Service,
            release: dyno.release,
            size: dyno.size,
            command: dyno.command.clone(),
            state: dyno.state,
            exit_code: dyno.exit_code,
            attach: false,
            tty: false,
            attach_open: false,
            stop_requested_at: None,
            created_at,
            updated_at: dyno.since,
            ended_at: None,
        };
        uow.put_service_dyno(scope, &mirrored).await?;
    }
    Ok(())
}

/// How long to wait before the next look at something that moves.
pub(super) fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.plus_ms(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
}
