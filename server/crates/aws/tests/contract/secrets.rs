//! The promises of whoever keeps config, on the fake and on Secrets Manager.

use std::sync::Arc;

use async_trait::async_trait;
use paas_ports::Secrets;
use paas_ports::contract::secrets::SecretsBench;

use crate::support;

mod fake {
    use paas_ports::fake::{FakeSecrets, FakeVault};

    use super::*;

    struct FakeBench(Arc<FakeVault>);

    #[async_trait]
    impl SecretsBench for FakeBench {
        async fn start() -> Self {
            Self(FakeVault::new())
        }
        fn secrets(&self) -> Arc<dyn Secrets> {
            self.anew()
        }
        fn anew(&self) -> Arc<dyn Secrets> {
            Arc::new(FakeSecrets(Arc::clone(&self.0)))
        }
        async fn read(&self, reference: &str) -> Option<String> {
            self.0.read(reference)
        }
        fn other_installation(&self) -> Option<Arc<dyn Secrets>> {
            None
        }
        async fn finish(&self) {}
    }

    paas_ports::secrets_contract!(FakeBench);
}

mod aws {
    use paas_aws::{Aws, AwsSecrets};
    use paas_domain::InstallId;

    use super::*;

    struct AwsBench {
        account: Aws,
        other: Aws,
        secrets: Arc<AwsSecrets>,
    }

    #[async_trait]
    impl SecretsBench for AwsBench {
        async fn start() -> Self {
            let account = support::account(&InstallId::random()).await;
            let other = support::account(&InstallId::random()).await;
            Self { secrets: Arc::new(AwsSecrets::new(account.clone())), account, other }
        }
        fn secrets(&self) -> Arc<dyn Secrets> {
            Arc::clone(&self.secrets) as _
        }
        fn anew(&self) -> Arc<dyn Secrets> {
            Arc::new(AwsSecrets::new(self.account.clone()))
        }
        /// As ECS reads `<arn>:<key>:<stage>:<version>`.
        async fn read(&self, reference: &str) -> Option<String> {
            let words: Vec<&str> = reference.split(':').collect();
            let (arn, key) = (words[..7].join(":"), words[7]);
            let found = self.account.secrets.get_secret_value().secret_id(arn).send().await.ok()?;
            let object: serde_json::Value = serde_json::from_str(found.secret_string()?).ok()?;
            object[key].as_str().map(str::to_owned)
        }
        fn other_installation(&self) -> Option<Arc<dyn Secrets>> {
            Some(Arc::new(AwsSecrets::new(self.other.clone())))
        }
        async fn finish(&self) {
            for account in [&self.account, &self.other] {
                let secrets = AwsSecrets::new(account.clone());
                for app in secrets.apps().await.unwrap_or_default() {
                    let _ = secrets.remove_app(&app).await;
                }
            }
        }
    }

    paas_ports::secrets_contract!(AwsBench);

    /// A secret of our name that does not carry our tag is not ours: it is in no list, and no removal takes it.
    #[tokio::test]
    async fn what_is_not_ours_is_left_alone() {
        let bench = AwsBench::start().await;
        let app = paas_domain::AppId::new();
        let name = format!("paas/{}/{app}/config/{}/0", bench.account.install, paas_domain::ConfigId::new());
        let secrets = &bench.account.secrets;
        secrets.create_secret().name(&name).secret_string("{}").send().await.expect("made");
        assert!(bench.secrets.list(&app).await.expect("a list").is_empty());
        assert!(!bench.secrets.apps().await.expect("a list").contains(&app));
        bench.secrets.remove_app(&app).await.expect("nothing to remove");
        secrets.describe_secret().secret_id(&name).send().await.expect("still there");
        let delete = secrets.delete_secret().secret_id(&name).force_delete_without_recovery(true);
        delete.send().await.expect("removed");
        bench.finish().await;
    }
}
