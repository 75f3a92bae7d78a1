//! A rule in AWS's words, and back.

use std::str::FromStr as _;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, FixedResponseActionConfig, ForwardActionConfig, HostHeaderConditionConfig, Rule as AwsRule,
    RuleCondition, SourceIpConditionConfig, TargetGroupTuple,
};
use paas_domain::HostName;

use super::book::{Answer, Content, Page};

/// No request comes from here: parking rules match nothing. An address for documentation (RFC 5737), because AWS does not
/// take the one of broadcasts.
const NOWHERE: &str = "192.0.2.1/32";
/// Nor is one sent to this host.
const PARKED: &str = "parked.invalid";

impl Content {
    /// The conditions of the rule.
    pub(crate) fn conditions(&self) -> Vec<RuleCondition> {
        match self {
            Self::Hosts(hosts, _) => vec![host_condition(hosts.iter().map(|host| host.as_str().to_owned()).collect())],
            Self::Parking(_) => {
                let source = SourceIpConditionConfig::builder().values(NOWHERE).build();
                let source = RuleCondition::builder().field("source-ip").source_ip_config(source).build();
                vec![host_condition(vec![PARKED.to_owned()]), source]
            }
        }
    }

    /// Its action.
    pub(crate) fn action(&self) -> Action {
        match self {
            Self::Hosts(_, Answer::Forward(group)) => {
                Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(group).build()
            }
            Self::Hosts(_, Answer::Page(page)) => fixed_response("503", page.html()),
            Self::Parking(groups) => {
                let groups = groups.iter().map(|g| TargetGroupTuple::builder().target_group_arn(g).weight(1).build());
                let config = ForwardActionConfig::builder().set_target_groups(Some(groups.collect())).build();
                Action::builder().r#type(ActionTypeEnum::Forward).forward_config(config).build()
            }
        }
    }

    /// Whether this is what a rule of AWS says.
    pub(crate) fn is_said_by(&self, rule: &AwsRule) -> bool {
        match self {
            Self::Hosts(hosts, answer) => {
                let mut wanted = hosts.clone();
                wanted.sort();
                wanted == hosts_of(rule) && rule.conditions().len() == 1 && *answer == answer_of(rule)
            }
            Self::Parking(groups) => {
                let mut wanted: Vec<&str> = groups.iter().map(String::as_str).collect();
                let mut found = groups_of(rule);
                wanted.sort_unstable();
                found.sort_unstable();
                wanted == found && rule.conditions().len() == 2 && comes_from(rule, NOWHERE)
            }
        }
    }
}

/// A fixed response of HTML.
pub(crate) fn fixed_response(status: &str, html: &str) -> Action {
    let config = FixedResponseActionConfig::builder().status_code(status).content_type("text/html").message_body(html);
    Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(config.build()).build()
}

fn host_condition(values: Vec<String>) -> RuleCondition {
    let config = HostHeaderConditionConfig::builder().set_values(Some(values)).build();
    RuleCondition::builder().field("host-header").host_header_config(config).build()
}

fn hosts_of(rule: &AwsRule) -> Vec<HostName> {
    let of_hosts = rule.conditions().iter().filter(|condition| condition.field() == Some("host-header"));
    let values = of_hosts.flat_map(|condition| {
        let typed = condition.host_header_config().map(|config| config.values()).unwrap_or_default();
        if typed.is_empty() { condition.values() } else { typed }
    });
    let mut hosts: Vec<HostName> = values.filter_map(|value| HostName::from_str(value).ok()).collect();
    hosts.sort();
    hosts
}

/// Whether a rule asks for this source and no other.
fn comes_from(rule: &AwsRule, source: &str) -> bool {
    let of_source = rule.conditions().iter().filter(|condition| condition.field() == Some("source-ip"));
    let values = of_source.flat_map(|condition| {
        let typed = condition.source_ip_config().map(|config| config.values()).unwrap_or_default();
        if typed.is_empty() { condition.values() } else { typed }
    });
    values.eq([source])
}

/// The groups that a rule's forward names.
pub(crate) fn groups_of(rule: &AwsRule) -> Vec<&str> {
    let mut groups = Vec::new();
    for action in rule.actions() {
        let many = action.forward_config().map(|config| config.target_groups()).unwrap_or_default();
        groups.extend(many.iter().filter_map(TargetGroupTuple::target_group_arn));
        if many.is_empty() {
            groups.extend(action.target_group_arn());
        }
    }
    groups
}

/// What a rule answers; something that no rule of ours says when it is nothing of ours.
fn answer_of(rule: &AwsRule) -> Answer {
    if let [group] = groups_of(rule).as_slice() {
        return Answer::Forward((*group).to_owned());
    }
    let body = rule.actions().first().and_then(|action| action.fixed_response_config()?.message_body());
    let page = Page::ALL.into_iter().find(|page| body.is_some_and(|body| same_text(body, page.html())));
    page.map_or(Answer::Forward(String::new()), Answer::Page)
}

/// Whether two texts are the same but for white space, which an answer in XML may lose.
fn same_text(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AWS's guide, "Source IP address conditions": "This condition does not support the 255.255.255.255/32 CIDR".
    #[test]
    fn a_parking_rule_asks_for_a_source_that_aws_takes_and_nobody_has() {
        let conditions = Content::Parking(vec!["group".to_owned()]).conditions();
        let sources: Vec<&String> =
            conditions.iter().filter_map(|c| c.source_ip_config()).flat_map(SourceIpConditionConfig::values).collect();
        assert_eq!(sources, ["192.0.2.1/32"]);
        let other = SourceIpConditionConfig::builder().values("0.0.0.0/0").build();
        let other = RuleCondition::builder().field("source-ip").source_ip_config(other).build();
        let parking = Content::Parking(vec!["group".to_owned()]);
        let opened = AwsRule::builder().conditions(conditions[0].clone()).conditions(other).actions(parking.action());
        assert!(!parking.is_said_by(&opened.build()), "somebody let requests in");
    }

    #[test]
    fn what_is_told_is_recognised() {
        let hosts: Vec<HostName> = ["b.example.com", "a.example.com"].map(|h| h.parse().expect("a host")).to_vec();
        let says = |content: &Content| {
            let rule = AwsRule::builder().set_conditions(Some(content.conditions())).actions(content.action());
            rule.build()
        };
        let contents = [
            Content::Hosts(hosts.clone(), Answer::Forward("group".to_owned())),
            Content::Hosts(hosts.clone(), Answer::Forward("other".to_owned())),
            Content::Hosts(hosts[..1].to_vec(), Answer::Forward("group".to_owned())),
            Content::Hosts(hosts.clone(), Answer::Page(Page::Maintenance)),
            Content::Hosts(hosts, Answer::Page(Page::Blank)),
            Content::Parking(vec!["group".to_owned()]),
            Content::Parking(vec!["group".to_owned(), "other".to_owned()]),
        ];
        for (at, told) in contents.iter().enumerate() {
            for (other, content) in contents.iter().enumerate() {
                assert_eq!(content.is_said_by(&says(told)), at == other, "{told:?} {content:?}");
            }
        }
    }
}
