//! Drivers without an outside: they obey the same rules, and their world outlives the server under test.

pub mod builder;
pub mod registry;

pub use builder::{FakeBuilder, FakeBuilds, FakeScript, FakeStep};
pub use registry::{FakeImages, FakeRegistry};
