//! Who goes where: decides on a [`Book`] alone, so that what cannot be placed fails before anything was touched.
//!
//! | priorities | what |
//! | --- | --- |
//! | 1 – 9,999 | exact hosts, 5 in a rule |
//! | 10,000 – 48,999 | wildcards, those with more labels first: `*.shop.example.com` before `*.example.com` |
//! | 49,000 – 50,000 | parked groups |
//!
//! ECS takes a target group only when a balancer knows it, and a rule has either a group or a page. So the groups of
//! apps in maintenance, without hosts or without a release share *parking* rules that no request can match, five in
//! each; an app that serves costs no rule beyond those of its hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use paas_domain::{AppId, HostName, ProcessType};
use paas_ports::{PortError, Route};

use super::book::{Answer, Book, Owner, Page, Record, Rule, digest};
use super::quota::{CERTIFICATE_LENGTH, GROUPS_PER_RULE, HOST_LENGTH, HOSTS_PER_RULE, Quotas};

mod certificates;

use certificates::no_room;

/// Priorities for parked groups.
const PARKING: RangeInclusive<u32> = 49_000..=50_000;
/// The first priority of wildcards.
const WILDCARDS: u32 = 10_000;
/// How many priorities wildcards of one length have: more than a balancer takes rules.
const PER_LENGTH: u32 = 300;

/// Why something has no place.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Every balancer is full: this one is to be made first.
    NeedsShard(u32),
    /// Anything else.
    Port(PortError),
}

impl From<PortError> for Refusal {
    fn from(error: PortError) -> Self {
        Self::Port(error)
    }
}

/// What decisions depend on besides the book.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) quotas: Quotas,
    /// Hosts below it get records; others are custom domains and get certificates.
    pub(crate) app_domain: String,
}

/// What is to come of a route, in one text.
pub(crate) fn wish(route: &Route) -> String {
    let mut hosts = route.hosts.clone();
    hosts.sort();
    let plain = digest(&(hosts, &route.attachment, route.released, route.maintenance));
    // Without affinity as it was before there was any: what was published by then stays published.
    if route.session_affinity { format!("{plain} sticky") } else { plain }
}

fn answer(route: &Route) -> Answer {
    match &route.attachment {
        _ if route.maintenance => Answer::Page(Page::Maintenance),
        _ if !route.released => Answer::Page(Page::Blank),
        Some(attachment) => Answer::Forward(attachment.0.clone()),
        None => Answer::Page(Page::NoWebDynos),
    }
}

/// Why no balancer takes a host in a rule; `None` when it does. AWS's API reference says of a host condition: at most
/// 128 characters, and "only alphabetical characters after the final '.'", so that no internationalised domain's end
/// (`xn--p1ai`) is one.
fn impossible(host: &HostName) -> Option<String> {
    let text = host.as_str();
    if text.len() > HOST_LENGTH {
        return Some(format!("{host} is longer than the {HOST_LENGTH} characters that a load balancer of AWS takes."));
    }
    let end = text.rsplit('.').next().unwrap_or_default();
    let letters = end.bytes().all(|byte| byte.is_ascii_alphabetic());
    (!letters)
        .then(|| format!("{host} can't be routed: after its last dot, a load balancer of AWS takes letters only."))
}

/// Whether no certificate of ACM can be for a host: RequestCertificate's `DomainName` "cannot exceed 64 octets".
fn certificate_cannot_be(host: &HostName) -> bool {
    host.as_str().len() > CERTIFICATE_LENGTH
}

/// The priorities that a rule of this host may have.
fn band(host: &HostName) -> RangeInclusive<u32> {
    if !host.as_str().starts_with("*.") {
        return 1..=WILDCARDS - 1;
    }
    let labels = u32::try_from(host.as_str().split('.').count()).unwrap_or(128).min(128);
    let first = WILDCARDS + (128 - labels) * PER_LENGTH;
    first..=first + PER_LENGTH - 1
}

