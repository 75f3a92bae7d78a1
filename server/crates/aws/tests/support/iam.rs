//! An account that asks IAM (`PAAS_TEST_AWS_IAM`): its foundation made by the installer, and the server's role on it.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use paas_aws::account::sdk_config;
use paas_aws::install::{Account as _, Pace, Parameters, Sdk, Stack, Talk, Wish, install, template};
use paas_aws::{Aws, AwsOptions, Foundation};
use paas_domain::InstallId;

pub(crate) struct Silent;

impl Talk for Silent {
    fn tell(&self, _: &str) {}
    fn agree(&self, _: &str) -> bool {
        true
    }
}

const PACE: Pace = Pace { poll: Duration::from_millis(50), patience: Duration::from_secs(60) };

/// One foundation with its server's role.
pub(crate) struct World {
    pub(crate) root: SdkConfig,
    pub(crate) wish: Wish,
    pub(crate) stack: Stack,
    pub(crate) server: Aws,
}

/// How the account is reached, when it is there.
///
/// # Panics
/// When there is none.
pub(crate) fn options() -> AwsOptions {
    let endpoint = std::env::var("PAAS_TEST_AWS_IAM");
    let endpoint = endpoint.expect("not run: no AWS emulator that asks IAM (PAAS_TEST_AWS_IAM is not set)");
    let registry = endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned();
    AwsOptions {
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint),
        registry: Some(registry),
        backoff: Duration::from_millis(50),
        ..AwsOptions::default()
    }
}

fn with(config: &SdkConfig, credentials: Credentials) -> SdkConfig {
    config.clone().into_builder().credentials_provider(SharedCredentialsProvider::new(credentials)).build()
}

impl World {
    /// A new foundation, by the account's root, and its server.
    pub(crate) async fn start() -> Self {
        let options = options();
        let root =
            with(&sdk_config(&options).await, Credentials::new("test", "test", None, None, "the rig's root key"));
        let name = format!("iam-{}", InstallId::random());
        let wish = Wish {
            region: "us-east-1".into(),
            domain: format!("{name}.example.com"),
            stack: name,
            database: Some("none".into()),
            ..Wish::default()
        };
        let (_, stack) = install(&Sdk::with_config(root.clone()), &wish, &Silent, PACE).await.expect("a foundation");
        let server = server(&root, &options, &stack).await;
        Self { root, wish, stack, server }
    }

    /// Applies the template with this action taken from the server's policy.
    pub(crate) async fn without(&self, action: &str) {
        let policy = paas_aws::install::policy("server").to_string();
        assert!(policy.contains(&format!("\"{action}\"")), "{action} is not in the policy");
        // A name that no call has, so that a list of one stays a list.
        let body = template().replace(&format!("\"{action}\""), "\"sts:GetCallerIdentity\"");
        let account = Sdk::with_config(self.root.clone());
        let owner = account.account_id().await.expect("the account");
        let parameters = Parameters::decide(&self.wish, &owner, Some(&self.stack)).expect("parameters");
        let name = parameters.proposal_name(&body);
        account.propose(&self.wish.stack, &name, false, &body, &parameters).await.expect("proposed");
        loop {
            let proposal = account.proposal(&self.wish.stack, &name).await.expect("a proposal");
            assert_ne!(proposal.status, "FAILED", "{}", proposal.reason);
            if proposal.can_run {
                break;
            }
            tokio::time::sleep(PACE.poll).await;
        }
        account.execute(&self.wish.stack, &name).await.expect("started");
        for _ in 0..200 {
            let stack = account.stack(&self.wish.stack).await.expect("the stack").expect("a stack");
            if stack.status == "UPDATE_COMPLETE"
                && account.template(&self.wish.stack).await.expect("a template") == body
            {
                return;
            }
            tokio::time::sleep(PACE.poll).await;
        }
        panic!("the stack was not updated");
    }
}

/// The account as the server's role sees it.
async fn server(root: &SdkConfig, options: &AwsOptions, stack: &Stack) -> Aws {
    let role = &stack.outputs["ServerRoleArn"];
    let asked = aws_sdk_sts::Client::new(root).assume_role().role_arn(role).role_session_name("server").send();
    let given = asked.await.expect("the server's role").credentials.expect("credentials");
    let token = Some(given.session_token);
    let credentials = Credentials::new(given.access_key_id, given.secret_access_key, token, None, "the server's role");
    let foundation = Foundation::from_outputs(&stack.outputs).expect("a foundation");
    let install = InstallId::try_from(stack.outputs["Installation"].clone()).expect("an installation");
    Aws::with_config(with(root, credentials), options.clone(), foundation, install)
}
