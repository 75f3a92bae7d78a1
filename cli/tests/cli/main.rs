//! The real binary as a transcript: what it says, how it ends, and what it asked of the API.

#![allow(clippy::unwrap_used)]

mod apps;
mod dynos;
mod install;
mod run;
mod session;
mod support;
