//! Starting and stopping an installation: the folder, the keys, the drivers, the loops, the listeners.

mod aws;
mod down;
mod first;
mod local;
mod no_builder;
mod platform;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use paas_domain::{Architecture, SystemClock};
use paas_ports::outside;
use paas_store::{Store, Takes};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use down::down;

use crate::attach_lookup::AttachRows;
use crate::crash_point::CrashPoints;
use crate::cx::{Cx, Kicks, Parts};
use crate::data_folder::DataFolder;
use crate::git::Repositories;
use crate::local_ca::LocalCa;
use crate::rendezvous::Rendezvous;
use crate::servers::Me;

/// Where apps run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PlatformKind {
    /// Containers on this machine behind our own router.
    Local,
    /// Amazon ECS on Fargate behind shared load balancers.
    Aws,
}

/// What a server does about builds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Builds {
    /// It builds, besides all else.
    #[default]
    Yes,
    /// It builds nothing, and needs no Docker engine.
    No,
    /// It builds, and does nothing else: no API, no git.
    Only,
}

/// What `paas-server serve` is told.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// the folder in which the installation keeps its data
    #[arg(long, env = "PAAS_DATA")]
    pub data: PathBuf,
    /// whether this server builds: yes, no (another one does), or only (AWS)
    #[arg(long, env = "PAAS_BUILDS", value_enum, default_value = "yes")]
    pub builds: Builds,
    /// the builder image (any with the labels of Cloud Native Buildpacks)
    #[arg(long, env = "PAAS_BUILDER")]
    pub builder: Option<String>,
    /// the run image, when it is not the one that the builder names
    #[arg(long, env = "PAAS_RUN_IMAGE")]
    pub run_image: Option<String>,
    /// the folder with the static programs `launcher` and `phase`
    #[arg(long, env = "PAAS_TOOLS")]
    pub tools: Option<PathBuf>,
    /// a file of certificate authorities that builds trust
    #[arg(long, env = "PAAS_CA_BUNDLE")]
    pub ca_bundle: Option<PathBuf>,
    /// the database; SQLite in the data folder unless said (postgres://…)
    #[arg(long, env = "PAAS_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
    /// the Docker engine's socket
    #[arg(long, env = "PAAS_DOCKER_SOCKET", default_value = "/var/run/docker.sock")]
    pub docker_socket: PathBuf,
    /// where apps run: on this machine, or in the AWS account that `paas install` has prepared
    #[arg(long, env = "PAAS_PLATFORM", value_enum, default_value = "local")]
    pub platform: PlatformKind,
    /// the CloudFormation stack of `paas install` (AWS)
    #[arg(long, env = "PAAS_STACK", default_value = "paas")]
    pub stack: String,
    /// push images to this host and port over plain HTTP instead of the account's own registry (AWS)
    #[arg(long, env = "PAAS_AWS_REGISTRY", hide = true)]
    pub aws_registry: Option<String>,
    /// the address of this machine that dynos call for live logs and `run` (AWS); this machine's own in the VPC
    /// unless said
    #[arg(long, env = "PAAS_LINK_HOST")]
    pub link_host: Option<std::net::IpAddr>,
    /// the port of that address; a free one is chosen and kept unless said
    #[arg(long, env = "PAAS_LINK_PORT")]
    pub link_port: Option<u16>,
    /// the address that API, git and `run` listen on besides loopback; put nothing between it and a trusted network
    /// but a balancer
    #[arg(long, env = "PAAS_LISTEN")]
    pub listen: Option<std::net::IpAddr>,
    /// the host name that clients reach API, git and `run` at
    #[arg(long, env = "PAAS_HOST", default_value = "localhost")]
    pub host: String,
    /// the port that apps' URLs show, when they are not reached on 443 (AWS)
    #[arg(long, env = "PAAS_APP_PORT")]
    pub app_port: Option<u16>,
    /// the port of API and git; a free one is chosen and kept unless said
    #[arg(long, env = "PAAS_API_PORT")]
    pub api_port: Option<u16>,
    /// the port of apps
    #[arg(long, env = "PAAS_HTTP_PORT")]
    pub http_port: Option<u16>,
    /// the port where `run` meets its dynos
    #[arg(long, env = "PAAS_RENDEZVOUS_PORT")]
    pub rendezvous_port: Option<u16>,
    /// what follows an app's name in its own host name
    #[arg(long, env = "PAAS_APP_DOMAIN", default_value = "localhost")]
    pub app_domain: String,
    /// the first account's e-mail address
    #[arg(long, env = "PAAS_ADMIN_EMAIL", default_value = "admin@localhost")]
    pub admin_email: String,
    /// seconds that a web dyno may take to listen on its port (R10)
    #[arg(long, env = "PAAS_BOOT_TIMEOUT_S", default_value_t = 60)]
    pub boot_timeout_s: u64,
    /// the account's quota "Rules per Application Load Balancer" (AWS)
    #[arg(long, env = "PAAS_ALB_RULES", default_value_t = 100)]
    pub alb_rules: usize,
    /// the account's quota "Certificates per Application Load Balancer" (AWS)
    #[arg(long, env = "PAAS_ALB_CERTIFICATES", default_value_t = 25)]
    pub alb_certificates: usize,
}

