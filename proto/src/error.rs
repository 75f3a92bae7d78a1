//! The body of every answer that is an error.

use serde::{Deserialize, Serialize};

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// For programs: `not_found`, `invalid_params`, `unauthorized`, …
    pub id: String,
    /// For people, to be shown as it stands.
    pub message: String,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The app concerned; with `two_factor` it makes the CLI ask for a code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<crate::NameOnly>,
    /// With `not_found`: the kind of thing that was not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}
