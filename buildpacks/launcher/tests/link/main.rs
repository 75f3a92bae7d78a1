//! The launcher itself against the hub itself, on loopback with TLS.

mod log;
mod run;
mod strangers;
mod world;
