//! The helper that runs inside a build container: it drives the builder's own lifecycle.
//!
//! Put in as `/paas/phase` and run as the builder's user, it owns the order of things within the container:
//! detect, clean the layers and restore what the last good export knew of them, build, look at what came
//! out. Containers, uploads, digests and images belong to the server.
//!
//! The server trusts nothing of it: buildpacks run as the same user and can write whatever this writes.
//! It must keep to the standard library and a few small crates, because it is linked statically.

pub mod fingerprint;
pub mod layers;
pub mod output;
pub mod run;
pub mod wire;
