//! Which certificates a balancer has room for.
//!
//! A certificate that finds no room waits for it: the oldest claim to a host comes first.

use paas_domain::{AppId, HostName};

use super::super::book::{Book, Certificate, CertificateState};
use super::Terms;

/// What is wrong where there is no room, and what to do about it.
pub(super) fn no_room(terms: &Terms) -> String {
    format!(
        "The load balancer that this app is on has the {} certificates that it takes. Remove a custom domain of this \
         app, or have AWS raise the quota \"Certificates per Application Load Balancer\" and start the server with \
         --alb-certificates.",
        terms.quotas.certificates
    )
}

impl Book {
    /// How many certificates a shard has, or is to have.
    pub(super) fn certificates_on(&self, shard: u32) -> usize {
        let counted = |state| !matches!(state, CertificateState::Failed | CertificateState::NoRoom);
        let on = self.certificates.values().filter(|certificate| certificate.shard == Some(shard));
        on.filter(|certificate| counted(certificate.state)).count()
    }

    /// Whether a shard has, or has room for, the certificates of an app with these hosts; also where no other shard would
    /// have more room for them.
    pub(super) fn has_certificates_for(&self, shard: u32, app: &AppId, hosts: &[HostName], terms: &Terms) -> bool {
        let all = hosts.iter().filter(|host| !terms.is_ours(host)).count();
        if all > terms.quotas.for_newcomers().certificates {
            return true;
        }
        let there = |host: &HostName| {
            let row = self.certificates.get(&(app.clone(), host.clone()));
            row.is_some_and(|row| row.shard == Some(shard) && row.state != CertificateState::Failed)
        };
        let new = hosts.iter().filter(|host| !terms.is_ours(host) && !there(host)).count();
        new == 0 || self.certificates_on(shard) + new <= terms.quotas.certificates
    }

    /// Whether AWS has a certificate for the app.
    pub(super) fn shows_certificates(&self, app: &AppId) -> bool {
        self.certificates.iter().any(|((of, _), row)| of == app && (row.asked || row.arn.is_some()))
    }

    /// Whether the certificate of this host waits for room.
    pub(super) fn has_no_room(&self, app: &AppId, host: &HostName) -> bool {
        let row = self.certificates.get(&(app.clone(), host.clone()));
        row.is_some_and(|row| row.state == CertificateState::NoRoom)
    }

    /// The hosts of an app whose certificates wait for room.
    pub(super) fn certificates_without_room<'a>(&'a self, app: &'a AppId) -> impl Iterator<Item = &'a HostName> {
        let waiting = self.certificates.iter().filter(|(_, row)| row.state == CertificateState::NoRoom);
        waiting.filter(move |((of, _), _)| of == app).map(|((_, host), _)| host)
    }

    /// Makes certificates wanted for exactly the custom domains among these hosts.
    pub(super) fn keep_certificates(&mut self, app: &AppId, shard: u32, hosts: &[HostName], terms: &Terms) {
        for ((of, host), certificate) in &mut self.certificates {
            if of == app && !hosts.contains(host) && certificate.state != CertificateState::Going {
                certificate.leave();
            }
        }
        for host in hosts.iter().filter(|host| !terms.is_ours(host)) {
            let key = (app.clone(), host.clone());
            let there = self.certificates.remove(&key).unwrap_or_default();
            let room = self.certificates_on(shard) < terms.quotas.certificates;
            let kept = match there.state {
                CertificateState::Pending | CertificateState::Attached => there,
                _ if !room => Certificate {
                    state: CertificateState::NoRoom,
                    reason: Some(format!("{} It is requested as soon as there is room.", no_room(terms))),
                    arn: there.arn.clone(),
                    asked: there.asked,
                    nonce: there.nonce.clone(),
                    ..Certificate::default()
                },
                _ => wanted(there, shard),
            };
            self.certificates.insert(key, kept);
        }
    }

    /// Whether any certificate waits for room and there is some.
    pub(in crate::alb) fn has_room_for_waiting(&self, terms: &Terms) -> bool {
        !self.clone().take_up_waiting(terms).is_empty()
    }

    /// Makes those wanted that have waited for room, as many as there is room for. The apps whose they are.
    pub(in crate::alb) fn take_up_waiting(&mut self, terms: &Terms) -> Vec<AppId> {
        let waiting = self.certificates.iter().filter(|(_, row)| row.state == CertificateState::NoRoom);
        let mut waiting: Vec<(AppId, HostName)> = waiting.map(|(key, _)| key.clone()).collect();
        waiting.sort_by_key(|key| self.claims.get(key).copied());
        let mut apps = Vec::new();
        for key in waiting {
            let Some(shard) = self.shard_of(&key.0) else { continue };
            if self.certificates_on(shard) < terms.quotas.certificates
                && let Some(row) = self.certificates.remove(&key)
            {
                self.certificates.insert(key.clone(), wanted(row, shard));
                apps.push(key.0);
            }
        }
        apps.dedup();
        apps
    }
}

/// A certificate that is to be had, from where it stands.
fn wanted(there: Certificate, shard: u32) -> Certificate {
    let next = match there.arn {
        Some(_) => Certificate { state: CertificateState::Pending, reason: None, ..there },
        None => Certificate { asked: there.asked, nonce: there.nonce, ..Certificate::default() },
    };
    Certificate { shard: Some(shard), ..next }
}
