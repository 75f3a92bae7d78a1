//! A runtime and the world around it, and what the promises need to look at it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use paas_domain::{AppId, ConfigId, ConfigVars, DynoId, DynoKind, DynoSize, Generation, Quantity, ReleaseVersion};

use crate::{
    Attachment, ImageRef, LogLine, Member, MemberState, ObservedDyno, OneOffSpec, Pools, PortError, Progress, Runtime,
    ServiceSpec, outside,
};

/// The longest that anything in this suite may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a bench's driver gives a dyno between SIGTERM and SIGKILL: on a busy machine even one that ends at once needs some.
pub const STOP_GRACE: Duration = Duration::from_secs(3);

/// A runtime and the world around it.
///
/// Its limits are short: seconds for booting, draining, and stopping ([`STOP_GRACE`]).
#[async_trait]
pub trait RuntimeBench: Send + Sync + Sized + 'static {
    /// An empty one.
    async fn start() -> Self;
    /// The driver.
    fn runtime(&self) -> Arc<dyn Runtime>;
    /// Ends the driver as a dying server does, and makes a new one of the same world.
    async fn restart(&self);
    /// An image that knows the script's words.
    fn image(&self) -> ImageRef;
    /// Where the driver registers web dynos.
    fn pools(&self) -> Arc<WatchedPools>;
    /// An app's log.
    async fn lines(&self, app: &AppId) -> Vec<LogLine>;
    /// Whether someone listens at this address of a member.
    async fn listens(&self, member: &Member) -> bool;
    /// Puts something running beside us that belongs to another installation and has our app's id.
    async fn plant_other(&self, app: &AppId);
    /// Whether it still runs.
    async fn other_runs(&self) -> bool;
    /// Ends a dyno from outside (SIGKILL).
    async fn kill(&self, dyno: &ObservedDyno);
    /// Removes what the promises left.
    async fn finish(&self);
}

/// Pools that remember everything they were told.
#[derive(Default)]
pub struct WatchedPools(Mutex<Told>);

#[derive(Default)]
struct Told {
    history: HashMap<Attachment, Vec<(u16, Vec<Member>)>>,
    in_flight: HashMap<DynoId, u32>,
}

impl WatchedPools {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a pool was told last: the quantity and the members.
    #[must_use]
    pub fn last(&self, pool: &Attachment) -> (u16, Vec<Member>) {
        self.told().history.get(pool).and_then(|h| h.last().cloned()).unwrap_or_default()
    }

    /// Everything a pool was told.
    #[must_use]
    pub fn history(&self, pool: &Attachment) -> Vec<(u16, Vec<Member>)> {
        self.told().history.get(pool).cloned().unwrap_or_default()
    }

    /// Makes a dyno serve so many requests.
    pub fn occupy(&self, dyno: &DynoId, requests: u32) {
        self.told().in_flight.insert(dyno.clone(), requests);
    }

    /// The members that get new requests.
    #[must_use]
    pub fn up(&self, pool: &Attachment) -> Vec<Member> {
        let (_, mut members) = self.last(pool);
        members.retain(|m| m.state == MemberState::Up);
        members
    }
}

#[async_trait]
impl Pools for WatchedPools {
    async fn set(&self, pool: &Attachment, wanted: u16, members: &[Member]) -> Result<(), PortError> {
        outside::check("Pools::set");
        self.told().history.entry(pool.clone()).or_default().push((wanted, members.to_vec()));
        Ok(())
    }

    async fn in_flight(&self, _pool: &Attachment, dyno: &DynoId) -> Result<u32, PortError> {
        outside::check("Pools::in_flight");
        Ok(self.told().in_flight.get(dyno).copied().unwrap_or_default())
    }
}

/// A web process type of a new app: one dyno of release 3.
pub fn web(bench: &impl RuntimeBench, command: &str) -> ServiceSpec {
    let app = AppId::new();
    ServiceSpec {
        attachment: Some(Attachment(format!("pool-{app}-web"))),
        app,
        process_type: "web".parse().expect("a process type"),
        generation: Generation(1),
        release: ReleaseVersion(3),
        image: bench.image(),
        command: command.to_owned(),
        config: ConfigVars::new(),
        config_id: ConfigId::new(),
        size: DynoSize::Basic,
        architecture: paas_domain::Architecture::default(),
        capacity: paas_domain::Capacity::default(),
        quantity: quantity(1),
        restart: 0,
        revive: false,
    }
}

/// A one-off dyno of a new app.
pub fn one_off(bench: &impl RuntimeBench, command: &str, attach: bool) -> (DynoId, OneOffSpec) {
    let spec = OneOffSpec {
        app: AppId::new(),
        name: "run.4821".parse().expect("a name"),
        kind: DynoKind::Run,
        release: ReleaseVersion(3),
        image: bench.image(),
        command: command.to_owned(),
        config: ConfigVars::new(),
        config_id: None,
        size: DynoSize::Basic,
        architecture: paas_domain::Architecture::default(),
        capacity: paas_domain::Capacity::default(),
        attach,
        tty: false,
        link: None,
    };
    (DynoId::new(), spec)
}

