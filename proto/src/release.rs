//! `release`: code and config together, numbered.

use serde::{Deserialize, Serialize};

use crate::{Id, Named, NumberOrText, Only, Time, User};

/// `GET /apps/{app}/releases/{release}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Plans of the add-ons it had.
    pub addon_plan_names: Vec<String>,
    /// The app.
    pub app: Named,
    /// What it was made of.
    pub artifacts: Vec<Artifact>,
    /// When it was made.
    pub created_at: Time,
    /// Whether it is the one that serves.
    pub current: bool,
    /// What changed.
    pub description: String,
    /// Whether a rollback may go back to it.
    pub eligible_for_rollback: bool,
    /// The release's id.
    pub id: Id,
    /// The image, in Heroku's newer generation. Not in the schema; `null` here.
    #[serde(default)]
    pub oci_image: Option<Only>,
    /// Where the release phase's output streams from; `null` without a release phase.
    pub output_stream_url: Option<String>,
    /// The slug (here: the image) it runs; `null` before the first build.
    pub slug: Option<Only>,
    /// Where it stands.
    pub status: ReleaseStatus,
    /// When it last changed.
    pub updated_at: Time,
    /// Who made it.
    pub user: User,
    /// Its number: 3 for `v3`.
    pub version: u64,
}

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseStatus {
    /// Its release phase waits or runs.
    Pending,
    /// It may serve.
    Succeeded,
    /// Its release phase failed; it never serves.
    Failed,
    /// Too old to be run again.
    Expired,
}

/// What a release was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The slug's or image's id.
    pub id: Id,
    /// `slug` or `oci-image`.
    pub r#type: String,
}

/// Body of `POST /apps/{app}/releases`: a rollback has `release`, a new release of an old slug has `slug`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRelease {
    /// The release to go back to: an id, a version number or `v11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<NumberOrText>,
    /// The slug to release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// What to call the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}
