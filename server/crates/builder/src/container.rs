//! Starting a build: a container made once per build, filled, and found again by its name.

use std::collections::BTreeMap;

use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use paas_phase::wire::{self, KnownLayer, Request};
use paas_ports::{BuildFailure, BuildSpec, BuildVerdict, PortError};
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;

use crate::DockerBuilder;
use crate::builder_image::{BaseImage, BuilderImage};
use crate::engine::{disk, failed, is_conflict};
use crate::follow::left;
use crate::source::{self, SourceError};
use crate::upload::{CA_BUNDLE, Upload};

/// Bytes of the engine's own log of one build. More than our helper lets through: what goes past it is an attack.
const LOG_BYTES: u64 = 64 * 1024 * 1024;
/// Variables that the lifecycle hands on from the container's environment to every buildpack.
const FROM_CONTAINER: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

impl DockerBuilder {
    /// Runs the build, or follows it, or reads how it ended.
    pub(crate) async fn run(&self, spec: &BuildSpec, output: mpsc::Sender<Bytes>) -> Result<BuildVerdict, PortError> {
        let name = self.container_name(&spec.app, &spec.build);
        let left = match self.state(&name).await? {
            Some(state) if !matches!(state.status, None | Some(ContainerStateStatusEnum::CREATED)) => {
                (state.running == Some(true)).then(|| left(&state, spec.timeout))
            }
            _ => {
                if let Some(refused) = self.start(spec, &name).await? {
                    return Ok(BuildVerdict::Failed(BuildFailure::Source(refused)));
                }
                Some(spec.timeout)
            }
        };
        let follow = self.follow(&name, output);
        tokio::pin!(follow);
        let report = tokio::select! {
            report = &mut follow => report?,
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => {
                self.kill(&name).await?;
                follow.await?
            }
        };
        match report {
            // The container needs a moment more to go; an export waits for it while it reads.
            Some(manifest) if manifest.status == wire::EXIT_BUILT => Ok(BuildVerdict::Succeeded),
            report => self.failure(&name, report.as_ref(), spec.timeout).await.map(BuildVerdict::Failed),
        }
    }

    /// Makes the container, puts everything in and starts it. Answers with why the source is refused, if it is.
    async fn start(&self, spec: &BuildSpec, name: &str) -> Result<Option<String>, PortError> {
        let begun = std::time::Instant::now();
        let (path, most) = (spec.source.clone(), self.settings.limits.source_bytes);
        let checked = tokio::task::spawn_blocking(move || source::check(&path, most));
        let images = self.images(&self.settings.builder_image);
        let ((builder, run), network) = tokio::try_join!(images, self.network.ensure())?;
        match checked.await.map_err(|e| disk("checking the source", e))? {
            Ok(()) => {}
            Err(SourceError::Refused(why)) => return Ok(Some(why.0)),
            Err(SourceError::Io(e)) => return Err(disk("checking the source", e)),
        }
        let folder = self.app_folder(&spec.app);
        let memo = folder.memo(builder.short()).await;
        // A layer that is only in its tar is known only as long as the tar is there.
        let usable = |layer: &crate::memo::MemoLayer| {
            !layer.only_in_tar() || layer.stored.as_ref().is_some_and(|stored| folder.blob(&stored.diff_id).exists())
        };
        let layers: Vec<KnownLayer> =
            memo.layers.iter().filter(|layer| usable(layer)).map(|layer| layer.known.clone()).collect();
        let output_limit = self.settings.limits.output_bytes;
        let request = Request { analyzed: run.analyzed(), layers, stores: memo.stores, output_limit };
        let prepared = begun.elapsed();

        // What an earlier build left when another server ended its job, with the config vars in it.
        self.remove_containers(&spec.app).await?;
        self.create(spec, name, &builder, network).await?;
        let created = begun.elapsed();
        let upload = Upload {
            source: spec.source.clone(),
            phase: self.settings.tools.join("phase"),
            ca_bundle: self.settings.ca_bundle.clone(),
            request,
            env: self.build_env(spec),
            owner: (builder.uid, builder.gid),
        };
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let (tar, mut broke_off) = upload.stream();
        let body = bollard::body_try_stream(tar);
        let uploaded = self.docker.upload_to_container(name, Some(options), body).await;
        uploaded.map_err(|e| match broke_off.try_recv() {
            // The engine's refusal ends our writing too, which is not why.
            Ok(ours) if ours.kind() != std::io::ErrorKind::BrokenPipe => {
                disk("putting the source into the build", ours)
            }
            _ => failed("putting the source into the build", e),
        })?;
        let put = begun.elapsed();
        let started = self.docker.start_container(name, None::<StartContainerOptions>).await;
        started.map_err(|e| failed("starting the build", e))?;
        tracing::debug!(?prepared, ?created, ?put, started = ?begun.elapsed(), "build started");
        Ok(None)
    }

