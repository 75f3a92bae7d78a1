//! What ECS says of services and tasks, as much of it as we work with: from its answers and from its events.

use std::net::IpAddr;

use aws_sdk_ecs::types as ecs;
use paas_domain::{AppId, DynoId, Generation, Timestamp};
use serde_json::Value;

use super::names;

/// Fargate Spot, as strategies name it.
pub(crate) const SPOT: &str = "FARGATE_SPOT";
/// What AWS says when it starts no tasks ("Amazon ECS service event messages", ECS developer guide).
const REFUSES: [&str; 2] = ["was unable to place a task", "unable to consistently start tasks"];
/// What it says when all are there again. (That it "has started" some is said of a part of them, too: there may be room on
/// demand and none on Spot.)
const STEADY: &str = "has reached a steady state";

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Whose it is, as its tags say.
    pub app: Option<AppId>,
    /// `ACTIVE`, `DRAINING`; one that is `INACTIVE` is gone.
    pub active: bool,
    /// How many tasks it should have.
    pub desired: u32,
    /// Its deployments.
    pub deployments: Vec<Deployment>,
    /// The highest generation that its tags carry.
    pub generation: Generation,
    /// The installation that its tags name.
    pub install: Option<String>,
    /// Whether it takes dynos from Fargate Spot, too.
    pub spot: bool,
    /// Why ECS starts no tasks of it, as long as it starts none.
    pub refusal: Option<Refusal>,
}

/// Why a service's tasks are not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// AWS's words.
    pub said: String,
    /// When it was said first: AWS repeats what stays the same after six hours only.
    pub at: Timestamp,
    /// The capacity that was asked in vain; empty when nobody said.
    pub providers: Vec<String>,
}

/// How far a deployment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// Under way.
    InProgress,
    /// Its tasks serve and older ones have gone.
    Completed,
    /// ECS gave it up.
    Failed,
}

/// One deployment of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Its id, which is also what its tasks are started by.
    pub id: String,
    /// Whether it is the one that ECS works towards.
    pub primary: bool,
    /// The ARN of its task definition.
    pub definition: String,
    /// How far it has come.
    pub rollout: Rollout,
    /// Why, in AWS's words.
    pub reason: String,
}

/// A container's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not known (yet), or not said.
    Unknown,
    /// Passes.
    Healthy,
    /// Fails.
    Unhealthy,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// Its dyno: for a service's task its own id, for a one-off dyno's what it was started by.
    pub dyno: DynoId,
    /// The ARN of its definition.
    pub definition: String,
    /// The deployment's id, or the one-off dyno's.
    pub started_by: String,
    /// Its service's name; `None` for a one-off dyno.
    pub service: Option<String>,
    /// `PENDING`, `RUNNING`, `DEACTIVATING`, `STOPPED`, …
    pub last_status: String,
    /// Whether it was told to stop, or has stopped.
    pub leaving: bool,
    /// What its health check says.
    pub health: Health,
    /// Its private address.
    pub address: Option<IpAddr>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its container ran.
    pub started_at: Option<Timestamp>,
    /// When it was told to stop.
    pub stopping_at: Option<Timestamp>,
    /// When it had stopped.
    pub stopped_at: Option<Timestamp>,
    /// How its container ended.
    pub exit_code: Option<i32>,
    /// `EssentialContainerExited`, `TaskFailedToStart`, …
    pub stop_code: String,
    /// Why, in AWS's words.
    pub reason: String,
    /// Why its container ended, in AWS's words.
    pub container_reason: String,
    /// Counts its changes: events come in any order.
    pub version: i64,
}

