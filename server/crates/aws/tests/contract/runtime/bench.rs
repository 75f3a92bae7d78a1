//! A bench on the emulator: a cluster and a balancer of its own, a hub that dynos link to, and pools that are told
//! what the target groups say.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::types as elb;
use bollard::query_parameters::{KillContainerOptionsBuilder, ListContainersOptionsBuilder};
use paas_aws::{Aws, AwsSecrets, EcsOptions, EcsRuntime, ImageNames, LinkAddress, MemoryLedger, MemoryNotes, Timing};
use paas_domain::{AppId, DynoId, DynoName, DynoState, Generation, InstallId, ProcessType, SystemClock};
use paas_link::{
    Admitted, Claim, Gap, Hub, HubOptions, LinkAdmission, LinkEvents, LinkKey, LinkedDyno, NumberedLine, Refusal,
};
use paas_ports::contract::runtime::bench::STOP_GRACE;
use paas_ports::contract::runtime::{RuntimeBench, WatchedPools};
use paas_ports::fake::{FakeLogStore, FakeLogWorld};
use paas_ports::{
    Attachment, Duplex, ImageRef, LogLine, LogSource, LogStore, Member, MemberState, Observed, ObservedDyno,
    OneOffSpec, Pools, PortError, Progress, Runtime, ServiceSpec, outside,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::image;
use crate::support;

/// What R10 and R12 are measured with here.
const BOOT_TIMEOUT: Duration = Duration::from_secs(2);
/// From `StopTask` to SIGTERM on AWS, in seconds; the rig takes a tenth.
const DRAIN_S: &str = "5";

pub(crate) struct EcsBench {
    world: Arc<World>,
    watcher: JoinHandle<()>,
    hub: JoinHandle<()>,
}

/// What outlives a driver.
pub(crate) struct World {
    pub(crate) account: Aws,
    docker: bollard::Docker,
    other: EcsRuntime,
    others_app: Mutex<Option<AppId>>,
    ledger: Arc<MemoryLedger>,
    notes: Arc<MemoryNotes>,
    logs: Arc<FakeLogWorld>,
    pools: Arc<WatchedPools>,
    link: LinkAddress,
    links: Arc<Hub>,
    image: String,
    balancer: String,
    listener: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    driver: Option<EcsRuntime>,
    /// Target groups by the pools that the suite speaks of.
    groups: HashMap<Attachment, Group>,
}

#[derive(Clone)]
struct Group {
    app: AppId,
    process_type: ProcessType,
    arn: String,
    wanted: u16,
}

/// One image for all.
struct Images(String);

#[async_trait]
impl ImageNames for Images {
    async fn pinned(&self, _app: &AppId, _image: &ImageRef) -> Result<String, PortError> {
        Ok(self.0.clone())
    }
}

/// The driver comes after its links.
#[derive(Default)]
struct Admission(OnceLock<std::sync::Weak<World>>);

#[async_trait]
impl LinkAdmission for Admission {
    async fn admit(&self, claim: &Claim) -> Result<Admitted, Refusal> {
        let world = self.0.get().and_then(std::sync::Weak::upgrade).ok_or(Refusal::NotNow)?;
        let driver = world.driver();
        outside::task(driver.admit(claim)).await
    }
}

/// Stores what dynos say.
struct Lines(Arc<FakeLogWorld>);

#[async_trait]
impl LinkEvents for Lines {
    async fn connected(&self, _dyno: &LinkedDyno) {}
    async fn started(&self, _dyno: &LinkedDyno, _name: &DynoName) {}
    async fn lines(&self, dyno: &LinkedDyno, lines: Vec<NumberedLine>) -> Result<(), PortError> {
        let line = |line: NumberedLine| LogLine {
            at: line.at,
            source: LogSource::App,
            process: dyno.name.to_string(),
            message: String::from_utf8_lossy(&line.bytes).into_owned(),
        };
        FakeLogStore(Arc::clone(&self.0)).append(&dyno.app, lines.into_iter().map(line).collect()).await
    }
    async fn gap(&self, _dyno: &LinkedDyno, _gap: Gap) {}
    async fn exited(&self, _dyno: &LinkedDyno, _code: u8) {}
    async fn disconnected(&self, _dyno: &LinkedDyno) {}
}

fn options(
    account: &Aws,
    image: &str,
    logs: &Arc<FakeLogWorld>,
    memory: (&Arc<MemoryLedger>, &Arc<MemoryNotes>),
    link: Option<(&LinkAddress, &Arc<Hub>)>,
) -> EcsOptions {
    EcsOptions {
        images: Arc::new(Images(image.to_owned())),
        secrets: Arc::new(AwsSecrets::new(account.clone())),
        ledger: Arc::clone(memory.0) as _,
        notes: Arc::clone(memory.1) as _,
        logs: Arc::new(FakeLogStore(Arc::clone(logs))),
        links: link.map(|(_, hub)| Arc::clone(hub) as _),
        link: link.map(|(address, _)| address.clone()),
        clock: Arc::new(SystemClock),
        on_change: Arc::new(|_| {}),
        timing: Timing {
            boot_timeout: BOOT_TIMEOUT,
            stop_grace: STOP_GRACE,
            pause: Duration::from_millis(400),
            attach_patience: Duration::from_secs(30),
            ..Timing::default()
        },
    }
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_driver(&self) -> EcsRuntime {
        let memory = (&self.ledger, &self.notes);
        let link = Some((&self.link, &self.links));
        EcsRuntime::new(self.account.clone(), options(&self.account, &self.image, &self.logs, memory, link))
    }

    pub(crate) fn driver(&self) -> EcsRuntime {
        self.state().driver.clone().expect("there is a driver")
    }

    /// The target group of a pool, on the balancer by a rule of its own.
    async fn group(&self, spec: &ServiceSpec) -> Option<Attachment> {
        let pool = spec.attachment.clone()?;
        if let Some(group) = self.state().groups.get_mut(&pool) {
            group.wanted = spec.quantity.get();
            return Some(Attachment(group.arn.clone()));
        }
        let name = paas_domain::outside_name(&self.account.install, &spec.app, "web");
        let made = self
            .account
            .elb
            .create_target_group()
            .name(&name)
            .protocol(elb::ProtocolEnum::Http)
            .port(5000)
            .vpc_id(&self.account.foundation.vpc_id)
            .target_type(elb::TargetTypeEnum::Ip)
            .health_check_path("/")
            .health_check_interval_seconds(5)
            .health_check_timeout_seconds(2)
            .healthy_threshold_count(2)
            // Longer than a dyno may wait for its slot.
            .unhealthy_threshold_count(4)
            .send()
            .await;
        // A promise cuts its call short; the group may be there.
        let groups = match made {
            Ok(made) => made.target_groups.unwrap_or_default(),
            Err(_) => {
                let found = self.account.elb.describe_target_groups().names(&name).send().await;
                found.expect("a target group").target_groups.unwrap_or_default()
            }
        };
        let arn = groups[0].target_group_arn().expect("an ARN").to_owned();
        let delay =
            elb::TargetGroupAttribute::builder().key("deregistration_delay.timeout_seconds").value(DRAIN_S).build();
        let elb = &self.account.elb;
        elb.modify_target_group_attributes().target_group_arn(&arn).attributes(delay).send().await.expect("a delay");
        let host = elb::RuleCondition::builder().field("host-header").values(format!("{}.test", spec.app)).build();
        let forward = elb::Action::builder().r#type(elb::ActionTypeEnum::Forward).target_group_arn(&arn).build();
        let priority = i32::try_from(self.state().groups.len()).expect("few") + 1;
        let rule = elb.create_rule().listener_arn(&self.listener).priority(priority).conditions(host).actions(forward);
        // There already, when it was cut short behind it.
        let _ = rule.send().await;
        let group = Group {
            app: spec.app.clone(),
            process_type: spec.process_type.clone(),
            arn: arn.clone(),
            wanted: spec.quantity.get(),
        };
        self.state().groups.insert(pool, group);
        Some(Attachment(arn))
    }

    /// Tells the pools what the target groups say.
    async fn tell_pools(&self) {
        let groups: Vec<(Attachment, Group)> =
            self.state().groups.iter().map(|(p, g)| (p.clone(), g.clone())).collect();
        for (pool, group) in groups {
            let Ok(health) = self.account.elb.describe_target_health().target_group_arn(&group.arn).send().await else {
                continue;
            };
            let Ok(seen) = self.driver().observe(&group.app).await else { continue };
            let ours: Vec<&ObservedDyno> = seen
                .dynos
                .iter()
                .filter(|dyno| dyno.name.process_type == group.process_type && !dyno.platform_ref.is_empty())
                .collect();
            let addresses = self.addresses(&ours).await;
            let mut members = Vec::new();
            for dyno in ours {
                let address = addresses.get(&dyno.platform_ref);
                let said = health.target_health_descriptions().iter().find_map(|target| {
                    let id = target.target()?.id()?;
                    (Some(id) == address.map(String::as_str)).then(|| target.target_health()?.state().cloned())?
                });
                let state = match (dyno.state, said) {
                    (DynoState::Crashed, _) => MemberState::Crashed,
                    (DynoState::Ended, _) => continue,
                    (_, Some(elb::TargetHealthStateEnum::Healthy)) => MemberState::Up,
                    (_, Some(elb::TargetHealthStateEnum::Draining)) => MemberState::Draining,
                    (DynoState::Stopping, None) => continue,
                    _ => MemberState::Starting,
                };
                members.push(Member {
                    dyno: dyno.id.clone(),
                    name: dyno.name.clone(),
                    address: address.and_then(|ip| format!("{ip}:5000").parse().ok()),
                    state,
                });
            }
            members.sort_by_key(|member| member.name.slot);
            self.pools.set(&pool, group.wanted, &members).await.expect("told");
        }
    }

    async fn addresses(&self, dynos: &[&ObservedDyno]) -> HashMap<String, String> {
        let arns: Vec<String> = dynos.iter().map(|dyno| dyno.platform_ref.clone()).collect();
        if arns.is_empty() {
            return HashMap::new();
        }
        let cluster = &self.account.foundation.cluster;
        let answer = self.account.ecs.describe_tasks().cluster(cluster).set_tasks(Some(arns)).send().await;
        let Ok(answer) = answer else { return HashMap::new() };
        let address = |task: &aws_sdk_ecs::types::Task| {
            let details = task.attachments().iter().flat_map(aws_sdk_ecs::types::Attachment::details);
            let mut found = details.filter(|pair| pair.name() == Some("privateIPv4Address"));
            Some((task.task_arn()?.to_owned(), found.next()?.value()?.to_owned()))
        };
        answer.tasks().iter().filter_map(address).collect()
    }
}

#[async_trait]
impl RuntimeBench for EcsBench {
    async fn start() -> Self {
        let (install, others) = (InstallId::random(), InstallId::random());
        let account = support::account(&install).await;
        let docker = support::docker().await;
        let image = image::pinned(&docker, &account).await;
        let foundation = &account.foundation;
        account.ecs.create_cluster().cluster_name(&foundation.cluster).send().await.expect("a cluster");
        account.logs.create_log_group().log_group_name(&foundation.log_group).send().await.expect("a log group");
        let balancer = account.elb.create_load_balancer().name(format!("paas-{install}-1"));
        let balancer = balancer.set_subnets(Some(foundation.subnets.clone())).send().await.expect("a balancer");
        let balancer = balancer.load_balancers()[0].load_balancer_arn().expect("an ARN").to_owned();
        let page = elb::FixedResponseActionConfig::builder().status_code("404").build();
        let page = elb::Action::builder().r#type(elb::ActionTypeEnum::FixedResponse).fixed_response_config(page);
        let listener = account.elb.create_listener().load_balancer_arn(&balancer).port(80);
        let listener = listener.protocol(elb::ProtocolEnum::Http).default_actions(page.build());
        let listener = listener.send().await.expect("a listener");
        let listener = listener.listeners()[0].listener_arn().expect("an ARN").to_owned();

        let (logs, key) = (Arc::<FakeLogWorld>::default(), LinkKey::new(&[7; 32], install.clone()));
        let bridge = std::env::var("PAAS_TEST_AWS_BRIDGE").unwrap_or_else(|_| "172.17.0.1".to_owned());
        let (tls, ca) = support::tls(&bridge);
        let socket = TcpListener::bind((bridge.as_str(), 0)).await.expect("binds on the bridge");
        let address = socket.local_addr().expect("an address").to_string();
        let admission = Arc::new(Admission::default());
        let lines = Arc::new(Lines(Arc::clone(&logs)));
        let links = Arc::new(Hub::new(HubOptions::new(key.clone()), Arc::clone(&admission) as _, lines));

        let (other_ledger, other_notes) = (Arc::default(), Arc::default());
        let mut there = support::foundation(&others);
        there.cluster.clone_from(&foundation.cluster);
        there.log_group.clone_from(&foundation.log_group);
        let other = Aws::new(support::options(), there, others).await;
        let other_options = options(&other, &image, &Arc::default(), (&other_ledger, &other_notes), None);
        let other = EcsRuntime::new(other.clone(), other_options);
        let world = Arc::new(World {
            account: account.clone(),
            docker,
            other,
            others_app: Mutex::default(),
            ledger: Arc::default(),
            notes: Arc::default(),
            logs,
            pools: Arc::default(),
            link: LinkAddress { address, ca, key },
            links: Arc::clone(&links),
            image,
            balancer,
            listener,
            state: Mutex::default(),
        });
        let driver = world.new_driver();
        world.state().driver = Some(driver);
        let _ = admission.0.set(Arc::downgrade(&world));
        let hub = tokio::spawn(async move { links.serve(socket, tls).await });
        let watched = Arc::clone(&world);
        let watcher = tokio::spawn(outside::task(async move {
            loop {
                watched.tell_pools().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }));
        Self { world, watcher, hub }
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(Grouped(Arc::clone(&self.world)))
    }

    /// The links stay: they are a process's, not a driver's, and dynos would send unanswered lines again.
    async fn restart(&self) {
        let driver = self.world.new_driver();
        self.world.state().driver = Some(driver);
    }

    fn image(&self) -> ImageRef {
        ImageRef(format!("sha256:{}", "0".repeat(64)).parse().expect("a digest"))
    }

    fn pools(&self) -> Arc<WatchedPools> {
        Arc::clone(&self.world.pools)
    }

    async fn lines(&self, app: &AppId) -> Vec<LogLine> {
        self.world.logs.lines(app)
    }

    async fn listens(&self, member: &Member) -> bool {
        let Some(address) = member.address else { return false };
        TcpStream::connect(address).await.is_ok()
    }

    async fn plant_other(&self, app: &AppId) {
        *self.world.others_app.lock().unwrap_or_else(PoisonError::into_inner) = Some(app.clone());
        let mut spec = paas_ports::contract::runtime::bench::web(self, "worker");
        spec.app = app.clone();
        spec.attachment = None;
        for _ in 0..300 {
            if self.world.other.ensure(&spec).await.expect("ensure") == Progress::Settled {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the other installation's dyno does not come up");
    }

    async fn other_runs(&self) -> bool {
        let app = self.world.others_app.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("planted");
        let seen = self.world.other.observe(&app).await.expect("observe");
        matches!(&seen.dynos[..], [dyno] if dyno.state == DynoState::Up)
    }

    async fn kill(&self, dyno: &ObservedDyno) {
        let label = format!("com.amazonaws.ecs.task-arn={}", dyno.platform_ref);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let containers = self.world.docker.list_containers(Some(options)).await.expect("the engine answers");
        let id = containers[0].id.clone().expect("an id");
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        self.world.docker.kill_container(&id, Some(options)).await.expect("kills it");
        // No events come here: before the next one takes its slot, the driver has to have seen that it is free.
        let driver = self.world.driver();
        let noted = async {
            for app in driver.apps().await.expect("its apps") {
                loop {
                    driver.doubt(&app);
                    let seen = driver.observe(&app).await.expect("a look");
                    if !seen.dynos.iter().any(|seen| seen.id == dyno.id && seen.state == DynoState::Up) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), noted).await.expect("its end is seen");
    }

    async fn finish(&self) {
        self.watcher.abort();
        for runtime in [self.world.driver(), self.world.other.clone()] {
            for app in runtime.apps().await.unwrap_or_default() {
                for _ in 0..300 {
                    if runtime.remove_app(&app).await.unwrap_or(true) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        self.hub.abort();
        let (account, world) = (&self.world.account, &self.world);
        let _ = account.elb.delete_load_balancer().load_balancer_arn(&world.balancer).send().await;
        let groups: Vec<Group> = world.state().groups.values().cloned().collect();
        for group in groups {
            let _ = account.elb.delete_target_group().target_group_arn(group.arn).send().await;
        }
        let _ = account.logs.delete_log_group().log_group_name(&account.foundation.log_group).send().await;
        let _ = account.ecs.delete_cluster().cluster(&account.foundation.cluster).send().await;
    }
}

impl EcsBench {
    pub(crate) fn world(&self) -> &World {
        &self.world
    }
}

/// The driver, asked for with the suite's pools.
struct Grouped(Arc<World>);

#[async_trait]
impl Runtime for Grouped {
    async fn ensure(&self, spec: &ServiceSpec) -> Result<Progress, PortError> {
        let attachment = self.0.group(spec).await;
        let progress = self.0.driver().ensure(&ServiceSpec { attachment, ..spec.clone() }).await?;
        if !matches!(progress, Progress::Moving { .. }) {
            self.0.tell_pools().await;
        }
        Ok(progress)
    }
    async fn remove(&self, app: &AppId, process_type: &ProcessType, up_to: Generation) -> Result<(), PortError> {
        self.0.driver().remove(app, process_type, up_to).await
    }
    async fn observe(&self, app: &AppId) -> Result<Observed, PortError> {
        self.0.driver().observe(app).await
    }
    async fn start_once(&self, dyno: &DynoId, spec: &OneOffSpec) -> Result<(), PortError> {
        self.0.driver().start_once(dyno, spec).await
    }
    async fn attach(&self, dyno: &DynoId) -> Result<Duplex, PortError> {
        self.0.driver().attach(dyno).await
    }
    async fn hang_up(&self, dyno: &DynoId) -> Result<(), PortError> {
        self.0.driver().hang_up(dyno).await
    }
    async fn stop(&self, dyno: &DynoId) -> Result<(), PortError> {
        self.0.driver().stop(dyno).await
    }
    async fn forget(&self, dyno: &DynoId) -> Result<(), PortError> {
        self.0.driver().forget(dyno).await
    }
    async fn remove_app(&self, app: &AppId) -> Result<bool, PortError> {
        for group in self.0.state().groups.values_mut().filter(|group| group.app == *app) {
            group.wanted = 0;
        }
        let gone = self.0.driver().remove_app(app).await?;
        if gone {
            self.0.tell_pools().await;
        }
        Ok(gone)
    }
    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        self.0.driver().apps().await
    }
}
