//! Dynos: what runs, as rows. One-off dynos are wishes; service dynos mirror what the runtime shows.

use paas_domain::{ConfigVars, DynoId, DynoKind, DynoName, DynoSize, DynoState, ReleaseVersion, Timestamp};

use crate::row::{Row, args};
use crate::{AppScope, StoreError, Uow};

/// A dyno.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dyno {
    /// Its id.
    pub id: DynoId,
    /// Its name, unique among the app's dynos that have not ended.
    pub name: DynoName,
    /// Why it runs.
    pub kind: DynoKind,
    /// Of which release.
    pub release: ReleaseVersion,
    /// How large.
    pub size: DynoSize,
    /// Its command line.
    pub command: String,
    /// What it does.
    pub state: DynoState,
    /// How it ended.
    pub exit_code: Option<i32>,
    /// Whether somebody attaches to it.
    pub attach: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether somebody may still attach: the token was not used.
    pub attach_open: bool,
    /// When it was told to stop.
    pub stop_requested_at: Option<Timestamp>,
    /// When its time to live is over; `None` for one that may run for ever.
    pub expires_at: Option<Timestamp>,
    /// Since when it exists.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// A one-off dyno to be.
#[derive(Clone, Debug)]
pub struct NewDyno {
    /// Its name.
    pub name: DynoName,
    /// `Run` or `Release`.
    pub kind: DynoKind,
    /// Of which release.
    pub release: ReleaseVersion,
    /// How large.
    pub size: DynoSize,
    /// Its command line.
    pub command: String,
    /// Whether somebody attaches to it.
    pub attach: bool,
    /// Whether it has a terminal.
    pub tty: bool,
    /// SHA-256 of the attach token, in hexadecimal.
    pub attach_hash: Option<String>,
    /// Environment on top of the config vars.
    pub env: ConfigVars,
    /// When its time to live is over.
    pub expires_at: Option<Timestamp>,
    /// Where its link leads, when that is decided.
    pub link: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, process_type, slot, kind, release, size, command, state, exit_code, attach, tty, attach_hash, ",
            "stop_requested_at, expires_at, created_at, updated_at, ended_at FROM dynos ",
            $rest
        )
    };
}

fn dyno(row: &mut Row) -> Result<Dyno, StoreError> {
    Ok(Dyno {
        id: row.parse()?,
        name: DynoName {
            process_type: row.parse()?,
            slot: u32::try_from(row.int()?).map_err(|_| StoreError::Corrupt("slot"))?,
        },
        kind: row.parse()?,
        release: ReleaseVersion(row.int()?),
        size: row.parse()?,
        command: row.text()?,
        state: row.parse()?,
        exit_code: row.opt_int()?.and_then(|code| i32::try_from(code).ok()),
        attach: row.bool()?,
        tty: row.bool()?,
        attach_open: row.opt_text()?.is_some(),
        stop_requested_at: row.opt_time()?,
        expires_at: row.opt_time()?,
        created_at: row.time()?,
        updated_at: row.time()?,
        ended_at: row.opt_time()?,
    })
}

impl Uow {
    /// Writes a one-off dyno that is to be started.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when a dyno of that name runs.
    pub async fn create_dyno(&mut self, of: &AppScope, new: &NewDyno, now: Timestamp) -> Result<Dyno, StoreError> {
        let id = DynoId::new();
        let env = self.seal_vars(id.as_str(), &new.env)?;
        let sql = "INSERT INTO dynos (id, app, process_type, slot, kind, release, size, command, state, attach, tty, \
                   attach_hash, sealed_env, created_at, updated_at, expires_at, link) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'starting', $9, $10, $11, $12, $13, $13, $14, $15)";
        let (slot, hash, command) = (i64::from(new.name.slot), new.attach_hash.as_deref(), new.command.as_str());
        self.execute(
            sql,
            args![
                &id,
                of.id(),
                &new.name.process_type,
                slot,
                &new.kind,
                new.release.0,
                &new.size,
                command,
                new.attach,
                new.tty,
                hash,
                env,
                now,
                new.expires_at,
                new.link.as_deref()
            ],
        )
        .await?;
        let mut row = self.row(select!("WHERE id = $1"), args![&id]).await?.ok_or(StoreError::NotFound("dyno"))?;
        dyno(&mut row)
    }

