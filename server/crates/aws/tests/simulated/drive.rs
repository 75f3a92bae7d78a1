//! The server as far as the drivers see it: passes over apps as its reconciler makes them, woken as it is, and the
//! queue of events followed as it does. Dropping it is what `kill -9` is to them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use paas_aws::ledger::{Change, Key, Slot};
use paas_aws::{
    AlbIngress, AwsSecrets, DynoNotes, EcsOptions, EcsRuntime, Events, ImageNames, Ledger, MemoryLedger, MemoryNotes,
    Timing,
};
use paas_domain::{
    AppId, Capacity, ConfigId, ConfigVars, Digest, DynoId, DynoKind, DynoName, DynoSize, Generation, InstallId,
    ProcessType, Quantity, ReleaseVersion,
};
use paas_link::{Claim, DynoLinks, LinkAdmission as _};
use paas_ports::fake::{FakeLogStore, FakeLogWorld};
use paas_ports::{
    Attachment, Duplex, ImageRef, Ingress as _, OneOffSpec, PortError, Progress, Route, Runtime as _, ServiceSpec,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::account::Account;
use super::ecs::{Shown, Task};

/// The wait of the server after a pass that failed.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What outlives a server: the account, and the rows.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) account: Account,
    pub(crate) install: InstallId,
    pub(crate) memory: Arc<Memory>,
    /// How long the server is busy with other things before it reads its queue again.
    pub(crate) events_every: Duration,
    /// The apps' logs.
    pub(crate) logs: Arc<FakeLogWorld>,
    /// Whether there are links, to which no dyno ever comes.
    pub(crate) links: bool,
}

/// The rows. Each write is a point of its own.
pub(crate) struct Memory {
    account: Account,
    pub(crate) ledger: MemoryLedger,
    pub(crate) notes: MemoryNotes,
}

impl World {
    pub(crate) fn new(account: Account) -> Self {
        let (ledger, notes) = (MemoryLedger::default(), MemoryNotes::default());
        let memory = Arc::new(Memory { account: account.clone(), ledger, notes });
        let (install, logs) = (InstallId::random(), Arc::default());
        Self { account, install, memory, events_every: Duration::ZERO, logs, links: false }
    }

    /// A server that has just been started. With `balancers`, web dynos are placed as the ingress driver does it.
    pub(crate) async fn server(&self, balancers: bool) -> Server {
        let aws = self.account.aws(&self.install).await;
        let woken = Arc::new(Woken::default());
        let wake = Arc::clone(&woken);
        let runtime = EcsRuntime::new(
            aws.clone(),
            EcsOptions {
                images: Arc::new(Images),
                secrets: Arc::new(AwsSecrets::new(aws.clone())),
                ledger: Arc::clone(&self.memory) as _,
                notes: Arc::clone(&self.memory) as _,
                logs: Arc::new(FakeLogStore(Arc::clone(&self.logs))),
                links: self.links.then(|| Arc::new(NoLinks) as _),
                link: None,
                clock: Arc::new(self.account.lock().ecs.clock),
                on_change: Arc::new(move |app| wake.of(app).notify_one()),
                timing: Timing::default(),
            },
        );
        let ingress = balancers.then(|| AlbIngress::new(aws.clone(), Arc::clone(&self.memory) as _));
        let loops = vec![
            tokio::spawn(follow_events(Events::new(aws), runtime.clone(), self.events_every)),
            tokio::spawn(launchers(self.account.clone(), runtime.clone())),
        ];
        Server { runtime, ingress, woken, loops }
    }
}

impl World {
    /// Sweeps an hour later: then no leftover is too young. No server runs meanwhile.
    pub(crate) async fn sweep(&self) {
        sleep(Duration::from_secs(3600)).await;
        let server = self.server(false).await;
        // What one leaves unused the next one finds, and each collects a few only.
        for _ in 0..10 {
            for app in server.runtime.apps().await.expect("a sweep") {
                server.runtime.collect(&app).await.expect("collected");
            }
        }
    }
}

/// Who waits for news of which app.
#[derive(Default)]
struct Woken(Mutex<HashMap<AppId, Arc<Notify>>>);

