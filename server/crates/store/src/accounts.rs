//! Accounts and their API keys. Of a key only a hash is kept.

use paas_domain::{AccountId, AuthorizationId, InstallId, Timestamp};

use crate::row::{Row, args};
use crate::{StoreError, Uow};

/// Somebody who can log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its e-mail address, unique.
    pub email: String,
    /// Since when it exists.
    pub created_at: Timestamp,
}

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Its id.
    pub id: AuthorizationId,
    /// Whose.
    pub account: AccountId,
    /// What it is for.
    pub description: String,
    /// The key with its middle hidden, for lists.
    pub token_hint: String,
    /// OAuth scopes, as `global`.
    pub scope: Vec<String>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// Since when it exists.
    pub created_at: Timestamp,
}

/// An API key to be.
#[derive(Clone, Debug)]
pub struct NewAuthorization {
    /// SHA-256 of the key, in hexadecimal.
    pub token_hash: String,
    /// The key with its middle hidden.
    pub token_hint: String,
    /// What it is for.
    pub description: String,
    /// OAuth scopes.
    pub scope: Vec<String>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

fn account(mut row: Row) -> Result<Account, StoreError> {
    Ok(Account { id: row.parse()?, email: row.text()?, created_at: row.time()? })
}

fn authorization(row: &mut Row) -> Result<Authorization, StoreError> {
    Ok(Authorization {
        id: row.parse()?,
        account: row.parse()?,
        description: row.text()?,
        token_hint: row.text()?,
        scope: row.text()?.split_whitespace().map(str::to_owned).collect(),
        expires_at: row.opt_time()?,
        created_at: row.time()?,
    })
}

impl Uow {
    /// The installation's id: `wished`, else a random one, at the first call; the same ever after.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn installation(&mut self, wished: Option<&InstallId>, now: Timestamp) -> Result<InstallId, StoreError> {
        let found = self.row("SELECT id FROM installation", vec![]).await?;
        if let Some(mut row) = found {
            return InstallId::try_from(row.text()?).map_err(|_| StoreError::Corrupt("installation id"));
        }
        let id = wished.cloned().unwrap_or_else(InstallId::random);
        self.execute("INSERT INTO installation (id, created_at) VALUES ($1, $2)", args![&id, now]).await?;
        Ok(id)
    }

    /// Checks that the store's key is the installation's: the one that came first. Two servers with two keys would
    /// write what the other cannot read.
    ///
    /// # Errors
    /// [`StoreError::OtherKey`] when it is not.
    pub async fn check_key(&mut self) -> Result<(), StoreError> {
        let known = self.key_mark().await?;
        if known.is_none() {
            // From before keys had marks: whoever opens what is there has the right one.
            if let Some(mut row) = self.row("SELECT id, sealed FROM config_versions LIMIT 1", vec![]).await? {
                let place = row.text()?;
                self.key.open(&place, &row.bytes()?).map_err(|_| StoreError::OtherKey)?;
            }
            let sql = "UPDATE installation SET key_mark = $1 WHERE key_mark IS NULL";
            let mark = self.key.mark().to_owned();
            self.execute(sql, args![mark]).await?;
        }
        match self.key_mark().await? {
            Some(mark) if mark == self.key.mark() => Ok(()),
            Some(_) => Err(StoreError::OtherKey),
            None => Err(StoreError::NotFound("installation")),
        }
    }

    async fn key_mark(&mut self) -> Result<Option<String>, StoreError> {
        match self.row("SELECT key_mark FROM installation", vec![]).await? {
            Some(mut row) => row.opt_text(),
            None => Ok(None),
        }
    }

    /// Makes an account.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when the address has one.
    pub async fn create_account(&mut self, email: &str, now: Timestamp) -> Result<Account, StoreError> {
        let id = AccountId::new();
        let sql = "INSERT INTO accounts (id, email, created_at) VALUES ($1, $2, $3)";
        self.execute(sql, args![&id, email, now]).await?;
        Ok(Account { id, email: email.to_owned(), created_at: now })
    }

