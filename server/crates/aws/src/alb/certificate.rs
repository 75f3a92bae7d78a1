//! Certificates of custom domains: requested when a domain comes, shown by its app's listener once AWS has issued
//! it, deleted when the domain goes.
//!
//! A certificate is never in the way of a route: what goes wrong with it is kept in its row, which the API shows.

use std::sync::PoisonError;
use std::time::Duration;

use aws_sdk_acm::types::{CertificateDetail, CertificateStatus, Tag, ValidationMethod};
use aws_sdk_elasticloadbalancingv2::types::Certificate as ListenerCertificate;
use paas_domain::{AppId, HostName};
use paas_ports::{PortError, outside};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::AlbIngress;
use super::book::{Book, Certificate, CertificateState, ValidationRecord};
use super::group::{APP, INSTALL};
use crate::call::Call;
use crate::error::Kind;

/// How often a certificate that waits for its owner is looked at. AWS gives it 72 hours.
const LOOK_EVERY: Duration = Duration::from_secs(25);

impl AlbIngress {
    /// Moves every certificate a step on: requests, looks whether AWS has issued it, shows, deletes. To be called
    /// now and then ([`AlbIngress::repair`] does it); publishing a route does it for its app. Makes no call when every
    /// certificate is at rest.
    pub async fn look_at_certificates(&self) {
        outside::check("AlbIngress::look_at_certificates");
        self.work_on_certificates(None).await;
    }

    /// The same for one app, when it has a certificate that is not at rest and the last look was a while ago.
    pub(super) async fn tend_certificates(&self, app: &AppId) {
        let looked = self.restless.lock().unwrap_or_else(PoisonError::into_inner).get(app).copied();
        if looked.is_some_and(|at| at.elapsed() >= LOOK_EVERY) {
            self.work_on_certificates(Some(app)).await;
        }
    }

    fn note_restless(&self, book: &Book, of: Option<&AppId>) {
        let at_rest =
            |state| matches!(state, CertificateState::Attached | CertificateState::Failed | CertificateState::NoRoom);
        let mut restless = self.restless.lock().unwrap_or_else(PoisonError::into_inner);
        restless.retain(|app, _| of.is_some_and(|of| of != app));
        for ((app, _), _) in book.certificates.iter().filter(|(_, certificate)| !at_rest(certificate.state)) {
            if of.is_none_or(|of| of == app) {
                restless.insert(app.clone(), Instant::now());
            }
        }
    }

    /// The same for one app, and for those that get the room which it gives up. What goes wrong is kept in the rows.
    pub(super) async fn work_on_certificates(&self, of: Option<&AppId>) {
        self.move_certificates_on(of).await;
        match self.take_up_waiting().await {
            Ok(apps) => {
                for app in &apps {
                    self.move_certificates_on(Some(app)).await;
                }
            }
            Err(error) => tracing::warn!(%error, "certificates that wait for room are looked at next time"),
        }
    }

    async fn take_up_waiting(&self) -> Result<Vec<AppId>, PortError> {
        if !self.book().await?.has_room_for_waiting(&self.terms) {
            return Ok(vec![]);
        }
        self.change(|book| Ok(book.take_up_waiting(&self.terms))).await
    }

    async fn move_certificates_on(&self, of: Option<&AppId>) {
        let book = match self.book().await {
            Ok(book) => book,
            Err(error) => {
                tracing::warn!(%error, "certificates are looked at next time");
                return;
            }
        };
        self.note_restless(&book, of);
        for ((app, host), certificate) in &book.certificates {
            if of.is_some_and(|of| of != app) {
                continue;
            }
            let done = match certificate.state {
                CertificateState::Wanted => self.request(app, host).await,
                CertificateState::Pending => self.look(app, host, certificate).await,
                CertificateState::Going => self.delete(app, host, certificate).await,
                CertificateState::Attached | CertificateState::Failed | CertificateState::NoRoom => Ok(()),
            };
            if let Err(error) = done {
                tracing::warn!(%app, %host, %error, "the domain's certificate");
                self.explain(app, host, &error).await;
            }
        }
    }

