//! The whole server in this process on fakes, its API on a loopback port, and a client that checks every answer.
//!
//! The client knows no more of HTTP than a test needs to send it wrongly. What holds for every answer is checked at
//! every answer: JSON with an id and a message when it is an error, `Request-Id`, no 5xx, and the official schema's
//! fields when it is a resource ([`paas_proto::facts`]).

mod http;
mod schema;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paas_domain::{AppId, Architecture, Clock, ManualClock, SystemClock, Timestamp};
use paas_ports::fake::builder::{FakeBuilder, FakeBuilds};
use paas_ports::fake::ingress::{FakeIngress, FakeRoutes};
use paas_ports::fake::log_store::{FakeLogStore, FakeLogWorld, FakeOutputStore};
use paas_ports::fake::registry::{FakeImages, FakeRegistry};
use paas_ports::fake::runtime::{FakeDynos, FakeRuntime, FakeTiming};
use paas_ports::{Registry, outside};
use paas_server::crash_point::CrashPoints;
use paas_server::cx::{Cx, Kicks, Offer, Parts, Settings};
use paas_server::git::Repositories;
use paas_server::objects::Objects;
use paas_server::servers::Me;
use paas_server::token::{token_hash, token_hint};
use paas_store::{NewAuthorization, Store, Takes};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use self::http::{Answer, Ask};
use self::schema::check_facts;
use crate::core_world::{TAKES, memory_folder};
use crate::database::{Database, Dump, files};

/// After so long without an answer a request is said to hang. How long one may take is for its test to say.
const WITHIN: Duration = Duration::from_secs(30);

/// A server and the world around it.
pub struct ApiWorld {
    /// Where it keeps its rows.
    pub database: Database,
    /// Stands still until a test moves it; `None` when the loops run, which live in real time.
    pub clock: Option<Arc<ManualClock>>,
    /// What its operations work with.
    pub cx: Cx,
    /// Where the API is.
    pub address: SocketAddr,
    /// The account that tests work as.
    pub dev: Key,
    /// Another account.
    pub other: Key,
    /// The dynos that there are.
    pub dynos: Arc<FakeDynos>,
    /// The routes that there are.
    pub routes: Arc<FakeRoutes>,
    /// The builds that there are.
    pub builds: Arc<FakeBuilds>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    folder: tempfile::TempDir,
}

/// An account and its API key.
#[derive(Clone, Debug)]
pub struct Key {
    /// The account's e-mail address.
    pub email: String,
    /// The key.
    pub token: String,
}

