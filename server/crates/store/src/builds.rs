//! Builds, the images they made, branches, and where output is read.

use std::collections::BTreeMap;

use paas_domain::{AccountId, Architecture, BuildId, BuildStatus, Digest, OutputId, ReleaseId, Timestamp};

use crate::row::{Row, args, to_json};
use crate::{AppScope, ProcessTable, StoreError, Uow};

/// One run of the buildpacks over one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Its id.
    pub id: BuildId,
    /// The commit, when it came by git.
    pub commit: Option<String>,
    /// The branch to move when the code serves (`main` or `master`).
    pub branch: Option<String>,
    /// Where the source's tar is kept, once it is.
    pub source_key: Option<String>,
    /// Where it stands.
    pub status: BuildStatus,
    /// Why it failed, in a sentence.
    pub reason: Option<String>,
    /// Its output.
    pub output: OutputId,
    /// The image it made.
    pub image: Option<Digest>,
    /// The release that was cut of it.
    pub release: Option<ReleaseId>,
    /// Who asked for it.
    pub account: AccountId,
    /// Since when it exists.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A build to be.
#[derive(Clone, Debug)]
pub struct NewBuild {
    /// The commit, when it came by git.
    pub commit: Option<String>,
    /// The branch to move when the code serves.
    pub branch: Option<String>,
    /// Where the source's tar is kept, when it came as one.
    pub source_key: Option<String>,
    /// Its output.
    pub output: OutputId,
    /// Who asks.
    pub account: AccountId,
}

/// An image that an app has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its identity: the digest of its config.
    pub id: Digest,
    /// How its process types start.
    pub process_types: ProcessTable,
    /// The builder image's digest.
    pub builder: String,
    /// Bytes above the base image.
    pub size: i64,
    /// What Heroku shows as the language.
    pub description: Option<String>,
    /// What it is built for.
    pub architecture: Architecture,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, commit_id, branch, source_key, status, reason, output, image, release_id, account, created_at, ",
            "updated_at FROM builds ",
            $rest
        )
    };
}

