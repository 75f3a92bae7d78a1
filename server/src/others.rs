//! Servers that share a database tell each other what changed, so that none waits for its timer.

use std::time::Duration;

use tokio::sync::watch;

use crate::cx::Cx;

/// How long to wait before connecting again.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells and hears until `stop` says so; ends at once when the database is not shared. `who` is this server.
pub async fn run(cx: Cx, who: String, mut stop: watch::Receiver<bool>) {
    if !cx.store.is_shared() {
        return;
    }
    tokio::select! {
        () = tell(&cx, &who) => {}
        () = hear(&cx, &who) => {}
        _ = stop.changed() => {}
    }
}

async fn tell(cx: &Cx, who: &str) {
    loop {
        cx.kicks.others.notified().await;
        if let Err(error) = cx.store.tell_others(who).await {
            tracing::warn!(%error, "other servers will find by their timers what changed");
        }
    }
}

async fn hear(cx: &Cx, who: &str) {
    loop {
        let heard = async {
            let Some(mut others) = cx.store.hear_others().await? else { return Ok(()) };
            loop {
                others.changed(who).await?;
                cx.kick_here();
            }
        };
        let ended: Result<(), paas_store::StoreError> = heard.await;
        if let Err(error) = ended {
            tracing::warn!(%error, "other servers are not heard; listening again");
        }
        cx.kick_here();
        tokio::time::sleep(AGAIN).await;
    }
}
