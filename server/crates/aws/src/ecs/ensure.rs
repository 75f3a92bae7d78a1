//! One pass over a process type: look, plan, ask ECS for one change.

use std::time::Duration;

use aws_sdk_ecs::types::{
    AssignPublicIp, AvailabilityZoneRebalancing, AwsVpcConfiguration, CapacityProviderStrategyItem,
    DeploymentCircuitBreaker, DeploymentConfiguration, LaunchType, LoadBalancer, NetworkConfiguration, PropagateTags,
    ThresholdConfiguration, ThresholdType,
};
use paas_domain::{AppId, ConfigVars, Generation, ProcessType};
use paas_ports::{Observed, PortError, Progress, SecretKey, SecretVars, ServiceSpec};
use secrecy::ExposeSecret as _;

use super::book::{observed, types};
use super::definition::{Making, fingerprint, link_env, tag};
use super::note::{self, Definition, Note};
use super::plan::{Step, There, Wanted, lacks_tasks, plan};
use super::sight::{SPOT, Service};
use super::{Capacity, Inner, once};
use crate::sizes::cpu_architecture;
use crate::{AwsError, Call, Kind};

/// How many tasks in a row may fail before ECS itself gives a deployment up: our own decision comes at the first one,
/// this is for when the server is down.
const GIVE_UP_AFTER: i32 = 3;

/// How old a look may be while fewer tasks are there than should be.
const LACKING: Duration = Duration::from_secs(10);
/// When to look again at what ECS does not show yet.
const STALE: Duration = Duration::from_secs(1);

impl Inner {
    pub(crate) async fn ensure(&self, spec: &ServiceSpec) -> Result<Progress, PortError> {
        let (app, name) = (&spec.app, self.service_name(&spec.app, &spec.process_type));
        let key = note::type_key(&spec.process_type);
        let notes = self.options.notes.notes(app).await?;
        let before: Note = note::read(&notes, &key).unwrap_or_default();
        if before.generation > spec.generation {
            return Err(PortError::Superseded);
        }
        let sight = self.look(app, &name).await?;
        if let Some(stranger) = sight.service.as_ref().filter(|service| !self.is_ours(service)) {
            return Err(self.not_ours(format!("changing the service of {}", spec.process_type), &stranger.name));
        }
        if sight.service.as_ref().is_some_and(|service| service.generation > spec.generation) {
            return Err(PortError::Superseded);
        }
        if sight.service.as_ref().is_some_and(|service| is_stale(&before, service)) {
            self.world.doubt(&name);
            return Ok(Progress::Moving { look_again: STALE });
        }
        let mut note = before.clone();
        let mut book = self.keep_book(app, &spec.process_type, &mut note, &notes, &sight).await?;
        let wanted = self.wanted(spec);
        let there = There { service: sight.service.as_ref(), tasks: &sight.tasks, names: &book };
        let mut plan = plan(&wanted, &note, there, self.options.clock.now());
        let on_its_way = matches!(plan.progress, Progress::Moving { .. } | Progress::HeldUp { .. });
        if on_its_way && plan.step == Step::Rest && lacks_tasks(&wanted, &plan.note, there) {
            // Why nothing is started is in the service's list of events, and the event about it may be lost.
            self.world.doubt_older(&name, LACKING);
        }
        self.note_lives(app, &plan.note, &mut book, &sight).await?;
        let registers = matches!(plan.step, Step::Create | Step::Deploy) && !is_registered(&plan.note, &wanted);
        if registers {
            if let Some(look_again) = self.world.just_registered(&name) {
                return Ok(Progress::Moving { look_again });
            }
            plan.note.unnoted.begin(self.options.clock.now());
        }
        if plan.note != before {
            if plan.note.no_spot.is_some() && before.no_spot.is_none() {
                let line = "Fargate Spot has no room: dynos run on demand until it is tried again in an hour";
                self.say_as(app, spec.process_type.to_string(), self.options.clock.now(), line).await;
            }
            note::write(&*self.options.notes, app, &key, &plan.note).await?;
        }
        if plan.step != Step::Rest {
            self.take_step(spec, &wanted, &plan.step, &mut plan.note, sight.service.as_ref()).await?;
            note::write(&*self.options.notes, app, &key, &plan.note).await?;
        }
        Ok(plan.progress)
    }

