//! What the engine cannot tell of a dyno and a restart of the server must not lose: small files.
//!
//! Facts only ever grow (a dyno that was up stays one that was up), so whoever reads them late is right
//! all the same. They outlive the server, not the machine: when the machine dies, so do its dynos.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use paas_domain::{AppId, DynoId, Generation, ProcessType, Timestamp};
use paas_ports::Attachment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What became of one dyno.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Facts {
    /// The engine was asked to start it.
    pub(crate) started: bool,
    /// When it came to serve.
    pub(crate) up_at: Option<Timestamp>,
    /// It has to go.
    pub(crate) stop: Option<Stop>,
    /// When SIGTERM was sent.
    pub(crate) term_at: Option<Timestamp>,
    /// What it was killed for.
    pub(crate) failure: Option<Failure>,
    /// How it ended.
    pub(crate) exit: Option<Exit>,
    /// Its end is in the app's log.
    pub(crate) exit_said: bool,
    /// Its last line is in the app's log.
    pub(crate) drained: bool,
    /// Nobody may ask for it any more; kept for a while so that its id is not started again.
    pub(crate) forgotten: bool,
}

/// An order to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    /// When it came.
    pub(crate) asked_at: Timestamp,
    /// The app goes too: no draining and a short grace.
    pub(crate) quick: bool,
}

/// A fault that the platform kills for, or that keeps a dyno from starting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Failure {
    /// R10.
    BootTimeout,
    /// R15.
    MemoryVastlyExceeded,
    /// The engine could not run the image's entrypoint.
    CannotStart(String),
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// The exit status; 128 + the signal's number when a signal ended it.
    pub(crate) code: i32,
    /// When it was seen.
    pub(crate) at: Timestamp,
}

/// How much of a dyno's output is in the app's log: for stdout and stderr apart, since only within one of
/// them the engine's times never go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Position {
    pub(crate) out: Mark,
    pub(crate) err: Mark,
}

/// The last stored line of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Mark {
    /// Its time in nanoseconds.
    pub(crate) at_ns: i64,
    /// How many pieces with that very time are stored: the engine gives all pieces of a long line one time.
    pub(crate) pieces: u32,
}

/// What was last wished of one process type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Wish {
    /// The highest generation seen.
    pub(crate) generation: Generation,
    /// The pool its dynos are registered in.
    pub(crate) attachment: Option<Attachment>,
    /// The quantity.
    pub(crate) wanted: u16,
}

/// The folder that the files are in. Answers are best effort: without the disk, dynos still run.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: PathBuf,
}

