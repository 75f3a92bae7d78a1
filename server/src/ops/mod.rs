//! One file for each thing the product can do. Each reads, decides, writes rows and raises the generation in
//! one transaction, and touches nothing outside.

pub mod accept_archive;
pub mod accept_build;
pub mod create_app;
pub mod cut_release;
pub mod destroy_app;
pub mod manage_domains;
pub mod manage_keys;
pub mod manage_sources;
pub mod open_log_session;
pub mod restart_dynos;
pub mod roll_back;
pub mod run_dyno;
pub mod scale_formation;
pub mod set_config;
pub mod set_feature;
pub mod set_placement;
pub mod update_app;

pub use crate::cx::OpError;
