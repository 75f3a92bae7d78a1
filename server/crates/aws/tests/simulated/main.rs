//! The ECS driver on an account in this process, on a virtual clock: what a deploy costs in calls and in time, what a
//! hundred at once wait for, and that a server may end before and behind every call it makes.

mod account;
mod beside;
mod crash_points;
mod drive;
mod ecs;
mod others;
mod records;
mod redeploy;
mod refusals;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
