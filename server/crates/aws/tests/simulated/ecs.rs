//! Amazon ECS, as its API reference and "Amazon ECS service deployments" say: definitions, services that roll with
//! 100 to 200 %, and an event for each deployment's end. Tasks have a file of their own.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use self::tasks::{describe_tasks, list_tasks, run, start, stop, stop_task};
use super::account::{Account, Answer, VirtualClock, refusal};
use super::others;

mod tasks;

pub(crate) use self::tasks::Task;

const ARN: &str = "arn:aws:ecs:us-east-1:000000000000";

#[derive(Default)]
pub(crate) struct State {
    pub(crate) clock: VirtualClock,
    /// By ARN.
    pub(crate) definitions: BTreeMap<String, Definition>,
    revisions: HashMap<String, u32>,
    /// By name.
    pub(crate) services: BTreeMap<String, Shown<Service>>,
    /// By ARN.
    pub(crate) tasks: BTreeMap<String, Shown<Task>>,
    /// What was run by a client token: the request and its task.
    tokens: HashMap<String, (Value, String)>,
    /// Definitions whose secret was gone when a task of theirs started.
    pub(crate) without_secret: Vec<String>,
    /// What has no room, with AWS's words for it: `FARGATE`, `FARGATE_SPOT`.
    full: BTreeMap<&'static str, &'static str>,
    /// Whether the server's policy lacks `ecs:RunTask`.
    pub(crate) denied: bool,
    /// Why no task that is made comes to run, if so.
    pub(crate) broken: &'static str,
    /// Whether what the scheduler says is lost on its way to the queue.
    pub(crate) quiet: bool,
}

/// Something that describing and listing may show as it was a moment ago.
pub(crate) struct Shown<T> {
    pub(crate) now: T,
    before: Option<T>,
    until: Instant,
}

impl<T: Clone> Shown<T> {
    fn new(now: T, stale: Duration) -> Self {
        Self { now, before: None, until: Instant::now() + stale }
    }

    fn seen(&self) -> Option<&T> {
        if Instant::now() < self.until { self.before.as_ref() } else { Some(&self.now) }
    }

    fn change(&mut self, stale: Duration) -> &mut T {
        if !stale.is_zero() && Instant::now() >= self.until {
            self.before = Some(self.now.clone());
            self.until = Instant::now() + stale;
        }
        &mut self.now
    }
}

#[derive(Clone)]
pub(crate) struct Definition {
    pub(crate) family: String,
    pub(crate) active: bool,
    pub(crate) asked: Value,
}

impl Definition {
    pub(crate) fn tag(&self, name: &str) -> &str {
        let tags = self.asked["tags"].as_array().into_iter().flatten();
        tags.filter(|tag| tag["key"] == name).find_map(|tag| tag["value"].as_str()).unwrap_or_default()
    }

    /// The names of the secrets that its container reads.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let named = self.asked["containerDefinitions"][0]["secrets"].as_array().into_iter().flatten();
        let name = |from: &Value| Some(from["valueFrom"].as_str()?.split(':').nth(6)?.rsplit_once('-')?.0.to_owned());
        named.filter_map(name).collect()
    }
}

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) status: &'static str,
    pub(crate) desired: usize,
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) tags: Value,
    /// What it takes its tasks from: `FARGATE`, …
    pub(crate) strategy: Vec<String>,
    /// What its scheduler says, the newest first, with the time in seconds.
    events: Vec<(f64, String)>,
}

/// The providers that a request names.
fn strategy(words: &Value) -> Option<Vec<String>> {
    let items = words["capacityProviderStrategy"].as_array()?.iter();
    Some(items.filter_map(|item| item["capacityProvider"].as_str()).map(str::to_owned).collect())
}

