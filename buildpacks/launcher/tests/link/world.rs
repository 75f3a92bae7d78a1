//! A hub as the server has one, a wire that can be cut, and launchers that link.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use paas_domain::{AppId, DynoId, DynoName, InstallId};
use paas_link::{
    Admitted, Claim, DynoLinks as _, Gap, Hub, HubOptions, LinkAdmission, LinkEvents, LinkKey, LinkedDyno,
    NumberedLine, Refusal,
};
use paas_ports::{Duplex, PortError};
use secrecy::ExposeSecret as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What dynos said.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) lines: Vec<(u64, String)>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) started: Vec<String>,
    pub(crate) exited: Vec<u8>,
    pub(crate) connected: usize,
}

/// Knows dynos, and remembers what they say.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) heard: Mutex<Heard>,
    /// The dynos that may link, by task.
    known: Mutex<HashMap<String, Admitted>>,
    pub(crate) claims: Mutex<Vec<Claim>>,
    /// How long storing takes, and how often it fails first.
    pub(crate) slow: Mutex<Duration>,
    pub(crate) failures: Mutex<usize>,
    /// How long a claim is thought about, and until when the answer is that it is too early to say.
    pub(crate) thinks: Mutex<Duration>,
    pub(crate) too_early_until: Mutex<Option<Instant>>,
}

#[async_trait]
impl LinkAdmission for Server {
    async fn admit(&self, claim: &Claim) -> Result<Admitted, Refusal> {
        assert!(claim.peer.is_loopback());
        self.claims.lock().expect("lock").push(claim.clone());
        let thinks = *self.thinks.lock().expect("lock");
        sleep(thinks).await;
        if self.too_early_until.lock().expect("lock").is_some_and(|until| Instant::now() < until) {
            return Err(Refusal::NotNow);
        }
        self.known.lock().expect("lock").get(&claim.task).cloned().ok_or(Refusal::Unknown)
    }
}

#[async_trait]
impl LinkEvents for Server {
    async fn connected(&self, _: &LinkedDyno) {
        self.heard.lock().expect("lock").connected += 1;
    }

    async fn started(&self, _: &LinkedDyno, name: &DynoName) {
        self.heard.lock().expect("lock").started.push(name.to_string());
    }

    async fn lines(&self, _: &LinkedDyno, lines: Vec<NumberedLine>) -> Result<(), PortError> {
        let slow = *self.slow.lock().expect("lock");
        sleep(slow).await;
        let mut failures = self.failures.lock().expect("lock");
        if *failures > 0 {
            *failures -= 1;
            return Err(PortError::transient("storing lines", "the disk is full"));
        }
        let lines = lines.into_iter().map(|l| (l.number, String::from_utf8_lossy(&l.bytes).into_owned()));
        self.heard.lock().expect("lock").lines.extend(lines);
        Ok(())
    }

    async fn gap(&self, _: &LinkedDyno, gap: Gap) {
        self.heard.lock().expect("lock").gaps.push(gap);
    }

    async fn exited(&self, _: &LinkedDyno, code: u8) {
        self.heard.lock().expect("lock").exited.push(code);
    }

    async fn disconnected(&self, _: &LinkedDyno) {}
}

pub(crate) struct World {
    pub(crate) server: Arc<Server>,
    pub(crate) key: LinkKey,
    pub(crate) app: AppId,
    pub(crate) hub: Arc<Hub>,
    pub(crate) ca: String,
    pub(crate) tls: Arc<ServerConfig>,
    serving: JoinHandle<()>,
    /// Where the hub listens, and where the wire to it begins.
    pub(crate) at: SocketAddr,
    pub(crate) wire: Wire,
}

