//! Dynos on ECS. Where a task has to live, it is a real one; else its image cannot be pulled, and it ends at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ecs::types::{
    AwsVpcConfiguration, Compatibility, ContainerDefinition, DesiredStatus, LaunchType, NetworkConfiguration,
    NetworkMode, Service, Tag, TaskDefinitionStatus,
};
use paas_aws::{Aws, AwsSecrets, EcsOptions, EcsRuntime, ImageNames, MemoryLedger, MemoryNotes, Timing};
use paas_domain::{
    AppId, ConfigId, ConfigVars, DynoId, DynoKind, DynoSize, DynoState, Generation, Quantity, ReleaseVersion,
    SystemClock, outside_name,
};
use paas_ports::fake::{FakeLogStore, FakeLogWorld};
use paas_ports::{ImageRef, ObservedDyno, OneOffSpec, PortError, Runtime as _, Secrets as _, ServiceSpec};
use secrecy::SecretString;

use crate::cell::{CANARY, Said, Story, Ways};
use crate::{image, support};

/// The longest that a task takes to come or go.
const TASK: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq)]
enum Act {
    /// A service that should run one dyno.
    Ensure,
    /// The same, and its dyno is seen.
    Watch,
    RemoveType,
    StartOnce,
    Observe,
    Stop,
    Forget,
    FindApps,
    Destroy,
}

/// What is there before.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Begin {
    Nothing,
    /// A service that runs another definition, without tasks.
    OldService,
}

pub(super) struct Dynos {
    account: Aws,
    server: Aws,
    memory: Memory,
    driver: Mutex<EcsRuntime>,
    spec: ServiceSpec,
    dyno: DynoId,
    once: OneOffSpec,
    act: Act,
    apps: Mutex<Vec<AppId>>,
    seen: Mutex<Vec<ObservedDyno>>,
}

/// What outlives a server.
struct Memory {
    ledger: Arc<MemoryLedger>,
    notes: Arc<MemoryNotes>,
    image: String,
}

struct Images(String);

#[async_trait]
impl ImageNames for Images {
    async fn pinned(&self, _: &AppId, _: &ImageRef) -> Result<String, PortError> {
        Ok(self.0.clone())
    }
}

fn runtime(aws: &Aws, memory: &Memory) -> EcsRuntime {
    let options = EcsOptions {
        images: Arc::new(Images(memory.image.clone())),
        secrets: Arc::new(AwsSecrets::new(aws.clone())),
        ledger: memory.ledger.clone(),
        notes: memory.notes.clone(),
        logs: Arc::new(FakeLogStore(Arc::<FakeLogWorld>::default())),
        links: None,
        link: None,
        clock: Arc::new(SystemClock),
        on_change: Arc::new(|_| {}),
        timing: Timing {
            boot_timeout: Duration::from_secs(2),
            stop_grace: Duration::from_secs(1),
            // Every pass looks.
            pause: Duration::ZERO,
            ..Timing::default()
        },
    };
    EcsRuntime::new(aws.clone(), options)
}

