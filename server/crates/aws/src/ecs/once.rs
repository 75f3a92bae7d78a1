//! One-off dynos: a task each, run at most once ever.
//!
//! What was asked is noted down before ECS is asked, with the dyno's id as the client token: a call that timed out is
//! made again and comes to the same task (AWS remembers tokens for a day). A dyno's note stays until it is forgotten,
//! and then as a mark that its id is used up. The command goes in as an override of the environment, so an app's
//! one-off dynos share one definition as long as image, config and size do.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ecs::types::{ContainerOverride, DesiredStatus, LaunchType, TaskOverride};
use paas_domain::{AppId, DynoId, DynoKind, Generation, Timestamp};
use paas_link_frames::env;
use paas_ports::{Duplex, ObservedDyno, OneOffSpec, PortError, SecretKey, SecretVars};
use tokio::time::Instant;

use super::book::observed;
use super::definition::{Making, fingerprint, link_env, pair, tag};
use super::failure::{ending, exited};
use super::note::{self, DynoNote, Exit, NOT_YET_S, ONCE, OnceNote};
use super::sight::Task;
use super::{Inner, ensure, names};
use crate::secrets::words;
use crate::{Call, Kind};

/// The container's name in the one-off definition.
const CONTAINER: &str = "run";
/// How long AWS remembers a client token, less an hour.
const TOKEN_S: i64 = 23 * 3600;
/// How long marks of used ids are kept: no client asks that late.
const MARK_S: i64 = 7 * 24 * 3600;
/// How often it is looked whether a dyno has linked.
const LINK_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether its task still lives, meanwhile.
const TASK_EVERY: Duration = Duration::from_secs(2);
/// The exit status of what ECS lost sight of, or never started.
const UNKNOWN: i32 = 1;
/// The exit status of a dyno that was stopped before it ran.
const TERMINATED: i32 = 143;

impl Inner {
    pub(crate) async fn start_once(&self, id: &DynoId, spec: &OneOffSpec) -> Result<(), PortError> {
        let notes = self.options.notes.notes(&spec.app).await?;
        let now = self.options.clock.now();
        let known: Option<DynoNote> = note::read(&notes, &note::dyno_key(id));
        if let Some(known) = &known {
            if known.forgotten {
                return Err(PortError::NotFound(spec.name.to_string()));
            }
            if known.task.is_some() || known.exit.is_some() {
                return Ok(());
            }
            if known.made_at.plus_s(TOKEN_S) < now {
                return Err(PortError::permanent(format!("starting {}", spec.name), "it was asked for a day ago"));
            }
        }
        let mut once: OnceNote = note::read(&notes, ONCE).unwrap_or_default();
        let own = spec.config_id.is_none().then(|| SecretKey::Dyno(id.clone()));
        // What an earlier try registered for it alone: the token stands for the same request each time.
        let definition = match known.as_ref().and_then(|known| known.own_definition.clone()) {
            Some(definition) => definition,
            None => self.once_definition(id, spec, &mut once, own.as_ref()).await?,
        };
        let mut dyno = known.unwrap_or_else(|| DynoNote {
            kind: spec.kind,
            name: spec.name.clone(),
            release: spec.release,
            // One-off dynos belong to no wish.
            generation: Generation(0),
            size: spec.size,
            command: spec.command.clone(),
            task: None,
            made_at: now,
            up_at: None,
            stop_at: None,
            exit: None,
            forgotten: false,
            awaited: spec.attach,
            own_definition: own.is_some().then(|| definition.clone()),
        });
        self.keep(&spec.app, id, &dyno).await?;
        if once.unnoted.making.is_some() {
            once.unnoted.end();
            note::write(&*self.options.notes, &spec.app, ONCE, &once).await?;
        }
        let task = self.run_task(id, spec, &definition).await?;
        dyno.task = Some(task.arn.clone());
        self.keep(&spec.app, id, &dyno).await?;
        self.world.note_task(task);
        Ok(())
    }

