//! Host names of apps. One host name belongs to one app.

use paas_domain::{DomainId, HostName, Timestamp};

use crate::row::{Row, args};
use crate::{AppScope, StoreError, Uow};

/// Why an app has a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainKind {
    /// Ours: `<app>.localhost`.
    Heroku,
    /// Somebody's own.
    Custom,
}

impl DomainKind {
    /// Heroku's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Heroku => "heroku",
            Self::Custom => "custom",
        }
    }
}

/// A host name of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its id.
    pub id: DomainId,
    /// The host name.
    pub hostname: HostName,
    /// Why the app has it.
    pub kind: DomainKind,
    /// Since when.
    pub created_at: Timestamp,
}

fn domain(mut row: Row) -> Result<Domain, StoreError> {
    Ok(Domain {
        id: row.parse()?,
        hostname: row.parse()?,
        kind: match row.text()?.as_str() {
            "heroku" => DomainKind::Heroku,
            "custom" => DomainKind::Custom,
            _ => return Err(StoreError::Corrupt("domain kind")),
        },
        created_at: row.time()?,
    })
}

impl Uow {
    /// Gives an app a host name.
    ///
    /// # Errors
    /// [`StoreError::Taken`] when an app has it.
    pub async fn create_domain(
        &mut self,
        of: &AppScope,
        hostname: &HostName,
        kind: DomainKind,
        now: Timestamp,
    ) -> Result<Domain, StoreError> {
        let id = DomainId::new();
        let sql = "INSERT INTO domains (id, app, hostname, kind, created_at) VALUES ($1, $2, $3, $4, $5)";
        self.execute(sql, args![&id, of.id(), hostname, kind.as_str(), now]).await?;
        Ok(Domain { id, hostname: hostname.clone(), kind, created_at: now })
    }

    /// The app's host names, the platform's own first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn domains(&mut self, of: &AppScope) -> Result<Vec<Domain>, StoreError> {
        let sql = "SELECT id, hostname, kind, created_at FROM domains WHERE app = $1 ORDER BY kind DESC, hostname";
        self.rows(sql, args![of.id()]).await?.into_iter().map(domain).collect()
    }

    /// A host name of another account that this one would take traffic from, or the other way round: a wildcard
    /// above it, or, when it is a wildcard itself, a host below.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn foreign_overlap(
        &mut self,
        of: &AppScope,
        hostname: &HostName,
    ) -> Result<Option<HostName>, StoreError> {
        // Host names hold no `%` and no `_`, so LIKE needs no escape; `*.x.y` is below `x.y` like any other.
        let sql = "SELECT d.hostname FROM domains d JOIN apps a ON a.id = d.app \
                   WHERE a.owner <> (SELECT owner FROM apps WHERE id = $1) AND d.hostname <> $2 AND \
                   (($2 LIKE '*.%' AND d.hostname LIKE '%' || substr($2, 2)) \
                   OR (d.hostname LIKE '*.%' AND $2 LIKE '%' || substr(d.hostname, 2))) LIMIT 1";
        self.row(sql, args![of.id(), hostname]).await?.map(|mut row| row.parse()).transpose()
    }

    /// Takes a host name from an app.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delete_domain(&mut self, of: &AppScope, id: &DomainId) -> Result<(), StoreError> {
        self.execute("DELETE FROM domains WHERE id = $1 AND app = $2", args![id, of.id()]).await?;
        Ok(())
    }
}