impl Options {
    /// Which jobs this server takes. It builds for its own architecture.
    fn takes(&self) -> Takes {
        let builds = (self.builds != Builds::No).then(Architecture::of_this_machine);
        Takes { builds, others: self.builds != Builds::Only }
    }

    /// Where clients find API, git and `run`.
    pub(crate) fn settings(&self, ports: &crate::data_folder::Ports) -> crate::cx::Settings {
        let host = format!("{}:{}", self.host, ports.api);
        // Beyond this machine a key must not travel in the clear.
        let scheme = if self.host == "localhost" { "http" } else { "https" };
        let rendezvous = (self.host.clone(), ports.rendezvous);
        crate::cx::Settings::new(&format!("{scheme}://{host}"), &host, &self.app_domain, None, rendezvous)
    }
}

/// Runs the platform until SIGTERM or SIGINT.
///
/// # Errors
/// When something it cannot work without is missing: the folder, the keys, the database, the engine, a port.
pub fn serve(options: Options) -> anyhow::Result<()> {
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

/// Runs the router process.
///
/// # Errors
/// When it cannot listen.
pub fn router(args: Vec<String>) -> anyhow::Result<()> {
    log_to_stderr();
    let options = paas_router::RouterOptions::from_args(args)?;
    Ok(paas_router::run(&options)?)
}

/// Whether the server answers.
///
/// # Errors
/// When it does not.
pub fn ping(data: &DataFolder) -> anyhow::Result<()> {
    let ports = data.known_ports().context("the platform has not started yet")?;
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, ports.api).into(), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /paas/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200 "), "the server does not answer as it should");
    Ok(())
}

/// Crates that write down what they carry when they are asked for more than this: bollard the environment of
/// containers, with the config vars in it; the others headers with credentials, and bodies.
const NEVER_TELL_ALL: [&str; 5] = ["aws_=warn", "bollard=warn", "h2=warn", "hyper=warn", "rustls=warn"];

/// The server's own log: what an operator reads. Never a config var, a token or a request's body, whatever
/// `RUST_LOG` says.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let capped = NEVER_TELL_ALL.iter().map(|directive| directive.parse().expect("a directive"));
    let filter = capped.fold(filter, tracing_subscriber::EnvFilter::add_directive);
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
}