    /// Keeps why a certificate does not move on. It is tried again: a policy or a quota may be changed.
    async fn explain(&self, app: &AppId, host: &HostName, error: &PortError) {
        let reason = error.to_string();
        let noted = self.update(app, host, |row| {
            if row.state != CertificateState::Going {
                row.reason = Some(reason.clone());
            }
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "what is wrong with a certificate could not be kept");
        }
    }

    async fn update(
        &self,
        app: &AppId,
        host: &HostName,
        mut change: impl FnMut(&mut Certificate) + Send,
    ) -> Result<(), PortError> {
        let key = (app.clone(), host.clone());
        self.note(|book| {
            if let Some(row) = book.certificates.get_mut(&key) {
                change(row);
            }
        })
        .await
    }

    async fn request(&self, app: &AppId, host: &HostName) -> Result<(), PortError> {
        // It is known to be asked for before it is: a crash behind the call leaves nothing that nobody deletes.
        let (fresh, mut nonce) = (nonce(), String::new());
        self.update(app, host, |row| {
            if !row.asked {
                (row.asked, row.nonce) = (true, fresh.clone());
            }
            nonce.clone_from(&row.nonce);
        })
        .await?;
        let arn = self.ask(app, host, &nonce).await?;
        let mut requested = Certificate::default();
        self.update(app, host, |row| {
            row.arn = Some(arn.clone());
            if row.state == CertificateState::Wanted {
                row.state = CertificateState::Pending;
            }
            requested = row.clone();
        })
        .await?;
        // The validation record may be known by now.
        if requested.state == CertificateState::Pending { self.look(app, host, &requested).await } else { Ok(()) }
    }

    /// Requests a certificate; the same one when it was requested within the hour.
    async fn ask(&self, app: &AppId, host: &HostName, nonce: &str) -> Result<String, PortError> {
        let doing = format!("requesting a certificate for {host}");
        let tag = |key: &str, value: &str| {
            Tag::builder().key(key).value(value).build().map_err(|error| PortError::permanent(&doing, error))
        };
        let request = self.aws.acm.request_certificate().domain_name(host.as_str());
        let request = request.validation_method(ValidationMethod::Dns).idempotency_token(token(app, host, nonce));
        let request = request.tags(tag(INSTALL, self.aws.install.as_str())?).tags(tag(APP, app.as_str())?);
        let answer = self.aws.call(Call::RequestCertificate, Some(app), &doing, request.send()).await?;
        let arn = answer.certificate_arn().map(str::to_owned);
        arn.ok_or_else(|| PortError::transient(&doing, "AWS did not say its ARN"))
    }

    async fn look(&self, app: &AppId, host: &HostName, certificate: &Certificate) -> Result<(), PortError> {
        let doing = format!("looking at the certificate of {host}");
        let Some(arn) = &certificate.arn else { return Ok(()) };
        let describe = self.aws.acm.describe_certificate().certificate_arn(arn).send();
        let found = match self.aws.call(Call::DescribeCertificate, Some(app), &doing, describe).await {
            Ok(found) => found,
            Err(error) if error.kind == Kind::NotFound && certificate.validation.is_some() => {
                // Somebody has deleted it: another one is requested.
                return self
                    .update(app, host, |row| *row = Certificate { shard: row.shard, ..Certificate::default() })
                    .await;
            }
            Err(error) if error.kind == Kind::NotFound => return Err(PortError::transient(doing, error.message)),
            Err(error) => return Err(error.into()),
        };
        let Some(detail) = found.certificate() else { return Ok(()) };
        match detail.status() {
            Some(CertificateStatus::Issued) => self.attach(app, host, arn).await,
            Some(CertificateStatus::PendingValidation) | None => {
                let validation = validation_record(detail);
                if certificate.validation == validation && certificate.reason.is_none() {
                    return Ok(());
                }
                self.update(app, host, |row| (row.validation, row.reason) = (validation.clone(), None)).await
            }
            Some(status) => {
                let why = detail.failure_reason().map_or(String::new(), |reason| format!(" ({reason})"));
                let reason = format!(
                    "AWS says {status}{why}. Make the validation record, then remove the domain and add it again."
                );
                self.update(app, host, |row| {
                    if row.state == CertificateState::Pending {
                        (row.state, row.reason) = (CertificateState::Failed, Some(reason.clone()));
                    }
                })
                .await
            }
        }
    }

