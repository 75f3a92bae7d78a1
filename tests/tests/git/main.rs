//! The git side of the server, from outside: by the real git, and by bytes that no git would send.

mod bad_inputs;
#[cfg(feature = "bench")]
mod clock;
mod push;
mod repositories;
mod under_way;
mod world;
