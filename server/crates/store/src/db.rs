//! Connections and transactions, and the few places where the two databases differ.

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use paas_ports::outside;
use sqlx::postgres::{PgListener, PgPoolOptions, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Pool, Transaction};

use crate::row::{Row, Value};
use crate::seal::MasterKey;

/// How long a writer waits for another one before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers at the same time. Each is a connection with its own page cache.
const READERS: u32 = 4;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or did not answer.
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    /// A row holds what this version cannot read.
    #[error("the database holds an unreadable {0}")]
    Corrupt(&'static str),
    /// Another row has the value already. Names the unique rule.
    #[error("{0} is already taken")]
    Taken(&'static str),
    /// Somebody else holds the lease by now; nothing was written.
    #[error("the lease was lost")]
    Fenced,
    /// The row is not there.
    #[error("{0} is not there")]
    NotFound(&'static str),
    /// The key is not the one that this database's secrets are sealed with.
    #[error("the database's secrets are sealed with another key")]
    OtherKey,
    /// Sealed bytes that the key does not open.
    #[error("a sealed value cannot be opened with this key")]
    Unsealable,
}

/// The database.
#[derive(Clone)]
pub struct Store {
    pools: Pools,
    pub(crate) key: Arc<MasterKey>,
}

#[derive(Clone)]
enum Pools {
    Sqlite { writer: Pool<Sqlite>, readers: Pool<Sqlite> },
    Postgres(Pool<Postgres>),
}

/// A transaction. Dropped without [`Uow::save`], it never was.
pub struct Uow {
    tx: Tx,
    pub(crate) key: Arc<MasterKey>,
    _open: outside::OpenTransaction,
}

enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// What servers of a shared database tell each other about. None of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Something has changed.
    Changes,
    /// Log lines, for those who read along at another server.
    Lines,
}

impl Channel {
    fn name(self) -> &'static str {
        match self {
            Self::Changes => "paas_changed",
            Self::Lines => "paas_lines",
        }
    }
}

/// The most bytes that can be told at once: PostgreSQL takes fewer than 8000.
pub const MOST_TOLD: usize = 7_999;

/// What the servers of a shared database tell, this one included.
pub struct Heard(PgListener);

impl Heard {
    /// Waits for what a server tells next; `None` when the connection was lost meanwhile, and perhaps words with it.
    ///
    /// # Errors
    /// When the database does not answer; calling again connects anew.
    pub async fn next(&mut self) -> Result<Option<String>, StoreError> {
        Ok(self.0.try_recv().await?.map(|told| told.payload().to_owned()))
    }
}

impl Store {
    /// Opens the database (`sqlite:PATH` or `postgres://…`), making it and bringing its schema up to date.
    ///
    /// # Errors
    /// When it cannot be opened, or was written by a newer version.
    pub async fn open(url: &str, key: MasterKey) -> Result<Self, StoreError> {
        let pools = if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            Pools::Postgres(PgPoolOptions::new().max_connections(10).acquire_timeout(BUSY_TIMEOUT).connect(url).await?)
        } else {
            // FULL: what was answered is there after a power loss too.
            let options = SqliteConnectOptions::from_str(url)?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT);
            let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(BUSY_TIMEOUT * 3);
            let writer = writer.connect_with(options.clone()).await?;
            let readers = SqlitePoolOptions::new().max_connections(READERS).acquire_timeout(BUSY_TIMEOUT);
            let readers = readers.connect_lazy_with(options.read_only(true).create_if_missing(false));
            Pools::Sqlite { writer, readers }
        };
        let store = Self { pools, key: Arc::new(key) };
        crate::schema::migrate(&store).await?;
        Ok(store)
    }

    /// Whether this is PostgreSQL (several servers may share it).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.pools, Pools::Postgres(_))
    }

    /// Starts a change.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn begin(&self) -> Result<Uow, StoreError> {
        let tx = match &self.pools {
            // IMMEDIATE: a transaction that starts by reading cannot be refused when it comes to write.
            Pools::Sqlite { writer, .. } => Tx::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await?),
            Pools::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        };
        Ok(Uow { tx, key: Arc::clone(&self.key), _open: outside::enter() })
    }

    /// Starts a look at one moment of the database. Never waits for a writer.
    ///
    /// # Errors
    /// When no connection is to be had.
    pub async fn read(&self) -> Result<Uow, StoreError> {
        let tx = match &self.pools {
            Pools::Sqlite { readers, .. } => Tx::Sqlite(readers.begin().await?),
            Pools::Postgres(pool) => {
                Tx::Postgres(pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?)
            }
        };
        Ok(Uow { tx, key: Arc::clone(&self.key), _open: outside::enter() })
    }

    /// Tells the servers of a shared database something of at most [`MOST_TOLD`] bytes. Nothing is promised: who does
    /// not listen at the moment does not hear it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tell(&self, channel: Channel, what: &str) -> Result<(), StoreError> {
        if let Pools::Postgres(pool) = &self.pools {
            sqlx::query("SELECT pg_notify($1, $2)").bind(channel.name()).bind(what).execute(pool).await?;
        }
        Ok(())
    }

    /// Hears what servers tell from now on; `None` when the database is not shared.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn hear(&self, channel: Channel) -> Result<Option<Heard>, StoreError> {
        let Pools::Postgres(pool) = &self.pools else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(channel.name()).await?;
        Ok(Some(Heard(listener)))
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

