//! What a builder image and its run image say about themselves.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{ImageConfig, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt as _;
use paas_domain::Digest;
use paas_ports::PortError;
use serde::Deserialize;

use crate::engine::{failed, is_absent};

/// The platform APIs that our helper and our exporter speak, newest first.
const PLATFORM_APIS: [&str; 9] = ["0.15", "0.14", "0.13", "0.12", "0.11", "0.10", "0.9", "0.8", "0.7"];
/// The user of a builder image that names none.
const DEFAULT_USER: u64 = 1000;

/// A builder image, by its labels.
#[derive(Clone, Debug)]
pub(crate) struct BuilderImage {
    /// Its id in the engine.
    pub(crate) id: Digest,
    /// The user that builds.
    pub(crate) uid: u64,
    /// Its group.
    pub(crate) gid: u64,
    /// The newest platform API that both sides speak.
    pub(crate) platform_api: &'static str,
    /// The lifecycle's version.
    pub(crate) lifecycle: String,
    /// The run image it asks for.
    pub(crate) run_image: String,
}

/// A run image: what an app's image stands on.
#[derive(Clone, Debug)]
pub(crate) struct BaseImage {
    /// How it was named.
    pub(crate) reference: String,
    /// Its id in the engine.
    pub(crate) id: Digest,
    /// Its config.
    pub(crate) config: ImageConfig,
    /// Its layers, from the bottom.
    pub(crate) diff_ids: Vec<Digest>,
    /// `amd64`, `arm64`.
    pub(crate) architecture: String,
    /// `linux`.
    pub(crate) os: String,
    /// The architecture's variant.
    pub(crate) variant: Option<String>,
}

#[derive(Deserialize)]
struct BuilderLabel {
    #[serde(default)]
    images: Vec<RunLabel>,
    #[serde(default)]
    stack: Option<StackLabel>,
    lifecycle: LifecycleLabel,
}

#[derive(Deserialize)]
struct RunLabel {
    image: String,
}

#[derive(Deserialize)]
struct StackLabel {
    #[serde(rename = "runImage")]
    run_image: RunLabel,
}

#[derive(Deserialize)]
struct LifecycleLabel {
    #[serde(default)]
    version: String,
    #[serde(default)]
    apis: ApisLabel,
}

#[derive(Default, Deserialize)]
struct ApisLabel {
    #[serde(default)]
    platform: ApiVersions,
}

#[derive(Default, Deserialize)]
struct ApiVersions {
    #[serde(default)]
    supported: Vec<String>,
}

impl BuilderImage {
    /// Reads the builder's labels; pulls it when the engine does not have it.
    pub(crate) async fn find(docker: &Docker, reference: &str) -> Result<Self, PortError> {
        Self::read(&inspect(docker, reference).await?)
            .map_err(|why| PortError::permanent(format!("reading the builder image {reference}"), why))
    }

    fn read(image: &ImageInspect) -> Result<Self, String> {
        let id = image.id.as_deref().and_then(|id| id.parse().ok()).ok_or("it has no id")?;
        let config = image.config.clone().unwrap_or_default();
        let labels = config.labels.unwrap_or_default();
        let label = labels.get("io.buildpacks.builder.metadata").ok_or("it is no builder: a label is missing")?;
        let label: BuilderLabel = serde_json::from_str(label).map_err(|e| format!("its label cannot be read: {e}"))?;
        let supported = &label.lifecycle.apis.platform.supported;
        let platform_api = PLATFORM_APIS.into_iter().find(|api| supported.iter().any(|s| s == api));
        let run_image = label.images.into_iter().next().or(label.stack.map(|stack| stack.run_image));
        let env = env_map(config.env.as_deref().unwrap_or_default());
        let number = |name: &str| env.get(name).and_then(|value| value.parse().ok()).unwrap_or(DEFAULT_USER);
        let (uid, gid) = (number("CNB_USER_ID"), number("CNB_GROUP_ID"));
        if uid == 0 {
            return Err("it builds as root".to_owned());
        }
        Ok(Self {
            id,
            uid,
            gid,
            platform_api: platform_api.ok_or("it speaks no platform API from 0.7 to 0.15")?,
            lifecycle: label.lifecycle.version,
            run_image: run_image.map(|run| run.image).unwrap_or_default(),
        })
    }

    /// Twelve digits that name this builder.
    pub(crate) fn short(&self) -> &str {
        &self.id.hex()[..12]
    }
}