impl Task {
    /// Whether it has ended.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.last_status == "STOPPED"
    }

    /// Whether its container runs and is to go on.
    #[must_use]
    pub fn running(&self) -> bool {
        self.last_status == "RUNNING" && !self.leaving
    }

    /// What `DescribeTasks` says of it; `None` when it is nothing of ours.
    pub(crate) fn read(task: &ecs::Task) -> Option<Self> {
        let arn = task.task_arn.clone()?;
        let service = task.group().and_then(names::service_of_group).map(str::to_owned);
        let started_by = task.started_by.clone().unwrap_or_default();
        let dyno = if service.is_some() { names::dyno_of_task(&arn) } else { started_by.parse().ok() }?;
        let container = task.containers().iter().find(|found| !found.name().is_some_and(is_foreign));
        let at = |time: Option<&aws_smithy_types::DateTime>| time.and_then(|time| time.to_millis().ok()).map(Timestamp);
        let details = task.attachments().iter().flat_map(ecs::Attachment::details);
        let mut address = details.filter(|pair| pair.name() == Some("privateIPv4Address")).filter_map(|p| p.value());
        let interface = container.and_then(|c| c.network_interfaces().first()).and_then(|i| i.private_ipv4_address());
        let last_status = task.last_status.clone().unwrap_or_default();
        Some(Self {
            dyno,
            definition: task.task_definition_arn.clone().unwrap_or_default(),
            started_by,
            service,
            leaving: task.desired_status() == Some("STOPPED") || last_status == "STOPPED",
            last_status,
            health: match task.health_status() {
                Some(ecs::HealthStatus::Healthy) => Health::Healthy,
                Some(ecs::HealthStatus::Unhealthy) => Health::Unhealthy,
                _ => Health::Unknown,
            },
            address: address.next().or(interface).and_then(|text| text.parse().ok()),
            created_at: at(task.created_at()).unwrap_or_default(),
            started_at: at(task.started_at()),
            stopping_at: at(task.stopping_at()),
            stopped_at: at(task.stopped_at()).or(at(task.execution_stopped_at())),
            exit_code: container.and_then(ecs::Container::exit_code),
            stop_code: task.stop_code().map(|code| code.as_str().to_owned()).unwrap_or_default(),
            reason: task.stopped_reason.clone().unwrap_or_default(),
            container_reason: container.and_then(|c| c.reason.clone()).unwrap_or_default(),
            version: task.version(),
            arn,
        })
    }

    /// What an event's `detail` says of it; `None` when it is nothing of ours. Events say nothing of health.
    pub(crate) fn of_event(detail: &Value) -> Option<Self> {
        let text = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
        let at = |name: &str| detail[name].as_str().and_then(Timestamp::parse);
        let arn = detail["taskArn"].as_str()?.to_owned();
        let service = detail["group"].as_str().and_then(names::service_of_group).map(str::to_owned);
        let started_by = text("startedBy");
        let dyno = if service.is_some() { names::dyno_of_task(&arn) } else { started_by.parse().ok() }?;
        let ours = |found: &&Value| !found["name"].as_str().is_some_and(is_foreign);
        let container = detail["containers"].as_array().and_then(|all| all.iter().find(ours)).unwrap_or(&Value::Null);
        let attachments = detail["attachments"].as_array().into_iter().flatten();
        let mut address = attachments
            .flat_map(|attachment| attachment["details"].as_array().into_iter().flatten())
            .filter(|pair| pair["name"] == "privateIPv4Address")
            .filter_map(|pair| pair["value"].as_str());
        let interface = container["networkInterfaces"][0]["privateIpv4Address"].as_str();
        let last_status = text("lastStatus");
        Some(Self {
            dyno,
            definition: text("taskDefinitionArn"),
            started_by,
            service,
            leaving: detail["desiredStatus"] == "STOPPED" || last_status == "STOPPED",
            last_status,
            health: match detail["healthStatus"].as_str() {
                Some("HEALTHY") => Health::Healthy,
                Some("UNHEALTHY") => Health::Unhealthy,
                _ => Health::Unknown,
            },
            address: address.next().or(interface).and_then(|text| text.parse().ok()),
            created_at: at("createdAt").unwrap_or_default(),
            started_at: at("startedAt"),
            stopping_at: at("stoppingAt"),
            stopped_at: at("stoppedAt").or(at("executionStoppedAt")),
            exit_code: container["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok()),
            stop_code: text("stopCode"),
            reason: text("stoppedReason"),
            container_reason: container["reason"].as_str().unwrap_or_default().to_owned(),
            version: detail["version"].as_i64().unwrap_or_default(),
            arn,
        })
    }

    /// Takes over what is newer. What only an answer says (health) stays when an event does not say it.
    pub(crate) fn merge(&mut self, newer: Self) {
        if newer.version < self.version || self.stopped() && !newer.stopped() {
            return;
        }
        let health = if newer.health == Health::Unknown { self.health } else { newer.health };
        *self = Self { health, ..newer };
    }
}

