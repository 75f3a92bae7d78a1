//! What an installation has in the Docker engine, on its AWS account, in its data folder and in its rows; and that it is
//! gone.

use std::collections::HashMap;
use std::path::Path;

use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveImageOptionsBuilder,
};
use paas_domain::{AppId, app13};
use sqlx::{Column as _, Row as _};

use super::{GONE_WITHIN, Kind, Platform, until};
use crate::engine;

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

/// Removes whatever carries this installation's id.
pub(super) fn remove_everything(install: &str) {
    block_on(async {
        let docker = engine::connect().await;
        engine::remove_objects(&docker, &format!("paas.install={install}")).await;
        engine::remove_images(&docker, &format!("paas-{install}/")).await;
    });
}

impl Platform {
    /// Does something with the Docker engine.
    pub fn with_engine<T>(&self, work: impl AsyncFnOnce(Docker) -> T) -> T {
        block_on(async { work(engine::connect().await).await })
    }

    /// Every container, volume and network with this installation's label and all of `labels`, and, when no more
    /// labels are asked for, every image with its tag.
    #[must_use]
    pub fn left_in_engine(&self, labels: &[String]) -> Vec<String> {
        let mut wanted = vec![format!("paas.install={}", self.install())];
        wanted.extend_from_slice(labels);
        let images = if labels.is_empty() { self.images("") } else { Vec::new() };
        let mut left: Vec<String> = images.into_iter().map(|(tag, _)| format!("image {tag}")).collect();
        self.with_engine(async |docker| {
            let filters = HashMap::from([("label".to_owned(), wanted)]);
            let containers = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
            for container in docker.list_containers(Some(containers)).await.expect("containers") {
                left.push(format!("container {:?}: {:?}", container.names.unwrap_or_default(), container.status));
            }
            let volumes = ListVolumesOptionsBuilder::new().filters(&filters).build();
            for volume in docker.list_volumes(Some(volumes)).await.expect("volumes").volumes.unwrap_or_default() {
                left.push(format!("volume {}", volume.name));
            }
            let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
            for network in docker.list_networks(Some(networks)).await.expect("networks") {
                left.push(format!("network {}", network.name.unwrap_or_default()));
            }
            left
        })
    }

    /// Tag and id of each of this installation's images whose repository begins with `repository` (all when empty).
    #[must_use]
    pub fn images(&self, repository: &str) -> Vec<(String, String)> {
        let prefix = format!("paas-{}/", self.install());
        let all = self.with_engine(async |docker| {
            docker.list_images(Some(ListImagesOptionsBuilder::new().all(true).build())).await.expect("images")
        });
        let tagged = all.into_iter().flat_map(|image| {
            let id = image.id;
            image.repo_tags.into_iter().map(move |tag| (tag, id.clone()))
        });
        tagged.filter(|(tag, _)| tag.starts_with(&prefix) && tag[prefix.len()..].starts_with(repository)).collect()
    }

    /// The images that the app has at this moment, by id.
    ///
    /// # Panics
    /// When `id` is no app's id.
    #[must_use]
    pub fn images_of(&self, id: &str) -> Vec<String> {
        let app: AppId = id.parse().expect("an app's id");
        self.images(app.as_str()).into_iter().map(|(_, id)| id).collect()
    }

    /// Removes an image, as an operator does who wants room. No container may run on it.
    ///
    /// # Panics
    /// When it does not go.
    pub fn remove_image(&self, id: &str) {
        self.with_engine(async |docker| {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            docker.remove_image(id, Some(options), None).await.expect("the image goes");
        });
    }

    /// Everything of a destroyed app that is still there, wherever it is. Its history of jobs may stay.
    ///
    /// # Panics
    /// When `id` is no app's id, or the database cannot be read.
    #[must_use]
    pub fn left_of_app(&self, id: &str) -> Vec<String> {
        let app: AppId = id.parse().expect("an app's id");
        let mut left = self.left_in_engine(&[format!("paas.app={id}")]);
        left.extend(self.images(app.as_str()).into_iter().map(|(tag, _)| format!("image {tag}")));
        files_of(&self.data(), &[id.to_owned(), app13(&app)], &mut left);
        match &self.account {
            None => left.extend(block_on(rows_of(&self.data().join("paas.db"), id)).expect("the database can be read")),
            Some(account) => {
                left.extend(account.objects(&app13(&app)).into_iter().chain(account.objects(id)));
                let rows = account.rows().into_iter().filter(|(table, _)| table != "jobs");
                // Of a route the generation stays, so that a late pass does not bring it back.
                let ended = |row: &String| row.starts_with("(route,") && row.contains(r#"""removed"":true"#);
                let named = rows.filter(|(_, rows)| rows.iter().any(|row| row.contains(id) && !ended(row)));
                left.extend(named.map(|(table, _)| format!("a row of {table}")));
            }
        }
        left
    }

    /// Waits until nothing of a destroyed app is left.
    ///
    /// # Panics
    /// When something still is after [`GONE_WITHIN`], on AWS after 180 s: its dynos drain and end there first.
    pub fn app_is_gone(&self, id: &str) {
        let mut left = Vec::new();
        let within = if self.kind() == Kind::Local { GONE_WITHIN } else { self.soon() * 3 };
        let since = std::time::Instant::now();
        loop {
            left.clone_from(&self.left_of_app(id));
            if left.is_empty() {
                return;
            }
            assert!(since.elapsed() < within, "left after {within:?}: {left:#?}");
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }

    /// Waits until these images are gone, tags or not. Images are reproducible: one that another installation made or
    /// pulled, and has a name for, is that one's.
    ///
    /// # Panics
    /// When one still is after [`GONE_WITHIN`].
    pub fn images_are_gone(&self, ids: &[String]) {
        let ours = format!("paas-{}/", self.install());
        for id in ids {
            until(&format!("image {id} is gone"), GONE_WITHIN, || {
                let Ok(image) = self.with_engine(async |docker| docker.inspect_image(id).await) else {
                    return Some(());
                };
                let names = [image.repo_tags.unwrap_or_default(), image.repo_digests.unwrap_or_default()].concat();
                (!names.is_empty() && names.iter().all(|name| !name.starts_with(&ours))).then_some(())
            });
        }
    }

    /// The id of an app.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn app_id(&self, name: &str) -> String {
        let app = self.api(super::Method::Get, &format!("/apps/{name}"), None).json();
        app["id"].as_str().unwrap_or_else(|| panic!("no app: {app}")).to_owned()
    }
}

/// Files and folders whose name holds one of these words. The router's table is one file for all apps.
fn files_of(folder: &Path, words: &[String], found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if words.iter().any(|word| name.contains(word)) {
            found.push(format!("file {}", entry.path().display()));
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files_of(&entry.path(), words, found);
        }
    }
}

/// The rows of every table that name the app, except jobs.
async fn rows_of(database: &Path, app: &str) -> Result<Vec<String>, sqlx::Error> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database).read_only(true);
    let pool = sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table'").fetch_all(&pool).await?;
    let mut left = Vec::new();
    for table in tables {
        let table: String = table.try_get(0)?;
        // Whatever column names an app: the value is looked for in all of them.
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT * FROM \"{table}\""))).fetch_all(&pool).await?;
        if table == "jobs" {
            continue;
        }
        for row in rows {
            let named = row
                .columns()
                .iter()
                .any(|column| row.try_get::<String, _>(column.ordinal()).is_ok_and(|value| value.contains(app)));
            if named {
                left.push(format!("a row of {table}"));
            }
        }
    }
    pool.close().await;
    Ok(left)
}