impl Woken {
    fn of(&self, app: &AppId) -> Arc<Notify> {
        Arc::clone(self.0.lock().expect("whole").entry(app.clone()).or_default())
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) runtime: EcsRuntime,
    ingress: Option<AlbIngress>,
    woken: Arc<Woken>,
    loops: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.loops.iter().for_each(JoinHandle::abort);
    }
}

/// What the rows say of one app.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) app: AppId,
    pub(crate) generation: i64,
    pub(crate) release: i64,
    pub(crate) config: ConfigId,
    pub(crate) types: BTreeMap<ProcessType, u16>,
    /// Types that are not wanted any more, until they are gone.
    pub(crate) gone: Vec<ProcessType>,
    pub(crate) restart: i64,
    /// What services take their dynos from.
    pub(crate) capacity: Capacity,
    /// One-off dynos that were asked for.
    pub(crate) once: Vec<(DynoId, OneOffSpec)>,
}

impl Wish {
    /// An app of one web dyno.
    pub(crate) fn web() -> Self {
        Self {
            app: AppId::new(),
            generation: 1,
            release: 3,
            config: ConfigId::new(),
            types: BTreeMap::from([(ProcessType::web(), 1)]),
            gone: Vec::new(),
            capacity: Capacity::default(),
            restart: 0,
            once: Vec::new(),
        }
    }

    /// A push: another image, the same config.
    pub(crate) fn pushed(&self) -> Self {
        Self { generation: self.generation + 1, release: self.release + 1, ..self.clone() }
    }

    /// `config:set`.
    pub(crate) fn configured(&self) -> Self {
        Self { config: ConfigId::new(), ..self.pushed() }
    }

    pub(crate) fn restarted(&self) -> Self {
        Self { generation: self.generation + 1, restart: self.restart + 1, ..self.clone() }
    }

    pub(crate) fn scaled(&self, process_type: &ProcessType, quantity: u16) -> Self {
        let mut wish = Self { generation: self.generation + 1, ..self.clone() };
        wish.types.insert(process_type.clone(), quantity);
        wish
    }

    /// A release without this process type.
    pub(crate) fn without(&self, process_type: &ProcessType) -> Self {
        let mut wish = self.pushed();
        wish.types.remove(process_type);
        wish.gone.push(process_type.clone());
        wish
    }

    /// `run`, with or without config of its own.
    pub(crate) fn running(&self, own_config: bool) -> Self {
        let mut wish = self.clone();
        wish.once.push((DynoId::new(), self.one_off(self.once.len(), own_config)));
        wish
    }

    fn image(&self) -> ImageRef {
        let digest: Digest = format!("sha256:{:064x}", self.release).parse().expect("a digest");
        ImageRef(digest)
    }

    fn vars(&self) -> ConfigVars {
        let mut vars = ConfigVars::new();
        vars.set("KEY".parse().expect("a key"), self.config.to_string().into());
        vars
    }

    pub(crate) fn service(
        &self,
        process_type: &ProcessType,
        quantity: u16,
        attachment: Option<Attachment>,
    ) -> ServiceSpec {
        ServiceSpec {
            app: self.app.clone(),
            process_type: process_type.clone(),
            generation: Generation(self.generation),
            release: ReleaseVersion(self.release),
            image: self.image(),
            command: format!("run {process_type}"),
            config: self.vars(),
            config_id: self.config.clone(),
            size: DynoSize::default(),
            architecture: paas_domain::Architecture::default(),
            capacity: self.capacity,
            quantity: Quantity::new(quantity).expect("a quantity"),
            attachment,
            restart: self.restart,
            revive: false,
        }
    }

    pub(crate) fn one_off(&self, number: usize, own_config: bool) -> OneOffSpec {
        let slot = u32::try_from(number).expect("few") + 1;
        OneOffSpec {
            app: self.app.clone(),
            name: DynoName { process_type: "run".parse().expect("a type"), slot },
            kind: DynoKind::Run,
            release: ReleaseVersion(self.release),
            image: self.image(),
            command: "true".to_owned(),
            config: self.vars(),
            config_id: (!own_config).then(|| self.config.clone()),
            size: DynoSize::default(),
            architecture: paas_domain::Architecture::default(),
            capacity: paas_domain::Capacity::default(),
            attach: false,
            tty: false,
            link: None,
        }
    }
}

