//! What goes when nothing names it any more: definitions, the secrets that they name, an app and all of it.
//!
//! A definition is in use while it should run, was the last one that served, or a deployment or a live task has it. A
//! secret is in use while a definition that is in use names it.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ecs::types::{TaskDefinition, TaskDefinitionFamilyStatus, TaskDefinitionField, TaskDefinitionStatus};
use paas_domain::{AppId, Generation, ReleaseVersion, Timestamp, app_tail};
use paas_ports::{PortError, SecretKey};

use super::book::types;
use super::note::{self, Definition, Note, ONCE, OnceNote, Unnoted};
use super::once::secret_text;
use super::once_life::once_dynos;
use super::{Inner, names};
use crate::{Call, Kind};

/// How many definitions one call of `remove_app` removes: AWS grants one a second.
const PER_CALL: usize = 10;
/// How many one call of `collect` removes: a pass over the app waits for it.
const PER_COLLECT: usize = 3;

impl Inner {
    pub(crate) async fn collect(&self, app: &AppId) -> Result<(), PortError> {
        let notes = self.options.notes.notes(app).await?;
        let now = self.options.clock.now();
        if !has_leftovers(&notes, now) {
            return Ok(());
        }
        // Before the notes that say which are in use: whoever makes one has noted that first. A release phase is another
        // server's affair, maybe just now.
        let secrets = self.options.secrets.list(app).await?;
        let notes = self.options.notes.notes(app).await?;
        let mut named: BTreeSet<String> = BTreeSet::new();
        let mut removed = 0;
        let mut busy = false;
        let mut once: OnceNote = note::read(&notes, ONCE).unwrap_or_default();
        let running: BTreeSet<String> = self.once_in_use(app, &notes).await?;
        let before = once.clone();
        for arn in before.old.keys().filter(|arn| !running.contains(*arn)).take(PER_COLLECT) {
            self.deregister(app, arn).await?;
            once.old.remove(arn);
            removed += 1;
        }
        if once.unnoted.due(now) {
            let own = once_dynos(&notes).into_values().filter_map(|dyno| dyno.own_definition);
            let used: BTreeSet<String> =
                own.chain(running).chain(once.old.keys().cloned()).chain([once.definition.clone()]).collect();
            let family = names::one_off_family(&self.aws.install, app);
            once.unnoted = self.deregister_unnoted(app, &family, &used, &mut removed).await?;
        }
        busy |= once.unnoted.busy(now);
        if once != before {
            // Only what was done here: somebody may have written into it meanwhile.
            let mut now_noted: OnceNote = note::read(&self.options.notes.notes(app).await?, ONCE).unwrap_or_default();
            now_noted.old.retain(|arn, _| !before.old.contains_key(arn) || once.old.contains_key(arn));
            if now_noted.unnoted == before.unnoted {
                now_noted.unnoted = once.unnoted;
            }
            note::write(&*self.options.notes, app, ONCE, &now_noted).await?;
            once = now_noted;
            busy |= once.unnoted.busy(now);
        }
        // All that is noted by now: another server's definition may just have become an old one.
        named.extend(once.old.values().flatten().cloned());
        named.extend(once.secret.clone());
        for process_type in types(&notes) {
            let key = note::type_key(&process_type);
            let before: Note = note::read(&notes, &key).unwrap_or_default();
            let mut note = before.clone();
            let used = self.definitions_in_use(app, &self.service_name(app, &process_type), &note).await?;
            for arn in before.definitions.keys().filter(|arn| !used.contains(*arn)) {
                if removed < PER_COLLECT {
                    self.deregister(app, arn).await?;
                    note.definitions.remove(arn);
                    removed += 1;
                }
            }
            if note.unnoted.due(now) {
                let used: BTreeSet<String> = used.into_iter().chain(note.definitions.keys().cloned()).collect();
                let family = self.service_name(app, &process_type);
                note.unnoted = self.deregister_unnoted(app, &family, &used, &mut removed).await?;
            }
            busy |= note.unnoted.busy(now);
            if note != before {
                note::write(&*self.options.notes, app, &key, &note).await?;
            }
            named.extend(note.definitions.values().filter_map(|definition| definition.secret.clone()));
        }
        if busy {
            // What is being made may name a secret that no note tells of yet.
            return Ok(());
        }
        let dynos = once_dynos(&notes);
        for secret in secrets {
            let own = match &secret {
                SecretKey::Dyno(dyno) => dynos.get(dyno).is_some_and(|dyno| !dyno.forgotten),
                SecretKey::Config(_) => false,
            };
            if !own && !named.contains(&secret_text(&secret)) {
                self.options.secrets.remove(app, &secret).await?;
            }
        }
        Ok(())
    }

