//! What the ledger holds for this driver: one note per process type, one per dyno, one for an app's one-off dynos.

use std::collections::{BTreeMap, BTreeSet};

use paas_domain::{AppId, DynoId, DynoKind, DynoName, DynoSize, Generation, ProcessType, ReleaseVersion, Timestamp};
use paas_ports::{PortError, RolloutFailure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::DynoNotes;

/// What was last asked of ECS for a process type, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// The highest generation that was seen.
    pub generation: Generation,
    /// The restart that was last carried out.
    pub restart: i64,
    /// What the definition was made of.
    pub fingerprint: String,
    /// The definition that should run: its ARN.
    pub definition: String,
    /// The deployment that ECS worked towards before the last change was asked for.
    pub replaced: Option<String>,
    /// The deployment that runs `definition`, once it was seen.
    pub deployment: Option<String>,
    /// Whether that deployment ever served.
    pub served: bool,
    /// The dynos that came to serve and have not ended.
    pub ready: BTreeSet<DynoId>,
    /// The last definition that served.
    pub serving: Option<String>,
    /// Why it does not serve and is not tried again for now.
    pub failure: Option<Failed>,
    /// Tasks that ended at this time or before are forgiven.
    pub forgiven: Timestamp,
    /// Tasks that crashed after the deployment had served, lately.
    pub crashes: BTreeMap<DynoId, Timestamp>,
    /// Dynos whose end was told and that ECS still shows, with their names.
    pub told: BTreeMap<DynoId, DynoName>,
    /// The target group that its dynos are registered in.
    pub attachment: Option<String>,
    /// Since when it runs on demand though Spot is wanted, because Spot had no room.
    pub no_spot: Option<Timestamp>,
    /// Whether it was removed, service and all.
    pub removed: bool,
    /// What is known of every definition that may still be in use, by its ARN.
    pub definitions: BTreeMap<String, Definition>,
    /// What may be there and is in no note.
    pub unnoted: Unnoted,
}

/// Definitions, and secrets that they were to name, of which a server that ended may have told nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unnoted {
    /// Since when one is being made that the note does not have yet.
    pub making: Option<Timestamp>,
    /// Whether somebody began to make one and nobody knows the end of it.
    pub lost: bool,
}

/// The longest that making one takes, its wait for its turn included.
const MAKING_S: i64 = 900;

impl Unnoted {
    /// One is made from now on; to be written before anything is.
    pub fn begin(&mut self, now: Timestamp) {
        self.lost |= self.making.is_some();
        self.making = Some(now);
    }

    /// It is noted, or will be by the same write.
    pub fn end(&mut self) {
        self.making = None;
    }

    /// Whether somebody, perhaps another server, may be about to note down what he made.
    #[must_use]
    pub fn busy(&self, now: Timestamp) -> bool {
        self.making.is_some_and(|since| since.plus_s(MAKING_S) > now)
    }

    /// Whether there may be something to look for, and nobody else is at it.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> bool {
        (self.lost || self.making.is_some()) && !self.busy(now)
    }
}

/// A rollout that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The dyno.
    pub dyno: Option<DynoName>,
    /// Heroku's code.
    pub code: Option<String>,
    /// A sentence.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl From<&Failed> for RolloutFailure {
    fn from(failed: &Failed) -> Self {
        let code = ["R10", "R14", "R15"].into_iter().find(|code| failed.code.as_deref() == Some(code));
        Self { dyno: failed.dyno.clone(), code, message: failed.message.clone(), at: failed.at }
    }
}

/// What a task definition is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The release.
    pub release: ReleaseVersion,
    /// The wish it was made for.
    pub generation: Generation,
    /// The dynos' size.
    pub size: DynoSize,
    /// Their command.
    pub command: String,
    /// The secret that it names, as `config/<id>`.
    pub secret: Option<String>,
}