impl Book {
    /// Whether an app could have exactly these hosts, each custom domain with its certificate.
    pub(crate) fn admits(&self, app: &AppId, hosts: &[HostName], terms: &Terms) -> Result<(), PortError> {
        let doing = "publishing the app's hosts";
        if let Some(cause) = hosts.iter().find_map(impossible) {
            return Err(PortError::permanent(doing, cause));
        }
        // What is published stays published.
        let is_new = |host: &HostName| !self.claims.contains_key(&(app.clone(), host.clone()));
        if let Some(host) =
            hosts.iter().find(|host| !terms.is_ours(host) && certificate_cannot_be(host) && is_new(host))
        {
            let cause =
                format!("{host} is longer than the {CERTIFICATE_LENGTH} characters that a certificate of AWS takes.");
            return Err(PortError::permanent(doing, cause));
        }
        let mut tried = self.clone();
        tried.claim(app, hosts);
        match tried.seat(app, terms) {
            Ok(()) => {}
            // Everything fits on a balancer that is to be made.
            Err(Refusal::NeedsShard(_)) => return Ok(()),
            Err(Refusal::Port(error)) => return Err(error),
        }
        // What waits already is no reason to refuse something else.
        match tried.certificates_without_room(app).find(|host| !self.has_no_room(app, host)) {
            Some(_) => Err(PortError::permanent(doing, no_room(terms))),
            None => Ok(()),
        }
    }

    /// Gives a process type of an app a group, to be made, and the app a shard.
    pub(crate) fn place(&mut self, app: &AppId, process_type: &ProcessType, terms: &Terms) -> Result<(), Refusal> {
        if self.shard_of(app).is_none() {
            let shard = self.choose_shard(1, 0, terms)?;
            let route = self.routes.entry(app.clone()).or_default();
            route.shard = Some(shard);
            route.wish = None;
        }
        self.routes.entry(app.clone()).or_default().removed = false;
        self.groups.entry((app.clone(), process_type.clone())).or_default();
        Ok(())
    }

    /// Makes `route` what is promised. The apps whose rules change: this one first, then those that lose hosts to it
    /// or get them back.
    pub(crate) fn publish(&mut self, route: &Route, terms: &Terms) -> Result<Vec<AppId>, Refusal> {
        let app = &route.app;
        let doing = || format!("publishing the hosts of {}", route.app_name);
        if self.routes.get(app).is_some_and(|row| row.generation > route.generation.0) {
            return Err(PortError::Superseded.into());
        }
        if let Some(attachment) = &route.attachment {
            let holder = self.groups.iter().find(|(_, group)| group.arn.as_ref() == Some(&attachment.0));
            match holder {
                None => return Err(PortError::NotFound("the target group".to_owned()).into()),
                Some(((of, _), _)) if of != app => {
                    return Err(PortError::permanent(doing(), "the target group is another app's").into());
                }
                Some(_) => {}
            }
        }
        if let Some(cause) = route.hosts.iter().find_map(impossible) {
            return Err(PortError::permanent(doing(), cause).into());
        }
        let before = self.owners();
        self.claim(app, &route.hosts);
        let after = self.owners();
        let mut others: BTreeSet<AppId> = BTreeSet::new();
        for host in before.keys().chain(after.keys()) {
            let pair = [before.get(host), after.get(host)];
            if pair[0] != pair[1] {
                others.extend(pair.into_iter().flatten().filter(|of| *of != app).cloned());
            }
        }
        let row = self.routes.entry(app.clone()).or_default();
        row.generation = route.generation.0;
        row.wish = Some(wish(route));
        row.answer = answer(route);
        row.sticky = route.session_affinity;
        row.removed = false;
        row.settled = false;
        self.seat(app, terms)?;
        let mut affected = vec![app.clone()];
        for other in others {
            let mut tried = self.clone();
            // Whether it fits is its own next publishing's to say.
            if tried.seat(&other, terms).is_ok() {
                *self = tried;
            }
            if let Some(row) = self.routes.get_mut(&other) {
                row.settled = false;
            }
            affected.push(other);
        }
        Ok(affected)
    }

    /// Takes everything of an app away but its generation. The apps that get hosts back by it.
    pub(crate) fn remove(&mut self, app: &AppId, terms: &Terms) -> Vec<AppId> {
        let had = self.hosts_of(app);
        self.claim(app, &[]);
        let heirs: BTreeSet<AppId> = had.iter().filter_map(|host| self.owner(host)).cloned().collect();
        for key in self.rules_of(app) {
            if let Some(rule) = self.rules.get_mut(&key) {
                rule.hosts.clear();
            }
        }
        let groups: Vec<String> = self.groups_of(app).cloned().collect();
        self.unpark(&groups);
        for ((of, _), certificate) in &mut self.certificates {
            if of == app {
                certificate.leave();
            }
        }
        if let Some(route) = self.routes.get_mut(app) {
            route.records.values_mut().for_each(|record| record.going = true);
            route.wish = None;
            route.settled = false;
            route.removed = true;
        }
        for heir in &heirs {
            let mut tried = self.clone();
            if tried.seat(heir, terms).is_ok() {
                *self = tried;
            }
            if let Some(row) = self.routes.get_mut(heir) {
                row.settled = false;
            }
        }
        heirs.into_iter().collect()
    }

