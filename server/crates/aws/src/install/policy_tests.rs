//! The policies against what the code does. What an emulator does not ask, these do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::policy;
use crate::Call;

/// What the server's role needs besides its calls: what AWS asks on the way of one, and what does not go through the
/// SDK's clients of this crate.
const EXTRAS: &[(&str, &str)] = &[
    ("iam:PassRole", "asked when a task definition names a role"),
    ("ecs:TagResource", "asked when a service, a task or a definition is made with tags"),
    ("elasticloadbalancing:AddTags", "asked when a group, a rule or a balancer is made with tags"),
    ("acm:AddTagsToCertificate", "asked when a certificate is requested with tags"),
    ("secretsmanager:TagResource", "asked when a secret is made with tags"),
    ("kms:CreateGrant", "asked when a repository is made that is encrypted with our key"),
    ("kms:Decrypt", "asked when the bucket or the database's secret is read"),
    ("kms:DescribeKey", "asked when a repository is made that is encrypted with our key"),
    ("kms:RetireGrant", "asked when a repository that is encrypted with our key is removed"),
    ("kms:GenerateDataKey", "asked when the bucket or a secret is written"),
    ("s3:AbortMultipartUpload", "objects, by the crate object_store"),
    ("s3:DeleteObject", "objects, by the crate object_store"),
    ("s3:GetObject", "objects, by the crate object_store"),
    ("s3:ListBucket", "objects, by the crate object_store"),
    ("s3:PutObject", "objects, by the crate object_store"),
    ("ec2:DescribeAccountAttributes", "asked when a balancer is made"),
    ("ec2:DescribeInternetGateways", "asked when a balancer is made"),
    ("ec2:DescribeSecurityGroups", "asked when a balancer is made"),
    ("ec2:DescribeSubnets", "asked when a balancer is made"),
    ("ec2:DescribeVpcs", "asked when a balancer is made"),
];

/// Actions that AWS lets nobody scope to a resource, or that look for things by a list
/// (<https://docs.aws.amazon.com/service-authorization/latest/reference/reference.html>).
const NOT_SCOPED: &[&str] = &[
    "acm:ListCertificates",
    "ec2:",
    "ecr:DescribeRepositories",
    "ecr:GetAuthorizationToken",
    "ecs:DeregisterTaskDefinition",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTaskDefinitionFamilies",
    "ecs:ListTaskDefinitions",
    "elasticloadbalancing:Describe",
    "secretsmanager:ListSecrets",
];

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(strings).collect(),
        other => panic!("not a text or a list: {other}"),
    }
}

fn statements(name: &str) -> Vec<Value> {
    policy(name)["Statement"].as_array().expect("statements").clone()
}

fn actions(name: &str) -> BTreeSet<String> {
    statements(name).iter().flat_map(|statement| strings(&statement["Action"])).collect()
}

#[test]
fn the_server_may_do_what_it_does_and_nothing_else() {
    let mut needed: BTreeMap<&str, &str> = EXTRAS.iter().copied().collect();
    needed.extend(Call::ALL.iter().map(|call| (call.action(), "a call of the drivers")));
    let allowed = actions("server");
    let missing: Vec<_> = needed.keys().filter(|action| !allowed.contains(**action)).collect();
    assert!(missing.is_empty(), "add to infra/policies/server.json: {missing:?}");
    let unused: Vec<_> = allowed.iter().filter(|action| !needed.contains_key(action.as_str())).collect();
    assert!(unused.is_empty(), "nothing in the code needs, so take from infra/policies/server.json: {unused:?}");
}

#[test]
fn no_policy_reaches_beyond_the_installation() {
    for name in ["server", "execution"] {
        for statement in statements(name) {
            assert_eq!(statement["Effect"], "Allow");
            let actions = strings(&statement["Action"]);
            assert!(actions.iter().all(|action| !action.contains('*')), "{name}: {actions:?}");
            for resource in strings(&statement["Resource"]) {
                let of_ours = ["${Installation}", "${AWS::StackName}", "${TheCluster}", "${TheZone}", ".Arn}"];
                if of_ours.iter().any(|part| resource.contains(part)) {
                    continue;
                }
                let is_conditional = statement.get("Condition").is_some();
                for action in &actions {
                    let is_listed = NOT_SCOPED.iter().any(|prefix| action.starts_with(prefix));
                    assert!(is_conditional || is_listed, "{name}: {action} on {resource}");
                }
            }
        }
    }
}

#[test]
fn apps_may_do_nothing() {
    let template = super::template();
    let role =
        template.split("\n  TaskRole:\n").nth(1).and_then(|rest| rest.split("\nOutputs:").next()).expect("the role");
    assert!(!role.contains("Policies:") && !role.contains("ManagedPolicyArns:"), "{role}");
}

/// IAM takes 10,240 characters of inline policies per role, not counting white space
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>).
#[test]
fn policies_fit_into_a_role() {
    for name in ["server", "execution"] {
        // The longest names that the substitution can bring; a partition's name is `aws-us-gov` at most.
        let text = policy(name)
            .to_string()
            .replace("${AWS::Partition}", "aws-us-gov")
            .replace("${AWS::Region}", "ap-northeast-1")
            .replace("${AWS::AccountId}", "123456789012")
            .replace("${Installation}", "abcdef")
            .replace("${TheCluster}", &"c".repeat(64))
            .replace("${TheZone}", "Z0123456789ABCDEFGHIJ")
            .replace("${Domain}", &"d".repeat(64))
            .replace("${AWS::StackName}", &"s".repeat(100));
        assert!(text.len() <= 10_240, "{name}: {} characters", text.len());
    }
}

/// The execution role against what task definitions name: images, secrets, the log group. No emulator asks it.
#[test]
fn the_execution_role_fits_task_definitions() {
    let expected = [
        ("ecr:BatchCheckLayerAvailability", "repository/paas-${Installation}-*"),
        ("ecr:BatchGetImage", "repository/paas-${Installation}-*"),
        ("ecr:GetAuthorizationToken", "*"),
        ("ecr:GetDownloadUrlForLayer", "repository/paas-${Installation}-*"),
        ("kms:Decrypt", "${Key.Arn}"),
        ("logs:CreateLogStream", "log-group:/paas/${Installation}/dynos:*"),
        ("logs:PutLogEvents", "log-group:/paas/${Installation}/dynos:*"),
        ("secretsmanager:GetSecretValue", "secret:paas/${Installation}/*"),
    ];
    let mut found = BTreeMap::new();
    for statement in statements("execution") {
        for action in strings(&statement["Action"]) {
            found.insert(action, strings(&statement["Resource"]).join(" "));
        }
    }
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), expected.map(|(action, _)| action));
    for (action, resource) in expected {
        assert!(found[action].ends_with(resource), "{action}: {}", found[action]);
    }
}