    fn wanted(&self, spec: &ServiceSpec) -> Wanted {
        let attachment = spec.attachment.as_ref().map(|a| a.0.as_str()).unwrap_or_default();
        let release = spec.release.0.to_string();
        Wanted {
            generation: spec.generation,
            fingerprint: fingerprint(&[
                spec.image.0.as_str(),
                &spec.command,
                spec.config_id.as_str(),
                spec.size.as_str(),
                &release,
                attachment,
                cpu_architecture(spec.architecture),
            ]),
            quantity: u32::from(spec.quantity.get()),
            capacity: spec.capacity,
            restart: spec.restart,
            revive: spec.revive,
            web: spec.attachment.is_some(),
            boot_timeout_s: self.options.timing.boot_timeout.as_secs(),
        }
    }

    async fn take_step(
        &self,
        spec: &ServiceSpec,
        wanted: &Wanted,
        step: &Step,
        note: &mut Note,
        service: Option<&Service>,
    ) -> Result<(), PortError> {
        let name = self.service_name(&spec.app, &spec.process_type);
        let capacity = wanted.capacity(note);
        // It changes with a new deployment only: AWS takes it without one and goes on as before.
        let other = service.is_some_and(|service| service.spot != (capacity == Capacity::Spot)).then_some(capacity);
        let answer = match step {
            Step::Rest => return Ok(()),
            Step::Create => {
                self.make_definition(spec, wanted, note).await?;
                note.removed = false;
                note.attachment = spec.attachment.as_ref().map(|a| a.0.clone());
                self.create_service(spec, &name, &note.definition, capacity).await
            }
            Step::Deploy => {
                self.make_definition(spec, wanted, note).await?;
                let force = service.and_then(Service::primary).is_some_and(|p| p.definition == note.definition);
                let attachment = spec.attachment.as_ref().map(|a| a.0.clone());
                let moved = note.attachment != attachment;
                note.attachment = attachment;
                let change = Change {
                    definition: Some(note.definition.clone()),
                    desired: wanted.quantity,
                    force: force || other.is_some(),
                    capacity: other,
                    balancers: moved.then(|| balancers(spec, self.options.timing.port)),
                };
                self.update_service(&spec.app, &name, change).await
            }
            Step::Point { definition, desired, force } => {
                let change = Change {
                    definition: Some(definition.clone()),
                    desired: *desired,
                    force: *force || other.is_some(),
                    capacity: other,
                    balancers: None,
                };
                self.update_service(&spec.app, &name, change).await
            }
            Step::Scale { desired } => {
                let change =
                    Change { definition: None, desired: *desired, force: false, capacity: None, balancers: None };
                self.update_service(&spec.app, &name, change).await
            }
        };
        match answer {
            Ok(service) => {
                if let Some(primary) = service.as_ref().and_then(Service::primary) {
                    let ours = primary.definition == note.definition && note.replaced.as_ref() != Some(&primary.id);
                    if ours && note.failure.is_none() && note.deployment.is_none() {
                        note.deployment = Some(primary.id.clone());
                    }
                }
                match service {
                    Some(service) => self.world.note_service(service),
                    None => self.world.doubt(&name),
                }
                Ok(())
            }
            Err(error) => {
                self.world.doubt(&name);
                Err(passing(error))
            }
        }
    }

