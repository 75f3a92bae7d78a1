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

use super::book::{Answer, Book, Certificate, CertificateState, Group, Owner, Page, Record, Rule, digest};
use super::quota::{GROUPS_PER_RULE, HOST_LENGTH, HOSTS_PER_RULE, Quotas};

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
    digest(&(hosts, &route.attachment, route.released, route.maintenance))
}

fn answer(route: &Route) -> Answer {
    match &route.attachment {
        _ if route.maintenance => Answer::Page(Page::Maintenance),
        _ if !route.released => Answer::Page(Page::Blank),
        Some(attachment) => Answer::Forward(attachment.0.clone()),
        None => Answer::Page(Page::NoWebDynos),
    }
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
    /// Gives a process type of an app a group, to be made, and the app a shard.
    pub(crate) fn place(&mut self, app: &AppId, process_type: &ProcessType, terms: &Terms) -> Result<(), Refusal> {
        if self.shard_of(app).is_none() {
            let shard = self.choose_shard(1, 0, terms)?;
            let route = self.routes.entry(app.clone()).or_default();
            route.shard = Some(shard);
            route.wish = None;
        }
        self.routes.entry(app.clone()).or_default().removed = false;
        self.groups.entry((app.clone(), process_type.clone())).or_insert_with(Group::default);
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
        if let Some(long) = route.hosts.iter().find(|host| host.as_str().len() > HOST_LENGTH) {
            let cause = format!("{long} is longer than the {HOST_LENGTH} characters that a load balancer looks at");
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

    /// Whether nothing of an app is on its shard yet, so that another one would do.
    fn can_move(&self, app: &AppId) -> bool {
        let parked = self.groups_of(app).any(|group| self.rules.values().any(|rule| rule.groups.contains(group)));
        let untold = self
            .rules_of(app)
            .iter()
            .all(|key| self.rules.get(key).is_none_or(|rule| rule.arn.is_none() && rule.told.is_none()));
        untold && !parked
    }

    /// Gives an app rules for exactly its hosts, a place for its groups, records and certificates.
    fn seat(&mut self, app: &AppId, terms: &Terms) -> Result<(), Refusal> {
        let hosts = self.hosts_of(app);
        let shard = match self.shard_of(app).map(|shard| (shard, self.lay_out(app, shard, &hosts, terms))) {
            Some((shard, Ok(()))) if !self.is_closed_to(shard, app) => shard,
            Some((_, Err(error))) if !self.can_move(app) => return Err(error.into()),
            _ => {
                for key in self.rules_of(app) {
                    self.rules.remove(&key);
                }
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

    fn is_closed_to(&self, shard: u32, app: &AppId) -> bool {
        self.shards.get(&shard).is_some_and(|row| row.closed) && self.can_move(app)
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
                && self.certificates_on(*number) + certificates.min(quotas.certificates) <= quotas.certificates;
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

    fn certificates_on(&self, shard: u32) -> usize {
        let counted = |state| !matches!(state, CertificateState::Failed);
        let on = self.certificates.values().filter(|certificate| certificate.shard == Some(shard));
        on.filter(|certificate| counted(certificate.state)).count()
    }

    /// Makes the app's rules on this shard name exactly these hosts; changes nothing when they do not fit.
    ///
    /// A host stays in the rule that it is in, so that the fewest rules change.
    fn lay_out(&mut self, app: &AppId, shard: u32, hosts: &[HostName], terms: &Terms) -> Result<(), PortError> {
        let mut rules = self.rules.clone();
        let mut keys = self.rules_of(app);
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
                "its load balancer has room for {most} listener rules and this would need {of_hosts}: remove domains \
                 with `paas domains:remove`, 5 for each rule"
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
                    let cause = "its load balancer has no rule left: remove domains with `paas domains:remove`, or \
                                 have AWS raise the quota \"Rules per Application Load Balancer\"";
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
                *record = Record { shard, told: false, ..record.clone() };
            }
        }
        for host in hosts.iter().filter(|host| terms.is_ours(host)) {
            route.records.entry(host.clone()).or_insert(Record { shard, told: false, going: false });
        }
    }

    fn keep_certificates(&mut self, app: &AppId, shard: u32, hosts: &[HostName], terms: &Terms) {
        for ((of, host), certificate) in &mut self.certificates {
            if of == app && !hosts.contains(host) && certificate.state != CertificateState::Going {
                certificate.leave();
            }
        }
        for host in hosts.iter().filter(|host| !terms.is_ours(host)) {
            let key = (app.clone(), host.clone());
            let there = self.certificates.get(&key).cloned().unwrap_or_default();
            let wanted = match (there.state, &there.arn) {
                (CertificateState::Pending | CertificateState::Attached, _) => continue,
                (_, Some(_)) => Certificate { state: CertificateState::Pending, reason: None, ..there.clone() },
                (_, None) => Certificate { asked: there.asked, ..Certificate::default() },
            };
            let wanted = Certificate { shard: Some(shard), ..wanted };
            self.certificates.remove(&key);
            let room = self.certificates_on(shard) < terms.quotas.certificates;
            let refused = || Certificate {
                state: CertificateState::Failed,
                reason: Some(format!(
                    "The app's load balancer has its {} certificates already. Remove a custom domain of an app on it, \
                     or have AWS raise the quota \"Certificates per Application Load Balancer\".",
                    terms.quotas.certificates
                )),
                arn: there.arn.clone(),
                asked: there.asked,
                ..Certificate::default()
            };
            self.certificates.insert(key, if room { wanted } else { refused() });
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
