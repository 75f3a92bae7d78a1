//! What the first start makes, and what every start takes over.

use paas_domain::{Clock as _, InstallId, SystemClock};
use paas_store::{NewAuthorization, Store, StoreError};

use super::Options;
use crate::cx::Cx;
use crate::data_folder::DataFolder;
use crate::token::{new_token, token_hash, token_hint};

/// The installation's id. The first start makes it, the admin's account and the admin's key, and says so once.
///
/// On AWS the id is the foundation's: names and policies there carry it.
pub(super) async fn installation(
    store: &Store,
    data: &DataFolder,
    options: &Options,
    wished: Option<&InstallId>,
) -> anyhow::Result<InstallId> {
    let now = SystemClock.now();
    let mut uow = store.begin().await?;
    let install = uow.installation(wished, now).await?;
    if let Some(wished) = wished.filter(|wished| **wished != install) {
        anyhow::bail!("this database belongs to installation {install}, and stack {} to {wished}", options.stack);
    }
    if uow.first_account().await?.is_none() {
        let account = uow.create_account(&options.admin_email, now).await?;
        let key = new_token("HRKU");
        let new = NewAuthorization {
            token_hash: token_hash(&key),
            token_hint: token_hint(&key),
            description: "The first key of the admin".to_owned(),
            scope: vec!["global".to_owned()],
            expires_at: None,
        };
        uow.create_authorization(&account.id, &new, now).await?;
        // The file first: a key in the database that nobody knows would be lost for good.
        data.write_admin_key(&key)?;
        let file = data.admin_key_file();
        eprintln!("The account {} was made; its API key is in {}.", account.email, file.display());
        eprintln!("Secrets are sealed with {}: keep a copy of it.", data.path("encryption.key").display());
    }
    uow.save().await?;
    crate::data_folder::write_secret(&data.path("installation"), install.as_str().as_bytes())?;
    Ok(install)
}

/// Frees what this server, `owner`, held before its end (with SQLite it is the only one), and makes every app due.
pub(super) async fn take_over(cx: &Cx, owner: &str) -> Result<(), StoreError> {
    let mut uow = cx.begin().await?;
    if cx.store.is_shared() {
        uow.free_leases_of(owner).await?;
    } else {
        uow.free_leases().await?;
        // Whoever was attached to a one-off dyno was cut off with the server.
        uow.stop_cut_off_dynos(cx.now()).await?;
    }
    uow.kick_all_apps(cx.now()).await?;
    uow.save().await
}
