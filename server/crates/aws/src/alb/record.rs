//! DNS records below the platform's own domain: an alias of each host to the balancer of its app.
//!
//! Records carry no tags. One is ours when a row says so, and the row is written first; no other record is touched.

use std::collections::BTreeMap;

use aws_sdk_route53::types::{AliasTarget, Change, ChangeAction, ChangeBatch, ResourceRecordSet, RrType};
use aws_smithy_types::error::operation::BuildError;
use paas_domain::{AppId, HostName};
use paas_ports::PortError;

use super::AlbIngress;
use super::book::{Book, Shard};
use crate::call::Call;
use crate::error::Kind;

/// The most records in one change; Route 53 takes 1,000, and counts an UPSERT twice.
pub(super) const RECORDS_AT_ONCE: usize = 400;

fn alias(host: &HostName, shard: &Shard) -> Result<ResourceRecordSet, BuildError> {
    let target = AliasTarget::builder().dns_name(&shard.dns_name).hosted_zone_id(&shard.zone_id);
    let target = target.evaluate_target_health(false).build()?;
    ResourceRecordSet::builder().name(host.as_str()).r#type(RrType::A).alias_target(target).build()
}

impl AlbIngress {
    /// Makes these records, or changes them.
    pub(super) async fn upsert_records(&self, app: &AppId, hosts: &[HostName]) -> Result<(), PortError> {
        let doing = "making the app's DNS records";
        let book = self.book().await?;
        let mut changes = Vec::new();
        let mut made = Vec::new();
        for host in hosts {
            let record = book.routes.get(app).and_then(|route| route.records.get(host));
            let Some((record, shard)) = record.and_then(|record| Some((record, book.shards.get(&record.shard)?)))
            else {
                continue;
            };
            let built = alias(host, shard).map_err(|error| PortError::permanent(doing, error))?;
            changes.push((ChangeAction::Upsert, built));
            made.push((host.clone(), record.shard));
        }
        self.change_records(app, doing, changes).await?;
        self.note(|book| {
            let Some(route) = book.routes.get_mut(app) else { return };
            for (host, shard) in &made {
                if let Some(record) = route.records.get_mut(host).filter(|record| record.shard == *shard) {
                    record.told = true;
                }
            }
        })
        .await
    }

    /// Deletes one record, unless another app has taken the name over.
    pub(super) async fn delete_record(&self, app: &AppId, host: &HostName) -> Result<(), PortError> {
        let doing = "deleting a DNS record";
        let book = self.book().await?;
        if !has_heir(&book, app, host)
            && let Some(record) = book.routes.get(app).and_then(|route| route.records.get(host))
            && let Some(shard) = book.shards.get(&record.shard)
        {
            let built = alias(host, shard).map_err(|error| PortError::permanent(doing, error))?;
            match self.change_records(app, doing, vec![(ChangeAction::Delete, built)]).await {
                // It is not there, or leads elsewhere: not ours any more.
                Err(PortError::Permanent { cause, .. })
                    if cause.contains("not found") || cause.contains("not match") => {}
                other => other?,
            }
        }
        self.note(|book| {
            if let Some(route) = book.routes.get_mut(app)
                && route.records.get(host).is_some_and(|record| record.going)
            {
                route.records.remove(host);
            }
        })
        .await
    }

    async fn change_records(
        &self,
        app: &AppId,
        doing: &str,
        changes: Vec<(ChangeAction, ResourceRecordSet)>,
    ) -> Result<(), PortError> {
        if changes.is_empty() {
            return Ok(());
        }
        let broken = |error: BuildError| PortError::permanent(doing, error);
        let build = |(action, set)| Change::builder().action(action).resource_record_set(set).build();
        let changes: Result<Vec<Change>, BuildError> = changes.into_iter().map(build).collect();
        let batch = ChangeBatch::builder().set_changes(Some(changes.map_err(broken)?)).build().map_err(broken)?;
        let _zone = self.zone.lock().await;
        let zone = &self.aws.foundation.hosted_zone_id;
        let change = self.aws.route53.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch);
        self.aws.call(Call::ChangeResourceRecordSets, Some(app), doing, change.send()).await?;
        Ok(())
    }

    /// The aliases of our zone: name to what it leads to, both in lower case without a closing dot.
    pub(super) async fn aliases(&self) -> Result<BTreeMap<String, String>, PortError> {
        let (mut found, mut name, mut kind) = (BTreeMap::new(), None, None);
        loop {
            let list = self.aws.route53.list_resource_record_sets();
            let list = list.hosted_zone_id(&self.aws.foundation.hosted_zone_id);
            let list = list.set_start_record_name(name).set_start_record_type(kind).send();
            let page = self.aws.call(Call::ListResourceRecordSets, None, "listing DNS records", list).await;
            let page = match page {
                Err(error) if error.kind == Kind::NotFound => {
                    let cause = "the foundation's hosted zone is gone: run `paas install` again";
                    return Err(PortError::permanent("listing DNS records", cause));
                }
                other => other?,
            };
            for set in page.resource_record_sets() {
                if let Some(target) = set.alias_target() {
                    found.insert(plain(set.name()), plain(target.dns_name()));
                }
            }
            if !page.is_truncated() {
                return Ok(found);
            }
            (name, kind) = (page.next_record_name().map(str::to_owned), page.next_record_type().cloned());
        }
    }
}

/// Whether another app has a record of this name.
fn has_heir(book: &Book, app: &AppId, host: &HostName) -> bool {
    let others = book.routes.iter().filter(|(of, _)| *of != app);
    others.filter_map(|(_, route)| route.records.get(host)).any(|record| !record.going)
}

/// A name as we write it: Route 53 ends names with a dot and writes `*` as `\052`.
pub(super) fn plain(name: &str) -> String {
    let name = name.trim_end_matches('.').replace("\\052", "*").to_ascii_lowercase();
    name.strip_prefix("dualstack.").map(str::to_owned).unwrap_or(name)
}