async fn run(options: Options) -> anyhow::Result<()> {
    if options.platform == PlatformKind::Local && options.builds != Builds::Yes {
        anyhow::bail!("on one machine the server builds: --builds is for servers on AWS");
    }
    if options.builds != Builds::No && (options.builder.is_none() || options.tools.is_none()) {
        anyhow::bail!("this server builds: say --builder and --tools, or --builds no");
    }
    let data = DataFolder::open(&options.data).context("opening the data folder")?;
    let _only = data.lock().context("another server has this data folder")?;
    let key = data.master_key().context("reading the encryption key")?;
    let ports = data.ports([options.api_port, options.http_port, options.rendezvous_port, options.link_port])?;
    let database = options.database.clone();
    let database = database.unwrap_or_else(|| format!("sqlite:{}", data.path("paas.db").display()));
    let store = Store::open(&database, key).await.context("opening the database")?;
    let account = match options.platform {
        PlatformKind::Local => None,
        PlatformKind::Aws => Some(aws::account(&options).await?),
    };
    let wished = account.as_ref().map(|account| &account.install);
    let install =
        outside::task(first::installation(&store, &data, &options, wished)).await.context("the first start")?;
    let ca = LocalCa::open(data.path("ca"), &own_names(&options), Arc::new(SystemClock)).context("the certificate")?;

    let platform = match account {
        None => local::open(&options, &data, &ports, &install).await?,
        Some(account) => aws::open(&options, &data, &ports, account, &store, &ca).await?,
    };
    let drivers = platform.drivers;
    let cx = Cx::new(Parts {
        store,
        clock: Arc::new(SystemClock),
        install,
        runtime: drivers.runtime,
        ingress: drivers.ingress,
        registry: drivers.registry,
        builder: drivers.builder,
        logs: drivers.logs,
        outputs: drivers.outputs,
        objects: drivers.objects,
        repositories: Repositories::new(data.path("git"))?,
        settings: platform.settings,
        kicks: Kicks::default(),
        crash_points: crash_points(),
    });

    let (stopping, stop) = watch::channel(false);
    let owner = data.server_id().context("reading the server's id")?;
    outside::task(first::take_over(&cx, &owner)).await.context("taking over what was under way")?;

    let (takes, serves) = (options.takes(), options.builds != Builds::Only);
    let me = Me { id: owner.clone(), builds: takes.builds };
    let servers = outside::task(crate::servers::beat(&cx, &me)).await.context("looking for other servers")?;
    (platform.on_servers)(servers);

    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(crate::servers::run(cx.clone(), me, servers, platform.on_servers, stop.clone()));
    tasks.spawn(crate::jobs::run(cx.clone(), owner.clone(), takes, stop.clone()));
    tasks.spawn(crate::others::run(cx.clone(), owner.clone(), stop.clone()));
    if serves {
        tasks.spawn(crate::reconcile::run(cx.clone(), owner.clone(), stop.clone()));
    }
    (platform.loops)(cx.clone(), owner, stop.clone(), &mut tasks);

    let mut app = axum::Router::new().route("/paas/health", axum::routing::get(|| async { "ok\n" }));
    if serves {
        app = crate::api::router(cx.clone()).merge(crate::git::http::router(cx.clone())).merge(app);
    }
    let https = Arc::new(ca.https_config().context("the certificate")?);
    for listener in listeners(ports.api, options.listen).await.context("the API's port")? {
        tasks.spawn(crate::listen::serve(listener, Arc::clone(&https), app.clone(), stop.clone()));
    }
    let meeting = Arc::new(ca.server_config().context("the certificate")?);
    let mut background = tokio::task::JoinSet::new();
    let rendezvous = if serves { listeners(ports.rendezvous, options.listen).await } else { Ok(vec![]) };
    for listener in rendezvous.context("the rendezvous' port")? {
        let rendezvous = Rendezvous::new(Arc::clone(&cx.runtime), Arc::new(AttachRows(cx.clone())));
        background.spawn(rendezvous.serve(listener, Arc::clone(&meeting)));
    }
    background.spawn(Arc::clone(&ca).keep_fresh());
    cx.kick();
    tracing::info!(api = cx.settings.api_url, "ready");

    ended_by_signal().await?;
    tracing::info!("stopping; what is under way goes on at the next start");
    stopping.send_replace(true);
    cx.repositories.stop_following();
    cx.wake_all();
    while tasks.join_next().await.is_some() {}
    background.shutdown().await;
    cx.store.close().await;
    Ok(())
}

/// Names besides `localhost` that the certificate shows.
fn own_names(options: &Options) -> Vec<String> {
    let mut names = match options.app_domain.as_str() {
        "localhost" => Vec::new(),
        domain => vec![format!("api.{domain}"), format!("git.{domain}")],
    };
    if options.host != "localhost" {
        names.push(options.host.clone());
    }
    if options.platform == PlatformKind::Aws {
        names.extend(aws::link_host(options).map(|host| host.to_string()));
    }
    names
}

/// `PAAS_CRASH_AT` names a file; the process kills itself at the `step:side` that is in it, whenever it is. For
/// tests of crashes on real processes.
fn crash_points() -> CrashPoints {
    match std::env::var_os("PAAS_CRASH_AT") {
        Some(plan) if !plan.is_empty() => CrashPoints::planned(plan.into()),
        _ => CrashPoints::none(),
    }
}

/// Both loopback addresses (a machine without IPv6 has one), and another one when that is wanted.
async fn listeners(port: u16, more: Option<std::net::IpAddr>) -> anyhow::Result<Vec<TcpListener>> {
    // All addresses are this one, too: it can be bound once only.
    if let Some(all) = more.filter(std::net::IpAddr::is_unspecified) {
        return Ok(vec![TcpListener::bind((all, port)).await?]);
    }
    let mut listeners = vec![TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?];
    if let Some(more) = more {
        listeners.push(TcpListener::bind((more, port)).await?);
    }
    if let Ok(listener) = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn ended_by_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
