//! The server: Heroku's Platform API, `git push`, and the loops that make wishes true.
//!
//! A request reads, decides and writes rows (`ops`), and answers. Jobs (`jobs`) and reconciliation
//! (`reconcile`) turn rows into containers and routes through the ports in [`cx::Cx`]. `ARCHITECTURE.md` draws the paths.

pub mod api;
mod archive;
pub mod attach_lookup;
pub mod aws_ledger;
pub mod crash_point;
pub mod cx;
pub mod data_folder;
pub mod dyno_lines;
pub mod env;
pub mod git;
pub mod install;
pub mod jobs;
pub mod line_exchange;
pub mod listen;
pub mod local_ca;
pub mod objects;
pub mod ops;
pub mod others;
pub mod reconcile;
pub mod rendezvous;
pub mod servers;
pub mod start;
pub mod tls_or_plain;
pub mod token;
