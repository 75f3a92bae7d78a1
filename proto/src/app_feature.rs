//! `app-feature`: something that an app can have switched on.

use serde::{Deserialize, Serialize};

use crate::{Id, Time};

/// `GET /apps/{app}/features/{feature}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFeature {
    /// Since when the app could have it.
    pub created_at: Time,
    /// What it does.
    pub description: String,
    /// Its name for people.
    pub display_name: String,
    /// Where more is said of it.
    pub doc_url: String,
    /// Whether the app has it.
    pub enabled: bool,
    /// Whom to tell about it.
    pub feedback_email: String,
    /// The feature's id.
    pub id: Id,
    /// Its name, unique.
    pub name: String,
    /// `general`, or how far it is on the way there.
    pub state: String,
    /// When it was last switched, at the latest.
    pub updated_at: Time,
}

/// Body of `PATCH /apps/{app}/features/{feature}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateAppFeature {
    /// On or off.
    pub enabled: bool,
}
