//! The rules: one function for each invariant, over what was seen and what was promised.

use std::collections::BTreeMap;

use paas_domain::{BuildStatus, DynoKind, DynoState, ReleaseStatus, ReleaseVersion, RolloutState, Timestamp};

use super::seen::serving_ids;
use super::{Look, Promised, Reached, Rows, SeenDyno};

impl<'a> Look<'a> {
    /// Each promised app that is not destroyed, with its rows.
    fn living(&self) -> impl Iterator<Item = (&'a Promised, &'a Rows)> {
        let (seen, promises) = (self.seen, self.promises);
        let living = promises.apps().filter(|app| !app.destroyed);
        living.filter_map(|app| Some((app, seen.rows.get(app.scope.id())?)))
    }

    fn dynos(&self, app: &Promised) -> impl Iterator<Item = &'a SeenDyno> {
        let id = app.scope.id().clone();
        self.seen.dynos.iter().filter(move |dyno| dyno.app == id)
    }
}

pub(super) fn answered_writes_are_there(look: &Look<'_>, said: &mut Vec<String>) {
    for app in look.promises.apps() {
        let name = &app.name;
        let rows = look.seen.rows.get(app.scope.id());
        if app.destroyed {
            if rows.is_some_and(|rows| rows.app.deleted_at.is_none()) {
                said.push(format!("{name} was destroyed and is there"));
            }
            continue;
        }
        let Some(rows) = rows.filter(|rows| rows.app.deleted_at.is_none()) else {
            said.push(format!("{name} was made and is gone"));
            continue;
        };
        for (key, value) in &app.config {
            if rows.config.get(key) != value.as_ref() {
                let what = if value.is_some() { "set" } else { "unset" };
                said.push(format!("{name}'s config var {key} is not what it was {what} to"));
            }
        }
        for (process_type, quantity) in &app.formation {
            let line = rows.formation.iter().find(|line| line.process_type.as_str() == process_type);
            let now = line.map(|line| line.quantity.get());
            if now != Some(*quantity) {
                said.push(format!("{name}'s {process_type} was scaled to {quantity} and is {now:?}"));
            }
        }
        for build in &app.builds {
            if !rows.builds.iter().any(|row| row.id == *build) {
                said.push(format!("{name}'s build {build} was accepted and is gone"));
            }
        }
        for version in &app.versions {
            if !rows.releases.iter().any(|row| row.version.0 == *version) {
                said.push(format!("{name}'s release v{version} was answered and is gone"));
            }
        }
        let tip = branch(rows);
        if let Some(commit) = &app.deployed
            && tip != Some(commit)
            && !tip.is_some_and(|tip| app.pushed.contains(tip))
        {
            said.push(format!("{name}'s push of {commit} was deployed and its branch is at {tip:?}"));
        }
    }
}

fn branch(rows: &Rows) -> Option<&String> {
    rows.branches.iter().find(|(name, _)| name == "main").map(|(_, commit)| commit)
}

pub(super) fn versions_are_dense(look: &Look<'_>, said: &mut Vec<String>) {
    for rows in look.seen.rows.values().filter(|rows| rows.app.deleted_at.is_none()) {
        let name = &rows.app.name;
        let versions: Vec<i64> = rows.releases.iter().map(|release| release.version.0).collect();
        if !versions.iter().copied().eq((1..).take(versions.len())) {
            said.push(format!("{name}'s versions are {versions:?}"));
        }
        let succeeded = rows.releases.iter().rev().find(|release| release.status == ReleaseStatus::Succeeded);
        match (rows.current(), succeeded) {
            (Some(current), _) if current.status != ReleaseStatus::Succeeded => {
                said.push(format!("{name}'s current release {} has {}", current.version, current.status));
            }
            (current, highest) if current.map(|r| r.version) != highest.map(|r| r.version) => {
                let (current, highest) = (current.map(|r| r.version.0), highest.map(|r| r.version.0));
                said.push(format!(
                    "{name}'s current release is {current:?} and the highest that succeeded {highest:?}"
                ));
            }
            _ => {}
        }
    }
}

