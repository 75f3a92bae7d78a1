//! Apps: their rows, who may touch them, and the generation that every wish raises.

use paas_domain::{AccountId, AppId, AppName, Architecture, Capacity, ConfigId, Generation, ReleaseId, Timestamp};

use crate::row::{Row, args};
use crate::{AppScope, StoreError, Uow};

/// An app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its name; unique among apps that are not deleted.
    pub name: AppName,
    /// Who made it.
    pub owner: AccountId,
    /// Whether every request gets the maintenance page.
    pub maintenance: bool,
    /// Whether a client stays with the dyno of its first request (`http-session-affinity`).
    pub session_affinity: bool,
    /// What its images are to be built for; `None` as the platform has it.
    pub architecture: Option<Architecture>,
    /// What its services take their dynos from.
    pub capacity: Capacity,
    /// Counts wishes.
    pub generation: Generation,
    /// The newest generation that was made true.
    pub settled_generation: Generation,
    /// The release that should run: the highest succeeded version.
    pub current_release: Option<ReleaseId>,
    /// The config vars that the next release gets.
    pub head_config: ConfigId,
    /// Since when it exists.
    pub created_at: Timestamp,
    /// When a person last changed it.
    pub updated_at: Timestamp,
    /// When code was last released.
    pub released_at: Option<Timestamp>,
    /// When it was destroyed; its outside objects may still be there.
    pub deleted_at: Option<Timestamp>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, owner, maintenance, generation, settled_generation, current_release, head_config, ",
            "created_at, updated_at, released_at, deleted_at, session_affinity, architecture, capacity FROM apps ",
            $rest
        )
    };
}

fn app(mut row: Row) -> Result<App, StoreError> {
    Ok(App {
        id: row.parse()?,
        name: row.parse()?,
        owner: row.parse()?,
        maintenance: row.bool()?,
        generation: Generation(row.int()?),
        settled_generation: Generation(row.int()?),
        current_release: row.opt_parse()?,
        head_config: row.parse()?,
        created_at: row.time()?,
        updated_at: row.time()?,
        released_at: row.opt_time()?,
        deleted_at: row.opt_time()?,
        session_affinity: row.bool()?,
        architecture: row.opt_parse()?,
        capacity: row.parse()?,
    })
}

impl Uow {
    /// Makes an app without releases; its first config version is empty and has this id.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the name is in use.
    pub async fn create_app(
        &mut self,
        name: &AppName,
        owner: &AccountId,
        now: Timestamp,
    ) -> Result<AppScope, StoreError> {
        let (id, config) = (AppId::new(), ConfigId::new());
        let sql = "INSERT INTO apps (id, name, owner, maintenance, generation, settled_generation, fence, head_config, \
                   created_at, updated_at) VALUES ($1, $2, $3, 0, 1, 0, 0, $4, $5, $5)";
        self.execute(sql, args![&id, name, owner, &config, now]).await?;
        let scope = AppScope::mint(id);
        self.insert_config(&scope, &config, &paas_domain::ConfigVars::new(), now).await?;
        Ok(scope)
    }

    /// The app that this account may work on, by id or name. The one way from a request to an app.
    ///
    /// # Errors
    /// When the database does not answer. An app of somebody else is `None`, as one that is not there.
    pub async fn authorize(
        &mut self,
        account: &AccountId,
        id_or_name: &str,
    ) -> Result<Option<(AppScope, App)>, StoreError> {
        let sql = select!("WHERE deleted_at IS NULL AND owner = $1 AND (id = $2 OR name = $2)");
        let found = self.row(sql, args![account, id_or_name]).await?.map(app).transpose()?;
        Ok(found.map(|app| (AppScope::mint(app.id.clone()), app)))
    }