async fn of(ways: &Arc<Ways>, act: Act, lives: bool) -> Dynos {
    let foundation = ways.foundation();
    let (account, server) = (ways.account(&foundation), ways.server(&foundation));
    let image = if lives {
        image::pinned(&support::docker().await, &account).await
    } else {
        format!("{}/nothing@sha256:{}", support::registry(), "0".repeat(64))
    };
    account.ecs.create_cluster().cluster_name(&foundation.cluster).send().await.expect("a cluster");
    account.logs.create_log_group().log_group_name(&foundation.log_group).send().await.expect("a log group");
    let memory = Memory { ledger: Arc::default(), notes: Arc::default(), image };
    let driver = Mutex::new(runtime(&server, &memory));
    let (app, mut config) = (AppId::new(), ConfigVars::new());
    config.set("CANARY".parse().expect("a key"), SecretString::from(CANARY));
    let image = ImageRef(format!("sha256:{}", "0".repeat(64)).parse().expect("a digest"));
    let spec = ServiceSpec {
        app: app.clone(),
        attachment: None,
        process_type: "worker".parse().expect("a process type"),
        generation: Generation(5),
        release: ReleaseVersion(3),
        image: image.clone(),
        command: "worker".to_owned(),
        config: config.clone(),
        config_id: ConfigId::new(),
        size: DynoSize::Basic,
        architecture: paas_domain::Architecture::default(),
        capacity: paas_domain::Capacity::default(),
        quantity: Quantity::new(1).expect("small"),
        restart: 0,
        revive: false,
    };
    let once = OneOffSpec {
        app,
        name: "run.4821".parse().expect("a name"),
        kind: DynoKind::Run,
        release: ReleaseVersion(3),
        image,
        command: "worker".to_owned(),
        config,
        config_id: None,
        size: DynoSize::Basic,
        architecture: paas_domain::Architecture::default(),
        capacity: paas_domain::Capacity::default(),
        attach: false,
        tty: false,
        link: None,
    };
    let (dyno, apps, seen) = (DynoId::new(), Mutex::default(), Mutex::default());
    Dynos { account, server, memory, driver, spec, dyno, once, act, apps, seen }
}

pub(super) async fn service(ways: &Arc<Ways>, begin: Begin) -> Dynos {
    let story = of(ways, Act::Ensure, true).await;
    if begin == Begin::OldService {
        story.old_service().await;
    }
    story
}

pub(super) async fn watched(ways: &Arc<Ways>) -> Dynos {
    of(ways, Act::Watch, true).await
}

pub(super) async fn removed(ways: &Arc<Ways>) -> Dynos {
    let story = of(ways, Act::RemoveType, false).await;
    story.old_service().await;
    story
}

pub(super) async fn started(ways: &Arc<Ways>) -> Dynos {
    of(ways, Act::StartOnce, false).await
}

/// A dyno that runs.
pub(super) async fn observed(ways: &Arc<Ways>) -> Dynos {
    let story = of(ways, Act::Observe, true).await;
    story.start_by_account().await;
    story
}

pub(super) async fn stopped(ways: &Arc<Ways>) -> Dynos {
    let story = of(ways, Act::Stop, true).await;
    story.start_by_account().await;
    story
}

