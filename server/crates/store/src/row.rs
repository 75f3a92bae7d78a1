//! Values on their way in and out of either database.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column as _, Row as _, TypeInfo as _, ValueRef as _};

use crate::StoreError;

/// A parameter. Typed also when it is NULL, because PostgreSQL asks.
#[derive(Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Bytes(Option<Vec<u8>>),
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(Some(v.to_owned()))
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::Text(Some(v))
    }
}
impl From<Option<String>> for Value {
    fn from(v: Option<String>) -> Self {
        Self::Text(v)
    }
}
impl From<Option<&str>> for Value {
    fn from(v: Option<&str>) -> Self {
        Self::Text(v.map(str::to_owned))
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(Some(v))
    }
}
impl From<Option<i64>> for Value {
    fn from(v: Option<i64>) -> Self {
        Self::Int(v)
    }
}
impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Int(Some(i64::from(v)))
    }
}
impl From<paas_domain::Timestamp> for Value {
    fn from(v: paas_domain::Timestamp) -> Self {
        Self::Int(Some(v.0))
    }
}
impl From<Option<paas_domain::Timestamp>> for Value {
    fn from(v: Option<paas_domain::Timestamp>) -> Self {
        Self::Int(v.map(|t| t.0))
    }
}
impl From<Vec<u8>> for Value {
    fn from(v: Vec<u8>) -> Self {
        Self::Bytes(Some(v))
    }
}

macro_rules! text_values {
    ($($name:ty),* $(,)?) => {$(
        impl From<&$name> for Value {
            fn from(v: &$name) -> Self {
                Self::Text(Some(v.as_str().to_owned()))
            }
        }
        impl From<Option<&$name>> for Value {
            fn from(v: Option<&$name>) -> Self {
                Self::Text(v.map(|v| v.as_str().to_owned()))
            }
        }
    )*};
}
text_values!(
    paas_domain::AccountId,
    paas_domain::AppId,
    paas_domain::AppName,
    paas_domain::Architecture,
    paas_domain::AuthorizationId,
    paas_domain::BuildId,
    paas_domain::BuildStatus,
    paas_domain::Capacity,
    paas_domain::ConfigId,
    paas_domain::Digest,
    paas_domain::DomainId,
    paas_domain::DynoId,
    paas_domain::DynoKind,
    paas_domain::DynoSize,
    paas_domain::DynoState,
    paas_domain::HostName,
    paas_domain::InstallId,
    paas_domain::JobId,
    paas_domain::OutputId,
    paas_domain::ProcessType,
    paas_domain::ReleaseId,
    paas_domain::ReleaseStatus,
    paas_domain::RolloutState,
);

/// Parameters of one statement, in their order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::row::Value::from($value)),*] };
}
pub(crate) use args;

/// A row; its columns are taken in their order.
pub(crate) struct Row(std::vec::IntoIter<Value>);

impl Row {
    pub(crate) fn from_sqlite(row: &SqliteRow) -> Result<Self, StoreError> {
        let mut values = Vec::with_capacity(row.len());
        for at in 0..row.len() {
            let raw = row.try_get_raw(at)?;
            let value = match (raw.is_null(), raw.type_info().name()) {
                (true, _) => Value::Text(None),
                (_, "INTEGER" | "BOOLEAN" | "INT8" | "BIGINT") => Value::Int(Some(row.try_get(at)?)),
                (_, "BLOB") => Value::Bytes(Some(row.try_get(at)?)),
                _ => Value::Text(Some(row.try_get(at)?)),
            };
            values.push(value);
        }
        Ok(Self(values.into_iter()))
    }

    pub(crate) fn from_postgres(row: &PgRow) -> Result<Self, StoreError> {
        let mut values = Vec::with_capacity(row.len());
        for column in row.columns() {
            let at = column.ordinal();
            let value = match column.type_info().name() {
                "INT8" => Value::Int(row.try_get(at)?),
                "INT4" => Value::Int(row.try_get::<Option<i32>, _>(at)?.map(i64::from)),
                "BYTEA" => Value::Bytes(row.try_get(at)?),
                _ => Value::Text(row.try_get(at)?),
            };
            values.push(value);
        }
        Ok(Self(values.into_iter()))
    }

    pub(crate) fn opt_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.0.next() {
            Some(Value::Text(v)) => Ok(v),
            Some(Value::Int(None) | Value::Bytes(None)) => Ok(None),
            _ => Err(StoreError::Corrupt("text")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        self.opt_text()?.ok_or(StoreError::Corrupt("text"))
    }

    pub(crate) fn opt_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.0.next() {
            Some(Value::Int(v)) => Ok(v),
            Some(Value::Text(None) | Value::Bytes(None)) => Ok(None),
            _ => Err(StoreError::Corrupt("number")),
        }
    }

    pub(crate) fn int(&mut self) -> Result<i64, StoreError> {
        self.opt_int()?.ok_or(StoreError::Corrupt("number"))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, StoreError> {
        Ok(self.int()? != 0)
    }

    pub(crate) fn time(&mut self) -> Result<paas_domain::Timestamp, StoreError> {
        self.int().map(paas_domain::Timestamp)
    }

    pub(crate) fn opt_time(&mut self) -> Result<Option<paas_domain::Timestamp>, StoreError> {
        Ok(self.opt_int()?.map(paas_domain::Timestamp))
    }

    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        match self.0.next() {
            Some(Value::Bytes(Some(v))) => Ok(v),
            _ => Err(StoreError::Corrupt("bytes")),
        }
    }

    /// A text that is a value of one of the domain's types.
    pub(crate) fn parse<T: std::str::FromStr>(&mut self) -> Result<T, StoreError> {
        self.text()?.parse().map_err(|_| StoreError::Corrupt("name"))
    }

    /// The same, where NULL is allowed.
    pub(crate) fn opt_parse<T: std::str::FromStr>(&mut self) -> Result<Option<T>, StoreError> {
        self.opt_text()?.map(|text| text.parse().map_err(|_| StoreError::Corrupt("name"))).transpose()
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        serde_json::from_str(&self.text()?).map_err(|_| StoreError::Corrupt("JSON"))
    }
}

/// A value as the JSON text that a column holds.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|_| StoreError::Corrupt("JSON"))
}
