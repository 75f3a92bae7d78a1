//! One-off dynos (`run`): started once each, ended when nobody came for them or their time is over, then forgotten.

use paas_domain::{DynoKind, DynoState, Timestamp};
use paas_ports::{ImageRef, LogSource, Observed, OneOffSpec};
use paas_store::{AppLease, Dyno, StoreError};

use super::pass::{PassError, PassStep, Wish, around, sooner};
use crate::crash_point::Side;
use crate::cx::Cx;
use crate::rendezvous::{ATTACH_ERROR, ATTACH_WITHIN};

/// How long its client takes to come, as a rule.
const CLIENT_COMES_S: i64 = 10;
/// The first and the longest pause before one that could not be started is tried again, in ms.
const START_AGAIN_MS: i64 = 1_000;
const START_AGAIN_MOST_MS: i64 = 30_000;
/// How long the container of one that has ended is kept, so that its last bytes reach whoever reads them.
const KEEP_ENDED_S: i64 = 10;

/// Starts those that were asked for; when to try again.
pub(super) async fn start(cx: &Cx, lease: &AppLease, wish: &Wish) -> Result<Option<Timestamp>, PassError> {
    let mut look_again = None;
    let wanted = wish.dynos.iter().filter(|dyno| {
        dyno.kind == DynoKind::Run && dyno.state == DynoState::Starting && dyno.stop_requested_at.is_none()
    });
    for dyno in wanted {
        around(cx, PassStep::StartOneOffs, Side::BeforeEffect).await;
        let Some(spec) = spec(cx, lease, wish, dyno).await? else { continue };
        match cx.runtime.start_once(&dyno.id, &spec).await {
            Ok(()) => {}
            Err(error) if error.is_transient() => {
                // One dyno that waits for room holds up nothing else of its app.
                tracing::warn!(app = %wish.app.id, dyno = %dyno.name, %error, "a one-off dyno waits to be started");
                look_again = sooner(look_again, Some(start_again(dyno, cx.now())));
            }
            // Its client is on its way, and is told why before the row goes.
            Err(_) if is_awaited(dyno, cx.now()) => {
                look_again = sooner(look_again, Some(cx.now().plus_ms(START_AGAIN_MS)));
            }
            Err(error) => {
                cx.say(&wish.app.id, LogSource::Heroku, &dyno.name.to_string(), error.to_string()).await;
                let mut uow = cx.begin().await?;
                uow.check_lease(lease).await?;
                uow.end_dyno(&lease.scope, &dyno.id, Some(1), cx.now()).await?;
                uow.save().await?;
                // What the driver noted down of it may be forgotten, too.
                cx.runtime.stop(&dyno.id).await?;
            }
        }
        around(cx, PassStep::StartOneOffs, Side::BeforeCommit).await;
    }
    Ok(look_again)
}

/// What a dyno is started as; `None` when its release has no code.
async fn spec(cx: &Cx, lease: &AppLease, wish: &Wish, dyno: &Dyno) -> Result<Option<OneOffSpec>, StoreError> {
    let scope = &lease.scope;
    let mut uow = cx.store.read().await?;
    let release = uow.release_by_version(scope, dyno.release).await?.ok_or(StoreError::NotFound("release"))?;
    let Some(image) = release.image else { return Ok(None) };
    let mut config = uow.config(scope, &release.config).await?.vars;
    let extra = uow.dyno_env(scope, &dyno.id).await?;
    let config_id = extra.is_empty().then(|| release.config.clone());
    for (key, value) in extra.iter() {
        config.set(key.clone(), value.clone());
    }
    Ok(Some(OneOffSpec {
        app: wish.app.id.clone(),
        name: dyno.name.clone(),
        kind: DynoKind::Run,
        release: release.version,
        architecture: uow.image(scope, &image).await?.architecture,
        image: ImageRef(image),
        command: dyno.command.clone(),
        config,
        config_id,
        size: dyno.size,
        capacity: wish.app.capacity,
        attach: dyno.attach,
        tty: dyno.tty,
        link: uow.dyno_link(scope, &dyno.id).await?,
    }))
}

/// When to try again to start a dyno that could not be: ever more rarely, the older it is.
fn start_again(dyno: &Dyno, now: Timestamp) -> Timestamp {
    now.plus_ms((now.since_ms(dyno.created_at) / 4).clamp(START_AGAIN_MS, START_AGAIN_MOST_MS))
}

/// Whether somebody wants to attach to it and may just be on the way.
fn is_awaited(dyno: &Dyno, now: Timestamp) -> bool {
    dyno.attach_open && dyno.created_at.plus_s(CLIENT_COMES_S) > now
}

/// Has those stopped that wait for a client who never came, and those whose time to live is over; when the next will be.
pub(super) async fn end_overdue(cx: &Cx, lease: &AppLease, wish: &Wish) -> Result<Option<Timestamp>, PassError> {
    let mut look_again = None;
    let attach_wait_s = i64::try_from(ATTACH_WITHIN.as_secs()).unwrap_or(i64::MAX);
    for dyno in &wish.dynos {
        let never_met = dyno.attach_open.then(|| dyno.created_at.plus_s(attach_wait_s));
        let expires = dyno.expires_at.filter(|_| dyno.stop_requested_at.is_none());
        let Some(due) = sooner(never_met, expires) else { continue };
        if due > cx.now() {
            look_again = sooner(look_again, Some(due));
            continue;
        }
        let mut uow = cx.begin().await?;
        uow.check_lease(lease).await?;
        // The client may have come since the rows were read.
        let is_late = never_met.is_some_and(|due| due <= cx.now());
        let nobody_came = is_late && uow.close_attach(&lease.scope, &dyno.id).await?;
        if nobody_came || expires.is_some_and(|due| due <= cx.now()) {
            uow.request_dyno_stop(&lease.scope, &dyno.id, cx.now()).await?;
        }
        uow.save().await?;
        if nobody_came {
            cx.say(&wish.app.id, LogSource::Heroku, &dyno.name.to_string(), ATTACH_ERROR).await;
        }
        look_again = Some(cx.now());
    }
    Ok(look_again)
}

/// Removes the containers of those whose rows ended a while ago; when the next will be due.
pub(super) async fn forget_ended(cx: &Cx, wish: &Wish, seen: &Observed) -> Result<Option<Timestamp>, PassError> {
    let mut look_again = None;
    for dyno in seen.dynos.iter().filter(|dyno| dyno.kind == DynoKind::Run && dyno.exit_code.is_some()) {
        let due = dyno.since.plus_s(KEEP_ENDED_S);
        if due > cx.now() || wish.dynos.iter().any(|row| row.id == dyno.id) {
            look_again = sooner(look_again, Some(due.max(cx.now().plus_ms(100))));
            continue;
        }
        match cx.runtime.forget(&dyno.id).await {
            // No reason for the rest of the pass to fail; what kept it keeps the others, too.
            Err(error) if error.is_transient() => {
                tracing::debug!(dyno = %dyno.name, %error, "an ended dyno is forgotten later");
                return Ok(sooner(look_again, Some(cx.now().plus_s(10))));
            }
            forgotten => forgotten?,
        }
    }
    Ok(look_again)
}