/// A dyno that has ended.
pub(super) async fn forgotten(ways: &Arc<Ways>) -> Dynos {
    let story = of(ways, Act::Forget, false).await;
    let runtime = story.start_by_account().await;
    let since = std::time::Instant::now();
    loop {
        let seen = runtime.observe(&story.once.app).await.expect("a look");
        if seen.dynos.iter().all(|dyno| dyno.state == DynoState::Ended) {
            return story;
        }
        assert!(since.elapsed() < TASK, "its end is never seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A definition that no note tells of.
pub(super) async fn found(ways: &Arc<Ways>) -> Dynos {
    let story = of(ways, Act::FindApps, false).await;
    story.old_definition().await;
    story
}

pub(super) async fn destroyed(ways: &Arc<Ways>) -> Dynos {
    let story = of(ways, Act::Destroy, false).await;
    story.old_service().await;
    story
}

impl Dynos {
    fn driver(&self) -> EcsRuntime {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn name(&self) -> String {
        outside_name(&self.account.install, &self.spec.app, self.spec.process_type.as_str())
    }

    fn tags(&self) -> Vec<Tag> {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        vec![
            tag("paas:install", self.account.install.as_str()),
            tag("paas:app", self.spec.app.as_str()),
            tag("paas:generation", "2"),
        ]
    }

    /// Of an older release, and of a server that has lost its notes.
    async fn old_definition(&self) -> String {
        let container = ContainerDefinition::builder().name("worker").image(&self.memory.image).build();
        let register = self.account.ecs.register_task_definition().family(self.name()).cpu("256").memory("512");
        let register = register.network_mode(NetworkMode::Awsvpc).requires_compatibilities(Compatibility::Fargate);
        let made = register.container_definitions(container).set_tags(Some(self.tags())).send().await;
        let made = made.expect("a definition").task_definition.expect("a definition");
        made.task_definition_arn.expect("an ARN")
    }

    async fn old_service(&self) {
        let definition = self.old_definition().await;
        let vpc = AwsVpcConfiguration::builder().subnets("subnet-a").build().expect("subnets");
        let network = NetworkConfiguration::builder().awsvpc_configuration(vpc).build();
        let create = self.account.ecs.create_service().cluster(&self.account.foundation.cluster);
        let create = create.service_name(self.name()).task_definition(definition).desired_count(0);
        let create = create.launch_type(LaunchType::Fargate).network_configuration(network);
        create.set_tags(Some(self.tags())).send().await.expect("a service");
    }

    async fn start_by_account(&self) -> EcsRuntime {
        let runtime = runtime(&self.account, &self.memory);
        runtime.start_once(&self.dyno, &self.once).await.expect("started");
        runtime
    }

    /// The cluster's services that are not gone.
    async fn services(&self) -> Vec<Service> {
        let cluster = &self.account.foundation.cluster;
        let listed = self.account.ecs.list_services().cluster(cluster).send().await.expect("a list");
        if listed.service_arns().is_empty() {
            return Vec::new();
        }
        let describe = self.account.ecs.describe_services().cluster(cluster);
        let found = describe.set_services(Some(listed.service_arns().to_vec())).send().await.expect("services");
        found.services().iter().filter(|service| service.status() != Some("INACTIVE")).cloned().collect()
    }

    /// The app's definitions, oldest first.
    async fn definitions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for family in [self.name(), outside_name(&self.account.install, &self.spec.app, "-run")] {
            let list = self.account.ecs.list_task_definitions().family_prefix(family);
            let listed = list.status(TaskDefinitionStatus::Active).send().await.expect("a list");
            found.extend(listed.task_definition_arns().to_vec());
        }
        found
    }

    /// Every task of the one-off dyno, or of the service; those that are to run, or all.
    async fn tasks(&self, once: bool, all: bool) -> Vec<String> {
        let mut found = Vec::new();
        let statuses = [DesiredStatus::Running, DesiredStatus::Stopped];
        for status in statuses.into_iter().take(if all { 2 } else { 1 }) {
            let list = self.account.ecs.list_tasks().cluster(&self.account.foundation.cluster).desired_status(status);
            let list = if once { list.started_by(self.dyno.as_str()) } else { list.service_name(self.name()) };
            found.extend(list.send().await.expect("tasks").task_arns().to_vec());
        }
        // One that stops between the two looks is in both.
        found.sort();
        found.dedup();
        found
    }

    async fn wrong_service(&self) -> Option<String> {
        let (services, definitions) = (self.services().await, self.definitions().await);
        let [service] = &services[..] else { return Some(format!("there are {} services", services.len())) };
        let right = service.status() == Some("ACTIVE")
            && service.desired_count() == 1
            && service.service_name() == Some(&self.name())
            && service.task_definition() == definitions.last().map(String::as_str);
        // A definition costs nothing, AWS takes no token for it, and all of them go with the app.
        (!right || definitions.len() > 4).then(|| format!("of {definitions:?} there is {service:?}"))
    }

    /// Every task that runs is a dyno, once, and nothing else is.
    async fn wrong_watch(&self) -> Option<String> {
        let since = std::time::Instant::now();
        loop {
            let driver = self.driver();
            let asked = driver.ensure(&self.spec).await;
            let seen = driver.observe(&self.spec.app).await;
            let running = self.tasks(false, false).await;
            let dynos = match (&asked, &seen) {
                (Ok(_), Ok(seen)) => seen.dynos.iter().map(|dyno| dyno.platform_ref.clone()).collect(),
                _ => Vec::new(),
            };
            if running.len() == 1 && dynos == running {
                return None;
            }
            if since.elapsed() > TASK {
                return Some(format!("{running:?} run, and of dynos there is {asked:?} {seen:?}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn wrong_destroyed(&self) -> Option<String> {
        let (services, definitions) = (self.services().await, self.definitions().await);
        (!services.is_empty() || !definitions.is_empty()).then(|| format!("{services:?} and {definitions:?} are left"))
    }
}

#[async_trait]
impl Story for Dynos {
    async fn act(&self) -> Result<(), Said> {
        let (driver, app) = (self.driver(), &self.spec.app);
        match self.act {
            Act::Ensure => drop(driver.ensure(&self.spec).await?),
            Act::Watch => {
                driver.ensure(&self.spec).await?;
                driver.observe(app).await?;
            }
            Act::RemoveType => driver.remove(app, &self.spec.process_type, self.spec.generation).await?,
            Act::StartOnce => driver.start_once(&self.dyno, &self.once).await?,
            Act::Observe => {
                let seen = driver.observe(app).await?;
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen.dynos;
            }
            Act::Stop => driver.stop(&self.dyno).await?,
            Act::Forget => driver.forget(&self.dyno).await?,
            Act::FindApps => {
                let apps = driver.apps().await?;
                *self.apps.lock().unwrap_or_else(PoisonError::into_inner) = apps;
            }
            Act::Destroy => {
                let mut tries = 0;
                while !driver.remove_app(app).await? {
                    tries += 1;
                    if tries > 600 {
                        return Err(Said::kept("AWS still shows something of the app"));
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Ok(())
    }

    fn restart(&self) {
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = runtime(&self.server, &self.memory);
    }

    async fn relapse(&self) {
        self.restart();
        if self.act == Act::Destroy {
            // Somebody was just making another release.
            self.old_definition().await;
        }
    }

    async fn wrong(&self) -> Option<String> {
        match self.act {
            Act::Ensure => self.wrong_service().await,
            Act::Watch => self.wrong_watch().await,
            Act::RemoveType => {
                let services = self.services().await;
                let active = services.iter().any(|service| service.status() == Some("ACTIVE"));
                active.then(|| format!("{services:?} are left"))
            }
            Act::StartOnce => {
                let tasks = self.tasks(true, true).await;
                (tasks.len() != 1).then(|| format!("there are {} tasks of it", tasks.len()))
            }
            Act::Observe => {
                let tasks = self.tasks(true, false).await;
                let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let right = matches!(&seen[..], [dyno] if !matches!(dyno.state, DynoState::Ended | DynoState::Crashed));
                (!right || tasks.len() != 1).then(|| format!("{tasks:?} run, and of dynos there is {seen:?}"))
            }
            Act::Stop => {
                let tasks = self.tasks(true, false).await;
                (!tasks.is_empty()).then(|| format!("{tasks:?} are still to run"))
            }
            Act::Forget => {
                let definitions = self.definitions().await;
                let secrets = AwsSecrets::new(self.account.clone()).list(&self.spec.app).await.expect("a list");
                let left = !definitions.is_empty() || !secrets.is_empty();
                left.then(|| format!("{definitions:?} and {secrets:?} are left"))
            }
            Act::FindApps => {
                let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner).clone();
                (apps != std::slice::from_ref(&self.spec.app)).then(|| format!("it found {apps:?}"))
            }
            Act::Destroy => self.wrong_destroyed().await,
        }
    }

    async fn end(&self) {
        let runtime = runtime(&self.account, &self.memory);
        for _ in 0..600 {
            if runtime.remove_app(&self.spec.app).await.unwrap_or(false) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let foundation = &self.account.foundation;
        let _ = self.account.logs.delete_log_group().log_group_name(&foundation.log_group).send().await;
        let _ = self.account.ecs.delete_cluster().cluster(&foundation.cluster).send().await;
    }
}