    /// Registers what the spec says, unless it is registered already, and notes it down before anything runs it.
    async fn make_definition(&self, spec: &ServiceSpec, wanted: &Wanted, note: &mut Note) -> Result<(), PortError> {
        if is_registered(note, wanted) {
            return Ok(());
        }
        let key = SecretKey::Config(spec.config_id.clone());
        let secrets = self.keep_config(&spec.app, &key, &spec.config).await?;
        let named = !secrets.0.is_empty();
        let image = self.options.images.pinned(&spec.app, &spec.image).await?;
        let process_type = spec.process_type.as_str();
        let mut env = vec![
            ("PAAS_COMMAND", spec.command.clone()),
            (paas_link_frames::env::APP, spec.app.to_string()),
            (paas_link_frames::env::PROCESS_TYPE, process_type.to_owned()),
        ];
        env.extend(link_env(self.options.link.as_ref()));
        let making = Making {
            family: self.service_name(&spec.app, &spec.process_type),
            container: process_type,
            app: &spec.app,
            image,
            size: spec.size,
            architecture: spec.architecture,
            web: spec.attachment.is_some(),
            env,
            secrets,
            tags: vec![
                ("paas:type", process_type.to_owned()),
                ("paas:release", spec.release.0.to_string()),
                ("paas:generation", spec.generation.0.to_string()),
                ("paas:restart", spec.restart.to_string()),
                ("paas:size", spec.size.to_string()),
                ("paas:fingerprint", wanted.fingerprint.clone()),
            ],
        };
        let arn = self.register(making).await?;
        let definition = Definition {
            release: spec.release,
            generation: spec.generation,
            size: spec.size,
            command: spec.command.clone(),
            secret: named.then(|| once::secret_text(&key)),
        };
        self.world.registered(&self.service_name(&spec.app, &spec.process_type));
        note.unnoted.end();
        note.definitions.insert(arn.clone(), definition);
        note.definition = arn;
        note.fingerprint.clone_from(&wanted.fingerprint);
        note::write(&*self.options.notes, &spec.app, &note::type_key(&spec.process_type), note).await
    }

    /// Keeps config vars, and the app's token for the dyno link, where dynos read them.
    pub(crate) async fn keep_config(
        &self,
        app: &AppId,
        key: &SecretKey,
        config: &ConfigVars,
    ) -> Result<SecretVars, PortError> {
        let mut vars = paas_dyno_env::encode(&config.expose());
        if let Some(link) = &self.options.link {
            vars.push((paas_link_frames::env::TOKEN.to_owned(), link.key.token(app).expose_secret().to_owned()));
        }
        if vars.is_empty() {
            return Ok(SecretVars(vec![]));
        }
        self.options.secrets.ensure(app, key, &vars).await
    }

    async fn create_service(
        &self,
        spec: &ServiceSpec,
        name: &str,
        definition: &str,
        capacity: Capacity,
    ) -> Result<Option<Service>, AwsError> {
        let threshold = ThresholdConfiguration::builder().r#type(ThresholdType::Count).value(GIVE_UP_AFTER).build();
        let breaker = DeploymentCircuitBreaker::builder()
            .enable(true)
            .rollback(true)
            // Both fields are given, so it can be built.
            .set_threshold_configuration(threshold.ok())
            .build();
        let rolling = DeploymentConfiguration::builder()
            .deployment_circuit_breaker(breaker)
            .minimum_healthy_percent(100)
            .maximum_percent(200)
            .build();
        let grace = i32::try_from(self.options.timing.boot_timeout.as_secs()).unwrap_or(i32::MAX);
        let request = self
            .aws
            .ecs
            .create_service()
            .cluster(&self.aws.foundation.cluster)
            .service_name(name)
            .task_definition(definition)
            .desired_count(i32::from(spec.quantity.get()))
            .set_launch_type((capacity == Capacity::OnDemand).then_some(LaunchType::Fargate))
            .set_capacity_provider_strategy((capacity == Capacity::Spot).then(|| strategy(capacity)))
            .deployment_configuration(rolling)
            .network_configuration(self.network())
            .availability_zone_rebalancing(AvailabilityZoneRebalancing::Disabled)
            .set_load_balancers(Some(balancers(spec, self.options.timing.port)))
            .set_health_check_grace_period_seconds(spec.attachment.as_ref().map(|_| grace))
            .propagate_tags(PropagateTags::TaskDefinition)
            .tags(tag("paas:install", self.aws.install.to_string()))
            .tags(tag("paas:app", spec.app.as_str()))
            .tags(tag("paas:type", spec.process_type.as_str()))
            .tags(tag("paas:generation", spec.generation.0.to_string()));
        let doing = format!("making the service of {}", spec.process_type);
        let answer = self.aws.call(Call::CreateService, Some(&spec.app), &doing, request.send()).await?;
        let made = answer.service.as_ref().and_then(Service::read);
        // The tags need not be part of this answer.
        let install = Some(self.aws.install.to_string());
        Ok(made.map(|made| Service { app: Some(spec.app.clone()), generation: spec.generation, install, ..made }))
    }

