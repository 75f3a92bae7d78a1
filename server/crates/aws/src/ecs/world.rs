//! What is known of ECS: filled by answers and by events, so that a deploy asks little.
//!
//! While events flow, what was seen stays true until an event says otherwise, with a slow look as a net under them
//! ([`Timing::sweep`]); without events it is looked at anew after [`Timing::pause`]. A change of our own makes it be
//! looked at anew, unless its answer said everything. What was told by events and looks the same from outside is not looked at
//! more closely.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_ecs::types::{DesiredStatus, Failure, ServiceField};
use paas_domain::{AppId, DynoId, Timestamp};
use paas_ports::PortError;
use tokio::time::Instant;

use super::sight::{Rollout, Service, Task};
use super::{Inner, Timing};
use crate::{AwsError, Call, Kind};

/// The shortest time between two registrations of one service: AWS grants the whole account one a second, and of
/// releases that come faster only the last one matters.
const BETWEEN: Duration = Duration::from_secs(2);
/// For how long ECS shows a task that has stopped, in seconds.
const SHOWN_S: i64 = 3600;
/// For how long an event, or an empty answer of the queue, proves that events flow.
const EVENTS_FLOW: Duration = Duration::from_secs(60);
/// The most that `DescribeTasks` takes.
const MOST_TASKS: usize = 100;
/// The most that `DescribeServices` takes.
const MOST_SERVICES: usize = 10;

/// The cache.
#[derive(Default)]
pub(crate) struct World {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    services: HashMap<String, Seen>,
    once: HashMap<DynoId, Task>,
    events_at: Option<Instant>,
}

#[derive(Clone, Default)]
struct Seen {
    service: Option<Service>,
    tasks: BTreeMap<String, Task>,
    looked_at: Option<Instant>,
    registered_at: Option<Instant>,
    /// The capacity that an event said was asked in vain.
    providers: Vec<String>,
}

