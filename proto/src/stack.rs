//! `stack`: the system an app runs on.

use serde::{Deserialize, Serialize};

use crate::{Id, Time};

/// `GET /stacks/{stack}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// When it was made.
    pub created_at: Time,
    /// Whether new apps get it.
    pub default: bool,
    /// The stack's id.
    pub id: Id,
    /// The unique name.
    pub name: String,
    /// `beta`, `deprecated` or `public`.
    pub state: String,
    /// When it last changed.
    pub updated_at: Time,
}
