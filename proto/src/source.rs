//! `source`: a place to put a source archive before a build.

use serde::{Deserialize, Serialize};

/// The answer of `POST /sources`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The two URLs.
    pub source_blob: SourceUrls,
}

/// Where to put an archive, and where the build will get it. Both carry their own token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceUrls {
    /// For `source_blob.url` of a build.
    pub get_url: String,
    /// For one HTTP PUT of the archive.
    pub put_url: String,
}
