//! The AWS platform: images in ECR, dynos on Fargate, shared load balancers; builds on this machine's Docker.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use paas_aws::account::read_foundation;
use paas_aws::alb::{AlbIngress, Quotas};
use paas_aws::ecr::EcrRegistry;
use paas_aws::logs::{CloudWatchLogs, ObjectOutputs};
use paas_aws::sizes::FargateSize;
use paas_aws::{Aws, AwsOptions, AwsSecrets, EcsOptions, EcsRuntime, Events, LinkAddress, Timing};
use paas_builder::DockerBuilder;
use paas_domain::{InstallId, SystemClock};
use paas_link::{Admitted, Claim, Hub, HubOptions, LinkAdmission, LinkKey, Refusal};
use paas_ports::{Builder, Registry, outside};
use paas_store::Store;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::no_builder::NoBuilder;
use super::platform::{self, Drivers, Platform, builder_settings, kick_on_change};
use super::{Builds, Options};
use crate::aws_ledger::StoreLedger;
use crate::cx::{Cx, Offer, Settings};
use crate::data_folder::{DataFolder, Ports};
use crate::dyno_lines::DynoLines;
use crate::line_exchange::Exchange;
use crate::local_ca::LocalCa;
use crate::objects::Objects;

/// How often every app is looked at without a reason: events say what happens.
const SWEEP: Duration = Duration::from_secs(300);
/// How often everything is listed, for what no row names any more: log streams alone are a call for each fifty.
const ORPHANS: Duration = Duration::from_secs(3600);
/// How often what the balancers do is compared with what was promised.
const REPAIR: Duration = Duration::from_secs(600);
/// How long to wait after a call of the loops failed.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// The account that an installation lives in.
pub(super) struct Account {
    pub(super) install: InstallId,
    aws: Aws,
}

/// Reads what `paas install` made.
pub(super) async fn account(options: &Options) -> anyhow::Result<Account> {
    let how = AwsOptions { registry: options.aws_registry.clone(), ..AwsOptions::default() };
    let read = outside::task(read_foundation(&how, &options.stack)).await;
    let (foundation, install) = read.context("the AWS account")?;
    let aws = Aws::new(how, foundation, install.clone()).await;
    Ok(Account { install, aws })
}