    /// The definition to run: the app's, registered when image, config or size changed, or the dyno's own when the
    /// request brought config of its own.
    async fn once_definition(
        &self,
        id: &DynoId,
        spec: &OneOffSpec,
        once: &mut OnceNote,
        own: Option<&SecretKey>,
    ) -> Result<String, PortError> {
        let key = match (own, &spec.config_id) {
            (None, Some(config)) => SecretKey::Config(config.clone()),
            _ => SecretKey::Dyno(id.clone()),
        };
        let secret = secret_text(&key);
        let print =
            fingerprint(&[spec.image.0.as_str(), spec.size.as_str(), &secret, self.options.architecture.as_ecs()]);
        if once.fingerprint == print {
            return Ok(once.definition.clone());
        }
        once.unnoted.begin(self.options.clock.now());
        note::write(&*self.options.notes, &spec.app, ONCE, once).await?;
        let secrets = self.keep_config(&spec.app, &key, &spec.config).await?;
        let named = !secrets.0.is_empty();
        let arn = self.register_once(spec, secrets, &print).await?;
        if own.is_none() {
            let before = std::mem::take(once);
            let mut old = before.old;
            if !before.definition.is_empty() {
                old.insert(before.definition, before.secret);
            }
            let mut unnoted = before.unnoted;
            unnoted.end();
            let secret = named.then_some(secret);
            *once = OnceNote { fingerprint: print, definition: arn.clone(), secret, old, unnoted };
            note::write(&*self.options.notes, &spec.app, ONCE, once).await?;
        }
        Ok(arn)
    }

    async fn register_once(&self, spec: &OneOffSpec, secrets: SecretVars, print: &str) -> Result<String, PortError> {
        let mut plain = vec![(env::APP, spec.app.to_string())];
        plain.extend(link_env(self.options.link.as_ref()));
        let making = Making {
            family: names::one_off_family(&self.aws.install, &spec.app),
            container: CONTAINER,
            app: &spec.app,
            image: self.options.images.pinned(&spec.app, &spec.image).await?,
            size: spec.size,
            web: false,
            env: plain,
            secrets,
            tags: vec![("paas:size", spec.size.to_string()), ("paas:fingerprint", print.to_owned())],
        };
        self.register(making).await
    }

    async fn run_task(&self, id: &DynoId, spec: &OneOffSpec, definition: &str) -> Result<Task, PortError> {
        let doing = format!("starting {}", spec.name);
        let mut environment = vec![
            pair("PAAS_COMMAND", &spec.command),
            pair("DYNO", &spec.name.to_string()),
            pair(env::DYNO_ID, id.as_str()),
            pair(env::PROCESS_TYPE, spec.name.process_type.as_str()),
        ];
        environment.extend(spec.attach.then(|| pair(env::ATTACH, "1")));
        environment.extend(spec.tty.then(|| pair(env::TTY, "1")));
        let container = ContainerOverride::builder().name(CONTAINER).set_environment(Some(environment)).build();
        let request = self
            .aws
            .ecs
            .run_task()
            .cluster(&self.aws.foundation.cluster)
            .task_definition(definition)
            .count(1)
            .launch_type(LaunchType::Fargate)
            .network_configuration(self.network())
            .overrides(TaskOverride::builder().container_overrides(container).build())
            .client_token(id.as_str())
            .started_by(id.as_str())
            .tags(tag("paas:install", self.aws.install.to_string()))
            .tags(tag("paas:app", spec.app.as_str()))
            .tags(tag("paas:type", spec.name.process_type.as_str()))
            .tags(tag("paas:release", spec.release.0.to_string()));
        let answer = self.aws.call(Call::RunTask, Some(&spec.app), &doing, request.send()).await;
        let answer = match answer {
            Ok(answer) => answer,
            // The token was used with other words: somebody changed the app between two tries. It runs.
            Err(error) if error.kind == Kind::Conflict || error.is(&["ConflictException"]) => {
                return self.find_started(&spec.app, id).await?.ok_or_else(|| PortError::from(error));
            }
            Err(error) => return Err(ensure::passing(error)),
        };
        if let Some(task) = answer.tasks().first().and_then(Task::read) {
            return Ok(task);
        }
        // Partial failure inside a 200: no capacity, as a rule.
        let reason = answer.failures().first().and_then(|failure| failure.reason()).unwrap_or("AWS started nothing");
        Err(PortError::transient(doing, reason))
    }

