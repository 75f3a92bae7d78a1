//! Dynos on ECS: one service per (app, process type), tasks on Fargate.
//!
//! ECS is the truth about what runs, by names and tags; the ledger holds what it cannot tell ([`note`]). A pass
//! looks ([`world`]), plans ([`plan`], pure) and asks ECS for at most one change; ECS rolls. Events only make the
//! world known sooner and wake the core: whoever misses them is right all the same, later.
//!
//! What must stay true: no value of a config var in a definition, a tag, an override or an error; scaling and
//! restarting register nothing; a call that timed out may have happened, so each change writes down first which
//! deployment it replaces.

mod admit;
mod book;
mod collect;
pub(crate) mod definition;
mod ensure;
pub mod failure;
mod names;
mod note;
mod once;
mod once_life;
pub mod plan;
pub mod sight;
mod world;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
pub use paas_domain::Capacity;
use paas_domain::{AppId, Clock, DynoId, Generation, ProcessType, app_tail};
use paas_link::{DynoLinks, LinkKey};
use paas_ports::outside::check;
use paas_ports::{
    Duplex, LogStore, Observed, ObservedDyno, OneOffSpec, PortError, Progress, Runtime, Secrets, ServiceSpec,
};

use self::sight::{Rollout, Task};
use self::world::World;
use crate::events::Happened;
use crate::{Aws, DynoNotes, ImageNames, Ledger};

/// Told that something about an app changed: look at it soon.
pub type OnChange = Arc<dyn Fn(&AppId) + Send + Sync>;

/// What an [`EcsRuntime`] is made of.
pub struct EcsOptions {
    /// How images are named.
    pub images: Arc<dyn ImageNames>,
    /// Where config is kept for dynos.
    pub secrets: Arc<dyn Secrets>,
    /// Who has which slot.
    pub ledger: Arc<dyn Ledger>,
    /// What has to outlive the server.
    pub notes: Arc<dyn DynoNotes>,
    /// Where the platform's lines about dynos go.
    pub logs: Arc<dyn LogStore>,
    /// The dynos' links; without them nobody attaches.
    pub links: Option<Arc<dyn DynoLinks>>,
    /// Where dynos call; `None` when they shall not.
    pub link: Option<LinkAddress>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Called when something about an app changed. Must not block.
    pub on_change: OnChange,
    /// Limits and pauses.
    pub timing: Timing,
}

/// Where dynos' launchers call. A change of it reaches a dyno with its next release.
#[derive(Clone)]
pub struct LinkAddress {
    /// `host:port`, as the hub's certificate has the host.
    pub address: String,
    /// The authority that signed it: PEM.
    pub ca: String,
    /// What makes each app's token.
    pub key: LinkKey,
}

/// Limits and pauses, Heroku's by default.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a web dyno may take to listen on `$PORT` (R10).
    pub boot_timeout: Duration,
    /// From SIGTERM to SIGKILL (R12). AWS allows at most 120 s.
    pub stop_grace: Duration,
    /// What `$PORT` is in a web dyno.
    pub port: u16,
    /// How long what was seen is believed while no events flow.
    pub pause: Duration,
    /// How long it is believed while they do.
    pub sweep: Duration,
    /// How long attaching waits for a dyno to come up and link. (Fargate takes 20 to 60 s.)
    pub attach_patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            boot_timeout: Duration::from_secs(60),
            stop_grace: Duration::from_secs(30),
            port: 5000,
            pause: Duration::from_secs(2),
            sweep: Duration::from_secs(300),
            attach_patience: Duration::from_secs(180),
        }
    }
}

/// The runtime driver of AWS. Dropping it leaves every dyno as it is.
#[derive(Clone)]
pub struct EcsRuntime {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    aws: Aws,
    options: EcsOptions,
    world: World,
    /// One pass at a time over each app.
    passes: Mutex<HashMap<AppId, Arc<tokio::sync::Mutex<()>>>>,
    /// Which app a part of a name stands for.
    apps: Mutex<HashMap<String, AppId>>,
}

impl EcsRuntime {
    /// The driver of this account.
    #[must_use]
    pub fn new(aws: Aws, options: EcsOptions) -> Self {
        let (world, passes, apps) = (World::default(), Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { aws, options, world, passes, apps }) }
    }

    /// Takes over what an event says and wakes the core. Events of others are passed over; they may come twice and in
    /// any order.
    ///
    /// # Errors
    /// When the ledger cannot be read: the event should come again.
    pub async fn note_event(&self, happened: &Happened) -> Result<(), PortError> {
        self.inner.note_event(happened).await
    }

    /// Says that events flow though none came just now. Without this and without events for a minute, ECS is asked
    /// instead.
    pub fn events_flow(&self) {
        self.inner.world.events_flow();
    }
}

#[async_trait]
impl Runtime for EcsRuntime {
    async fn ensure(&self, spec: &ServiceSpec) -> Result<Progress, PortError> {
        check("Runtime::ensure");
        let pass = self.inner.pass(&spec.app);
        let _pass = pass.lock().await;
        self.inner.ensure(spec).await
    }