    async fn update_service(&self, app: &AppId, name: &str, change: Change) -> Result<Option<Service>, AwsError> {
        let request = self
            .aws
            .ecs
            .update_service()
            .cluster(&self.aws.foundation.cluster)
            .service(name)
            .set_task_definition(change.definition)
            .desired_count(i32::try_from(change.desired).unwrap_or(i32::MAX))
            .set_force_new_deployment(change.force.then_some(true))
            .set_capacity_provider_strategy(change.capacity.map(strategy))
            .set_load_balancers(change.balancers);
        let answer = self.aws.call(Call::UpdateService, Some(app), "changing a service", request.send()).await?;
        // The tags are not part of this answer.
        let Some(Service { app, generation, install, .. }) = self.world.known(name).service else { return Ok(None) };
        let changed = answer.service.as_ref().and_then(Service::read);
        Ok(changed.map(|service| Service { app, generation, install, ..service }))
    }

    /// Where tasks live: in the foundation's subnets, reached by its balancers only.
    pub(crate) fn network(&self) -> NetworkConfiguration {
        let foundation = &self.aws.foundation;
        let public = if foundation.public_ip { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled };
        let vpc = AwsVpcConfiguration::builder()
            .set_subnets(Some(foundation.subnets.clone()))
            .security_groups(&foundation.dyno_security_group)
            .assign_public_ip(public)
            .build();
        // Subnets are given, so it can be built.
        NetworkConfiguration::builder().set_awsvpc_configuration(vpc.ok()).build()
    }

    pub(crate) async fn observe(&self, app: &AppId) -> Result<Observed, PortError> {
        let notes = self.options.notes.notes(app).await?;
        let mut seen = Observed::default();
        for process_type in types(&notes) {
            let key = note::type_key(&process_type);
            let before: Note = note::read(&notes, &key).unwrap_or_default();
            let mut note = before.clone();
            let name = self.service_name(app, &process_type);
            let known = self.world.known(&name);
            let looked = self.world.has_looked(&name);
            let empty = note.removed && looked && known.tasks.iter().all(super::sight::Task::stopped);
            let sight = if empty { known } else { self.look(app, &name).await? };
            let book = self.keep_book(app, &process_type, &mut note, &notes, &sight).await?;
            if note != before {
                note::write(&*self.options.notes, app, &key, &note).await?;
            }
            seen.dynos.extend(book.dynos.iter().map(|(id, dyno)| observed(id, dyno)));
        }
        seen.dynos.extend(self.observe_once(app, &notes).await?);
        Ok(seen)
    }

    pub(crate) async fn remove(
        &self,
        app: &AppId,
        process_type: &ProcessType,
        up_to: Generation,
    ) -> Result<(), PortError> {
        let key = note::type_key(process_type);
        let notes = self.options.notes.notes(app).await?;
        let before: Option<Note> = note::read(&notes, &key);
        if before.as_ref().is_some_and(|note| note.generation > up_to) {
            return Err(PortError::Superseded);
        }
        if before.as_ref().is_some_and(|note| note.removed) {
            return Ok(());
        }
        let name = self.service_name(app, process_type);
        let mut there = self.describe_services(Some(app), std::slice::from_ref(&name)).await?;
        there.retain(|service| self.is_ours(service));
        if there.iter().any(|service| service.generation > up_to) {
            return Err(PortError::Superseded);
        }
        if there.iter().any(|service| service.active) {
            self.delete_service(app, &name).await?;
        }
        if let Some(before) = before {
            let Note { definitions, told, unnoted, .. } = before;
            // A removed type begins anew, but its generation stays.
            let note = Note { generation: up_to, removed: true, definitions, told, unnoted, ..Note::default() };
            note::write(&*self.options.notes, app, &key, &note).await?;
        }
        Ok(())
    }

