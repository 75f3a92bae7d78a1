//! `build`: source on its way to a release.

use serde::{Deserialize, Serialize};

use crate::{Id, Only, Time, User};

/// `GET /apps/{app}/builds/{build}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// The app built.
    pub app: Only,
    /// The buildpacks used; `null` when detected.
    pub buildpacks: Option<Vec<BuildpackRef>>,
    /// When it was asked for.
    pub created_at: Time,
    /// The platform generation: `cedar`.
    pub generation: String,
    /// The build's id.
    pub id: Id,
    /// Where its output streams from; needs no authorization and works after the end too.
    pub output_stream_url: String,
    /// The release that came of it.
    pub release: Option<Only>,
    /// The slug (here: the image) that came of it.
    pub slug: Option<Only>,
    /// What was built.
    pub source_blob: SourceBlob,
    /// The stack it was built on.
    pub stack: String,
    /// Where it stands.
    pub status: BuildStatus,
    /// When it last changed.
    pub updated_at: Time,
    /// Who asked for it.
    pub user: User,
}

/// Where a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildStatus {
    /// Waiting or running.
    Pending,
    /// An image came of it.
    Succeeded,
    /// None came of it.
    Failed,
}

/// A buildpack by name, URL or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildpackRef {
    /// Its name.
    pub name: Option<String>,
    /// Where it comes from.
    pub url: Option<String>,
}

/// Which source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBlob {
    /// `SHA256:<hex>` of the archive.
    pub checksum: Option<String>,
    /// Where the tar.gz archive is.
    pub url: String,
    /// The commit, or any other word for the version.
    pub version: Option<String>,
    /// More about the version.
    pub version_description: Option<String>,
}

/// Body of `POST /apps/{app}/builds`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateBuild {
    /// Buildpacks for this build only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildpacks: Option<Vec<BuildpackRef>>,
    /// What to build.
    pub source_blob: SourceBlob,
}