impl Account {
    /// Takes the room of `FARGATE` or `FARGATE_SPOT` away with these words of AWS's, or gives it back.
    pub(crate) fn set_room(&self, provider: &'static str, refusal: Option<&'static str>) {
        let mut state = self.lock();
        state.ecs.full.remove(provider);
        state.ecs.full.extend(refusal.map(|words| (provider, words)));
        let active = state.ecs.services.iter().filter(|(_, service)| service.now.status == "ACTIVE");
        let names: Vec<String> = active.map(|(name, _)| name.clone()).collect();
        drop(state);
        for name in names {
            roll(self, &name);
        }
    }

    /// Somebody else's service, of this name, without our tags.
    pub(crate) fn plant_service(&self, name: &str) {
        let deployment = Deployment {
            id: "ecs-svc/other".to_owned(),
            definition: "arn:other".to_owned(),
            completed: true,
            primary: true,
        };
        let service = Service {
            status: "ACTIVE",
            desired: 0,
            deployments: vec![deployment],
            tags: json!([{"key": "owner", "value": "somebody else"}]),
            strategy: Vec::new(),
            events: Vec::new(),
        };
        self.lock().ecs.services.insert(name.to_owned(), Shown::new(service, Duration::ZERO));
    }

    /// Somebody else's definition of this family; its ARN.
    pub(crate) fn plant_definition(&self, family: &str) -> String {
        let asked = json!({"family": family, "containerDefinitions": [{"name": "x"}]});
        let made = register(self, &asked).expect("registered");
        made["taskDefinition"]["taskDefinitionArn"].as_str().expect("an ARN").to_owned()
    }
}

#[derive(Clone)]
pub(crate) struct Deployment {
    id: String,
    pub(crate) definition: String,
    completed: bool,
    primary: bool,
}

/// Answers a call.
pub(crate) fn answer(account: &Account, operation: &str, words: &Value) -> Answer {
    let text = |name: &str| words[name].as_str().unwrap_or_default().to_owned();
    let answered = match operation {
        "RegisterTaskDefinition" => register(account, words),
        "DeregisterTaskDefinition" => deregister(account, &text("taskDefinition")),
        "DescribeTaskDefinition" => describe_definition(account, &text("taskDefinition")),
        "ListTaskDefinitions" => list_definitions(account, &text("familyPrefix")),
        "ListTaskDefinitionFamilies" => list_families(account, &text("familyPrefix")),
        "CreateService" => create(account, &text("serviceName"), words),
        "UpdateService" => update(account, &text("service"), words),
        "DeleteService" => delete(account, &text("service")),
        "DescribeServices" => Ok(describe_services(account, words)),
        "ListServices" => Ok(list_services(account)),
        "ListTasks" => list_tasks(account, words),
        "DescribeTasks" => Ok(describe_tasks(account, words)),
        "RunTask" => run(account, words),
        "StopTask" => stop_task(account, &text("task")),
        other => Err(("UnknownOperationException", other.to_owned())),
    };
    match answered {
        Ok(value) => (200, value.to_string()),
        Err((code, message)) => refusal(code, &message),
    }
}

