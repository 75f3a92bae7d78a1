//! `ps:scale` and `ps:type`: how many dynos a process type runs, and their size.
//!
//! Makes no release: scale belongs to the app's formation, so a rollback leaves it alone.

use paas_domain::{DynoSize, ProcessType, QuantityChange};
use paas_store::{Account, AppScope, FormationLine, ProcessTable};

use crate::cx::{Cx, OpError};

/// A change of one process type's line.
#[derive(Clone, Debug)]
pub struct FormationUpdate {
    /// Which process type.
    pub process_type: ProcessType,
    /// Its new quantity.
    pub quantity: Option<QuantityChange>,
    /// Its new size.
    pub size: Option<DynoSize>,
}

/// Changes lines of the formation, all or none, and answers the whole formation of the current release.
///
/// # Errors
/// [`OpError::NotFound`] for a process type that the current release does not have; [`OpError::Invalid`] for
/// a quantity that cannot be.
pub async fn scale_formation(
    cx: &Cx,
    app: &AppScope,
    account: &Account,
    updates: &[FormationUpdate],
) -> Result<Vec<FormationLine>, OpError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.lock_app(app).await?;
    let mut said = Vec::new();
    let (_, mut lines) = current_formation(&mut uow, app).await?;
    for update in updates {
        let line = lines.iter_mut().find(|line| line.process_type == update.process_type);
        let Some(line) = line else {
            return Err(OpError::NotFound("process type"));
        };
        let quantity = match update.quantity {
            Some(change) => change.apply(line.quantity).map_err(|e| OpError::invalid(e.to_string()))?,
            None => line.quantity,
        };
        let size = update.size.unwrap_or(line.size);
        if quantity != line.quantity || size != line.size {
            uow.set_formation(app, &line.process_type, quantity, size, now).await?;
            said.push(format!("{}@{}:{size}", line.process_type, quantity.get()));
            (line.quantity, line.size) = (quantity, size);
        }
    }
    if !said.is_empty() {
        uow.raise_generation(app, now).await?;
    }
    let (_, lines) = current_formation(&mut uow, app).await?;
    let eco = |line: &&FormationLine| line.size == DynoSize::Eco;
    let running: Vec<&FormationLine> = lines.iter().filter(|line| line.quantity.get() > 0).collect();
    if running.iter().any(eco) && !running.iter().all(eco) && !said.is_empty() {
        return Err(OpError::invalid("Eco dynos can't be mixed with dynos of other sizes in one app."));
    }
    uow.save().await?;
    cx.kick();
    if !said.is_empty() {
        let line = format!("Scaled to {} by user {}", said.join(" "), account.email);
        cx.say(app.id(), paas_ports::LogSource::App, "api", line).await;
    }
    Ok(lines)
}

/// The process types of the current release with their command lines, and the formation as it has them: types that
/// it does not name are left out. The release phase is that of the newest code, which a retry would run.
///
/// # Errors
/// When the database does not answer.
pub async fn current_formation(
    uow: &mut paas_store::Uow,
    app: &AppScope,
) -> Result<(ProcessTable, Vec<FormationLine>), OpError> {
    let mut types = uow.current_release(app).await?.map(|release| release.process_types).unwrap_or_default();
    if let Some(newest) = uow.newest_release_with_image(app).await? {
        types.retain(|process_type, _| !process_type.is_release());
        types.extend(newest.process_types.into_iter().filter(|(process_type, _)| process_type.is_release()));
    }
    let lines = uow.formation(app).await?;
    let lines = lines.into_iter().filter(|line| types.contains_key(&line.process_type)).collect();
    Ok((types, lines))
}
