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
    /// ARNs and tags of secrets by name.
    pub(crate) secrets: BTreeMap<String, (String, Value)>,
    /// Where the aliases of the zone lead, by name.
    pub(crate) records: BTreeMap<String, String>,
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
        "route53" if operation == "ListResourceRecordSets" => (200, listed(account)),
        "route53" => changed(account, words.as_str().unwrap_or_default()),
        other => refusal("UnknownOperationException", other),
    }
}

/// All or none of a batch is done: CREATE only where there is none, DELETE only what is told as it is.
fn changed(account: &Account, batch: &str) -> Answer {
    let mut state = account.lock();
    let mut next = state.others.records.clone();
    for change in batch.split("<Change>").skip(1) {
        let value = |tag: &str| {
            let found = change.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once('<'));
            found.map_or("", |(text, _)| text).to_owned()
        };
        let (name, target) = (value("Name"), value("DNSName"));
        let possible = match value("Action").as_str() {
            "CREATE" => next.insert(name, target).is_none(),
            "UPSERT" => {
                next.insert(name, target);
                true
            }
            _ => next.remove(&name).is_some_and(|there| there == target),
        };
        if !possible {
            let error = "<Code>InvalidChangeBatch</Code><Message>it already exists, or does not</Message>";
            return (400, format!("<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>"));
        }
    }
    state.others.records = next;
    let change = "<Id>1</Id><Status>INSYNC</Status><SubmittedAt>2026-11-23T10:00:00Z</SubmittedAt>";
    let answer = format!("<ChangeInfo>{change}</ChangeInfo>");
    (200, format!("<ChangeResourceRecordSetsResponse>{answer}</ChangeResourceRecordSetsResponse>"))
}

fn listed(account: &Account) -> String {
    let set = |(name, target): (&String, &String)| {
        let alias = format!("<HostedZoneId>Z1</HostedZoneId><DNSName>{target}.</DNSName>");
        format!(
            "<ResourceRecordSet><Name>{name}.</Name><Type>A</Type><AliasTarget>{alias}\
             <EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget></ResourceRecordSet>"
        )
    };
    let sets: String = account.lock().others.records.iter().map(set).collect();
    format!(
        "<ListResourceRecordSetsResponse><ResourceRecordSets>{sets}</ResourceRecordSets>\
         <IsTruncated>false</IsTruncated><MaxItems>300</MaxItems></ListResourceRecordSetsResponse>"
    )
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
            state.others.secrets.insert(name.clone(), (arn.clone(), words["Tags"].clone()));
            json!({"ARN": arn, "Name": name})
        }
        "DescribeSecret" => match state.others.secrets.get(&name) {
            Some((arn, tags)) => json!({"ARN": arn, "Name": name, "Tags": tags}),
            None => return missing(),
        },
        "DeleteSecret" => match state.others.secrets.remove(&name) {
            Some((arn, _)) => json!({"ARN": arn, "Name": name}),
            None => return missing(),
        },
        "ListSecrets" => {
            let prefix = words["Filters"][0]["Values"][0].as_str().unwrap_or_default();
            let found = state.others.secrets.iter().filter(|(name, _)| name.starts_with(prefix));
            let shown =
                |(name, (arn, tags)): (&String, &(String, Value))| json!({"ARN": arn, "Name": name, "Tags": tags});
            let found: Vec<Value> = found.map(shown).collect();
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