pub(super) fn what_runs_is_wanted(look: &Look<'_>, said: &mut Vec<String>) {
    for (app, rows) in look.living() {
        let current = rows.current().map(|release| release.version);
        for dyno in look.dynos(app).filter(|dyno| dyno.runs_as_service()) {
            let service = rows.service(dyno.name.process_type.as_str());
            let serving = service.and_then(|service| service.serving_release.or(service.target_release));
            // Those that the current release has just taken over from are still there until the next pass.
            let taken_over = service.is_some_and(|s| s.state == RolloutState::Rolling && s.serving_release == current)
                && Some(dyno.release) == before(rows, current);
            if Some(dyno.release) != current && Some(dyno.release) != serving && !taken_over {
                let (name, release) = (&dyno.name, dyno.release);
                said.push(format!("{}'s {name} runs {release}; current is {current:?}, serving {serving:?}", app.name));
            }
        }
        if look.at_rest {
            rests(look, app, rows, said);
        }
    }
}

/// The release that was current before this one.
fn before(rows: &Rows, current: Option<ReleaseVersion>) -> Option<ReleaseVersion> {
    let older = rows.releases.iter().filter(|r| r.status == ReleaseStatus::Succeeded && Some(r.version) < current);
    older.map(|release| release.version).max()
}

/// At rest: current × formation, or failed for a reason with the release that served before still serving.
fn rests(look: &Look<'_>, app: &Promised, rows: &Rows, said: &mut Vec<String>) {
    let name = &app.name;
    let Some(current) = rows.current() else { return };
    if rows.app.generation != rows.app.settled_generation {
        said.push(format!("{name} is at generation {} and not settled", rows.app.generation.0));
    }
    let wanted: BTreeMap<&str, usize> = rows
        .formation
        .iter()
        .filter(|line| current.process_types.contains_key(&line.process_type) && !line.process_type.is_release())
        .map(|line| (line.process_type.as_str(), usize::from(line.quantity.get())))
        .collect();
    for dyno in look.dynos(app).filter(|dyno| dyno.kind == DynoKind::Service) {
        if !wanted.contains_key(dyno.name.process_type.as_str()) {
            said.push(format!("{name}'s {} is of no process type of {}", dyno.name, current.version));
        }
    }
    for (process_type, quantity) in wanted {
        let mine =
            || look.dynos(app).filter(|d| d.kind == DynoKind::Service && d.name.process_type.as_str() == process_type);
        let up_of = |release| mine().filter(|d| d.release == release && d.state == DynoState::Up).count();
        let (all, up) = (mine().count(), up_of(current.version));
        match rows.service(process_type) {
            Some(service) if service.state == RolloutState::Failed => {
                if service.reason.as_ref().is_none_or(String::is_empty) {
                    said.push(format!("{name}'s rollout of {process_type} failed without a reason"));
                }
                let served = service.serving_release;
                if quantity > 0 && served.is_some_and(|served| up_of(served) == 0) {
                    said.push(format!("{name}'s rollout of {process_type} failed and {served:?} does not serve"));
                }
            }
            Some(service) if service.state == RolloutState::Rolling => {
                said.push(format!("{name}'s rollout of {process_type} has no end"));
            }
            _ if up != quantity || all != quantity => {
                let version = current.version;
                said.push(format!(
                    "{name} has {up} {process_type} of {version} up, {all} in all, and wants {quantity}"
                ));
            }
            _ => {}
        }
    }
}

pub(super) fn failures_change_nothing(look: &Look<'_>, said: &mut Vec<String>) {
    for (app, rows) in look.living() {
        let name = &app.name;
        for dyno in look.dynos(app).filter(|dyno| dyno.runs_as_service()) {
            let release = rows.releases.iter().find(|release| release.version == dyno.release);
            if release.is_none_or(|release| release.status != ReleaseStatus::Succeeded) {
                let status = release.map(|release| release.status);
                said.push(format!("{name}'s {} runs {}, which has {status:?}", dyno.name, dyno.release));
            }
        }
        let Some((version, dynos)) = &app.untouched else { continue };
        let current = rows.current().map(|release| release.version.0);
        if current != Some(*version) {
            said.push(format!("{name}'s current release was v{version} before something failed, and is {current:?}"));
        }
        let now = serving_ids(look.dynos(app));
        if now != *dynos {
            said.push(format!("{name}'s dynos were {dynos:?} before something failed, and are {now:?}"));
        }
    }
}

