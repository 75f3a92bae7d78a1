//! Tasks: run for a service or by themselves, their life, and an event for each change of it.

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::account::{self, Account, VirtualClock};
use super::{ARN, Answered, Shown, names, refuse, rest, roll, tell};

#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) definition: String,
    pub(crate) started_by: String,
    pub(crate) service: Option<String>,
    pub(crate) address: String,
    pub(crate) status: &'static str,
    pub(crate) leaving: bool,
    pub(crate) made_at: Instant,
    started_at: Option<Instant>,
    pub(crate) healthy_at: Option<Instant>,
    stopping_at: Option<Instant>,
    stopped_at: Option<Instant>,
    exit: Option<i32>,
    reason: &'static str,
    code: &'static str,
    version: u32,
}

impl Task {
    pub(crate) fn live(&self) -> bool {
        self.status != "STOPPED"
    }
}

pub(super) fn list_tasks(account: &Account, words: &Value) -> Answered {
    let state = account.lock();
    let stopped = words["desiredStatus"] == "STOPPED";
    if let Some(name) = words["serviceName"].as_str()
        && state.ecs.services.get(name).and_then(Shown::seen).is_none_or(|service| service.status == "INACTIVE")
    {
        return refuse("ServiceNotFoundException", "Service not found.");
    }
    let found = state.ecs.tasks.iter().filter(|(_, task)| {
        task.seen().is_some_and(|task| {
            let service = words["serviceName"].as_str().is_none_or(|name| task.service.as_deref() == Some(name));
            service && words["startedBy"].as_str().is_none_or(|by| task.started_by == by) && task.leaving == stopped
        })
    });
    let arns: Vec<&String> = found.map(|(arn, _)| arn).collect();
    Ok(json!({"taskArns": arns}))
}

pub(super) fn describe_tasks(account: &Account, words: &Value) -> Value {
    let state = account.lock();
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for arn in names(words, "tasks") {
        match state.ecs.tasks.get(arn).and_then(Shown::seen) {
            Some(task) => found.push(task.shown(arn, &state.ecs.clock, false)),
            None => failures.push(json!({"arn": arn, "reason": "MISSING"})),
        }
    }
    json!({"tasks": found, "failures": failures})
}

impl Task {
    /// As an answer has it, or an event: there times are texts and nothing is said of health.
    fn shown(&self, arn: &str, clock: &VirtualClock, event: bool) -> Value {
        let at = |time: Instant| {
            let time = clock.at(time);
            if event { json!(time.to_logplex()) } else { json!(time.0 as f64 / 1000.0) }
        };
        let mut shown = json!({
            "taskArn": arn, "taskDefinitionArn": self.definition, "lastStatus": self.status,
            "desiredStatus": if self.leaving { "STOPPED" } else { "RUNNING" }, "startedBy": self.started_by,
            "version": self.version, "createdAt": at(self.made_at), "containers": [{"name": "x"}],
        });
        if let Some(service) = &self.service {
            shown["group"] = json!(format!("service:{service}"));
        }
        for (name, time) in
            [("startedAt", self.started_at), ("stoppingAt", self.stopping_at), ("stoppedAt", self.stopped_at)]
        {
            if let Some(time) = time {
                shown[name] = at(time);
            }
        }
        if let Some(code) = self.exit {
            shown["containers"][0]["exitCode"] = json!(code);
        }
        if !self.code.is_empty() {
            shown["stopCode"] = json!(self.code);
            shown["stoppedReason"] = json!(self.reason);
        }
        if self.status != "PROVISIONING" {
            let details = [json!({"name": "privateIPv4Address", "value": self.address})];
            shown["attachments"] = json!([{"type": "ElasticNetworkInterface", "details": details}]);
        }
        if !event && self.healthy_at.is_some() {
            shown["healthStatus"] = json!("HEALTHY");
        }
        shown
    }
}

pub(super) fn run(account: &Account, words: &Value) -> Answered {
    let state = account.lock();
    let token = words["clientToken"].as_str().unwrap_or_default().to_owned();
    if let Some((asked, arn)) = state.ecs.tokens.get(&token) {
        if asked != words {
            return refuse("ConflictException", "The client token was used with other parameters.");
        }
        return Ok(json!({"tasks": [state.ecs.tasks[arn].now.shown(arn, &state.ecs.clock, false)], "failures": []}));
    }
    if state.ecs.denied {
        return refuse("AccessDeniedException", "User server is not authorized to perform: ecs:RunTask");
    }
    if let Some(words) = state.ecs.full.get("FARGATE") {
        return Ok(json!({"tasks": [], "failures": [{"reason": words}]}));
    }
    let definition = words["taskDefinition"].as_str().unwrap_or_default().to_owned();
    if !state.ecs.definitions.get(&definition).is_some_and(|found| found.active) {
        return refuse("ClientException", "TaskDefinition is inactive");
    }
    drop(state);
    let arn = start(account, definition, words["startedBy"].as_str().unwrap_or_default(), None);
    let mut state = account.lock();
    state.ecs.tokens.insert(token, (words.clone(), arn.clone()));
    Ok(json!({"tasks": [state.ecs.tasks[&arn].now.shown(&arn, &state.ecs.clock, false)], "failures": []}))
}

