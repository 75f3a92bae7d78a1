//! `git push`, `git clone` and `git fetch`: smart HTTP around the git program, and the hooks it calls back.
//!
//! The git program does the protocol, the unpacking and the checks of objects. What is ours: who may
//! ([`http`]), what a push asks for (`request`), what is refused before anything is stored ([`hook`], started by
//! git as `pre-receive`), and what a push means (`push`, on behalf of [`hook`] started as `proc-receive`).
//!
//! Branches are rows; a repository's refs are a projection of them ([`refresh`]) that only we write. A push is a
//! follower: once its build is accepted, nothing that happens to the connection, to the git processes or to the
//! server stops the build. No text of a user ever stands in an argument, a path or a variable of a process.

mod archive;
mod body;
pub mod hook;
mod hook_server;
pub mod http;
mod packs;
mod pkt_line;
mod process;
mod projection;
mod push;
mod repositories;
mod request;
mod unpacked;
mod wire;

use paas_store::AppScope;

use crate::cx::{Cx, OpError};

pub use repositories::{Limits, Repositories};

/// Makes the refs of an app's repository equal to its branch rows, as they are read here. Of several at the same
/// time the one that read last also writes last.
///
/// # Errors
/// When the rows cannot be read or the refs cannot be written.
pub async fn refresh(cx: &Cx, app: &AppScope) -> Result<(), OpError> {
    let _alone = cx.repositories.alone(app.id()).await;
    let branches = cx.store.read().await?.branches(app).await?;
    Ok(cx.repositories.apply(app.id(), branches).await?)
}

/// Makes sure that the app's repository is here, and has what other hosts received.
async fn catch_up(cx: &Cx, app: &AppScope) -> Result<(), OpError> {
    if cx.repositories.are_shared() {
        return refresh(cx, app).await;
    }
    Ok(cx.repositories.ensure(app.id()).await?)
}
