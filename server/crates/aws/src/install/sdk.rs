//! An account, by AWS's SDK.
//!
//! These calls are not the server's: they are made by whoever installs, with their permissions, before there is a
//! foundation. So they are not in [`Call`](crate::Call), which the server's policy is checked against; but for the look
//! at the stack, by which a server finds its foundation ([`read_foundation`](crate::account::read_foundation)).

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_cloudformation::types::{
    Capability, ChangeSetType, ExecutionStatus, Parameter, Replacement, Tag, TemplateStage,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use paas_ports::outside;

use super::account::{Account, Certificate, Change, Event, Proposal, Stack, Zone};
use super::parameters::Parameters;
use crate::account::{AwsOptions, sdk_config};
use crate::error::{AwsError, Kind};

/// One account in one region, with the environment's credentials.
pub struct Sdk {
    config: SdkConfig,
    cloudformation: aws_sdk_cloudformation::Client,
}

impl Sdk {
    /// Reads the environment. Calls nothing.
    pub async fn new(options: &AwsOptions) -> Self {
        Self::with_config(sdk_config(options).await)
    }

    /// With whatever a program has put together itself.
    #[must_use]
    pub fn with_config(config: SdkConfig) -> Self {
        Self { cloudformation: aws_sdk_cloudformation::Client::new(&config), config }
    }

    /// The region that the environment names, where none was asked for.
    #[must_use]
    pub fn region(&self) -> Option<String> {
        self.config.region().map(ToString::to_string)
    }
}

/// Makes a call; `doing` says what for.
async fn call<T, E>(
    doing: &str,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, AwsError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    outside::check(doing);
    request.await.map_err(|error| AwsError::from_sdk(doing, &error))
}

fn text(value: Option<&str>) -> String {
    value.unwrap_or_default().to_owned()
}

/// CloudFormation has one code for all that is wrong; that there is no such stack is in its words.
fn is_absent(error: &AwsError) -> bool {
    error.kind == Kind::NotFound || error.is(&["ValidationError"]) && error.message.contains("does not exist")
}

#[async_trait]
impl Account for Sdk {
    async fn account_id(&self) -> Result<String, AwsError> {
        let doing = "asking AWS whose credentials these are";
        // Without any the SDK would only say that AWS cannot be reached.
        let keys = match self.config.credentials_provider() {
            Some(provider) => provider.provide_credentials().await.is_ok(),
            None => false,
        };
        if !keys {
            let message = "there are no AWS credentials: log in (aws configure, aws sso login) or set AWS_PROFILE";
            return Err(AwsError::own(Kind::Other, doing, message));
        }
        let client = aws_sdk_sts::Client::new(&self.config);
        let answer = call(doing, client.get_caller_identity().send()).await?;
        Ok(text(answer.account()))
    }

    async fn stack(&self, name: &str) -> Result<Option<Stack>, AwsError> {
        let request = self.cloudformation.describe_stacks().stack_name(name).send();
        let answer = match call("looking at the stack", request).await {
            Ok(answer) => answer,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(answer.stacks().first().map(|found| Stack {
            id: text(found.stack_id()),
            status: found.stack_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            parameters: found
                .parameters()
                .iter()
                .map(|parameter| (text(parameter.parameter_key()), text(parameter.parameter_value())))
                .collect(),
            outputs: found
                .outputs()
                .iter()
                .map(|output| (text(output.output_key()), text(output.output_value())))
                .collect(),
        }))
    }

    async fn template(&self, name: &str) -> Result<String, AwsError> {
        let request =
            self.cloudformation.get_template().stack_name(name).template_stage(TemplateStage::Original).send();
        Ok(text(call("reading the stack's template", request).await?.template_body()))
    }

    async fn propose(
        &self,
        stack: &str,
        name: &str,
        is_new: bool,
        body: &str,
        parameters: &Parameters,
    ) -> Result<(), AwsError> {
        let mut request = self
            .cloudformation
            .create_change_set()
            .stack_name(stack)
            .change_set_name(name)
            .change_set_type(if is_new { ChangeSetType::Create } else { ChangeSetType::Update })
            .template_body(body)
            .capabilities(Capability::CapabilityNamedIam)
            .tags(Tag::builder().key("paas:install").value(parameters.get("Installation")).build());
        for (key, value) in parameters.as_map() {
            request = request.parameters(Parameter::builder().parameter_key(key).parameter_value(value).build());
        }
        match call("asking CloudFormation what it would do", request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn proposal(&self, stack: &str, name: &str) -> Result<Proposal, AwsError> {
        let doing = "reading what CloudFormation would do";
        let mut proposal = Proposal::default();
        let mut next = None;
        loop {
            let request = self.cloudformation.describe_change_set().stack_name(stack).change_set_name(name);
            let answer = call(doing, request.set_next_token(next).send()).await?;
            proposal.status = answer.status().map(|status| status.as_str().to_owned()).unwrap_or_default();
            proposal.can_run = proposal.status == "CREATE_COMPLETE"
                && answer.execution_status().is_none_or(|status| *status == ExecutionStatus::Available);
            proposal.reason = text(answer.status_reason());
            proposal.changes.extend(answer.changes().iter().filter_map(|change| change.resource_change()).map(
                |change| Change {
                    action: change.action().map(|action| action.as_str().to_owned()).unwrap_or_default(),
                    resource: text(change.logical_resource_id()),
                    kind: text(change.resource_type()),
                    replaces: change.replacement() == Some(&Replacement::True),
                },
            ));
            next = answer.next_token().map(str::to_owned);
            if next.is_none() {
                return Ok(proposal);
            }
        }
    }

    async fn execute(&self, stack: &str, name: &str) -> Result<(), AwsError> {
        let request = self.cloudformation.execute_change_set().stack_name(stack).change_set_name(name);
        call("starting CloudFormation", request.client_request_token(name).send()).await.map(|_| ())
    }

    async fn withdraw(&self, stack: &str, name: &str) -> Result<(), AwsError> {
        let request = self.cloudformation.delete_change_set().stack_name(stack).change_set_name(name).send();
        match call("forgetting a change set", request).await {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn delete(&self, stack: &str) -> Result<(), AwsError> {
        call("deleting the stack", self.cloudformation.delete_stack().stack_name(stack).send()).await.map(|_| ())
    }

    async fn continue_rollback(&self, stack: &str) -> Result<(), AwsError> {
        let request = self.cloudformation.continue_update_rollback().stack_name(stack).send();
        call("taking back the last update", request).await.map(|_| ())
    }

    async fn events(&self, stack: &str, after: Option<&str>) -> Result<Vec<Event>, AwsError> {
        let doing = "reading the stack's events";
        let mut found = Vec::new();
        let mut next = None;
        'pages: loop {
            let request = self.cloudformation.describe_stack_events().stack_name(stack).set_next_token(next).send();
            let answer = match call(doing, request).await {
                Err(error) if is_absent(&error) => break,
                other => other?,
            };
            for event in answer.stack_events() {
                if event.event_id() == after {
                    break 'pages;
                }
                let status = event.resource_status().map(|status| status.as_str().to_owned()).unwrap_or_default();
                let begins = event.physical_resource_id() == event.stack_id()
                    && matches!(status.as_str(), "CREATE_IN_PROGRESS" | "UPDATE_IN_PROGRESS" | "DELETE_IN_PROGRESS");
                found.push(Event {
                    id: text(event.event_id()),
                    resource: text(event.logical_resource_id()),
                    kind: text(event.resource_type()),
                    physical_id: text(event.physical_resource_id()),
                    status,
                    reason: text(event.resource_status_reason()),
                });
                if begins && after.is_none() {
                    break 'pages;
                }
            }
            next = answer.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    async fn zones(&self) -> Result<Vec<Zone>, AwsError> {
        let client = aws_sdk_route53::Client::new(&self.config);
        let mut zones = Vec::new();
        let mut marker = None;
        loop {
            let answer =
                call("looking at the account's zones", client.list_hosted_zones().set_marker(marker).send()).await?;
            for zone in answer.hosted_zones() {
                if !zone.config().is_some_and(|config| config.private_zone()) {
                    zones.push(Zone {
                        id: zone.id().trim_start_matches("/hostedzone/").to_owned(),
                        name: zone.name().trim_end_matches('.').to_owned(),
                    });
                }
            }
            marker = answer.next_marker().filter(|_| answer.is_truncated()).map(str::to_owned);
            if marker.is_none() {
                return Ok(zones);
            }
        }
    }

    async fn has_cluster(&self, name: &str) -> Result<bool, AwsError> {
        let client = aws_sdk_ecs::Client::new(&self.config);
        let answer = call("looking for the cluster", client.describe_clusters().clusters(name).send()).await?;
        Ok(answer.clusters().iter().any(|cluster| cluster.status() == Some("ACTIVE")))
    }

    async fn certificate(&self, arn: &str) -> Result<Certificate, AwsError> {
        let client = aws_sdk_acm::Client::new(&self.config);
        let answer =
            call("looking at the certificate", client.describe_certificate().certificate_arn(arn).send()).await?;
        let found = answer.certificate();
        Ok(Certificate {
            status: found.and_then(|it| it.status()).map(|status| status.as_str().to_owned()).unwrap_or_default(),
            names: found
                .map(|it| {
                    it.domain_name()
                        .into_iter()
                        .map(str::to_owned)
                        .chain(it.subject_alternative_names().to_vec())
                        .collect()
                })
                .unwrap_or_default(),
        })
    }
}
