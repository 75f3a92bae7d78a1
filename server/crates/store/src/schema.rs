//! The tables, as a list of migrations that only grows.

use crate::row::args;
use crate::{Store, StoreError};

/// Each entry is one version: statements divided by `;`. `{BYTES}` is the database's type for bytes.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/0001_start.sql"),
    include_str!("schema/0002_aws_ledger.sql"),
    include_str!("schema/0003_dyno_notes.sql"),
    include_str!("schema/0004_known_by.sql"),
    include_str!("schema/0005_affinity.sql"),
    include_str!("schema/0006_placement.sql"),
    include_str!("schema/0007_key_mark.sql"),
    include_str!("schema/0008_servers.sql"),
    include_str!("schema/0009_told.sql"),
    include_str!("schema/0010_expires_at.sql"),
    include_str!("schema/0011_worker.sql"),
    include_str!("schema/0012_dyno_link.sql"),
];

/// Brings the schema up to date. A second server that starts at the same time waits for the first.
pub(crate) async fn migrate(store: &Store) -> Result<(), StoreError> {
    paas_ports::outside::task(async {
        let mut uow = store.begin().await?;
        let bytes = if uow.is_postgres() {
            uow.execute("SELECT pg_advisory_xact_lock(7261616173)", vec![]).await?;
            "BYTEA"
        } else {
            "BLOB"
        };
        uow.execute("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)", vec![]).await?;
        let done = match uow.row("SELECT max(version) FROM schema_version", vec![]).await? {
            Some(mut row) => row.opt_int()?.unwrap_or(0),
            None => 0,
        };
        let done = usize::try_from(done).map_err(|_| StoreError::Corrupt("schema version"))?;
        if done > MIGRATIONS.len() {
            return Err(StoreError::Corrupt("schema: it was written by a newer version"));
        }
        for (index, text) in MIGRATIONS.iter().enumerate().skip(done) {
            for statement in text.replace("{BYTES}", bytes).split(";\n").filter(|s| !s.trim().is_empty()) {
                uow.execute_schema(statement.to_owned()).await?;
            }
            let version = i64::try_from(index + 1).unwrap_or(i64::MAX);
            uow.execute("INSERT INTO schema_version (version) VALUES ($1)", args![version]).await?;
        }
        uow.save().await
    })
    .await
}
