//! What an input that is accepted changes: exactly what it asked for.

use paas_tests::api_world::Ask;
use paas_tests::database::Changes;
use serde_json::Value;

use super::World;

/// A new app: its row, its config, its host name, and the two releases that every app begins with.
const AN_APP: &str = "apps +1, config_versions +1, domains +1, releases +2";
/// Config vars: another version of them and its release; the app points at both.
const CONFIG: &str = "apps -1 +1, config_versions +1, releases +1";
/// A one-off dyno; the app's generation is raised.
const A_DYNO: &str = "apps -1 +1, dynos +1";
/// A host name; the app's generation is raised.
const A_DOMAIN: &str = "apps -1 +1, domains +1";
/// A release; the app points at it.
const A_RELEASE: &str = "apps -1 +1, releases +1";

/// For each entry of whose inputs some are accepted (2xx) and write something: what each of those changes. Whatever
/// else is accepted changes nothing: it reads, or asks for what there is no such thing as (A63).
#[rustfmt::skip]
const ACCEPTED: &[(&str, &str)] = &[
    // No body, `{}` and `null` are an app with a name that the platform finds.
    ("A29", AN_APP), ("A30", AN_APP),
    // Names that only look odd; and that of an app that is gone.
    ("B10", AN_APP), ("B38", AN_APP), ("B46", AN_APP),
    // Config vars that Heroku takes: large ones (C03, C38), names that shells and git know (C17, C19, C20), and
    // values with white space, line ends and shell words, byte by byte (C30, C31, C34); an empty one; If-Match is
    // not looked at (C49).
    ("C03", CONFIG), ("C17", CONFIG), ("C19", CONFIG), ("C20", CONFIG), ("C30", CONFIG), ("C31", CONFIG),
    ("C34", CONFIG), ("C37", CONFIG), ("C38", CONFIG), ("C48", CONFIG), ("C49", CONFIG),
    // One-off dynos with a process type and with variables of their own.
    ("E08", A_DYNO), ("E09", A_DYNO), ("E16", A_DYNO),
    // The dot at the end of a name stands for the root.
    ("F09", A_DOMAIN), ("F45", A_DOMAIN), ("F53", A_DOMAIN),
    // A rollback, once more.
    ("I09", A_RELEASE),
];

impl World {
    /// An accepted request changed what it asked for: the rows that are named for it, all of them of the app that it
    /// is about.
    pub(crate) async fn changed_what_was_asked(&self, id: &str, ask: &Ask, answer: &Value, changes: &Changes) {
        let reads = ["GET", "HEAD"].contains(&ask.method.as_str());
        let named = ACCEPTED.iter().find(|(known, _)| !reads && *known == id).map_or("", |(_, named)| named);
        assert_eq!(changes.to_string(), named, "{id}: {ask:?}");
        if named.is_empty() {
            return;
        }
        let app = match ask.path.trim_start_matches("/apps/").split('/').next() {
            Some(name) if ask.path.starts_with("/apps/") => self.api.get(&format!("/apps/{name}")).await.json(),
            _ => answer.clone(),
        };
        let app = app["id"].as_str().expect("an app's id");
        let others = changes.rows_without(app, &[]);
        assert!(others.is_empty(), "{id} changed what is not the app's: {others:?}");
    }
}
