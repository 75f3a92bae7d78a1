//! What AWS would say and no emulator does: its own schemas and models judge our template and our requests.

mod infra;
#[path = "../support/judge.rs"]
mod judge;
mod requests;
#[path = "../support/mod.rs"]
mod support;