pub(super) fn the_branch_serves(look: &Look<'_>, said: &mut Vec<String>) {
    for (app, rows) in look.living() {
        let name = &app.name;
        for (branch, commit) in &rows.branches {
            let builds = rows.builds.iter().filter(|b| b.commit.as_ref() == Some(commit));
            let built: Vec<_> = builds.filter(|build| build.status == BuildStatus::Succeeded).collect();
            let released = built
                .iter()
                .filter_map(|build| rows.releases.iter().find(|release| Some(&release.id) == build.release.as_ref()));
            let came_to_serve = released.clone().any(|release| {
                // Also when nothing has to run, and while a dyno still starts.
                let services = rows.services.iter().filter(|s| release.process_types.contains_key(&s.process_type));
                let mut served = services.filter(|service| service.process_type.is_web());
                release.status == ReleaseStatus::Succeeded
                    && served.all(|s| s.serving_release >= Some(release.version) || s.state == RolloutState::Rolling)
            });
            if !came_to_serve || !was_current(rows, branch, commit) {
                said.push(format!("{name}'s {branch} names {commit}, of which no release came to serve"));
            }
            if app.declined.contains(commit) {
                said.push(format!("{name}'s {branch} names {commit}, whose push was declined"));
            }
            if released.count() > 1 {
                said.push(format!("{name} has more than one release of the push of {commit}"));
            }
        }
        if let Some(told) = look.seen.tips.get(&rows.app.id).filter(|_| look.at_rest)
            && told.as_ref() != branch(rows)
        {
            said.push(format!("{name}'s repository tells {told:?} as main, and its row {:?}", branch(rows)));
        }
    }
}

/// Whether a release with this commit was the current one when the branch moved there: what other code had taken the
/// place of by then never came to serve.
fn was_current(rows: &Rows, branch: &str, commit: &String) -> bool {
    let Some(moved) = rows.moved.get(branch) else { return false };
    // Of two things within one millisecond either may have been the first.
    let current_at = |at: Timestamp| {
        let succeeded = rows.releases.iter().filter(|r| r.status == ReleaseStatus::Succeeded && r.updated_at <= at);
        succeeded.max_by_key(|release| release.version).and_then(|release| release.commit.as_ref())
    };
    [*moved, Timestamp(moved.0 - 1)].into_iter().any(|at| current_at(at) == Some(commit))
}

pub(super) fn objects_have_rows(look: &Look<'_>, said: &mut Vec<String>) {
    said.extend(look.seen.disturbed.iter().map(|what| format!("{what} is not ours and was touched")));
    if look.at_rest {
        said.extend(look.seen.strays.iter().map(|what| format!("{what} is there and no row says so")));
    }
}

pub(super) fn hosts_reach_their_owner(look: &Look<'_>, said: &mut Vec<String>) {
    for host in &look.seen.hosts {
        let Reached::App(app) = &host.reached else {
            if look.at_rest && host.owner.is_some() && host.reached == Reached::Nobody {
                said.push(format!("{} has an owner and leads nowhere", host.name));
            }
            continue;
        };
        // A destroyed app's host is nobody's at once, and its route goes with the next pass.
        if host.owner.as_ref() != Some(app) && (look.at_rest || host.owner.is_some()) {
            said.push(format!("{} belongs to {:?} and reaches {app}", host.name, host.owner));
        }
    }
}

pub(super) fn balancer_rules_lead_home(look: &Look<'_>, said: &mut Vec<String>) {
    let mut places: BTreeMap<(&str, &str), &[String]> = BTreeMap::new();
    for rule in &look.seen.rules {
        let (place, hosts) = ((rule.listener.as_str(), rule.priority.as_str()), rule.hosts.as_slice());
        if places.insert(place, hosts).is_some_and(|others| others != hosts) {
            said.push(format!("two rules of {} have priority {}", rule.listener, rule.priority));
        }
        for host in &rule.hosts {
            let owns = |rows: &&Rows| rows.domains.iter().any(|domain| domain.hostname.as_str() == host);
            let owner = look.seen.rows.values().find(owns).map(|rows| &rows.app.id);
            // A host that is nobody's any more goes with the next pass.
            if owner != rule.app.as_ref() && (look.at_rest || owner.is_some()) {
                said.push(format!("{host} belongs to {owner:?} and its rule leads to {:?}", rule.app));
            }
        }
    }
}