type Answered = Result<Value, (&'static str, String)>;

fn refuse(code: &'static str, message: &str) -> Answered {
    Err((code, message.to_owned()))
}

fn register(account: &Account, words: &Value) -> Answered {
    let mut state = account.lock();
    let family = words["family"].as_str().unwrap_or_default().to_owned();
    let revision = state.ecs.revisions.entry(family.clone()).and_modify(|n| *n += 1).or_insert(1);
    let arn = format!("{ARN}:task-definition/{family}:{revision}");
    let definition = Definition { family, active: true, asked: words.clone() };
    state.ecs.definitions.insert(arn.clone(), definition);
    Ok(json!({"taskDefinition": {"taskDefinitionArn": arn}}))
}

fn deregister(account: &Account, arn: &str) -> Answered {
    let mut state = account.lock();
    match state.ecs.definitions.get_mut(arn) {
        Some(definition) if definition.active => {
            definition.active = false;
            Ok(json!({"taskDefinition": {"taskDefinitionArn": arn}}))
        }
        _ => refuse("ClientException", "The specified task definition is inactive."),
    }
}

fn describe_definition(account: &Account, name: &str) -> Answered {
    let state = account.lock();
    let newest = |(_, found): &(&String, &Definition)| found.active && found.family == name;
    let found = state.ecs.definitions.get_key_value(name).or_else(|| state.ecs.definitions.iter().rfind(newest));
    let Some((arn, found)) = found else {
        return refuse("ClientException", "Unable to describe task definition.");
    };
    let mut shown = found.asked.clone();
    shown["taskDefinitionArn"] = json!(arn);
    Ok(json!({"taskDefinition": shown, "tags": found.asked["tags"]}))
}

fn list_definitions(account: &Account, prefix: &str) -> Answered {
    let state = account.lock();
    let found = state.ecs.definitions.iter().filter(|(_, found)| found.active && found.family == prefix);
    let arns: Vec<&String> = found.map(|(arn, _)| arn).collect();
    Ok(json!({"taskDefinitionArns": arns}))
}

fn list_families(account: &Account, prefix: &str) -> Answered {
    let state = account.lock();
    let active = state.ecs.definitions.values().filter(|found| found.active && found.family.starts_with(prefix));
    let mut families: Vec<&String> = active.map(|found| &found.family).collect();
    families.dedup();
    Ok(json!({"families": families}))
}

fn create(account: &Account, name: &str, words: &Value) -> Answered {
    let mut state = account.lock();
    match state.ecs.services.get(name).map(|service| service.now.status) {
        Some("ACTIVE") => return refuse("InvalidParameterException", "Creation of service was not idempotent."),
        Some("DRAINING") => {
            return refuse("InvalidParameterException", "Unable to Start a service that is still Draining.");
        }
        _ => {}
    }
    let definition = words["taskDefinition"].as_str().unwrap_or_default().to_owned();
    if !state.ecs.definitions.get(&definition).is_some_and(|found| found.active) {
        return refuse("ClientException", "TaskDefinition is inactive");
    }
    let id = format!("ecs-svc/{}", state.number());
    let deployment = Deployment { id, definition, completed: false, primary: true };
    let desired = count(words);
    let service = Service {
        status: "ACTIVE",
        desired,
        deployments: vec![deployment],
        tags: words["tags"].clone(),
        strategy: strategy(words).unwrap_or_default(),
        events: Vec::new(),
    };
    let shown = service.shown(name, (0, 0));
    state.ecs.services.insert(name.to_owned(), Shown::new(service, account.pace.stale));
    drop(state);
    roll(account, name);
    Ok(json!({"service": shown}))
}

fn count(words: &Value) -> usize {
    words["desiredCount"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or_default()
}

fn update(account: &Account, name: &str, words: &Value) -> Answered {
    let mut state = account.lock();
    let number = state.number();
    let ecs = &mut state.ecs;
    let Some(service) = ecs.services.get_mut(name).filter(|service| service.now.status != "INACTIVE") else {
        return refuse("ServiceNotFoundException", "Service not found.");
    };
    if service.now.status != "ACTIVE" {
        return refuse("ServiceNotActiveException", "Service was not ACTIVE.");
    }
    let asked = words["taskDefinition"].as_str();
    if asked.is_some_and(|arn| !ecs.definitions.get(arn).is_some_and(|found| found.active)) {
        return refuse("ClientException", "TaskDefinition is inactive");
    }
    let service = service.change(account.pace.stale);
    service.desired = count(words);
    if let Some(strategy) = strategy(words) {
        service.strategy = strategy;
    }
    let primary = service.deployments.iter().find(|d| d.primary).map(|d| d.definition.clone()).unwrap_or_default();
    let definition = asked.map_or_else(|| primary.clone(), str::to_owned);
    if definition != primary || words["forceNewDeployment"] == true {
        service.deployments.iter_mut().for_each(|deployment| deployment.primary = false);
        let id = format!("ecs-svc/{number}");
        service.deployments.insert(0, Deployment { id, definition, completed: false, primary: true });
    }
    let shown = service.clone();
    drop(state);
    roll(account, name);
    let counts = counts(account, name);
    Ok(json!({"service": shown.shown(name, counts)}))
}

fn delete(account: &Account, name: &str) -> Answered {
    let mut state = account.lock();
    let found = state.ecs.services.get_mut(name).filter(|service| service.now.status != "INACTIVE");
    let Some(service) = found else { return refuse("ServiceNotFoundException", "Service not found.") };
    let service = service.change(account.pace.stale);
    service.status = "DRAINING";
    service.desired = 0;
    drop(state);
    roll(account, name);
    Ok(json!({}))
}

impl Service {
    fn shown(&self, name: &str, (running, pending): (usize, usize)) -> Value {
        let deployment = |found: &Deployment| {
            json!({
                "id": found.id, "status": if found.primary { "PRIMARY" } else { "ACTIVE" },
                "taskDefinition": found.definition,
                "rolloutState": if found.completed { "COMPLETED" } else { "IN_PROGRESS" },
            })
        };
        let deployments: Vec<Value> = self.deployments.iter().map(deployment).collect();
        let strategy = self.strategy.iter().map(|name| json!({"capacityProvider": name, "weight": 1, "base": 0}));
        let events = self.events.iter().map(|(at, said)| json!({"id": "e", "createdAt": at, "message": said}));
        json!({
            "capacityProviderStrategy": strategy.collect::<Vec<_>>(), "events": events.collect::<Vec<_>>(),
            "serviceName": name, "serviceArn": format!("{ARN}:service/c/{name}"), "status": self.status,
            "desiredCount": self.desired, "runningCount": running, "pendingCount": pending,
            "deployments": deployments,
        })
    }
}

/// How many tasks of a service run, and how many are on their way.
fn counts(account: &Account, name: &str) -> (usize, usize) {
    let state = account.lock();
    let of = |task: &&Task| task.service.as_deref() == Some(name) && !task.leaving;
    let tasks = || state.ecs.tasks.values().filter_map(Shown::seen).filter(of);
    (tasks().filter(|task| task.status == "RUNNING").count(), tasks().filter(|task| task.status != "RUNNING").count())
}

fn names<'a>(words: &'a Value, list: &str) -> Vec<&'a str> {
    let listed = words[list].as_array().into_iter().flatten();
    listed.filter_map(|name| name.as_str()).collect()
}

