//! The server's end of the dyno link: one TLS connection from each dyno's launcher.
//!
//! Where the engine gives us neither live log lines nor the bytes of `run` (Fargate), each dyno's launcher calls
//! here. This crate owns who is let in, the lines' numbers, the bytes of one-off dynos and their flow; it stores
//! nothing and decides nothing about dynos. What must stay true: no dyno waits for us, nothing a dyno sends makes
//! memory grow beyond a bound, and a line is either handed to [`LinkEvents::lines`] once or counted in a
//! [`Gap`]. (After a restart of the server a line may come twice.)

mod api;
mod connection;
mod duplex;
mod hub;
mod options;
mod output;
mod session;
mod token;

pub use api::{Admitted, Claim, DynoLinks, Gap, LinkAdmission, LinkEvents, LinkedDyno, NumberedLine, Refusal, Stream};
pub use hub::Hub;
pub use options::HubOptions;
pub use token::LinkKey;
