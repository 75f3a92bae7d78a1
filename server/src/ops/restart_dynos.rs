//! `ps:restart` and `ps:stop`.

use paas_domain::{DynoKind, DynoName, ProcessType};
use paas_store::{Account, AppScope};

use crate::cx::{Cx, OpError};

/// Which dynos.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of the formation.
    All,
    /// All of one process type.
    Type(ProcessType),
    /// One.
    One(DynoName),
}

/// Restarts dynos: new ones are healthy before the old ones stop. One dyno alone is told to stop, and its slot
/// is filled again.
///
/// # Errors
/// [`OpError::NotFound`] when there is no such dyno.
pub async fn restart_dynos(cx: &Cx, app: &AppScope, account: &Account, which: &Which) -> Result<(), OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    match which {
        Which::All => {
            uow.restart_formation(app, None, now).await?;
            uow.reset_crashes(app, None).await?;
        }
        Which::Type(process_type) => {
            uow.restart_formation(app, Some(process_type), now).await?;
            uow.reset_crashes(app, Some(process_type)).await?;
        }
        Which::One(name) => {
            let dyno = uow.dynos(app).await?.into_iter().find(|dyno| dyno.name == *name);
            let dyno = dyno.ok_or(OpError::NotFound("dyno"))?;
            uow.request_dyno_stop(app, &dyno.id, now).await?;
            uow.reset_crashes(app, Some(&name.process_type)).await?;
        }
    }
    uow.raise_generation(app, now).await?;
    uow.save().await?;
    cx.kick();
    let what = match which {
        Which::All => "all".to_owned(),
        Which::Type(process_type) => process_type.to_string(),
        Which::One(name) => name.to_string(),
    };
    let line = format!("Restart {what} dynos by user {}", account.email);
    cx.say(app.id(), paas_ports::LogSource::App, "api", line).await;
    Ok(())
}

/// Stops dynos. Those of the formation come back, as on Heroku; one-off dynos do not.
///
/// # Errors
/// [`OpError::NotFound`] when there is no such dyno.
pub async fn stop_dynos(cx: &Cx, app: &AppScope, which: &Which) -> Result<(), OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let dynos = uow.dynos(app).await?;
    let chosen: Vec<_> = dynos
        .into_iter()
        .filter(|dyno| match which {
            Which::All => dyno.kind != DynoKind::Release,
            Which::Type(process_type) => dyno.name.process_type == *process_type,
            Which::One(name) => dyno.name == *name,
        })
        .collect();
    if chosen.is_empty() && matches!(which, Which::One(_)) {
        return Err(OpError::NotFound("dyno"));
    }
    for dyno in chosen {
        uow.request_dyno_stop(app, &dyno.id, now).await?;
    }
    uow.raise_generation(app, now).await?;
    uow.save().await?;
    cx.kick();
    Ok(())
}
