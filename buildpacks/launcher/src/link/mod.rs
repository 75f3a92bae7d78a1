//! The dyno link: this launcher's one outgoing connection to the server, where the platform has one.
//!
//! It carries the app's log lines, the bytes of `run`, the dyno's slot and its exit. What must stay true: the app
//! never waits for it (only `run`, which is about nothing else), and without `PAAS_LINK` nothing here runs at all.

mod chance;
mod connect;
mod identity;
mod ring;
mod settings;
mod shared;
mod speak;

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

pub(crate) use chance::now_ms;
pub(crate) use identity::from_address as task_in_address;
pub(crate) use ring::Ring;
pub(crate) use settings::Settings;
pub(crate) use shared::{INPUT, Shared};

use crate::supervise::Event;

/// Starts linking and goes on for as long as the launcher lives. What the hub wants comes as events.
///
/// # Errors
/// When the certificates to trust are none, or there is no thread to be had.
pub(crate) fn start(settings: Settings, shared: &Arc<Shared>, events: Sender<Event>) -> Result<(), String> {
    let tls = connect::trusting(&settings.ca)?;
    let link = speak::Link { settings, shared: Arc::clone(shared), events, tls };
    thread::Builder::new()
        .name("link".to_owned())
        .spawn(move || link.run())
        .map(drop)
        .map_err(|e| format!("starting the link: {e}"))
}
