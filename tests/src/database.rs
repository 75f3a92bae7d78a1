//! Databases for tests: a fresh one each, on SQLite or PostgreSQL, and everything that is in one as text.

use std::collections::BTreeMap;

use paas_store::{MasterKey, Store};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};

/// The key of every database in tests.
pub const KEY: [u8; 32] = [7; 32];

/// A database of one test's own, empty until a [`Store`] opens it. Dropped with this value, if it is a file.
pub struct Database {
    url: String,
    schema: Option<(String, String)>,
    _folder: tempfile::TempDir,
}

/// Every row of every table, as text.
pub type Dump = BTreeMap<String, Vec<String>>;

impl Database {
    /// A file.
    ///
    /// # Panics
    /// When there is no temporary folder.
    #[must_use]
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite:{}", folder.path().join("paas.db").display());
        Self { url, schema: None, _folder: folder }
    }

    /// A schema of its own in the PostgreSQL at `PAAS_TEST_POSTGRES`.
    ///
    /// # Panics
    /// With "not run: …" when the variable is not set, and when nothing answers there.
    pub async fn postgres() -> Self {
        let server = std::env::var("PAAS_TEST_POSTGRES").unwrap_or_default();
        assert!(!server.is_empty(), "not run: PAAS_TEST_POSTGRES is not set (`make test` sets it)");
        let name = format!("test_{}", paas_domain::JobId::new().as_str().replace('-', ""));
        let connection = PgConnection::connect(&server).await;
        let mut connection = connection.unwrap_or_else(|e| panic!("not run: no PostgreSQL answers: {e}"));
        let sql = AssertSqlSafe(format!("CREATE SCHEMA {name}"));
        sqlx::query(sql).execute(&mut connection).await.expect("a schema");
        let divider = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{divider}options=-c%20search_path%3D{name}");
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { url, schema: Some((server, name)), _folder: folder }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Opens it, as a server does.
    ///
    /// # Panics
    /// When it does not open.
    pub async fn open(&self) -> Store {
        Store::open(&self.url, MasterKey::new(&KEY).expect("a key")).await.expect("the database opens")
    }

    /// Everything in it.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn dump(&self) -> Dump {
        match &self.schema {
            None => dump_sqlite(&self.url).await,
            Some((server, schema)) => dump_postgres(server, schema).await,
        }
    }

    /// Removes what [`Database::postgres`] made.
    ///
    /// # Panics
    /// When PostgreSQL does not answer.
    pub async fn remove(self) {
        let Some((server, schema)) = &self.schema else { return };
        let mut connection = PgConnection::connect(server).await.expect("PostgreSQL answers");
        let sql = AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"));
        sqlx::query(sql).execute(&mut connection).await.expect("the schema goes");
    }
}

async fn dump_sqlite(url: &str) -> Dump {
    let mut connection = SqliteConnection::connect(url).await.expect("the database opens");
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let tables = sqlx::query(sql).fetch_all(&mut connection).await.expect("tables");
    let mut dump = Dump::new();
    for table in tables.iter().map(|row| row.get::<String, _>(0)) {
        let sql = AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
        let columns = sqlx::query(sql).fetch_all(&mut connection).await.expect("columns");
        let columns: Vec<String> = columns.iter().map(|row| format!("quote({})", row.get::<String, _>(0))).collect();
        let sql = AssertSqlSafe(format!("SELECT {} FROM {table}", columns.join("||','||")));
        let rows = sqlx::query(sql).fetch_all(&mut connection).await.expect("rows");
        dump.insert(table, sorted(rows.iter().map(|row| row.get::<String, _>(0)).collect()));
    }
    dump
}

async fn dump_postgres(server: &str, schema: &str) -> Dump {
    let mut connection = PgConnection::connect(server).await.expect("PostgreSQL answers");
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY tablename";
    let tables = sqlx::query(sql).bind(schema).fetch_all(&mut connection).await.expect("tables");
    let mut dump = Dump::new();
    for table in tables.iter().map(|row| row.get::<String, _>(0)) {
        let sql = AssertSqlSafe(format!("SELECT t::text FROM {schema}.{table} t"));
        let rows = sqlx::query(sql).fetch_all(&mut connection).await.expect("rows");
        dump.insert(table, sorted(rows.iter().map(|row| row.get::<String, _>(0)).collect()));
    }
    dump
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}
