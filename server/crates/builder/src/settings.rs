//! What an installation decides about its builds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use paas_domain::InstallId;

/// Settings of a [`DockerBuilder`](crate::DockerBuilder).
#[derive(Clone, Debug)]
pub struct BuilderSettings {
    /// Whose containers, volumes and networks these are.
    pub install: InstallId,
    /// The builder image: any one that carries the labels of Cloud Native Buildpacks.
    pub builder_image: String,
    /// The run image, when it is not the one that the builder's label names.
    pub run_image: Option<String>,
    /// The folder with the static programs `launcher` and `phase`.
    pub tools: PathBuf,
    /// A file of certificate authorities that builds trust instead of the builder's own. Put into the build
    /// container, never into an image.
    pub ca_bundle: Option<PathBuf>,
    /// Where layers and what is known of them are kept, a folder per app.
    pub blobs: PathBuf,
    /// What one build may use.
    pub limits: BuildLimits,
    /// Variables that every build gets, as a proxy or a package index; an app's config vars beat them.
    pub build_env: BTreeMap<String, String>,
}

/// What one build may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BuildLimits {
    /// Memory without swap, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Processors; `None` for all there are.
    pub cpus: Option<f64>,
    /// Bytes of output that are shown.
    pub output_bytes: u64,
    /// Bytes of a source, unpacked.
    pub source_bytes: u64,
    /// Bytes of one layer of the image.
    pub layer_bytes: u64,
}

impl Default for BuildLimits {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            memory_bytes: 4096 * MIB,
            pids: 2048,
            cpus: None,
            output_bytes: 16 * MIB,
            source_bytes: 2048 * MIB,
            layer_bytes: 4096 * MIB,
        }
    }
}
