//! The only SQL of the product: what was promised, on SQLite or PostgreSQL.
//!
//! One text of SQL serves both databases (`$1` parameters, `ON CONFLICT`, `RETURNING`, TEXT ids, BIGINT
//! milliseconds); [`db`] holds the few differences. A change is a [`Uow`]: read, decide, write,
//! [`Uow::save`]. While one is open no driver may be called (`paas_ports::outside`).
//!
//! To add a noun: a table in `schema.rs`, a file with its record and its functions on [`Uow`], and its
//! promises in `tests/tests/contract/store.rs`, which runs on both databases. Functions that concern an app take
//! an [`AppScope`], which only authorization, a job's claim or a lease can mint.

mod accounts;
mod apps;
mod aws_ledger;
mod builds;
mod config_versions;
mod db;
mod domains;
mod dyno_notes;
mod dynos;
mod formation;
mod jobs;
mod leases;
mod log_sessions;
mod releases;
mod row;
mod schema;
mod scope;
mod seal;
mod servers;
mod services;
mod sources;

pub use accounts::{Account, Authorization, NewAuthorization};
pub use apps::App;
pub use aws_ledger::{AwsRow, AwsSlot};
pub use builds::{Build, Image, NewBuild};
pub use config_versions::ConfigVersion;
pub use db::{Channel, Heard, MOST_TOLD, Store, StoreError, Uow};
pub use domains::{Domain, DomainKind};
pub use dynos::{Dyno, NewDyno};
pub use formation::FormationLine;
pub use jobs::{BUILDER_STEPS, HELD_STEPS, Job, JobKind, JobLease, JobState};
pub use leases::AppLease;
pub use log_sessions::LogSession;
pub use releases::{NewRelease, ProcessTable, Release};
pub use scope::AppScope;
pub use seal::MasterKey;
pub use servers::{Server, Takes, Unbuildable};
pub use services::Service;
pub use sources::Source;
