//! Makes AWS what the book says of one app, one call at a time.
//!
//! [`next_step`] decides on the book alone; a step makes its call and notes what AWS was told. Before a rule is told
//! anything, a mark of this attempt is put in the place of what it was told: a crash behind the call, or a second
//! server that tells something else at the same moment, leaves a rule that is told again.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_elasticloadbalancingv2::types::{Rule as AwsRule, Tag};
use paas_domain::{AppId, HostName, ProcessType};
use paas_ports::PortError;

use super::AlbIngress;
use super::book::{Answer, Book, Content, Owner, Rule};
use super::group::{Tagged, tags};
use super::record::RECORDS_AT_ONCE;
use crate::call::Call;
use crate::error::{AwsError, Kind};

/// More steps than any app takes that is not fought over.
const STEPS: usize = 500;
/// The balancer is full, though the book says otherwise.
const REFUSED: &[&str] = &["TooManyRules", "TooManyUniqueTargetGroupsPerLoadBalancer", "TooManyTargetGroups"];

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A rule is made or changed.
    Tell((u32, u32)),
    /// A rule goes.
    Drop((u32, u32)),
    /// Groups that a rule names by now leave their parking rules.
    Unpark(Vec<String>),
    /// A group's clients keep their targets from now on, or no longer.
    Stick(ProcessType, String),
    /// Records are made.
    Records(Vec<HostName>),
    /// A record goes.
    DropRecord(HostName),
    /// Nothing is left.
    Settle,
}

/// What comes next for an app: groups are parked before its rules let go of them, and unparked behind.
pub(super) fn next_step(book: &Book, app: &AppId) -> Option<Step> {
    let route = book.routes.get(app)?;
    let groups: Vec<&String> = book.groups_of(app).collect();
    let parking = |shard: u32| {
        let range = book.rules.range((shard, 0)..=(shard, u32::MAX));
        range.filter(|(_, rule)| rule.of == Owner::Parking).filter(|(_, rule)| !book.is_told(rule))
    };
    if let Some(shard) = route.shard
        && let Some((key, _)) = parking(shard).find(|(_, rule)| rule.groups.iter().any(|g| groups.contains(&g)))
    {
        return Some(Step::Tell(*key));
    }
    let rules: Vec<((u32, u32), &Rule)> =
        book.rules_of(app).into_iter().filter_map(|key| Some((key, book.rules.get(&key)?))).collect();
    if let Some((key, _)) = rules.iter().find(|(_, rule)| !rule.hosts.is_empty() && !book.is_told(rule)) {
        return Some(Step::Tell(*key));
    }
    if let Some((key, _)) = rules.iter().find(|(_, rule)| rule.hosts.is_empty()) {
        return Some(Step::Drop(*key));
    }
    let idle = book.parked_needlessly(app);
    if !idle.is_empty() {
        return Some(Step::Unpark(idle));
    }
    if let Some(shard) = route.shard
        && let Some((key, rule)) = parking(shard).next()
    {
        return Some(if rule.groups.is_empty() { Step::Drop(*key) } else { Step::Tell(*key) });
    }
    if let Some((process_type, arn)) = book.wrongly_sticky(app) {
        return Some(Step::Stick(process_type, arn));
    }
    let new = route.records.iter().filter(|(_, record)| !record.told && !record.going).map(|(host, _)| host.clone());
    let new: Vec<HostName> = new.take(RECORDS_AT_ONCE).collect();
    if !new.is_empty() {
        return Some(Step::Records(new));
    }
    if let Some((host, _)) = route.records.iter().find(|(_, record)| record.going) {
        return Some(Step::DropRecord(host.clone()));
    }
    (!route.settled).then_some(Step::Settle)
}

impl AlbIngress {
    /// Makes AWS what the book says of this app.
    pub(super) async fn sync(&self, app: &AppId) -> Result<(), PortError> {
        let _turn = self.lane(app).lock().await;
        for _ in 0..STEPS {
            match next_step(&self.book().await?, app) {
                None => return Ok(()),
                Some(Step::Tell(key)) => self.tell(app, key).await?,
                Some(Step::Drop(key)) => self.drop_rule(app, key).await?,
                Some(Step::Unpark(groups)) => self.note(|book| book.unpark(&groups)).await?,
                Some(Step::Stick(process_type, arn)) => self.stick(app, &process_type, &arn).await?,
                Some(Step::Records(hosts)) => self.make_records(app, &hosts).await?,
                Some(Step::DropRecord(host)) => self.delete_record(app, &host).await?,
                Some(Step::Settle) => {
                    self.note(|book| {
                        let settled = matches!(next_step(book, app), None | Some(Step::Settle));
                        if let Some(route) = book.routes.get_mut(app) {
                            route.settled = settled;
                        }
                    })
                    .await?;
                }
            }
        }
        Err(PortError::transient("changing the app's listener rules", "they do not come to rest"))
    }

