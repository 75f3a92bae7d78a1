//! DNS records below the platform's own domain: an alias of each host to the balancer of its app.
//!
//! Records carry no tags. One is ours when a row says so, and the row is written first: what is there though no row says
//! that we made it is somebody else's, is never touched, and is named in the error that the app gets. Only one that
//! leads to a balancer of ours is taken for what a crash behind the call has left.

use std::collections::BTreeMap;

use aws_sdk_route53::types::{AliasTarget, Change, ChangeAction, ChangeBatch, ResourceRecordSet, RrType};
use aws_smithy_types::error::operation::BuildError;
use paas_domain::{AppId, HostName};
use paas_ports::PortError;

use super::AlbIngress;
use super::book::{Book, Shard};
use crate::call::Call;
use crate::error::{AwsError, Kind};

/// The most records in one change; Route 53 takes 1,000, and counts an UPSERT twice.
pub(super) const RECORDS_AT_ONCE: usize = 400;

/// What making records is called in errors.
const DOING: &str = "making the app's DNS records";

fn alias(host: &HostName, shard: &Shard) -> Result<ResourceRecordSet, BuildError> {
    let target = AliasTarget::builder().dns_name(&shard.dns_name).hosted_zone_id(&shard.zone_id);
    let target = target.evaluate_target_health(false).build()?;
    ResourceRecordSet::builder().name(host.as_str()).r#type(RrType::A).alias_target(target).build()
}

impl AlbIngress {
    /// Makes these records, or changes those that are ours.
    ///
    /// # Errors
    /// Permanent, and names the record, when somebody else has one of these names. The other ones are made.
    pub(super) async fn make_records(&self, app: &AppId, hosts: &[HostName]) -> Result<(), PortError> {
        let book = self.change(|book| Ok(ask_for(book, app, hosts))).await?;
        let record = |host: &&HostName| book.routes.get(app).is_some_and(|route| route.records.contains_key(*host));
        let (ours, new): (Vec<&HostName>, Vec<&HostName>) =
            hosts.iter().filter(record).partition(|host| book.has_record(host));
        let mut wanted: Vec<(ChangeAction, &HostName)> = ours.into_iter().map(|h| (ChangeAction::Upsert, h)).collect();
        wanted.extend(new.iter().map(|host| (ChangeAction::Create, *host)));
        match self.lead_here(app, &book, &wanted).await {
            // All or none of a batch is done: something stands in the way of a new one.
            Err(error) if error.is(&["InvalidChangeBatch"]) && !new.is_empty() => {
                let sets = self.records_named(app, &new).await?;
                self.make_around(app, &book, wanted, &sets).await
            }
            done => self.note_records(app, &book, &wanted, done.map(drop)).await,
        }
    }

