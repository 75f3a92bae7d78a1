//! The AWS drivers' memory and the runtime's notes over the store, and what an app's owner sees of them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use paas_aws::DynoNotes;
use paas_aws::alb::{Certificate, CertificateState};
use paas_aws::ledger::{CERTIFICATE, Change, Key, Ledger, Slot};
use paas_domain::{AppId, HostName, ProcessType};
use paas_ports::{PortError, outside};
use paas_store::{AppScope, AwsRow, Store, StoreError, Uow};

/// A [`Ledger`] and [`DynoNotes`] in the installation's database.
#[derive(Clone)]
pub struct StoreLedger(Store);

impl StoreLedger {
    /// In this database.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(store)
    }
}

/// A custom domain's certificate as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateShown {
    /// Heroku's word: `pending`, `ok` or `failed`.
    pub status: &'static str,
    /// Which record the owner is to make, or what is wrong.
    pub reason: Option<String>,
}

/// The certificates of an app's custom domains; none on a platform without them.
///
/// # Errors
/// When the database does not answer.
pub async fn certificates(uow: &mut Uow, app: &AppScope) -> Result<BTreeMap<HostName, CertificateShown>, StoreError> {
    let mut shown = BTreeMap::new();
    for row in uow.aws_rows_of(app, CERTIFICATE).await? {
        let host = row.name.parse().map_err(|_| StoreError::Corrupt("host name"))?;
        let certificate = Certificate::read(&row.body).map_err(|_| StoreError::Corrupt("certificate"))?;
        shown.extend(show(&certificate).map(|certificate| (host, certificate)));
    }
    Ok(shown)
}

fn show(certificate: &Certificate) -> Option<CertificateShown> {
    let record = certificate.validation.as_ref().map(|record| {
        let (name, value) = (record.name.trim_end_matches('.'), record.value.trim_end_matches('.'));
        format!("Make this DNS record, and keep it: {name} {} {value}", record.kind)
    });
    let reason = certificate.reason.clone();
    Some(match certificate.state {
        CertificateState::Wanted | CertificateState::Pending => {
            let soon = "AWS has not said yet which DNS record is to be made. Look again in a minute.";
            CertificateShown { status: "pending", reason: reason.or(record).or_else(|| Some(soon.to_owned())) }
        }
        CertificateState::Attached => CertificateShown { status: "ok", reason: None },
        CertificateState::Failed | CertificateState::NoRoom => CertificateShown { status: "failed", reason },
        CertificateState::Going => return None,
    })
}

fn failed(error: StoreError) -> PortError {
    match error {
        StoreError::Corrupt(_) => PortError::permanent("reading what AWS was told", error),
        _ => PortError::transient("reading what AWS was told", error),
    }
}

fn row(key: &Key, body: String) -> AwsRow {
    let (kind, owner, name) = key.parts();
    AwsRow { kind: kind.to_owned(), owner, name, body }
}

#[async_trait]
impl Ledger for StoreLedger {
    async fn rows(&self) -> Result<(i64, Vec<(Key, String)>), PortError> {
        let read = outside::task(async {
            let mut uow = self.0.read().await?;
            let revision = uow.aws_revision().await?;
            let mut rows = Vec::new();
            for row in uow.aws_rows().await? {
                let key = Key::from_parts(&row.kind, &row.owner, &row.name).ok_or(StoreError::Corrupt("ledger key"))?;
                rows.push((key, row.body));
            }
            Ok((revision, rows))
        });
        read.await.map_err(failed)
    }

    async fn row(&self, key: &Key) -> Result<Option<String>, PortError> {
        let (kind, owner, name) = key.parts();
        let read = outside::task(async { self.0.read().await?.aws_row(kind, &owner, &name).await });
        read.await.map_err(failed)
    }

    async fn write(&self, revision: i64, changes: Vec<Change>) -> Result<bool, PortError> {
        let written = outside::task(async {
            let mut uow = self.0.begin().await?;
            if !uow.raise_aws_revision(revision).await? {
                return Ok(false);
            }
            for change in changes {
                match change {
                    Change::Put(key, body) => uow.put_aws_row(&row(&key, body)).await?,
                    Change::Delete(key) => {
                        let (kind, owner, name) = key.parts();
                        uow.delete_aws_row(kind, &owner, &name).await?;
                    }
                }
            }
            uow.save().await?;
            Ok(true)
        });
        written.await.map_err(failed)
    }

    async fn take_slot(&self, app: &AppId, process_type: &ProcessType, task: &str) -> Result<u32, PortError> {
        loop {
            let taken = outside::task(async {
                let mut uow = self.0.begin().await?;
                let slot = uow.take_aws_slot(app, process_type, task).await?;
                uow.save().await?;
                Ok(slot)
            });
            match taken.await {
                // Another server took the same one at the same moment: the next look finds another.
                Err(StoreError::Taken(_)) => {}
                other => return other.map_err(failed),
            }
        }
    }

    async fn free_slot(&self, task: &str) -> Result<(), PortError> {
        let freed = outside::task(async {
            let mut uow = self.0.begin().await?;
            uow.free_aws_slot(task).await?;
            uow.save().await
        });
        freed.await.map_err(failed)
    }

    async fn slots(&self, app: &AppId) -> Result<Vec<Slot>, PortError> {
        let read = outside::task(async { self.0.read().await?.aws_slots(app).await });
        let slots = read.await.map_err(failed)?.into_iter();
        Ok(slots.map(|slot| Slot { process_type: slot.process_type, slot: slot.slot, task: slot.task }).collect())
    }

    async fn is_destroyed(&self, app: &AppId) -> Result<bool, PortError> {
        outside::task(async { Ok(!self.0.read().await?.app_lives(app).await?) }).await.map_err(failed)
    }
}

#[async_trait]
impl DynoNotes for StoreLedger {
    async fn notes(&self, app: &AppId) -> Result<BTreeMap<String, String>, PortError> {
        outside::task(async { self.0.read().await?.dyno_notes(app).await }).await.map_err(failed)
    }

    async fn find_note(&self, key: &str) -> Result<Option<(AppId, String)>, PortError> {
        outside::task(async { self.0.read().await?.find_dyno_note(key).await }).await.map_err(failed)
    }

    async fn put_note(&self, app: &AppId, key: &str, text: &str) -> Result<(), PortError> {
        let put = outside::task(async {
            let mut uow = self.0.begin().await?;
            uow.put_dyno_note(app, key, text).await?;
            uow.save().await
        });
        put.await.map_err(failed)
    }

    async fn drop_note(&self, app: &AppId, key: &str) -> Result<(), PortError> {
        let dropped = outside::task(async {
            let mut uow = self.0.begin().await?;
            uow.drop_dyno_notes(app, Some(key)).await?;
            uow.save().await
        });
        dropped.await.map_err(failed)
    }

    async fn drop_notes(&self, app: &AppId) -> Result<(), PortError> {
        let dropped = outside::task(async {
            let mut uow = self.0.begin().await?;
            uow.drop_dyno_notes(app, None).await?;
            uow.save().await
        });
        dropped.await.map_err(failed)
    }

    async fn noted_apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::task(async { self.0.read().await?.noted_apps().await }).await.map_err(failed)
    }
}