impl Service {
    /// What `DescribeServices` says of it; `None` when it is gone.
    pub(crate) fn read(service: &ecs::Service) -> Option<Self> {
        let status = service.status().unwrap_or_default();
        if status == "INACTIVE" {
            return None;
        }
        let tag = |name: &str| service.tags().iter().find(|tag| tag.key() == Some(name)).and_then(ecs::Tag::value);
        Some(Self {
            name: service.service_name.clone()?,
            app: tag("paas:app").and_then(|app| app.parse().ok()),
            active: status == "ACTIVE",
            desired: u32::try_from(service.desired_count()).unwrap_or_default(),
            deployments: service.deployments().iter().filter_map(Deployment::read).collect(),
            generation: Generation(tag("paas:generation").and_then(|n| n.parse().ok()).unwrap_or_default()),
            install: tag("paas:install").map(str::to_owned),
            spot: service.capacity_provider_strategy().iter().any(|item| item.capacity_provider() == SPOT),
            refusal: Refusal::read(service.events()),
        })
    }

    /// The deployment that ECS works towards.
    #[must_use]
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.primary)
    }

    /// Whether it is to run what it was known to run, and has come as far.
    pub(crate) fn stands_as(&self, known: &Self) -> bool {
        let works_towards = |service: &Self| {
            service.primary().map(|primary| (primary.id.clone(), primary.definition.clone(), primary.rollout))
        };
        (self.active, self.desired, self.generation) == (known.active, known.desired, known.generation)
            && works_towards(self) == works_towards(known)
    }

    /// A deployment by its id.
    #[must_use]
    pub fn deployment(&self, id: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.id == id)
    }
}

impl Refusal {
    /// What a service's own list of events says: the newest that tells of starting tasks counts.
    fn read(events: &[ecs::ServiceEvent]) -> Option<Self> {
        let at = |event: &ecs::ServiceEvent| event.created_at().and_then(|at| at.to_millis().ok()).map(Timestamp);
        let mut newest: Option<(Timestamp, &str)> = None;
        for event in events {
            let (Some(at), Some(said)) = (at(event), event.message()) else { continue };
            // Of two at the same moment the first is the newer one.
            let tells = refuses(said) || said.contains(STEADY);
            if tells && newest.is_none_or(|(newest, _)| at > newest) {
                newest = Some((at, said));
            }
        }
        let (at, said) = newest.filter(|(_, said)| refuses(said))?;
        let words = said.split_once("Reason: ").map_or(said, |(_, reason)| reason);
        let words = words.split(" For more information").next().unwrap_or(words);
        // Without a reason it is a sentence about `(service paas-…)`.
        let words = words.strip_prefix('(').and_then(|words| words.split_once(") ")).map_or(words, |(_, rest)| rest);
        Some(Self { said: words.trim().to_owned(), at, providers: Vec::new() })
    }
}

/// Whether AWS has put this container beside ours: GuardDuty's Runtime Monitoring does ("Runtime Monitoring for Fargate").
fn is_foreign(container: &str) -> bool {
    container.starts_with("aws-guardduty-agent")
}

fn refuses(said: &str) -> bool {
    REFUSES.iter().any(|words| said.contains(words))
}

