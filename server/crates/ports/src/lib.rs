//! What the core asks of the world outside the database, as a few small traits.
//!
//! The core never knows where it runs. A *platform* is one set of drivers for these ports; each port also
//! has a [`fake`] that obeys the same rules, and one contract suite ([`contract`]) that runs against every
//! driver. Rules for all of them:
//!
//! - Every call says how things should be and may be made twice; a call that timed out may have happened.
//! - Nothing here is called while a database transaction is open: [`outside`] checks it at every call.
//! - Drivers touch only what carries the installation's id.

pub mod builder;
pub mod contract;
pub mod fake;
pub mod ingress;
pub mod log_store;
pub mod outside;
pub mod pages;
pub mod registry;
pub mod runtime;
pub mod secrets;

pub use builder::{BuildFailure, BuildSpec, BuildVerdict, Builder, BuiltImage};
pub use ingress::{Attachment, Ingress, Member, MemberState, Pools, Route};
pub use log_store::{LogLine, LogSource, LogStore, OutputStore, Tail, TailQuery};
pub use registry::{ImagePlan, ImageRef, LayerSource, PlannedLayer, Registry};
pub use runtime::{Duplex, Observed, ObservedDyno, OneOffSpec, Progress, RolloutFailure, Runtime, ServiceSpec};
pub use secrets::{SecretKey, SecretVars, Secrets};

/// Why an outside call failed. What to do about it is the same for every driver.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// May well succeed when made again: time-outs, throttling, an engine that restarts.
    #[error("{doing}: {cause}")]
    Transient {
        /// What was being done, as "starting web.1".
        doing: String,
        /// What came back. Never a secret.
        cause: String,
    },
    /// Making the call again cannot help until someone changes something.
    #[error("{doing}: {cause}")]
    Permanent {
        /// What was being done.
        doing: String,
        /// What came back. Never a secret.
        cause: String,
    },
    /// The platform already carries a higher generation: whoever asked is out of date.
    #[error("superseded by a newer generation")]
    Superseded,
    /// What was named is not there.
    #[error("{0} is not there")]
    NotFound(String),
}

impl PortError {
    /// A failure that is worth another try.
    pub fn transient(doing: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::Transient { doing: doing.into(), cause: cause.to_string() }
    }

    /// A failure that stays.
    pub fn permanent(doing: impl Into<String>, cause: impl std::fmt::Display) -> Self {
        Self::Permanent { doing: doing.into(), cause: cause.to_string() }
    }

    /// Whether making the call again can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }
}
