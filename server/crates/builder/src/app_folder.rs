//! The folder where an app's layer tars and its memo are kept.
//!
//! One folder per app, so that removing an app is removing a folder, and no two apps' work meets in one:
//! `memo-<builder>.json` (the last good export), `pending-<build>.json` (an export that is not yet known to
//! be written down), and `<digest>.tar` per layer. A tar that is in the layers volume as well is kept only
//! until the build is tidied.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use paas_domain::{AppId, BuildId, Digest};
use paas_ports::PortError;
use tokio::fs;

use crate::DockerBuilder;
use crate::engine::disk;
use crate::memo::Memo;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct AppFolder(PathBuf);

impl DockerBuilder {
    pub(crate) fn app_folder(&self, app: &AppId) -> AppFolder {
        AppFolder(self.settings.blobs.join(app.as_str()))
    }

    /// Every app that has a folder. What builds share is there too, under other names.
    pub(crate) async fn folders(&self) -> Result<Vec<AppId>, PortError> {
        let doing = "listing the layers folders";
        let mut entries = match fs::read_dir(&self.settings.blobs).await {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(disk(doing, e)),
        };
        let mut apps = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(|e| disk(doing, e))? {
            apps.extend(entry.file_name().to_str().and_then(|name| name.parse::<AppId>().ok()));
        }
        Ok(apps)
    }
}

impl AppFolder {
    /// The folder, made when it is not there.
    pub(crate) async fn make(&self) -> Result<&Path, PortError> {
        fs::create_dir_all(&self.0).await.map_err(|e| disk("making the layers folder", e))?;
        Ok(&self.0)
    }

    /// Where a layer's tar is, or would be.
    pub(crate) fn blob(&self, diff_id: &Digest) -> PathBuf {
        self.0.join(format!("{}.tar", diff_id.hex()))
    }

    /// What the last good export with this builder knew. Nothing when there was none, or it cannot be read.
    pub(crate) async fn memo(&self, builder: &str) -> Memo {
        let path = self.0.join(format!("memo-{builder}.json"));
        match fs::read(&path).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| {
                // Costs a cold build, and nothing else.
                tracing::warn!(path = %path.display(), error = %e, "what was known of the layers cannot be read");
                Memo::default()
            }),
            Err(_) => Memo::default(),
        }
    }

    /// Writes down what an export made, to be believed once the build is tidied.
    pub(crate) async fn keep_pending(&self, build: &BuildId, memo: &Memo) -> Result<(), PortError> {
        let doing = "writing down the layers";
        let path = self.pending(build);
        let bytes = serde_json::to_vec(memo).map_err(|e| disk(doing, e))?;
        let new = path.with_extension("new");
        fs::write(&new, bytes).await.map_err(|e| disk(doing, e))?;
        fs::rename(&new, &path).await.map_err(|e| disk(doing, e))
    }

    /// Believes what this build's export wrote down, and drops tars that are of no use any more. Answers with
    /// the builder, when there was an export.
    pub(crate) async fn promote(&self, build: &BuildId) -> Result<Option<String>, PortError> {
        let doing = "keeping the layers";
        let pending = self.pending(build);
        let bytes = match fs::read(&pending).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(disk(doing, e)),
        };
        let memo: Memo = serde_json::from_slice(&bytes).map_err(|e| disk(doing, e))?;
        let needed: BTreeSet<PathBuf> = memo
            .layers
            .iter()
            .filter(|layer| layer.only_in_tar())
            .filter_map(|layer| layer.stored.as_ref().map(|stored| self.blob(&stored.diff_id)))
            .collect();
        for blob in &needed {
            // Nothing else has these bytes: they have to be on the disk before the memo names them.
            if let Ok(file) = fs::File::open(blob).await {
                file.sync_data().await.map_err(|e| disk(doing, e))?;
            }
        }
        let kept = self.0.join(format!("memo-{}.json", memo.builder));
        fs::rename(&pending, &kept).await.map_err(|e| disk(doing, e))?;
        let mut entries = fs::read_dir(&self.0).await.map_err(|e| disk(doing, e))?;
        while let Some(entry) = entries.next_entry().await.map_err(|e| disk(doing, e))? {
            let path = entry.path();
            if path != kept && !needed.contains(&path) {
                let _ = fs::remove_file(path).await;
            }
        }
        Ok(Some(memo.builder))
    }

    /// Removes the folder. Succeeds when there is none.
    pub(crate) async fn remove(&self) -> Result<(), PortError> {
        match fs::remove_dir_all(&self.0).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(disk("removing the layers folder", e)),
            _ => Ok(()),
        }
    }

    fn pending(&self, build: &BuildId) -> PathBuf {
        self.0.join(format!("pending-{build}.json"))
    }
}
