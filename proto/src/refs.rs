//! How resources point at each other.

use serde::{Deserialize, Serialize};

/// A UUID as text.
pub type Id = String;

/// An instant as RFC 3339 in UTC with a precision of a second: `2026-11-23T15:04:05Z`.
pub type Time = String;

/// A thing of which only the id is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Only {
    /// Its id.
    pub id: Id,
}

/// A thing by id and name: an app, region, stack, team, dyno size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
}

/// Who did or owns something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The account's id.
    pub id: Id,
    /// The account's e-mail address.
    pub email: String,
}
