//! A look at a whole platform: its rows, what the Docker engine and the AWS account have of it, its logs, its files, its
//! answers.

mod account;
mod engine;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use paas_domain::{AppId, DynoId, DynoKind, DynoName, DynoState, ProcessType, ReleaseVersion};
use paas_ports::outside;
use paas_server::data_folder::DataFolder;
use paas_store::{AppScope, Store};

use super::fakes::files;
use super::promises::Promises;
use super::seen::{count_in, dropped_in};
use super::{Host, Reached, Rows, Run, Seen, SeenDyno};
use crate::platform::{Kind, Method, Platform};

/// The most lines of an app's log that a look reads.
const LINES: usize = 1_500;

/// Looks at a platform, and at a few objects beside it that are none of its own.
pub struct Eyes<'a> {
    platform: &'a Platform,
    engine: engine::Engine<'a>,
    account: Option<account::Account<'a>>,
}

/// Something that runs, or ran, as its container or its task tells.
struct Thing {
    /// What it is, in a few words.
    what: String,
    app: Option<AppId>,
    dyno: Option<DynoId>,
    /// As a dyno; `None` for what is none.
    shown: Option<Shown>,
    /// Only told of, by a platform that remembers what has ended: nothing that could be left behind.
    past: bool,
}

struct Shown {
    process_type: ProcessType,
    /// Its whole name, where the thing itself has it.
    name: Option<DynoName>,
    kind: DynoKind,
    release: ReleaseVersion,
    stage: Stage,
}

/// How far a dyno's container or task has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Made,
    /// Its row says whether it serves.
    Runs,
    /// It was told to stop.
    Leaves,
    Ended,
}

impl<'a> Eyes<'a> {
    /// Begins to look, and puts the strangers there.
    ///
    /// # Panics
    /// When the engine or the account does not make them.
    #[must_use]
    pub fn open(platform: &'a Platform) -> Self {
        let account = (platform.kind() == Kind::Aws).then(|| account::Account::open(platform));
        Self { platform, engine: engine::Engine::open(platform), account }
    }

    /// The right to look at an app.
    ///
    /// # Panics
    /// When there is none of this name.
    #[must_use]
    pub fn scope(&self, app: &str) -> AppScope {
        self.with_store(async |store| {
            let mut uow = store.read().await.expect("a look");
            let account = uow.first_account().await.expect("a look").expect("an account");
            uow.authorize(&account.id, app).await.expect("a look").expect("the app").0
        })
    }

    /// Everything at this moment.
    ///
    /// # Panics
    /// When the platform does not answer.
    #[must_use]
    pub fn look(&self, promises: &Promises) -> Seen {
        let mut seen = self.with_store(async |store| {
            loop {
                let before = Rows::of_all(store, promises).await;
                let mut things = self.engine.things().await;
                things.extend(self.account.iter().flat_map(account::Account::things));
                let after = Rows::of_all(store, promises).await;
                if !before.values().map(Rows::moment).eq(after.values().map(Rows::moment)) {
                    continue;
                }
                let mut seen = Seen { rows: after, ..Seen::default() };
                seen.dynos = things.iter().filter_map(|thing| dyno(&seen.rows, thing)).collect();
                strays(store, promises, &things, &mut seen).await;
                return seen;
            }
        });
        self.engine.tell(promises, &mut seen);
        self.logs(promises, &mut seen);
        if let Some(account) = &self.account {
            account.tell(promises, &mut seen);
        }
        self.hosts(promises, &mut seen);
        let git = self.platform.data().join("git");
        seen.read_tips(|app| git.join(format!("{app}.git")));
        self.files(promises, &mut seen);
        seen
    }

    fn with_store<T>(&self, work: impl AsyncFnOnce(&Store) -> T) -> T {
        let data = self.platform.data();
        let key = DataFolder::open(&data).and_then(|data| data.master_key()).expect("the key");
        self.platform.with_engine(async |_| {
            outside::task(async {
                let store = Store::open(&self.platform.database_url(), key).await;
                let store = store.expect("the database opens");
                let result = work(&store).await;
                // Before anything else of this process opens and closes the file: that would drop its locks.
                store.close().await;
                result
            })
            .await
        })
    }