    /// Makes or changes a rule.
    async fn tell(&self, app: &AppId, key: (u32, u32)) -> Result<(), PortError> {
        let mark = mark();
        let told = self.change(|book| Ok(begin(book, key, &mark))).await?;
        let Some((content, of, arn, listener)) = told else { return Ok(()) };
        let doing = match &of {
            Owner::App(_) => "changing the app's listener rules",
            _ => "keeping the app's target group on its load balancer",
        };
        let answer = match &arn {
            Some(arn) => self.modify_rule(app, doing, arn, &content).await.map(|()| arn.clone()),
            None => self.create_rule(app, doing, &listener, key.1, &of, &content).await,
        };
        match answer {
            Ok(arn) => {
                self.note(|book| {
                    let Some(rule) = book.rules.get_mut(&key) else { return };
                    rule.arn = Some(arn.clone());
                    if rule.told.as_deref() == Some(&mark) {
                        rule.told = Some(content.digest());
                    }
                })
                .await
            }
            Err(error) => self.not_told(app, key, &of, &content, error).await,
        }
    }

    async fn create_rule(
        &self,
        app: &AppId,
        doing: &str,
        listener: &str,
        priority: u32,
        of: &Owner,
        content: &Content,
    ) -> Result<String, AwsError> {
        let priority = i32::try_from(priority).unwrap_or(i32::MAX);
        let tags: Vec<Tag> = match of {
            Owner::App(app) => tags(&self.aws.install, Some(app)),
            _ => tags(&self.aws.install, None),
        };
        let create = || {
            let create = self.aws.elb.create_rule().listener_arn(listener).priority(priority);
            let create = create.set_conditions(Some(content.conditions())).actions(content.action());
            create.set_tags(Some(tags.clone())).send()
        };
        let made = self.patiently(Call::CreateRule, app, doing, create).await?;
        let arn = made.rules().first().and_then(AwsRule::rule_arn).map(str::to_owned);
        arn.ok_or_else(|| AwsError::own(Kind::Transient, doing, "AWS did not say the rule's ARN"))
    }

    async fn modify_rule(&self, app: &AppId, doing: &str, arn: &str, content: &Content) -> Result<(), AwsError> {
        let modify = self.aws.elb.modify_rule().rule_arn(arn);
        let modify = modify.set_conditions(Some(content.conditions())).actions(content.action()).send();
        self.aws.call(Call::ModifyRule, Some(app), doing, modify).await.map(drop)
    }

    /// What to do about a rule that AWS did not take; an error when nothing can be done about it here.
    async fn not_told(
        &self,
        app: &AppId,
        key: (u32, u32),
        of: &Owner,
        content: &Content,
        error: AwsError,
    ) -> Result<(), PortError> {
        if error.is(&["RuleNotFound"]) {
            return self.lose_rule(key, error).await;
        }
        if error.is(&["PriorityInUse"]) {
            return self.adopt_rule(app, key, of).await;
        }
        if error.is(&["TargetGroupNotFound"]) {
            let gone = groups_in(content);
            self.forget_missing_groups(&gone).await?;
            return Err(PortError::transient(error.doing, "its target group is gone; it is made again"));
        }
        if error.is(REFUSED) {
            let moved = self.change(|book| {
                let before = book.shard_of(app);
                book.close_shard(key, app, &self.terms)?;
                Ok(book.shard_of(app) != before)
            });
            if moved.await? {
                return Ok(());
            }
            let cause = format!(
                "{}. Others use this load balancer too: remove rules that are not this installation's, or have AWS \
                 raise the quota",
                error.message
            );
            return Err(PortError::permanent(error.doing, cause));
        }
        Err(error.into())
    }

    /// AWS does not know a rule that it was told to change. Unless it shows that rule all the same, because it was made
    /// a moment ago, it is made again.
    async fn lose_rule(&self, key: (u32, u32), error: AwsError) -> Result<(), PortError> {
        let known = self.book().await?.rules.get(&key).and_then(|rule| rule.arn.clone());
        let shown = self.rules_with_tags(key.0).await?;
        if shown.iter().any(|(_, tagged)| Some(&tagged.arn) == known.as_ref()) {
            return Err(PortError::transient(error.doing, error.message));
        }
        self.forget_rule(key).await
    }

    /// The rule at this key may not be there; it is made when it is to be there.
    pub(super) async fn forget_rule(&self, key: (u32, u32)) -> Result<(), PortError> {
        self.note(|book| {
            if let Some(rule) = book.rules.get_mut(&key) {
                (rule.arn, rule.told) = (None, None);
            }
        })
        .await
    }