    /// Moves an app that AWS was told nothing of yet away from a shard that turned out to be full.
    pub(crate) fn close_shard(&mut self, refused: (u32, u32), app: &AppId, terms: &Terms) -> Result<(), Refusal> {
        if let Some(row) = self.shards.get_mut(&refused.0) {
            row.closed = true;
        }
        if let Some(rule) = self.rules.get_mut(&refused).filter(|rule| rule.arn.is_none()) {
            rule.told = None;
        }
        if self.can_move(app) { self.seat(app, terms) } else { Ok(()) }
    }

    /// Leaves a priority to somebody else who has it, and gives the rule another one.
    pub(crate) fn give_way(&mut self, key: (u32, u32)) -> Result<(), PortError> {
        let Some(rule) = self.rules.remove(&key) else { return Ok(()) };
        self.rules.insert(key, Rule::new(Owner::Foreign));
        let band = rule.hosts.first().map_or(PARKING, band);
        let other = free(&self.rules, key.0, band)?;
        self.rules.insert(other, Rule { arn: None, told: None, ..rule });
        Ok(())
    }

    /// Takes groups out of their parking rules.
    pub(crate) fn unpark(&mut self, groups: &[String]) {
        for rule in self.rules.values_mut().filter(|rule| rule.of == Owner::Parking) {
            rule.groups.retain(|group| !groups.contains(group));
        }
    }

    /// The groups of an app that are parked though one of its rules names them by now.
    pub(crate) fn parked_needlessly(&self, app: &AppId) -> Vec<String> {
        let Some(Answer::Forward(serving)) = self.routes.get(app).map(|route| &route.answer) else { return vec![] };
        let keys = self.rules_of(app);
        let mut rules = keys.iter().filter_map(|key| self.rules.get(key));
        let named = rules.any(|rule| !rule.hosts.is_empty() && self.is_told(rule));
        let parked = self.rules.values().any(|rule| rule.of == Owner::Parking && rule.groups.contains(serving));
        if named && parked { vec![serving.clone()] } else { vec![] }
    }

    fn owners(&self) -> BTreeMap<HostName, AppId> {
        let mut newest: BTreeMap<&HostName, (u64, &AppId)> = BTreeMap::new();
        for ((app, host), claim) in &self.claims {
            let best = newest.entry(host).or_insert((*claim, app));
            if best.0 < *claim {
                *best = (*claim, app);
            }
        }
        newest.into_iter().map(|(host, (_, app))| (host.clone(), app.clone())).collect()
    }

    /// Makes `hosts` the claims of an app; those that it had keep their age.
    fn claim(&mut self, app: &AppId, hosts: &[HostName]) {
        self.claims.retain(|(of, host), _| of != app || hosts.contains(host));
        let mut newest = self.claims.values().max().copied().unwrap_or(0);
        for host in hosts {
            self.claims.entry((app.clone(), host.clone())).or_insert_with(|| {
                newest += 1;
                newest
            });
        }
    }

    /// Whether another shard would do as well. A group stays with the balancer that knows it, and so does a certificate
    /// that its listener shows; an app that has neither yet, as before its first push, moves.
    fn can_move(&self, app: &AppId) -> bool {
        let parked = self.groups_of(app).any(|group| self.rules.values().any(|rule| rule.groups.contains(group)));
        let untold = |rule: &Rule| rule.arn.is_none() && rule.told.is_none();
        let keys = self.rules_of(app);
        let untold = keys.iter().all(|key| self.rules.get(key).is_none_or(untold));
        let serves = self.groups_of(app).next().is_some() || self.shows_certificates(app);
        !parked && (untold || !serves)
    }

