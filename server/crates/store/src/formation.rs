//! The formation: how many dynos of which size each process type should have.

use paas_domain::{DynoSize, ProcessType, Quantity, Timestamp};

use crate::row::{Row, args};
use crate::{AppScope, StoreError, Uow};

/// One process type's line of the formation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormationLine {
    /// Its id, for the API.
    pub id: String,
    /// Which process type.
    pub process_type: ProcessType,
    /// How many dynos.
    pub quantity: Quantity,
    /// How large each is.
    pub size: DynoSize,
    /// Counts the restarts asked for.
    pub restart: i64,
    /// Since when the line exists.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

fn line(mut row: Row) -> Result<FormationLine, StoreError> {
    Ok(FormationLine {
        id: row.text()?,
        process_type: row.parse()?,
        quantity: u16::try_from(row.int()?).ok().and_then(Quantity::new).ok_or(StoreError::Corrupt("quantity"))?,
        size: row.parse()?,
        restart: row.int()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

impl Uow {
    /// All lines, by process type. Lines of types that the current release does not have are among them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn formation(&mut self, of: &AppScope) -> Result<Vec<FormationLine>, StoreError> {
        let sql = "SELECT id, process_type, quantity, size, restart, created_at, updated_at FROM formation \
                   WHERE app = $1 ORDER BY process_type";
        self.rows(sql, args![of.id()]).await?.into_iter().map(line).collect()
    }

    /// Writes one line's quantity and size.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_formation(
        &mut self,
        of: &AppScope,
        process_type: &ProcessType,
        quantity: Quantity,
        size: DynoSize,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO formation (app, process_type, id, quantity, size, restart, created_at, updated_at) \
                   VALUES ($1, $2, $3, $4, $5, 0, $6, $6) ON CONFLICT (app, process_type) DO UPDATE SET \
                   quantity = excluded.quantity, size = excluded.size, updated_at = excluded.updated_at";
        // The line's id for the API; nothing refers to it.
        let id = paas_domain::JobId::new();
        let quantity = i64::from(quantity.get());
        self.execute(sql, args![of.id(), process_type, &id, quantity, &size, now]).await?;
        Ok(())
    }

    /// Asks for all dynos of these types to be replaced (of every type when `process_type` is `None`).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn restart_formation(
        &mut self,
        of: &AppScope,
        process_type: Option<&ProcessType>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE formation SET restart = restart + 1, updated_at = $3 \
                   WHERE app = $1 AND ($2 IS NULL OR process_type = $2)";
        self.execute(sql, args![of.id(), process_type, now]).await?;
        Ok(())
    }
}
