//! What servers of one installation show each other: a dyno is linked to one of them, and its lines are read at any.

use std::sync::Arc;

use paas_domain::AppId;
use paas_ports::Tail;

/// How the lines that come to this server reach those who read along at another one, and the other way round.
pub trait LineExchange: Send + Sync {
    /// Hands lines of an app on to the servers that have asked for them. Never waits, and is called while nothing
    /// else of the app can be said.
    fn hand_on(&self, app: &AppId, lines: &[Tail], are: Are);

    /// Asks the other servers for an app's lines, until what is given was dropped and a while longer.
    fn follow(&self, app: &AppId) -> Following;

    /// For how long to wait at the beginning of a period until the other servers' newest lines are here.
    fn moment(&self) -> std::time::Duration;
}

/// What is known of lines that are handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Are {
    /// They came just now, and to this server only.
    New,
    /// No dyno's link brought them; they were found in storage, where another server may have seen them, too.
    Lost,
    /// They may be anywhere already, as a dyno's link brought them or as they were stored.
    Found,
}

/// An app's lines come from all servers.
#[derive(Clone, Debug)]
pub struct Following {
    /// The time since when they do, as a number: another one, and lines were missed in between.
    pub period: u64,
    /// They do for as long as this is kept.
    pub kept: Arc<()>,
}