    /// Gives an app rules for exactly its hosts, a place for its groups, records and certificates.
    fn seat(&mut self, app: &AppId, terms: &Terms) -> Result<(), Refusal> {
        let hosts = self.hosts_of(app);
        let shard = match self.shard_of(app).map(|shard| (shard, self.lay_out(app, shard, &hosts, terms))) {
            Some((shard, Ok(()))) if !self.is_closed_to(shard, app, &hosts, terms) => shard,
            Some((_, Err(error))) if !self.can_move(app) => return Err(error.into()),
            _ => {
                self.leave_shard(app);
                let mut bands: BTreeMap<u32, usize> = BTreeMap::new();
                hosts.iter().for_each(|host| *bands.entry(*band(host).start()).or_default() += 1);
                let rules = bands.values().map(|count| count.div_ceil(HOSTS_PER_RULE)).sum();
                let custom = hosts.iter().filter(|host| !terms.is_ours(host)).count();
                let shard = self.choose_shard(rules, custom, terms)?;
                self.routes.entry(app.clone()).or_default().shard = Some(shard);
                self.lay_out(app, shard, &hosts, terms)?;
                shard
            }
        };
        self.park_idle(app, shard, terms)?;
        self.keep_records(app, shard, &hosts, terms);
        self.keep_certificates(app, shard, &hosts, terms);
        Ok(())
    }

    /// Whether an app had better go elsewhere, and can: the shard is full, of whatever, or of certificates.
    fn is_closed_to(&self, shard: u32, app: &AppId, hosts: &[HostName], terms: &Terms) -> bool {
        let closed = self.shards.get(&shard).is_some_and(|row| row.closed);
        (closed || !self.has_certificates_for(shard, app, hosts, terms)) && self.can_move(app)
    }

    /// Takes the app's rules away from where it is: at once those that AWS was never told, the others once the new
    /// place has theirs.
    fn leave_shard(&mut self, app: &AppId) {
        for key in self.rules_of(app) {
            match self.rules.get_mut(&key) {
                Some(rule) if rule.arn.is_some() || rule.told.is_some() => rule.hosts.clear(),
                _ => drop(self.rules.remove(&key)),
            }
        }
    }

    /// The first shard with room for a newcomer that needs this much.
    fn choose_shard(&self, rules: usize, certificates: usize, terms: &Terms) -> Result<u32, Refusal> {
        let quotas = terms.quotas.for_newcomers();
        if rules > quotas.rules {
            let cause = format!(
                "its host names need {rules} listener rules ({HOSTS_PER_RULE} host names each), and a load balancer \
                 takes {} of one app: remove domains with `paas domains:remove`",
                quotas.rules
            );
            return Err(PortError::permanent("placing an app on a load balancer", cause).into());
        }
        for (number, row) in &self.shards {
            let fits = !row.closed
                && self.apps_on(*number) < quotas.groups
                && self.rules_on(*number) + rules <= quotas.rules
                // Who has no domain yet gets one, as likely as not.
                && self.certificates_on(*number) + certificates.max(1).min(quotas.certificates) <= quotas.certificates;
            match fits {
                true if row.is_ready() => return Ok(*number),
                true => return Err(Refusal::NeedsShard(*number)),
                false => {}
            }
        }
        Err(Refusal::NeedsShard(self.shards.keys().max().map_or(1, |last| last + 1)))
    }

    fn apps_on(&self, shard: u32) -> usize {
        self.routes.values().filter(|route| route.shard == Some(shard)).count()
    }

    fn rules_on(&self, shard: u32) -> usize {
        self.rules.range((shard, 0)..=(shard, u32::MAX)).count()
    }

