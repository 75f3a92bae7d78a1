//! `region`: where apps run.

use serde::{Deserialize, Serialize};

use crate::{Id, Time};

/// `GET /regions/{region}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// The country.
    pub country: String,
    /// When it was opened.
    pub created_at: Time,
    /// For people.
    pub description: String,
    /// The region's id.
    pub id: Id,
    /// The area in the country.
    pub locale: String,
    /// The unique name.
    pub name: String,
    /// Whether private spaces can be there.
    pub private_capable: bool,
    /// Whose machines they are.
    pub provider: Provider,
    /// When it last changed.
    pub updated_at: Time,
}

/// Whose machines a region has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// The provider's name.
    pub name: String,
    /// The provider's own name of the region: `us-east-1`.
    pub region: String,
}