fn describe_services(account: &Account, words: &Value) -> Value {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names(words, "services") {
        let counts = counts(account, name);
        let state = account.lock();
        match state.ecs.services.get(name).and_then(Shown::seen) {
            Some(service) => {
                let mut shown = service.shown(name, counts);
                shown["tags"] = service.tags.clone();
                found.push(shown);
            }
            None => failures.push(json!({"arn": name, "reason": "MISSING"})),
        }
    }
    json!({"services": found, "failures": failures})
}

fn list_services(account: &Account) -> Value {
    let state = account.lock();
    let there = state.ecs.services.iter().filter(|(_, s)| s.seen().is_some_and(|s| s.status != "INACTIVE"));
    let arns: Vec<String> = there.map(|(name, _)| format!("{ARN}:service/c/{name}")).collect();
    json!({"serviceArns": arns})
}

/// Starts what a service lacks, stops what it has too much, and old tasks once the new ones are healthy.
fn roll(account: &Account, name: &str) {
    let (missing, over, primary) = {
        let state = account.lock();
        let service = &state.ecs.services[name].now;
        let primary = service.deployments.iter().find(|d| d.primary).expect("one").clone();
        let here = |task: &Task| task.service.as_deref() == Some(name) && !task.leaving;
        let tasks: Vec<(&String, &Task)> =
            state.ecs.tasks.iter().map(|(arn, task)| (arn, &task.now)).filter(|(_, task)| here(task)).collect();
        let (new, old): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|(_, task)| task.started_by == primary.id);
        let healthy = new.iter().filter(|(_, task)| task.healthy_at.is_some()).count();
        let mut over: Vec<String> = new.iter().skip(service.desired).map(|(arn, _)| (*arn).clone()).collect();
        if healthy >= service.desired {
            over.extend(old.iter().map(|(arn, _)| (*arn).clone()));
        }
        (service.desired.saturating_sub(new.len()), over, primary)
    };
    let missing = if missing > 0 && refuses(account, name) { 0 } else { missing };
    for _ in 0..missing {
        start(account, primary.definition.clone(), &primary.id, Some(name));
    }
    for arn in over {
        stop(account, &arn, "ServiceSchedulerInitiated");
    }
    rest(account, name);
}