    /// Makes the app's rules on this shard name exactly these hosts; changes nothing when they do not fit.
    ///
    /// A host stays in the rule that it is in, so that the fewest rules change.
    fn lay_out(&mut self, app: &AppId, shard: u32, hosts: &[HostName], terms: &Terms) -> Result<(), PortError> {
        let mut rules = self.rules.clone();
        let mut keys: Vec<(u32, u32)> = self.rules_of(app).into_iter().filter(|key| key.0 == shard).collect();
        let mut left: Vec<&HostName> = hosts.iter().collect();
        for key in &keys {
            let Some(rule) = rules.get_mut(key) else { continue };
            rule.hosts.retain(|host| hosts.contains(host));
            left.retain(|host| !rule.hosts.contains(host));
        }
        let had = keys.len();
        for host in left {
            let band = band(host);
            let roomy = keys.iter().find(|(_, priority)| {
                band.contains(priority)
                    && rules.get(&(shard, *priority)).is_some_and(|rule| rule.hosts.len() < HOSTS_PER_RULE)
            });
            let key = match roomy {
                Some(key) => *key,
                None => {
                    let key = free(&rules, shard, band)?;
                    keys.push(key);
                    key
                }
            };
            rules.entry(key).or_insert_with(|| Rule::new(Owner::App(app.clone()))).hosts.push(host.clone());
        }
        let of_hosts = rules.range((shard, 0)..=(shard, u32::MAX)).filter(|(_, rule)| rule.of != Owner::Parking);
        let (of_hosts, most) = (of_hosts.count(), terms.quotas.rules_for_hosts());
        if keys.len() > had && of_hosts > most {
            let cause = format!(
                "The app's load balancer has room for {most} listener rules and this would need {of_hosts}: remove \
                 domains of this app with `paas domains:remove`, {HOSTS_PER_RULE} for each rule, or have AWS raise the \
                 quota \"Rules per Application Load Balancer\" and start the server with --alb-rules"
            );
            return Err(PortError::permanent("placing an app's hosts on its load balancer", cause));
        }
        self.rules = rules;
        Ok(())
    }

    /// Parks the groups of an app that none of its rules will name.
    fn park_idle(&mut self, app: &AppId, shard: u32, terms: &Terms) -> Result<(), Refusal> {
        let answer = self.routes.get(app).map(|route| route.answer.clone());
        let hosts = self.rules_of(app).iter().any(|key| self.rules.get(key).is_some_and(|r| !r.hosts.is_empty()));
        let groups: Vec<String> = self.groups_of(app).cloned().collect();
        for group in groups {
            let named = hosts && answer == Some(Answer::Forward(group.clone()));
            let mut parking = self.rules.range((shard, 0)..=(shard, u32::MAX)).filter(|(_, r)| r.of == Owner::Parking);
            if named || parking.clone().any(|(_, rule)| rule.groups.contains(&group)) {
                continue;
            }
            let roomy = parking.find(|(_, rule)| rule.groups.len() < GROUPS_PER_RULE).map(|(key, _)| *key);
            let key = match roomy {
                Some(key) => key,
                None if self.rules_on(shard) >= terms.quotas.rules => {
                    let cause = "its load balancer has no rule left: remove rules that are not this installation's, or \
                                 have AWS raise the quota \"Rules per Application Load Balancer\" and start the server \
                                 with --alb-rules";
                    return Err(PortError::permanent("keeping an app's target group", cause).into());
                }
                None => free(&self.rules, shard, PARKING)?,
            };
            self.rules.entry(key).or_insert_with(|| Rule::new(Owner::Parking)).groups.push(group);
        }
        Ok(())
    }

    fn keep_records(&mut self, app: &AppId, shard: u32, hosts: &[HostName], terms: &Terms) {
        let Some(route) = self.routes.get_mut(app) else { return };
        for (host, record) in &mut route.records {
            record.going = !hosts.contains(host);
            if record.shard != shard {
                *record = Record { shard, told: false, ours: record.is_ours(), ..record.clone() };
            }
        }
        for host in hosts.iter().filter(|host| terms.is_ours(host)) {
            route.records.entry(host.clone()).or_insert_with(|| Record { shard, ..Record::default() });
        }
    }
}

impl Terms {
    /// Whether a host is below the platform's own domain.
    pub(crate) fn is_ours(&self, host: &HostName) -> bool {
        host.as_str().strip_suffix(&self.app_domain).is_some_and(|rest| rest.ends_with('.'))
    }
}

impl Rule {
    pub(crate) fn new(of: Owner) -> Self {
        Self { of, hosts: Vec::new(), groups: Vec::new(), arn: None, told: None }
    }
}

/// The lowest priority that no rule has.
fn free(
    rules: &BTreeMap<(u32, u32), Rule>,
    shard: u32,
    mut band: RangeInclusive<u32>,
) -> Result<(u32, u32), PortError> {
    let found = band.find(|priority| !rules.contains_key(&(shard, *priority)));
    found.map(|priority| (shard, priority)).ok_or_else(|| {
        PortError::permanent("placing an app on a load balancer", "every priority of its listener is taken")
    })
}

#[cfg(test)]
mod tests;
