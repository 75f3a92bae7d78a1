//! Being written.

pub mod registry;

pub use registry::EngineRegistry;
