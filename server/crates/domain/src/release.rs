//! Releases, builds and rollouts: the states they can be in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// A release's number within its app, from 1, without gaps. Shown as `v7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReleaseVersion(pub i64);

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// Counts the changes of what an app should be. Every write of a wish raises it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant),*
        }

        impl $name {
            /// The word that the database and Heroku's API use.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => Err(NameError(concat!("not a ", stringify!($name)))),
                }
            }
        }
    };
}
pub(crate) use states;

states! {
    /// Where a build stands. Terminal states never change.
    BuildStatus {
        /// Accepted: waits its turn or runs.
        Pending = "pending",
        /// A release was cut of it.
        Succeeded = "succeeded",
        /// It was not.
        Failed = "failed",
    }
}
states! {
    /// Where a release stands. Terminal states never change.
    ReleaseStatus {
        /// Its release phase has not ended.
        Pending = "pending",
        /// It may be the current one.
        Succeeded = "succeeded",
        /// Its release phase failed.
        Failed = "failed",
    }
}
states! {
    /// Whether the dynos of one process type are what the current release asks for.
    RolloutState {
        /// They are.
        Settled = "settled",
        /// On the way.
        Rolling = "rolling",
        /// The target release's dynos did not come to serve; the last serving release still does.
        Failed = "failed",
    }
}
