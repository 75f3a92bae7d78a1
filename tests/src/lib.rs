//! What the test suites share: how they find the Docker engine, and how they clear away after themselves.

pub mod api_world;
pub mod core_world;
pub mod database;
pub mod dyno_image;
pub mod engine;
pub mod invariants;
pub mod platform;
pub mod router;
pub mod shown;
pub mod story_builder;
pub mod traffic;