    /// The lines of the apps' logs that processes have counted: `run <token> count 2 of 3`, a token for each start.
    fn logs(&self, promises: &Promises, seen: &mut Seen) {
        for app in promises.apps().filter(|app| !app.destroyed) {
            let (id, path) = (app.scope.id(), format!("/apps/{}/log-sessions", app.name));
            let asked = serde_json::json!({"lines": LINES, "tail": false, "source": "app"});
            let session = self.platform.api(Method::Post, &path, Some(&asked)).json();
            let url = session["logplex_url"].as_str().expect("a URL").to_owned();
            let at = url.find("/log-sessions/").expect("a session's path");
            let text = self.platform.api(Method::Get, &url[at..], None).body;
            assert!(text.lines().count() < LINES, "the log of {} is longer than a look", app.name);
            if promises.are_told(text.as_bytes()) {
                seen.leaks.push(format!("the log of {}", app.name));
            }
            let dropped =
                text.lines().filter_map(|line| line.split_once("]: ")).map(|(_, said)| dropped_in(said)).sum();
            let mut places: HashMap<(String, String), usize> = HashMap::new();
            for line in text.lines() {
                let Some((process, said)) = line.split_once("app[").and_then(|(_, rest)| rest.split_once("]: ")) else {
                    continue;
                };
                let token = said.strip_prefix("run ").and_then(|rest| rest.split_once(" count "));
                let (Some((token, _)), Some((number, total))) = (token, count_in(said)) else { continue };
                let place = *places.entry((process.to_owned(), token.to_owned())).or_insert_with(|| {
                    let (app, process) = (id.clone(), process.to_owned());
                    seen.runs.push(Run { app, process, numbers: Vec::new(), total, dropped });
                    seen.runs.len() - 1
                });
                seen.runs[place].numbers.push(number);
            }
            for (process, _) in places.into_keys() {
                let Ok(name) = process.parse::<DynoName>() else { continue };
                if app.one_offs.values().any(|(promised, _)| *promised == name) || name.process_type.is_release() {
                    *seen.starts.entry((id.clone(), name)).or_default() += 1;
                }
            }
        }
    }

    fn hosts(&self, promises: &Promises, seen: &mut Seen) {
        let mut owners: BTreeMap<String, Option<AppId>> = BTreeMap::from([("nobody".to_owned(), None)]);
        for app in promises.apps() {
            owners.insert(app.name.clone(), (!app.destroyed).then(|| app.scope.id().clone()));
        }
        for (name, owner) in owners {
            let Ok(answer) = self.platform.try_get(&name, "/") else { continue };
            let says = |text: &Option<String>| text.as_ref().is_some_and(|text| answer.body.contains(text));
            let reached = match promises.apps().find(|app| says(&app.says)) {
                Some(app) if answer.status == 200 => Reached::App(app.scope.id().clone()),
                // Without a DNS record the front door says 421, and a browser that there is no such name.
                _ if [404, 421].contains(&answer.status) => Reached::Nobody,
                _ => Reached::Page,
            };
            seen.hosts.push(Host { name, owner, reached });
        }
    }

    /// The data folder and the server's own log.
    fn files(&self, promises: &Promises, seen: &mut Seen) {
        if promises.are_told(self.platform.server_log().as_bytes()) {
            seen.leaks.push("the server's log".to_owned());
        }
        for file in files(&self.platform.data()) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            if promises.are_told(&bytes) {
                seen.leaks.push(file.display().to_string());
            }
        }
    }
}

/// The dyno that a thing is. What one that runs does, its row says.
fn dyno(rows: &BTreeMap<AppId, Rows>, thing: &Thing) -> Option<SeenDyno> {
    let (app, id, shown) = (thing.app.clone()?, thing.dyno.clone()?, thing.shown.as_ref()?);
    let row = rows.get(&app).and_then(|rows| rows.dynos.iter().find(|row| row.id == id));
    let state = match shown.stage {
        Stage::Made => DynoState::Starting,
        Stage::Runs => row.map_or(DynoState::Starting, |row| row.state),
        Stage::Leaves => DynoState::Stopping,
        Stage::Ended if shown.kind == DynoKind::Service => DynoState::Crashed,
        Stage::Ended => DynoState::Ended,
    };
    let unnamed = || DynoName { process_type: shown.process_type.clone(), slot: 0 };
    let name = shown.name.clone().or_else(|| row.map(|row| row.name.clone())).unwrap_or_else(unnamed);
    Some(SeenDyno { app, id, name, kind: shown.kind, release: shown.release, state })
}

/// Things that no row names.
async fn strays(store: &Store, promises: &Promises, things: &[Thing], seen: &mut Seen) {
    let at_work: BTreeSet<&AppId> =
        seen.rows.iter().filter(|(_, rows)| rows.has_open_jobs()).map(|(app, _)| app).collect();
    let mut strays = Vec::new();
    for thing in things.iter().filter(|thing| !thing.past) {
        let promised = promises.apps().find(|promised| Some(promised.scope.id()) == thing.app.as_ref());
        let named = match (promised, &thing.dyno) {
            (Some(app), Some(dyno)) => store.read().await.expect("a look").dyno(&app.scope, dyno).await.is_ok(),
            (Some(app), None) => at_work.contains(app.scope.id()),
            (None, _) => false,
        };
        if !named {
            strays.push(thing.what.clone());
        }
    }
    seen.strays.extend(strays);
}
