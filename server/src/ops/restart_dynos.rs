//! `ps:restart` and `ps:stop`.

use paas_domain::{DynoKind, DynoName, DynoState, ProcessType};
use paas_ports::LogSource;
use paas_store::{Account, AppScope, Dyno};

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

impl Which {
    /// Whether another dyno takes this one's place. One-off dynos do not come back, and what stops already stops.
    fn is_restarted(&self, dyno: &Dyno) -> bool {
        let chosen = match self {
            Self::All => true,
            Self::Type(process_type) => dyno.name.process_type == *process_type,
            Self::One(name) => dyno.name == *name,
        };
        let there = matches!(dyno.state, DynoState::Starting | DynoState::Up | DynoState::Crashed);
        chosen && there && dyno.kind == DynoKind::Service
    }
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
    let dynos = uow.dynos(app).await?;
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
            let dyno = dynos.iter().find(|dyno| dyno.name == *name).ok_or(OpError::NotFound("dyno"))?;
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
    let mut lines = vec![(LogSource::App, "api".to_owned(), line)];
    for dyno in dynos.iter().filter(|dyno| which.is_restarted(dyno)) {
        let name = dyno.name.to_string();
        lines.push((LogSource::Heroku, name.clone(), "Restarting".to_owned()));
        if dyno.state != DynoState::Starting {
            let line = format!("State changed from {} to {}", dyno.state, DynoState::Starting);
            lines.push((LogSource::Heroku, name, line));
        }
    }
    cx.say_all(app.id(), lines).await;
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
