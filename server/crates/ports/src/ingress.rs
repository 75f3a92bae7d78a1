//! Where requests come in: hosts, and the pools of dynos behind them.

use std::net::SocketAddr;

use async_trait::async_trait;
use paas_domain::{AppId, AppName, DynoId, DynoName, Generation, HostName, ProcessType};
use serde::{Deserialize, Serialize};

use crate::PortError;

/// A place that dynos of one process type are registered in: a pool of our router, or a target group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attachment(pub String);

/// Maps hosts to pools.
#[async_trait]
pub trait Ingress: Send + Sync {
    /// The pool of this process type, made when it is not there. The same answer every time.
    async fn place(&self, app: &AppId, process_type: &ProcessType) -> Result<Attachment, PortError>;

    /// Whether the app could have exactly these hosts; for whoever is about to promise them. Changes nothing outside, and
    /// keeps nothing free: [`publish`](Self::publish) has the last word.
    ///
    /// # Errors
    /// [`PortError::Permanent`] when it could not, with a cause in words for the app's people.
    async fn check_hosts(&self, app: &AppId, hosts: &[HostName]) -> Result<(), PortError>;

    /// Makes `route` the whole truth about its app's hosts. A host that left the list stops being routed.
    ///
    /// When this returns, requests are routed so. A host that another app had goes to this one when this app did
    /// not have it before; publishing a host that has moved away again takes nothing back.
    ///
    /// # Errors
    /// [`PortError::Superseded`] when a route of a higher generation was published before, also when the app was
    /// removed since. [`PortError::NotFound`] when the pool was never placed, permanent when it is another app's.
    async fn publish(&self, route: &Route) -> Result<(), PortError>;

    /// Removes the app's hosts and pools. Succeeds when there is none.
    async fn remove(&self, app: &AppId) -> Result<(), PortError>;

    /// Every app that has a route or a pool, for the collection of what no row names any more.
    async fn apps(&self) -> Result<Vec<AppId>, PortError>;
}

/// The routes of one app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Whose.
    pub app: AppId,
    /// For log lines and pages.
    pub app_name: AppName,
    /// Of which wish.
    pub generation: Generation,
    /// The hosts, `*.example.com` among them; lower case.
    pub hosts: Vec<HostName>,
    /// The pool of `web`; `None` when the app has no web process type (H14) or no release at all (H81).
    pub attachment: Option<Attachment>,
    /// Whether anything was ever released (false: H81).
    pub released: bool,
    /// Whether every request gets the maintenance page (H80).
    pub maintenance: bool,
    /// Whether a client's later requests go to the dyno of its first, as long as that one is up. By a cookie.
    #[serde(default)]
    pub session_affinity: bool,
}

/// How a runtime driver that does its own registration tells a pool's members.
///
/// ECS does this itself; the local platform's router implements it.
#[async_trait]
pub trait Pools: Send + Sync {
    /// Makes `members` the whole pool; `wanted` is the quantity asked for (0: H14).
    ///
    /// New requests go only to members that are [`MemberState::Up`]. A member that left the list or is
    /// `Draining` gets no new request; those it serves go on. When this returns, it is so.
    ///
    /// # Errors
    /// [`PortError::NotFound`] when the pool was never placed, or its app was removed since.
    async fn set(&self, pool: &Attachment, wanted: u16, members: &[Member]) -> Result<(), PortError>;

    /// How many requests and upgraded connections this member serves at this moment.
    async fn in_flight(&self, pool: &Attachment, dyno: &DynoId) -> Result<u32, PortError>;
}

/// A dyno in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub dyno: DynoId,
    /// For log lines, `dyno=web.1`.
    pub name: DynoName,
    /// Where it listens; `None` while it has no address.
    pub address: Option<SocketAddr>,
    /// What it does.
    pub state: MemberState,
}

/// What a pool needs to know of a member to choose between it, H10, H14 and H20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Not bound yet: requests wait for it when nobody else is up (H20 after 75 s).
    Starting,
    /// Serves.
    Up,
    /// Serves what it has, gets nothing new.
    Draining,
    /// Does not run (H10 when nobody else is up or starting).
    Crashed,
}