/// A service and its tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sight {
    pub(crate) service: Option<Service>,
    pub(crate) tasks: Vec<Task>,
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events flow: one came, or the queue said that there is none.
    pub(crate) fn events_flow(&self) {
        self.state().events_at = Some(Instant::now());
    }

    /// Takes over what an event says of a task.
    pub(crate) fn note_task(&self, task: Task) {
        let mut state = self.state();
        match &task.service {
            Some(name) => {
                let tasks = &mut state.services.entry(name.clone()).or_default().tasks;
                merge(tasks, task);
            }
            None => {
                let dyno = task.dyno.clone();
                match state.once.get_mut(&dyno) {
                    Some(known) => known.merge(task),
                    None => {
                        state.once.insert(dyno, task);
                    }
                }
            }
        }
    }

    /// Takes over how far an event says a deployment has come.
    pub(crate) fn note_rollout(&self, service: &str, deployment: &str, rollout: Rollout, reason: &str) {
        let mut state = self.state();
        let Some(seen) = state.services.get_mut(service) else { return };
        let known = seen.service.as_mut().and_then(|s| s.deployments.iter_mut().find(|d| d.id == deployment));
        match known {
            // Nothing comes after an end.
            Some(known) if known.rollout == Rollout::InProgress => {
                known.rollout = rollout;
                known.reason = reason.to_owned();
                if rollout == Rollout::Failed {
                    // ECS goes back to another one, which we do not know.
                    seen.looked_at = None;
                }
            }
            Some(_) => {}
            None => seen.looked_at = None,
        }
    }

    /// An event says that the scheduler starts nothing of it. Why is in the service's own list, which is looked at.
    pub(crate) fn note_refusal(&self, service: &str, providers: &[String]) {
        let mut state = self.state();
        let seen = state.services.entry(service.to_owned()).or_default();
        seen.providers = providers.to_vec();
        seen.looked_at = None;
    }

    /// Takes over what an answer says of a service.
    pub(crate) fn note_service(&self, service: Service) {
        let mut state = self.state();
        let flows = state.flows();
        let seen = state.services.entry(service.name.clone()).or_default();
        seen.service = Some(service);
        // While events tell of its tasks, nothing else is left to look at.
        seen.looked_at = seen.looked_at.map(|at| if flows { Instant::now() } else { at });
    }

    /// A definition of it was registered.
    pub(crate) fn registered(&self, service: &str) {
        self.state().services.entry(service.to_owned()).or_default().registered_at = Some(Instant::now());
    }

    /// How long the next one has to wait for that.
    pub(crate) fn just_registered(&self, service: &str) -> Option<Duration> {
        let at = self.state().services.get(service)?.registered_at?;
        BETWEEN.checked_sub(at.elapsed()).filter(|wait| !wait.is_zero())
    }

    /// It has to be looked at anew, when the last look is older than this.
    pub(crate) fn doubt_older(&self, service: &str, age: Duration) {
        if let Some(seen) = self.state().services.get_mut(service) {
            seen.looked_at = seen.looked_at.filter(|at| at.elapsed() < age);
        }
    }

    /// It has to be looked at anew.
    pub(crate) fn doubt(&self, service: &str) {
        if let Some(seen) = self.state().services.get_mut(service) {
            seen.looked_at = None;
        }
    }

    /// The same of every service whose name begins so.
    pub(crate) fn doubt_all(&self, prefix: &str) {
        let mut state = self.state();
        for (_, seen) in state.services.iter_mut().filter(|(name, _)| name.starts_with(prefix)) {
            seen.looked_at = None;
        }
    }

    /// Whether it was looked at since it was last doubted.
    pub(crate) fn has_looked(&self, service: &str) -> bool {
        self.state().services.get(service).is_some_and(|seen| seen.looked_at.is_some())
    }

    /// What is known, when it need not be looked at anew.
    pub(crate) fn fresh(&self, name: &str, timing: &Timing) -> Option<Sight> {
        let state = self.state();
        let seen = state.services.get(name)?;
        let trusted = if state.flows() { timing.sweep } else { timing.pause };
        seen.looked_at.filter(|at| at.elapsed() < trusted).map(|_| seen.sight())
    }

    /// What events have told on top of a look, when nothing but its age speaks against it and no task is on its way
    /// out.
    fn aged(&self, name: &str) -> Option<Sight> {
        let state = self.state();
        let seen = state.services.get(name).filter(|seen| seen.looked_at.is_some() && state.flows())?;
        let calm = seen.service.is_some() && seen.tasks.values().all(|task| task.stopped() || !task.leaving);
        calm.then(|| seen.sight())
    }

    /// It is as it was known.
    fn confirmed(&self, name: &str, service: Service, now: Timestamp) -> Sight {
        let mut state = self.state();
        let seen = state.services.entry(name.to_owned()).or_default();
        seen.service = Some(service);
        seen.tasks.retain(|_, task| task.stopped_at.is_none_or(|at| at.plus_s(SHOWN_S) > now));
        seen.looked_at = Some(Instant::now());
        seen.sight()
    }

    /// What is known, however old.
    pub(crate) fn known(&self, name: &str) -> Sight {
        self.state().services.get(name).map(Seen::sight).unwrap_or_default()
    }

    /// A one-off dyno's task.
    pub(crate) fn once(&self, dyno: &DynoId) -> Option<Task> {
        self.state().once.get(dyno).cloned()
    }

    /// Forgets a service, or a one-off dyno.
    pub(crate) fn forget_service(&self, name: &str) {
        self.state().services.remove(name);
    }

    pub(crate) fn forget_once(&self, dyno: &DynoId) {
        self.state().once.remove(dyno);
    }

    fn looked(&self, name: &str, service: Option<Service>, listed: &BTreeSet<String>, tasks: Vec<Task>) -> Sight {
        let mut state = self.state();
        let seen = state.services.entry(name.to_owned()).or_default();
        seen.service = service;
        for task in tasks {
            merge(&mut seen.tasks, task);
        }
        // ECS shows what stopped for an hour.
        seen.tasks.retain(|arn, task| !task.stopped() || listed.contains(arn));
        seen.looked_at = Some(Instant::now());
        seen.sight()
    }

    fn drop_task(&self, name: &str, arn: &str) {
        if let Some(seen) = self.state().services.get_mut(name) {
            seen.tasks.remove(arn);
        }
    }
}