impl World {
    pub(crate) async fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a configuration");
        let (server, tls) = (Arc::new(Server::default()), Arc::new(tls));
        let key = LinkKey::new(&[7; 32], InstallId::random());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let at = listener.local_addr().expect("bound");
        let (hub, serving) = serve(listener, &key, &server, &tls);
        let wire = Wire::new(at).await;
        Self { server, key, app: AppId::new(), hub, ca: made.cert.pem(), tls, serving, at, wire }
    }

    /// Ends the hub as a server that dies does, and all that it knew.
    pub(crate) async fn kill_hub(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }

    /// A new hub at the same place.
    pub(crate) async fn revive_hub(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.at).await {
                Ok(listener) => break listener,
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        (self.hub, self.serving) = serve(listener, &self.key, &self.server, &self.tls);
    }

    /// A launcher of a dyno that may link as `name`, with this command.
    pub(crate) fn launcher(&self, name: &str, command: &str) -> Command {
        let id = DynoId::new();
        let admitted = Admitted { dyno: id.clone(), name: name.parse().expect("a name") };
        self.server.known.lock().expect("lock").insert(id.to_string(), admitted);
        let mut launcher = Command::new(env!("CARGO_BIN_EXE_launcher"));
        launcher
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PAAS_COMMAND", command)
            .env("PAAS_LINK", format!("localhost:{}", self.wire.at.port()))
            .env("PAAS_LINK_CA", &self.ca)
            .env("PAAS_LINK_TOKEN", self.key.token(&self.app).expose_secret())
            .env("PAAS_APP_ID", self.app.as_str())
            .env("PAAS_PROCESS_TYPE", name.split('.').next().expect("a type"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        launcher.env("ECS_CONTAINER_METADATA_URI_V4", metadata(id.as_str()));
        launcher
    }

    /// A one-off dyno that is waited for to be attached to.
    pub(crate) fn run(&self, command: &str) -> (DynoId, Command) {
        let mut launcher = self.launcher("run.4821", command);
        let known = self.server.known.lock().expect("lock");
        let id = known.values().map(|admitted| admitted.dyno.clone()).max().expect("just made");
        launcher.env("DYNO", "run.4821").env("PAAS_DYNO_ID", id.as_str()).env("PAAS_ATTACH", "1");
        (id, launcher)
    }

    pub(crate) async fn attach(&self, dyno: &DynoId) -> Duplex {
        let attach = async {
            loop {
                match self.hub.attach(dyno).await {
                    Ok(duplex) => return duplex,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(SOON, attach).await.expect("it links")
    }

    pub(crate) async fn heard(&self, what: &str, holds: impl Fn(&Heard) -> bool) {
        let heard = async {
            while !holds(&self.server.heard.lock().expect("lock")) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(SOON, heard).await.is_ok(), "never heard: {what}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn serve(
    listener: TcpListener,
    key: &LinkKey,
    server: &Arc<Server>,
    tls: &Arc<ServerConfig>,
) -> (Arc<Hub>, JoinHandle<()>) {
    let options = HubOptions { hang_up_after: Duration::from_millis(300), ..HubOptions::new(key.clone()) };
    let hub = Arc::new(Hub::new(options, server.clone(), server.clone()));
    let (serving, tls) = (hub.clone(), tls.clone());
    (hub, tokio::spawn(async move { serving.serve(listener, tls).await }))
}

/// A task metadata endpoint that knows this task.
fn metadata(task: &str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let at = listener.local_addr().expect("bound");
    let body = format!("{{\"Cluster\":\"test\",\"TaskARN\":\"{task}\"}}");
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes());
        }
    });
    format!("http://{at}/v4/{}", task.replace('-', ""))
}

/// A wire between launchers and the hub that can be cut.
pub(crate) struct Wire {
    pub(crate) at: SocketAddr,
    cuts: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Wire {
    async fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let at = listener.local_addr().expect("bound");
        let (cuts, cut) = watch::channel(0);
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cut = cut.clone();
                cut.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { at, cuts, task }
    }

    /// Cuts every connection that there is.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits for the launcher's end: its status, and what it wrote itself.
pub(crate) async fn ended(launcher: Child) -> (Option<i32>, String, String) {
    let output = timeout(SOON, launcher.wait_with_output()).await.expect("it ends").expect("waits");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}
