//! The product's own words: apps, process types, quantities, releases, dynos, time.
//!
//! Everything here is a value. Nothing awaits, nothing does I/O (but [`SystemClock`], which reads the
//! clock); a text from outside becomes one of these types once, at the edge, and is right from then on.

mod clock;
mod config;
mod crash_ladder;
mod dyno;
mod formation;
mod id;
mod name;
mod outside_name;
mod placement;
mod procfile;
mod release;
mod size;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use config::{ConfigVars, MAX_CONFIG_BYTES};
pub use crash_ladder::{CRASH_LADDER_S, CRASH_RESET_S, crash_delay_s};
pub use dyno::{DynoKind, DynoName, DynoState};
pub use formation::{MAX_QUANTITY, Quantity, QuantityChange, QuantityError};
pub use id::{
    AccountId, AppId, AuthorizationId, BuildId, ConfigId, DomainId, DynoId, IdError, InstallId, JobId, OutputId,
    ReleaseId,
};
pub use name::{AppName, Digest, EnvKey, HostName, NameError, ProcessType, RefName};
pub use outside_name::{app_tail, app13, outside_name};
pub use placement::{Architecture, Capacity};
pub use procfile::{Procfile, ProcfileError};
pub use release::{BuildStatus, Generation, ReleaseStatus, ReleaseVersion, RolloutState};
pub use size::DynoSize;