impl State {
    fn flows(&self) -> bool {
        self.events_at.is_some_and(|at| at.elapsed() < EVENTS_FLOW)
    }
}

impl Seen {
    fn sight(&self) -> Sight {
        let mut tasks: Vec<Task> = self.tasks.values().cloned().collect();
        tasks.sort_by(|a, b| (a.created_at, &a.arn).cmp(&(b.created_at, &b.arn)));
        let mut service = self.service.clone();
        if let Some(refusal) = service.as_mut().and_then(|service| service.refusal.as_mut()) {
            refusal.providers.clone_from(&self.providers);
        }
        Sight { service, tasks }
    }
}

fn merge(tasks: &mut BTreeMap<String, Task>, task: Task) {
    match tasks.get_mut(&task.arn) {
        Some(known) => known.merge(task),
        None => {
            tasks.insert(task.arn.clone(), task);
        }
    }
}

impl Inner {
    /// A service and its tasks, as fresh as the timing wants.
    pub(crate) async fn look(&self, app: &AppId, name: &str) -> Result<Sight, PortError> {
        match self.world.fresh(name, &self.options.timing) {
            Some(sight) => Ok(sight),
            None => self.look_now(app, name).await,
        }
    }

    /// The same, asked for now.
    pub(crate) async fn look_now(&self, app: &AppId, name: &str) -> Result<Sight, PortError> {
        let aged = self.world.aged(name);
        let service = self.describe_services(Some(app), &[name.to_owned()]).await?.pop();
        let known = self.world.known(name).tasks;
        let mut listed = BTreeSet::new();
        if service.is_some() || !known.is_empty() {
            listed.extend(self.list_tasks(app, name, DesiredStatus::Running).await?);
            let live =
                |sight: &Sight| sight.tasks.iter().filter(|task| !task.stopped()).all(|t| listed.contains(&t.arn));
            let told = |arn: &String| known.iter().any(|task| task.arn == *arn);
            if let (Some(service), Some(aged)) = (&service, aged)
                && aged.service.as_ref().is_some_and(|known| service.stands_as(known))
                && live(&aged)
                && listed.iter().all(told)
            {
                return Ok(self.world.confirmed(name, service.clone(), self.options.clock.now()));
            }
            listed.extend(self.list_tasks(app, name, DesiredStatus::Stopped).await?);
        }
        // What has stopped does not change any more.
        let ended: BTreeSet<&String> = known.iter().filter(|task| task.stopped()).map(|task| &task.arn).collect();
        let unlisted = known.iter().filter(|task| !task.stopped() && !listed.contains(&task.arn));
        let unlisted: Vec<String> = unlisted.map(|task| task.arn.clone()).collect();
        let ask: Vec<String> = listed.iter().filter(|arn| !ended.contains(arn)).chain(&unlisted).cloned().collect();
        let tasks = self.describe_tasks(Some(app), &ask).await?;
        for gone in unlisted.iter().filter(|arn| !tasks.iter().any(|task| task.arn == **arn)) {
            self.world.drop_task(name, gone);
        }
        let ours = tasks.into_iter().filter(|task| task.service.as_deref() == Some(name)).collect();
        listed.extend(unlisted);
        Ok(self.world.looked(name, service, &listed, ours))
    }

