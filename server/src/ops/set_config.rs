//! `config:set` and `config:unset`: a new config version and a release that carries the newest code on.

use paas_domain::{ConfigVars, EnvKey, MAX_CONFIG_BYTES};
use paas_store::{Account, AppScope, Release};
use secrecy::{ExposeSecret as _, SecretString};

use super::cut_release::{ReleaseParts, cut_release};
use crate::cx::{Cx, OpError};

/// One config var to set (`Some`) or to unset (`None`).
pub type ConfigChange = (EnvKey, Option<SecretString>);

/// Names that the platform itself sets in dynos.
const RESERVED: [&str; 2] = ["PORT", "DYNO"];
/// What its other names begin with.
const RESERVED_PREFIXES: [&str; 3] = ["HEROKU_", "PAAS_", "__"];

/// Whether a name is the platform's own in a dyno's environment: neither a config var nor a one-off dyno's own
/// variable may shadow it.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Changes config vars. Without a real difference nothing happens and there is no release, as on Heroku.
///
/// # Errors
/// [`OpError::Invalid`] for a name that may not be, or more than [`MAX_CONFIG_BYTES`] in all.
pub async fn set_config(
    cx: &Cx,
    app: &AppScope,
    account: &Account,
    changes: &[ConfigChange],
) -> Result<(ConfigVars, Option<Release>), OpError> {
    for (key, value) in changes {
        let name = key.as_str();
        if value.is_some() && RESERVED.contains(&name) {
            return Err(OpError::invalid(format!("{name} is set by the platform and can't be a config var.")));
        }
        // What is there from before may go.
        if name.starts_with("__") || value.is_some() && is_reserved(name) {
            return Err(OpError::invalid(format!(
                "{name} can't be used: names starting with __, HEROKU_ or PAAS_ are reserved."
            )));
        }
        if value.as_ref().is_some_and(|v| v.expose_secret().contains('\0')) {
            return Err(OpError::invalid(format!("The value of {name} can't contain a null byte.")));
        }
    }
    let now = cx.now();
    let mut uow = cx.begin().await?;
    let head = uow.lock_app(app).await?.head_config;
    let before = uow.config(app, &head).await?.vars;
    let mut after = before.clone();
    let (mut set, mut removed) = (Vec::new(), Vec::new());
    for (key, value) in changes {
        match value {
            Some(value) if after.get(key).is_none_or(|old| old.expose_secret() != value.expose_secret()) => {
                after.set(key.clone(), value.clone());
                set.push(key.as_str());
            }
            Some(_) => {}
            None => {
                if after.unset(key) {
                    removed.push(key.as_str());
                }
            }
        }
    }
    if after == before {
        return Ok((after, None));
    }
    if after.total_bytes() > MAX_CONFIG_BYTES {
        return Err(OpError::invalid(format!(
            "Config vars can't have more than {} KB in all.",
            MAX_CONFIG_BYTES / 1024
        )));
    }
    let config = uow.create_config(app, &after, now).await?;
    uow.set_head_config(app, &config).await?;
    // Also the code of a release whose phase failed: setting the var that it missed deploys it, as on Heroku.
    let base = uow.newest_release_with_image(app).await?;
    let description = description(&set, &removed);
    let parts = ReleaseParts {
        image: base.as_ref().and_then(|r| r.image.clone()),
        config,
        process_types: base.as_ref().map(|r| r.process_types.clone()).unwrap_or_default(),
        description: description.clone(),
        account: account.id.clone(),
        build: None,
        commit: base.and_then(|r| r.commit),
    };
    let release = cut_release(&mut uow, app, parts, now).await?;
    uow.save().await?;
    cx.kick();
    let email = &account.email;
    cx.say(app.id(), paas_ports::LogSource::App, "api", format!("{description} by user {email}")).await;
    let version = release.version;
    cx.say(app.id(), paas_ports::LogSource::App, "api", format!("Release {version} created by user {email}")).await;
    Ok((after, Some(release)))
}

/// Heroku's words: `Set A, B config vars`, `Remove A config vars`.
fn description(set: &[&str], removed: &[&str]) -> String {
    match (set.is_empty(), removed.is_empty()) {
        (false, true) => format!("Set {} config vars", set.join(", ")),
        (true, _) => format!("Remove {} config vars", removed.join(", ")),
        (false, false) => format!("Set {} and remove {} config vars", set.join(", "), removed.join(", ")),
    }
}