    async fn find_started(&self, app: &AppId, id: &DynoId) -> Result<Option<Task>, PortError> {
        for status in [DesiredStatus::Running, DesiredStatus::Stopped] {
            let request = self.aws.ecs.list_tasks().cluster(&self.aws.foundation.cluster);
            let request = request.started_by(id.as_str()).desired_status(status);
            let listed = self.aws.call(Call::ListTasks, Some(app), "looking for a dyno", request.send()).await?;
            if let Some(task) = self.describe_tasks(Some(app), listed.task_arns()).await?.pop() {
                return Ok(Some(task));
            }
        }
        Ok(None)
    }

    /// A one-off dyno, brought up to date.
    pub(crate) async fn observe_one(&self, app: &AppId, id: &DynoId) -> Result<Option<ObservedDyno>, PortError> {
        let found = self.find_dyno(id).await?.filter(|(whose, dyno)| whose == app && !dyno.forgotten);
        let Some((_, mut dyno)) = found else { return Ok(None) };
        if let (Some(task), None) = (dyno.task.clone(), &dyno.exit) {
            let task = self.look_once(app, &[task]).await?.pop();
            self.note_once(app, id, &mut dyno, task.as_ref()).await?;
        }
        Ok(Some(observed(id, &dyno)))
    }

    /// One-off dynos that are not forgotten, brought up to date; a release phase's is its job's to bring up to date,
    /// which may run on another server.
    pub(crate) async fn observe_once(
        &self,
        app: &AppId,
        notes: &BTreeMap<String, String>,
    ) -> Result<Vec<ObservedDyno>, PortError> {
        let mut dynos = once_dynos(notes);
        let running = |dyno: &DynoNote| dyno.kind == DynoKind::Run && dyno.exit.is_none() && !dyno.forgotten;
        let running_now = dynos.iter().filter(|(_, dyno)| running(dyno));
        let arns: Vec<String> = running_now.filter_map(|(_, dyno)| dyno.task.clone()).collect();
        let tasks = self.look_once(app, &arns).await?;
        let mut seen = Vec::new();
        for (id, dyno) in &mut dynos {
            if dyno.forgotten {
                if dyno.made_at.plus_s(MARK_S) < self.options.clock.now() {
                    self.options.notes.drop_note(app, &note::dyno_key(id)).await?;
                }
                continue;
            }
            if running(dyno) && dyno.task.is_some() {
                let task = tasks.iter().find(|task| task.dyno == *id);
                self.note_once(app, id, dyno, task).await?;
            }
            seen.push(observed(id, dyno));
        }
        Ok(seen)
    }

