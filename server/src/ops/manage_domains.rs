//! `domains:add` and `domains:remove`.

use paas_domain::{DomainId, HostName};
use paas_ports::PortError;
use paas_store::{AppScope, Domain, DomainKind};

use crate::cx::{Cx, OpError};

/// The most custom domains of one app (devcenter, "Limits").
pub const MAX_DOMAINS: usize = 1000;

/// Gives an app a custom domain.
///
/// # Errors
/// [`OpError::Invalid`] when an app has it, when it lies below the platform's own domain, at [`MAX_DOMAINS`], and when
/// the platform could not lead it to the app.
pub async fn add_domain(cx: &Cx, app: &AppScope, hostname: &HostName) -> Result<Domain, OpError> {
    let ours = &cx.settings.app_domain;
    let below =
        hostname.as_str().strip_suffix(ours.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if below {
        return Err(OpError::invalid(format!("Domain names below {ours} belong to the platform.")));
    }
    if is_not_public(hostname) {
        return Err(OpError::invalid(format!("{hostname} is not a domain name that can be owned.")));
    }
    check_with_ingress(cx, app, hostname).await?;
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let custom = uow.domains(app).await?.iter().filter(|domain| domain.kind == DomainKind::Custom).count();
    if custom >= MAX_DOMAINS {
        return Err(OpError::invalid(format!("An app can't have more than {MAX_DOMAINS} domains.")));
    }
    if uow.foreign_overlap(app, hostname).await?.is_some() {
        return Err(OpError::invalid(format!("{hostname} is currently in use by another app.")));
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

/// Whether requests for this host can come to the app: before any row says so.
async fn check_with_ingress(cx: &Cx, app: &AppScope, hostname: &HostName) -> Result<(), OpError> {
    let mut hosts: Vec<HostName> = {
        let mut uow = cx.store.read().await?;
        uow.domains(app).await?.into_iter().map(|domain| domain.hostname).collect()
    };
    if !hosts.contains(hostname) {
        hosts.push(hostname.clone());
    }
    match cx.ingress.check_hosts(app.id(), &hosts).await {
        Err(PortError::Permanent { cause, .. }) => Err(OpError::invalid(cause)),
        other => Ok(other?),
    }
}

/// Names that are nobody's: private and special ones, and those that registries give names below.
fn is_not_public(hostname: &HostName) -> bool {
    /// RFC 6761, 6762 and what networks and clouds use inside.
    const PRIVATE: [&str; 11] = [
        "local",
        "internal",
        "localhost",
        "localdomain",
        "lan",
        "home",
        "corp",
        "intranet",
        "invalid",
        "arpa",
        "onion",
    ];
    /// What country registries give names below.
    const SECOND: [&str; 20] = [
        "ac", "co", "com", "edu", "gob", "gov", "gouv", "id", "ltd", "me", "mil", "ne", "net", "nhs", "nom", "or",
        "org", "plc", "sch", "asn",
    ];
    /// Providers below whose name everybody has their own.
    const SHARED: [&str; 8] = [
        "herokuapp.com",
        "github.io",
        "gitlab.io",
        "netlify.app",
        "vercel.app",
        "pages.dev",
        "amazonaws.com",
        "cloudfront.net",
    ];
    let name = hostname.as_str();
    let bare = name.strip_prefix("*.").unwrap_or(name);
    let labels: Vec<&str> = bare.split('.').collect();
    let top = labels.last().copied().unwrap_or_default();
    let registry = labels.len() == 1
        || (labels.len() == 2 && top.len() == 2 && SECOND.contains(&labels[0]))
        || SHARED.contains(&bare);
    PRIVATE.contains(&top) || registry
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