    /// Makes what nobody else has, and says of the first of the others whose it is not.
    async fn make_around(
        &self,
        app: &AppId,
        book: &Book,
        wanted: Vec<(ChangeAction, &HostName)>,
        there: &[ResourceRecordSet],
    ) -> Result<(), PortError> {
        let mut foreign = Vec::new();
        let mut possible = Vec::new();
        for (action, host) in wanted {
            let named = there.iter().find(|set| action == ChangeAction::Create && plain(set.name()) == host.as_str());
            match named {
                None => possible.push((action, host)),
                Some(set) if leads_to_us(book, set) => possible.push((ChangeAction::Upsert, host)),
                Some(set) => foreign.push((host, set.r#type().as_str().to_owned())),
            }
        }
        self.note(|book| {
            for (host, _) in &foreign {
                let record = book.routes.get_mut(app).and_then(|route| route.records.get_mut(*host));
                record.into_iter().for_each(|record| record.asked = false);
            }
        })
        .await?;
        let done = self.lead_here(app, book, &possible).await;
        self.note_records(app, book, &possible, done).await?;
        let Some((host, kind)) = foreign.first() else { return Ok(()) };
        let cause = format!(
            "somebody else has made the record {host} {kind} in the zone, and it is left as it is: delete it, or give \
             the app another name with `paas apps:rename`"
        );
        Err(PortError::permanent(DOING, cause))
    }

    async fn lead_here(&self, app: &AppId, book: &Book, wanted: &[(ChangeAction, &HostName)]) -> Result<(), AwsError> {
        let mut changes = Vec::new();
        for (action, host) in wanted {
            let record = book.routes.get(app).and_then(|route| route.records.get(*host));
            let Some(shard) = record.and_then(|record| book.shards.get(&record.shard)) else { continue };
            changes.push((action.clone(), alias(host, shard).map_err(|error| unbuilt(DOING, &error))?));
        }
        self.change_records(app, DOING, changes).await
    }

    async fn note_records(
        &self,
        app: &AppId,
        told: &Book,
        made: &[(ChangeAction, &HostName)],
        done: Result<(), AwsError>,
    ) -> Result<(), PortError> {
        done?;
        self.note(|book| {
            let Some(route) = book.routes.get_mut(app) else { return };
            for (_, host) in made {
                let shard = told.routes.get(app).and_then(|route| route.records.get(*host)).map(|record| record.shard);
                let Some(record) = route.records.get_mut(*host) else { continue };
                record.ours = true;
                record.told |= shard == Some(record.shard);
            }
        })
        .await
    }

    /// What the zone has of these names: addresses and aliases of names.
    async fn records_named(&self, app: &AppId, hosts: &[&HostName]) -> Result<Vec<ResourceRecordSet>, PortError> {
        let doing = "looking for a DNS record";
        let mut found = Vec::new();
        for host in hosts {
            let list = self.aws.route53.list_resource_record_sets().hosted_zone_id(&self.aws.foundation.hosted_zone_id);
            let list = list.start_record_name(host.as_str()).start_record_type(RrType::A).max_items(5).send();
            let page = self.aws.call(Call::ListResourceRecordSets, Some(app), doing, list).await?;
            let stands_there = |set: &&ResourceRecordSet| {
                plain(set.name()) == host.as_str() && matches!(set.r#type(), RrType::A | RrType::Cname)
            };
            found.extend(page.resource_record_sets().iter().filter(stands_there).cloned());
        }
        Ok(found)
    }

    /// Deletes one record, if it is ours and no other app has taken the name over.
    pub(super) async fn delete_record(&self, app: &AppId, host: &HostName) -> Result<(), PortError> {
        let doing = "deleting a DNS record";
        let book = self.book().await?;
        if !has_heir(&book, app, host)
            && let Some(record) = book.routes.get(app).and_then(|route| route.records.get(host))
            && (record.asked || record.is_ours())
            && let Some(shard) = book.shards.get(&record.shard)
        {
            let built = alias(host, shard).map_err(|error| unbuilt(doing, &error))?;
            match self.change_records(app, doing, vec![(ChangeAction::Delete, built)]).await {
                // It is not there, or leads elsewhere: not ours any more. AWS deletes only what is told word for word.
                Err(error) if error.is(&["InvalidChangeBatch"]) => {}
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
    ) -> Result<(), AwsError> {
        if changes.is_empty() {
            return Ok(());
        }
        let broken = |error: BuildError| unbuilt(doing, &error);
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

/// Says that these records are asked for, before they are.
fn ask_for(book: &mut Book, app: &AppId, hosts: &[HostName]) -> Book {
    for host in hosts {
        let record = book.routes.get_mut(app).and_then(|route| route.records.get_mut(host));
        record.into_iter().for_each(|record| record.asked = true);
    }
    book.clone()
}

fn unbuilt(doing: &str, error: &BuildError) -> AwsError {
    AwsError::own(Kind::Other, doing, error.to_string())
}

/// Whether a record is an alias to a balancer of ours.
fn leads_to_us(book: &Book, set: &ResourceRecordSet) -> bool {
    let target = set.alias_target().map(|target| plain(target.dns_name()));
    target.is_some_and(|target| book.shards.values().any(|shard| plain(&shard.dns_name) == target))
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
