//! Servers that share a database tell each other what changed, so that none waits for its timer; what one of them
//! removed goes from the disk of each.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use paas_domain::AppId;
use paas_ports::{PortError, outside};
use paas_store::{Channel, StoreError};
use tokio::sync::watch;

use crate::cx::Cx;

/// How long to wait before connecting again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether this machine has something of an app that another server has removed.
const LOOK: Duration = Duration::from_secs(15);

/// Tells and hears until `stop` says so; ends at once when the database is not shared. `who` is this server.
pub async fn run(cx: Cx, who: String, mut stop: watch::Receiver<bool>) {
    if !cx.store.is_shared() {
        return;
    }
    tokio::select! {
        () = tell(&cx, &who) => {}
        () = hear(&cx, &who) => {}
        () = follow_removals(&cx) => {}
        _ = stop.changed() => {}
    }
}

async fn tell(cx: &Cx, who: &str) {
    loop {
        cx.kicks.others.notified().await;
        if let Err(error) = cx.store.tell(Channel::Changes, who).await {
            tracing::warn!(%error, "other servers will find by their timers what changed");
        }
    }
}

async fn hear(cx: &Cx, who: &str) {
    loop {
        let heard = async {
            let Some(mut heard) = cx.store.hear(Channel::Changes).await? else { return Ok(()) };
            loop {
                if heard.next().await?.is_none_or(|other| other != who) {
                    cx.kick_here();
                }
            }
        };
        let ended: Result<(), StoreError> = heard.await;
        if let Err(error) = ended {
            tracing::warn!(%error, "other servers are not heard; listening again");
        }
        cx.kick_here();
        tokio::time::sleep(AGAIN).await;
    }
}

async fn follow_removals(cx: &Cx) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = outside::task(remove_leftovers(cx)).await {
            tracing::warn!(%error, "what other servers removed stays here until the next look");
        }
    }
}

/// Removes what this machine has of apps that have no row any more: their repositories, sources that it built, and what
/// its builder keeps for them. Also files of a bucket that nobody asks for.
async fn remove_leftovers(cx: &Cx) -> Result<(), PortError> {
    cx.objects.forget_unused().await?;
    let mut here: BTreeSet<AppId> = cx.repositories.all().await?.into_iter().collect();
    here.extend(cx.builder.apps().await?);
    let sources = cx.objects.fetched("sources").await?;
    here.extend(sources.iter().filter_map(|folder| folder.parse::<AppId>().ok()));
    if here.is_empty() {
        return Ok(());
    }
    // Read behind the lists: an app's row is there before anything of it.
    let known = async { cx.store.read().await?.all_app_ids().await };
    let known = known.await.map_err(|e: StoreError| PortError::transient("listing apps", e))?;
    let known: HashSet<AppId> = known.into_iter().collect();
    for app in here.iter().filter(|app| !known.contains(app)) {
        cx.builder.remove_app(app).await?;
        cx.repositories.remove(app).await?;
        cx.objects.forget(&format!("sources/{app}")).await?;
    }
    Ok(())
}