    /// Those of these services that are there.
    pub(crate) async fn describe_services(
        &self,
        app: Option<&AppId>,
        names: &[String],
    ) -> Result<Vec<Service>, PortError> {
        let doing = "looking at the app's services";
        let mut found = Vec::new();
        for some in names.chunks(MOST_SERVICES) {
            let request = self
                .aws
                .ecs
                .describe_services()
                .cluster(&self.aws.foundation.cluster)
                .set_services(Some(some.to_vec()))
                .include(ServiceField::Tags);
            let answer = self.aws.call(Call::DescribeServices, app, doing, request.send()).await?;
            only_missing(answer.failures(), doing)?;
            found.extend(answer.services().iter().filter_map(Service::read));
        }
        Ok(found)
    }

    async fn list_tasks(&self, app: &AppId, name: &str, status: DesiredStatus) -> Result<Vec<String>, PortError> {
        let mut arns = Vec::new();
        let mut next = None;
        loop {
            let request = self
                .aws
                .ecs
                .list_tasks()
                .cluster(&self.aws.foundation.cluster)
                .service_name(name)
                .desired_status(status.clone())
                .set_next_token(next);
            let answer = self.aws.call(Call::ListTasks, Some(app), "looking at the app's dynos", request.send()).await;
            let page = match answer {
                Ok(page) => page,
                // It became inactive meanwhile.
                Err(error) if error.is(&["ServiceNotFoundException", "ServiceNotActiveException"]) => return Ok(arns),
                Err(error) => return Err(error.into()),
            };
            arns.extend(page.task_arns().iter().cloned());
            next = page.next_token;
            if next.is_none() {
                return Ok(arns);
            }
        }
    }

    /// Those of these tasks that ECS still shows.
    pub(crate) async fn describe_tasks(&self, app: Option<&AppId>, arns: &[String]) -> Result<Vec<Task>, PortError> {
        let doing = "looking at the app's dynos";
        let mut found = Vec::new();
        for some in arns.chunks(MOST_TASKS) {
            let cluster = &self.aws.foundation.cluster;
            let request = self.aws.ecs.describe_tasks().cluster(cluster).set_tasks(Some(some.to_vec()));
            let answer = self.aws.call(Call::DescribeTasks, app, doing, request.send()).await?;
            only_missing(answer.failures(), doing)?;
            found.extend(answer.tasks().iter().filter_map(Task::read));
        }
        Ok(found)
    }

    /// The tasks of one-off dynos, asked for now, with what an event said of them since. Those that neither an answer
    /// nor an event ever showed are not among them.
    pub(crate) async fn look_once(&self, app: &AppId, arns: &[String]) -> Result<Vec<Task>, PortError> {
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        for task in self.describe_tasks(Some(app), arns).await? {
            self.world.note_task(task);
        }
        let state = self.world.state();
        Ok(state.once.values().filter(|task| arns.contains(&task.arn)).cloned().collect())
    }

    /// Stops one task: ECS drains it, sends SIGTERM and, after the definition's stop time-out, SIGKILL.
    pub(crate) async fn stop_task(&self, app: &AppId, task: &str, why: &str) -> Result<(), PortError> {
        let request = self.aws.ecs.stop_task().cluster(&self.aws.foundation.cluster).task(task).reason(why);
        match self.aws.call(Call::StopTask, Some(app), "stopping a dyno", request.send()).await {
            Ok(_) => Ok(()),
            Err(error) if gone(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What is not there is left out of an answer; any other failure inside a 200 is one.
fn only_missing(failures: &[Failure], doing: &str) -> Result<(), PortError> {
    match failures.iter().find(|failure| failure.reason() != Some("MISSING")) {
        Some(failure) => Err(PortError::transient(doing, failure.reason().unwrap_or("AWS gave no reason"))),
        None => Ok(()),
    }
}

/// ECS says `InvalidParameterException` of a task that it does not know.
fn gone(error: &AwsError) -> bool {
    error.kind == Kind::NotFound
        || error.is(&["InvalidParameterException"]) && error.message.to_ascii_lowercase().contains("not found")
}
