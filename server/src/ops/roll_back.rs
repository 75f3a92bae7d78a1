//! `releases:rollback` and `releases:retry`: an older release's code again, as a new release.

use paas_store::{Account, AppScope, Release};

use super::cut_release::{ReleaseParts, cut_release, find_release};
use crate::cx::{Cx, OpError};

/// Makes a new release of an older one's image and config vars. The app's config moves back with it; scale stays.
///
/// # Errors
/// [`OpError::NotFound`] when there is no such release; [`OpError::Invalid`] when it failed or has no code.
pub async fn roll_back(cx: &Cx, app: &AppScope, account: &Account, to: &str) -> Result<Release, OpError> {
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let target = find_release(&mut uow, app, to).await?.ok_or(OpError::NotFound("release"))?;
    if target.image.is_none() || target.status != paas_domain::ReleaseStatus::Succeeded {
        return Err(OpError::invalid(format!(
            "Cannot roll back to {}: it is not eligible for rollback.",
            target.version
        )));
    }
    uow.set_head_config(app, &target.config).await?;
    let parts = ReleaseParts {
        image: target.image,
        config: target.config,
        process_types: target.process_types,
        description: format!("Rollback to {}", target.version),
        account: account.id.clone(),
        build: None,
        commit: target.commit,
    };
    finish(cx, uow, app, account, parts).await
}

/// Makes a new release of the image of an older one with today's config vars: a release phase that failed is
/// run again. Clients name the code by a slug; ours has the id of the release it was first in.
///
/// # Errors
/// [`OpError::NotFound`] when the app has no such release, or it has no code.
pub async fn retry_release(
    cx: &Cx,
    app: &AppScope,
    account: &Account,
    release: &str,
    description: Option<String>,
) -> Result<Release, OpError> {
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let target = find_release(&mut uow, app, release).await?.ok_or(OpError::NotFound("slug"))?;
    if target.image.is_none() {
        return Err(OpError::NotFound("slug"));
    }
    let config = uow.app(app).await?.head_config;
    let parts = ReleaseParts {
        image: target.image,
        config,
        process_types: target.process_types,
        description: description.unwrap_or_else(|| format!("Retry of {}: {}", target.version, target.description)),
        account: account.id.clone(),
        build: None,
        commit: target.commit,
    };
    finish(cx, uow, app, account, parts).await
}

async fn finish(
    cx: &Cx,
    mut uow: paas_store::Uow,
    app: &AppScope,
    account: &Account,
    parts: ReleaseParts,
) -> Result<Release, OpError> {
    let description = parts.description.clone();
    let release = cut_release(&mut uow, app, parts, cx.now()).await?;
    uow.save().await?;
    cx.kick();
    let email = &account.email;
    cx.say(app.id(), paas_ports::LogSource::App, "api", format!("{description} by user {email}")).await;
    let version = release.version;
    cx.say(app.id(), paas_ports::LogSource::App, "api", format!("Release {version} created by user {email}")).await;
    Ok(release)
}
