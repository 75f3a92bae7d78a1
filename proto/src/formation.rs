//! `formation`: how many dynos of which size a process type has.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Id, Named, Time};

/// `GET /apps/{app}/formation/{type}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formation {
    /// The app.
    pub app: Named,
    /// What its dynos run.
    pub command: String,
    /// When the process type first appeared.
    pub created_at: Time,
    /// The size of its dynos.
    pub dyno_size: Named,
    /// The formation line's id.
    pub id: Id,
    /// How many dynos are wanted.
    pub quantity: u32,
    /// The size's name: `Basic`, `Standard-1X`.
    pub size: String,
    /// The process type.
    pub r#type: String,
    /// When it last changed.
    pub updated_at: Time,
}

/// Body of `PATCH /apps/{app}/formation`: all or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateFormation {
    /// The process types to change.
    pub updates: Vec<FormationUpdate>,
}

/// One process type's change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormationUpdate {
    /// The process type.
    pub r#type: String,
    /// What to change.
    #[serde(flatten)]
    pub change: FormationChange,
}

/// What to change of one process type; also the body of `PATCH /apps/{app}/formation/{type}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormationChange {
    /// `3`, `"3"`, `"+1"` or `"-1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantity: Option<NumberOrText>,
    /// The size's name, in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The size as the schema has it: an object with `id` or `name`, or the bare name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dyno_size: Option<serde_json::Value>,
    /// The image to run (`container:release`); `null` and absent are told apart.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub docker_image: Option<Option<String>>,
}

impl FormationChange {
    /// The wanted size's name, whichever field it came in.
    #[must_use]
    pub fn wanted_size(&self) -> Option<&str> {
        let of_object = |v: &'_ serde_json::Value| v.get("name").is_some();
        self.size.as_deref().or_else(|| match &self.dyno_size {
            Some(serde_json::Value::String(name)) => Some(name),
            Some(value) if of_object(value) => value["name"].as_str(),
            Some(value) => value["id"].as_str(),
            None => None,
        })
    }
}

/// Keeps "absent" and "null" apart: absent is `None`, null is `Some(None)`.
fn present<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(input).map(Some)
}

/// A number that clients also send as text. [`fmt::Display`] gives the text to parse: `3`, `+1`, `v11`, `1.5`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NumberOrText {
    /// Sent as a JSON number, which may be no whole one.
    Number(serde_json::Number),
    /// Sent as a JSON string.
    Text(String),
}

impl fmt::Display for NumberOrText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(t) => f.write_str(t),
        }
    }
}
