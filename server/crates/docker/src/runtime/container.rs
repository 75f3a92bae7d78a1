//! A dyno's container: what it is made of and what it may do.

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use paas_domain::{ConfigVars, DynoKind, DynoSize, InstallId};
use paas_ports::ImageRef;

use super::tag::Tag;

/// Our launcher: every image's entrypoint.
const LAUNCHER: &str = "/paas/launcher";
/// Heroku's `ulimit -n`.
const OPEN_FILES: i64 = 10_000;

/// The request that makes a dyno.
pub(crate) fn body(
    install: &InstallId,
    network: &str,
    tag: &Tag,
    image: &ImageRef,
    config: &ConfigVars,
) -> ContainerCreateBody {
    let mut env: Vec<String> =
        paas_dyno_env::encode(&config.expose()).into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    env.push(format!("DYNO={}", tag.name));
    env.push(format!("PAAS_COMMAND={}", tag.command));
    if let Some(port) = tag.port {
        env.push(format!("PORT={port}"));
    }
    ContainerCreateBody {
        image: Some(image.0.to_string()),
        entrypoint: Some(vec![LAUNCHER.to_owned()]),
        env: Some(env),
        labels: Some(tag.labels(install)),
        tty: Some(tag.tty),
        attach_stdin: Some(tag.attach),
        attach_stdout: Some(tag.attach),
        attach_stderr: Some(tag.attach),
        // A release command's stdin is at its end.
        open_stdin: Some(tag.attach && tag.kind != DynoKind::Release),
        // The end of the attacher's input is the end of the dyno's.
        stdin_once: Some(tag.attach),
        // We look ourselves, faster and without a process in the dyno.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host_config(network, tag.size)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(network: &str, size: DynoSize) -> HostConfig {
    let most_memory = i64::from(size.memory_mib()) * 2 * 1024 * 1024;
    HostConfig {
        network_mode: Some(network.to_owned()),
        // R14 is said above the quota, R15 kills at twice the quota: there the kernel stops it.
        memory: Some(most_memory),
        memory_swap: Some(most_memory),
        cpu_shares: Some(i64::from(size.cpu_share()) * 1024),
        pids_limit: Some(pids_limit(size)),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("nofile".to_owned()),
            soft: Some(OPEN_FILES),
            hard: Some(OPEN_FILES),
        }]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        publish_all_ports: Some(false),
        // Restarting is the crash ladder's affair.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some([("max-size", "10m"), ("max-file", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        }),
        ..HostConfig::default()
    }
}

/// Heroku's process and thread limits (devcenter, "Limits").
fn pids_limit(size: DynoSize) -> i64 {
    match size {
        DynoSize::Eco | DynoSize::Basic | DynoSize::Standard1X => 256,
        DynoSize::Standard2X => 512,
        DynoSize::PerformanceM => 16_384,
        DynoSize::PerformanceL => 32_768,
    }
}
