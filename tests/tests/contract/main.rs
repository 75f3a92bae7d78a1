//! The promises of each port on each of its drivers, which are modules: `ingress::router::…`. What a driver promises
//! beyond its port is in a module `<driver>_only`. Those of AWS are in their own crate's program of this name.

mod builder;
mod ingress;
mod log_store;
mod registry;
mod runtime;
mod store;
