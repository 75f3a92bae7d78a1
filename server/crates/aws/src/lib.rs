//! Every AWS driver, and the only crate that names an AWS SDK.
//!
//! [`Aws`] is what all of them work with: the clients, the foundation that CloudFormation built, and the one
//! way a call is made ([`Aws::call`]). [`Call`] lists every call that is ever made, so that policies, rate
//! limits and the tests of faults are made from the code itself.

pub mod account;
pub mod alb;
pub mod bucket;
pub mod call;
pub mod ecr;
pub mod ecs;
pub mod error;
pub mod events;
pub mod foundation;
pub mod image_names;
pub mod install;
pub mod ledger;
pub mod logs;
pub mod notes;
pub mod prices;
pub mod rate;
pub mod secrets;
pub mod sizes;

pub use account::{Aws, AwsOptions};
pub use alb::AlbIngress;
pub use call::{Call, Family};
pub use ecs::{Capacity, EcsOptions, EcsRuntime, LinkAddress, Timing};
pub use error::{AwsError, Kind};
pub use events::{Event, Events, Happened};
pub use foundation::Foundation;
pub use image_names::ImageNames;
pub use ledger::{Ledger, MemoryLedger};
pub use notes::{DynoNotes, MemoryNotes};
pub use secrets::AwsSecrets;