    /// Removes definitions of a family that nothing uses and no note tells of; what may still be there after it.
    async fn deregister_unnoted(
        &self,
        app: &AppId,
        family: &str,
        used: &BTreeSet<String>,
        removed: &mut usize,
    ) -> Result<Unnoted, PortError> {
        let mut left = false;
        for arn in self.list_definitions(app, family).await?.iter().filter(|arn| !used.contains(*arn)) {
            if *removed >= PER_COLLECT {
                left = true;
            } else if self.describe_definition(Some(app), arn).await?.is_some() {
                self.deregister(app, arn).await?;
                *removed += 1;
            }
        }
        Ok(Unnoted { making: None, lost: left })
    }

    async fn definitions_in_use(&self, app: &AppId, name: &str, note: &Note) -> Result<BTreeSet<String>, PortError> {
        let mut used = BTreeSet::new();
        if !note.removed {
            used.insert(note.definition.clone());
            used.extend(note.serving.clone());
        }
        let sight = self.look_now(app, name).await?;
        used.extend(sight.tasks.iter().filter(|task| !task.stopped()).map(|task| task.definition.clone()));
        let deployments = sight.service.iter().flat_map(|service| service.deployments.iter());
        used.extend(deployments.map(|deployment| deployment.definition.clone()));
        Ok(used)
    }

    async fn once_in_use(&self, app: &AppId, notes: &BTreeMap<String, String>) -> Result<BTreeSet<String>, PortError> {
        let dynos = once_dynos(notes);
        let alive = dynos.values().filter(|dyno| !dyno.forgotten && dyno.exit.is_none());
        let tasks: Vec<String> = alive.filter_map(|dyno| dyno.task.clone()).collect();
        Ok(self.look_once(app, &tasks).await?.into_iter().map(|task| task.definition).collect())
    }

    pub(crate) async fn remove_app(&self, app: &AppId) -> Result<bool, PortError> {
        let notes = self.options.notes.notes(app).await?;
        let prefix = names::app_prefix(&self.aws.install, app);
        if types(&notes).iter().any(|process_type| self.still_ends(&self.service_name(app, process_type))) {
            return Ok(false);
        }
        let mut services: BTreeSet<String> =
            types(&notes).iter().map(|process_type| self.service_name(app, process_type)).collect();
        services.extend(self.list_services(Some(app)).await?.into_iter().filter(|name| name.starts_with(&prefix)));
        let mut services: Vec<String> = services.into_iter().collect();
        let mut live = false;
        let (ours, others): (Vec<_>, Vec<_>) =
            self.describe_services(Some(app), &services).await?.into_iter().partition(|found| self.is_ours(found));
        services.retain(|name| !others.iter().any(|other| other.name == *name));
        for service in ours.iter().filter(|service| service.active) {
            self.delete_service(app, &service.name).await?;
            live = true;
        }
        for name in &services {
            let sight = self.look_now(app, name).await?;
            live |= sight.service.is_some() || sight.tasks.iter().any(|task| !task.stopped());
        }
        for (id, mut dyno) in once_dynos(&notes) {
            let Some(task) = dyno.task.clone().filter(|_| dyno.exit.is_none() && !dyno.forgotten) else { continue };
            let alive = self.look_once(app, std::slice::from_ref(&task)).await?.iter().any(|task| !task.stopped());
            if !alive {
                continue;
            }
            live = true;
            if dyno.stop_at.is_none() {
                dyno.stop_at = Some(self.options.clock.now());
                self.keep(app, &id, &dyno).await?;
                if let Some(links) = &self.options.links {
                    links.stop(&id).await;
                }
            }
            self.stop_task(app, &task, "its app is destroyed").await?;
        }
        if live || !self.deregister_all(app, &prefix, &noted_definitions(&notes)).await? {
            return Ok(false);
        }
        self.options.secrets.remove_app(app).await?;
        for slot in self.options.ledger.slots(app).await? {
            self.options.ledger.free_slot(&slot.task).await?;
        }
        self.options.notes.drop_notes(app).await?;
        for name in &services {
            self.world.forget_service(name);
        }
        for id in once_dynos(&notes).keys() {
            self.world.forget_once(id);
        }
        Ok(true)
    }

