//! `placement`: what an app runs on. Not a resource of Heroku's: it is below `/paas`.

use serde::{Deserialize, Serialize};

/// `GET /paas/apps/{app}/placement`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// What the next image is built for: `x86_64` or `arm64`.
    pub architecture: String,
    /// What services take their dynos from: `on_demand` or `spot`.
    pub capacity: String,
}

/// Body of `PATCH /paas/apps/{app}/placement`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePlacement {
    /// Another architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Other capacity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<String>,
}
