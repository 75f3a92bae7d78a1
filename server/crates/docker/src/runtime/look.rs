//! What the engine has: its containers with our labels.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder};
use paas_domain::{AppId, DynoId, ProcessType, Timestamp};
use paas_ports::PortError;

use super::Inner;
use super::tag::{DYNO_LABEL, TYPE_LABEL, Tag};
use crate::engine::{APP_LABEL, INSTALL_LABEL, bounded, status};

/// For calls that only read, or remove.
const SOON: Duration = Duration::from_secs(20);

/// A container as a list shows it.
pub(crate) struct Found {
    pub(crate) tag: Tag,
    pub(crate) container: String,
    pub(crate) stage: Stage,
    pub(crate) created: Timestamp,
    pub(crate) address: Option<SocketAddr>,
}

/// The stages of a container's life that make a difference to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Created,
    Running,
    Exited,
}

/// A container as inspecting it shows it.
pub(crate) struct Inspected {
    pub(crate) stage: Stage,
    pub(crate) code: i32,
    pub(crate) oom: bool,
    pub(crate) started: Option<Timestamp>,
    pub(crate) address: Option<SocketAddr>,
}

impl Inner {
    /// Our containers, all or those that carry these labels too.
    pub(crate) async fn list(&self, more: &[(&str, &str)]) -> Result<Vec<Found>, PortError> {
        let mut labels = vec![format!("{INSTALL_LABEL}={}", self.install), DYNO_LABEL.to_owned()];
        labels.extend(more.iter().map(|(k, v)| format!("{k}={v}")));
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let list = bounded("listing dynos", SOON, self.docker.list_containers(Some(options))).await?;
        Ok(list.into_iter().filter_map(|c| self.found(c)).collect())
    }

    pub(crate) async fn list_app(&self, app: &AppId) -> Result<Vec<Found>, PortError> {
        self.list(&[(APP_LABEL, app.as_str())]).await
    }

    pub(crate) async fn list_services(&self, app: &AppId, process_type: &ProcessType) -> Result<Vec<Found>, PortError> {
        let labels = [(APP_LABEL, app.as_str()), (TYPE_LABEL, process_type.as_str())];
        let mut found = self.list(&labels).await?;
        found.retain(|f| f.tag.is_service());
        Ok(found)
    }

    pub(crate) async fn find(&self, dyno: &DynoId) -> Result<Option<Found>, PortError> {
        Ok(self.list(&[(DYNO_LABEL, dyno.as_str())]).await?.pop())
    }

    fn found(&self, c: ContainerSummary) -> Option<Found> {
        let tag = Tag::read(c.labels.as_ref()?)?;
        // The list's enum does not know every engine's words: read them as text.
        let stage = match c.state.map(|s| s.to_string()).as_deref() {
            Some("created") => Stage::Created,
            Some("running" | "paused" | "restarting") => Stage::Running,
            _ => Stage::Exited,
        };
        let ip = c
            .network_settings
            .and_then(|n| n.networks)
            .and_then(|mut n| n.remove(self.network.name()))
            .and_then(|n| n.ip_address);
        Some(Found {
            address: address(ip.as_deref(), tag.port),
            tag,
            container: c.id?,
            stage,
            created: Timestamp(c.created.unwrap_or_default().saturating_mul(1000)),
        })
    }

    /// Looks closely at one; `None` when it is gone.
    pub(crate) async fn inspect(&self, container: &str, port: Option<u16>) -> Result<Option<Inspected>, PortError> {
        let call = self.docker.inspect_container(container, None::<InspectContainerOptions>);
        match bounded("looking at a dyno", SOON, call).await {
            Ok(answer) => Ok(Some(self.inspected(answer, port))),
            Err(PortError::NotFound(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn inspected(&self, answer: ContainerInspectResponse, port: Option<u16>) -> Inspected {
        let state = answer.state.unwrap_or_default();
        let ip = answer
            .network_settings
            .and_then(|n| n.networks)
            .and_then(|mut n| n.remove(self.network.name()))
            .and_then(|n| n.ip_address);
        let stage = match state.status {
            Some(ContainerStateStatusEnum::CREATED) => Stage::Created,
            Some(
                ContainerStateStatusEnum::RUNNING
                | ContainerStateStatusEnum::PAUSED
                | ContainerStateStatusEnum::RESTARTING,
            ) => Stage::Running,
            _ => Stage::Exited,
        };
        Inspected {
            stage,
            code: state.exit_code.and_then(|c| i32::try_from(c).ok()).unwrap_or(1),
            oom: state.oom_killed.unwrap_or_default(),
            started: state.started_at.as_deref().and_then(Timestamp::parse).filter(|t| t.0 > 0),
            address: address(ip.as_deref(), port),
        }
    }

    /// Removes a container. Succeeds when it is gone.
    pub(crate) async fn remove_container(&self, container: &str) -> Result<(), PortError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.docker.remove_container(container, Some(options)).await {
            Ok(()) => Ok(()),
            // 409: the engine is removing it already; the next look shows whether it did.
            Err(e) if matches!(status(&e), Some(404 | 409)) => Ok(()),
            Err(e) => Err(PortError::transient("removing a dyno", e)),
        }
    }

    /// Sends a signal. Succeeds when the container does not run any more.
    pub(crate) async fn signal(&self, container: &str, signal: &str) -> Result<(), PortError> {
        let options = bollard::query_parameters::KillContainerOptionsBuilder::new().signal(signal).build();
        match self.docker.kill_container(container, Some(options)).await {
            Ok(()) => Ok(()),
            Err(e) if matches!(status(&e), Some(404 | 409)) => Ok(()),
            Err(e) => Err(PortError::transient("sending a signal to a dyno", e)),
        }
    }
}

fn address(ip: Option<&str>, port: Option<u16>) -> Option<SocketAddr> {
    let ip: IpAddr = ip?.parse().ok()?;
    Some(SocketAddr::new(ip, port?))
}