impl Server {
    /// One pass, as `server/src/reconcile/pass.rs` makes it; when to look again, or that all is settled.
    pub(crate) async fn pass(&self, wish: &Wish) -> Result<Option<Duration>, PortError> {
        let mut again: Option<Duration> = None;
        let mut sooner = |wait: Duration| again = Some(again.map_or(wait, |before| before.min(wait)));
        let attachment = self.place(wish).await?;
        for (dyno, spec) in &wish.once {
            match self.runtime.start_once(dyno, spec).await {
                // Its row ended meanwhile.
                Err(PortError::NotFound(_)) => {}
                started => started?,
            }
        }
        for (process_type, quantity) in &wish.types {
            let attachment = attachment.clone().filter(|_| process_type.is_web());
            match self.runtime.ensure(&wish.service(process_type, *quantity, attachment)).await? {
                Progress::Settled => {}
                Progress::Serving { look_again }
                | Progress::Moving { look_again }
                | Progress::HeldUp { look_again, .. } => sooner(look_again),
                Progress::Failed { reason } => panic!("nothing fails here: {reason:?}"),
            }
        }
        let seen = self.runtime.observe(&wish.app).await?;
        for process_type in &wish.gone {
            self.runtime.remove(&wish.app, process_type, Generation(wish.generation)).await?;
            if seen.dynos.iter().any(|dyno| dyno.name.process_type == *process_type) {
                sooner(Duration::from_millis(500));
            }
        }
        for dyno in seen.dynos.iter().filter(|dyno| dyno.kind == DynoKind::Run) {
            if dyno.exit_code.is_some() {
                self.runtime.forget(&dyno.id).await?;
            } else {
                sooner(Duration::from_secs(10));
            }
        }
        Ok(again)
    }

    async fn place(&self, wish: &Wish) -> Result<Option<Attachment>, PortError> {
        let web = ProcessType::web();
        let Some(ingress) = self.ingress.as_ref().filter(|_| wish.types.contains_key(&web)) else {
            return Ok(Some(Attachment(format!("arn:of:{}", wish.app))));
        };
        let attachment = Some(ingress.place(&wish.app, &web).await?);
        let route = Route {
            app: wish.app.clone(),
            app_name: "example".parse().expect("a name"),
            generation: Generation(wish.generation),
            hosts: vec!["example.apps.test".parse().expect("a host")],
            attachment: attachment.clone(),
            released: true,
            maintenance: false,
            session_affinity: false,
        };
        ingress.publish(&route).await?;
        Ok(attachment)
    }

