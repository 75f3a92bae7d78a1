//! What happens on AWS, as EventBridge tells it through the installation's queue.
//!
//! AWS sends an event at least once, in no order, and may skip states: an event only says what to look at, and
//! each carries a version. What gets lost altogether is found by the slow sweep.

use std::time::Duration;

use serde_json::Value;

use crate::account::Aws;
use crate::call::Call;
use crate::error::{AwsError, Kind};

/// How long a poll waits for something to happen: SQS's longest.
const WAIT_S: i32 = 20;
/// The most messages of one poll: SQS's limit.
const MOST: i32 = 10;

/// The installation's queue.
pub struct Events {
    aws: Aws,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Event {
    /// What it was.
    pub happened: Happened,
    receipt: String,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Happened {
    /// A task has another state.
    Task {
        /// The task as DescribeTasks shows it.
        task: Value,
    },
    /// A rolling deployment goes on or ended.
    Deployment {
        /// The service.
        service: String,
        /// The deployment's id.
        deployment: String,
        /// `SERVICE_DEPLOYMENT_FAILED`, ….
        name: String,
        /// AWS's words.
        reason: String,
    },
    /// A service's scheduler says something.
    Service {
        /// The service.
        service: String,
        /// `SERVICE_TASK_PLACEMENT_FAILURE`, ….
        name: String,
        /// The capacity that it asked in vain: `FARGATE`, `FARGATE_SPOT`.
        providers: Vec<String>,
    },
    /// Something else: it is taken off the queue.
    Other,
}

impl Events {
    /// The queue that the foundation names.
    #[must_use]
    pub fn new(aws: Aws) -> Self {
        Self { aws }
    }

    /// Waits up to 20 seconds for what happened. What is not [`done`](Self::done) comes again.
    ///
    /// # Errors
    /// When the queue does not answer.
    pub async fn next(&self) -> Result<Vec<Event>, AwsError> {
        let request = self.aws.sqs.receive_message().queue_url(&self.aws.foundation.events_queue_url);
        let request = request.wait_time_seconds(WAIT_S).max_number_of_messages(MOST);
        // A poll lasts longer than any other call.
        let timeouts = aws_config::timeout::TimeoutConfig::builder();
        let patience = Duration::from_secs(u64::try_from(WAIT_S).unwrap_or_default()) + self.aws.options.try_timeout;
        let config =
            aws_sdk_sqs::config::Builder::new().timeout_config(timeouts.operation_attempt_timeout(patience).build());
        let request = request.customize().config_override(config).send();
        let answer = self.aws.call(Call::ReceiveMessage, None, "reading the queue of events", request).await?;
        let read = |message: aws_sdk_sqs::types::Message| {
            let (receipt, body) = (message.receipt_handle?, message.body.unwrap_or_default());
            Some(Event { happened: happened(&body), receipt })
        };
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(read).collect())
    }

    /// Takes events off the queue.
    ///
    /// # Errors
    /// When the queue does not answer: they come again.
    pub async fn done(&self, events: &[Event]) -> Result<(), AwsError> {
        if events.is_empty() {
            return Ok(());
        }
        let entry = |(number, event): (usize, &Event)| {
            aws_sdk_sqs::types::DeleteMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(&event.receipt)
                .build()
                .ok()
        };
        let entries: Vec<_> = events.iter().enumerate().filter_map(entry).collect();
        let request = self.aws.sqs.delete_message_batch().queue_url(&self.aws.foundation.events_queue_url);
        let request = request.set_entries(Some(entries)).send();
        let doing = "emptying the queue of events";
        let answer = self.aws.call(Call::DeleteMessage, None, doing, request).await?;
        match answer.failed().first() {
            Some(failed) => {
                let reason = failed.message().unwrap_or_else(|| failed.code());
                Err(AwsError::own(Kind::Transient, doing, reason))
            }
            None => Ok(()),
        }
    }
}

fn happened(body: &str) -> Happened {
    let event: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match event["detail-type"].as_str() {
        Some("ECS Task State Change") => Happened::Task { task: event["detail"].clone() },
        Some("ECS Deployment State Change") => Happened::Deployment {
            service: text(&event["resources"][0]),
            deployment: text(&event["detail"]["deploymentId"]),
            name: text(&event["detail"]["eventName"]),
            reason: text(&event["detail"]["reason"]),
        },
        Some("ECS Service Action") => Happened::Service {
            service: text(&event["resources"][0]),
            name: text(&event["detail"]["eventName"]),
            providers: event["detail"]["capacityProviderArns"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|arn| Some(arn.as_str()?.rsplit('/').next()?.to_owned()))
                .collect(),
        },
        _ => Happened::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_scheduler_says_names_its_service_and_the_capacity_that_it_asked() {
        // As "Amazon ECS service action events" (ECS developer guide) has it.
        let body = serde_json::json!({
            "detail-type": "ECS Service Action", "source": "aws.ecs",
            "resources": ["arn:aws:ecs:us-west-2:111122223333:service/default/servicetest"],
            "detail": {
                "eventType": "ERROR", "eventName": "SERVICE_TASK_PLACEMENT_FAILURE",
                "clusterArn": "arn:aws:ecs:us-west-2:111122223333:cluster/default",
                "capacityProviderArns": ["arn:aws:ecs:us-west-2:111122223333:capacity-provider/FARGATE_SPOT"],
                "reason": "RESOURCE:FARGATE", "createdAt": "2019-11-06T19:09:33.087Z",
            },
        });
        let Happened::Service { service, name, providers } = happened(&body.to_string()) else {
            panic!("it is something")
        };
        assert!(service.ends_with("/servicetest"), "{service}");
        assert_eq!((name.as_str(), providers), ("SERVICE_TASK_PLACEMENT_FAILURE", vec!["FARGATE_SPOT".to_owned()]));
    }
}