/// A small quantity.
///
/// # Panics
/// Above the largest.
#[must_use]
pub fn quantity(n: u16) -> Quantity {
    Quantity::new(n).expect("small")
}

/// The pool of a spec.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn pool(spec: &ServiceSpec) -> Attachment {
    spec.attachment.clone().expect("a web process type")
}

/// The spec of the next wish.
pub fn next(spec: &ServiceSpec) -> ServiceSpec {
    ServiceSpec { generation: Generation(spec.generation.0 + 1), ..spec.clone() }
}

/// The spec of the next release.
pub fn released(spec: &ServiceSpec, command: &str) -> ServiceSpec {
    let release = ReleaseVersion(spec.release.0 + 1);
    ServiceSpec { release, command: command.to_owned(), ..next(spec) }
}

/// Asks again and again until it is settled or failed.
pub async fn settle(bench: &impl RuntimeBench, spec: &ServiceSpec) -> Progress {
    let since = Instant::now();
    loop {
        let progress = bench.runtime().ensure(spec).await.expect("ensure");
        match progress {
            Progress::Settled | Progress::Failed { .. } => return progress,
            Progress::Serving { look_again }
            | Progress::Moving { look_again }
            | Progress::HeldUp { look_again, .. } => {
                assert!(since.elapsed() < PATIENCE, "never settles: {progress:?}, {:?}", dynos(bench, &spec.app).await);
                tokio::time::sleep(look_again.min(Duration::from_millis(50))).await;
            }
        }
    }
}

/// [`settle`] that must not fail.
///
/// # Panics
/// When it does.
pub async fn settled(bench: &impl RuntimeBench, spec: &ServiceSpec) {
    let progress = settle(bench, spec).await;
    assert_eq!(progress, Progress::Settled, "{:?}", bench.lines(&spec.app).await);
}

/// Waits until `what` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What there is of an app, by name.
pub async fn dynos(bench: &impl RuntimeBench, app: &AppId) -> Vec<ObservedDyno> {
    let mut dynos = bench.runtime().observe(app).await.expect("observe").dynos;
    dynos.sort_by(|a, b| a.name.cmp(&b.name));
    dynos
}

/// The names of what there is of an app.
pub async fn names(bench: &impl RuntimeBench, app: &AppId) -> Vec<String> {
    dynos(bench, app).await.iter().map(|d| d.name.to_string()).collect()
}

/// Waits until a dyno has ended, and answers how.
pub async fn exit_of(bench: &impl RuntimeBench, app: &AppId, dyno: &DynoId) -> i32 {
    let since = Instant::now();
    loop {
        let seen = dynos(bench, app).await.into_iter().find(|d| d.id == *dyno);
        if let Some(code) = seen.and_then(|d| d.exit_code) {
            return code;
        }
        assert!(since.elapsed() < PATIENCE, "{dyno} never ends");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for a line in an app's log and answers with the log so far, as text.
pub async fn logged(bench: &impl RuntimeBench, app: &AppId, needle: &str) -> Vec<String> {
    let since = Instant::now();
    loop {
        let lines: Vec<String> = bench.lines(app).await.iter().map(texts).collect();
        if lines.iter().any(|line| line.contains(needle)) {
            return lines;
        }
        assert!(since.elapsed() < PATIENCE, "never logged: {needle}; but {lines:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The log of `web.1` says, in this order, that it did not obey SIGTERM (R12) and was killed.
///
/// # Panics
/// When it does not.
pub async fn was_killed(bench: &impl RuntimeBench, app: &AppId) {
    let lines = logged(bench, app, "Process exited with status 137").await;
    let at = |text: &str| lines.iter().position(|line| line == &format!("heroku[web.1]: {text}"));
    let seconds = STOP_GRACE.as_secs();
    let r12 =
        format!("Error R12 (Exit timeout) -> At least one process failed to exit within {seconds} seconds of SIGTERM");
    let order = [
        at("Stopping all processes with SIGTERM"),
        at(&r12),
        at("Stopping remaining processes with SIGKILL"),
        at("Process exited with status 137"),
    ];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?} {lines:#?}");
}

/// A rollout that a second driver goes on with and a third one finds settled; answers what was rolled out.
///
/// # Panics
/// When it does not settle, or a dyno is one too many.
pub async fn rolled_out_by_three_drivers(bench: &impl RuntimeBench) -> ServiceSpec {
    let spec = web(bench, "say first; serve");
    settled(bench, &spec).await;
    logged(bench, &spec.app, "app[web.1]: first").await;
    let new = released(&spec, "say second; sleep 800; say bound; serve");
    let started = bench.runtime().ensure(&new).await.expect("ensure");
    assert!(matches!(started, Progress::Moving { .. }), "{started:?}");
    bench.restart().await;
    settled(bench, &new).await;
    assert_eq!(names(bench, &spec.app).await, ["web.2"]);
    bench.restart().await;
    assert_eq!(settle(bench, &new).await, Progress::Settled);
    new
}

/// A line as a log shows it, without its time.
#[must_use]
pub fn texts(line: &LogLine) -> String {
    format!("{}[{}]: {}", line.source.as_str(), line.process, line.message)
}