    /// Passes until all is settled, each over the newest wish. The failed ones' errors.
    pub(crate) async fn settle_newest(&self, wishes: &mut watch::Receiver<Wish>) -> Vec<PortError> {
        let (mut errors, woken) = (Vec::new(), self.woken.of(&wishes.borrow().app));
        loop {
            let wish = wishes.borrow_and_update().clone();
            let wait = match self.pass(&wish).await {
                Ok(None) if wishes.borrow().generation == wish.generation => return errors,
                Ok(wait) => wait.unwrap_or_default(),
                Err(error) => {
                    assert!(error.is_transient() || matches!(error, PortError::NotFound(_)), "for good: {error}");
                    errors.push(error);
                    AFTER_ERROR
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = woken.notified() => {}
                Ok(()) = wishes.changed() => {}
            }
        }
    }

    /// The same of one wish. As errors are rare here, they are only counted.
    pub(crate) async fn settle(&self, wish: &Wish) -> usize {
        let (_newest, mut wishes) = watch::channel(wish.clone());
        let settled = timeout(Duration::from_secs(600), self.settle_newest(&mut wishes)).await;
        settled.unwrap_or_else(|_| panic!("it does not come to rest: {wish:?}")).len()
    }
}

/// As the server follows them.
async fn follow_events(events: Events, runtime: EcsRuntime, every: Duration) {
    loop {
        let batch = events.next().await.expect("the queue answers");
        runtime.events_flow();
        for event in &batch {
            runtime.note_event(&event.happened).await.expect("noted");
        }
        events.done(&batch).await.expect("done");
        sleep(every).await;
    }
}

/// Each new dyno's launcher calls home as soon as it runs.
async fn launchers(account: Account, runtime: EcsRuntime) {
    let mut called: BTreeSet<String> = BTreeSet::new();
    loop {
        let ran = account.ran.notified();
        let new: Vec<Claim> = {
            let state = account.lock();
            let running = state.ecs.tasks.iter().filter(|(_, t)| t.now.service.is_some() && t.now.status == "RUNNING");
            let claim = |(arn, task): (&String, &Shown<Task>)| {
                let definition = &state.ecs.definitions[&task.now.definition];
                let app = definition.tag("paas:app").parse().expect("an app");
                let process_type = definition.tag("paas:type").parse().expect("a type");
                let peer = task.now.address.parse().expect("an address");
                Claim { app, task: arn.clone(), process_type, dyno: None, started_as: None, peer }
            };
            running.filter(|(arn, _)| !called.contains(*arn)).map(claim).collect()
        };
        for claim in new {
            called.insert(claim.task.clone());
            let runtime = runtime.clone();
            tokio::spawn(async move { runtime.admit(&claim).await });
        }
        ran.await;
    }
}

/// Links to which no dyno ever comes.
struct NoLinks;

#[async_trait]
impl DynoLinks for NoLinks {
    async fn attach(&self, _: &DynoId) -> Result<Duplex, PortError> {
        Err(PortError::transient("attaching to a dyno", "its task has not linked yet"))
    }
    async fn exit_code(&self, _: &DynoId) -> Option<u8> {
        None
    }
    async fn stop(&self, _: &DynoId) -> bool {
        false
    }
    async fn hang_up(&self, _: &DynoId) {}
    async fn over(&self, _: &DynoId) {}
    async fn forget(&self, _: &DynoId) {}
}

struct Images;

#[async_trait]
impl ImageNames for Images {
    async fn pinned(&self, app: &AppId, image: &ImageRef) -> Result<String, PortError> {
        Ok(format!("registry.test/{app}@{}", image.0))
    }
}

#[async_trait]
impl DynoNotes for Memory {
    async fn notes(&self, app: &AppId) -> Result<BTreeMap<String, String>, PortError> {
        self.notes.notes(app).await
    }

    async fn find_note(&self, key: &str) -> Result<Option<(AppId, String)>, PortError> {
        self.notes.find_note(key).await
    }

    async fn put_note(&self, app: &AppId, key: &str, text: &str) -> Result<(), PortError> {
        self.account.point().await;
        self.notes.put_note(app, key, text).await
    }

    async fn drop_note(&self, app: &AppId, key: &str) -> Result<(), PortError> {
        self.account.point().await;
        self.notes.drop_note(app, key).await
    }

    async fn drop_notes(&self, app: &AppId) -> Result<(), PortError> {
        self.account.point().await;
        self.notes.drop_notes(app).await
    }

    async fn noted_apps(&self) -> Result<Vec<AppId>, PortError> {
        self.notes.noted_apps().await
    }
}

#[async_trait]
impl Ledger for Memory {
    async fn rows(&self) -> Result<(i64, Vec<(Key, String)>), PortError> {
        self.ledger.rows().await
    }

    async fn row(&self, key: &Key) -> Result<Option<String>, PortError> {
        self.ledger.row(key).await
    }

    async fn write(&self, revision: i64, changes: Vec<Change>) -> Result<bool, PortError> {
        self.account.point().await;
        self.ledger.write(revision, changes).await
    }

    async fn take_slot(&self, app: &AppId, process_type: &ProcessType, task: &str) -> Result<u32, PortError> {
        self.account.point().await;
        self.ledger.take_slot(app, process_type, task).await
    }

    async fn free_slot(&self, task: &str) -> Result<(), PortError> {
        self.account.point().await;
        self.ledger.free_slot(task).await
    }

    async fn slots(&self, app: &AppId) -> Result<Vec<Slot>, PortError> {
        self.ledger.slots(app).await
    }

    async fn is_destroyed(&self, app: &AppId) -> Result<bool, PortError> {
        self.ledger.is_destroyed(app).await
    }
}
