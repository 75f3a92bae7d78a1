//! `log-session`: a URL to read an app's log from.

use serde::{Deserialize, Serialize};

use crate::{Id, Time};

/// The answer of `POST /apps/{app}/log-sessions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSession {
    /// When it was made.
    pub created_at: Time,
    /// The session's id.
    pub id: Id,
    /// Where to read; carries its own token.
    pub logplex_url: String,
    /// When it last changed.
    pub updated_at: Time,
}

/// Body of `POST /apps/{app}/log-sessions`. Empty means: the last 100 lines of everything, no tail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateLogSession {
    /// Only this dyno (`web.1`) or process type (`web`), as Heroku's CLI says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dyno: Option<String>,
    /// Only this dyno, as the schema says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dyno_name: Option<String>,
    /// How many lines of the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<i64>,
    /// Only this source: `app` or `heroku`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether to go on with lines to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<bool>,
    /// Only this process type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
}