    /// The environment that a one-off dyno was asked for with, on top of the config vars.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the dyno is not this app's.
    pub async fn dyno_env(&mut self, of: &AppScope, id: &DynoId) -> Result<ConfigVars, StoreError> {
        let sql = "SELECT sealed_env FROM dynos WHERE id = $1 AND app = $2 AND sealed_env IS NOT NULL";
        let mut row = self.row(sql, args![id, of.id()]).await?.ok_or(StoreError::NotFound("dyno"))?;
        let sealed = row.bytes()?;
        self.open_vars(id.as_str(), &sealed)
    }

    /// Where a one-off dyno's link leads, when that was decided as it was asked for.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the dyno is not this app's.
    pub async fn dyno_link(&mut self, of: &AppScope, id: &DynoId) -> Result<Option<String>, StoreError> {
        let row = self.row("SELECT link FROM dynos WHERE id = $1 AND app = $2", args![id, of.id()]).await?;
        row.ok_or(StoreError::NotFound("dyno"))?.opt_text()
    }

    /// The app's dynos that have not ended, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn dynos(&mut self, of: &AppScope) -> Result<Vec<Dyno>, StoreError> {
        let sql = select!("WHERE app = $1 AND ended_at IS NULL ORDER BY process_type, slot");
        let rows = self.rows(sql, args![of.id()]).await?;
        rows.into_iter().map(|mut row| dyno(&mut row)).collect()
    }

    /// One dyno, also when it ended.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not this app's.
    pub async fn dyno(&mut self, of: &AppScope, id: &DynoId) -> Result<Dyno, StoreError> {
        let row = self.row(select!("WHERE app = $1 AND id = $2"), args![of.id(), id]).await?;
        dyno(&mut row.ok_or(StoreError::NotFound("dyno"))?)
    }

    /// Mirrors what the runtime shows of a service dyno. A dyno in the same slot that the runtime no longer
    /// shows must have been ended before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_service_dyno(&mut self, of: &AppScope, seen: &Dyno) -> Result<(), StoreError> {
        let sql = "INSERT INTO dynos (id, app, process_type, slot, kind, release, size, command, state, exit_code, \
                   attach, tty, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, $11, $12) \
                   ON CONFLICT (id) DO UPDATE SET state = excluded.state, exit_code = excluded.exit_code, \
                   updated_at = excluded.updated_at";
        let (slot, exit) = (i64::from(seen.name.slot), seen.exit_code.map(i64::from));
        self.execute(
            sql,
            args![
                &seen.id,
                of.id(),
                &seen.name.process_type,
                slot,
                &seen.kind,
                seen.release.0,
                &seen.size,
                seen.command.as_str(),
                &seen.state,
                exit,
                seen.created_at,
                seen.updated_at
            ],
        )
        .await?;
        Ok(())
    }

    /// Writes a one-off dyno's state. Its end is final.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_dyno_state(
        &mut self,
        of: &AppScope,
        id: &DynoId,
        state: DynoState,
        exit_code: Option<i32>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE dynos SET state = $3, exit_code = coalesce($4, exit_code), updated_at = $5 \
                   WHERE app = $1 AND id = $2 AND ended_at IS NULL AND (state <> $3 OR $4 IS NOT NULL)";
        self.execute(sql, args![of.id(), id, &state, exit_code.map(i64::from), now]).await?;
        Ok(())
    }

    /// Ends a dyno: its slot is free, its attach token is dead, its environment is gone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_dyno(
        &mut self,
        of: &AppScope,
        id: &DynoId,
        exit_code: Option<i32>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE dynos SET state = 'ended', exit_code = coalesce($3, exit_code), attach_hash = NULL, \
                   sealed_env = NULL, updated_at = $4, ended_at = $4 WHERE app = $1 AND id = $2 AND ended_at IS NULL";
        self.execute(sql, args![of.id(), id, exit_code.map(i64::from), now]).await?;
        Ok(())
    }

    /// Asks for a dyno to be stopped; whether it ran.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn request_dyno_stop(&mut self, of: &AppScope, id: &DynoId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE dynos SET stop_requested_at = coalesce(stop_requested_at, $3), updated_at = $3 \
                   WHERE app = $1 AND id = $2 AND ended_at IS NULL";
        Ok(self.execute(sql, args![of.id(), id, now]).await? > 0)
    }

    /// Whose dyno this is, and its name: for the platform's own lines about it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn dyno_owner(&mut self, id: &DynoId) -> Result<Option<(AppScope, DynoName)>, StoreError> {
        let Some(mut row) = self.row("SELECT app, process_type, slot FROM dynos WHERE id = $1", args![id]).await?
        else {
            return Ok(None);
        };
        let scope = AppScope::mint(row.parse()?);
        let (process_type, slot) = (row.parse()?, row.int()?);
        let slot = u32::try_from(slot).map_err(|_| StoreError::Corrupt("slot"))?;
        Ok(Some((scope, DynoName { process_type, slot })))
    }

    /// Asks for every one-off dyno to be stopped that somebody has attached to: after a restart of the server that
    /// they were attached through.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn stop_cut_off_dynos(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE dynos SET stop_requested_at = coalesce(stop_requested_at, $1) \
                   WHERE kind = 'run' AND attach = 1 AND attach_hash IS NULL AND ended_at IS NULL";
        self.execute(sql, args![now]).await?;
        Ok(())
    }

    /// Ends the time in which somebody may attach; whether nobody has. Whoever has claimed it by then may go on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn close_attach(&mut self, of: &AppScope, id: &DynoId) -> Result<bool, StoreError> {
        let sql = "UPDATE dynos SET attach_hash = NULL WHERE app = $1 AND id = $2 AND attach_hash IS NOT NULL";
        Ok(self.execute(sql, args![of.id(), id]).await? > 0)
    }

    /// The dyno of a release's phase, also when it ended.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn release_dyno(&mut self, of: &AppScope, release: ReleaseVersion) -> Result<Option<Dyno>, StoreError> {
        let sql = select!("WHERE app = $1 AND kind = 'release' AND release = $2");
        let row = self.row(sql, args![of.id(), release.0]).await?;
        row.map(|mut row| dyno(&mut row)).transpose()
    }

    /// Takes an attach token: the dyno behind it, once. A second call with the same hash finds nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn claim_attach(&mut self, attach_hash: &str) -> Result<Option<(AppScope, Dyno)>, StoreError> {
        let sql = "UPDATE dynos SET attach_hash = NULL WHERE attach_hash = $1 AND ended_at IS NULL RETURNING id, app";
        let Some(mut row) = self.row(sql, args![attach_hash]).await? else { return Ok(None) };
        let (id, app) = (row.parse::<DynoId>()?, row.parse()?);
        let scope = AppScope::mint(app);
        let dyno = self.dyno(&scope, &id).await?;
        Ok(Some((scope, dyno)))
    }

    /// Drops rows of dynos that ended before this moment, but for those of release phases.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_dynos(&mut self, of: &AppScope, ended_before: Timestamp) -> Result<(), StoreError> {
        let sql = "DELETE FROM dynos WHERE app = $1 AND ended_at < $2 AND kind <> 'release'";
        self.execute(sql, args![of.id(), ended_before]).await?;
        Ok(())
    }
}