/// Whether there is no room for more tasks of a service; the service's list of events and the bus say so, once, and the
/// list that there is again.
fn refuses(account: &Account, name: &str) -> bool {
    let mut state = account.lock();
    let ecs = &mut state.ecs;
    let at = Instant::now();
    let at = ecs.clock.at(at).0 as f64 / 1000.0;
    let service = &mut ecs.services.get_mut(name).expect("a service").now;
    let asked = if service.strategy.is_empty() { vec!["FARGATE".to_owned()] } else { service.strategy.clone() };
    let refusal = asked.iter().find_map(|provider| Some((provider.clone(), *ecs.full.get(provider.as_str())?)));
    let said = service.events.first().is_some_and(|(_, said)| said.contains("unable to place"));
    let Some((provider, words)) = refusal else {
        service.events.insert(0, (at, format!("(service {name}) has started 1 tasks: (task x).")));
        return false;
    };
    if !said {
        service.events.insert(0, (at, format!("(service {name}) was unable to place a task. Reason: {words}")));
        let quiet = ecs.quiet;
        drop(state);
        let detail = json!({
            "eventType": "ERROR", "eventName": "SERVICE_TASK_PLACEMENT_FAILURE", "reason": "RESOURCE:FARGATE",
            "capacityProviderArns": [format!("{ARN}:capacity-provider/{provider}")],
        });
        let event = json!({
            "detail-type": "ECS Service Action", "resources": [format!("{ARN}:service/c/{name}")], "detail": detail,
        });
        if !quiet {
            tell(account, event);
        }
    }
    true
}

/// Ends a deployment that has come to rest, and a service that has drained.
fn rest(account: &Account, name: &str) {
    let mut state = account.lock();
    let ecs = &mut state.ecs;
    let mut tasks = ecs.tasks.values().map(|task| &task.now);
    let service = ecs.services.get_mut(name).expect("a service");
    let primary = service.now.deployments.iter().find(|d| d.primary).map(|d| d.id.clone()).unwrap_or_default();
    let live = tasks.clone().filter(|task| task.live() && task.service.as_deref() == Some(name)).count();
    let healthy = tasks.clone().filter(|task| task.started_by == primary && task.healthy_at.is_some()).count();
    let whole = tasks.all(|task| !task.live() || task.service.as_deref() != Some(name) || task.started_by == primary);
    if service.now.status == "DRAINING" && live == 0 {
        service.change(account.pace.stale).status = "INACTIVE";
    }
    let done = service.now.deployments.iter().any(|d| d.primary && d.completed) && service.now.deployments.len() == 1;
    if service.now.status == "ACTIVE" && whole && healthy >= service.now.desired && !done {
        let service = service.change(account.pace.stale);
        service.deployments.retain(|deployment| deployment.primary);
        service.deployments[0].completed = true;
        let detail = json!({"deploymentId": primary, "eventName": "SERVICE_DEPLOYMENT_COMPLETED", "reason": ""});
        drop(state);
        let arn = format!("{ARN}:service/c/{name}");
        tell(account, json!({"detail-type": "ECS Deployment State Change", "resources": [arn], "detail": detail}));
    }
}

fn tell(account: &Account, event: Value) {
    let (pace, number) = (account.pace, account.lock().number());
    // Spread without an order, and the same every time.
    let part = u32::try_from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).unwrap_or_default();
    others::send(account, pace.event + pace.late * part / 256, &event);
}