    /// The apps of an account, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn apps(&mut self, of: &AccountId) -> Result<Vec<App>, StoreError> {
        let rows = self.rows(select!("WHERE deleted_at IS NULL AND owner = $1 ORDER BY name"), args![of]).await?;
        rows.into_iter().map(app).collect()
    }

    /// Whether there is an app with this id that is not deleted.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn app_lives(&mut self, id: &AppId) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM apps WHERE id = $1 AND deleted_at IS NULL";
        Ok(self.row(sql, args![id]).await?.is_some())
    }

    /// The app as it stands, also when it is deleted already.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when its last row is gone.
    pub async fn app(&mut self, of: &AppScope) -> Result<App, StoreError> {
        let row = self.row(select!("WHERE id = $1"), args![of.id()]).await?;
        app(row.ok_or(StoreError::NotFound("app"))?)
    }

    /// Takes the app's row for this transaction, so that two changes of one app come one after the other.
    /// Answers the app as it stands then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is deleted.
    pub async fn lock_app(&mut self, of: &AppScope) -> Result<App, StoreError> {
        let sql = "UPDATE apps SET fence = fence WHERE id = $1 AND deleted_at IS NULL";
        if self.execute(sql, args![of.id()]).await? == 0 {
            return Err(StoreError::NotFound("app"));
        }
        self.app(of).await
    }

    /// Marks that what the app should be has changed. Belongs into every change of a wish.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn raise_generation(&mut self, of: &AppScope, now: Timestamp) -> Result<Generation, StoreError> {
        let sql = "UPDATE apps SET generation = generation + 1, look_again_at = $2, updated_at = $2 WHERE id = $1 \
                   RETURNING generation";
        let row = self.row(sql, args![of.id(), now]).await?;
        Ok(Generation(row.ok_or(StoreError::NotFound("app"))?.int()?))
    }

    /// Gives the app another name.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the name is in use.
    pub async fn rename_app(&mut self, of: &AppScope, name: &AppName) -> Result<(), StoreError> {
        self.execute("UPDATE apps SET name = $2 WHERE id = $1", args![of.id(), name]).await?;
        Ok(())
    }

    /// Turns the maintenance page on or off.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_maintenance(&mut self, of: &AppScope, on: bool) -> Result<(), StoreError> {
        self.execute("UPDATE apps SET maintenance = $2 WHERE id = $1", args![of.id(), on]).await?;
        Ok(())
    }

    /// Lets clients stay with the dyno of their first request, or not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_session_affinity(&mut self, of: &AppScope, on: bool) -> Result<(), StoreError> {
        self.execute("UPDATE apps SET session_affinity = $2 WHERE id = $1", args![of.id(), on]).await?;
        Ok(())
    }

    /// Says what the app's images are to be built for, and what its services take their dynos from.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_placement(
        &mut self,
        of: &AppScope,
        architecture: Option<Architecture>,
        capacity: Capacity,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET architecture = $2, capacity = $3 WHERE id = $1";
        self.execute(sql, args![of.id(), architecture.as_ref(), &capacity]).await?;
        Ok(())
    }

    /// Says which release should run.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_current_release(
        &mut self,
        of: &AppScope,
        release: &ReleaseId,
        code_released_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET current_release = $2, released_at = coalesce($3, released_at) WHERE id = $1";
        self.execute(sql, args![of.id(), release, code_released_at]).await?;
        Ok(())
    }

    /// Says which config vars the next release gets.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_head_config(&mut self, of: &AppScope, config: &ConfigId) -> Result<(), StoreError> {
        self.execute("UPDATE apps SET head_config = $2 WHERE id = $1", args![of.id(), config]).await?;
        Ok(())
    }

    /// Destroys an app: its name and hosts are free at once; reconciliation removes the rest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_app(&mut self, of: &AppScope, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE apps SET deleted_at = $2, generation = generation + 1, look_again_at = $2 WHERE id = $1";
        self.execute(sql, args![of.id(), now]).await?;
        self.execute("DELETE FROM domains WHERE app = $1", args![of.id()]).await?;
        self.execute("DELETE FROM log_sessions WHERE app = $1", args![of.id()]).await?;
        // Their objects are still there: reconciliation removes them.
        self.execute("UPDATE sources SET expires_at = 0 WHERE app = $1", args![of.id()]).await?;
        Ok(())
    }

    /// Removes the last rows of a deleted app, job history excepted.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_app(&mut self, of: &AppScope) -> Result<(), StoreError> {
        let statements = [
            "DELETE FROM domains WHERE app = $1",
            "DELETE FROM log_sessions WHERE app = $1",
            "DELETE FROM sources WHERE app = $1",
            "DELETE FROM outputs WHERE app = $1",
            "DELETE FROM branches WHERE app = $1",
            "DELETE FROM dynos WHERE app = $1",
            "DELETE FROM services WHERE app = $1",
            "DELETE FROM formation WHERE app = $1",
            "DELETE FROM builds WHERE app = $1",
            "DELETE FROM releases WHERE app = $1",
            "DELETE FROM images WHERE app = $1",
            "DELETE FROM config_versions WHERE app = $1",
            "DELETE FROM apps WHERE id = $1 AND deleted_at IS NOT NULL",
        ];
        for sql in statements {
            self.execute(sql, args![of.id()]).await?;
        }
        Ok(())
    }

    /// Every app that has a row, deleted ones whose outside objects may still be there included.
    /// For the collection of what no row names any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn all_app_ids(&mut self) -> Result<Vec<AppId>, StoreError> {
        let rows = self.rows("SELECT id FROM apps", vec![]).await?;
        rows.into_iter().map(|mut row| row.parse()).collect()
    }
}
