//! Dynos: what they are called and the states they pass through.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::release::states;
use crate::{NameError, ProcessType};

states! {
    /// Heroku's word for what a dyno is doing.
    DynoState {
        /// Its container is being made, or it has not bound `$PORT` yet.
        Starting = "starting",
        /// Running, and bound to `$PORT` when it is a web dyno.
        Up = "up",
        /// Told to stop; has 30 s.
        Stopping = "stopping",
        /// Ended by itself, or killed for not binding in time.
        Crashed = "crashed",
        /// Gone.
        Ended = "ended",
    }
}
states! {
    /// Why a dyno runs.
    DynoKind {
        /// As part of the formation: kept running.
        Service = "service",
        /// A one-off dyno of `run`: started once.
        Run = "run",
        /// The release phase of one release: started once.
        Release = "release",
    }
}

/// `web.1`, `run.4821`: a process type and a slot (or a random number).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DynoName {
    /// `web`, `worker`, `run`, `release`.
    pub process_type: ProcessType,
    /// The lowest free number from 1 for a service; four random digits for a one-off dyno.
    pub slot: u32,
}

impl fmt::Display for DynoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.process_type, self.slot)
    }
}

impl FromStr for DynoName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let bad = NameError("not a dyno name");
        let (process_type, slot) = text.rsplit_once('.').ok_or_else(|| bad.clone())?;
        let canonical = !slot.is_empty() && !slot.starts_with('0') && slot.bytes().all(|b| b.is_ascii_digit());
        let slot = if canonical { slot.parse().ok() } else { None };
        Ok(Self { process_type: process_type.parse()?, slot: slot.ok_or(bad)? })
    }
}

impl TryFrom<String> for DynoName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<DynoName> for String {
    fn from(name: DynoName) -> Self {
        name.to_string()
    }
}