/// What became of one dyno.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DynoNote {
    /// Why it runs.
    pub kind: DynoKind,
    /// Its name; a service's has its slot.
    pub name: DynoName,
    /// Its release.
    pub release: ReleaseVersion,
    /// Of which wish.
    pub generation: Generation,
    /// Its size.
    pub size: DynoSize,
    /// Its command line.
    pub command: String,
    /// Its task's ARN, once there is one.
    pub task: Option<String>,
    /// When it was made.
    pub made_at: Timestamp,
    /// When it came to serve.
    #[serde(default)]
    pub up_at: Option<Timestamp>,
    /// When it was told to stop.
    #[serde(default)]
    pub stop_at: Option<Timestamp>,
    /// How it ended.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// Nobody may ask for it any more; kept so that its id is not started again.
    #[serde(default)]
    pub forgotten: bool,
    /// Somebody is to attach before its command starts, and has not.
    #[serde(default)]
    pub awaited: bool,
    /// A one-off dyno's own secret and definition, which go with it.
    #[serde(default)]
    pub own_definition: Option<String>,
    /// Why a one-off dyno has not started yet, or never did.
    #[serde(default)]
    pub why: Option<String>,
    /// Whether that is for good, unless somebody asks for it all the same.
    #[serde(default)]
    pub for_good: bool,
}

/// An end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// The exit status; `None` when it never ran.
    pub code: Option<i32>,
    /// When.
    pub at: Timestamp,
    /// Whether it ended by itself or for a fault of its own.
    pub crashed: bool,
}

/// The definition of an app's one-off dynos.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OnceNote {
    /// What it was made of.
    pub fingerprint: String,
    /// Its ARN.
    pub definition: String,
    /// The secret that it names.
    pub secret: Option<String>,
    /// Earlier ones, with their secrets, that dynos may still be started from.
    #[serde(default)]
    pub old: BTreeMap<String, Option<String>>,
    /// What may be there and is in no note.
    #[serde(default)]
    pub unnoted: Unnoted,
}

/// How long after it was made AWS may not show a task, in seconds.
pub(crate) const NOT_YET_S: i64 = 60;

/// The key of the one-off definition's note.
pub(crate) const ONCE: &str = "once";

pub(crate) fn type_key(process_type: &ProcessType) -> String {
    format!("type/{process_type}")
}

pub(crate) fn type_of_key(key: &str) -> Option<ProcessType> {
    key.strip_prefix("type/")?.parse().ok()
}

pub(crate) fn dyno_key(dyno: &DynoId) -> String {
    format!("dyno/{dyno}")
}

fn dyno_of_key(key: &str) -> Option<DynoId> {
    key.strip_prefix("dyno/")?.parse().ok()
}

/// Reads a note; one that is damaged says as much as none.
pub(crate) fn read<T: DeserializeOwned>(notes: &BTreeMap<String, String>, key: &str) -> Option<T> {
    serde_json::from_str(notes.get(key)?).ok()
}

/// Every dyno that was noted.
pub(crate) fn dynos(notes: &BTreeMap<String, String>) -> impl Iterator<Item = (DynoId, DynoNote)> {
    notes.iter().filter_map(|(key, text)| {
        let (id, dyno): (DynoId, DynoNote) = (dyno_of_key(key)?, serde_json::from_str(text).ok()?);
        Some((id, dyno))
    })
}

/// Writes a note.
pub(crate) async fn write<T: Serialize>(
    notes: &dyn DynoNotes,
    app: &AppId,
    key: &str,
    note: &T,
) -> Result<(), PortError> {
    let text = serde_json::to_string(note).map_err(|e| PortError::permanent("keeping what a dyno did", e))?;
    notes.put_note(app, key, &text).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_noted_is_looked_for_when_nobody_can_be_at_it() {
        let (mut unnoted, start) = (Unnoted::default(), Timestamp(0));
        assert!(!unnoted.due(start) && !unnoted.busy(start));
        unnoted.begin(start);
        assert!(unnoted.busy(start.plus_s(60)) && !unnoted.due(start.plus_s(60)));
        assert!(unnoted.due(start.plus_s(MAKING_S)));
        let mut noted = unnoted.clone();
        noted.end();
        assert_eq!(noted, Unnoted::default());
        unnoted.begin(start.plus_s(1));
        unnoted.end();
        assert!(unnoted.due(start.plus_s(1)), "the first one's end is not known");
    }
}
