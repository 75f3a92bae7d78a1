//! `apps:rename` and `maintenance:on|off`.

use paas_domain::AppName;
use paas_store::{App, AppScope, DomainKind, StoreError};

use super::create_app::{own_hostname, refuse_reserved};
use crate::cx::{Cx, OpError};

/// What to change about an app.
#[derive(Clone, Debug, Default)]
pub struct AppChange {
    /// Another name. Its own host name changes with it; outside objects are named by the id and stay.
    pub name: Option<AppName>,
    /// The maintenance page on or off.
    pub maintenance: Option<bool>,
}

/// Changes an app.
///
/// # Errors
/// [`OpError::Invalid`] when the new name is taken.
pub async fn update_app(cx: &Cx, app: &AppScope, change: &AppChange) -> Result<App, OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    let before = uow.lock_app(app).await?;
    if let Some(name) = change.name.as_ref().filter(|name| **name != before.name) {
        refuse_reserved(name)?;
        match uow.rename_app(app, name).await {
            Err(StoreError::Taken(_)) => return Err(OpError::invalid(format!("Name {name} is already taken"))),
            renamed => renamed?,
        }
        for domain in uow.domains(app).await?.into_iter().filter(|d| d.kind == DomainKind::Heroku) {
            uow.delete_domain(app, &domain.id).await?;
        }
        uow.create_domain(app, &own_hostname(cx, name)?, DomainKind::Heroku, now).await?;
    }
    if let Some(on) = change.maintenance {
        uow.set_maintenance(app, on).await?;
    }
    uow.raise_generation(app, now).await?;
    let after = uow.app(app).await?;
    uow.save().await?;
    cx.kick();
    Ok(after)
}
