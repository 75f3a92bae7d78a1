//! The installer on the emulator. An account of each test's own, so that all that is in it is the test's.
//!
//! The emulator lets two stacks make things of the same name and takes parameters that a template does not have; AWS
//! does not. So what must hold is asked of the account itself: what is there, by its physical names.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use paas_aws::Foundation;
use paas_aws::account::sdk_config;
use paas_aws::install::{Account as _, InstallError, Outcome, Pace, Sdk, Stack, Talk, Wish, install, template};

use crate::support;

#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Talk for Said {
    fn tell(&self, line: &str) {
        self.0.lock().expect("no panic while it was held").push(line.to_owned());
    }
    fn agree(&self, _: &str) -> bool {
        true
    }
}

const PACE: Pace = Pace { poll: Duration::from_millis(50), patience: Duration::from_secs(60) };

struct World {
    sdk: Sdk,
    cloudformation: aws_sdk_cloudformation::Client,
    said: Said,
}

impl World {
    async fn start() -> Self {
        // The emulator takes a key of twelve digits for an account of that number.
        let mut bytes = [0_u8; 8];
        getrandom::fill(&mut bytes).expect("random bytes");
        let number = format!("{:012}", u64::from_le_bytes(bytes) % 1_000_000_000_000);
        let credentials = Credentials::new(number, "test", None, None, "test");
        let config = sdk_config(&support::options()).await.into_builder();
        let config = config.credentials_provider(SharedCredentialsProvider::new(credentials)).build();
        Self {
            cloudformation: aws_sdk_cloudformation::Client::new(&config),
            sdk: Sdk::with_config(config),
            said: Said::default(),
        }
    }

    async fn install(&self, wish: &Wish) -> Result<(Outcome, Stack), InstallError> {
        install(&self.sdk, wish, &self.said, PACE).await
    }

    /// Every resource of a stack with what it is called outside.
    async fn resources(&self, stack: &str) -> BTreeMap<String, String> {
        let mut pages = self.cloudformation.list_stack_resources().stack_name(stack).into_paginator().items().send();
        let mut found = BTreeMap::new();
        while let Some(resource) = pages.try_next().await.expect("the stack's resources") {
            let name = format!(
                "{} {}",
                resource.resource_type().unwrap_or("?"),
                resource.logical_resource_id().unwrap_or("?")
            );
            found.insert(name, resource.physical_resource_id().unwrap_or_default().to_owned());
        }
        found
    }
}

fn wish(stack: &str) -> Wish {
    Wish {
        region: "us-east-1".into(),
        stack: stack.into(),
        domain: format!("{stack}.example.com"),
        database: Some("none".into()),
        ..Wish::default()
    }
}

#[tokio::test]
async fn a_second_run_changes_nothing() {
    let world = World::start().await;
    let (outcome, stack) = world.install(&wish("first")).await.expect("installed");
    assert_eq!(outcome, Outcome::Created);
    let before = world.resources("first").await;
    assert!(before.len() > 25, "{before:?}");
    let events = world.sdk.events("first", None).await.expect("events").len();

    let (outcome, again) = world.install(&wish("first")).await.expect("installed again");
    assert_eq!(outcome, Outcome::Unchanged);
    assert_eq!(again, stack);
    assert_eq!(world.resources("first").await, before, "every physical name is the same");
    assert_eq!(world.sdk.events("first", None).await.expect("events").len(), events, "CloudFormation was not asked");
    assert_eq!(world.sdk.template("first").await.expect("the template"), template());
}

#[tokio::test]
async fn its_outputs_are_what_the_server_reads() {
    let world = World::start().await;
    let (_, stack) = world.install(&wish("outputs")).await.expect("installed");
    let foundation = Foundation::from_outputs(&stack.outputs).expect("a foundation");
    assert_eq!(foundation.region, "us-east-1");
    assert_eq!(foundation.app_domain, "outputs.example.com");
    assert_eq!(foundation.subnets.len(), 2);
    assert!(foundation.public_ip && foundation.kms_key_arn.is_some());
    let install = &stack.parameters["Installation"];
    for (name, value) in [("cluster", &foundation.cluster), ("log group", &foundation.log_group)] {
        assert!(value.contains(install.as_str()), "{name} {value}");
    }
}

