//! The foundation's template: the files of `infra/`, put together section by section.
//!
//! One template instead of nested stacks: it needs no bucket before it makes one, its events are one stream, and a
//! rollback has one owner. It must stay under the 51,200 bytes that CloudFormation takes in a request
//! (<https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>), so comments are left out.

use serde_json::{Value, json};

macro_rules! infra {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_str!(concat!("../../../../../infra/", $file)))),*]
    };
}

/// The files, in the order in which they are read.
const FILES: &[(&str, &str)] = infra![
    "foundation.yaml",
    "network.yaml",
    "dns.yaml",
    "balancer.yaml",
    "cluster.yaml",
    "key.yaml",
    "objects.yaml",
    "events.yaml",
    "logs.yaml",
    "roles.yaml",
    "database.yaml",
];

const POLICIES: &[(&str, &str)] = infra!["policies/server.json", "policies/execution.json"];

/// What a template may hold, in AWS's order.
const SECTIONS: [&str; 4] = ["Parameters", "Conditions", "Resources", "Outputs"];

/// The most that one request carries.
#[cfg(test)]
const LARGEST: usize = 51_200;

/// The template, as it is sent.
///
/// # Panics
/// When a file of `infra/` names a policy that is not there, or a policy is not JSON; a test would have seen it.
#[must_use]
pub fn template() -> String {
    let mut out = "AWSTemplateFormatVersion: '2010-09-09'\nDescription: What paas stands on\n".to_owned();
    for section in SECTIONS {
        out.push_str(section);
        out.push_str(":\n");
        for (_, text) in FILES {
            for line in lines_of(text, section) {
                out.push_str(&with_policy(line));
                out.push('\n');
            }
        }
    }
    out
}

/// The names that the template's parameters have, in the order of the files.
#[cfg(test)]
pub(super) fn parameter_names() -> Vec<&'static str> {
    let key = |line: &'static str| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '))?.strip_suffix(':');
    FILES.iter().flat_map(|(_, text)| lines_of(text, "Parameters")).filter_map(key).collect()
}

/// A policy as it is in `infra/policies`, its `${names}` not yet substituted.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn policy(name: &str) -> Value {
    let file = format!("policies/{name}.json");
    let (_, text) = POLICIES.iter().find(|(path, _)| *path == file).expect("a policy of infra/policies");
    serde_json::from_str(text).expect("a policy is JSON")
}

fn lines_of(text: &'static str, section: &str) -> impl Iterator<Item = &'static str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            return false;
        }
        if content.len() == line.len() {
            inside = line.strip_suffix(':') == Some(section);
            return false;
        }
        inside
    })
}

/// A line, with the policy that it names in place of the name. JSON is YAML, so it goes in as it is.
fn with_policy(line: &str) -> String {
    let Some((before, rest)) = line.split_once("{{policies/") else { return line.to_owned() };
    let (name, after) = rest.split_once(".json}}").expect("a policy's name ends in .json}}");
    format!("{before}{}{after}", substituted(policy(name)))
}

/// Names in policies that are one thing or another, by how the template says which.
fn chosen(name: &str) -> Option<Value> {
    match name {
        "TheCluster" => Some(json!({"Fn::If": ["CreateCluster", {"Ref": "Cluster"}, {"Ref": "ClusterName"}]})),
        "TheZone" => Some(json!({"Fn::If": ["CreateZone", {"Ref": "HostedZone"}, {"Ref": "HostedZoneId"}]})),
        _ => None,
    }
}

/// The same document with `Fn::Sub` around each text that has something to substitute.
fn substituted(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains("${") => {
            let names = ["TheCluster", "TheZone"].into_iter().filter(|name| text.contains(&format!("${{{name}}}")));
            let names: serde_json::Map<_, _> =
                names.filter_map(|name| Some((name.to_owned(), chosen(name)?))).collect();
            if names.is_empty() { json!({"Fn::Sub": text}) } else { json!({"Fn::Sub": [text, names]}) }
        }
        Value::Array(items) => items.into_iter().map(substituted).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, substituted(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_into_one_request() {
        let text = template();
        assert!(text.len() <= LARGEST, "{} bytes", text.len());
        assert!(!text.contains("{{policies/"), "a policy's name is left");
        assert!(text.contains("{{resolve:secretsmanager:"), "the database's password is a reference");
    }

    #[test]
    fn every_file_has_its_place() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../infra");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .expect("infra/")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".yaml"))
            .collect();
        let mut known: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known);
    }

    /// Two installations in one account must never meet: AWS would refuse the second, an emulator lets it pass.
    #[test]
    fn every_fixed_name_carries_the_installation() {
        let named = [
            "ClusterName",
            "QueueName",
            "RoleName",
            "InstanceProfileName",
            "LogGroupName",
            "AliasName",
            "BucketName",
            "DBInstanceIdentifier",
            "GroupName",
            "DBSubnetGroupName",
            "Name",
        ];
        let text = template();
        let resources = text.split("\nResources:\n").nth(1).and_then(|rest| rest.split("\nOutputs:\n").next());
        let mut seen = 0;
        for line in resources.expect("resources").lines() {
            let Some((key, value)) = line.trim().split_once(": ") else { continue };
            let is_reference = value.starts_with("!Ref") || value.starts_with("!If") || value.starts_with("!GetAtt");
            // The zone's name is the domain, and zones may share a name.
            if named.contains(&key) && !is_reference {
                assert!(value.contains("${Installation}"), "{line}");
                seen += 1;
            }
        }
        assert!(seen >= 9, "{seen} names");
    }

    #[test]
    fn names_that_are_chosen_are_substituted() {
        let value = substituted(json!("service/${TheCluster}/paas-${Installation}-*"));
        assert_eq!(value["Fn::Sub"][0], "service/${TheCluster}/paas-${Installation}-*");
        assert!(value["Fn::Sub"][1]["TheCluster"]["Fn::If"].is_array());
        assert_eq!(substituted(json!("ecr:*")), json!("ecr:*"));
    }
}
