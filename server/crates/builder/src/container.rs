//! The build container: made once per build, found again by its name, read when it has ended.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerState, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, NetworkCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, InspectContainerOptions,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use paas_domain::{AppId, BuildId, Clock as _, Digest, SystemClock, Timestamp, outside_name};
use paas_phase::wire::{self, KnownLayer, Manifest, Request};
use paas_ports::{BuildFailure, BuildSpec, BuildVerdict, PortError};
use secrecy::ExposeSecret as _;
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use crate::DockerBuilder;
use crate::builder_image::{BaseImage, BuilderImage};
use crate::engine::{disk, failed, is_absent, is_conflict};
use crate::source::{self, SourceError};
use crate::upload::{CA_BUNDLE, Upload};

/// Bytes of the engine's own log of one build. More than our helper lets through: what goes past it is an attack.
const LOG_BYTES: u64 = 64 * 1024 * 1024;
/// The most bytes of the helper's report.
const MANIFEST_BYTES: usize = 16 * 1024 * 1024;
/// How long after the end of the output the engine may take to say how a container ended.
const ENDING: Duration = Duration::from_secs(30);
/// Variables that the lifecycle hands on from the container's environment to every buildpack.
const FROM_CONTAINER: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

impl DockerBuilder {
    pub(crate) fn container_name(&self, app: &AppId, build: &BuildId) -> String {
        outside_name(&self.settings.install, app, &format!("b{}", build.as_str().replace('-', "")))
    }

    pub(crate) fn volume_name(&self, app: &AppId, builder: &str) -> String {
        outside_name(&self.settings.install, app, &format!("layers-{builder}"))
    }

    fn labels(&self, app: &AppId, kind: &str) -> HashMap<String, String> {
        let pairs = [("paas.install", self.settings.install.as_str()), ("paas.app", app.as_str()), ("paas.kind", kind)];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn label_filter(&self, app: &AppId, kind: &str) -> HashMap<String, Vec<String>> {
        let labels = self.labels(app, kind);
        HashMap::from([("label".to_owned(), labels.iter().map(|(key, value)| format!("{key}={value}")).collect())])
    }

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
        let images = async {
            let builder = BuilderImage::find(&self.docker, &self.settings.builder_image).await?;
            let reference = self.settings.run_image.as_ref().unwrap_or(&builder.run_image);
            let run = BaseImage::find(&self.docker, reference).await?;
            Ok((builder, run))
        };
        let ((builder, run), ()) = tokio::try_join!(images, self.ensure_network())?;
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

        self.create(spec, name, &builder).await?;
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
        let body = bollard::body_try_stream(upload.stream());
        let uploaded = self.docker.upload_to_container(name, Some(options), body).await;
        uploaded.map_err(|e| failed("putting the source into the build", e))?;
        let put = begun.elapsed();
        let started = self.docker.start_container(name, None::<StartContainerOptions>).await;
        started.map_err(|e| failed("starting the build", e))?;
        tracing::debug!(?prepared, ?created, ?put, started = ?begun.elapsed(), "build started");
        Ok(None)
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

    async fn create(&self, spec: &BuildSpec, name: &str, builder: &BuilderImage) -> Result<(), PortError> {
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
            network_mode: Some(self.network_name()),
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

    fn network_name(&self) -> String {
        format!("paas-{}-builds", self.settings.install)
    }

    async fn ensure_network(&self) -> Result<(), PortError> {
        let name = self.network_name();
        match self.docker.inspect_network(&name, None::<bollard::query_parameters::InspectNetworkOptions>).await {
            Ok(_) => return Ok(()),
            Err(e) if is_absent(&e) => {}
            Err(e) => return Err(failed("looking for the builds' network", e)),
        }
        let request = NetworkCreateRequest {
            name,
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
            labels: Some(HashMap::from([("paas.install".to_owned(), self.settings.install.to_string())])),
            ..Default::default()
        };
        match self.docker.create_network(request).await {
            Ok(_) => Ok(()),
            Err(e) if is_conflict(&e) => Ok(()),
            Err(e) => Err(failed("making the builds' network", e)),
        }
    }

    /// Sends the whole output, and whatever comes until the build ends. Answers with the helper's last line;
    /// without one, something ended the container before the helper could.
    async fn follow(&self, name: &str, output: mpsc::Sender<Bytes>) -> Result<Option<Manifest>, PortError> {
        let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).build();
        let mut log = self.docker.logs(name, Some(options));
        let mut last = LastLine::default();
        while let Some(part) = log.next().await {
            let part = part.map_err(|e| failed("following the build", e))?.into_bytes();
            if last.take(&part) {
                return Ok(last.manifest());
            }
            if !last.begun() {
                // Nobody listening stops no build.
                let _ = output.send(part).await;
            }
        }
        Ok(None)
    }

    /// What the helper reported when the build ended. Not to be believed.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Manifest, PortError> {
        let doing = "reading what the build left";
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
        let mut log = self.docker.logs(name, Some(options));
        let mut last = LastLine::default();
        while let Some(part) = log.next().await {
            let part = part.map_err(|e| match e {
                e if is_absent(&e) => PortError::NotFound("the build's container".to_owned()),
                e => failed(doing, e),
            })?;
            if last.take(&part.into_bytes()) {
                break;
            }
        }
        last.manifest().ok_or_else(|| PortError::permanent(doing, "it did not say how it ended"))
    }

