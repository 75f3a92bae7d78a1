//! [`LogStore`] in files: finds an app's log, opening it when it is first asked for.

use std::collections::{HashMap, HashSet};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_domain::AppId;
use paas_ports::{LogLine, LogStore, PortError, Tail, TailQuery, outside};
use tokio::sync::OnceCell;

use crate::app_log::AppLog;
use crate::segments::named_folders;

/// How many lines are added under one lock: readers get their turn in between.
const BATCH: usize = 1_000;

/// Every app's newest lines, in files below one folder and in memory.
///
/// The newest 1,500 lines of an app (or its newest 4 MiB) outlive the server. In memory an app takes 4 MiB at
/// most, however many read it.
#[derive(Debug)]
pub struct FileLogStore {
    dir: PathBuf,
    apps: Mutex<Apps>,
}

#[derive(Debug, Default)]
struct Apps {
    open: HashMap<AppId, Arc<OnceCell<Arc<AppLog>>>>,
    removed: HashSet<AppId>,
}

impl FileLogStore {
    /// A store over this folder, which is made when there is none. One process at a time may write to it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir, apps: Mutex::default() })
    }

    fn apps(&self) -> MutexGuard<'_, Apps> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The app's log; `None` when the app was removed.
    async fn log(&self, app: &AppId) -> io::Result<Option<Arc<AppLog>>> {
        let cell = {
            let mut apps = self.apps();
            if apps.removed.contains(app) {
                return Ok(None);
            }
            apps.open.entry(app.clone()).or_default().clone()
        };
        let dir = self.dir.join(app.as_str());
        let load = || async move { tokio::task::spawn_blocking(|| AppLog::load(dir)).await.map_err(io::Error::other)? };
        Ok(Some(cell.get_or_try_init(|| async { load().await.map(Arc::new) }).await?.clone()))
    }
}

#[async_trait]
impl LogStore for FileLogStore {
    async fn append(&self, app: &AppId, lines: Vec<LogLine>) -> Result<(), PortError> {
        outside::check("LogStore::append");
        let failed = |error| PortError::transient("storing log lines", error);
        let Some(log) = self.log(app).await.map_err(failed)? else { return Ok(()) };
        let mut whole = Vec::with_capacity(lines.len());
        lines.into_iter().for_each(|line| line.split_into(&mut whole));
        let mut rest = whole.into_iter();
        while rest.len() > BATCH {
            log.append(rest.by_ref().take(BATCH)).map_err(failed)?;
            tokio::task::yield_now().await;
        }
        log.append(rest).map_err(failed)
    }

    async fn tail(&self, app: &AppId, query: TailQuery) -> Result<BoxStream<'static, Tail>, PortError> {
        outside::check("LogStore::tail");
        match self.log(app).await.map_err(|error| PortError::transient("reading log lines", error))? {
            None => Ok(stream::empty().boxed()),
            Some(log) => Ok(log.read(query)),
        }
    }

    async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        outside::check("LogStore::remove");
        let failed = |error| PortError::transient("removing log lines", error);
        // Also an app that was removed before: its files may have resisted.
        self.apps().removed.remove(app);
        let log = self.log(app).await.map_err(failed)?;
        {
            let mut apps = self.apps();
            apps.removed.insert(app.clone());
            apps.open.remove(app);
        }
        let Some(log) = log else { return Ok(()) };
        tokio::task::spawn_blocking(move || log.remove())
            .await
            .map_err(|error| PortError::transient("removing log lines", error))?
            .map_err(failed)
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        outside::check("LogStore::apps");
        named_folders(self.dir.clone()).await.map_err(|error| PortError::transient("listing logs", error))
    }
}
