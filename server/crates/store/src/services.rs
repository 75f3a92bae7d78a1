//! The rollout of each process type: what reconciliation found, and its crash ladder.

use paas_domain::{ProcessType, ReleaseVersion, RolloutState, Timestamp};

use crate::row::{Row, args};
use crate::{AppScope, StoreError, Uow};

/// Where one process type stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Which process type.
    pub process_type: ProcessType,
    /// The release it is being moved to.
    pub target_release: Option<ReleaseVersion>,
    /// The newest release whose dynos came to serve.
    pub serving_release: Option<ReleaseVersion>,
    /// Where the rollout stands.
    pub state: RolloutState,
    /// Why it failed.
    pub reason: Option<String>,
    /// Crashes in a row.
    pub crashes: u32,
    /// When crashed dynos may be replaced.
    pub next_try_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

fn service(mut row: Row) -> Result<Service, StoreError> {
    Ok(Service {
        process_type: row.parse()?,
        target_release: row.opt_int()?.map(ReleaseVersion),
        serving_release: row.opt_int()?.map(ReleaseVersion),
        state: row.parse()?,
        reason: row.opt_text()?,
        crashes: u32::try_from(row.int()?).map_err(|_| StoreError::Corrupt("crash count"))?,
        next_try_at: row.opt_time()?,
        updated_at: row.time()?,
    })
}

impl Uow {
    /// Every process type that has or had dynos.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn services(&mut self, of: &AppScope) -> Result<Vec<Service>, StoreError> {
        let sql = "SELECT process_type, target_release, serving_release, state, reason, crashes, next_try_at, updated_at \
                   FROM services WHERE app = $1 ORDER BY process_type";
        self.rows(sql, args![of.id()]).await?.into_iter().map(service).collect()
    }

    /// Writes what reconciliation found. Its transaction checks the app's lease.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_service(&mut self, of: &AppScope, service: &Service) -> Result<(), StoreError> {
        let sql = "INSERT INTO services (app, process_type, target_release, serving_release, state, reason, crashes, \
                   next_try_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                   ON CONFLICT (app, process_type) DO UPDATE SET target_release = excluded.target_release, \
                   serving_release = excluded.serving_release, state = excluded.state, reason = excluded.reason, \
                   crashes = excluded.crashes, next_try_at = excluded.next_try_at, updated_at = excluded.updated_at";
        let (target, serving) = (service.target_release.map(|v| v.0), service.serving_release.map(|v| v.0));
        let (reason, crashes) = (service.reason.as_deref(), i64::from(service.crashes));
        let (next, updated) = (service.next_try_at, service.updated_at);
        self.execute(
            sql,
            args![of.id(), &service.process_type, target, serving, &service.state, reason, crashes, next, updated],
        )
        .await?;
        Ok(())
    }

    /// Forgets a process type whose dynos are gone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_service(&mut self, of: &AppScope, process_type: &ProcessType) -> Result<(), StoreError> {
        let sql = "DELETE FROM services WHERE app = $1 AND process_type = $2";
        self.execute(sql, args![of.id(), process_type]).await?;
        Ok(())
    }

    /// Starts the crash ladder anew for these types: a release or a restart does.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reset_crashes(&mut self, of: &AppScope, process_type: Option<&ProcessType>) -> Result<(), StoreError> {
        let sql =
            "UPDATE services SET crashes = 0, next_try_at = NULL WHERE app = $1 AND ($2 IS NULL OR process_type = $2)";
        self.execute(sql, args![of.id(), process_type]).await?;
        Ok(())
    }
}
