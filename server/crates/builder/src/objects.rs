//! What a build has in the engine besides its container's inside: names, labels, and their removal.

use std::collections::{BTreeSet, HashMap};

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use paas_domain::{AppId, BuildId, outside_name};
use paas_ports::PortError;

use crate::DockerBuilder;
use crate::engine::{failed, is_absent};

impl DockerBuilder {
    pub(crate) fn container_name(&self, app: &AppId, build: &BuildId) -> String {
        outside_name(&self.settings.install, app, &format!("b{}", build.as_str().replace('-', "")))
    }

    pub(crate) fn volume_name(&self, app: &AppId, builder: &str) -> String {
        outside_name(&self.settings.install, app, &format!("layers-{builder}"))
    }

    pub(crate) fn labels(&self, app: &AppId, kind: &str) -> HashMap<String, String> {
        let pairs = [("paas.install", self.settings.install.as_str()), ("paas.app", app.as_str()), ("paas.kind", kind)];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn label_filter(&self, app: &AppId, kind: &str) -> HashMap<String, Vec<String>> {
        let labels = self.labels(app, kind);
        HashMap::from([("label".to_owned(), labels.iter().map(|(key, value)| format!("{key}={value}")).collect())])
    }

    /// Every app that has a build container or a layers volume of this installation, or a folder.
    pub(crate) async fn every_app(&self) -> Result<Vec<AppId>, PortError> {
        let ours = |kind: &str| {
            let labels = vec![format!("paas.install={}", self.settings.install), format!("paas.kind={kind}")];
            HashMap::from([("label".to_owned(), labels)])
        };
        let mut apps: BTreeSet<AppId> = self.folders().await?.into_iter().collect();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&ours("build")).build();
        let found = self.docker.list_containers(Some(options)).await.map_err(|e| failed("listing the builds", e))?;
        apps.extend(found.into_iter().filter_map(|container| app_of(&container.labels?)));
        let options = ListVolumesOptionsBuilder::new().filters(&ours("layers")).build();
        let found = self.docker.list_volumes(Some(options)).await.map_err(|e| failed("listing the volumes", e))?;
        apps.extend(found.volumes.unwrap_or_default().iter().filter_map(|volume| app_of(&volume.labels)));
        Ok(apps.into_iter().collect())
    }

    pub(crate) async fn remove_container(&self, name: &str) -> Result<(), PortError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).build();
        match self.docker.remove_container(name, Some(options)).await {
            Ok(()) => Ok(()),
            Err(e) if is_absent(&e) => Ok(()),
            Err(e) => Err(failed("removing the build container", e)),
        }
    }

    pub(crate) async fn remove_containers(&self, app: &AppId) -> Result<(), PortError> {
        let filters = self.label_filter(app, "build");
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found = self.docker.list_containers(Some(options)).await.map_err(|e| failed("listing the builds", e))?;
        for id in found.into_iter().filter_map(|container| container.id) {
            self.remove_container(&id).await?;
        }
        Ok(())
    }

    /// Removes the app's layers volumes but one.
    pub(crate) async fn remove_volumes(&self, app: &AppId, but: Option<&str>) -> Result<(), PortError> {
        let filters = self.label_filter(app, "layers");
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let found = self.docker.list_volumes(Some(options)).await.map_err(|e| failed("listing the volumes", e))?;
        for volume in found.volumes.unwrap_or_default().into_iter().filter(|v| Some(v.name.as_str()) != but) {
            let options = RemoveVolumeOptionsBuilder::new().build();
            match self.docker.remove_volume(&volume.name, Some(options)).await {
                Ok(()) => {}
                Err(e) if is_absent(&e) => {}
                Err(e) => return Err(failed("removing a layers volume", e)),
            }
        }
        Ok(())
    }
}

fn app_of(labels: &HashMap<String, String>) -> Option<AppId> {
    labels.get("paas.app")?.parse().ok()
}