/// The address that dynos call: as told, else this machine's own on the way to the internet, which is the one in
/// its VPC. Sends nothing.
pub(super) fn link_host(options: &Options) -> Option<IpAddr> {
    options.link_host.or_else(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
        // An address for documentation (RFC 5737): only the route to it is looked up.
        socket.connect("192.0.2.1:9").ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
}

pub(super) async fn open(
    options: &Options,
    data: &DataFolder,
    ports: &Ports,
    account: Account,
    store: &Store,
    ca: &Arc<LocalCa>,
) -> anyhow::Result<Platform> {
    let Account { install, aws } = account;
    let bucket = paas_aws::bucket::bucket(&aws).context("the bucket")?;
    let ledger = Arc::new(StoreLedger::new(store.clone()));
    let logs = CloudWatchLogs::new(aws.clone(), ledger.clone());
    let exchange = Arc::new(Exchange::new(data.server_id().context("reading the server's id")?));
    let logs = if store.is_shared() { logs.exchanging(exchange.clone()) } else { logs };
    let quotas = Quotas { rules: options.alb_rules, certificates: options.alb_certificates, ..Quotas::default() };
    let ingress = Arc::new(AlbIngress::with_quotas(aws.clone(), ledger.clone(), quotas));
    let images = Arc::new(EcrRegistry::new(aws.clone(), data.path("registry"))?);
    let registry: Arc<dyn Registry> = images.clone();

    let host = link_host(options).context("no address that dynos could call: say --link-host")?;
    let listener = TcpListener::bind((host, ports.link)).await.context("the port that dynos call")?;
    let link = std::net::SocketAddr::from((host, ports.link)).to_string();
    let key = LinkKey::new(&data.derived_key("dyno link")?, install.clone());
    let admission = Arc::new(Admission::default());
    let lines = Arc::new(DynoLines::new(logs.clone()));
    let hub = Arc::new(Hub::new(HubOptions::new(key.clone()), admission.clone(), lines));

    let (changed, changes) = mpsc::unbounded_channel();
    let boot_timeout = Duration::from_secs(options.boot_timeout_s);
    let runtime = EcsRuntime::new(
        aws.clone(),
        EcsOptions {
            images,
            secrets: Arc::new(AwsSecrets::new(aws.clone())),
            ledger: ledger.clone(),
            notes: ledger,
            logs: Arc::new(logs.clone()),
            links: Some(hub.clone()),
            link: Some(LinkAddress {
                address: link.clone(),
                ca: std::fs::read_to_string(ca.ca_file()).context("the authority's certificate")?,
                key,
            }),
            clock: Arc::new(SystemClock),
            on_change: Arc::new(move |app| {
                // Nobody listens any more when the server ends.
                let _ = changed.send(app.clone());
            }),
            timing: Timing { boot_timeout, ..Timing::default() },
        },
    );
    // Nobody is let in before the port is served, and it is served below.
    let _ = admission.0.set(runtime.clone());

    let builder: Arc<dyn Builder> = if options.builds == Builds::No {
        Arc::new(NoBuilder)
    } else {
        let docker = paas_docker::engine::connect(&options.docker_socket).await.context("the Docker engine")?;
        let settings = builder_settings(options, data, &install)?;
        Arc::new(DockerBuilder::new(docker, settings, Arc::clone(&registry)))
    };
    let (serves, rates) = (options.builds != Builds::Only, aws.clone());
    let (lines, exchanged) = (logs.clone(), exchange.clone());
    let app_domain = aws.foundation.app_domain.clone();
    let tls = Arc::new(ca.server_config().context("the certificate")?);
    Ok(Platform {
        drivers: Drivers {
            runtime: Arc::new(runtime.clone()),
            ingress: ingress.clone(),
            registry,
            builder,
            logs: Arc::new(logs),
            outputs: Arc::new(ObjectOutputs::new(Arc::clone(&bucket))),
            objects: Objects::in_bucket(bucket, data.path("objects"))?,
        },
        settings: Settings {
            app_domain,
            link: Some(link),
            offer: Offer::Fargate,
            usd_per_month: Some(|size, architecture| FargateSize::of(size).usd_per_month(architecture)),
            app_scheme: "https",
            app_port: options.app_port,
            sweep: SWEEP,
            orphans: ORPHANS,
            ..options.settings(ports)
        },
        on_servers: Arc::new(move |servers| {
            rates.share_with(servers);
            exchange.share_with(servers);
        }),
        loops: Box::new(move |cx, server, stop, tasks| {
            tasks.spawn(kick_on_change(cx.clone(), server, changes, stop.clone()));
            if cx.store.is_shared() {
                tasks.spawn(exchanged.run(cx.store.clone(), Arc::new(lines), stop.clone()));
            }
            if serves {
                tasks.spawn(follow_events(Events::new(aws), runtime, stop.clone()));
                tasks.spawn(keep_repaired(cx, ingress, stop.clone()));
            }
            let mut stop = stop;
            tasks.spawn(async move {
                tokio::select! {
                    () = hub.serve(listener, tls) => {}
                    _ = stop.changed() => {}
                }
            });
        }),
    })
}

/// Lets in whom the runtime driver knows; the driver itself needs the links first.
#[derive(Default)]
struct Admission(OnceLock<EcsRuntime>);

#[async_trait]
impl LinkAdmission for Admission {
    async fn admit(&self, claim: &Claim) -> Result<Admitted, Refusal> {
        match self.0.get() {
            Some(runtime) => outside::task(runtime.admit(claim)).await,
            None => Err(Refusal::NotNow),
        }
    }
}

/// Brings what happens on AWS to the driver, until `stop` says so.
async fn follow_events(events: Events, runtime: EcsRuntime, mut stop: watch::Receiver<bool>) {
    let follow = outside::task(async {
        loop {
            let batch = match events.next().await {
                Ok(batch) => batch,
                Err(error) => {
                    tracing::warn!(%error, "events of AWS are late");
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            runtime.events_flow();
            let mut noted = Vec::new();
            for event in batch {
                match runtime.note_event(&event.happened).await {
                    Ok(()) => noted.push(event),
                    // It comes again.
                    Err(error) => tracing::warn!(%error, "an event of AWS waits"),
                }
            }
            if let Err(error) = events.done(&noted).await {
                tracing::warn!(%error, "events of AWS come twice");
            }
        }
    });
    tokio::select! {
        () = follow => {}
        _ = stop.changed() => {}
    }
}

/// Changes back what somebody else changed on the balancers, until `stop` says so.
async fn keep_repaired(cx: Cx, ingress: Arc<AlbIngress>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(REPAIR) => {}
            _ = stop.changed() => return,
        }
        match outside::task(ingress.repair()).await {
            Ok(repaired) if repaired.unplaced.is_empty() => {}
            Ok(_) => {
                if let Err(error) = outside::task(platform::kick_all(&cx)).await {
                    tracing::warn!(%error, "the sweep comes to the apps");
                }
            }
            Err(error) => tracing::warn!(%error, "the balancers were not compared to the end"),
        }
    }
}
