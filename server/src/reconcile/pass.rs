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
//!
//! What is refused for good, whichever step it is, is told at the end; the other steps are done all the same.

use std::time::Duration;

use paas_domain::{Architecture, ConfigVars, DynoKind, DynoState, Generation, ProcessType, Quantity, Timestamp};
use paas_ports::{Attachment, LogSource, Observed, PortError, Route};
use paas_store::{App, AppLease, Dyno, FormationLine, Release, Service, StoreError, Uow};

use super::refused::Refusals;
use super::service::{self, Found};
use super::{destroy, one_offs, quiet};
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
    /// A step was refused for good. All others were done, and their results are written; the lease is not ended.
    #[error("{cause}")]
    Refused {
        cause: PortError,
        /// When there is something to look at, whatever becomes of the refused step.
        look_again: Option<Timestamp>,
    },
}

/// How long rows of ended dynos are kept.
const KEEP_ROWS_S: i64 = 3600;

/// What the rows say, read at one moment.
pub(super) struct Wish {
    pub(super) app: App,
    pub(super) release: Option<Release>,
    pub(super) config: ConfigVars,
    /// What the release's image is built for: whatever is wished by now, it runs on nothing else.
    pub(super) architecture: Architecture,
    pub(super) formation: Vec<FormationLine>,
    pub(super) services: Vec<Service>,
    pub(super) dynos: Vec<Dyno>,
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
        let architecture = match release.as_ref().and_then(|release| release.image.as_ref()) {
            Some(image) => uow.image(scope, image).await?.architecture,
            None => Architecture::default(),
        };
        Ok(Self {
            release,
            config,
            architecture,
            formation: uow.formation(scope).await?,
            services: uow.services(scope).await?,
            dynos: uow.dynos(scope).await?,
            hosts: uow.domains(scope).await?.into_iter().map(|domain| domain.hostname).collect(),
            app,
        })
    }

    #[cfg(test)]
    pub(super) fn for_test(app: App, release: Release, config: ConfigVars, services: Vec<Service>) -> Self {
        let architecture = Architecture::default();
        let release = Some(release);
        Self { app, release, config, architecture, formation: vec![], services, dynos: vec![], hosts: vec![] }
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

    /// Whether any release of this process type has served.
    fn served(&self, process_type: &ProcessType) -> bool {
        self.services.iter().any(|row| row.process_type == *process_type && row.serving_release.is_some())
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

pub(super) async fn around(cx: &Cx, step: PassStep, side: Side) {
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
    // A step that is refused for good keeps no other from being done.
    let mut refused = Refusals::default();
    let placed = refused.keep(place(cx, &wish, has_web).await)?;
    if let Some(attachment) = &placed {
        // Scaled to zero is like having none (H14): a load balancer cannot know how many dynos are wanted.
        refused.keep(publish(cx, &wish, attachment.clone().filter(|_| wish.wants_web())).await)?;
    }
    // No host leads to web, unless one did before.
    let unrouted = refused.last();
    look_again = sooner(look_again, one_offs::start(cx, lease, &wish).await?);
    look_again = sooner(look_again, one_offs::end_overdue(cx, lease, &wish).await?);
    stop_dynos(cx, &wish, &mut refused).await?;

    around(cx, PassStep::Ensure, Side::BeforeEffect).await;
    let (outcomes, mut rows) = ensure(cx, &wish, placed, unrouted.as_deref(), &mut refused).await?;
    around(cx, PassStep::Ensure, Side::BeforeCommit).await;

    let seen = cx.runtime.observe(&wish.app.id).await?;
    let (stay, at) = remove_types(cx, &wish, &seen, generation, &mut refused).await?;
    look_again = sooner(look_again, at);
    rows.extend(stay);
    around(cx, PassStep::Write, Side::BeforeEffect).await;
    let found = Found { now: cx.now(), seen: &seen };
    let mut settled = rows.is_empty();
    for outcome in outcomes {
        let (row, at, done) = service::judge(&wish, &outcome, &found);
        if let Some(line) = service::news(&wish, &outcome, &row) {
            cx.say(&wish.app.id, LogSource::Heroku, row.process_type.as_str(), line).await;
        }
        look_again = sooner(look_again, at);
        settled &= done;
        let reason = unrouted.as_ref().filter(|_| row.process_type.is_web() && !wish.served(&row.process_type));
        rows.push(reason.map_or(row, |reason| service::refused(&wish, &ProcessType::web(), reason, found.now)));
    }
    look_again = sooner(look_again, refused.keep(one_offs::forget_ended(cx, &wish, &seen).await)?.flatten());
    if settled {
        quiet::collect(cx, lease, &wish).await?;
    }
    around(cx, PassStep::Write, Side::BeforeCommit).await;
    let end = refused.is_empty().then_some((settled.then_some(generation), look_again));
    write(cx, lease, &wish, &seen, &rows, end).await?;
    refused.end(look_again)
}

/// Moves each process type one step: what became of them, and the rows of those whose step was refused for good. Without
/// its place (`placed`) web has nowhere to be registered.
async fn ensure(
    cx: &Cx,
    wish: &Wish,
    placed: Option<Option<Attachment>>,
    unrouted: Option<&str>,
    refused: &mut Refusals,
) -> Result<(Vec<service::Outcome>, Vec<Service>), PassError> {
    let (mut outcomes, mut rows) = (Vec::new(), Vec::new());
    for (process_type, command) in wish.types() {
        let is_web = process_type.is_web();
        let outcome = if is_web && placed.is_none() {
            None
        } else {
            let attachment = placed.clone().flatten().filter(|_| is_web);
            refused.keep(service::ensure(cx, wish, process_type, command, attachment).await)?
        };
        match outcome {
            Some(outcome) => outcomes.push(outcome),
            None => {
                // What web is refused because no host leads to it has that cause.
                let cause = unrouted.filter(|_| is_web).map(str::to_owned).or_else(|| refused.last());
                rows.push(service::refused(wish, process_type, &cause.unwrap_or_default(), cx.now()));
            }
        }
    }
    Ok((outcomes, rows))
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
        session_affinity: wish.app.session_affinity,
    };
    cx.ingress.publish(&route).await?;
    around(cx, PassStep::Publish, Side::BeforeCommit).await;
    Ok(())
}

async fn stop_dynos(cx: &Cx, wish: &Wish, refused: &mut Refusals) -> Result<(), PassError> {
    for dyno in wish.dynos.iter().filter(|dyno| dyno.stop_requested_at.is_some()) {
        around(cx, PassStep::StopDynos, Side::BeforeEffect).await;
        refused.keep(cx.runtime.stop(&dyno.id).await.map_err(PassError::from))?;
        around(cx, PassStep::StopDynos, Side::BeforeCommit).await;
    }
    Ok(())
}

/// Stops dynos of process types that the current release has not: the rows of those whose removal was refused, which
/// stay for the next try, and when to look again.
async fn remove_types(
    cx: &Cx,
    wish: &Wish,
    seen: &Observed,
    generation: Generation,
    refused: &mut Refusals,
) -> Result<(Vec<Service>, Option<Timestamp>), PassError> {
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
    let (mut stay, mut look_again) = (Vec::new(), None);
    for process_type in gone {
        around(cx, PassStep::RemoveTypes, Side::BeforeEffect).await;
        let removed = cx.runtime.remove(&wish.app.id, process_type, generation).await;
        match refused.keep(removed.map_err(PassError::from))? {
            Some(()) => look_again = Some(cx.now().plus_ms(500)),
            // Tried again as rarely as all that is refused.
            None => stay.extend(wish.services.iter().find(|row| row.process_type == *process_type).cloned()),
        }
        around(cx, PassStep::RemoveTypes, Side::BeforeCommit).await;
    }
    Ok((stay, look_again))
}

/// Makes the rows like what was seen and ends the lease, in one transaction. Without an `end` (which generation is true
/// now, and when to look again) the lease goes on: a step was refused, and whoever says so ends it.
async fn write(
    cx: &Cx,
    lease: &AppLease,
    wish: &Wish,
    seen: &Observed,
    services: &[Service],
    end: Option<(Option<Generation>, Option<Timestamp>)>,
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
    if let Some((settled, look_again)) = end {
        uow.release_app(lease, settled, look_again).await?;
    }
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
            expires_at: None,
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
