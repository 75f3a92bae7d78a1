//! Drivers without an outside: they obey the same rules, and their world outlives the server under test.

pub mod builder;
pub mod ingress;
pub mod log_store;
pub mod registry;
pub mod runtime;
pub mod secrets;

pub use builder::{FakeBuilder, FakeBuilds, FakeScript, FakeStep};
pub use ingress::{Decision, FakeIngress, FakeRequest, FakeRoutes};
pub use log_store::{FakeLogStore, FakeLogWorld, FakeOutputStore};
pub use registry::{FakeImages, FakeRegistry};
pub use runtime::{FakeDynos, FakeRuntime, FakeTiming};
pub use secrets::{FakeSecrets, FakeVault};
