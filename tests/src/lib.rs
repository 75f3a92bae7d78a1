//! What the test suites share: how they find the Docker engine, and how they clear away after themselves.

pub mod engine;
pub mod story_builder;
pub mod router;
