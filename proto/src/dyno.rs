//! `dyno`: one running container of an app.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Id, Named, Time};

/// `GET /apps/{app}/dynos/{dyno}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dyno {
    /// The app it belongs to.
    pub app: Named,
    /// Where to attach: `rendezvous://HOST:PORT/TOKEN`. Only in the answer that created an attached dyno.
    pub attach_url: Option<String>,
    /// What it runs.
    pub command: String,
    /// When it was asked for.
    pub created_at: Time,
    /// The dyno's id.
    pub id: Id,
    /// Its name: `web.1`, `run.4711`.
    pub name: String,
    /// The release it runs.
    pub release: ReleaseOfDyno,
    /// Its size: `Basic`, `Standard-1X`.
    pub size: String,
    /// `starting`, `up`, `idle`, `crashed` or `down`.
    pub state: String,
    /// Its process type.
    pub r#type: String,
    /// When its state last changed.
    pub updated_at: Time,
}

/// The release a dyno runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOfDyno {
    /// Its id.
    pub id: Id,
    /// Its version: 3 for `v3`.
    pub version: u64,
}

/// Body of `POST /apps/{app}/dynos`: a one-off dyno.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateDyno {
    /// Whether the caller wants to attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<bool>,
    /// The command line, as a shell reads it.
    pub command: String,
    /// More environment for this dyno only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// No terminal even when attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_no_tty: Option<bool>,
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Seconds until it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<u64>,
    /// Its process type: `run` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#type: Option<String>,
}
