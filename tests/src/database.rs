//! Databases for tests: a fresh one each, on SQLite or PostgreSQL, and everything that is in one as text.

use std::collections::BTreeMap;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
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

/// What is different between two dumps: by table, the rows that went and the rows that came. A row that changed is
/// both.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<String, (Vec<String>, Vec<String>)>);

impl Changes {
    /// From one dump to a later one.
    #[must_use]
    pub fn between(before: &Dump, after: &Dump) -> Self {
        let mut tables: Vec<&String> = before.keys().chain(after.keys()).collect();
        tables.sort();
        tables.dedup();
        let of = |table: &String| {
            let rows = |dump: &Dump| dump.get(table).cloned().unwrap_or_default();
            let (went, came) = (without(rows(before), &rows(after)), without(rows(after), &rows(before)));
            (!went.is_empty() || !came.is_empty()).then(|| (table.clone(), (went, came)))
        };
        Self(tables.into_iter().filter_map(of).collect())
    }

    /// The rows that changed and do not hold this text, but for those of the tables in `leave_out`.
    #[must_use]
    pub fn rows_without(&self, text: &str, leave_out: &[&str]) -> Vec<&str> {
        let tables = self.0.iter().filter(|(table, _)| !leave_out.contains(&table.as_str()));
        let rows = tables.flat_map(|(_, (went, came))| went.iter().chain(came)).map(String::as_str);
        rows.filter(|row| !row.contains(text)).collect()
    }

    /// The rows of a table that came.
    #[must_use]
    pub fn came(&self, table: &str) -> &[String] {
        self.0.get(table).map_or(&[], |(_, came)| came)
    }
}

/// How many rows of which tables: `apps -1 +1, releases +1`. Nothing when nothing changed.
impl std::fmt::Display for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, (table, (went, came))) in self.0.iter().enumerate() {
            write!(f, "{}{table}", if n == 0 { "" } else { ", " })?;
            for (sign, rows) in [('-', went), ('+', came)].iter().filter(|(_, rows)| !rows.is_empty()) {
                write!(f, " {sign}{}", rows.len())?;
            }
        }
        Ok(())
    }
}

/// The rows that are not in `others`, each as often as it is there more often.
fn without(mut rows: Vec<String>, others: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for other in others {
        *counts.entry(other).or_default() += 1;
    }
    rows.retain(|row| match counts.get_mut(row.as_str()) {
        Some(count @ 1..) => {
            *count -= 1;
            false
        }
        _ => true,
    });
    rows
}

/// The files below a folder, as a table of a [`Dump`]: path, size and a hash of the content. Paths that begin
/// with one of `leave_out` are not looked at.
#[must_use]
pub fn files(folder: &Path, leave_out: &[&str]) -> Vec<String> {
    fn walk(folder: &Path, below: &str, leave_out: &[&str], found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = format!("{below}{}", entry.file_name().to_string_lossy());
            if leave_out.iter().any(|left| path.starts_with(left)) {
                continue;
            }
            let kind = entry.file_type().expect("a kind of file");
            if kind.is_dir() {
                found.push(format!("{path}/"));
                walk(&entry.path(), &format!("{path}/"), leave_out, found);
            } else if kind.is_symlink() {
                found.push(format!("{path} -> {:?}", std::fs::read_link(entry.path()).ok()));
            } else {
                let content = std::fs::read(entry.path()).unwrap_or_default();
                found.push(format!("{path} {} {:?}", content.len(), digest(&SHA256, &content)));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, "", leave_out, &mut found);
    sorted(found)
}

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

/// Everything in the SQLite database at this URL.
///
/// # Panics
/// When it does not open.
pub async fn dump_sqlite(url: &str) -> Dump {
    let mut connection = SqliteConnection::connect(url).await.expect("the database opens");
    let sql = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name";
    let tables = sqlx::query(sql).fetch_all(&mut connection).await.expect("tables");
    let mut parts = Vec::new();
    for table in tables.iter().map(|row| row.get::<String, _>(0)) {
        let sql = AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"));
        let columns = sqlx::query(sql).fetch_all(&mut connection).await.expect("columns");
        let columns: Vec<String> = columns.iter().map(|row| format!("quote({})", row.get::<String, _>(0))).collect();
        parts.push(format!("SELECT '{table}', {} FROM {table}", columns.join("||','||")));
    }
    let rows = sqlx::query(AssertSqlSafe(parts.join(" UNION ALL "))).fetch_all(&mut connection).await.expect("rows");
    by_table(rows.iter().map(|row| (row.get(0), row.get(1))))
}

async fn dump_postgres(server: &str, schema: &str) -> Dump {
    let mut connection = PgConnection::connect(server).await.expect("PostgreSQL answers");
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY tablename";
    let tables = sqlx::query(sql).bind(schema).fetch_all(&mut connection).await.expect("tables");
    let tables = tables.iter().map(|row| row.get::<String, _>(0));
    let parts: Vec<String> = tables.map(|table| format!("SELECT '{table}', t::text FROM {schema}.{table} t")).collect();
    let rows = sqlx::query(AssertSqlSafe(parts.join(" UNION ALL "))).fetch_all(&mut connection).await.expect("rows");
    by_table(rows.iter().map(|row| (row.get(0), row.get(1))))
}

fn by_table(rows: impl Iterator<Item = (String, String)>) -> Dump {
    let mut dump = Dump::new();
    for (table, row) in rows {
        dump.entry(table).or_default().push(row);
    }
    dump.into_iter().map(|(table, rows)| (table, sorted(rows))).collect()
}

fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}
