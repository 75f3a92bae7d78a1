//! What the server tells the helper, and what the helper tells the server.
//!
//! The request is a file. The answer is the last line of the output, behind a [`MARK`]: whoever follows the
//! output knows how the build ended the moment it did, and reads the answer again where the output is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the server puts the [`Request`].
pub const REQUEST: &str = "/paas/request.json";
/// How the line of the [`Manifest`] starts. The helper lets no other line start so.
pub const MARK: &str = "\u{1e}paas-manifest ";

/// Exit status: there is something to export.
pub const EXIT_BUILT: u8 = 0;
/// Exit status: no buildpack wanted the source (the lifecycle's own number).
pub const EXIT_NOT_DETECTED: u8 = 20;
/// Exit status: a buildpack failed; the manifest says with which status.
pub const EXIT_BUILDPACK_FAILED: u8 = 51;
/// Exit status: the helper or the lifecycle itself failed.
pub const EXIT_BROKEN: u8 = 70;

/// What to do. Written by the server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Request {
    /// `analyzed.toml` for the lifecycle: the run image and its target.
    pub analyzed: String,
    /// The layers that the last good export left. Every other one is dropped.
    pub layers: Vec<KnownLayer>,
    /// `store.toml` of each buildpack's folder.
    pub stores: BTreeMap<String, String>,
    /// The most bytes of output that are passed on.
    pub output_limit: u64,
}

/// A layer as the last good export saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLayer {
    /// Its buildpack's folder below `/layers` (the id with `/` as `_`).
    pub folder: String,
    /// Its name.
    pub name: String,
    /// Its types.
    pub types: LayerTypes,
    /// Its TOML file without the types.
    pub metadata: String,
    /// Whether it has content.
    pub contents: bool,
    /// The fingerprint of its content; `None` when it has none, or some that cannot be read.
    pub fingerprint: Option<String>,
}

/// What a layer is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerTypes {
    /// Part of the image.
    pub launch: bool,
    /// Seen by later buildpacks.
    pub build: bool,
    /// Kept for the next build.
    pub cache: bool,
}

/// What came out. Read by the server, which believes none of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// The helper's exit status.
    pub status: u8,
    /// The buildpacks that took part, in their order.
    pub buildpacks: Vec<BuildpackOutput>,
    /// `config/metadata.toml` as the lifecycle wrote it.
    pub metadata: String,
    /// The status of the buildpack that failed, when one did.
    pub failed_status: Option<i32>,
}

/// One buildpack's part of the output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildpackOutput {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its name for people.
    pub name: Option<String>,
    /// Its folder below `/layers`.
    pub folder: String,
    /// Its `store.toml`.
    pub store: Option<String>,
    /// Its layers, by name.
    pub layers: Vec<KnownLayer>,
}