/// A statement with its parameters, for one of the two databases.
macro_rules! bound {
    ($database:ty, $sql:expr, $args:expr) => {{
        let mut query = sqlx::query::<$database>($sql);
        for arg in $args {
            query = match arg {
                Value::Text(v) => query.bind(v),
                Value::Int(v) => query.bind(v),
                Value::Bytes(v) => query.bind(v),
            };
        }
        query
    }};
}

impl Uow {
    /// Makes the change true. Durable when this returns.
    ///
    /// # Errors
    /// When the database did not take it; then nothing was written.
    pub async fn save(self) -> Result<(), StoreError> {
        match self.tx {
            Tx::Sqlite(tx) => tx.commit().await?,
            Tx::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.tx, Tx::Postgres(_))
    }

    /// Runs a query and gives its rows.
    pub(crate) async fn rows(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        match &mut self.tx {
            Tx::Sqlite(tx) => {
                let rows = bound!(Sqlite, sql, args).fetch_all(&mut **tx).await.map_err(taken)?;
                rows.iter().map(Row::from_sqlite).collect()
            }
            Tx::Postgres(tx) => {
                let rows = bound!(Postgres, sql, args).fetch_all(&mut **tx).await.map_err(taken)?;
                rows.iter().map(Row::from_postgres).collect()
            }
        }
    }

    /// Runs a query of which at most one row is wanted.
    pub(crate) async fn row(&mut self, sql: &'static str, args: Vec<Value>) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Runs a statement; how many rows it changed.
    pub(crate) async fn execute(&mut self, sql: &'static str, args: Vec<Value>) -> Result<u64, StoreError> {
        match &mut self.tx {
            Tx::Sqlite(tx) => Ok(bound!(Sqlite, sql, args).execute(&mut **tx).await.map_err(taken)?.rows_affected()),
            Tx::Postgres(tx) => {
                Ok(bound!(Postgres, sql, args).execute(&mut **tx).await.map_err(taken)?.rows_affected())
            }
        }
    }

    /// Runs a statement made by the schema, which is ours but not a literal.
    pub(crate) async fn execute_schema(&mut self, sql: String) -> Result<(), StoreError> {
        let sql = sqlx::AssertSqlSafe(sql);
        match &mut self.tx {
            Tx::Sqlite(tx) => sqlx::query::<Sqlite>(sql).execute(&mut **tx).await.map(|_| ())?,
            Tx::Postgres(tx) => sqlx::query::<Postgres>(sql).execute(&mut **tx).await.map(|_| ())?,
        }
        Ok(())
    }
}

/// Turns the breach of a unique rule into [`StoreError::Taken`].
fn taken(error: sqlx::Error) -> StoreError {
    let unique = error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation);
    if !unique {
        return StoreError::Database(error);
    }
    let text = error.to_string();
    let rules = ["apps_name", "apps.name", "domains_hostname", "domains.hostname", "accounts"];
    let what = match rules.iter().position(|rule| text.contains(rule)) {
        Some(0 | 1) => "Name",
        Some(2 | 3) => "Domain",
        Some(_) => "Email",
        None => "Value",
    };
    StoreError::Taken(what)
}
