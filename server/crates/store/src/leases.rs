//! One actor per app: the lease that reconciliation works under.

use paas_domain::{AppId, Generation, Timestamp};

use crate::row::args;
use crate::{AppScope, StoreError, Uow};

/// The right to make an app true, until `until` or until somebody with a higher fence takes it.
#[derive(Clone, Debug)]
pub struct AppLease {
    /// Which app.
    pub scope: AppScope,
    /// Grows with each claim.
    pub fence: i64,
    /// How many passes in a row failed before this one.
    pub failed_passes: u32,
    /// Whether the owner has seen all that happened to the app's dynos, as far as any server has.
    pub knows: bool,
    /// What was last told of a pass that failed, since one ended well: see [`Uow::release_failed_app`].
    pub told: Option<String>,
}

impl Uow {
    /// Takes the app that has been due longest: its generation is not settled, it is time to look again, or whoever was
    /// to look has died.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn claim_due_app(
        &mut self,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<AppLease>, StoreError> {
        // The kick is consumed here; one that comes while the lease is held is kept by `release_app`.
        let sql = "UPDATE apps SET lease_owner = $1, lease_until = $3, look_again_at = NULL, fence = fence + 1 WHERE id = (\
                   SELECT id FROM apps WHERE (look_again_at <= $2 OR (look_again_at IS NULL AND \
                   (generation > settled_generation OR lease_until IS NOT NULL))) \
                   AND (lease_until IS NULL OR lease_until <= $2) ORDER BY look_again_at IS NOT NULL, look_again_at, id LIMIT 1) \
                   AND (lease_until IS NULL OR lease_until <= $2) RETURNING id, fence, failed_passes, known_by, told";
        let Some(mut row) = self.row(sql, args![owner, now, until]).await? else { return Ok(None) };
        let (scope, fence) = (AppScope::mint(row.parse()?), row.int()?);
        let failed_passes = u32::try_from(row.int()?).map_err(|_| StoreError::Corrupt("count of failed passes"))?;
        let knows = row.opt_text()?.is_some_and(|known_by| known_by == owner);
        let told = row.opt_text()?;
        if !knows {
            self.execute("UPDATE apps SET known_by = $2 WHERE id = $1", args![scope.id(), owner]).await?;
        }
        Ok(Some(AppLease { scope, fence, failed_passes, knows, told }))
    }

    /// When the next app is due, for the loop's sleep. One that is held is due when its lease ends: whoever holds it
    /// may have died.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn next_due_app(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT min(CASE WHEN lease_until > coalesce(look_again_at, 0) THEN lease_until \
                   ELSE coalesce(look_again_at, 0) END) FROM apps \
                   WHERE look_again_at IS NOT NULL OR generation > settled_generation OR lease_until IS NOT NULL";
        match self.row(sql, vec![]).await? {
            Some(mut row) => row.opt_time(),
            None => Ok(None),
        }
    }

    /// Keeps a lease alive while a pass goes on.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when it is over, or somebody else has it by now.
    pub async fn renew_app(&mut self, lease: &AppLease, until: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET lease_until = $3 WHERE id = $1 AND fence = $2 AND lease_until IS NOT NULL";
        match self.execute(sql, args![lease.scope.id(), lease.fence, until]).await? {
            0 => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }

    /// Ends a lease with its result: what generation was made true (if it was) and when to look again.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when somebody else holds the lease by now: then nothing of this transaction counts.
    pub async fn release_app(
        &mut self,
        lease: &AppLease,
        settled: Option<Generation>,
        look_again_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        // The sooner of this wish and of a kick that came meanwhile.
        let sql = "UPDATE apps SET lease_owner = NULL, lease_until = NULL, failed_passes = 0, told = NULL, \
                   look_again_at = CASE WHEN look_again_at IS NULL OR look_again_at > $3 THEN $3 ELSE look_again_at END, \
                   settled_generation = coalesce($4, settled_generation) WHERE id = $1 AND fence = $2";
        let settled = settled.map(|g| g.0);
        match self.execute(sql, args![lease.scope.id(), lease.fence, look_again_at, settled]).await? {
            0 => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }

    /// Ends the lease of a pass that failed, and says when the next one may be tried. A kick or a new wish comes
    /// before that. `told` is what the app was told of it, which the next lease shows: nothing is said twice.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when somebody else holds the lease by now.
    pub async fn release_failed_app(
        &mut self,
        lease: &AppLease,
        again_at: Timestamp,
        told: Option<&str>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET lease_owner = NULL, lease_until = NULL, failed_passes = failed_passes + 1, \
                   told = coalesce($4, told), \
                   look_again_at = CASE WHEN look_again_at IS NULL OR look_again_at > $3 THEN $3 ELSE look_again_at END \
                   WHERE id = $1 AND fence = $2";
        match self.execute(sql, args![lease.scope.id(), lease.fence, again_at, told]).await? {
            0 => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }

    /// Checks that the lease still holds, within a transaction that writes a result.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when it does not.
    pub async fn check_lease(&mut self, lease: &AppLease) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET fence = fence WHERE id = $1 AND fence = $2";
        match self.execute(sql, args![lease.scope.id(), lease.fence]).await? {
            0 => Err(StoreError::Fenced),
            _ => Ok(()),
        }
    }

    /// Makes an app due at once (an event of the platform, or a changed wish).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn kick_app(&mut self, app: &AppId, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET look_again_at = $2 WHERE id = $1 AND (look_again_at IS NULL OR look_again_at > $2)";
        self.execute(sql, args![app, now]).await?;
        Ok(())
    }

    /// Makes an app due at once, of which `who` has heard something that other servers may never hear of.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn heard_of_app(&mut self, app: &AppId, who: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET known_by = '' WHERE id = $1 AND known_by <> '' AND known_by <> $2";
        self.execute(sql, args![app, who]).await?;
        self.kick_app(app, now).await
    }

    /// Makes every app due at once: after a start, and for the slow sweep.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn kick_all_apps(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET look_again_at = $1 WHERE look_again_at IS NULL OR look_again_at > $1";
        self.execute(sql, args![now]).await?;
        Ok(())
    }

    /// Frees the leases of a server that is known to be dead: this one before its restart.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn free_leases_of(&mut self, owner: &str) -> Result<(), StoreError> {
        let apps = "UPDATE apps SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = $1";
        self.execute(apps, args![owner]).await?;
        let jobs = "UPDATE jobs SET lease_owner = NULL, lease_until = NULL WHERE lease_owner = $1";
        self.execute(jobs, args![owner]).await?;
        Ok(())
    }

    /// Frees every lease: where this server is the only one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn free_leases(&mut self) -> Result<(), StoreError> {
        self.execute("UPDATE apps SET lease_owner = NULL, lease_until = NULL", vec![]).await?;
        self.execute("UPDATE jobs SET lease_owner = NULL, lease_until = NULL WHERE lease_owner IS NOT NULL", vec![])
            .await?;
        Ok(())
    }
}
