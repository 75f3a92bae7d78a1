//! A builder image whose one buildpack does what the source says, and the driver on it.
//!
//! The image is the platform's own builder (its lifecycle, its user, its stack) with another order: the
//! buildpack `test/story` runs `story.sh` of the source.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use paas_builder::{BuildLimits, BuilderSettings, DockerBuilder};
use paas_docker::EngineRegistry;
use paas_domain::{BuildId, InstallId};
use paas_ports::Registry;

use crate::engine;

/// What `buildpacks/make-images` made.
#[derive(Clone, Debug)]
pub struct Images {
    /// The builder image.
    pub builder: String,
    /// The run image, when it is not the builder's own.
    pub run: Option<String>,
    /// The folder with `launcher` and `phase`.
    pub tools: PathBuf,
}

/// The images from `PAAS_TEST_BUILDER` and `PAAS_TEST_TOOLS`, else from `buildpacks/make-images`.
///
/// # Panics
/// With "not run: no builder image" when there is none.
pub fn images() -> &'static Images {
    static IMAGES: OnceLock<Images> = OnceLock::new();
    IMAGES.get_or_init(|| {
        if let (Ok(builder), Ok(tools)) = (std::env::var("PAAS_TEST_BUILDER"), std::env::var("PAAS_TEST_TOOLS")) {
            return Images { builder, run: std::env::var("PAAS_TEST_RUN").ok(), tools: tools.into() };
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../buildpacks/make-images");
        let output = Command::new(script).output().expect("not run: no builder image: make-images does not start");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        match (value("builder="), value("tools=")) {
            (Some(builder), Some(tools)) if output.status.success() => {
                Images { builder, run: value("run="), tools: tools.into() }
            }
            _ => panic!("not run: no builder image: {}", String::from_utf8_lossy(&output.stderr)),
        }
    })
}

/// A driver on a builder of its own, in an installation of its own.
pub struct StoryBuilder {
    /// The engine.
    pub docker: Docker,
    /// The installation, whose label is on everything that is made.
    pub install: InstallId,
    /// Sources and blobs.
    pub folder: tempfile::TempDir,
    image: String,
    limits: BuildLimits,
    ca_bundle: Option<PathBuf>,
}

const BUILDPACK: &str = "api = \"0.10\"\n[buildpack]\nid = \"test/story\"\nversion = \"1\"\nname = \"Story\"\n[[targets]]\nos = \"linux\"\n";
const ORDER: &str = "[[order]]\n[[order.group]]\nid = \"test/story\"\nversion = \"1\"\n";
const DETECT: &str = "#!/bin/sh\nif [ -f detect.sh ]; then exec sh ./detect.sh; fi\n[ -f story.sh ] || exit 100\n";
const BUILD: &str = "#!/bin/sh\nexec sh ./story.sh \"$1\" \"$2\" \"$3\"\n";

impl StoryBuilder {
    /// Makes the builder image.
    ///
    /// # Panics
    /// When there is no engine or no builder image to start from.
    pub async fn start() -> Self {
        let docker = engine::connect().await;
        let install = InstallId::random();
        let mut tar = tar::Builder::new(Vec::new());
        for (path, mode, text) in [
            ("cnb/order.toml", 0o644, ORDER),
            ("cnb/buildpacks/test_story/1/buildpack.toml", 0o644, BUILDPACK),
            ("cnb/buildpacks/test_story/1/bin/detect", 0o755, DETECT),
            ("cnb/buildpacks/test_story/1/bin/build", 0o755, BUILD),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_mode(mode);
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes()).expect("a tar");
        }
        let name = format!("paas-{install}-story");
        let body = ContainerCreateBody {
            image: Some(images().builder.clone()),
            labels: Some([("paas.install".to_owned(), install.to_string())].into()),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        docker.create_container(Some(options), body).await.expect("a container of the builder image");
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let body = bollard::body_full(tar.into_inner().expect("a tar").into());
        docker.upload_to_container(&name, Some(options), body).await.expect("the buildpack is put in");
        let repository = format!("paas-{install}/story");
        let options = CommitContainerOptionsBuilder::new().container(&name).repo(&repository).tag("1").build();
        docker.commit_container(options, ContainerConfig::default()).await.expect("an image");
        let remove = RemoveContainerOptionsBuilder::new().force(true).build();
        docker.remove_container(&name, Some(remove)).await.expect("removed");
        let limits = BuildLimits { memory_bytes: 512 * 1024 * 1024, ..BuildLimits::default() };
        let folder = tempfile::tempdir().expect("a folder");
        Self { docker, install, folder, image: format!("{repository}:1"), limits, ca_bundle: None }
    }

    /// A driver on the platform's own builder image, for real apps, with the limits that a platform has.
    ///
    /// # Panics
    /// When there is no engine or no builder image.
    pub async fn stock() -> Self {
        Self {
            docker: engine::connect().await,
            install: InstallId::random(),
            folder: tempfile::tempdir().expect("a temporary folder"),
            image: images().builder.clone(),
            limits: BuildLimits::default(),
            ca_bundle: std::env::var_os("PAAS_TEST_CA_BUNDLE").map(PathBuf::from),
        }
    }

    /// With this CA bundle for its builds.
    #[must_use]
    pub fn with_ca_bundle(mut self, bundle: PathBuf) -> Self {
        self.ca_bundle = Some(bundle);
        self
    }

    /// A driver; each is as new as after a restart of the server.
    pub fn driver(&self) -> DockerBuilder {
        let settings = BuilderSettings {
            install: self.install.clone(),
            builder_image: self.image.clone(),
            run_image: images().run.clone(),
            tools: images().tools.clone(),
            ca_bundle: self.ca_bundle.clone(),
            blobs: self.folder.path().join("blobs"),
            limits: self.limits,
            build_env: BTreeMap::new(),
        };
        DockerBuilder::new(self.docker.clone(), settings, self.registry())
    }

    /// Where its images go.
    pub fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(EngineRegistry::new(self.docker.clone(), self.install.clone()))
    }

    /// A source tar of these files.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn source(&self, files: &[(&str, &str)]) -> PathBuf {
        self.source_with_links(files, &[])
    }

    /// A source tar of these files, and of links by their targets.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn source_with_links(&self, files: &[(&str, &str)], links: &[(&str, &str)]) -> PathBuf {
        let path = self.folder.path().join(format!("{}.tar", BuildId::new()));
        let mut tar = tar::Builder::new(std::fs::File::create(&path).expect("a file"));
        for (name, target) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, name, target).expect("a link");
        }
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(text.len() as u64);
            // Not through a setter that refuses what a test wants to try.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, text.as_bytes()).expect("a tar");
        }
        tar.finish().expect("a tar");
        path
    }

    /// Removes everything that carries this installation's id.
    pub async fn finish(&self) {
        let label = format!("paas.install={}", self.install);
        engine::remove_objects(&self.docker, &label).await;
        engine::remove_images(&self.docker, &format!("paas-{}/", self.install)).await;
    }
}
