//! `slug`: a built app. Here it stands for an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Id, Named, Time};

/// `GET /apps/{app}/slugs/{slug}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slug {
    /// Where its archive is.
    pub blob: SlugBlob,
    /// What the buildpack calls itself.
    pub buildpack_provided_description: Option<String>,
    /// `SHA256:<hex>`.
    pub checksum: Option<String>,
    /// The commit it was built from.
    pub commit: Option<String>,
    /// More about the commit.
    pub commit_description: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// When it was removed.
    pub deleted_at: Option<Time>,
    /// The slug's id.
    pub id: Id,
    /// Process types to commands.
    pub process_types: BTreeMap<String, String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The stack it runs on.
    pub stack: Named,
    /// When it last changed.
    pub updated_at: Time,
}

/// Where a slug's archive is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlugBlob {
    /// The HTTP method to use, in lower case.
    pub method: String,
    /// The URL.
    pub url: String,
}

/// Body of `POST /apps/{app}/slugs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSlug {
    /// What the buildpack calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildpack_provided_description: Option<String>,
    /// `SHA256:<hex>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// The commit it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// More about the commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_description: Option<String>,
    /// Process types to commands.
    pub process_types: BTreeMap<String, String>,
    /// Stack by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}