    /// A builder image and the run image that its images stand on.
    pub(crate) async fn images(&self, builder: &str) -> Result<(BuilderImage, BaseImage), PortError> {
        let builder = BuilderImage::find(&self.docker, builder).await?;
        let reference = self.settings.run_image.as_ref().unwrap_or(&builder.run_image);
        let run = BaseImage::find(&self.docker, reference).await?;
        Ok((builder, run))
    }

    /// What buildpacks see as the platform's variables.
    fn build_env(&self, spec: &BuildSpec) -> BTreeMap<String, String> {
        let mut env = self.settings.build_env.clone();
        if self.settings.ca_bundle.is_some() {
            env.insert("SSL_CERT_FILE".into(), CA_BUNDLE.into());
        }
        if let Some(commit) = &spec.commit {
            env.insert("SOURCE_VERSION".into(), commit.clone());
        }
        env.insert("BUILD_INFO".into(), serde_json::json!({"source_version": spec.commit}).to_string());
        env.extend(spec.config.iter().map(|(key, value)| (key.as_str().to_owned(), value.expose_secret().to_owned())));
        env
    }

    async fn create(
        &self,
        spec: &BuildSpec,
        name: &str,
        builder: &BuilderImage,
        network: String,
    ) -> Result<(), PortError> {
        let limits = &self.settings.limits;
        let memory = i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX);
        let mut env = vec![format!("CNB_PLATFORM_API={}", builder.platform_api)];
        if self.settings.ca_bundle.is_some() {
            env.push(format!("SSL_CERT_FILE={CA_BUNDLE}"));
        }
        for (key, value) in self.settings.build_env.iter().filter(|(key, _)| FROM_CONTAINER.contains(&key.as_str())) {
            env.push(format!("{key}={value}"));
        }
        let mut labels = self.labels(&spec.app, "build");
        labels.insert("paas.build".into(), spec.build.to_string());
        let log = [("max-size", LOG_BYTES.to_string()), ("max-file", "1".to_owned())];
        let host = HostConfig {
            network_mode: Some(network),
            memory: Some(memory),
            memory_swap: Some(memory),
            pids_limit: Some(i64::from(limits.pids)),
            #[allow(clippy::cast_possible_truncation)] // A few processors.
            nano_cpus: limits.cpus.map(|cpus| (cpus * 1e9) as i64),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            mounts: Some(vec![Mount {
                target: Some("/layers".to_owned()),
                source: Some(self.volume_name(&spec.app, builder.short())),
                typ: Some(MountType::VOLUME),
                volume_options: Some(MountVolumeOptions {
                    labels: Some(self.labels(&spec.app, "layers")),
                    ..Default::default()
                }),
                ..Default::default()
            }]),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(log.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            }),
            ..Default::default()
        };
        let body = ContainerCreateBody {
            image: Some(builder.id.to_string()),
            // The same in every build: buildpacks see it.
            hostname: Some("build".to_owned()),
            user: Some(format!("{}:{}", builder.uid, builder.gid)),
            entrypoint: Some(vec!["/paas/phase".to_owned()]),
            working_dir: Some("/workspace".to_owned()),
            env: Some(env),
            labels: Some(labels),
            host_config: Some(host),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        match self.docker.create_container(Some(options), body).await {
            Ok(_) => Ok(()),
            // Made by an earlier call: the same build, so the same container.
            Err(e) if is_conflict(&e) => Ok(()),
            Err(e) => Err(failed("making the build container", e)),
        }
    }
}