pub(super) fn stop_task(account: &Account, arn: &str) -> Answered {
    if !account.lock().ecs.tasks.contains_key(arn) {
        return refuse("InvalidParameterException", "The referenced task was not found.");
    }
    stop(account, arn, "UserInitiated");
    let service = account.lock().ecs.tasks[arn].now.service.clone();
    if let Some(service) = service {
        roll(account, &service);
    }
    Ok(json!({}))
}

pub(super) fn start(account: &Account, definition: String, started_by: &str, service: Option<&str>) -> String {
    let mut state = account.lock();
    let number = state.number();
    let arn = format!("{ARN}:task/c/{number:032x}");
    let task = Task {
        definition,
        started_by: started_by.to_owned(),
        service: service.map(str::to_owned),
        address: format!("10.0.{}.{}", number / 250, number % 250 + 1),
        status: "PROVISIONING",
        leaving: false,
        made_at: Instant::now(),
        started_at: None,
        healthy_at: None,
        stopping_at: None,
        stopped_at: None,
        exit: None,
        reason: "",
        code: "",
        version: 1,
    };
    state.ecs.tasks.insert(arn.clone(), Shown::new(task, account.pace.stale));
    tokio::spawn(live(account.clone(), arn.clone()));
    arn
}

/// A task's life, until somebody stops it.
async fn live(account: Account, arn: String) {
    let pace = account.pace;
    change(&account, &arn, |_| {});
    sleep(pace.start / 2).await;
    change(&account, &arn, |task| task.status = "PENDING");
    sleep(pace.start - pace.start / 2).await;
    let missing = {
        let state = account.lock();
        let definition = &state.ecs.definitions[&state.ecs.tasks[&arn].now.definition];
        let missing = definition.secrets().iter().any(|name| !state.others.secrets.contains_key(name));
        missing.then(|| state.ecs.tasks[&arn].now.definition.clone())
    };
    account.lock().ecs.without_secret.extend(missing);
    let broken = account.lock().ecs.broken;
    if !broken.is_empty() {
        change(&account, &arn, |task| task.reason = broken);
        end(&account, &arn, "TaskFailedToStart", 0);
        return;
    }
    change(&account, &arn, |task| {
        task.status = "RUNNING";
        task.started_at = Some(Instant::now());
    });
    account.ran.notify_waiters();
    let service = account.lock().ecs.tasks[&arn].now.service.clone();
    let Some(service) = service else {
        sleep(pace.run).await;
        end(&account, &arn, "EssentialContainerExited", 0);
        return;
    };
    sleep(pace.health).await;
    // Its target's health is nobody's event.
    if let Some(task) = account.lock().ecs.tasks.get_mut(&arn).filter(|task| !task.now.leaving) {
        task.change(pace.stale).healthy_at = Some(Instant::now());
    }
    roll(&account, &service);
}

/// Changes a task that goes on, and says so.
fn change(account: &Account, arn: &str, how: impl FnOnce(&mut Task)) {
    let mut state = account.lock();
    let ecs = &mut state.ecs;
    let Some(task) = ecs.tasks.get_mut(arn).filter(|task| !task.now.leaving) else { return };
    how(task.change(account.pace.stale));
    say(account, state, arn);
}

fn say(account: &Account, mut state: std::sync::MutexGuard<'_, account::State>, arn: &str) {
    let ecs = &mut state.ecs;
    let clock = ecs.clock;
    let task = &mut ecs.tasks.get_mut(arn).expect("a task").now;
    task.version += 1;
    let detail = task.shown(arn, &clock, true);
    drop(state);
    tell(account, json!({"detail-type": "ECS Task State Change", "detail": detail}));
}

pub(super) fn stop(account: &Account, arn: &str, code: &'static str) {
    let mut state = account.lock();
    let Some(task) = state.ecs.tasks.get_mut(arn).filter(|task| !task.now.leaving) else { return };
    let ran = task.now.started_at.is_some();
    let task = task.change(account.pace.stale);
    task.leaving = true;
    task.status = "DEACTIVATING";
    task.stopping_at = Some(Instant::now());
    task.code = code;
    task.reason = "told to stop";
    say(account, state, arn);
    let (account, arn) = (account.clone(), arn.to_owned());
    tokio::spawn(async move {
        sleep(account.pace.drain).await;
        end(&account, &arn, code, if ran { 143 } else { 137 });
    });
}

fn end(account: &Account, arn: &str, code: &'static str, exit: i32) {
    let mut state = account.lock();
    let Some(task) = state.ecs.tasks.get_mut(arn).filter(|task| task.now.live()) else { return };
    let task = task.change(account.pace.stale);
    task.leaving = true;
    task.status = "STOPPED";
    task.stopped_at = Some(Instant::now());
    task.exit = task.started_at.map(|_| exit);
    task.code = code;
    let service = task.service.clone();
    say(account, state, arn);
    if let Some(service) = service {
        rest(account, &service);
    }
}