    /// The oldest account: the admin that the first start made.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn first_account(&mut self) -> Result<Option<Account>, StoreError> {
        self.row("SELECT id, email, created_at FROM accounts ORDER BY id LIMIT 1", vec![])
            .await?
            .map(account)
            .transpose()
    }

    /// An account by its id.
    ///
    /// # Errors
    /// When there is none.
    pub async fn account(&mut self, id: &AccountId) -> Result<Account, StoreError> {
        let row = self.row("SELECT id, email, created_at FROM accounts WHERE id = $1", args![id]).await?;
        account(row.ok_or(StoreError::NotFound("account"))?)
    }

    /// Whose key hashes to this, when the key is good at `now`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn authenticate(
        &mut self,
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<(Account, Authorization)>, StoreError> {
        let sql = "SELECT id, account, description, token_hint, scope, expires_at, created_at FROM authorizations \
                   WHERE token_hash = $1 AND (expires_at IS NULL OR expires_at > $2)";
        let Some(mut row) = self.row(sql, args![token_hash, now]).await? else { return Ok(None) };
        let found = authorization(&mut row)?;
        Ok(Some((self.account(&found.account).await?, found)))
    }

    /// Makes an API key for an account.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_authorization(
        &mut self,
        of: &AccountId,
        new: &NewAuthorization,
        now: Timestamp,
    ) -> Result<Authorization, StoreError> {
        let id = AuthorizationId::new();
        let sql = "INSERT INTO authorizations \
                   (id, account, token_hash, token_hint, description, scope, session, expires_at, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)";
        let scope = new.scope.join(" ");
        let hint = new.token_hint.as_str();
        self.execute(
            sql,
            args![&id, of, new.token_hash.as_str(), hint, new.description.as_str(), scope, new.expires_at, now],
        )
        .await?;
        Ok(Authorization {
            id,
            account: of.clone(),
            description: new.description.clone(),
            token_hint: new.token_hint.clone(),
            scope: new.scope.clone(),
            expires_at: new.expires_at,
            created_at: now,
        })
    }

    /// An account's API keys that are good at `now`, oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn authorizations(&mut self, of: &AccountId, now: Timestamp) -> Result<Vec<Authorization>, StoreError> {
        let sql = "SELECT id, account, description, token_hint, scope, expires_at, created_at FROM authorizations \
                   WHERE account = $1 AND (expires_at IS NULL OR expires_at > $2) ORDER BY id";
        let rows = self.rows(sql, args![of, now]).await?;
        rows.into_iter().map(|mut row| authorization(&mut row)).collect()
    }

    /// One of an account's API keys.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when it is not this account's, or no longer good at `now`.
    pub async fn authorization(
        &mut self,
        of: &AccountId,
        id: &AuthorizationId,
        now: Timestamp,
    ) -> Result<Authorization, StoreError> {
        let sql = "SELECT id, account, description, token_hint, scope, expires_at, created_at FROM authorizations \
                   WHERE account = $1 AND id = $2 AND (expires_at IS NULL OR expires_at > $3)";
        let row = self.row(sql, args![of, id, now]).await?;
        authorization(&mut row.ok_or(StoreError::NotFound("authorization"))?)
    }

    /// Says anew what an API key is for, or gives it another token; `None` leaves it as it is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn update_authorization(
        &mut self,
        of: &AccountId,
        id: &AuthorizationId,
        description: Option<&str>,
        token: Option<(&str, &str)>,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE authorizations SET description = coalesce($3, description), \
                   token_hash = coalesce($4, token_hash), token_hint = coalesce($5, token_hint) \
                   WHERE account = $1 AND id = $2";
        let (hash, hint) = token.unzip();
        self.execute(sql, args![of, id, description, hash, hint]).await?;
        Ok(())
    }

    /// Ends an API key; whether it was there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_authorization(&mut self, of: &AccountId, id: &AuthorizationId) -> Result<bool, StoreError> {
        let sql = "DELETE FROM authorizations WHERE id = $1 AND account = $2";
        Ok(self.execute(sql, args![id, of]).await? > 0)
    }
}
