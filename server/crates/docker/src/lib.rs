//! The local platform's drivers: everything that talks to the Docker engine.
//!
//! Objects in the engine are named by [`paas_domain::outside_name`] and carry the label `paas.install`;
//! every list here filters by it, so two installations on one engine never see each other.

pub mod engine;
pub mod network;
pub mod registry;
pub mod runtime;

pub use network::Network;
pub use registry::EngineRegistry;
pub use runtime::{DockerRuntime, DockerRuntimeOptions};