impl Deployment {
    fn read(deployment: &ecs::Deployment) -> Option<Self> {
        Some(Self {
            id: deployment.id.clone()?,
            primary: deployment.status() == Some("PRIMARY"),
            definition: deployment.task_definition.clone().unwrap_or_default(),
            rollout: match deployment.rollout_state() {
                Some(ecs::DeploymentRolloutState::Completed) => Rollout::Completed,
                Some(ecs::DeploymentRolloutState::Failed) => Rollout::Failed,
                _ => Rollout::InProgress,
            },
            reason: deployment.rollout_state_reason.clone().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(version: i64, status: &str) -> Value {
        serde_json::json!({
            "taskArn": "arn:aws:ecs:us-east-1:1:task/c/0123456789abcdef0123456789abcdef", "group": "service:paas-x-web",
            "startedBy": "ecs-svc/1", "lastStatus": status, "desiredStatus": "RUNNING", "version": version,
            "taskDefinitionArn": "arn:aws:ecs:us-east-1:1:task-definition/paas-x-web:3",
            "createdAt": "2026-11-23T10:00:00.5Z", "stoppedAt": null,
            "attachments": [{"type": "eni", "details": [{"name": "privateIPv4Address", "value": "10.0.1.7"}]}],
            "containers": [{"name": "web", "exitCode": 3}],
        })
    }

    #[test]
    fn events_come_in_any_order() {
        let mut task = Task::of_event(&event(2, "PENDING")).expect("a task");
        assert_eq!((task.address, task.exit_code), ("10.0.1.7".parse().ok(), Some(3)));
        assert_eq!(task.created_at, Timestamp(1_795_428_000_500));
        task.health = Health::Healthy;
        task.merge(Task::of_event(&event(5, "RUNNING")).expect("a task"));
        assert_eq!((task.last_status.as_str(), task.health), ("RUNNING", Health::Healthy));
        task.merge(Task::of_event(&event(3, "PENDING")).expect("a task"));
        assert_eq!(task.last_status, "RUNNING");
        task.merge(Task::of_event(&event(6, "STOPPED")).expect("a task"));
        task.merge(Task::of_event(&event(7, "DEPROVISIONING")).expect("a task"));
        assert!(task.stopped() && task.leaving);
    }

    fn said(messages: &[(i64, &str)]) -> Option<Refusal> {
        let event = |(at, said): &(i64, &str)| {
            let at = aws_smithy_types::DateTime::from_secs(*at);
            ecs::ServiceEvent::builder().created_at(at).message(*said).build()
        };
        Refusal::read(&messages.iter().map(event).collect::<Vec<_>>())
    }

    #[test]
    fn the_newest_that_tells_of_starting_counts() {
        let full = "(service paas-x-web) was unable to place a task. Reason: Capacity is unavailable at this time. \
                    Please try again later or in a different availability zone. For more information, see the \
                    Troubleshooting section of the Amazon ECS Developer Guide.";
        let limit = "(service paas-x-web) was unable to place a task. Reason: You've reached the limit on the number \
                     of vCPUs you can run concurrently. For more information, see the Troubleshooting section.";
        let impaired = "(service paas-x-web) is unable to consistently start tasks successfully. For more information, \
                        see the Troubleshooting section.";
        let started = "(service paas-x-web) has started 1 tasks: (task 0123).";
        let drained = "(service paas-x-web) has begun draining connections on 1 tasks.";
        let words = |messages: &[(i64, &str)]| said(messages).map(|refusal| refusal.said);
        assert_eq!(
            words(&[(30, drained), (20, full), (10, started)]).as_deref(),
            Some("Capacity is unavailable at this time. Please try again later or in a different availability zone.")
        );
        assert_eq!(said(&[(20, full), (10, started)]).map(|refusal| refusal.at), Some(Timestamp(20_000)));
        assert_eq!(
            words(&[(20, limit)]).as_deref(),
            Some("You've reached the limit on the number of vCPUs you can run concurrently.")
        );
        assert_eq!(words(&[(20, impaired)]).as_deref(), Some("is unable to consistently start tasks successfully."));
        assert!(said(&[(30, started), (20, full)]).is_some(), "it may be on demand that there was room");
        let steady = "(service paas-x-web) has reached a steady state.";
        assert_eq!(said(&[(40, steady), (30, started), (20, full)]), None);
        assert_eq!(said(&[(20, full), (30, "(service paas-x-web) has reached a steady state.")]), None);
        assert_eq!(said(&[(30, drained)]), None);
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        assert!(Task::of_event(&serde_json::json!({"taskArn": "arn:x/y", "startedBy": "someone"})).is_none());
    }
}