impl Files {
    /// Opens the folder, making it when it is not there.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        for sub in ["dynos", "wishes"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    pub(crate) fn facts(&self, dyno: &DynoId) -> Option<Facts> {
        read(&self.dyno_path(dyno, "json"))
    }

    pub(crate) fn write_facts(&self, dyno: &DynoId, facts: &Facts) {
        write(&self.dyno_path(dyno, "json"), facts);
    }

    pub(crate) fn position(&self, dyno: &DynoId) -> Position {
        read(&self.dyno_path(dyno, "pos")).unwrap_or_default()
    }

    pub(crate) fn write_position(&self, dyno: &DynoId, position: &Position) {
        write(&self.dyno_path(dyno, "pos"), position);
    }

    pub(crate) fn drop_position(&self, dyno: &DynoId) {
        let _ = fs::remove_file(self.dyno_path(dyno, "pos"));
    }

    pub(crate) fn drop_dyno(&self, dyno: &DynoId) {
        self.drop_position(dyno);
        let _ = fs::remove_file(self.dyno_path(dyno, "json"));
    }

    pub(crate) fn wish(&self, app: &AppId, process_type: &ProcessType) -> Wish {
        read(&self.wish_path(app, process_type)).unwrap_or_default()
    }

    pub(crate) fn write_wish(&self, app: &AppId, process_type: &ProcessType, wish: &Wish) {
        let _ = fs::create_dir_all(self.dir.join("wishes").join(app.as_str()));
        write(&self.wish_path(app, process_type), wish);
    }

    pub(crate) fn drop_app(&self, app: &AppId) {
        let _ = fs::remove_dir_all(self.dir.join("wishes").join(app.as_str()));
    }

    /// The apps with a wish.
    pub(crate) fn apps(&self) -> Vec<AppId> {
        names(&self.dir.join("wishes")).filter_map(|name| name.parse().ok()).collect()
    }

    /// The process types of an app with a wish.
    pub(crate) fn process_types(&self, app: &AppId) -> Vec<ProcessType> {
        names(&self.dir.join("wishes").join(app.as_str()))
            .filter_map(|name| name.strip_suffix(".json").and_then(|n| n.parse().ok()))
            .collect()
    }

    /// Drops the files of dynos that are not in `keep` and whose last change is older than `age`.
    pub(crate) fn prune(&self, keep: &HashSet<DynoId>, age: Duration) {
        for name in names(&self.dir.join("dynos")) {
            let path = self.dir.join("dynos").join(&name);
            let changed = fs::metadata(&path).and_then(|m| m.modified()).ok();
            let old = changed.and_then(|at| at.elapsed().ok()).is_some_and(|passed| passed >= age);
            let dyno: Option<DynoId> = name.split_once('.').and_then(|(id, _)| id.parse().ok());
            if old && !dyno.is_some_and(|d| keep.contains(&d)) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn dyno_path(&self, dyno: &DynoId, kind: &str) -> PathBuf {
        self.dir.join("dynos").join(format!("{dyno}.{kind}"))
    }

    fn wish_path(&self, app: &AppId, process_type: &ProcessType) -> PathBuf {
        self.dir.join("wishes").join(app.as_str()).join(format!("{process_type}.json"))
    }
}

fn names(dir: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    // A file that is torn says as much as none.
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn write<T: Serialize>(path: &Path, value: &T) {
    // Beside each file its own: a dyno's two files are written by two tasks.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let result = serde_json::to_vec(value)
        .map_err(io::Error::from)
        .and_then(|bytes| fs::write(&new, bytes))
        .and_then(|()| fs::rename(&new, path));
    if let Err(e) = result {
        tracing::warn!(path = %path.display(), error = %e, "cannot keep the state of a dyno");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_there_and_damage_is_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files::open(dir.path()).expect("opens");
        let dyno = DynoId::new();
        assert_eq!(files.facts(&dyno), None);
        let facts = Facts { up_at: Some(Timestamp(5)), ..Facts::default() };
        files.write_facts(&dyno, &facts);
        files.write_position(&dyno, &Position::default());
        assert_eq!(files.facts(&dyno), Some(facts));
        fs::write(dir.path().join("dynos").join(format!("{dyno}.json")), "{").expect("writes");
        assert_eq!(files.facts(&dyno), None);

        let app = AppId::new();
        let web: ProcessType = "web".parse().expect("a type");
        files.write_wish(&app, &web, &Wish { generation: Generation(4), ..Wish::default() });
        assert_eq!(files.wish(&app, &web).generation, Generation(4));
        assert_eq!((files.apps(), files.process_types(&app)), (vec![app.clone()], vec![web]));
        files.drop_app(&app);
        assert!(files.apps().is_empty());
    }

    #[test]
    fn files_of_dynos_that_are_gone_are_pruned_later() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = Files::open(dir.path()).expect("opens");
        let (here, gone) = (DynoId::new(), DynoId::new());
        for dyno in [&here, &gone] {
            files.write_facts(dyno, &Facts::default());
        }
        let keep = HashSet::from([here.clone()]);
        files.prune(&keep, Duration::from_secs(60));
        assert!(files.facts(&gone).is_some());
        files.prune(&keep, Duration::ZERO);
        assert!(files.facts(&gone).is_none() && files.facts(&here).is_some());
    }
}
