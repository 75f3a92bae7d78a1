//! What an AWS account has and tells.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use paas_tests::platform::Platform;
use serde_json::{Value, json};

use crate::canary::Canary;
use crate::files::in_files;

/// Reads every secret of the installation, as ECS does for dynos, for as long as `watched`: they come and go with the
/// releases that name them. Answers how many there were.
pub(crate) fn watch(platform: &Platform, canary: &Canary, watched: &AtomicBool) -> usize {
    let mut seen = HashSet::new();
    let mut held = false;
    while watched.load(Ordering::Relaxed) {
        for secret in secrets(platform) {
            assert!(!canary.is_in(&secret.to_string()), "what Secrets Manager tells of a secret: {secret}");
            let id = &secret["ARN"];
            let Ok(read) = platform.owner().try_call("secretsmanager", "GetSecretValue", &json!({"SecretId": id}))
            else {
                continue;
            };
            let vars: Value = serde_json::from_str(read["SecretString"].as_str().expect("text")).expect("JSON");
            let vars = vars.as_object().expect("an object");
            let text = |name: &str| vars.get(name).and_then(Value::as_str).map(str::to_owned);
            held |= paas_dyno_env::decode(text).is_ok_and(|vars| vars.get("SECRET") == Some(&canary.value));
            canary.came_as(vars.values().filter_map(Value::as_str).map(str::to_owned));
            seen.insert(id.to_string());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(held, "no secret has the value: dynos read it from somewhere else");
    seen.len()
}

fn secrets(platform: &Platform) -> Vec<Value> {
    let ours = format!("paas/{}/", platform.install());
    let asked = json!({"Filters": [{"Key": "name", "Values": [ours]}]});
    let listed = platform.owner().call("secretsmanager", "ListSecrets", &asked);
    listed["SecretList"].as_array().cloned().unwrap_or_default()
}

/// Everything on the account that can be asked for, but for the values of secrets.
pub(crate) fn in_account(platform: &Platform, canary: &Canary) {
    let (owner, outputs, install) = (platform.owner(), platform.outputs(), platform.install());
    let cluster = &outputs["Cluster"];
    let is_not_in = |what: &str, found: &Value, mark: &str| {
        let text = found.to_string();
        assert!(text.contains(mark), "{what}: nothing of what should be there: {text}");
        assert!(!canary.is_in(&text), "the canary is in {what}: {text}");
    };
    is_not_in("task definitions", &json!(platform.definitions()), "PAAS_COMMAND");

    let services = owner.call("ecs", "ListServices", &json!({"cluster": cluster}))["serviceArns"].take();
    let asked = json!({"cluster": cluster, "services": services, "include": ["TAGS"]});
    is_not_in("services", &owner.call("ecs", "DescribeServices", &asked), "has reached a steady state");
    for status in ["RUNNING", "STOPPED"] {
        let asked = json!({"cluster": cluster, "desiredStatus": status});
        let tasks = owner.call("ecs", "ListTasks", &asked)["taskArns"].take();
        let tasks = tasks.as_array().expect("tasks");
        assert!(!tasks.is_empty(), "no task is {status}");
        for some in tasks.chunks(100) {
            let asked = json!({"cluster": cluster, "tasks": some, "include": ["TAGS"]});
            is_not_in("tasks", &owner.call("ecs", "DescribeTasks", &asked), &install);
        }
    }

    let group = json!({"logGroupName": format!("/paas/{install}/dynos")});
    is_not_in("log streams", &owner.call("logs", "DescribeLogStreams", &group), "/web/");
    is_not_in("lines of log", &owner.call("logs", "FilterLogEvents", &group), "Booting worker");

    // Names, tags, rules, records, certificates: whatever has a name or a tag.
    for form in canary.forms() {
        assert_eq!(platform.objects(&form), Vec::<String>::new(), "on the account");
    }
    is_not_in("names of secrets", &json!(secrets(platform)), &install);
    in_bucket(platform, &outputs["Bucket"], canary);
    is_not_in("PostgreSQL", &json!(platform.rows()), "secretive");
}

/// Every object, unpacked when it is compressed.
fn in_bucket(platform: &Platform, bucket: &str, canary: &Canary) {
    let listed = platform.owner().call("s3", "ListObjectsV2", &json!({"Bucket": bucket}));
    let folder = tempfile::tempdir().expect("a folder");
    for (number, object) in listed["Contents"].as_array().expect("objects").iter().enumerate() {
        let asked = json!({"Bucket": bucket, "Key": object["Key"]});
        let read = platform.owner().call("s3", "GetObject", &asked);
        assert!(!canary.is_in(&read["Metadata"].to_string()), "{object}");
        let bytes = STANDARD.decode(read["Body"].as_str().expect("a body")).expect("base64");
        std::fs::write(folder.path().join(number.to_string()), bytes).expect("a file");
    }
    let (size, names) = in_files(folder.path(), canary);
    assert!(size > 1_000 && names.len() > 10, "{size} bytes in {} objects", names.len());
    let mut all = Command::new("grep");
    all.args(["-r", "--text", "-h", "Released v"]).arg(folder.path());
    canary.is_not_in("outputs", all, &["Released v"]);
}

/// What EventBridge tells of the installation's cluster, in a queue beside the server's.
pub(crate) struct Events<'a> {
    platform: &'a Platform,
    queue: String,
    rule: String,
}

impl<'a> Events<'a> {
    /// Begins to collect.
    pub(crate) fn read_along(platform: &'a Platform) -> Self {
        let owner = platform.owner();
        // No name of the installation's: nothing of its own may be left in the end.
        let rule = format!("reader-{}", paas_domain::InstallId::random());
        let queue = owner.call("sqs", "CreateQueue", &json!({"QueueName": rule}))["QueueUrl"].take();
        let asked = json!({"QueueUrl": queue, "AttributeNames": ["QueueArn"]});
        let arn = owner.call("sqs", "GetQueueAttributes", &asked)["Attributes"]["QueueArn"].take();
        let allow = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": arn}]});
        let policy = json!({"QueueUrl": queue, "Attributes": {"Policy": allow.to_string()}});
        let _ = owner.call("sqs", "SetQueueAttributes", &policy);
        let pattern = json!({"source": ["aws.ecs"]}).to_string();
        let _ = owner.call("events", "PutRule", &json!({"Name": rule, "EventPattern": pattern}));
        let targets = json!({"Rule": rule, "Targets": [{"Id": "queue", "Arn": arn}]});
        let _ = owner.call("events", "PutTargets", &targets);
        Self { platform, queue: queue.as_str().expect("a queue").to_owned(), rule }
    }

    /// No event had it.
    pub(crate) fn are_without(self, canary: &Canary) {
        let owner = self.platform.owner();
        let (mut tasks, mut deployments) = (0, 0);
        let (queue, cluster) = (&self.queue, &self.platform.outputs()["Cluster"]);
        loop {
            let asked = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1});
            let read = owner.call("sqs", "ReceiveMessage", &asked);
            let Some(messages) = read["Messages"].as_array().filter(|messages| !messages.is_empty()) else { break };
            for message in messages {
                let body = message["Body"].as_str().expect("a body");
                assert!(!canary.is_in(body), "an event tells it: {body}");
                tasks += usize::from(body.contains(cluster) && body.contains("ECS Task State Change"));
                deployments += usize::from(body.contains(cluster) && body.contains("ECS Deployment State Change"));
                let done = json!({"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]});
                let _ = owner.call("sqs", "DeleteMessage", &done);
            }
        }
        assert!(tasks > 10 && deployments > 2, "events of {tasks} tasks and {deployments} deployments");
        let _ = owner.call("events", "RemoveTargets", &json!({"Rule": self.rule, "Ids": ["queue"]}));
        let _ = owner.call("events", "DeleteRule", &json!({"Name": self.rule}));
        let _ = owner.call("sqs", "DeleteQueue", &json!({"QueueUrl": queue}));
    }
}