    /// Somebody has the priority: ourselves, before a crash, or somebody else, to whom it is left.
    async fn adopt_rule(&self, app: &AppId, key: (u32, u32), of: &Owner) -> Result<(), PortError> {
        let priority = key.1.to_string();
        let rules = self.rules_with_tags(key.0).await?;
        let Some((rule, tagged)) = rules.into_iter().find(|(rule, _)| rule.priority() == Some(&priority)) else {
            return Err(PortError::transient("changing the app's listener rules", "AWS does not show them all yet"));
        };
        let arn = rule.rule_arn().unwrap_or_default().to_owned();
        if !self.is_ours(&tagged) {
            return self.change(|book| Ok(book.give_way(key)?)).await;
        }
        let same = match of {
            Owner::App(owner) => tagged.app.as_ref() == Some(owner),
            _ => tagged.app.is_none(),
        };
        if !same {
            return self.delete_rule(Some(app), &arn).await;
        }
        self.note(|book| {
            if let Some(rule) = book.rules.get_mut(&key) {
                (rule.arn, rule.told) = (Some(arn.clone()), None);
            }
        })
        .await
    }

    async fn drop_rule(&self, app: &AppId, key: (u32, u32)) -> Result<(), PortError> {
        let book = self.book().await?;
        let Some(rule) = book.rules.get(&key) else { return Ok(()) };
        let mut arn = rule.arn.clone();
        if arn.is_none() && rule.told.is_some() {
            // It was being made when somebody died.
            let priority = key.1.to_string();
            let rules = self.rules_with_tags(key.0).await?;
            let there = rules.into_iter().find(|(rule, _)| rule.priority() == Some(&priority));
            arn = there.filter(|(_, tagged)| self.is_ours(tagged)).map(|(_, tagged)| tagged.arn);
        }
        if let Some(arn) = arn {
            self.delete_rule(Some(app), &arn).await?;
        }
        self.note(|book| {
            let Some(rule) = book.rules.get_mut(&key) else { return };
            if rule.hosts.is_empty() && rule.groups.is_empty() && rule.of != Owner::Foreign {
                book.rules.remove(&key);
            } else {
                (rule.arn, rule.told) = (None, None);
            }
        })
        .await
    }

    /// Deletes a rule. Succeeds when there is none.
    pub(super) async fn delete_rule(&self, app: Option<&AppId>, arn: &str) -> Result<(), PortError> {
        let delete = self.aws.elb.delete_rule().rule_arn(arn).send();
        match self.aws.call(Call::DeleteRule, app, "deleting a listener rule", delete).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The rules of a shard's listener on 443 with their tags, the default one left out.
    pub(super) async fn rules_with_tags(&self, shard: u32) -> Result<Vec<(AwsRule, Tagged)>, PortError> {
        let doing = "listing listener rules";
        let book = self.book().await?;
        let Some(listener) = book.shards.get(&shard).and_then(|shard| shard.listener.clone()) else {
            return Ok(vec![]);
        };
        let (mut rules, mut marker) = (Vec::new(), None);
        loop {
            let describe = self.aws.elb.describe_rules().listener_arn(&listener).set_marker(marker).send();
            let page = self.aws.call(Call::DescribeRules, None, doing, describe).await?;
            rules.extend(page.rules().iter().filter(|rule| rule.is_default() != Some(true)).cloned());
            marker = page.next_marker().map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        let arns: Vec<String> = rules.iter().filter_map(|rule| rule.rule_arn().map(str::to_owned)).collect();
        let mut tagged = self.tagged(None, &arns, doing).await?;
        let pairs = rules.into_iter().filter_map(|rule| {
            let at = tagged.iter().position(|tagged| rule.rule_arn() == Some(&tagged.arn))?;
            Some((rule, tagged.swap_remove(at)))
        });
        Ok(pairs.collect())
    }
}

/// Marks a rule as being told; what is to be said to which listener. `None` when nothing is to be said any more.
fn begin(book: &mut Book, key: (u32, u32), mark: &str) -> Option<(Content, Owner, Option<String>, String)> {
    let listener = book.shards.get(&key.0)?.listener.clone()?;
    let rule = book.rules.get(&key)?.clone();
    if book.is_told(&rule) {
        return None;
    }
    let content = book.content(&rule)?;
    book.rules.get_mut(&key)?.told = Some(mark.to_owned());
    Some((content, rule.of, rule.arn, listener))
}

fn groups_in(content: &Content) -> Vec<String> {
    match content {
        Content::Hosts(_, Answer::Forward(group)) => vec![group.clone()],
        Content::Hosts(..) => vec![],
        Content::Parking(groups) => groups.clone(),
    }
}

/// A text that no digest is and no other attempt has.
fn mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0_u8; 8];
    // Without randomness the count alone tells the attempts of this process apart.
    let _ = getrandom::fill(&mut random);
    format!("telling {}-{}", data_encoding::HEXLOWER.encode(&random), COUNT.fetch_add(1, Ordering::Relaxed))
}
