//! The embedded router: host → app → dyno.
//!
//! Two halves that meet on a unix socket:
//!
//! - **the router process** ([`run`], [`Router`]): an HTTP/1.1 data plane that never waits for anyone. It serves
//!   from a table in memory, keeps that table on disk, and takes changes over its control socket. A change is a
//!   swap of a pointer; there is no reload. With the server dead it serves on, and after its own restart it
//!   starts from the table on disk.
//! - **the server's side** ([`ensure_router`], [`RouterClient`]): starts the process or adopts the one that
//!   runs, and implements [`paas_ports::Ingress`] and [`paas_ports::Pools`] on top of the socket. Router log
//!   lines come back through [`RouterClient::lines`].
//!
//! What must stay true: framing is strict, so that the dyno and we never disagree where a request ends;
//! a request is forwarded to the owner of its `Host` only; nothing is ever cached; every request that we could
//! read leaves exactly one line in its app's log, or is counted as lost.
//!
//! HTTP heads are read by `httparse`; framing, rewriting and relaying are our own, because the strictness asked
//! for (bare LF, whitespace around a length, bytes before a 101) and the codes (H12 or H13 or H18) need to be
//! decided on the bytes, which an HTTP library hides.

mod balance;
mod body;
mod buf;
mod client;
mod code;
mod connection;
mod control;
mod dyno_connection;
mod ensure;
mod exchange;
mod frame;
mod half_close;
mod head;
mod log;
mod options;
mod page;
mod process;
mod registry;
mod saved;
mod serve;
mod table;
mod timer;
mod tunnel;
mod worker;

pub use client::{LineBatch, RouterClient, RouterEvent};
pub use code::Code;
pub use ensure::ensure_router;
pub use options::{Limits, OptionsError, RouterOptions};
pub use process::{Router, RouterError, run};
