//! Releases: immutable but for the step from pending to succeeded or failed.

use std::collections::BTreeMap;

use paas_domain::{
    AccountId, BuildId, ConfigId, Digest, OutputId, ProcessType, ReleaseId, ReleaseStatus, ReleaseVersion, Timestamp,
};

use crate::row::{Row, args, to_json};
use crate::{AppScope, StoreError, Uow};

/// How each process type starts: its command line.
pub type ProcessTable = BTreeMap<ProcessType, String>;

/// A release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// Its number within the app.
    pub version: ReleaseVersion,
    /// Where it stands.
    pub status: ReleaseStatus,
    /// What runs; none before the first push.
    pub image: Option<Digest>,
    /// With which config vars.
    pub config: ConfigId,
    /// How its process types start.
    pub process_types: ProcessTable,
    /// What it is: `Deploy 1a2b3c4d`, `Set GREETING config vars`.
    pub description: String,
    /// Who made it.
    pub account: AccountId,
    /// The build it was cut of, when it was.
    pub build: Option<BuildId>,
    /// The release phase's output, when it has one.
    pub output: Option<OutputId>,
    /// The commit that its image was built from, when it came by git.
    pub commit: Option<String>,
    /// Since when it exists.
    pub created_at: Timestamp,
    /// When its status changed.
    pub updated_at: Timestamp,
}

/// A release to be. Its version is the next one.
#[derive(Clone, Debug)]
pub struct NewRelease {
    /// `Succeeded` without a release phase, else `Pending`.
    pub status: ReleaseStatus,
    /// What runs.
    pub image: Option<Digest>,
    /// With which config vars.
    pub config: ConfigId,
    /// How its process types start.
    pub process_types: ProcessTable,
    /// What it is.
    pub description: String,
    /// Who makes it.
    pub account: AccountId,
    /// The build it is cut of.
    pub build: Option<BuildId>,
    /// The release phase's output.
    pub output: Option<OutputId>,
    /// The commit that its image was built from.
    pub commit: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, version, status, image, config, process_types, description, account, build, output, commit_id, ",
            "created_at, updated_at FROM releases ",
            $rest
        )
    };
}

fn release(mut row: Row) -> Result<Release, StoreError> {
    Ok(Release {
        id: row.parse()?,
        version: ReleaseVersion(row.int()?),
        status: row.parse()?,
        image: row.opt_parse()?,
        config: row.parse()?,
        process_types: row.json()?,
        description: row.text()?,
        account: row.parse()?,
        build: row.opt_parse()?,
        output: row.opt_parse()?,
        commit: row.opt_text()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

impl Uow {
    /// Cuts the next release. Take the app's row first ([`Uow::lock_app`]).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_release(
        &mut self,
        of: &AppScope,
        new: &NewRelease,
        now: Timestamp,
    ) -> Result<Release, StoreError> {
        let id = ReleaseId::new();
        let sql = "INSERT INTO releases (id, app, version, status, image, config, process_types, description, account, \
                   build, output, commit_id, created_at, updated_at) SELECT $1, $2, coalesce(max(version), 0) + 1, $3, \
                   $4, $5, $6, $7, $8, $9, $10, $11, $12, $12 FROM releases WHERE app = $2";
        let types = to_json(&new.process_types)?;
        let (image, build, output) = (new.image.as_ref(), new.build.as_ref(), new.output.as_ref());
        let (description, commit) = (new.description.as_str(), new.commit.as_deref());
        self.execute(
            sql,
            args![
                &id,
                of.id(),
                &new.status,
                image,
                &new.config,
                types,
                description,
                &new.account,
                build,
                output,
                commit,
                now
            ],
        )
        .await?;
        self.release(of, &id).await
    }

    /// One release.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not this app's.
    pub async fn release(&mut self, of: &AppScope, id: &ReleaseId) -> Result<Release, StoreError> {
        let row = self.row(select!("WHERE app = $1 AND id = $2"), args![of.id(), id]).await?;
        release(row.ok_or(StoreError::NotFound("release"))?)
    }

    /// One release by its number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn release_by_version(
        &mut self,
        of: &AppScope,
        version: ReleaseVersion,
    ) -> Result<Option<Release>, StoreError> {
        let row = self.row(select!("WHERE app = $1 AND version = $2"), args![of.id(), version.0]).await?;
        row.map(release).transpose()
    }

    /// The app's releases, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn releases(&mut self, of: &AppScope) -> Result<Vec<Release>, StoreError> {
        let rows = self.rows(select!("WHERE app = $1 ORDER BY version"), args![of.id()]).await?;
        rows.into_iter().map(release).collect()
    }

    /// The release that should run.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn current_release(&mut self, of: &AppScope) -> Result<Option<Release>, StoreError> {
        let sql = select!("WHERE app = $1 AND id = (SELECT current_release FROM apps WHERE id = $1)");
        self.row(sql, args![of.id()]).await?.map(release).transpose()
    }

    /// The newest release with code, failed or not: what the next change of config carries on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn newest_release_with_image(&mut self, of: &AppScope) -> Result<Option<Release>, StoreError> {
        let sql = select!("WHERE app = $1 AND image IS NOT NULL ORDER BY version DESC LIMIT 1");
        self.row(sql, args![of.id()]).await?.map(release).transpose()
    }

    /// Ends a pending release. One that ended already stays as it is; answers whether it changed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn finish_release(
        &mut self,
        of: &AppScope,
        id: &ReleaseId,
        status: ReleaseStatus,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE releases SET status = $3, updated_at = $4 WHERE app = $1 AND id = $2 AND status = 'pending'";
        Ok(self.execute(sql, args![of.id(), id, &status, now]).await? > 0)
    }
}
