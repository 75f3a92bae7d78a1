//! Log lines and outputs on this machine: files below a folder, and memory for those who read along.
//!
//! Owns the format of those files. An app's newest lines are a ring in memory ([`Live`]) before a few append-only
//! files ([`segments`]); readers are places in the ring, so a stalled one costs nothing. Outputs are folders of
//! section files. [`session`] turns either reader into what an HTTP client gets.
//!
//! What must stay true: a line that was taken has been handed to the operating system before its writer hears
//! so, and no id is given twice.

mod app_log;
mod file_logs;
mod file_outputs;
mod live;
pub mod record;
mod ring;
mod segments;
pub mod session;

pub use file_logs::FileLogStore;
pub use file_outputs::FileOutputStore;
pub use live::Live;
