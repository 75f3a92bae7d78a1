//! A look at the core on fakes: its rows, and the fakes' worlds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use paas_domain::{AppId, DynoKind};
use paas_ports::LogSource;
use paas_ports::fake::ingress::Decision;
use paas_ports::outside;
use paas_server::cx::Cx;

use super::promises::Promises;
use super::seen::{count_in, dropped_in};
use super::{Host, Reached, Rows, Run, Seen, SeenDyno};
use crate::core_world::Outside;

/// How closely a look looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closely {
    /// While things move: until a look was of one moment. Searches every file for secrets.
    Moving,
    /// At rest, where a look of two moments would show as a breach that passes.
    AtRest,
    /// At the end: at rest, and every file is searched.
    AtTheEnd,
}

/// Looks at everything.
///
/// # Panics
/// When the world does not answer.
pub async fn look(world: &Outside, cx: &Cx, promises: &Promises, closely: Closely) -> Seen {
    outside::task(async {
        let mut seen = loop {
            let before = Rows::of_all(&cx.store, promises).await;
            let mut seen = Seen { dynos: dynos(world, cx).await, ..Seen::default() };
            hosts(world, &before, promises, &mut seen);
            seen.rows = match closely {
                Closely::Moving => Rows::of_all(&cx.store, promises).await,
                Closely::AtRest | Closely::AtTheEnd => before.clone(),
            };
            if before.values().map(Rows::moment).eq(seen.rows.values().map(Rows::moment)) {
                break seen;
            }
        };
        starts(world, cx, promises, &mut seen).await;
        strays(world, cx, promises, &mut seen).await;
        seen.read_tips(|app| cx.repositories.path(app));
        runs(world, &mut seen);
        leaks(world, promises, &mut seen);
        if closely != Closely::AtRest {
            let told = files(world.folder())
                .into_iter()
                .filter(|file| std::fs::read(file).is_ok_and(|bytes| promises.are_told(&bytes)));
            seen.leaks.extend(told.map(|file| file.display().to_string()));
        }
        seen
    })
    .await
}

async fn dynos(world: &Outside, cx: &Cx) -> Vec<SeenDyno> {
    let mut seen = Vec::new();
    for app in world.dynos.apps_with_dynos() {
        seen.extend(cx.runtime.observe(&app).await.expect("a look").dynos.into_iter().map(|dyno| SeenDyno {
            app: app.clone(),
            id: dyno.id,
            name: dyno.name,
            kind: dyno.kind,
            release: dyno.release,
            state: dyno.state,
        }));
    }
    seen
}

fn hosts(world: &Outside, rows: &BTreeMap<AppId, Rows>, promises: &Promises, seen: &mut Seen) {
    let mut owners: BTreeMap<String, Option<AppId>> = BTreeMap::from([("nobody.localhost".to_owned(), None)]);
    owners.extend(promises.apps().map(|app| (format!("{}.localhost", app.name), None)));
    for rows in rows.values() {
        owners.extend(rows.domains.iter().map(|domain| (domain.hostname.to_string(), Some(rows.app.id.clone()))));
    }
    for (name, owner) in owners {
        let reached = match world.routes.route(&name) {
            Decision::NoSuchApp => Reached::Nobody,
            // Whose the dyno is counts, and not whose pool it stands in.
            Decision::Serve { app, dyno } => {
                let serves = seen.dynos.iter().find(|there| there.id == dyno.dyno);
                Reached::App(serves.map_or(app, |dyno| dyno.app.clone()))
            }
            Decision::Maintenance(app)
            | Decision::Blank(app)
            | Decision::NoWebDynos(app)
            | Decision::Crashed(app)
            | Decision::Waits(app) => Reached::App(app),
        };
        seen.hosts.push(Host { name, owner, reached });
    }
}

async fn starts(world: &Outside, cx: &Cx, promises: &Promises, seen: &mut Seen) {
    let mut once = Vec::new();
    for app in promises.apps() {
        let id = app.scope.id();
        once.extend(app.one_offs.iter().map(|(dyno, (name, _))| (id.clone(), dyno.clone(), name.clone())));
        let releases = seen.rows.get(id).into_iter().flat_map(|rows| &rows.releases);
        for release in releases.filter(|release| release.output.is_some()) {
            let dyno = cx.store.read().await.expect("a look").release_dyno(&app.scope, release.version).await;
            once.extend(dyno.expect("a row").map(|dyno| (id.clone(), dyno.id, dyno.name)));
        }
    }
    let there = seen.dynos.iter().filter(|dyno| dyno.kind != DynoKind::Service);
    once.extend(there.map(|dyno| (dyno.app.clone(), dyno.id.clone(), dyno.name.clone())));
    once.sort();
    once.dedup();
    for (app, dyno, name) in once {
        *seen.starts.entry((app, name)).or_default() += usize::try_from(world.dynos.starts(&dyno)).expect("few");
    }
}