fn build(mut row: Row) -> Result<Build, StoreError> {
    Ok(Build {
        id: row.parse()?,
        commit: row.opt_text()?,
        branch: row.opt_text()?,
        source_key: row.opt_text()?,
        status: row.parse()?,
        reason: row.opt_text()?,
        output: row.parse()?,
        image: row.opt_parse()?,
        release: row.opt_parse()?,
        account: row.parse()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

impl Uow {
    /// Writes a pending build.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_build(&mut self, of: &AppScope, new: &NewBuild, now: Timestamp) -> Result<Build, StoreError> {
        let id = BuildId::new();
        let sql = "INSERT INTO builds (id, app, commit_id, branch, source_key, status, output, account, created_at, \
                   updated_at) VALUES ($1, $2, $3, $4, $5, 'pending', $6, $7, $8, $8)";
        let (commit, branch, source) = (new.commit.as_deref(), new.branch.as_deref(), new.source_key.as_deref());
        self.execute(sql, args![&id, of.id(), commit, branch, source, &new.output, &new.account, now]).await?;
        self.build(of, &id).await
    }

    /// One build.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not this app's.
    pub async fn build(&mut self, of: &AppScope, id: &BuildId) -> Result<Build, StoreError> {
        let row = self.row(select!("WHERE app = $1 AND id = $2"), args![of.id(), id]).await?;
        build(row.ok_or(StoreError::NotFound("build"))?)
    }

    /// The app's builds, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn builds(&mut self, of: &AppScope) -> Result<Vec<Build>, StoreError> {
        let rows = self.rows(select!("WHERE app = $1 ORDER BY id"), args![of.id()]).await?;
        rows.into_iter().map(build).collect()
    }

    /// The app's builds that have not ended, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn pending_builds(&mut self, of: &AppScope) -> Result<Vec<Build>, StoreError> {
        let sql = select!("WHERE app = $1 AND status = 'pending' ORDER BY id");
        self.rows(sql, args![of.id()]).await?.into_iter().map(build).collect()
    }

    /// Remembers where the source's tar is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_build_source(&mut self, of: &AppScope, id: &BuildId, key: &str) -> Result<(), StoreError> {
        self.execute("UPDATE builds SET source_key = $3 WHERE app = $1 AND id = $2", args![of.id(), id, key]).await?;
        Ok(())
    }

    /// Ends a pending build as failed. A build that ended already stays as it is; answers whether it changed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn fail_build(
        &mut self,
        of: &AppScope,
        id: &BuildId,
        reason: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE builds SET status = 'failed', reason = $3, updated_at = $4 \
                   WHERE app = $1 AND id = $2 AND status = 'pending'";
        Ok(self.execute(sql, args![of.id(), id, reason, now]).await? > 0)
    }

    /// Ends a pending build as succeeded with the release that was cut of it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn succeed_build(
        &mut self,
        of: &AppScope,
        id: &BuildId,
        image: &Digest,
        release: &ReleaseId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE builds SET status = 'succeeded', image = $3, release_id = $4, updated_at = $5 \
                   WHERE app = $1 AND id = $2 AND status = 'pending'";
        self.execute(sql, args![of.id(), id, image, release, now]).await?;
        Ok(())
    }

    /// Writes an image; the same one again changes nothing but its process types.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_image(&mut self, of: &AppScope, image: &Image, now: Timestamp) -> Result<(), StoreError> {
        let sql = "INSERT INTO images (app, id, process_types, builder, size, description, created_at, architecture) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                   ON CONFLICT (app, id) DO UPDATE SET process_types = excluded.process_types";
        let (types, description) = (to_json(&image.process_types)?, image.description.as_deref());
        let (builder, architecture) = (image.builder.as_str(), &image.architecture);
        let args = args![of.id(), &image.id, types, builder, image.size, description, now, architecture];
        self.execute(sql, args).await?;
        Ok(())
    }

    /// One image of the app.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the app has it not.
    pub async fn image(&mut self, of: &AppScope, id: &Digest) -> Result<Image, StoreError> {
        let sql = "SELECT id, process_types, builder, size, description, architecture FROM images \
                   WHERE app = $1 AND id = $2";
        let mut row = self.row(sql, args![of.id(), id]).await?.ok_or(StoreError::NotFound("image"))?;
        Ok(Image {
            id: row.parse()?,
            process_types: row.json()?,
            builder: row.text()?,
            size: row.int()?,
            description: row.opt_text()?,
            architecture: row.parse()?,
        })
    }

    /// The images that the app's releases name, whatever became of the release: each can be rolled back to.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn released_images(&mut self, of: &AppScope) -> Result<Vec<Digest>, StoreError> {
        let sql = "SELECT DISTINCT image FROM releases WHERE app = $1 AND image IS NOT NULL";
        self.rows(sql, args![of.id()]).await?.into_iter().map(|mut row| row.parse()).collect()
    }

    /// Forgets an image that no release names.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_image(&mut self, of: &AppScope, id: &Digest) -> Result<(), StoreError> {
        let sql = "DELETE FROM images WHERE app = $1 AND id = $2 \
                   AND NOT EXISTS (SELECT 1 FROM releases WHERE app = $1 AND image = $2)";
        self.execute(sql, args![of.id(), id]).await?;
        Ok(())
    }

    /// The app's newest build, when there was none since images were last collected: what builds left is to be looked
    /// through once behind each.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn build_since_collection(&mut self, of: &AppScope) -> Result<Option<BuildId>, StoreError> {
        let sql = "SELECT b.id FROM builds AS b JOIN apps AS a ON a.id = b.app WHERE b.app = $1 \
                   AND (a.images_of IS NULL OR b.id > a.images_of) ORDER BY b.id DESC LIMIT 1";
        self.row(sql, args![of.id()]).await?.map(|mut row| row.parse()).transpose()
    }

    /// Remembers that what builds up to this one left was looked through.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn mark_collected(&mut self, of: &AppScope, newest: &BuildId) -> Result<(), StoreError> {
        self.execute("UPDATE apps SET images_of = $2 WHERE id = $1", args![of.id(), newest]).await?;
        Ok(())
    }

    /// The commit that a branch of ours is at.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn branches(&mut self, of: &AppScope) -> Result<Vec<(String, String)>, StoreError> {
        let rows =
            self.rows("SELECT name, commit_id FROM branches WHERE app = $1 ORDER BY name", args![of.id()]).await?;
        rows.into_iter().map(|mut row| Ok((row.text()?, row.text()?))).collect()
    }

    /// When each of the app's branches was last moved.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn branch_moves(&mut self, of: &AppScope) -> Result<BTreeMap<String, Timestamp>, StoreError> {
        let rows = self.rows("SELECT name, updated_at FROM branches WHERE app = $1", args![of.id()]).await?;
        rows.into_iter().map(|mut row| Ok((row.text()?, row.time()?))).collect()
    }

    /// Moves a branch (the part of the ref behind `refs/heads/`, or a whole `refs/tags/…`).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_branch(
        &mut self,
        of: &AppScope,
        name: &str,
        commit: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO branches (app, name, commit_id, updated_at) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (app, name) DO UPDATE SET commit_id = excluded.commit_id, updated_at = excluded.updated_at";
        self.execute(sql, args![of.id(), name, commit, now]).await?;
        Ok(())
    }

    /// Removes a branch; whether it was there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_branch(&mut self, of: &AppScope, name: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM branches WHERE app = $1 AND name = $2";
        Ok(self.execute(sql, args![of.id(), name]).await? > 0)
    }

    /// Registers an output. Whoever has the token can read it without an account, as on Heroku.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_output(
        &mut self,
        of: &AppScope,
        token: &str,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<OutputId, StoreError> {
        let id = OutputId::new();
        let sealed = self.key.seal(id.as_str(), token.as_bytes())?;
        let sql = "INSERT INTO outputs (id, app, token_hash, sealed_token, created_at) VALUES ($1, $2, $3, $4, $5)";
        self.execute(sql, args![&id, of.id(), token_hash, sealed, now]).await?;
        Ok(id)
    }

    /// The token of an output, for its URL.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not this app's.
    pub async fn output_token(&mut self, of: &AppScope, id: &OutputId) -> Result<String, StoreError> {
        let sql = "SELECT sealed_token FROM outputs WHERE id = $1 AND app = $2";
        let mut row = self.row(sql, args![id, of.id()]).await?.ok_or(StoreError::NotFound("output"))?;
        let token = self.key.open(id.as_str(), &row.bytes()?)?;
        String::from_utf8(token).map_err(|_| StoreError::Corrupt("output token"))
    }

    /// The output that this token opens.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn output_by_token(&mut self, token_hash: &str) -> Result<Option<OutputId>, StoreError> {
        let row = self.row("SELECT id FROM outputs WHERE token_hash = $1", args![token_hash]).await?;
        row.map(|mut row| row.parse()).transpose()
    }

    /// Every output of every app, for the collection of what no row names any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn all_output_ids(&mut self) -> Result<Vec<OutputId>, StoreError> {
        let rows = self.rows("SELECT id FROM outputs", vec![]).await?;
        rows.into_iter().map(|mut row| row.parse()).collect()
    }

    /// The app's outputs, for their removal with the app.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn outputs(&mut self, of: &AppScope) -> Result<Vec<OutputId>, StoreError> {
        let rows = self.rows("SELECT id FROM outputs WHERE app = $1", args![of.id()]).await?;
        rows.into_iter().map(|mut row| row.parse()).collect()
    }
}