    async fn note_once(
        &self,
        app: &AppId,
        id: &DynoId,
        dyno: &mut DynoNote,
        task: Option<&Task>,
    ) -> Result<(), PortError> {
        let now = self.options.clock.now();
        // The link tells it long before ECS has taken the task down.
        let linked = match &self.options.links {
            Some(links) => links.exit_code(id).await,
            None => None,
        };
        if task.is_none() && linked.is_none() && dyno.made_at.plus_s(NOT_YET_S) > now {
            // It was made a moment ago: AWS may not show it everywhere.
            return Ok(());
        }
        if !dyno.awaited && task.is_none_or(|task| task.started_at.is_some()) {
            let at = task.and_then(|task| task.started_at).unwrap_or(now);
            self.up_once(app, id, dyno, at).await?;
        }
        match (linked, task) {
            (Some(code), _) => self.end_once(app, id, dyno, i32::from(code), now).await,
            (None, Some(task)) if task.stopped() => {
                self.hang_up(id).await;
                let ended = ending(task, false, true, 0);
                let told = dyno.stop_at.is_some();
                let code = task.exit_code.unwrap_or(if told { TERMINATED } else { UNKNOWN });
                if task.exit_code.is_none() && !told {
                    self.say(app, dyno, ended.at, ended.message.clone()).await;
                }
                self.end_once(app, id, dyno, code, ended.at).await
            }
            (None, Some(_)) => Ok(()),
            // ECS shows it no more, and nobody heard how it ended.
            (None, None) => {
                self.hang_up(id).await;
                self.end_once(app, id, dyno, UNKNOWN, now).await
            }
        }
    }

    /// It will not speak again: whoever is attached need not wait for its link to come back.
    async fn hang_up(&self, id: &DynoId) {
        if let Some(links) = &self.options.links {
            links.over(id).await;
        }
    }

    /// Its command runs.
    async fn up_once(&self, app: &AppId, id: &DynoId, dyno: &mut DynoNote, at: Timestamp) -> Result<(), PortError> {
        if dyno.up_at.is_some() {
            return Ok(());
        }
        dyno.up_at = Some(at);
        dyno.awaited = false;
        self.say(app, dyno, dyno.made_at, format!("Starting process with command `{}`", dyno.command)).await;
        self.say(app, dyno, at, "State changed from starting to up").await;
        self.keep(app, id, dyno).await
    }

    async fn end_once(
        &self,
        app: &AppId,
        id: &DynoId,
        dyno: &mut DynoNote,
        code: i32,
        at: Timestamp,
    ) -> Result<(), PortError> {
        self.say(app, dyno, at, exited(code)).await;
        self.say(app, dyno, at, "State changed from up to complete").await;
        dyno.exit = Some(Exit { code: Some(code), at, crashed: false });
        self.keep(app, id, dyno).await
    }

    pub(crate) async fn attach(&self, id: &DynoId) -> Result<Duplex, PortError> {
        let gone = || PortError::NotFound(format!("dyno {id}"));
        let Some(links) = &self.options.links else {
            return Err(PortError::permanent("attaching to a dyno", "this server has no dyno link"));
        };
        let since = Instant::now();
        let mut looked: Option<Instant> = None;
        loop {
            let (app, dyno) = self.find_dyno(id).await?.filter(|(_, dyno)| !dyno.forgotten).ok_or_else(gone)?;
            match links.attach(id).await {
                Ok(duplex) => {
                    self.attached(&app, id).await?;
                    return Ok(duplex);
                }
                Err(error) if !error.is_transient() || since.elapsed() > self.options.timing.attach_patience => {
                    return Err(error);
                }
                Err(_) => {}
            }
            let why = |message: String| PortError::permanent(format!("starting {}", dyno.name), message);
            if dyno.stop_at.is_some() {
                return Err(gone());
            }
            if let Some(exit) = &dyno.exit {
                return Err(why(exited(exit.code.unwrap_or(UNKNOWN))));
            }
            let due = looked.is_none_or(|at| at.elapsed() > TASK_EVERY);
            if let Some(task) = dyno.task.clone().filter(|_| due) {
                looked = Some(Instant::now());
                let known = self.world.once(id).filter(Task::stopped);
                let task = match known {
                    Some(task) => Some(task),
                    None => self.look_once(&app, &[task]).await?.pop(),
                };
                // A task that ended without a link says why.
                if let Some(task) = task.filter(Task::stopped) {
                    return Err(why(ending(&task, false, true, 0).message));
                }
            }
            tokio::time::sleep(LINK_EVERY).await;
        }
    }