    /// Whether a service was removed and is known to have dynos that end: nobody has to ask.
    fn still_ends(&self, name: &str) -> bool {
        self.world.fresh(name, &self.options.timing).is_some_and(|sight| {
            let going = sight.service.as_ref().is_none_or(|service| !service.active);
            going && sight.tasks.iter().any(|task| !task.stopped())
        })
    }

    /// Removes our definitions whose family begins so, some at a time; whether none is left. Those that were noted we
    /// made; of others their tags tell.
    async fn deregister_all(&self, app: &AppId, prefix: &str, noted: &BTreeSet<String>) -> Result<bool, PortError> {
        let mut removed = 0;
        for family in self.list_families(Some(app), prefix).await? {
            for arn in &self.list_definitions(app, &family).await? {
                if !noted.contains(arn) && self.describe_definition(Some(app), arn).await?.is_none() {
                    continue;
                }
                if removed == PER_CALL {
                    return Ok(false);
                }
                self.deregister(app, arn).await?;
                removed += 1;
            }
        }
        Ok(true)
    }

    /// A family's definitions.
    async fn list_definitions(&self, app: &AppId, family: &str) -> Result<Vec<String>, PortError> {
        let (mut found, mut next) = (Vec::new(), None);
        let doing = "removing the app's releases";
        loop {
            let request = self.aws.ecs.list_task_definitions().family_prefix(family);
            let request = request.status(TaskDefinitionStatus::Active).set_next_token(next);
            let page = self.aws.call(Call::ListTaskDefinitions, Some(app), doing, request.send()).await?;
            found.extend(page.task_definition_arns().iter().cloned());
            next = page.next_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn every_app(&self) -> Result<Vec<AppId>, PortError> {
        let mut apps: BTreeSet<AppId> = self.options.notes.noted_apps().await?.into_iter().collect();
        apps.iter().for_each(|app| self.know(app));
        // What the notes do not tell of is found by its name, and whose it is by its tags.
        let mut unknown = self.list_services(None).await?;
        let noted = |name: &str, apps: &BTreeSet<AppId>| {
            let app = app_tail(&self.aws.install, name).and_then(|part| self.known_app(&part));
            app.is_some_and(|app| apps.contains(&app))
        };
        unknown.retain(|name| app_tail(&self.aws.install, name).is_some() && !noted(name, &apps));
        let unknown = self.describe_services(None, &unknown).await?.into_iter();
        for app in unknown.filter(|service| self.is_ours(service)).filter_map(|service| service.app) {
            self.know(&app);
            apps.insert(app);
        }
        for family in self.list_families(None, &names::install_prefix(&self.aws.install)).await? {
            if app_tail(&self.aws.install, &family).is_none() || noted(&family, &apps) {
                continue;
            }
            if let Some((Some(app), _)) = self.describe_definition(None, &family).await? {
                self.know(&app);
                apps.insert(app);
            }
        }
        apps.extend(self.options.secrets.apps().await?);
        Ok(apps.into_iter().collect())
    }

    /// The names of this installation's services.
    async fn list_services(&self, app: Option<&AppId>) -> Result<Vec<String>, PortError> {
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let cluster = &self.aws.foundation.cluster;
            let request = self.aws.ecs.list_services().cluster(cluster).max_results(100).set_next_token(next);
            let page = self.aws.call(Call::ListServices, app, "listing services", request.send()).await?;
            let listed = page.service_arns().iter().filter_map(|arn| arn.rsplit('/').next()).map(str::to_owned);
            found.extend(listed.filter(|name| name.starts_with(&names::install_prefix(&self.aws.install))));
            next = page.next_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    async fn list_families(&self, app: Option<&AppId>, prefix: &str) -> Result<Vec<String>, PortError> {
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let request = self
                .aws
                .ecs
                .list_task_definition_families()
                .family_prefix(prefix)
                .status(TaskDefinitionFamilyStatus::Active)
                .set_next_token(next);
            let page = self.aws.call(Call::ListTaskDefinitionFamilies, app, "listing releases", request.send()).await?;
            found.extend(page.families().iter().filter(|family| family.starts_with(prefix)).cloned());
            next = page.next_token;
            if next.is_none() {
                return Ok(found);
            }
        }
    }

    /// What a definition is for, as its tags say.
    pub(crate) async fn read_definition(&self, app: &AppId, arn: &str) -> Result<Option<Definition>, PortError> {
        Ok(self.describe_definition(Some(app), arn).await?.and_then(|(_, definition)| definition))
    }

    /// Whose it is and what for, as its tags say; `None` when it is not there or does not carry our tag.
    async fn describe_definition(
        &self,
        app: Option<&AppId>,
        name: &str,
    ) -> Result<Option<(Option<AppId>, Option<Definition>)>, PortError> {
        let request = self.aws.ecs.describe_task_definition().task_definition(name).include(TaskDefinitionField::Tags);
        let answer = self.aws.call(Call::DescribeTaskDefinition, app, "reading a release", request.send()).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.kind == Kind::NotFound || error.is(&["ClientException"]) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let tag = |name: &str| {
            answer.tags().iter().find(|tag| tag.key() == Some(name)).and_then(|tag| tag.value()).map(str::to_owned)
        };
        if tag("paas:install").as_deref() != Some(self.aws.install.as_str()) {
            return Ok(None);
        }
        let definition = answer.task_definition().and_then(|found| {
            Some(Definition {
                release: ReleaseVersion(tag("paas:release")?.parse().ok()?),
                generation: Generation(tag("paas:generation")?.parse().ok()?),
                size: tag("paas:size")?.parse().ok()?,
                command: command_of(found)?,
                secret: secret_of(found),
            })
        });
        Ok(Some((tag("paas:app").and_then(|app| app.parse().ok()), definition)))
    }
}

/// Every definition that notes tell of.
fn noted_definitions(notes: &BTreeMap<String, String>) -> BTreeSet<String> {
    let once: OnceNote = note::read(notes, ONCE).unwrap_or_default();
    let of_types = types(notes).into_iter().flat_map(|process_type| {
        let note: Note = note::read(notes, &note::type_key(&process_type)).unwrap_or_default();
        note.definitions.into_keys()
    });
    let own = once_dynos(notes).into_values().filter_map(|dyno| dyno.own_definition);
    of_types.chain(own).chain(once.old.into_keys()).chain([once.definition]).collect()
}

/// Whether notes tell of definitions beside those that run or served last.
fn has_leftovers(notes: &BTreeMap<String, String>, now: Timestamp) -> bool {
    let once: OnceNote = note::read(notes, ONCE).unwrap_or_default();
    let left = types(notes).iter().any(|process_type| {
        let note: Note = note::read(notes, &note::type_key(process_type)).unwrap_or_default();
        let kept = |arn: &String| !note.removed && (*arn == note.definition || note.serving.as_ref() == Some(arn));
        !note.definitions.keys().all(kept) || note.unnoted.due(now)
    });
    left || !once.old.is_empty() || once.unnoted.due(now)
}

fn command_of(definition: &TaskDefinition) -> Option<String> {
    let container = definition.container_definitions().first()?;
    let command = container.environment().iter().find(|pair| pair.name() == Some("PAAS_COMMAND"))?;
    command.value().map(str::to_owned)
}

fn secret_of(definition: &TaskDefinition) -> Option<String> {
    let container = definition.container_definitions().first()?;
    container.secrets().iter().find_map(|secret| names::secret_of(secret.value_from())).map(|key| secret_text(&key))
}
