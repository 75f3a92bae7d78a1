//! One suite of promises per port; every driver passes the same one.
//!
//! A suite is a set of async functions over a *bench*: a trait that makes a driver and the world around it.
//! `tests/contract/` instantiates each suite for each driver, one test per promise.

pub mod log_store;