    async fn attach(&self, app: &AppId, host: &HostName, arn: &str) -> Result<(), PortError> {
        let doing = format!("adding the certificate of {host} to the app's load balancer");
        let book = self.book().await?;
        let shard = book.shard_of(app);
        let Some(listener) = shard.and_then(|shard| book.shards.get(&shard)?.listener.clone()) else { return Ok(()) };
        let certificate = ListenerCertificate::builder().certificate_arn(arn).build();
        let add = self.aws.elb.add_listener_certificates().listener_arn(listener).certificates(certificate).send();
        self.aws.call(Call::AddListenerCertificates, Some(app), &doing, add).await?;
        self.update(app, host, |row| {
            row.shard = shard;
            if row.state == CertificateState::Pending {
                (row.state, row.reason) = (CertificateState::Attached, None);
            }
        })
        .await
    }

    async fn delete(&self, app: &AppId, host: &HostName, certificate: &Certificate) -> Result<(), PortError> {
        let doing = format!("deleting the certificate of {host}");
        let arn = match &certificate.arn {
            None if certificate.asked => Some(self.ask(app, host, &certificate.nonce).await?),
            arn => arn.clone(),
        };
        if let Some(arn) = &arn {
            let book = self.book().await?;
            let shard = certificate.shard.and_then(|shard| book.shards.get(&shard));
            if let Some(listener) = shard.and_then(|shard| shard.listener.clone()) {
                let shown = ListenerCertificate::builder().certificate_arn(arn).build();
                let remove = self.aws.elb.remove_listener_certificates().listener_arn(listener).certificates(shown);
                match self.aws.call(Call::RemoveListenerCertificates, Some(app), &doing, remove.send()).await {
                    Ok(_) => {}
                    Err(error) if error.kind == Kind::NotFound => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let delete = self.aws.acm.delete_certificate().certificate_arn(arn).send();
            match self.aws.call(Call::DeleteCertificate, Some(app), &doing, delete).await {
                Ok(_) => {}
                Err(error) if error.kind == Kind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        let key = (app.clone(), host.clone());
        self.note(|book| match book.certificates.get_mut(&key) {
            Some(row) if row.state == CertificateState::Going => drop(book.certificates.remove(&key)),
            // The domain came back meanwhile.
            Some(row) => *row = Certificate { shard: row.shard, ..Certificate::default() },
            None => {}
        })
        .await
    }
}

/// The same for an hour at AWS: a request that is repeated makes one certificate. At most 32 characters.
fn token(app: &AppId, host: &HostName, nonce: &str) -> String {
    // One that was asked for before there was a nonce keeps its token.
    let words = if nonce.is_empty() { format!("{app} {host}") } else { format!("{app} {host} {nonce}") };
    data_encoding::HEXLOWER.encode(&Sha256::digest(words)[..16])
}

fn nonce() -> String {
    let mut random = [0_u8; 8];
    // Without randomness it is the token of the certificate before, as AWS may answer it.
    let _ = getrandom::fill(&mut random);
    data_encoding::HEXLOWER.encode(&random)
}

fn validation_record(detail: &CertificateDetail) -> Option<ValidationRecord> {
    let record = detail.domain_validation_options().iter().find_map(|option| option.resource_record())?;
    Some(ValidationRecord {
        name: record.name().to_owned(),
        kind: record.r#type().as_str().to_owned(),
        value: record.value().to_owned(),
    })
}
