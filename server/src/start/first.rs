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
    match uow.check_key().await {
        Err(StoreError::OtherKey) => anyhow::bail!(
            "the secrets in this database are sealed with another key than {}. Every server of an installation has the \
             first one's: copy its encryption.key, admin.key and the folder ca to {}, and start again",
            data.path("encryption.key").display(),
            data.path("").display(),
        ),
        checked => checked?,
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use paas_ports::outside;

    use super::*;

    #[derive(clap::Parser)]
    struct Told {
        #[command(flatten)]
        options: Options,
    }

    async fn first_start(data: &DataFolder, database: &str) -> anyhow::Result<InstallId> {
        let folder = data.path("");
        let told = Told::parse_from(["serve", "--data", &folder.to_string_lossy(), "--builds", "no"]);
        let store = Store::open(database, data.master_key()?).await?;
        let started = outside::task(installation(&store, data, &told.options, None)).await;
        store.close().await;
        started
    }

    #[tokio::test]
    async fn a_second_server_has_the_first_ones_key_or_does_not_start() {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let [one, two] = folders.each_ref().map(|folder| DataFolder::open(folder.path()).expect("opens"));
        let database = format!("sqlite:{}", one.path("paas.db").display());
        let install = first_start(&one, &database).await.expect("the first one");
        let refused = first_start(&two, &database).await.expect_err("another key").to_string();
        for named in [two.path("encryption.key").display().to_string(), "admin.key".to_owned(), "folder ca".to_owned()]
        {
            assert!(refused.contains(&named), "{refused}");
        }
        std::fs::copy(one.path("encryption.key"), two.path("encryption.key")).expect("copied");
        assert_eq!(first_start(&two, &database).await.expect("the same key"), install);
    }
}
