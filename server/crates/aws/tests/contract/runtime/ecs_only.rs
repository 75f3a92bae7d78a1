//! Promises that only this driver makes.

use paas_domain::ConfigVars;
use paas_ports::contract::runtime::RuntimeBench as _;
use paas_ports::contract::runtime::bench::{
    STOP_GRACE, next, one_off, quantity, released, settle, settled, until, web,
};
use paas_ports::{Progress, Runtime as _, Secrets as _, ServiceSpec};
use secrecy::SecretString;

use super::bench::EcsBench;
use crate::support;

async fn definitions(bench: &EcsBench, spec: &ServiceSpec) -> Vec<String> {
    let account = &bench.world().account;
    let family = paas_domain::outside_name(&account.install, &spec.app, spec.process_type.as_str());
    let request = account.ecs.list_task_definitions().family_prefix(family);
    let active = request.status(aws_sdk_ecs::types::TaskDefinitionStatus::Active).send().await;
    active.expect("a list").task_definition_arns().to_vec()
}

async fn desired(bench: &EcsBench, spec: &ServiceSpec) -> i32 {
    let account = &bench.world().account;
    let name = paas_domain::outside_name(&account.install, &spec.app, spec.process_type.as_str());
    let request = account.ecs.describe_services().cluster(&account.foundation.cluster).services(name);
    request.send().await.expect("an answer").services()[0].desired_count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_scaled_by_hand_goes_back() {
    let bench = EcsBench::start().await;
    let spec = web(&bench, "serve");
    settled(&bench, &spec).await;
    let account = &bench.world().account;
    let name = paas_domain::outside_name(&account.install, &spec.app, "web");
    let by_hand = account.ecs.update_service().cluster(&account.foundation.cluster).service(name).desired_count(3);
    by_hand.send().await.expect("scaled");
    assert_eq!(desired(&bench, &spec).await, 3);
    until("it is seen and set right", || async {
        settle(&bench, &spec).await;
        desired(&bench, &spec).await == 1
    })
    .await;
    settled(&bench, &spec).await;
    bench.finish().await;
}

/// The rig takes the cluster's room away: the rollout says so and goes on, and so does a one-off dyno.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_a_rollout_is_held_up_and_old_dynos_serve_on() {
    const FULL: &str = "Capacity is unavailable at this time. Please try again later.";
    let bench = EcsBench::start().await;
    let first = web(&bench, "serve");
    settled(&bench, &first).await;
    let cluster = &bench.world().account.foundation.cluster;
    support::put_state("/capacity", &format!(r#"{{"{cluster}": {{"FARGATE": "{FULL}"}}}}"#)).await;
    let second = released(&first, "serve");
    until("it says why", || async {
        let progress = bench.runtime().ensure(&second).await.expect("ensure");
        matches!(progress, Progress::HeldUp { cause, .. } if cause.contains(FULL))
    })
    .await;
    let dynos = bench.world().driver().observe(&first.app).await.expect("observe").dynos;
    assert!(matches!(&dynos[..], [dyno] if dyno.state == paas_domain::DynoState::Up), "{dynos:?}");
    let (id, once) = one_off(&bench, "exit 0", false);
    let refused = bench.runtime().start_once(&id, &once).await.expect_err("no room");
    assert!(refused.is_transient() && refused.to_string().contains(FULL), "{refused}");
    support::put_state("/capacity", &format!(r#"{{"{cluster}": {{}}}}"#)).await;
    settled(&bench, &second).await;
    bench.runtime().start_once(&id, &once).await.expect("started");
    bench.finish().await;
}

/// Scaling and restarting register nothing; what a release leaves behind is collected with its secret, and no value
/// of a config var is ever in a definition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions_are_made_for_releases_only_and_collected() {
    let bench = EcsBench::start().await;
    let mut config = ConfigVars::new();
    config.set("CANARY".parse().expect("a key"), SecretString::from("a-secret-canary"));
    let first = ServiceSpec { config, ..web(&bench, "serve") };
    settled(&bench, &first).await;
    settled(&bench, &ServiceSpec { quantity: quantity(2), ..next(&first) }).await;
    let restarted = ServiceSpec { quantity: quantity(2), restart: 1, ..next(&next(&first)) };
    settled(&bench, &restarted).await;
    assert_eq!(definitions(&bench, &first).await.len(), 1);
    let account = &bench.world().account;
    for arn in definitions(&bench, &first).await {
        let found = account.ecs.describe_task_definition().task_definition(arn).send().await.expect("a definition");
        let text = format!("{found:?}");
        assert!(text.contains("PAAS_CONFIG_0") && !text.contains("a-secret-canary"), "{text}");
        let container = &found.task_definition().expect("a definition").container_definitions()[0];
        assert_eq!(container.stop_timeout(), i32::try_from(STOP_GRACE.as_secs()).ok());
        assert!(container.image().expect("an image").contains("@sha256:"));
        assert_eq!(container.health_check().expect("a check").command(), ["CMD", "/paas/launcher", "health"]);
        assert_eq!(container.privileged(), Some(false));
    }
    let second = ServiceSpec { config_id: paas_domain::ConfigId::new(), ..released(&restarted, "serve") };
    settled(&bench, &second).await;
    let third = released(&second, "serve");
    settled(&bench, &third).await;
    let secrets = paas_aws::AwsSecrets::new(account.clone());
    assert_eq!(secrets.list(&first.app).await.expect("list").len(), 2);
    bench.world().driver().collect(&first.app).await.expect("collect");
    assert_eq!(definitions(&bench, &first).await.len(), 1);
    let kept = secrets.list(&first.app).await.expect("list");
    assert_eq!(kept, [paas_ports::SecretKey::Config(second.config_id.clone())]);
    bench.finish().await;
}

/// An app of which nothing is left but a secret is found, and goes whole: a server died between the secret and the
/// definition that was to name it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_has_only_a_secret_is_found() {
    let bench = EcsBench::start().await;
    let app = paas_domain::AppId::new();
    let secrets = paas_aws::AwsSecrets::new(bench.world().account.clone());
    let key = paas_ports::SecretKey::Config(paas_domain::ConfigId::new());
    secrets.ensure(&app, &key, &[("PAAS_CONFIG_0".to_owned(), "x".to_owned())]).await.expect("kept");
    let driver = bench.world().driver();
    assert!(driver.apps().await.expect("a list").contains(&app));
    assert!(driver.remove_app(&app).await.expect("removed"));
    assert!(secrets.list(&app).await.expect("a list").is_empty());
    assert!(!driver.apps().await.expect("a list").contains(&app));
    bench.finish().await;
}
