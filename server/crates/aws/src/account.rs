//! The clients of one account and region, and the one way a call is made.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use paas_domain::{AppId, InstallId};
use paas_ports::outside;

use crate::call::Call;
use crate::error::{AwsError, Kind};
use crate::foundation::Foundation;
use crate::install::{Account as _, Sdk};
use crate::rate::Rates;

/// How calls are made. Endpoint and credentials come from the environment as for every AWS program
/// (`AWS_ENDPOINT_URL`, `AWS_PROFILE`, the instance's role, …).
#[derive(Clone, Debug)]
pub struct AwsOptions {
    /// The region; `None` as the environment says.
    pub region: Option<String>,
    /// Another endpoint for every service, as `http://127.0.0.1:4566`; `None` as the environment says.
    pub endpoint: Option<String>,
    /// Where images are pushed to, when it is not what ECR says: host and port, over plain HTTP.
    pub registry: Option<String>,
    /// How long one try of a call may take.
    pub try_timeout: Duration,
    /// How often a call is tried.
    pub tries: u32,
    /// What the time between two tries starts at; it doubles.
    pub backoff: Duration,
}

impl Default for AwsOptions {
    /// Three tries of ten seconds, as AWS's standard mode.
    fn default() -> Self {
        Self {
            region: None,
            endpoint: None,
            registry: None,
            try_timeout: Duration::from_secs(10),
            tries: 3,
            backoff: Duration::from_secs(1),
        }
    }
}

/// One installation's account, as every driver sees it.
#[derive(Clone)]
pub struct Aws(Arc<Parts>);

/// The parts of an [`Aws`].
pub struct Parts {
    /// Which installation.
    pub install: InstallId,
    /// Where it lives.
    pub foundation: Foundation,
    /// How calls are made.
    pub options: AwsOptions,
    /// What clients of further services are made of.
    pub config: SdkConfig,
    /// Amazon ECS.
    pub ecs: aws_sdk_ecs::Client,
    /// Amazon ECR.
    pub ecr: aws_sdk_ecr::Client,
    /// Elastic Load Balancing.
    pub elb: aws_sdk_elasticloadbalancingv2::Client,
    /// Secrets Manager.
    pub secrets: aws_sdk_secretsmanager::Client,
    /// CloudWatch Logs.
    pub logs: aws_sdk_cloudwatchlogs::Client,
    /// SQS.
    pub sqs: aws_sdk_sqs::Client,
    /// Route 53.
    pub route53: aws_sdk_route53::Client,
    /// Certificate Manager.
    pub acm: aws_sdk_acm::Client,
    rates: Rates,
}

impl Aws {
    /// Reads the environment and puts the clients together. Calls nothing.
    pub async fn new(options: AwsOptions, foundation: Foundation, install: InstallId) -> Self {
        let region = options.region.clone().or_else(|| Some(foundation.region.clone()));
        let config = sdk_config(&AwsOptions { region, ..options.clone() }).await;
        Self::with_config(config, options, foundation, install)
    }

    /// The same with other credentials than the environment's.
    #[must_use]
    pub fn with_config(config: SdkConfig, options: AwsOptions, foundation: Foundation, install: InstallId) -> Self {
        Self(Arc::new(Parts {
            ecs: aws_sdk_ecs::Client::new(&config),
            ecr: aws_sdk_ecr::Client::new(&config),
            elb: aws_sdk_elasticloadbalancingv2::Client::new(&config),
            secrets: aws_sdk_secretsmanager::Client::new(&config),
            logs: aws_sdk_cloudwatchlogs::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            route53: aws_sdk_route53::Client::new(&config),
            acm: aws_sdk_acm::Client::new(&config),
            config,
            install,
            foundation,
            options,
            rates: Rates::default(),
        }))
    }

    /// Makes one call: in its turn, never inside a transaction, its failure sorted. `doing` says what for, as
    /// "starting web.1"; `app` is whose turn it takes.
    ///
    /// # Errors
    /// What AWS said, after the SDK's own tries.
    ///
    /// # Panics
    /// When a transaction is open.
    pub async fn call<T, E>(
        &self,
        call: Call,
        app: Option<&AppId>,
        doing: &str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, AwsError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        outside::check(call.action());
        match call {
            // A definition that nothing uses does no harm: deploys go first.
            Call::DeregisterTaskDefinition => self.rates.take_idle(call.family()).await,
            _ => self.rates.take(call.family(), app).await,
        }
        let answer = request.await.map_err(|error| AwsError::from_sdk(doing, &error));
        match &answer {
            Ok(_) => tracing::debug!(action = call.action(), doing, "called"),
            Err(error) => tracing::debug!(action = call.action(), doing, code = error.code, "refused"),
        }
        answer
    }

    /// So many servers of this installation divide the account's rates from now on.
    pub fn share_with(&self, servers: usize) {
        self.rates.share_with(servers);
    }

    /// Takes a turn for a call that does not go through the SDK (the registry's own protocol).
    pub async fn turn(&self, call: Call, app: Option<&AppId>) {
        outside::check(call.action());
        self.rates.take(call.family(), app).await;
    }
}

impl std::ops::Deref for Aws {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// What clients are made of.
pub async fn sdk_config(options: &AwsOptions) -> SdkConfig {
    let retry = RetryConfig::standard().with_max_attempts(options.tries).with_initial_backoff(options.backoff);
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(options.try_timeout).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).retry_config(retry).timeout_config(timeouts);
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    loader.load().await
}

/// Reads the outputs of the foundation's stack, and which installation it was made for.
///
/// # Errors
/// When it is not there or is not whole.
pub async fn read_foundation(options: &AwsOptions, stack: &str) -> Result<(Foundation, InstallId), AwsError> {
    let doing = "reading the foundation's stack";
    let Some(found) = Sdk::new(options).await.stack(stack).await? else {
        return Err(AwsError::own(Kind::NotFound, doing, format!("there is no stack {stack}: run `paas install`")));
    };
    let install = found.outputs.get("Installation").cloned().unwrap_or_default();
    let install = InstallId::try_from(install)
        .map_err(|_| AwsError::own(Kind::Other, doing, format!("{stack} is no stack of `paas install`")))?;
    Ok((Foundation::from_outputs(&found.outputs)?, install))
}
