//! What a dyno's launcher and the server's hub say to each other over the dyno link.
//!
//! The format of the frames, their bounds, and the little arithmetic both ends need; no I/O. A launcher lives as
//! long as the image it is in, so the hub understands every [`VERSION`] there ever was.
//!
//! A frame is a header of five bytes (length of what follows the header as big-endian `u32`, kind) and its fields:
//! numbers big-endian, texts and bytes behind a `u16` or `u32` length or up to the frame's end.

mod buffer;
mod codec;
pub mod env;
mod frame;
mod name;

pub use buffer::{NotThere, SendBuffer};
pub use codec::{header, take};
pub use frame::{
    Exit, FrameError, FromDyno, FromHub, HEADER, Hello, Line, Lines, MAX_BYTES, MAX_FRAME, MAX_HELLO, MAX_LINE,
    MAX_LINES, Stream, Welcome,
};
pub use name::{fallback_name, is_fallback, task_id};

/// The version of what is said here.
pub const VERSION: u8 = 1;
/// The most bytes of `run` that are under way in one direction without having been taken at the other end.
pub const WINDOW: usize = 256 << 10;
/// A side that has said nothing for this long says [`FromDyno::Ping`] or [`FromHub::Ping`].
pub const PING_EVERY_S: u64 = 20;
/// A side that has heard nothing for this long takes the link for cut.
pub const SILENT_FOR_S: u64 = 60;
/// How long both ends of an attached dyno wait for a cut link to come back.
pub const RESUME_WITHIN_S: u64 = 60;
