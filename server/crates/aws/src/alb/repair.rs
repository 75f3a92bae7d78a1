//! What somebody else has changed on AWS is changed back: the slow sweep.
//!
//! A rule that is gone, says something else or has no row; a group, a record or a certificate that is gone. What
//! does not carry this installation's tag is never touched. What is new meanwhile is not taken for a change: a row
//! counts only when it said the same before AWS was asked.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_elasticloadbalancingv2::types::Rule as AwsRule;
use paas_domain::AppId;
use paas_ports::{PortError, outside};

use super::AlbIngress;
use super::book::{Book, CertificateState, Owner};
use super::group::Tagged;
use super::record::plain;
use crate::call::Call;

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Rules that were gone or said something else, and groups and records that were gone.
    pub changed: usize,
    /// Rules of ours that no row names.
    pub orphans: usize,
    /// Apps whose attachment is gone: they are to be placed and published again.
    pub unplaced: Vec<AppId>,
}

impl AlbIngress {
    /// Compares every rule, group, record and certificate of ours with what was promised, and makes AWS what was
    /// promised. To be called every ten minutes or so; apps in [`Repaired::unplaced`] are to be reconciled.
    ///
    /// # Errors
    /// What AWS said. The next sweep goes on.
    pub async fn repair(&self) -> Result<Repaired, PortError> {
        outside::check("AlbIngress::repair");
        let before = self.book().await?;
        let mut found = Repaired::default();
        for number in before.shards.iter().filter(|(_, shard)| shard.is_ready()).map(|(number, _)| *number) {
            let rules = self.rules_with_tags(number).await?;
            self.make_way_again(number, &rules).await?;
            let ours: Vec<(AwsRule, Tagged)> = rules.into_iter().filter(|(_, tagged)| self.is_ours(tagged)).collect();
            let (changed, orphans) = self.change(|book| Ok(compare_rules(book, &before, number, &ours))).await?;
            found.changed += changed;
            for arn in orphans {
                tracing::info!(rule = arn, "deleting a listener rule that no row names");
                self.delete_rule(None, &arn).await?;
                found.orphans += 1;
            }
            found.changed += self.compare_certificates(&before, number).await?;
        }
        let groups = self.all_groups("listing target groups").await?;
        let there: BTreeSet<&String> = groups.iter().map(|(arn, _)| arn).collect();
        let known = before.groups.values().filter_map(|group| group.arn.clone());
        let gone: Vec<String> = known.filter(|arn| !there.contains(arn)).collect();
        found.unplaced = self.lose_groups(&gone).await?;
        found.changed += found.unplaced.len();
        if before.routes.values().any(|route| route.records.values().any(|record| record.told)) {
            let aliases = self.aliases().await?;
            found.changed += self.change(|book| Ok(compare_records(book, &before, &aliases))).await?;
        }
        let unsettled: Vec<AppId> =
            self.book().await?.routes.iter().filter(|(_, row)| !row.settled).map(|(app, _)| app.clone()).collect();
        for app in unsettled {
            if !found.unplaced.contains(&app)
                && let Err(error) = self.sync(&app).await
            {
                tracing::warn!(%app, %error, "its routes are repaired next time");
            }
        }
        self.look_at_certificates().await;
        Ok(found)
    }

    /// Takes back what was left to others who have gone: priorities, and room on the balancer.
    async fn make_way_again(&self, number: u32, rules: &[(AwsRule, Tagged)]) -> Result<(), PortError> {
        let taken: BTreeSet<u32> = rules.iter().filter_map(|(rule, _)| rule.priority()?.parse().ok()).collect();
        let roomy = rules.len() < self.terms.quotas.for_newcomers().rules;
        self.note(|book| {
            book.rules.retain(|(shard, priority), rule| {
                *shard != number || rule.of != Owner::Foreign || taken.contains(priority)
            });
            if let Some(shard) = book.shards.get_mut(&number) {
                shard.closed &= !roomy;
            }
        })
        .await
    }

    /// Forgets those of these groups that AWS does not show any more.
    pub(super) async fn forget_missing_groups(&self, suspects: &[String]) -> Result<(), PortError> {
        let there = self.all_groups("looking for a target group").await?;
        let gone: Vec<String> =
            suspects.iter().filter(|arn| there.iter().all(|(there, _)| there != *arn)).cloned().collect();
        self.lose_groups(&gone).await.map(drop)
    }

    /// Forgets groups that are gone. The apps whose they were.
    async fn lose_groups(&self, gone: &[String]) -> Result<Vec<AppId>, PortError> {
        if gone.is_empty() {
            return Ok(vec![]);
        }
        self.change(|book| {
            let mut apps = Vec::new();
            for ((app, _), group) in &mut book.groups {
                if group.arn.as_ref().is_some_and(|arn| gone.contains(arn)) {
                    group.arn = None;
                    apps.push(app.clone());
                }
            }
            book.unpark(gone);
            for app in &apps {
                if let Some(route) = book.routes.get_mut(app) {
                    (route.wish, route.settled) = (None, false);
                }
            }
            Ok(apps)
        })
        .await
    }

