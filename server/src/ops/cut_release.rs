//! Cutting a release: the next version, its release phase if it has one, else at once the current one.
//!
//! Used by every way to a release: a build, a config change, a rollback, a retry.

use paas_domain::{
    AccountId, BuildId, ConfigId, ConfigVars, Digest, DynoKind, DynoName, DynoSize, ProcessType, Quantity, ReleaseId,
    ReleaseStatus, Timestamp,
};
use paas_store::{AppScope, JobKind, NewDyno, NewRelease, ProcessTable, Release, StoreError, Uow};

use crate::jobs::ReleasePhaseStep;
use crate::token::{new_token, token_hash};

/// What a new release is made of.
#[derive(Clone, Debug)]
pub struct ReleaseParts {
    /// What runs.
    pub image: Option<Digest>,
    /// With which config vars.
    pub config: ConfigId,
    /// How its process types start.
    pub process_types: ProcessTable,
    /// What it is.
    pub description: String,
    /// Who makes it.
    pub account: AccountId,
    /// The build it is cut of; its job runs the release phase then.
    pub build: Option<BuildId>,
    /// The commit that the image was built from.
    pub commit: Option<String>,
}

/// Cuts a release within the caller's transaction, which holds the app's row ([`Uow::lock_app`]).
///
/// With a release phase it is born pending, and a job runs the phase (the build's own job when there is one);
/// without, it is born succeeded and current, and the app's generation is raised.
///
/// # Errors
/// When the database does not answer.
pub async fn cut_release(
    uow: &mut Uow,
    app: &AppScope,
    parts: ReleaseParts,
    now: Timestamp,
) -> Result<Release, StoreError> {
    let has_phase = parts.image.is_some() && parts.process_types.keys().any(ProcessType::is_release);
    let output = if has_phase {
        let token = new_token("out");
        Some(uow.create_output(app, &token, &token_hash(&token), now).await?)
    } else {
        None
    };
    let of_build = parts.build.is_some();
    let new = NewRelease {
        status: if has_phase { ReleaseStatus::Pending } else { ReleaseStatus::Succeeded },
        image: parts.image,
        config: parts.config.clone(),
        process_types: parts.process_types,
        description: parts.description,
        account: parts.account,
        build: parts.build,
        output,
        commit: parts.commit,
    };
    let release = uow.create_release(app, &new, now).await?;
    if has_phase {
        create_phase_dyno(uow, app, &release, now).await?;
        ensure_phase_line(uow, app, &release, now).await?;
        if !of_build {
            let queue = format!("app:{}:release", app.id());
            let first = ReleasePhaseStep::FIRST.as_str();
            uow.create_job(app, &queue, JobKind::RunReleasePhase, release.id.as_str(), first, now).await?;
        }
    } else {
        make_current(uow, app, &release, now).await?;
    }
    Ok(release)
}

/// Writes the dyno of the release's phase: its id is fixed before it is started, so that it is started once.
async fn create_phase_dyno(uow: &mut Uow, app: &AppScope, release: &Release, now: Timestamp) -> Result<(), StoreError> {
    let Some((process_type, command)) = release.process_types.iter().find(|(t, _)| t.is_release()) else {
        return Ok(());
    };
    let new = NewDyno {
        // Versions are unique, so names are.
        name: DynoName {
            process_type: process_type.clone(),
            slot: u32::try_from(release.version.0).unwrap_or(u32::MAX),
        },
        kind: DynoKind::Release,
        release: release.version,
        size: DynoSize::default(),
        command: command.clone(),
        attach: true,
        tty: false,
        attach_hash: None,
        env: ConfigVars::new(),
        expires_at: None,
        link: None,
    };
    uow.create_dyno(app, &new, now).await.map(drop)
}

/// Makes a succeeded release the current one, unless a newer one is already: the current release never moves back.
///
/// # Errors
/// When the database does not answer.
pub async fn make_current(uow: &mut Uow, app: &AppScope, release: &Release, now: Timestamp) -> Result<(), StoreError> {
    let current = uow.current_release(app).await?;
    if current.is_none_or(|current| current.version < release.version) {
        let code = release.image.is_some().then_some(now);
        uow.set_current_release(app, &release.id, code).await?;
        uow.reset_crashes(app, None).await?;
        ensure_formation(uow, app, release, now).await?;
    }
    uow.raise_generation(app, now).await?;
    Ok(())
}

/// Gives a release's phase its line in the formation, also when the release comes to nothing: clients know by it
/// that there is a phase to retry.
async fn ensure_phase_line(uow: &mut Uow, app: &AppScope, release: &Release, now: Timestamp) -> Result<(), StoreError> {
    let lines = uow.formation(app).await?;
    for process_type in release.process_types.keys().filter(|process_type| process_type.is_release()) {
        if lines.iter().all(|line| line.process_type != *process_type) {
            uow.set_formation(app, process_type, Quantity::default(), DynoSize::default(), now).await?;
        }
    }
    Ok(())
}

/// Gives each process type of a release its line in the formation: `web` one dyno when the app never had code,
/// all others none.
async fn ensure_formation(uow: &mut Uow, app: &AppScope, release: &Release, now: Timestamp) -> Result<(), StoreError> {
    let lines = uow.formation(app).await?;
    let first_code = lines.iter().all(|line| line.process_type.is_release());
    for process_type in release.process_types.keys() {
        if lines.iter().any(|line| line.process_type == *process_type) {
            continue;
        }
        let quantity = u16::from(first_code && process_type.is_web());
        let quantity = Quantity::new(quantity).unwrap_or_default();
        uow.set_formation(app, process_type, quantity, DynoSize::default(), now).await?;
    }
    Ok(())
}

/// One release by what clients send: an id, a number, or `v11`.
///
/// # Errors
/// When the database does not answer. Not found is `None`.
pub async fn find_release(uow: &mut Uow, app: &AppScope, text: &str) -> Result<Option<Release>, StoreError> {
    if let Ok(id) = text.parse::<ReleaseId>() {
        return match uow.release(app, &id).await {
            Err(StoreError::NotFound(_)) => Ok(None),
            found => found.map(Some),
        };
    }
    let digits = text.strip_prefix('v').unwrap_or(text);
    let plain = !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse() {
        Ok(number) if plain => uow.release_by_version(app, paas_domain::ReleaseVersion(number)).await,
        _ => Ok(None),
    }
}