impl BaseImage {
    /// Reads an image to stand on; pulls it when the engine does not have it.
    pub(crate) async fn find(docker: &Docker, reference: &str) -> Result<Self, PortError> {
        let image = inspect(docker, reference).await?;
        let bad = |why: &str| PortError::permanent(format!("reading the run image {reference}"), why);
        let layers = image.root_fs.and_then(|fs| fs.layers).unwrap_or_default();
        let diff_ids: Result<Vec<Digest>, _> = layers.iter().map(|layer| layer.parse()).collect();
        Ok(Self {
            reference: reference.to_owned(),
            id: image.id.as_deref().and_then(|id| id.parse().ok()).ok_or_else(|| bad("it has no id"))?,
            config: image.config.unwrap_or_default(),
            diff_ids: diff_ids.map_err(|_| bad("a layer has no digest"))?,
            architecture: image.architecture.unwrap_or_else(|| "amd64".to_owned()),
            os: image.os.unwrap_or_else(|| "linux".to_owned()),
            variant: image.variant.filter(|variant| !variant.is_empty()),
        })
    }

    /// `analyzed.toml` for the lifecycle: what the image will stand on.
    pub(crate) fn analyzed(&self) -> String {
        let labels = self.config.labels.clone().unwrap_or_default();
        let mut target = toml::Table::new();
        target.insert("os".into(), self.os.clone().into());
        target.insert("arch".into(), self.architecture.clone().into());
        let distro = |part: &str| labels.get(&format!("io.buildpacks.base.distro.{part}")).cloned();
        if let (Some(name), Some(version)) = (distro("name"), distro("version")) {
            let distro = toml::Table::from_iter([("name".into(), name.into()), ("version".into(), version.into())]);
            target.insert("distro".into(), distro.into());
        }
        let run = toml::Table::from_iter([
            ("reference".into(), self.reference.clone().into()),
            ("image".into(), self.reference.clone().into()),
            ("target".into(), target.into()),
        ]);
        toml::Table::from_iter([("run-image".into(), run.into())]).to_string()
    }
}

/// `NAME=value` lines as a map.
pub(crate) fn env_map(env: &[String]) -> HashMap<&str, &str> {
    env.iter().filter_map(|line| line.split_once('=')).collect()
}

async fn inspect(docker: &Docker, reference: &str) -> Result<ImageInspect, PortError> {
    match docker.inspect_image(reference).await {
        Ok(image) => return Ok(image),
        Err(e) if is_absent(&e) => {}
        Err(e) => return Err(failed("looking for a base image", e)),
    }
    let options = CreateImageOptionsBuilder::new().from_image(reference).build();
    let pulled = docker.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) }).await;
    pulled.map_err(|e| PortError::permanent(format!("the image {reference} is not here, and pulling it failed"), e))?;
    docker.inspect_image(reference).await.map_err(|e| failed("looking for a base image", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(label: &str, env: &[&str]) -> ImageInspect {
        let labels = HashMap::from([("io.buildpacks.builder.metadata".to_owned(), label.to_owned())]);
        let config = ImageConfig {
            labels: Some(labels),
            env: Some(env.iter().map(|e| (*e).to_owned()).collect()),
            ..Default::default()
        };
        ImageInspect { id: Some(format!("sha256:{}", "a".repeat(64))), config: Some(config), ..Default::default() }
    }

    #[test]
    fn reads_a_real_builders_label() {
        let label = r#"{"description":"x","images":[{"image":"docker.io/heroku/heroku:24","mirrors":["m"]}],
            "stack":{"runImage":{"image":"heroku/heroku:24","mirrors":null}},
            "lifecycle":{"version":"0.21.12","api":{"buildpack":"0.2","platform":"0.3"},"apis":{"buildpack":
            {"deprecated":[],"supported":["0.7","0.12"]},"platform":{"deprecated":[],"supported":["0.7","0.13","0.14"]}}}}"#;
        let found = BuilderImage::read(&image(label, &["CNB_USER_ID=1001", "CNB_GROUP_ID=1002"])).expect("a builder");
        assert_eq!((found.uid, found.gid, found.platform_api), (1001, 1002, "0.14"));
        assert_eq!(found.run_image, "docker.io/heroku/heroku:24");
    }

    #[test]
    fn refuses_what_cannot_build() {
        assert!(BuilderImage::read(&ImageInspect::default()).is_err());
        assert!(BuilderImage::read(&image("{", &[])).is_err());
        let old = r#"{"lifecycle":{"apis":{"platform":{"supported":["0.3"]}}}}"#;
        assert!(BuilderImage::read(&image(old, &[])).is_err());
        let good = r#"{"lifecycle":{"apis":{"platform":{"supported":["0.9"]}}}}"#;
        assert!(BuilderImage::read(&image(good, &["CNB_USER_ID=0"])).is_err());
    }
}