    /// The first attach starts the command.
    async fn attached(&self, app: &AppId, id: &DynoId) -> Result<(), PortError> {
        let pass = self.pass(app);
        let _pass = pass.lock().await;
        match self.find_dyno(id).await? {
            Some((_, mut dyno)) if dyno.awaited => self.up_once(app, id, &mut dyno, self.options.clock.now()).await,
            _ => Ok(()),
        }
    }

    pub(crate) async fn find_dyno(&self, id: &DynoId) -> Result<Option<(AppId, DynoNote)>, PortError> {
        let found = self.options.notes.find_note(&note::dyno_key(id)).await?;
        Ok(found.and_then(|(app, text)| Some((app, serde_json::from_str(&text).ok()?))))
    }

    /// Stops one dyno, whatever it is.
    pub(crate) async fn stop(&self, id: &DynoId) -> Result<(), PortError> {
        let Some((app, _)) = self.find_dyno(id).await? else { return Ok(()) };
        let pass = self.pass(&app);
        let _pass = pass.lock().await;
        let Some((_, mut dyno)) = self.find_dyno(id).await? else { return Ok(()) };
        if dyno.exit.is_some() || dyno.forgotten {
            return Ok(());
        }
        let service = dyno.kind == DynoKind::Service;
        if !service && dyno.stop_at.is_none() {
            let now = self.options.clock.now();
            dyno.stop_at = Some(now);
            if dyno.task.is_none() {
                // It never will run: start_once finds its end.
                dyno.exit = Some(Exit { code: Some(TERMINATED), at: now, crashed: false });
            } else {
                self.say(&app, &dyno, now, "Stopping all processes with SIGTERM").await;
            }
            self.keep(&app, id, &dyno).await?;
        }
        if let Some(links) = self.options.links.as_ref().filter(|_| !service) {
            links.stop(id).await;
        }
        let Some(task) = &dyno.task else { return Ok(()) };
        self.stop_task(&app, task, "stopped by its app").await?;
        if service {
            self.world.doubt(&self.service_name(&app, &dyno.name.process_type));
        }
        Ok(())
    }

    pub(crate) async fn forget(&self, id: &DynoId) -> Result<(), PortError> {
        let Some((app, _)) = self.find_dyno(id).await? else { return Ok(()) };
        let pass = self.pass(&app);
        let _pass = pass.lock().await;
        let Some((_, mut dyno)) = self.find_dyno(id).await? else { return Ok(()) };
        if dyno.kind == DynoKind::Service || dyno.forgotten {
            return Ok(());
        }
        if dyno.exit.is_none() {
            let task = match &dyno.task {
                Some(task) => self.look_once(&app, std::slice::from_ref(task)).await?.pop(),
                None => None,
            };
            self.note_once(&app, id, &mut dyno, task.as_ref()).await?;
        }
        if dyno.exit.is_none() {
            return Err(PortError::transient(format!("forgetting {}", dyno.name), "it still runs"));
        }
        if let Some(definition) = dyno.own_definition.take() {
            self.deregister(&app, &definition).await?;
            self.options.secrets.remove(&app, &SecretKey::Dyno(id.clone())).await?;
        }
        if let Some(links) = &self.options.links {
            links.forget(id).await;
        }
        self.world.forget_once(id);
        dyno.forgotten = true;
        dyno.command.clear();
        self.keep(&app, id, &dyno).await
    }
}

/// The one-off dynos that were noted.
pub(crate) fn once_dynos(notes: &BTreeMap<String, String>) -> BTreeMap<DynoId, DynoNote> {
    note::dynos(notes).filter(|(_, dyno)| dyno.kind != DynoKind::Service).collect()
}

/// A secret's key as notes have it.
pub(crate) fn secret_text(key: &SecretKey) -> String {
    let (kind, id) = words(key);
    format!("{kind}/{id}")
}
