//! What the rendezvous asks of the core: which dyno a token opens, and what the log says when a meeting failed.

use async_trait::async_trait;
use paas_domain::DynoId;
use paas_ports::{LogSource, outside};
use paas_store::StoreError;

use crate::cx::Cx;
use crate::rendezvous::{ATTACH_ERROR, AttachLookup, AttachTarget, DETACHED};

/// The rows behind the rendezvous.
pub struct AttachRows(pub Cx);

#[async_trait]
impl AttachLookup for AttachRows {
    async fn claim(&self, token_hash: [u8; 32]) -> Option<AttachTarget> {
        let hash = data_encoding::HEXLOWER.encode(&token_hash);
        let claimed = outside::task(async {
            let mut uow = self.0.begin().await?;
            let claimed = uow.claim_attach(&hash).await?;
            uow.save().await?;
            Ok::<_, StoreError>(claimed)
        });
        match claimed.await {
            Ok(claimed) => claimed.map(|(_, dyno)| AttachTarget { dyno: dyno.id, tty: dyno.tty }),
            Err(error) => {
                tracing::error!(%error, "an attach token cannot be looked up");
                None
            }
        }
    }

    async fn has_ended(&self, dyno: &DynoId) -> bool {
        let ended = outside::task(async {
            let mut uow = self.0.store.read().await?;
            let Some((app, _)) = uow.dyno_owner(dyno).await? else { return Ok(true) };
            Ok::<_, StoreError>(uow.dyno(&app, dyno).await?.ended_at.is_some())
        });
        // Whoever cannot find out goes on waiting.
        ended.await.unwrap_or(false)
    }

    async fn failed(&self, dyno: &DynoId) {
        self.say(dyno, ATTACH_ERROR).await;
    }

    async fn detached(&self, dyno: &DynoId) {
        self.say(dyno, DETACHED).await;
    }
}

impl AttachRows {
    async fn say(&self, dyno: &DynoId, line: &str) {
        let found = outside::task(async { self.0.store.read().await?.dyno_owner(dyno).await }).await;
        match found {
            Ok(Some((app, name))) => self.0.say(app.id(), LogSource::Heroku, &name.to_string(), line).await,
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "a dyno cannot be looked up"),
        }
    }
}
