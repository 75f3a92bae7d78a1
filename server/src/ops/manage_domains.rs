//! `domains:add` and `domains:remove`.

use paas_domain::{DomainId, HostName};
use paas_store::{AppScope, Domain, DomainKind};

use crate::cx::{Cx, OpError};

/// The most custom domains of one app (devcenter, "Limits").
pub const MAX_DOMAINS: usize = 1000;

/// Gives an app a custom domain.
///
/// # Errors
/// [`OpError::Invalid`] when an app has it, when it lies below the platform's own domain, or at [`MAX_DOMAINS`].
pub async fn add_domain(cx: &Cx, app: &AppScope, hostname: &HostName) -> Result<Domain, OpError> {
    let ours = &cx.settings.app_domain;
    let below =
        hostname.as_str().strip_suffix(ours.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if below {
        return Err(OpError::invalid(format!("Domain names below {ours} belong to the platform.")));
    }
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    if uow.domains(app).await?.len() >= MAX_DOMAINS {
        return Err(OpError::invalid(format!("An app can't have more than {MAX_DOMAINS} domains.")));
    }
    let domain = match uow.create_domain(app, hostname, DomainKind::Custom, now).await {
        Err(paas_store::StoreError::Taken(_)) => {
            return Err(OpError::invalid(format!("{hostname} is currently in use by another app.")));
        }
        other => other?,
    };
    uow.raise_generation(app, now).await?;
    uow.save().await?;
    cx.kick();
    Ok(domain)
}

/// Takes a custom domain from an app, by its id or host name, and answers what it was.
///
/// # Errors
/// [`OpError::NotFound`] when the app has it not; [`OpError::Invalid`] for the app's own host name.
pub async fn remove_domain(cx: &Cx, app: &AppScope, id_or_name: &str) -> Result<Domain, OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let domain = find_domain(&mut uow, app, id_or_name).await?;
    if domain.kind == DomainKind::Heroku {
        return Err(OpError::invalid("The app's own domain can't be removed."));
    }
    uow.delete_domain(app, &domain.id).await?;
    uow.raise_generation(app, now).await?;
    uow.save().await?;
    cx.kick();
    Ok(domain)
}

/// One of the app's domains by its id or host name.
///
/// # Errors
/// [`OpError::NotFound`] when the app has it not.
pub async fn find_domain(uow: &mut paas_store::Uow, app: &AppScope, id_or_name: &str) -> Result<Domain, OpError> {
    let id = id_or_name.parse::<DomainId>().ok();
    let name = id_or_name.parse::<HostName>().ok();
    let domains = uow.domains(app).await?;
    let found = domains.into_iter().find(|d| Some(&d.id) == id.as_ref() || Some(&d.hostname) == name.as_ref());
    found.ok_or(OpError::NotFound("domain"))
}
