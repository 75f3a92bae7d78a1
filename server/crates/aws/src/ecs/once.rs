//! How one-off dynos are started: a task each, run at most once ever.
//!
//! What was asked is noted down before ECS is asked, with the dyno's id as the client token: a call that timed out is
//! made again and comes to the same task (AWS remembers tokens for a day). A dyno's note stays until it is forgotten,
//! and then as a mark that its id is used up. The command goes in as an override of the environment, so an app's
//! one-off dynos share one definition as long as image, config and size do.

use aws_sdk_ecs::types::{ContainerOverride, DesiredStatus, LaunchType, TaskOverride};
use paas_domain::{AppId, DynoId, Generation, Timestamp};
use paas_link_frames::env;
use paas_ports::{OneOffSpec, PortError, SecretKey, SecretVars};

use super::definition::{Making, fingerprint, link_env, pair, tag};
use super::failure::{QUOTA, unplaced};
use super::note::{self, DynoNote, ONCE, OnceNote};
use super::sight::Task;
use super::{Inner, ensure, names};
use crate::secrets::words;
use crate::sizes::cpu_architecture;
use crate::{Call, Kind};

/// The container's name in the one-off definition.
const CONTAINER: &str = "run";
/// The longest command, as JSON, that goes into a task's overrides. RunTask takes 8,192 characters of these in all ("This limit
/// includes the JSON formatting characters of the override structure"); a longer one needs a definition of its own.
const OVERRIDDEN: usize = 7_000;
/// The variable that has the command.
const COMMAND: &str = "PAAS_COMMAND";
/// How long AWS remembers a client token, less an hour.
const TOKEN_S: i64 = 23 * 3600;
/// The exit status of what ECS lost sight of, or never started.
pub(crate) const UNKNOWN: i32 = 1;

impl Inner {
    pub(crate) async fn start_once(&self, id: &DynoId, spec: &OneOffSpec) -> Result<(), PortError> {
        let started = self.try_once(id, spec).await;
        if let Err(error) = &started {
            self.note_refusal(id, spec, error).await?;
        }
        started
    }

    async fn try_once(&self, id: &DynoId, spec: &OneOffSpec) -> Result<(), PortError> {
        let notes = self.options.notes.notes(&spec.app).await?;
        let now = self.options.clock.now();
        let known: Option<DynoNote> = note::read(&notes, &note::dyno_key(id));
        if let Some(known) = &known {
            if known.forgotten {
                return Err(PortError::NotFound(spec.name.to_string()));
            }
            if let (Some(_), None, Some(why)) = (&known.exit, &known.task, &known.why) {
                return Err(PortError::permanent(format!("starting {}", spec.name), why));
            }
            if known.task.is_some() || known.exit.is_some() {
                return Ok(());
            }
            if known.made_at.plus_s(TOKEN_S) < now {
                return Err(PortError::permanent(format!("starting {}", spec.name), "it was asked for a day ago"));
            }
        }
        let mut once: OnceNote = note::read(&notes, ONCE).unwrap_or_default();
        let own = (spec.config_id.is_none() || is_long(&spec.command)).then(|| SecretKey::Dyno(id.clone()));
        // What an earlier try registered for it alone: the token stands for the same request each time.
        let definition = match known.as_ref().and_then(|known| known.own_definition.clone()) {
            Some(definition) => definition,
            None => self.once_definition(id, spec, &mut once, own.as_ref()).await?,
        };
        let mut dyno = known.unwrap_or_else(|| asked_for(spec, now));
        dyno.own_definition = own.is_some().then(|| definition.clone());
        self.keep(&spec.app, id, &dyno).await?;
        if once.unnoted.making.is_some() {
            once.unnoted.end();
            note::write(&*self.options.notes, &spec.app, ONCE, &once).await?;
        }
        let task = self.run_task(id, spec, &definition).await?;
        (dyno.why, dyno.for_good) = (None, false);
        dyno.task = Some(task.arn.clone());
        self.keep(&spec.app, id, &dyno).await?;
        self.world.note_task(task);
        Ok(())
    }

    /// Notes down what keeps a dyno from starting, for whoever waits for it. The app's log hears at once of what may
    /// pass, once each; of what is for good whoever asked tells it.
    async fn note_refusal(&self, id: &DynoId, spec: &OneOffSpec, error: &PortError) -> Result<(), PortError> {
        let (cause, for_good) = match error {
            PortError::Transient { cause, .. } => (cause, false),
            PortError::Permanent { cause, .. } | PortError::NotFound(cause) => (cause, true),
            PortError::Superseded => return Ok(()),
        };
        let (now, notes) = (self.options.clock.now(), self.options.notes.notes(&spec.app).await?);
        let known: Option<DynoNote> = note::read(&notes, &note::dyno_key(id));
        let mut dyno = known.unwrap_or_else(|| asked_for(spec, now));
        if dyno.forgotten || dyno.task.is_some() || dyno.exit.is_some() {
            return Ok(());
        }
        if dyno.why.as_ref() == Some(cause) && dyno.for_good == for_good {
            return Ok(());
        }
        if !for_good {
            self.say(&spec.app, &dyno, now, error.to_string()).await;
        }
        (dyno.why, dyno.for_good) = (Some(cause.clone()), for_good);
        self.keep(&spec.app, id, &dyno).await
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
            fingerprint(&[spec.image.0.as_str(), spec.size.as_str(), &secret, cpu_architecture(spec.architecture)]);
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
        plain.extend(is_long(&spec.command).then(|| (COMMAND, spec.command.clone())));
        let making = Making {
            family: names::one_off_family(&self.aws.install, &spec.app),
            container: CONTAINER,
            app: &spec.app,
            image: self.options.images.pinned(&spec.app, &spec.image).await?,
            size: spec.size,
            architecture: spec.architecture,
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
            pair("DYNO", &spec.name.to_string()),
            pair(env::DYNO_ID, id.as_str()),
            pair(env::PROCESS_TYPE, spec.name.process_type.as_str()),
        ];
        environment.extend((!is_long(&spec.command)).then(|| pair(COMMAND, &spec.command)));
        // The definition may be another server's. Who attaches is whoever the client was told to come to, or who starts it.
        let ours = self.options.link.as_ref().map(|link| &link.address);
        environment.extend(spec.link.as_ref().or(ours).map(|address| pair(env::LINK, address)));
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
            // Never on Spot, whatever the app's services are on.
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
            // AWS says some of these with a code of its own and some with a code that means nothing.
            Err(error) if error.message.contains("apacity is unavailable") || error.message.contains(QUOTA) => {
                return Err(PortError::transient(doing, unplaced(&error.message)));
            }
            Err(error) => return Err(ensure::passing(error)),
        };
        if let Some(task) = answer.tasks().first().and_then(Task::read) {
            return Ok(task);
        }
        // Partial failure inside a 200: no capacity, as a rule.
        let reason = answer.failures().first().and_then(|failure| failure.reason()).unwrap_or("AWS started nothing");
        Err(PortError::transient(doing, unplaced(reason)))
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
}

fn is_long(command: &str) -> bool {
    serde_json::Value::from(command).to_string().len() > OVERRIDDEN
}

/// A dyno that nobody has started yet.
fn asked_for(spec: &OneOffSpec, now: Timestamp) -> DynoNote {
    DynoNote {
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
        own_definition: None,
        why: None,
        for_good: false,
    }
}

/// A secret's key as notes have it.
pub(crate) fn secret_text(key: &SecretKey) -> String {
    let (kind, id) = words(key);
    format!("{kind}/{id}")
}
