//! The drivers' promises once more, as the server's role and with nothing but `infra/policies`, on an account that asks
//! IAM; and what is said when an action is missing.

mod calls;

use paas_aws::Call;

use crate::iam;

/// Every call that the code lists is allowed on things with our names and tags.
#[tokio::test]
async fn every_call_is_allowed() {
    let world = iam::World::start().await;
    let mut refused = Vec::new();
    for call in Call::ALL {
        refused.extend(calls::asked(&world.server, *call).await.map(|said| format!("{call:?}: {said}")));
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Without its action a call is refused, in words that name the action; so none is in the policy for nothing.
#[tokio::test]
async fn every_action_is_needed() {
    let world = iam::World::start().await;
    for call in Call::ALL {
        world.without(call.action()).await;
        let said = calls::asked(&world.server, *call).await;
        let said = said.unwrap_or_else(|| panic!("{call:?} is allowed without {}", call.action()));
        assert!(said.contains(call.action()), "{said}");
    }
}

mod secrets {
    use std::sync::Arc;

    use async_trait::async_trait;
    use paas_aws::AwsSecrets;
    use paas_ports::Secrets;
    use paas_ports::contract::secrets::SecretsBench;

    use crate::iam::World;

    struct IamBench(World);

    #[async_trait]
    impl SecretsBench for IamBench {
        async fn start() -> Self {
            Self(World::start().await)
        }
        fn secrets(&self) -> Arc<dyn Secrets> {
            self.anew()
        }
        fn anew(&self) -> Arc<dyn Secrets> {
            Arc::new(AwsSecrets::new(self.0.server.clone()))
        }
        /// The server may not read what it has written; ECS does that, here the account's root.
        async fn read(&self, reference: &str) -> Option<String> {
            let words: Vec<&str> = reference.split(':').collect();
            let (arn, key) = (words[..7].join(":"), words[7]);
            assert!(
                self.0.server.secrets.get_secret_value().secret_id(&arn).send().await.is_err(),
                "the server reads it"
            );
            let root = aws_sdk_secretsmanager::Client::new(&self.0.root);
            let found = root.get_secret_value().secret_id(arn).send().await.ok()?;
            let object: serde_json::Value = serde_json::from_str(found.secret_string()?).ok()?;
            object[key].as_str().map(str::to_owned)
        }
        fn other_installation(&self) -> Option<Arc<dyn Secrets>> {
            None
        }
        async fn finish(&self) {}
    }

    paas_ports::secrets_contract!(IamBench);
}

mod registry {
    use std::sync::Arc;

    use async_trait::async_trait;
    use paas_aws::ecr::EcrRegistry;
    use paas_ports::Registry;
    use paas_ports::contract::registry::RegistryBench;

    use crate::iam::World;

    struct IamBench {
        registry: Arc<EcrRegistry>,
        _cache: tempfile::TempDir,
    }

    #[async_trait]
    impl RegistryBench for IamBench {
        async fn start() -> Self {
            let (world, cache) = (World::start().await, tempfile::tempdir().expect("a folder"));
            let registry = EcrRegistry::new(world.server, cache.path().join("registry")).expect("a registry");
            Self { registry: Arc::new(registry), _cache: cache }
        }
        fn registry(&self) -> Arc<dyn Registry> {
            self.registry.clone()
        }
        fn other_installation(&self) -> Option<Arc<dyn Registry>> {
            None
        }
        async fn finish(&self) {}
    }

    paas_ports::registry_contract!(IamBench);
}

/// Installations in one account do not reach each other's things, whatever they ask.
#[tokio::test]
async fn another_installation_is_out_of_reach() {
    let (mine, theirs) = (iam::World::start().await, iam::World::start().await);
    let name = format!("paas/{}/x", theirs.server.install);
    let root = aws_sdk_secretsmanager::Client::new(&theirs.root);
    root.create_secret().name(&name).secret_string("{}").send().await.expect("theirs");
    let refused = mine.server.secrets.delete_secret().secret_id(&name).send().await.expect_err("refused");
    assert!(format!("{refused:?}").contains("AccessDenied"), "{refused:?}");
    let repository = format!("paas-{}-x", theirs.server.install);
    let refused = mine.server.ecr.create_repository().repository_name(repository).send().await.expect_err("refused");
    assert!(format!("{refused:?}").contains("AccessDenied"), "{refused:?}");
}

/// What whoever runs the server reads when a policy is not enough: which action, and who would need it.
#[tokio::test]
async fn a_missing_action_is_said_by_its_name() {
    use paas_domain::{AppId, ConfigId};
    use paas_ports::{PortError, SecretKey, Secrets as _};

    let world = iam::World::start().await;
    world.without("secretsmanager:CreateSecret").await;
    let secrets = paas_aws::AwsSecrets::new(world.server.clone());
    let vars = [("GREETING".to_owned(), "swordfish".to_owned())];
    let error = secrets.ensure(&AppId::new(), &SecretKey::Config(ConfigId::new()), &vars).await;
    let error = error.expect_err("refused");
    assert!(matches!(error, PortError::Permanent { .. }), "{error:?}");
    let said = format!("{error}");
    assert!(said.contains("secretsmanager:CreateSecret") && said.contains("not authorized"), "{said}");
    assert!(!said.contains("swordfish"), "{said}");
    // Nothing else is lost by it.
    secrets.apps().await.expect("the rest works");
}
