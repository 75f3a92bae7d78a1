//! The AWS drivers' memory over the store.

use async_trait::async_trait;
use paas_aws::ledger::{Change, Key, Ledger, Slot};
use paas_domain::{AppId, ProcessType};
use paas_ports::{PortError, outside};
use paas_store::{AwsRow, Store, StoreError};

/// A [`Ledger`] in the installation's database.
#[derive(Clone)]
pub struct StoreLedger(Store);

impl StoreLedger {
    /// In this database.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(store)
    }
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
}
