//! Task definitions: what a dyno is made of. No value of a config var is ever in one.

use aws_sdk_ecs::types::{
    Compatibility, ContainerDefinition, CpuArchitecture, HealthCheck, KernelCapabilities, KeyValuePair,
    LinuxParameters, LogConfiguration, LogDriver, NetworkMode, OsFamily, PortMapping, RuntimePlatform, Secret, Tag,
    TransportProtocol, Ulimit, UlimitName,
};
use data_encoding::HEXLOWER;
use paas_domain::{AppId, Architecture, DynoSize};
use paas_ports::{PortError, SecretVars};
use sha2::{Digest as _, Sha256};

use super::{Inner, LinkAddress};
use crate::sizes::{FargateSize, cpu_architecture};
use crate::{AwsError, Call, Kind};

/// Our launcher: every image's entrypoint.
const LAUNCHER: &str = "/paas/launcher";
/// Heroku's `ulimit -n`.
const OPEN_FILES: i32 = 10_000;
/// How often a container's health is checked, in seconds: the least that AWS allows is 5.
const HEALTH_EVERY_S: i32 = 5;
/// How many checks in a row have to fail.
const HEALTH_RETRIES: i32 = 3;
/// The most of a container's output that waits for CloudWatch; then lines are dropped, and never does the app wait.
const LOG_BUFFER: &str = "4m";

/// What a definition is made of.
pub(crate) struct Making<'a> {
    /// Its family.
    pub(crate) family: String,
    /// The container's name; the log stream is `<app>/<this>/<task>`.
    pub(crate) container: &'a str,
    pub(crate) app: &'a AppId,
    /// Digest-pinned.
    pub(crate) image: String,
    pub(crate) size: DynoSize,
    /// The image's.
    pub(crate) architecture: Architecture,
    /// Whether it has to listen.
    pub(crate) web: bool,
    /// Plain environment.
    pub(crate) env: Vec<(&'static str, String)>,
    /// What comes from secrets.
    pub(crate) secrets: SecretVars,
    /// Beside those of the installation and the app.
    pub(crate) tags: Vec<(&'static str, String)>,
}

/// A short text that changes when any of these does.
pub(crate) fn fingerprint(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    HEXLOWER.encode(&hash.finalize()[..16])
}

/// What tells a launcher where its link is.
pub(crate) fn link_env(link: Option<&LinkAddress>) -> Vec<(&'static str, String)> {
    let Some(link) = link else { return Vec::new() };
    vec![(paas_link_frames::env::LINK, link.address.clone()), (paas_link_frames::env::CA, link.ca.clone())]
}

pub(crate) fn tag(name: &str, value: impl Into<String>) -> Tag {
    Tag::builder().key(name).value(value).build()
}

pub(crate) fn pair(name: &str, value: &str) -> KeyValuePair {
    KeyValuePair::builder().name(name).value(value).build()
}

impl Inner {
    /// Registers a definition; answers its ARN.
    pub(crate) async fn register(&self, making: Making<'_>) -> Result<String, PortError> {
        let doing = "registering the release with ECS";
        let app = making.app;
        let size = FargateSize::of(making.size);
        let mut tags = vec![tag("paas:install", self.aws.install.to_string()), tag("paas:app", app.as_str())];
        tags.extend(making.tags.iter().map(|(name, value)| tag(name, value)));
        let platform = RuntimePlatform::builder()
            .cpu_architecture(CpuArchitecture::from(cpu_architecture(making.architecture)))
            .operating_system_family(OsFamily::Linux)
            .build();
        let foundation = &self.aws.foundation;
        let container = self.container(&making).map_err(|e| PortError::permanent(doing, e))?;
        let request = self
            .aws
            .ecs
            .register_task_definition()
            .family(&making.family)
            .network_mode(NetworkMode::Awsvpc)
            .requires_compatibilities(Compatibility::Fargate)
            .cpu(size.cpu_units().to_string())
            .memory(size.memory_mib().to_string())
            .runtime_platform(platform)
            .execution_role_arn(&foundation.execution_role_arn)
            .task_role_arn(&foundation.task_role_arn)
            .container_definitions(container)
            .set_tags(Some(tags));
        let made = match self.aws.call(Call::RegisterTaskDefinition, Some(app), doing, request.send()).await {
            Ok(made) => made,
            // Two at once of one family, or one behind a removal: a ClientException like many that are for good.
            Err(error) if error.message.contains("Too many concurrent attempts") => {
                return Err(PortError::transient(doing, error.message));
            }
            Err(error) => return Err(error.into()),
        };
        let arn = made.task_definition.and_then(|definition| definition.task_definition_arn);
        Ok(arn.ok_or_else(|| AwsError::own(Kind::Transient, doing, "AWS named no ARN"))?)
    }

    fn container(
        &self,
        making: &Making<'_>,
    ) -> Result<ContainerDefinition, aws_smithy_types::error::operation::BuildError> {
        let seconds = |time: std::time::Duration| i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        let timing = &self.options.timing;
        let health = HealthCheck::builder()
            .set_command(Some(["CMD", LAUNCHER, "health"].map(str::to_owned).to_vec()))
            .interval(HEALTH_EVERY_S)
            .timeout(HEALTH_EVERY_S)
            .retries(HEALTH_RETRIES)
            // AWS takes 0 to 300.
            .start_period(seconds(timing.boot_timeout).min(300))
            .build()?;
        let logs = LogConfiguration::builder()
            .log_driver(LogDriver::Awslogs)
            .options("awslogs-group", &self.aws.foundation.log_group)
            .options("awslogs-region", &self.aws.foundation.region)
            .options("awslogs-stream-prefix", making.app.as_str())
            .options("mode", "non-blocking")
            .options("max-buffer-size", LOG_BUFFER)
            .build()?;
        let files = Ulimit::builder().name(UlimitName::Nofile).soft_limit(OPEN_FILES).hard_limit(OPEN_FILES).build()?;
        let no_capabilities = KernelCapabilities::builder().drop("ALL").build();
        let mut env: Vec<KeyValuePair> = making.env.iter().map(|(name, value)| pair(name, value)).collect();
        let mut ports = Vec::new();
        if making.web {
            env.push(pair("PORT", &timing.port.to_string()));
            let port = i32::from(timing.port);
            ports.push(PortMapping::builder().container_port(port).protocol(TransportProtocol::Tcp).build());
        }
        let mut secrets = Vec::new();
        for (name, from) in &making.secrets.0 {
            secrets.push(Secret::builder().name(name).value_from(from).build()?);
        }
        Ok(ContainerDefinition::builder()
            .name(making.container)
            .image(&making.image)
            .essential(true)
            .entry_point(LAUNCHER)
            .set_environment(Some(env))
            .set_secrets(Some(secrets))
            .set_port_mappings(Some(ports))
            .privileged(false)
            .linux_parameters(LinuxParameters::builder().capabilities(no_capabilities).build())
            .ulimits(files)
            .stop_timeout(seconds(timing.stop_grace).clamp(1, 120))
            .health_check(health)
            .log_configuration(logs)
            .build())
    }

    /// Nobody starts anything of it any more. Succeeds when it is gone.
    pub(crate) async fn deregister(&self, app: &AppId, arn: &str) -> Result<(), PortError> {
        let request = self.aws.ecs.deregister_task_definition().task_definition(arn);
        let doing = "removing a release from ECS";
        match self.aws.call(Call::DeregisterTaskDefinition, Some(app), doing, request.send()).await {
            Ok(_) => Ok(()),
            // `ClientException`: it is inactive or was never there.
            Err(error) if error.kind == Kind::NotFound || error.is(&["ClientException"]) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
