//! What the foundation says of itself, and its queue of events.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_cloudformation::Client as CloudFormation;
use aws_sdk_sqs::types::QueueAttributeName;
use paas_aws::account::read_foundation;
use paas_aws::{Aws, AwsOptions, Events, Foundation};
use serde_json::json;

use crate::cell::{Said, Story, Ways};

pub(super) struct Stack {
    options: AwsOptions,
    client: CloudFormation,
    name: String,
    wanted: Foundation,
    read: Mutex<Option<Foundation>>,
}

impl Stack {
    pub(super) async fn new(ways: &Arc<Ways>) -> Self {
        let named = ways.foundation();
        let name = format!("faults-{}", ways.install);
        let wanted = Foundation {
            events_queue_url: "queue".to_owned(),
            hosted_zone_id: "zone".to_owned(),
            load_balancer_arn: "balancer".to_owned(),
            https_listener_arn: "listener".to_owned(),
            certificate_arn: "certificate".to_owned(),
            ..named
        };
        let client = CloudFormation::new(&ways.account(&wanted).config);
        let outputs = [
            ("Installation", ways.install.to_string()),
            ("Region", wanted.region.clone()),
            ("AccountId", wanted.account_id.clone()),
            ("Cluster", wanted.cluster.clone()),
            ("VpcId", wanted.vpc_id.clone()),
            ("Subnets", wanted.subnets.join(",")),
            ("AlbSecurityGroup", wanted.alb_security_group.clone()),
            ("DynoSecurityGroup", wanted.dyno_security_group.clone()),
            ("DynoPublicIp", "ENABLED".to_owned()),
            ("ExecutionRoleArn", wanted.execution_role_arn.clone()),
            ("TaskRoleArn", wanted.task_role_arn.clone()),
            ("LogGroup", wanted.log_group.clone()),
            ("EventsQueueUrl", wanted.events_queue_url.clone()),
            ("Bucket", wanted.bucket.clone()),
            ("HostedZoneId", wanted.hosted_zone_id.clone()),
            ("AppDomain", wanted.app_domain.clone()),
            ("LoadBalancerArn", wanted.load_balancer_arn.clone()),
            ("HttpsListenerArn", wanted.https_listener_arn.clone()),
            ("CertificateArn", wanted.certificate_arn.clone()),
        ];
        let outputs: serde_json::Map<_, _> =
            outputs.into_iter().map(|(name, value)| (name.to_owned(), json!({"Value": value}))).collect();
        let queue = json!({"Type": "AWS::SQS::Queue", "Properties": {"QueueName": format!("{name}-stack")}});
        let template = json!({"Resources": {"Queue": queue}, "Outputs": outputs}).to_string();
        client.create_stack().stack_name(&name).template_body(template).send().await.expect("a stack");
        for _ in 0..600 {
            let found = client.describe_stacks().stack_name(&name).send().await.expect("the stack");
            if found.stacks()[0].stack_status().is_some_and(|status| status.as_str() == "CREATE_COMPLETE") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Self { options: ways.options.clone(), client, name, wanted, read: Mutex::default() }
    }
}

#[async_trait]
impl Story for Stack {
    async fn act(&self) -> Result<(), Said> {
        let (read, _) = read_foundation(&self.options, &self.name).await?;
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
        Ok(())
    }

    fn restart(&self) {}

    async fn wrong(&self) -> Option<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        (read.as_ref() != Some(&self.wanted)).then(|| format!("it read {read:?}"))
    }

    async fn end(&self) {
        let _ = self.client.delete_stack().stack_name(&self.name).send().await;
    }
}

/// An event is read, and taken off where that is the story.
pub(super) struct Queue {
    account: Aws,
    events: Events,
    empties: bool,
}

impl Queue {
    pub(super) async fn new(ways: &Arc<Ways>, empties: bool) -> Self {
        let named = ways.foundation();
        let create = ways.account(&named).sqs.create_queue().queue_name(format!("faults-{}", ways.install));
        // What was read and not taken off comes back at once.
        let made = create.attributes(QueueAttributeName::VisibilityTimeout, "1").send().await.expect("a queue");
        let foundation = Foundation { events_queue_url: made.queue_url.expect("an address"), ..named };
        let (account, server) = (ways.account(&foundation), ways.server(&foundation));
        let send = account.sqs.send_message().queue_url(&foundation.events_queue_url);
        send.message_body(json!({"detail-type": "other"}).to_string()).send().await.expect("sent");
        Self { account, events: Events::new(server), empties }
    }

    async fn left(&self) -> usize {
        let (visible, hidden) = (
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        );
        let ask = self.account.sqs.get_queue_attributes().queue_url(&self.account.foundation.events_queue_url);
        let ask = ask.attribute_names(visible.clone()).attribute_names(hidden.clone()).send().await;
        let found = ask.expect("attributes").attributes.unwrap_or_default();
        let number = |name| found.get(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or_default();
        number(&visible) + number(&hidden)
    }
}

#[async_trait]
impl Story for Queue {
    async fn act(&self) -> Result<(), Said> {
        if self.empties && self.left().await == 0 {
            return Ok(());
        }
        let events = self.events.next().await?;
        if events.is_empty() {
            return Err(Said::kept("AWS shows no event"));
        }
        if self.empties {
            self.events.done(&events).await?;
        }
        Ok(())
    }

    fn restart(&self) {}

    async fn wrong(&self) -> Option<String> {
        let (left, wanted) = (self.left().await, usize::from(!self.empties));
        (left != wanted).then(|| format!("{left} events are on the queue"))
    }

    async fn end(&self) {
        let queue = &self.account.foundation.events_queue_url;
        let _ = self.account.sqs.delete_queue().queue_url(queue).send().await;
    }
}
