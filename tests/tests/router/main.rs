//! The router, by requests over sockets.

mod bad_requests;
mod codes;
mod life;
mod streams;