impl ApiWorld {
    /// A server whose rows nobody works on: what an answer changed stays as it is.
    pub async fn still(database: Database) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_795_446_245_123)));
        Self::start(database, Some(clock), None).await
    }

    /// A server with its jobs and its reconciliation.
    pub async fn live(database: Database) -> Self {
        Self::start(database, None, None).await
    }

    /// The same on a platform that has a choice of where to run apps.
    pub async fn live_on(database: Database, offer: Offer) -> Self {
        Self::start(database, None, Some(offer)).await
    }

    async fn start(database: Database, still: Option<Arc<ManualClock>>, offer: Option<Offer>) -> Self {
        let folder = memory_folder();
        let path = |name: &str| folder.path().join(name);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let store = database.open().await;
        let clock: Arc<dyn Clock> = match &still {
            Some(clock) => Arc::clone(clock) as Arc<dyn Clock>,
            None => Arc::new(SystemClock),
        };
        let timing = FakeTiming {
            boot_timeout: Duration::from_millis(300),
            stop_grace: Duration::from_millis(40),
            drain_timeout: Duration::from_millis(40),
        };
        let dynos = FakeDynos::with_timing(Arc::new(SystemClock), timing);
        let (routes, images, builds) = (FakeRoutes::new(), FakeImages::new(), FakeBuilds::new());
        let logs: Arc<FakeLogWorld> = Arc::default();
        let (changed, changes) = mpsc::unbounded_channel();
        let on_change = Arc::new(move |app: &AppId| drop(changed.send(app.clone())));
        let registry: Arc<dyn Registry> = Arc::new(FakeRegistry::new(images));
        let ingress = Arc::new(FakeIngress::new(Arc::clone(&routes)));
        let log_store = Arc::new(FakeLogStore(Arc::clone(&logs)));
        let runtime =
            FakeRuntime::new(Arc::clone(&dynos), Some(ingress.clone()), Some(log_store.clone()), Some(on_change));
        let host = format!("127.0.0.1:{}", address.port());
        let mut settings =
            Settings::new(&format!("http://{host}"), &host, "localhost", Some(80), ("localhost".to_owned(), 5002));
        settings.offer = offer.unwrap_or(settings.offer);
        if settings.offer == Offer::Fargate {
            settings.usd_per_month =
                Some(|_, architecture| if architecture == Architecture::Arm { 14.416 } else { 18.02 });
        }
        settings.sweep = Duration::from_millis(200);
        settings.rollout_wait = Duration::from_secs(5);
        let install = {
            let (store, clock) = (store.clone(), Arc::clone(&clock));
            outside::task(async move {
                let mut uow = store.begin().await.expect("a transaction");
                let install = uow.installation(None, clock.now()).await.expect("an id");
                uow.save().await.expect("saved");
                install
            })
            .await
        };
        let dev = new_key(&store, &*clock, "dev@example.com", &["global"]).await;
        let other = new_key(&store, &*clock, "other@example.com", &["global"]).await;
        let cx = Cx::new(Parts {
            store,
            clock,
            install,
            runtime: Arc::new(runtime),
            ingress,
            builder: Arc::new(FakeBuilder::new(Arc::clone(&builds), Arc::clone(&registry))),
            registry,
            logs: log_store,
            outputs: Arc::new(FakeOutputStore(logs)),
            objects: Objects::in_folder(path("objects")).expect("a folder"),
            repositories: Repositories::new(path("git")).expect("a folder"),
            settings,
            kicks: Kicks::default(),
            crash_points: CrashPoints::none(),
        });
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let ca = paas_server::local_ca::LocalCa::open(path("ca"), &[], Arc::new(SystemClock)).expect("a certificate");
        let tls = Arc::new(ca.https_config().expect("a configuration"));
        let router = paas_server::api::router(cx.clone());
        tasks.spawn(paas_server::listen::serve(listener, tls, router, stopped.clone()));
        if still.is_none() {
            tasks.spawn(paas_server::jobs::run(cx.clone(), "test".to_owned(), TAKES, stopped.clone()));
            tasks.spawn(paas_server::reconcile::run(cx.clone(), "test".to_owned(), stopped));
            tasks.spawn(kick(cx.clone(), changes));
        }
        Self { database, clock: still, cx, address, dev, other, dynos, routes, builds, stop, tasks, folder }
    }

    /// Another server comes that builds for this architecture, and does nothing else.
    ///
    /// # Panics
    /// When the database does not answer.
    pub async fn add_builder(&self, architecture: Architecture) {
        let me = Me { id: format!("builder-{architecture}"), builds: Some(architecture) };
        outside::task(async {
            // As another process would, whatever the database.
            let mut uow = self.cx.begin().await.expect("a transaction");
            uow.put_server(&me.id, me.builds, self.cx.now()).await.expect("put");
            uow.save().await.expect("saved");
        })
        .await;
        let takes = Takes { builds: me.builds, others: false };
        // It ends when the server does.
        tokio::spawn(paas_server::jobs::run(self.cx.clone(), me.id, takes, self.stop.subscribe()));
    }

    /// Ends the server and clears away its rows.
    pub async fn end(mut self) {
        self.stop.send_replace(true);
        self.cx.wake_all();
        self.tasks.shutdown().await;
        self.cx.store.close().await;
        self.database.remove().await;
    }

    /// Everything that a request could have changed: the rows, the uploads and the repositories.
    pub async fn state(&self) -> Dump {
        let mut state = self.database.dump().await;
        state.insert("files".to_owned(), files(self.folder.path(), &["ca"]));
        state
    }

    /// Another key of the test's account.
    pub async fn key(&self, scope: &[&str]) -> Key {
        let account = outside::task(async {
            let mut uow = self.cx.store.read().await.expect("a look");
            uow.first_account().await.expect("a look").expect("an account")
        });
        let account = account.await;
        let token = add_key(&self.cx.store, self.cx.now(), &account, scope).await;
        Key { email: account.email, token }
    }

    /// A GET of the test's account.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(&self.ask("GET", path)).await
    }

    /// A POST of this JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(&self.ask("POST", path).json(body)).await
    }

    /// A PATCH of this JSON.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send(&self.ask("PATCH", path).json(body)).await
    }

    /// A DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(&self.ask("DELETE", path)).await
    }

    /// A request of the test's account.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str) -> Ask {
        Ask::new(method, path).header("Authorization", &format!("Bearer {}", self.dev.token))
    }

    /// Sends a request and checks what holds for every answer.
    ///
    /// # Panics
    /// When the answer is none that the API may give.
    pub async fn send(&self, ask: &Ask) -> Answer {
        let begun = Instant::now();
        let answer = self.raw(&ask.bytes(self.address)).await;
        let took = begun.elapsed();
        let what = format!("{} {}", ask.method, ask.path.chars().take(100).collect::<String>());
        assert!(took < WITHIN, "{what} took {took:?}");
        let answer = answer.unwrap_or_else(|| panic!("{what} got no answer"));
        answer.check(&what);
        if (200..300).contains(&answer.status) && ask.method != "HEAD" {
            check_facts(&ask.method, &ask.path, &answer);
        }
        answer
    }

    /// Sends bytes and gives what came back until the server closed, or stopped talking for two seconds.
    /// `None` when that is no answer.
    pub async fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.address).await.expect("the server listens");
        let (mut read, mut write) = stream.split();
        let mut got = Vec::new();
        // Both ways at once: a server that has heard enough answers and closes.
        let sent = async {
            let _ = write.write_all(bytes).await;
            std::future::pending::<()>().await;
        };
        let heard = async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                match tokio::time::timeout(WITHIN, read.read(&mut buffer)).await {
                    Ok(Ok(n)) if n > 0 => got.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
                if Answer::parse(&got).is_some_and(|answer| answer.is_whole()) {
                    break;
                }
            }
        };
        tokio::select! {
            () = sent => {}
            () = heard => {}
        }
        Answer::parse(&got).map(Answer::decoded)
    }

    /// Makes an app.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn create_app(&self, name: &str) -> Value {
        let made = self.post("/apps", &serde_json::json!({ "name": name })).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()
    }

    /// Uploads a source with these files; its `get_url`.
    ///
    /// # Panics
    /// When it cannot be uploaded.
    pub async fn upload(&self, files: &[(&str, &str)]) -> String {
        self.upload_bytes(&tgz(files)).await
    }

    /// Uploads these bytes as a source; its `get_url`.
    ///
    /// # Panics
    /// When they cannot be uploaded.
    pub async fn upload_bytes(&self, bytes: &[u8]) -> String {
        let source = self.post("/sources", &serde_json::json!({})).await.json();
        let blob = &source["source_blob"];
        let path = self.path_of(blob["put_url"].as_str().expect("a URL"));
        let put = self.send(&Ask::new("PUT", &path).body(bytes)).await;
        assert_eq!(put.status, 200, "{}", put.text());
        blob["get_url"].as_str().expect("a URL").to_owned()
    }

    /// Builds these files and waits until the release serves. The loops must run.
    ///
    /// # Panics
    /// When the build fails, or nothing comes of it.
    pub async fn deploy(&self, app: &str, files: &[(&str, &str)]) {
        let url = self.upload(files).await;
        let body = serde_json::json!({"source_blob": {"url": url, "version": "v1"}});
        let build = self.post(&format!("/apps/{app}/builds"), &body).await;
        assert_eq!(build.status, 201, "{}", build.text());
        let path = format!("/apps/{app}/builds/{}", build.json()["id"].as_str().expect("an id"));
        let built = self.until(&path, |build| build["status"] != "pending").await;
        assert_eq!(built["status"], "succeeded", "{built}");
        if files.iter().any(|(_, text)| text.contains("web:")) {
            let up = |dynos: &Value| dynos.as_array().is_some_and(|all| all.iter().any(|dyno| dyno["state"] == "up"));
            self.until(&format!("/apps/{app}/dynos"), up).await;
        }
    }

    /// Asks until the answer is as wished.
    ///
    /// # Panics
    /// When it is not within twenty seconds.
    pub async fn until(&self, path: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let answer = self.get(path).await;
            if answer.status == 200 && wished(&answer.json()) {
                return answer.json();
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{path} stays {}", answer.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The path of one of the server's own URLs.
    ///
    /// # Panics
    /// When it is another server's.
    #[must_use]
    pub fn path_of(&self, url: &str) -> String {
        let prefix = format!("http://127.0.0.1:{}", self.address.port());
        url.strip_prefix(&prefix).unwrap_or_else(|| panic!("{url} is not below {prefix}")).to_owned()
    }
}

async fn kick(cx: Cx, mut changes: mpsc::UnboundedReceiver<AppId>) {
    while let Some(app) = changes.recv().await {
        let _ = outside::task(async {
            let mut uow = cx.begin().await?;
            uow.kick_app(&app, cx.now()).await?;
            uow.save().await
        })
        .await;
        cx.kick();
    }
}

async fn new_key(store: &Store, clock: &dyn Clock, email: &str, scope: &[&str]) -> Key {
    let account = outside::task(async {
        let mut uow = store.begin().await.expect("a transaction");
        let account = uow.create_account(email, clock.now()).await.expect("an account");
        uow.save().await.expect("saved");
        account
    });
    let token = add_key(store, clock.now(), &account.await, scope).await;
    Key { email: email.to_owned(), token }
}

async fn add_key(store: &Store, now: Timestamp, account: &paas_store::Account, scope: &[&str]) -> String {
    let token = paas_server::token::new_token("HRKU");
    let new = NewAuthorization {
        token_hash: token_hash(&token),
        token_hint: token_hint(&token),
        description: "test".to_owned(),
        scope: scope.iter().map(|scope| (*scope).to_owned()).collect(),
        expires_at: None,
    };
    outside::task(async {
        let mut uow = store.begin().await.expect("a transaction");
        uow.create_authorization(&account.id, &new, now).await.expect("a key");
        uow.save().await.expect("saved");
    })
    .await;
    token
}

/// A `tar.gz` of these files.
///
/// # Panics
/// Never: it is made in memory.
#[must_use]
pub fn tgz(files: &[(&str, &str)]) -> Vec<u8> {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(encoder);
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, path, text.as_bytes()).expect("memory");
    }
    tar.into_inner().expect("memory").finish().expect("memory")
}

/// One test for each story and database: `stories!(a, b)` runs `async fn a(database: Database)`.
#[macro_export]
macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            use $crate::database::Database;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(Database::sqlite()).await;
            })*
        }

        mod on_postgres {
            use $crate::database::Database;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(Database::postgres().await).await;
            })*
        }
    };
}