    /// Whether a service carries this installation's tag: what does not is never touched, whatever its name.
    pub(crate) fn is_ours(&self, service: &Service) -> bool {
        service.install.as_deref() == Some(self.aws.install.as_str())
    }

    /// Something of a name of ours is in our way.
    fn not_ours(&self, doing: String, name: &str) -> PortError {
        let tag = &self.aws.install;
        let cause = format!(
            "{name} is there and does not carry the tag paas:install={tag}: remove it, or give it the tag if it is ours"
        );
        PortError::permanent(doing, cause)
    }

    /// Ends a service and its tasks, as gracefully as scaling to zero does.
    pub(crate) async fn delete_service(&self, app: &AppId, name: &str) -> Result<(), PortError> {
        // Without a look from before, its tasks would not be known once it is gone.
        self.look_now(app, name).await?;
        let request = self.aws.ecs.delete_service().cluster(&self.aws.foundation.cluster).service(name).force(true);
        let answer = self.aws.call(Call::DeleteService, Some(app), "removing a service", request.send()).await;
        self.world.doubt(name);
        match answer {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::NotFound || error.is(&["ServiceNotActiveException"]) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether this is from before our last change, though ECS has answered that. (When ECS goes back, it does so by another
/// deployment than the one that was replaced.)
fn is_stale(note: &Note, service: &Service) -> bool {
    let before = service.primary().is_some_and(|primary| note.replaced.as_ref() == Some(&primary.id));
    before && note.deployment.as_ref().is_some_and(|ours| service.deployment(ours).is_none())
}

/// Whether what is wanted has a definition.
fn is_registered(note: &Note, wanted: &Wanted) -> bool {
    note.fingerprint == wanted.fingerprint && !note.definition.is_empty()
}

/// A change of a service.
struct Change {
    definition: Option<String>,
    desired: u32,
    force: bool,
    /// Another one than it has.
    capacity: Option<Capacity>,
    balancers: Option<Vec<LoadBalancer>>,
}

fn balancers(spec: &ServiceSpec, port: u16) -> Vec<LoadBalancer> {
    let group = spec.attachment.iter().map(|attachment| {
        LoadBalancer::builder()
            .target_group_arn(&attachment.0)
            .container_name(spec.process_type.as_str())
            .container_port(i32::from(port))
            .build()
    });
    group.collect()
}

/// What may pass by itself, though AWS does not say so by its code.
pub(crate) fn passing(error: AwsError) -> PortError {
    let passes = [
        // The target group was made a moment ago.
        "does not have an associated load balancer",
        // The definition was.
        "TaskDefinition not found",
        // Its predecessor of the same name still ends.
        "not idempotent",
        "Unable to Start a service that is still Draining",
    ];
    let meanwhile = error.is(&["ServiceNotFoundException", "ServiceNotActiveException"]);
    if meanwhile || passes.iter().any(|words| error.message.contains(words)) {
        return PortError::transient(error.doing, error.message);
    }
    error.into()
}

/// On Spot, the first dyno and one in five on demand. AWS takes either this or a launch type, and a service that was
/// made with one keeps to its kind.
fn strategy(capacity: Capacity) -> Vec<CapacityProviderStrategyItem> {
    let item = |name: &str, base, weight| {
        CapacityProviderStrategyItem::builder().capacity_provider(name).base(base).weight(weight).build().ok()
    };
    match capacity {
        Capacity::OnDemand => item("FARGATE", 0, 1).into_iter().collect(),
        Capacity::Spot => [item("FARGATE", 1, 1), item(SPOT, 0, 4)].into_iter().flatten().collect(),
    }
}