    async fn compare_certificates(&self, before: &Book, number: u32) -> Result<usize, PortError> {
        let attached = |state| state == CertificateState::Attached;
        let of_shard = |book: &Book| {
            let rows = book.certificates.iter().filter(|(_, row)| row.shard == Some(number) && attached(row.state));
            rows.filter_map(|(key, row)| Some((key.clone(), row.arn.clone()?))).collect::<BTreeMap<_, _>>()
        };
        let promised = of_shard(before);
        let Some(listener) = before.shards.get(&number).and_then(|shard| shard.listener.clone()) else { return Ok(0) };
        if promised.is_empty() {
            return Ok(0);
        }
        let (mut shown, mut marker) = (BTreeSet::new(), None);
        loop {
            let describe = self.aws.elb.describe_listener_certificates().listener_arn(&listener).set_marker(marker);
            let doing = "listing a listener's certificates";
            let page = self.aws.call(Call::DescribeListenerCertificates, None, doing, describe.send()).await?;
            shown.extend(page.certificates().iter().filter_map(|one| one.certificate_arn().map(str::to_owned)));
            marker = page.next_marker().map(str::to_owned);
            if marker.is_none() {
                break;
            }
        }
        self.change(|book| {
            let now = of_shard(book);
            let mut changed = 0;
            for (key, arn) in promised.iter().filter(|(key, arn)| !shown.contains(*arn) && now.get(key) == Some(arn)) {
                if let Some(row) = book.certificates.get_mut(key) {
                    tracing::info!(host = %key.1, arn, "the listener has lost a certificate");
                    row.state = CertificateState::Pending;
                    changed += 1;
                }
            }
            Ok(changed)
        })
        .await
    }
}

/// Notes what is to be told again; how many rules, and which of AWS's rules no row names.
fn compare_rules(book: &mut Book, before: &Book, shard: u32, ours: &[(AwsRule, Tagged)]) -> (usize, Vec<String>) {
    let mut changed = 0;
    let mut orphans = Vec::new();
    let keys: Vec<(u32, u32)> = book.rules.range((shard, 0)..=(shard, u32::MAX)).map(|(key, _)| *key).collect();
    let mut named = BTreeSet::new();
    for key in keys {
        let Some(row) = book.rules.get(&key).cloned() else { continue };
        let priority = key.1.to_string();
        let there = ours.iter().find(|(rule, _)| rule.priority() == Some(&priority));
        if let Some((_, tagged)) = there.filter(|_| row.of != Owner::Foreign) {
            named.insert(tagged.arn.clone());
        }
        // Written meanwhile: what AWS showed may be older.
        if before.rules.get(&key) != Some(&row) || row.of == Owner::Foreign {
            continue;
        }
        let said = there.is_some_and(|(rule, _)| book.content(&row).is_some_and(|content| content.is_said_by(rule)));
        let same = there.is_some_and(|(_, tagged)| row.arn.as_ref() == Some(&tagged.arn)) && said;
        if same || (there.is_none() && row.arn.is_none()) {
            continue;
        }
        changed += 1;
        if let Some(row) = book.rules.get_mut(&key) {
            row.arn = there.map(|(_, tagged)| tagged.arn.clone());
            row.told = None;
        }
        let apps: Vec<AppId> = match &row.of {
            Owner::App(app) => vec![app.clone()],
            _ => book
                .groups
                .iter()
                .filter(|(_, g)| g.arn.as_ref().is_some_and(|arn| row.groups.contains(arn)))
                .map(|((app, _), _)| app.clone())
                .collect(),
        };
        for app in apps {
            if let Some(route) = book.routes.get_mut(&app) {
                route.settled = false;
            }
        }
    }
    for (_, tagged) in ours.iter().filter(|(_, tagged)| !named.contains(&tagged.arn)) {
        orphans.push(tagged.arn.clone());
    }
    (changed, orphans)
}

fn compare_records(book: &mut Book, before: &Book, aliases: &BTreeMap<String, String>) -> usize {
    let mut changed = 0;
    let shards = book.shards.clone();
    for (app, route) in &mut book.routes {
        let old = before.routes.get(app);
        for (host, record) in route.records.iter_mut().filter(|(_, record)| record.told && !record.going) {
            let same = old.and_then(|old| old.records.get(host)) == Some(&*record);
            let wanted = shards.get(&record.shard).map(|shard| plain(&shard.dns_name));
            if same && aliases.get(host.as_str()) != wanted.as_ref() {
                tracing::info!(%host, "a DNS record is gone or leads elsewhere");
                (record.told, record.ours) = (false, true);
                route.settled = false;
                changed += 1;
            }
        }
    }
    changed
}