async fn strays(world: &Outside, cx: &Cx, promises: &Promises, seen: &mut Seen) {
    let known: BTreeSet<AppId> =
        cx.store.read().await.expect("a look").all_app_ids().await.expect("ids").into_iter().collect();
    for app in cx.runtime.apps().await.expect("apps").into_iter().filter(|app| !known.contains(app)) {
        seen.strays.push(format!("something of app {app} in the runtime"));
    }
    for app in cx.ingress.apps().await.expect("apps").into_iter().filter(|app| !known.contains(app)) {
        seen.strays.push(format!("a route of app {app}"));
    }
    for (what, apps) in [
        ("an image", cx.registry.apps().await),
        ("a build or layers", cx.builder.apps().await),
        ("lines", cx.logs.apps().await),
    ] {
        for app in apps.expect("apps").into_iter().filter(|app| !known.contains(app)) {
            seen.strays.push(format!("{what} of app {app}"));
        }
    }
    let mut held = BTreeSet::new();
    let mut at_work = BTreeSet::new();
    for app in promises.apps() {
        let Some(rows) = seen.rows.get(app.scope.id()) else { continue };
        let lives = |id: &paas_domain::DynoId| rows.dynos.iter().any(|row| row.id == *id);
        for dyno in seen.dynos.iter().filter(|dyno| dyno.app == *app.scope.id() && !lives(&dyno.id)) {
            let ended = cx.store.read().await.expect("a look").dyno(&app.scope, &dyno.id).await;
            if ended.is_err() {
                seen.strays.push(format!("dyno {} of {}", dyno.name, app.name));
            }
        }
        for image in cx.registry.list(app.scope.id()).await.expect("images") {
            if !rows.builds.iter().any(|build| build.image.as_ref() == Some(&image.0)) {
                seen.strays.push(format!("image {} of {}", image.0, app.name));
            }
            held.insert(image.0);
        }
        if rows.has_open_jobs() {
            at_work.extend(rows.builds.iter().map(|build| build.id.clone()));
        }
    }
    let images = world.images.images().into_iter().filter(|image| !held.contains(&image.0));
    seen.strays.extend(images.map(|image| format!("image {} of nobody", image.0)));
    let builds = world.builds.left().into_iter().filter(|build| !at_work.contains(build));
    seen.strays.extend(builds.map(|build| format!("build {build}")));
    for file in files(&world.folder().join("objects")) {
        let name = file.display().to_string();
        let of_work = at_work.iter().any(|build| name.contains(build.as_str()));
        if name.ends_with(".tar") && !of_work {
            seen.strays.push(format!("object {name}"));
        }
    }
    for entry in std::fs::read_dir(world.folder().join("git")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let app = name.strip_suffix(".git").and_then(|id| id.parse().ok());
        if app.is_some_and(|app| !known.contains(&app)) {
            seen.strays.push(format!("repository {name}"));
        }
    }
}

/// The lines of a service begin anew at each of its starts, which the platform says in the same log; a one-off dyno
/// and a release command have one start in all.
fn runs(world: &Outside, seen: &mut Seen) {
    for app in seen.rows.keys() {
        let lines = world.logs.lines(app);
        let dropped = lines.iter().map(|line| dropped_in(&line.message)).sum();
        let mut latest: BTreeMap<String, usize> = BTreeMap::new();
        for line in lines {
            let Some((process_type, _)) = line.process.split_once('.') else { continue };
            let starts = line.source == LogSource::Heroku && line.message.starts_with("Starting process with command");
            let Some((number, total)) = count_in(&line.message) else { continue };
            let begins = starts && !["run", "release"].contains(&process_type);
            if begins || !latest.contains_key(&line.process) {
                latest.insert(line.process.clone(), seen.runs.len());
                let (app, process) = (app.clone(), line.process.clone());
                seen.runs.push(Run { app, process, numbers: Vec::new(), total, dropped });
            }
            if !starts {
                seen.runs[latest[&line.process]].numbers.push(number);
            }
        }
    }
}

/// Secrets in what the worlds tell.
fn leaks(world: &Outside, promises: &Promises, seen: &mut Seen) {
    let told = |bytes: &[u8]| promises.are_told(bytes);
    let mut leaks = Vec::new();
    for (app, rows) in &seen.rows {
        for line in world.logs.lines(app) {
            if told(line.message.as_bytes()) {
                leaks.push(format!("the log of {}: {}[{}]", rows.app.name, line.source.as_str(), line.process));
            }
        }
        let outputs = rows.builds.iter().map(|build| &build.output);
        for output in outputs.chain(rows.releases.iter().filter_map(|release| release.output.as_ref())) {
            if world.logs.output(output).is_some_and(|bytes| told(&bytes)) {
                leaks.push(format!("output {output}"));
            }
        }
    }
    for image in world.images.images() {
        if world.images.config(&image).is_some_and(|config| told(&config)) {
            leaks.push(format!("the config of image {}", image.0));
        }
    }
    for dyno in &seen.dynos {
        if told(format!("{dyno:?}").as_bytes()) {
            leaks.push(format!("what the platform tells of {}", dyno.name));
        }
    }
    seen.leaks = leaks;
}

/// Every file below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}