#[tokio::test]
async fn a_change_touches_what_it_names() {
    let world = World::start().await;
    world.install(&wish("changed")).await.expect("installed");
    let before = world.resources("changed").await;
    let (outcome, stack) = world.install(&Wish { log_days: Some(7), ..wish("changed") }).await.expect("changed");
    assert_eq!(outcome, Outcome::Updated);
    assert_eq!(stack.parameters["LogRetentionDays"], "7");
    assert_eq!(world.resources("changed").await, before);
    let (outcome, _) = world.install(&wish("changed")).await.expect("again");
    assert_eq!(outcome, Outcome::Unchanged, "what was asked once stays");
}

/// A network, a cluster, a zone and a certificate that somebody else made are used and not made.
#[tokio::test]
async fn adopts_what_is_there() {
    let world = World::start().await;
    let theirs = Wish { domain: "example.com".into(), ..wish("theirs") };
    let (_, there) = world.install(&theirs).await.expect("theirs");
    let there = Foundation::from_outputs(&there.outputs).expect("a foundation");
    let ours = Wish {
        domain: "example.com".into(),
        vpc: Some(there.vpc_id.clone()),
        subnets: Some(there.subnets.clone()),
        cluster: Some(there.cluster.clone()),
        certificate: Some(there.certificate_arn.clone()),
        ..wish("ours")
    };
    let (_, here) = world.install(&ours).await.expect("ours");
    let found = Foundation::from_outputs(&here.outputs).expect("a foundation");
    assert_eq!((&found.vpc_id, &found.subnets, &found.cluster), (&there.vpc_id, &there.subnets, &there.cluster));
    assert_eq!(found.certificate_arn, there.certificate_arn);
    assert_eq!(found.hosted_zone_id, there.hosted_zone_id, "the account's zone is found by the domain");
    let resources = world.resources("ours").await;
    for kind in ["EC2::VPC ", "EC2::Subnet ", "ECS::Cluster ", "Route53::HostedZone ", "CertificateManager::"] {
        assert!(!resources.keys().any(|name| name.starts_with(&format!("AWS::{kind}"))), "{kind} {resources:?}");
    }
    assert!(resources.keys().any(|name| name.starts_with("AWS::EC2::SecurityGroup ")));
}

/// AWS refuses a name that is taken; the emulator does not, so this is where it shows.
#[tokio::test]
async fn two_installations_share_no_name() {
    let world = World::start().await;
    let (_, first) = world.install(&wish("one")).await.expect("one");
    let (_, second) = world.install(&wish("two")).await.expect("two");
    assert_ne!(first.parameters["Installation"], second.parameters["Installation"]);
    let first: Vec<_> = world.resources("one").await.into_values().collect();
    for (name, physical) in world.resources("two").await {
        assert!(!first.contains(&physical), "{name} is {physical} in both");
    }
}

#[tokio::test]
async fn with_a_database_no_password_is_shown() {
    let world = World::start().await;
    let wish = Wish { database: Some("db.t4g.micro".into()), ..wish("data") };
    let (_, stack) = world.install(&wish).await.expect("installed");
    assert!(stack.outputs.contains_key("DatabaseSecretArn") && stack.outputs.contains_key("DatabaseEndpoint"));
    let resources = world.resources("data").await;
    assert!(resources.keys().any(|name| name.starts_with("AWS::RDS::DBInstance ")));
    let said = world.said.0.lock().expect("no panic while it was held").join("\n");
    let shown =
        format!("{said}{:?}{:?}{}", stack.outputs, stack.parameters, world.sdk.template("data").await.expect("it"));
    assert!(!shown.to_ascii_lowercase().contains("password\":"), "{shown}");
    assert!(said.contains("database db.t4g.micro"), "{said}");
}
