//! A bridge of the installation's own, on which containers do not reach each other and this machine reaches each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::ListNetworksOptionsBuilder;
use paas_domain::InstallId;
use paas_ports::PortError;
use tokio::sync::Mutex;

use crate::engine::{INSTALL_LABEL, bounded, status};

/// How long a list may take.
const SOON: Duration = Duration::from_secs(20);

/// One bridge, made when it is needed and made again when somebody has removed it.
#[derive(Clone)]
pub struct Network(Arc<Parts>);

struct Parts {
    docker: Docker,
    install: InstallId,
    name: String,
    /// The engine lets two makers have the same name, and refuses the name from then on.
    making: Mutex<()>,
}

impl Network {
    /// The bridge `paas-<installation>-<purpose>`. Calls nothing.
    #[must_use]
    pub fn new(docker: Docker, install: &InstallId, purpose: &str) -> Self {
        let name = format!("paas-{install}-{purpose}");
        Self(Arc::new(Parts { docker, install: install.clone(), name, making: Mutex::default() }))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Makes sure of it, and answers with its id: a name may be there twice.
    ///
    /// # Errors
    /// When the engine does not make it.
    pub async fn ensure(&self) -> Result<String, PortError> {
        if let [id] = &self.ids().await?[..] {
            return Ok(id.clone());
        }
        // In a task of its own: a caller that is dropped half-way must not leave the engine making one that the
        // next caller does not see yet.
        let network = self.clone();
        let making = tokio::spawn(async move {
            let _making = network.0.making.lock().await;
            network.make().await
        });
        making.await.map_err(|e| PortError::transient(self.making(), e))?
    }

    async fn make(&self) -> Result<String, PortError> {
        let mut ids = self.ids().await?;
        if ids.is_empty() {
            let icc = ("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned());
            let request = NetworkCreateRequest {
                name: self.0.name.clone(),
                driver: Some("bridge".to_owned()),
                labels: Some(HashMap::from([(INSTALL_LABEL.to_owned(), self.0.install.to_string())])),
                options: Some(HashMap::from([icc])),
                ..NetworkCreateRequest::default()
            };
            match self.0.docker.create_network(request).await {
                Ok(_) => {}
                Err(e) if status(&e) == Some(409) => {}
                Err(e) => return Err(PortError::transient(self.making(), e)),
            }
            ids = self.ids().await?;
        }
        // Another process made one, too: the lowest id stays.
        ids.sort();
        for surplus in ids.iter().skip(1) {
            let _ = self.0.docker.remove_network(surplus).await;
        }
        ids.into_iter().next().ok_or_else(|| PortError::transient(self.making(), "it is not there after all"))
    }

    /// Removes it. Succeeds when it is not there.
    ///
    /// # Errors
    /// When the engine does not do it, as while a container is on it.
    pub async fn remove(&self) -> Result<(), PortError> {
        for id in self.ids().await? {
            match self.0.docker.remove_network(&id).await {
                Ok(()) => {}
                Err(e) if status(&e) == Some(404) => {}
                Err(e) => return Err(PortError::transient(format!("removing the network {}", self.0.name), e)),
            }
        }
        Ok(())
    }

    async fn ids(&self) -> Result<Vec<String>, PortError> {
        let filters = HashMap::from([
            ("name".to_owned(), vec![self.0.name.clone()]),
            ("label".to_owned(), vec![format!("{INSTALL_LABEL}={}", self.0.install)]),
        ]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let list = bounded("listing networks", SOON, self.0.docker.list_networks(Some(options))).await?;
        // The engine's filter matches parts of names.
        Ok(list.into_iter().filter(|n| n.name.as_deref() == Some(&self.0.name)).filter_map(|n| n.id).collect())
    }

    fn making(&self) -> String {
        format!("making the network {}", self.0.name)
    }
}