pub(super) fn one_off_dynos_start_once(look: &Look<'_>, said: &mut Vec<String>) {
    for (app, _) in look.living() {
        let id = app.scope.id();
        for ((of, name), starts) in
            look.seen.starts.iter().filter(|((of, name), _)| of == id && !name.process_type.is_release())
        {
            if *starts > 1 {
                said.push(format!("{}'s {name} was started {starts} times", app.name));
            }
            if *starts > 0 && !app.one_offs.values().any(|(promised, _)| promised == name) {
                said.push(format!("{of}: {name} was started and nobody asked for it"));
            }
        }
        for dyno in look.dynos(app).filter(|dyno| dyno.kind == DynoKind::Run) {
            if !app.one_offs.contains_key(&dyno.id) {
                said.push(format!("{}'s {} is there and nobody asked for it", app.name, dyno.name));
            }
        }
        for (name, _) in app.one_offs.values().filter(|(_, counts)| look.at_rest && *counts) {
            if look.seen.starts.get(&(id.clone(), name.clone())).copied().unwrap_or(0) == 0 {
                said.push(format!("{}'s {name} was accepted and never started", app.name));
            }
        }
    }
}

pub(super) fn release_commands_run_once(look: &Look<'_>, said: &mut Vec<String>) {
    for (app, rows) in look.living() {
        for release in &rows.releases {
            let of_phase = |name: &paas_domain::DynoName| {
                name.process_type.is_release() && i64::from(name.slot) == release.version.0
            };
            let mine = look.seen.starts.iter().filter(|((of, name), _)| of == app.scope.id() && of_phase(name));
            let starts: usize = mine.map(|(_, starts)| starts).sum();
            let there =
                look.dynos(app).filter(|dyno| dyno.kind == DynoKind::Release && dyno.release == release.version);
            let runs = starts.max(there.count());
            if runs > 1 {
                said.push(format!("{}'s release command of {} ran {runs} times", app.name, release.version));
            }
            let ended_well = release.status == ReleaseStatus::Succeeded && release.output.is_some();
            if look.at_rest && ended_well && runs == 0 {
                said.push(format!("{}'s {} succeeded and its command never ran", app.name, release.version));
            }
        }
    }
}

pub(super) fn secrets_are_nowhere(look: &Look<'_>, said: &mut Vec<String>) {
    said.extend(look.seen.leaks.iter().map(|place| format!("a secret is in {place}")));
}

pub(super) fn lines_are_whole(look: &Look<'_>, said: &mut Vec<String>) {
    for (app, _) in look.living().filter(|_| look.at_rest) {
        let counting = |dyno: &&SeenDyno| app.counts.contains_key(dyno.name.process_type.as_str());
        for dyno in look.dynos(app).filter(|dyno| dyno.runs_as_service()).filter(counting) {
            if !look.seen.runs.iter().any(|run| run.app == dyno.app && run.process == dyno.name.to_string()) {
                said.push(format!("{}'s {} has no line in its log", app.name, dyno.name));
            }
        }
    }
    for run in &look.seen.runs {
        let (process, numbers, total) = (&run.process, &run.numbers, run.total);
        if !numbers.windows(2).all(|two| two[0] < two[1]) {
            said.push(format!("{}'s {process} has said {numbers:?} of {total}, in this order", run.app));
            continue;
        }
        let last = if look.at_rest { total } else { numbers.last().copied().unwrap_or(0) };
        let missing = last.saturating_sub(u32::try_from(numbers.len()).unwrap_or(u32::MAX));
        if missing > run.dropped {
            let dropped = run.dropped;
            said.push(format!(
                "{}'s {process} has {numbers:?} of {total} in its log, {dropped} said to be lost",
                run.app
            ));
        }
    }
}
