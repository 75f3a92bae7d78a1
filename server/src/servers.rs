//! Servers that share an installation know of each other: how many divide AWS's rates, and who builds for what.

use std::sync::Arc;
use std::time::Duration;

use paas_domain::Architecture;
use paas_ports::{PortError, outside};
use paas_store::{StoreError, Unbuildable};
use tokio::sync::watch;

use crate::cx::{Cx, Offer};
use crate::jobs::WAIT;

/// How often a server says that it is alive.
const BEAT: Duration = Duration::from_secs(10);
/// After how long without a word it is taken for dead.
const DEAD_S: i64 = 45;

/// Told how many servers there are, whenever that changes.
pub type OnCount = Arc<dyn Fn(usize) + Send + Sync>;

/// This server.
#[derive(Clone, Debug)]
pub struct Me {
    /// Its id, as leases have it.
    pub id: String,
    /// What it builds for, if anything.
    pub builds: Option<Architecture>,
}

/// Says that this server is here and forgets those that are not; how many there are.
///
/// # Errors
/// When the database does not answer.
pub async fn beat(cx: &Cx, me: &Me) -> Result<usize, StoreError> {
    let now = cx.now();
    let mut uow = cx.begin().await?;
    uow.put_server(&me.id, me.builds, now).await?;
    // Without another server's reach into the database, whoever else is there is what this one was called before.
    let not_since = if cx.store.is_shared() { now.plus_s(-DEAD_S) } else { now };
    uow.forget_servers(not_since).await?;
    let count = uow.servers().await?.len();
    uow.save().await?;
    Ok(count)
}

/// Beats until `stop` says so, and takes its leave then. Ends at once when no other server can come: `count` stays.
pub async fn run(cx: Cx, me: Me, mut count: usize, on_count: OnCount, mut stop: watch::Receiver<bool>) {
    if !cx.store.is_shared() {
        return;
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(BEAT) => {}
            _ = stop.changed() => break,
        }
        match outside::task(beat(&cx, &me)).await {
            Ok(now) if now != count => {
                tracing::info!(servers = now, "servers have come or gone");
                count = now;
                on_count(count);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "other servers may take this one for dead"),
        }
        if let Err(error) = outside::task(say_unbuildable(&cx)).await {
            tracing::warn!(%error, "who waits for a builder is told later");
        }
    }
    let gone = outside::task(async {
        let mut uow = cx.begin().await?;
        uow.forget_server(&me.id).await?;
        uow.save().await
    });
    if let Err(error) = gone.await {
        tracing::debug!(%error, "other servers find out by themselves that this one is gone");
    }
}

/// Writes into the output of each build that nobody builds for what it waits for.
///
/// # Errors
/// When the database or an output does not answer.
pub async fn say_unbuildable(cx: &Cx) -> Result<(), PortError> {
    if cx.settings.offer != Offer::Fargate {
        return Ok(());
    }
    let waiting = async { cx.store.read().await?.unbuildable().await };
    let waiting = waiting.await.map_err(|e: StoreError| PortError::transient("looking for builders", e))?;
    for Unbuildable { output, architecture, .. } in waiting {
        let what = architecture.map_or_else(|| "a builder".to_owned(), |wished| format!("a builder for {wished}"));
        let text =
            format!(" !     Waiting for {what}: no server that is one is running. The push goes on when one is.\n");
        // The same bytes each time: whoever has read them is told nothing twice.
        cx.outputs.begin(&output, WAIT).await?;
        cx.outputs.write(&output, WAIT, text.into()).await?;
    }
    Ok(())
}
