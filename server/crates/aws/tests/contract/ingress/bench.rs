//! The bench of the common promises.
//!
//! Every host of a promise gets the test's own domain behind it, as a custom domain whose owner points it at the
//! balancer. The pools are target groups: what ECS registers, the bench registers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use paas_aws::AlbIngress;
use paas_domain::{AppId, DynoId, HostName, ProcessType};
use paas_ports::contract::ingress::{Held, IngressBench, Seen};
use paas_ports::{Attachment, Ingress, Member, MemberState, Pools, PortError, Route, outside};
use tokio::sync::Mutex;

use super::world::{Reply, World, ask_patiently_as, dyno, front_door_looks};

pub(crate) struct AlbBench {
    world: Arc<World>,
    driver: std::sync::Mutex<Arc<AlbIngress>>,
    pointed: Mutex<BTreeSet<String>>,
    /// Something changed since the front door last looked.
    changed: Arc<AtomicBool>,
}

#[async_trait]
impl IngressBench for AlbBench {
    async fn start() -> Self {
        let world = Arc::new(World::start().await);
        let driver = std::sync::Mutex::new(Arc::new(world.another().await));
        Self { world, driver, pointed: Mutex::default(), changed: Arc::new(AtomicBool::new(true)) }
    }

    fn ingress(&self) -> Arc<dyn Ingress> {
        Arc::new(Below { driver: self.driver(), domain: self.world.domain.clone(), changed: self.changed.clone() })
    }

    fn pools(&self) -> Arc<dyn Pools> {
        Arc::new(Groups { world: self.world.clone(), changed: self.changed.clone() })
    }

    async fn restart(&self) {
        let next = Arc::new(self.world.another().await);
        *self.driver.lock().expect("not poisoned") = next;
    }

    async fn dyno(&self, name: &str) -> Member {
        let address = SocketAddr::from(([127, 0, 0, 1], dyno(name).await));
        let name = name.parse().expect("a dyno name");
        Member { dyno: DynoId::new(), name, address: Some(address), state: MemberState::Up }
    }

    async fn ask(&self, host: &str) -> Seen {
        self.visit(host, &mut None).await
    }

    async fn visit(&self, host: &str, cookies: &mut Option<String>) -> Seen {
        let (name, port) =
            host.split_once(':').map_or((host, String::new()), |(name, port)| (name, format!(":{port}")));
        let whole = format!("{name}.{}", self.world.domain);
        if self.pointed.lock().await.insert(whole.to_ascii_lowercase()) {
            self.world.point(&whole.to_ascii_lowercase()).await;
            self.changed.store(true, Ordering::SeqCst);
        }
        if self.changed.swap(false, Ordering::SeqCst) {
            front_door_looks().await;
        }
        let reply = ask_patiently_as(&format!("{whole}{port}"), cookies.as_deref()).await;
        if reply.cookie.is_some() {
            cookies.clone_from(&reply.cookie);
        }
        seen(&reply)
    }

    async fn hold(&self, _: &str) -> Box<dyn Held> {
        unreachable!("a promise of pools that a runtime driver fills")
    }

    fn impossible(&self) -> Vec<HostName> {
        impossible()
    }

    fn strips_a_closing_dot(&self) -> bool {
        false
    }

    async fn finish(&self) {
        self.world.finish().await;
    }
}

impl AlbBench {
    fn driver(&self) -> Arc<AlbIngress> {
        self.driver.lock().expect("not poisoned").clone()
    }
}

fn seen(reply: &Reply) -> Seen {
    let says = |title: &str| reply.status == 503 && reply.body.contains(title);
    match reply.status {
        200 => Seen::Served(reply.body.parse().expect("a dyno's name")),
        404 => Seen::NoSuchApp,
        _ if says("Offline for Maintenance") => Seen::Maintenance,
        _ if says("nothing here, yet") => Seen::Blank,
        _ if says("Application error") => Seen::NoWebDynos,
        _ => panic!("{reply:?}"),
    }
}

/// The driver, with every host below the test's domain.
struct Below {
    driver: Arc<AlbIngress>,
    domain: String,
    changed: Arc<AtomicBool>,
}

impl Below {
    /// Those that no balancer takes are left as they are: what is behind them would be a domain's end.
    fn below(&self, hosts: &[HostName]) -> Vec<HostName> {
        let below = |host: &HostName| match impossible().contains(host) {
            true => host.clone(),
            false => format!("{host}.{}", self.domain).parse().expect("a host"),
        };
        hosts.iter().map(below).collect()
    }
}

/// Too long for a rule's condition, or with anything but letters behind the last dot.
fn impossible() -> Vec<HostName> {
    let long = format!("{0}.{0}.example.com", "a".repeat(60));
    let hosts = [long.as_str(), "example.xn--p1ai", "www.example.c0m", "*.example.c-m"];
    hosts.iter().map(|host| host.parse().expect("a host name")).collect()
}

#[async_trait]
impl Ingress for Below {
    async fn place(&self, app: &AppId, process_type: &ProcessType) -> Result<Attachment, PortError> {
        self.driver.place(app, process_type).await
    }

    async fn check_hosts(&self, app: &AppId, hosts: &[HostName]) -> Result<(), PortError> {
        self.driver.check_hosts(app, &self.below(hosts)).await
    }

    async fn publish(&self, route: &Route) -> Result<(), PortError> {
        let route = Route { hosts: self.below(&route.hosts), ..route.clone() };
        let published = self.driver.publish(&route).await;
        self.changed.store(true, Ordering::SeqCst);
        published
    }

    async fn remove(&self, app: &AppId) -> Result<(), PortError> {
        let removed = self.driver.remove(app).await;
        self.changed.store(true, Ordering::SeqCst);
        removed
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        self.driver.apps().await
    }
}

/// Target groups, filled as ECS fills them.
struct Groups {
    world: Arc<World>,
    changed: Arc<AtomicBool>,
}

#[async_trait]
impl Pools for Groups {
    async fn set(&self, pool: &Attachment, _: u16, members: &[Member]) -> Result<(), PortError> {
        outside::check("Pools::set");
        let found = self.world.aws.elb.describe_target_groups().target_group_arns(&pool.0).send().await;
        if found.is_err() {
            return Err(PortError::NotFound("the target group".to_owned()));
        }
        let ports: Vec<u16> =
            members.iter().filter_map(|member| member.address).map(|address| address.port()).collect();
        if !ports.is_empty() {
            self.world.register(&pool.0, &ports).await;
        }
        self.changed.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn in_flight(&self, _: &Attachment, _: &DynoId) -> Result<u32, PortError> {
        outside::check("Pools::in_flight");
        Ok(0)
    }
}
