//! Promises that only this driver makes.

use paas_domain::ConfigVars;
use paas_ports::contract::runtime::RuntimeBench as _;
use paas_ports::contract::runtime::bench::{next, quantity, released, settled, web};
use paas_ports::{Runtime as _, Secrets as _, ServiceSpec};
use secrecy::SecretString;

use crate::bench::EcsBench;

async fn definitions(bench: &EcsBench, spec: &ServiceSpec) -> Vec<String> {
    let account = &bench.world().account;
    let family = paas_domain::outside_name(&account.install, &spec.app, spec.process_type.as_str());
    let request = account.ecs.list_task_definitions().family_prefix(family);
    let active = request.status(aws_sdk_ecs::types::TaskDefinitionStatus::Active).send().await;
    active.expect("a list").task_definition_arns().to_vec()
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
        assert_eq!(container.stop_timeout(), Some(1));
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
