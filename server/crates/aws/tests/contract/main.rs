//! The promises of each port on AWS's drivers, which are modules (`runtime::ecs::…`), on the rig. What a driver promises
//! beyond its port is in a module `<driver>_only`. All other drivers are in `tests/tests/contract`.

mod bucket;
#[path = "../support/iam.rs"]
mod iam;
mod ingress;
mod install;
mod log_store;
mod policies;
mod registry;
mod runtime;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
