//! The platform's API: the whole server in this process, on SQLite and on PostgreSQL, with drivers that are fakes.

mod bad_inputs;
mod envelope;
mod logs;
mod placement;
mod releases;
mod resources;