    /// Waits until a build that reported its end is gone: a moment, or it is made to go.
    pub(crate) async fn settle(&self, name: &str) -> Result<(), PortError> {
        let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
        let mut ended = self.docker.wait_container(name, Some(options));
        if tokio::time::timeout(ENDING, ended.next()).await.is_err() {
            self.kill(name).await?;
        }
        Ok(())
    }

    async fn kill(&self, name: &str) -> Result<(), PortError> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match self.docker.kill_container(name, Some(options)).await {
            Ok(()) => Ok(()),
            // It ended by itself a moment ago.
            Err(e) if is_conflict(&e) || is_absent(&e) => Ok(()),
            Err(e) => Err(failed("ending the build", e)),
        }
    }

    /// Why a build failed, from the helper's report and from how the container ended.
    async fn failure(
        &self,
        name: &str,
        report: Option<&Manifest>,
        timeout: Duration,
    ) -> Result<BuildFailure, PortError> {
        self.settle(name).await?;
        let state = self.state(name).await?.ok_or_else(|| lost("it was removed"))?;
        if state.running == Some(true) {
            return Err(lost("its output ended before it did"));
        }
        if state.oom_killed == Some(true) {
            return Ok(BuildFailure::OutOfMemory);
        }
        match report.map(|report| (report.status, report.failed_status)) {
            Some((wire::EXIT_NOT_DETECTED, _)) => Ok(BuildFailure::NotDetected),
            Some((wire::EXIT_BUILDPACK_FAILED, status)) => Ok(BuildFailure::Buildpack(status.unwrap_or(1))),
            Some(_) => Err(PortError::permanent("running the builder's lifecycle", "it failed; the output says why")),
            None if ran_for(&state) >= timeout => Ok(BuildFailure::TimedOut),
            None => {
                // The engine or the machine went down under the build: it is run again.
                self.remove_container(name).await?;
                Err(lost(&format!("it was killed from outside (status {})", state.exit_code.unwrap_or(-1))))
            }
        }
    }

    /// The engine's tar of a path in a container, running or not.
    pub(crate) fn download(&self, name: &str, path: &str) -> impl tokio::io::AsyncRead + Send + Unpin + use<> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let stream = self.docker.download_from_container(name, Some(options)).map_err(std::io::Error::other);
        StreamReader::new(Box::pin(stream))
    }

    pub(crate) async fn state(&self, name: &str) -> Result<Option<ContainerState>, PortError> {
        match self.docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(found) => Ok(Some(found.state.unwrap_or_default())),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(failed("looking for the build container", e)),
        }
    }

    /// The image that a build container was made of.
    pub(crate) async fn image_of(&self, name: &str) -> Result<Digest, PortError> {
        let found = self.docker.inspect_container(name, None::<InspectContainerOptions>).await;
        let found = found.map_err(|e| failed("looking for the build container", e))?;
        let image = found.image.as_deref().and_then(|id| id.parse().ok());
        image.ok_or_else(|| PortError::permanent("looking for the build container", "it has no image"))
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

/// The helper's last line, out of the parts of a log.
#[derive(Default)]
struct LastLine(Option<Vec<u8>>);

impl LastLine {
    /// Takes a part; whether the line is whole. The engine's parts begin with a line, or go on with one.
    fn take(&mut self, part: &[u8]) -> bool {
        match (&mut self.0, part.strip_prefix(wire::MARK.as_bytes())) {
            (Some(line), _) => line.extend_from_slice(part),
            (None, Some(start)) => self.0 = Some(start.to_vec()),
            (None, None) => return false,
        }
        self.0.as_ref().is_some_and(|line| line.ends_with(b"\n") || line.len() > MANIFEST_BYTES)
    }

    fn begun(&self) -> bool {
        self.0.is_some()
    }

    fn manifest(&self) -> Option<Manifest> {
        serde_json::from_slice(self.0.as_deref()?).ok()
    }
}

fn lost(why: &str) -> PortError {
    PortError::transient("following the build", why)
}

fn instant(text: Option<&str>) -> Option<Timestamp> {
    // The engine writes year 1 for "never".
    Timestamp::parse(text?).filter(|at| at.0 > 0)
}

/// How much of its time a running build has left, counted from its own start.
fn left(state: &ContainerState, timeout: Duration) -> Duration {
    let Some(started) = instant(state.started_at.as_deref()) else { return timeout };
    let ran = SystemClock.now().since_ms(started).max(0);
    timeout.saturating_sub(Duration::from_millis(ran.unsigned_abs()))
}

fn ran_for(state: &ContainerState) -> Duration {
    match (instant(state.started_at.as_deref()), instant(state.finished_at.as_deref())) {
        (Some(started), Some(finished)) => Duration::from_millis(finished.since_ms(started).max(0).unsigned_abs()),
        _ => Duration::ZERO,
    }
}