    async fn remove(&self, app: &AppId, process_type: &ProcessType, up_to: Generation) -> Result<(), PortError> {
        check("Runtime::remove");
        let pass = self.inner.pass(app);
        let _pass = pass.lock().await;
        self.inner.remove(app, process_type, up_to).await
    }

    async fn observe(&self, app: &AppId) -> Result<Observed, PortError> {
        check("Runtime::observe");
        let pass = self.inner.pass(app);
        let _pass = pass.lock().await;
        self.inner.observe(app).await
    }

    async fn observe_one(&self, app: &AppId, dyno: &DynoId) -> Result<Option<ObservedDyno>, PortError> {
        check("Runtime::observe_one");
        let pass = self.inner.pass(app);
        let _pass = pass.lock().await;
        self.inner.observe_one(app, dyno).await
    }

    async fn start_once(&self, dyno: &DynoId, spec: &OneOffSpec) -> Result<(), PortError> {
        check("Runtime::start_once");
        let pass = self.inner.pass(&spec.app);
        let _pass = pass.lock().await;
        self.inner.start_once(dyno, spec).await
    }

    async fn attach(&self, dyno: &DynoId) -> Result<Duplex, PortError> {
        check("Runtime::attach");
        self.inner.attach(dyno).await
    }

    async fn hang_up(&self, dyno: &DynoId) -> Result<(), PortError> {
        check("Runtime::hang_up");
        if let Some(links) = &self.inner.options.links {
            links.hang_up(dyno).await;
        }
        Ok(())
    }

    async fn stop(&self, dyno: &DynoId) -> Result<(), PortError> {
        check("Runtime::stop");
        self.inner.stop(dyno).await
    }

    async fn forget(&self, dyno: &DynoId) -> Result<(), PortError> {
        check("Runtime::forget");
        self.inner.forget(dyno).await
    }

    async fn remove_app(&self, app: &AppId) -> Result<bool, PortError> {
        check("Runtime::remove_app");
        let pass = self.inner.pass(app);
        let _pass = pass.lock().await;
        self.inner.remove_app(app).await
    }

    /// Definitions and secrets that no live service or dyno names any more.
    async fn collect(&self, app: &AppId) -> Result<(), PortError> {
        check("Runtime::collect");
        let pass = self.inner.pass(app);
        let _pass = pass.lock().await;
        self.inner.collect(app).await
    }

    fn doubt(&self, app: &AppId) {
        self.inner.world.doubt_all(&names::app_prefix(&self.inner.aws.install, app));
    }

    async fn apps(&self) -> Result<Vec<AppId>, PortError> {
        check("Runtime::apps");
        self.inner.every_app().await
    }
}

impl Inner {
    fn pass(&self, app: &AppId) -> Arc<tokio::sync::Mutex<()>> {
        self.know(app);
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(passes.entry(app.clone()).or_default())
    }

    fn know(&self, app: &AppId) {
        // The last two groups of the id, as `app_tail` reads them from names.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).insert(app.as_str()[19..].to_owned(), app.clone());
    }

    fn known_app(&self, part: &str) -> Option<AppId> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).get(part).cloned()
    }

    /// The app that a service's or a family's name stands for.
    async fn app_of(&self, name: &str) -> Result<Option<AppId>, PortError> {
        let Some(part) = app_tail(&self.aws.install, name) else { return Ok(None) };
        if let Some(app) = self.known_app(&part) {
            return Ok(Some(app));
        }
        for app in self.options.notes.noted_apps().await? {
            self.know(&app);
        }
        Ok(self.known_app(&part))
    }

    async fn note_event(&self, happened: &Happened) -> Result<(), PortError> {
        self.world.events_flow();
        match happened {
            Happened::Task { task } => {
                let family = task["taskDefinitionArn"].as_str().and_then(|arn| arn.rsplit('/').next());
                let family = family.and_then(|name| name.split(':').next()).unwrap_or_default();
                let (Some(app), Some(task)) = (self.app_of(family).await?, Task::of_event(task)) else {
                    return Ok(());
                };
                self.world.note_task(task);
                (self.options.on_change)(&app);
            }
            Happened::Deployment { service, deployment, name, reason } => {
                let service = service.rsplit('/').next().unwrap_or_default();
                let Some(app) = self.app_of(service).await? else { return Ok(()) };
                let rollout = match name.as_str() {
                    "SERVICE_DEPLOYMENT_COMPLETED" => Rollout::Completed,
                    "SERVICE_DEPLOYMENT_FAILED" => Rollout::Failed,
                    _ => return Ok(()),
                };
                self.world.note_rollout(service, deployment, rollout, reason);
                (self.options.on_change)(&app);
            }
            Happened::Service { service, name, providers } => {
                let starts_nothing = matches!(
                    name.as_str(),
                    "SERVICE_TASK_PLACEMENT_FAILURE"
                        | "SERVICE_TASK_START_IMPAIRED"
                        | "SERVICE_TASK_CONFIGURATION_FAILURE"
                );
                let service = service.rsplit('/').next().filter(|_| starts_nothing).unwrap_or_default();
                let Some(app) = self.app_of(service).await? else { return Ok(()) };
                self.world.note_refusal(service, providers);
                (self.options.on_change)(&app);
            }
            Happened::Other => {}
        }
        Ok(())
    }
}
