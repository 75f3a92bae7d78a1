//! The account's other services, as far as a deploy comes by them: secrets, the queue of events, and of balancers and
//! records only that they were asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::account::{Account, Answer, refusal};

/// How long SQS hides a message that somebody received.
const HIDDEN: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct State {
    /// ARNs of secrets by name.
    pub(crate) secrets: BTreeMap<String, String>,
    /// Messages by receipt, and from when on they are shown.
    queue: BTreeMap<u64, (String, Instant)>,
}

/// An event comes into the queue, some time later.
pub(crate) fn send(account: &Account, delay: Duration, event: &Value) {
    let (account, body) = (account.clone(), event.to_string());
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        let mut state = account.lock();
        let number = state.number();
        state.others.queue.insert(number, (body, Instant::now()));
        drop(state);
        account.told.notify_waiters();
    });
}

pub(crate) async fn queue(account: &Account, operation: &str, words: &Value) -> Answer {
    if operation == "DeleteMessageBatch" {
        let mut state = account.lock();
        for entry in words["Entries"].as_array().into_iter().flatten() {
            let receipt = entry["ReceiptHandle"].as_str().and_then(|text| text.parse().ok()).expect("a receipt");
            state.others.queue.remove(&receipt);
        }
        return (200, json!({"Successful": [], "Failed": []}).to_string());
    }
    let until = Instant::now() + Duration::from_secs(words["WaitTimeSeconds"].as_u64().unwrap_or_default());
    loop {
        let told = account.told.notified();
        let now = Instant::now();
        let messages: Vec<Value> = {
            let mut state = account.lock();
            let shown = state.others.queue.iter_mut().filter(|(_, (_, from))| *from <= now).take(10);
            shown
                .map(|(number, (body, from))| {
                    *from = now + HIDDEN;
                    json!({"MessageId": number.to_string(), "ReceiptHandle": number.to_string(), "Body": body})
                })
                .collect()
        };
        if !messages.is_empty() || now >= until {
            return (200, json!({"Messages": messages}).to_string());
        }
        let _ = timeout_at(until, told).await;
    }
}

pub(crate) fn answer(account: &Account, service: &str, operation: &str, words: &Value) -> Answer {
    match service {
        "secretsmanager" => secrets(account, operation, words),
        "elasticloadbalancing" => (200, balancers(account, operation)),
        "route53" => {
            let change = "<Id>1</Id><Status>INSYNC</Status><SubmittedAt>2026-11-23T10:00:00Z</SubmittedAt>";
            (
                200,
                format!(
                    "<ChangeResourceRecordSetsResponse><ChangeInfo>{change}</ChangeInfo></ChangeResourceRecordSetsResponse>"
                ),
            )
        }
        other => refusal("UnknownOperationException", other),
    }
}

fn secrets(account: &Account, operation: &str, words: &Value) -> Answer {
    let mut state = account.lock();
    let name = words["Name"].as_str().or(words["SecretId"].as_str()).unwrap_or_default().to_owned();
    let missing = || refusal("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    let answer = match operation {
        "CreateSecret" if state.others.secrets.contains_key(&name) => {
            return refusal("ResourceExistsException", "A resource with the ID you requested already exists.");
        }
        "CreateSecret" => {
            let suffix = state.number();
            let arn = format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}-{suffix:06}");
            state.others.secrets.insert(name.clone(), arn.clone());
            json!({"ARN": arn, "Name": name})
        }
        "DescribeSecret" => match state.others.secrets.get(&name) {
            Some(arn) => json!({"ARN": arn, "Name": name}),
            None => return missing(),
        },
        "DeleteSecret" => match state.others.secrets.remove(&name) {
            Some(arn) => json!({"ARN": arn, "Name": name}),
            None => return missing(),
        },
        "ListSecrets" => {
            let prefix = words["Filters"][0]["Values"][0].as_str().unwrap_or_default();
            let found = state.others.secrets.iter().filter(|(name, _)| name.starts_with(prefix));
            let found: Vec<Value> = found.map(|(name, arn)| json!({"ARN": arn, "Name": name})).collect();
            json!({"SecretList": found})
        }
        other => return refusal("UnknownOperationException", other),
    };
    (200, answer.to_string())
}

/// Everything that is asked for is made.
fn balancers(account: &Account, operation: &str) -> String {
    let number = account.lock().number();
    let arn = format!("arn:aws:elasticloadbalancing:us-east-1:000000000000:{operation}/{number}");
    let inner = match operation {
        "DescribeLoadBalancers" => format!(
            "<LoadBalancers><member><LoadBalancerArn>{arn}</LoadBalancerArn><DNSName>lb.test</DNSName>\
             <CanonicalHostedZoneId>Z1</CanonicalHostedZoneId></member></LoadBalancers>"
        ),
        "CreateTargetGroup" => {
            format!("<TargetGroups><member><TargetGroupArn>{arn}</TargetGroupArn></member></TargetGroups>")
        }
        "CreateRule" => format!("<Rules><member><RuleArn>{arn}</RuleArn></member></Rules>"),
        _ => String::new(),
    };
    format!("<{operation}Response><{operation}Result>{inner}</{operation}Result></{operation}Response>")
}
