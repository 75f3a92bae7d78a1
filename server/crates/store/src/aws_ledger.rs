//! What the AWS drivers must remember: which balancer serves whom, which rule is whose, which slot a task has.
//!
//! A row is a key and a body that only the driver reads. Keys are what must be unique: `rule` rows are owned by a
//! balancer and named by a priority, so one priority of one listener has one rule; `group` rows by an app and a
//! process type; and so on (`paas-aws`, `ledger.rs`). Drivers decide on what they read, so a change names the
//! revision that it was decided on, and counts only when nobody has written since.
//!
//! These rows outlive their app (what is on AWS does too, until it is removed there), so they refer to no table
//! and take no [`AppScope`](crate::AppScope); what an API answer shows of them goes through one.

use paas_domain::{AppId, ProcessType};

use crate::row::args;
use crate::{AppScope, StoreError, Uow};

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsRow {
    /// What it is of, as `rule`.
    pub kind: String,
    /// Whose.
    pub owner: String,
    /// Which of the owner's.
    pub name: String,
    /// What the driver remembers.
    pub body: String,
}

/// A slot that a task has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSlot {
    /// Of which process type.
    pub process_type: ProcessType,
    /// The number in `web.1`.
    pub slot: u32,
    /// The task's ARN.
    pub task: String,
}

impl Uow {
    /// The ledger's revision. Raised by every change.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn aws_revision(&mut self) -> Result<i64, StoreError> {
        let row = self.row("SELECT revision FROM aws_revision", vec![]).await?;
        row.ok_or(StoreError::Corrupt("revision"))?.int()
    }

    /// Raises the revision when it still is `expected`; whether it was. Holds every other writer until the end of
    /// the transaction.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn raise_aws_revision(&mut self, expected: i64) -> Result<bool, StoreError> {
        let sql = "UPDATE aws_revision SET revision = revision + 1 WHERE revision = $1";
        Ok(self.execute(sql, args![expected]).await? == 1)
    }

    /// Every row.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn aws_rows(&mut self) -> Result<Vec<AwsRow>, StoreError> {
        let sql = "SELECT kind, owner, name, body FROM aws_ledger ORDER BY kind, owner, name";
        let rows = self.rows(sql, vec![]).await?.into_iter();
        rows.map(|mut row| Ok(AwsRow { kind: row.text()?, owner: row.text()?, name: row.text()?, body: row.text()? }))
            .collect()
    }

    /// The body of one row.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn aws_row(&mut self, kind: &str, owner: &str, name: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT body FROM aws_ledger WHERE kind = $1 AND owner = $2 AND name = $3";
        self.row(sql, args![kind, owner, name]).await?.map(|mut row| row.text()).transpose()
    }

    /// The rows of one kind that an app owns.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn aws_rows_of(&mut self, of: &AppScope, kind: &str) -> Result<Vec<AwsRow>, StoreError> {
        let sql = "SELECT name, body FROM aws_ledger WHERE kind = $1 AND owner = $2 ORDER BY name";
        let rows = self.rows(sql, args![kind, of.id()]).await?.into_iter();
        rows.map(|mut row| {
            let owner = of.id().as_str().to_owned();
            Ok(AwsRow { kind: kind.to_owned(), owner, name: row.text()?, body: row.text()? })
        })
        .collect()
    }

    /// Writes a row, in the place of the one with its key.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_aws_row(&mut self, row: &AwsRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO aws_ledger (kind, owner, name, body) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (kind, owner, name) DO UPDATE SET body = excluded.body";
        self.execute(sql, args![&*row.kind, &*row.owner, &*row.name, &*row.body]).await?;
        Ok(())
    }

    /// Removes a row. Succeeds when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_aws_row(&mut self, kind: &str, owner: &str, name: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM aws_ledger WHERE kind = $1 AND owner = $2 AND name = $3";
        self.execute(sql, args![kind, owner, name]).await?;
        Ok(())
    }

    /// The slot of this task: the one that it has, else the lowest that is free.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when somebody took the same slot at the same moment: try again.
    pub async fn take_aws_slot(
        &mut self,
        app: &AppId,
        process_type: &ProcessType,
        task: &str,
    ) -> Result<u32, StoreError> {
        if let Some(mut row) = self.row("SELECT slot FROM aws_slots WHERE task = $1", args![task]).await? {
            return slot(row.int()?);
        }
        let sql = "SELECT slot FROM aws_slots WHERE app = $1 AND process_type = $2 ORDER BY slot";
        let mut free = 1_i64;
        for mut row in self.rows(sql, args![app, process_type]).await? {
            if row.int()? == free {
                free += 1;
            }
        }
        let sql = "INSERT INTO aws_slots (app, process_type, slot, task) VALUES ($1, $2, $3, $4)";
        self.execute(sql, args![app, process_type, free, task]).await?;
        slot(free)
    }

    /// Gives a task's slot back. Succeeds when it has none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn free_aws_slot(&mut self, task: &str) -> Result<(), StoreError> {
        self.execute("DELETE FROM aws_slots WHERE task = $1", args![task]).await?;
        Ok(())
    }

    /// The slots that tasks of an app have.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn aws_slots(&mut self, app: &AppId) -> Result<Vec<AwsSlot>, StoreError> {
        let sql = "SELECT process_type, slot, task FROM aws_slots WHERE app = $1 ORDER BY process_type, slot";
        let rows = self.rows(sql, args![app]).await?.into_iter();
        rows.map(|mut row| Ok(AwsSlot { process_type: row.parse()?, slot: slot(row.int()?)?, task: row.text()? }))
            .collect()
    }
}

fn slot(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Corrupt("slot"))
}
