//! What an AWS account has of an installation: tasks, rules, and everything that has a name or a tag; and objects on it
//! that are none of its.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use paas_domain::{AppId, DynoId, DynoKind, DynoName, ProcessType, ReleaseVersion, app13};
use serde_json::{Value, json};

use super::{Shown, Stage, Thing};
use crate::invariants::{BalancerRule, Promises, Rows, Seen};
use crate::platform::Platform;

/// The most tasks that `DescribeTasks` takes.
const MOST_TASKS: usize = 100;

/// Looks at the account.
pub(super) struct Account<'a> {
    platform: &'a Platform,
    install: String,
    cluster: Value,
    strangers: Strangers<'a>,
    /// Task definitions by their ARN, which never change.
    definitions: Mutex<HashMap<String, Value>>,
    /// One-off dynos, and the tasks that were ever started for each.
    started: Mutex<BTreeMap<(AppId, DynoName), Vec<String>>>,
}

impl<'a> Account<'a> {
    pub(super) fn open(platform: &'a Platform) -> Self {
        let mut outputs = platform.outputs();
        let cluster = outputs.remove("Cluster").expect("an output").into();
        Self {
            platform,
            install: platform.install(),
            cluster,
            strangers: Strangers::make(platform),
            definitions: Mutex::default(),
            started: Mutex::default(),
        }
    }

    /// Every task that runs, and every one-off dyno's that ECS still shows.
    pub(super) fn things(&self) -> Vec<Thing> {
        let owner = self.platform.owner();
        // One that stops between the two lists is in both.
        let mut listed = BTreeSet::new();
        for status in ["RUNNING", "STOPPED"] {
            let asked = json!({"cluster": self.cluster, "desiredStatus": status});
            let arns = owner.call("ecs", "ListTasks", &asked)["taskArns"].take();
            listed.extend(arns.as_array().expect("tasks").iter().map(text));
        }
        let arns: Vec<String> = listed.into_iter().collect();
        let tasks = arns.chunks(MOST_TASKS).flat_map(|some| {
            let asked = json!({"cluster": self.cluster, "tasks": some, "include": ["TAGS"]});
            let described = owner.call("ecs", "DescribeTasks", &asked)["tasks"].take();
            described.as_array().expect("tasks").clone()
        });
        tasks.filter_map(|task| self.thing(&task)).collect()
    }

    fn thing(&self, task: &Value) -> Option<Thing> {
        let arn = text(&task["taskArn"]);
        let service = text(&task["group"]).starts_with("service:");
        let ended = task["lastStatus"] == "STOPPED";
        if service && ended {
            return None;
        }
        let definition = self.definition(&text(&task["taskDefinitionArn"]));
        let tag = |name| tag(&task["tags"], name).or_else(|| tag(&definition["tags"], name));
        let app: Option<AppId> = tag("paas:app").and_then(|app| app.parse().ok());
        let process_type: Option<ProcessType> = tag("paas:type").and_then(|name| name.parse().ok());
        let kind = match &process_type {
            _ if service => DynoKind::Service,
            Some(process_type) if process_type.is_release() => DynoKind::Release,
            _ => DynoKind::Run,
        };
        let dyno = if service { dyno_of(&arn) } else { text(&task["startedBy"]).parse().ok() };
        let variables = &task["overrides"]["containerOverrides"][0]["environment"];
        let mut variables = variables.as_array().into_iter().flatten();
        let name = variables.find(|pair| pair["name"] == "DYNO").and_then(|pair| text(&pair["value"]).parse().ok());
        let stage = match (task["lastStatus"].as_str(), task["desiredStatus"].as_str()) {
            (Some("STOPPED"), _) => Stage::Ended,
            (_, Some("STOPPED")) => Stage::Leaves,
            (Some("RUNNING"), _) => Stage::Runs,
            _ => Stage::Made,
        };
        if let (Some(app), Some(name), false) = (&app, &name, service) {
            let mut started = self.started.lock().expect("nobody panicked");
            let tasks: &mut Vec<String> = started.entry((app.clone(), DynoName::clone(name))).or_default();
            if !tasks.contains(&arn) {
                tasks.push(arn.clone());
            }
        }
        let release = tag("paas:release").and_then(|release| release.parse().ok()).map(ReleaseVersion);
        let shown =
            process_type.zip(release).map(|(process_type, release)| Shown { process_type, name, kind, release, stage });
        Some(Thing { what: format!("task {arn} ({})", task["lastStatus"]), app, dyno, shown, past: ended })
    }

    fn definition(&self, arn: &str) -> Value {
        let known = self.definitions.lock().expect("nobody panicked").get(arn).cloned();
        known.unwrap_or_else(|| {
            let asked = json!({"taskDefinition": arn, "include": ["TAGS"]});
            let told = self.platform.owner().call("ecs", "DescribeTaskDefinition", &asked);
            self.definitions.lock().expect("nobody panicked").insert(arn.to_owned(), told.clone());
            told
        })
    }

    /// Everything else.
    pub(super) fn tell(&self, promises: &Promises, seen: &mut Seen) {
        self.starts(seen);
        self.rules(seen);
        self.strays(seen);
        self.leaks(promises, seen);
        seen.disturbed.extend(self.strangers.disturbed());
    }

    /// A task is a start, whatever its log says.
    fn starts(&self, seen: &mut Seen) {
        for (dyno, tasks) in &*self.started.lock().expect("nobody panicked") {
            let starts = seen.starts.entry(dyno.clone()).or_default();
            *starts = tasks.len().max(*starts);
        }
    }

    /// The rules of every balancer that lead to one of the installation's target groups.
    fn rules(&self, seen: &mut Seen) {
        let groups: BTreeMap<String, AppId> =
            seen.rows.keys().map(|app| (format!("/paas-{}-{}-", self.install, app13(app)), app.clone())).collect();
        let ours = format!("/paas-{}-", self.install);
        let balancers = self.platform.balancers();
        for rule in balancers.as_object().into_iter().flat_map(|all| all.values()).flat_map(rules_of) {
            let mut leads_to: Vec<String> = vec![text(&rule["Actions"][0]["TargetGroupArn"])];
            let more = rule["Actions"][0]["ForwardConfig"]["TargetGroups"].as_array().into_iter().flatten();
            leads_to.extend(more.map(|group| text(&group["TargetGroupArn"])));
            leads_to.retain(|group| group.contains(&ours));
            let values = rule["Conditions"].as_array().into_iter().flatten().flat_map(hosts_in);
            let hosts: Vec<String> = values.filter(|host| host != "parked.invalid").collect();
            for group in leads_to {
                let app = groups.iter().find(|(name, _)| group.contains(name.as_str())).map(|(_, app)| app.clone());
                let (listener, priority) = (text(&rule["ListenerArn"]), text(&rule["Priority"]));
                seen.rules.push(BalancerRule { listener, priority, hosts: hosts.clone(), app });
            }
        }
    }

    /// Objects of the installation that belong to nobody who lives. Tasks are looked at one by one, rules by where they
    /// lead.
    fn strays(&self, seen: &mut Seen) {
        let living: Vec<&Rows> = seen.rows.values().filter(|rows| rows.app.deleted_at.is_none()).collect();
        let mentioned: BTreeSet<String> = living
            .iter()
            .flat_map(|rows| [rows.app.id.to_string(), app13(&rows.app.id)])
            .flat_map(|word| self.platform.objects(&word))
            .collect();
        let of_app =
            |text: &str, rows: &&&Rows| text.contains(rows.app.id.as_str()) || text.contains(&app13(&rows.app.id));
        let is_named = |object: &str| match object.split_once(' ').unwrap_or_default() {
            ("task" | "rule", _) => true,
            ("record", record) => {
                let host = record.rsplit(' ').next().unwrap_or_default().trim_end_matches('.');
                living.iter().flat_map(|rows| &rows.domains).any(|domain| domain.hostname.as_str() == host)
            }
            ("object", key) if key.contains("/sources/") => {
                living.iter().find(|rows| of_app(key, rows)).is_some_and(|rows| rows.has_open_jobs())
            }
            ("object", key) if key.contains("/outputs/") => living.iter().any(|rows| {
                let of_builds = rows.builds.iter().map(|build| &build.output);
                let mut outputs = of_builds.chain(rows.releases.iter().filter_map(|release| release.output.as_ref()));
                outputs.any(|output| key.contains(output.as_str()))
            }),
            _ => mentioned.contains(object),
        };
        let mut there = self.platform.objects(&self.install);
        there.retain(|object| !is_named(object));
        seen.strays.extend(there);
    }

    fn leaks(&self, promises: &Promises, seen: &mut Seen) {
        for canary in &promises.canaries {
            seen.leaks.extend(self.platform.objects(canary));
        }
        for (arn, definition) in &*self.definitions.lock().expect("nobody panicked") {
            if promises.are_told(definition.to_string().as_bytes()) {
                seen.leaks.push(format!("definition {arn}"));
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn tag(tags: &Value, name: &str) -> Option<String> {
    let mut tags = tags.as_array()?.iter();
    tags.find(|tag| tag["key"] == name).map(|tag| text(&tag["value"]))
}

/// A service's dyno has the id of its task, which AWS writes without hyphens.
fn dyno_of(arn: &str) -> Option<DynoId> {
    let id: String = arn.rsplit('/').next()?.chars().filter(|c| *c != '-').collect();
    let parts = [id.get(..8)?, id.get(8..12)?, id.get(12..16)?, id.get(16..20)?, id.get(20..)?];
    parts.join("-").parse().ok()
}

fn rules_of(balancer: &Value) -> Vec<Value> {
    let listeners = balancer["listeners"].as_object().into_iter().flat_map(|all| all.values());
    listeners.flat_map(|listener| listener["rules"].as_array().cloned().unwrap_or_default()).collect()
}

fn hosts_in(condition: &Value) -> Vec<String> {
    let values = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    match condition["Field"].as_str() {
        Some("host-header") => {
            let typed = values(&condition["HostHeaderConfig"]["Values"]);
            if typed.is_empty() { values(&condition["Values"]) } else { typed }
        }
        _ => Vec::new(),
    }
}

/// Objects on the account of another installation, and of nobody.
struct Strangers<'a> {
    platform: &'a Platform,
    /// Their name, and what the secret's begins with.
    name: String,
    before: Vec<String>,
}

impl<'a> Strangers<'a> {
    fn make(platform: &'a Platform) -> Self {
        let owner = platform.owner();
        // Another installation, whose names begin as ours do.
        let other = paas_domain::InstallId::random();
        let name = format!("paas-{other}-{}-web", app13(&AppId::new()));
        let tags = json!([{"Key": "paas:install", "Value": other.to_string()}]);
        let _ = owner.call("ecr", "CreateRepository", &json!({"repositoryName": name, "tags": tags}));
        let secret = json!({"Name": name, "SecretString": "{}", "Tags": tags});
        let _ = owner.call("secretsmanager", "CreateSecret", &secret);
        let group = json!({"Name": name, "Protocol": "HTTP", "Port": 5000, "TargetType": "ip",
            "VpcId": platform.outputs()["VpcId"]});
        let _ = owner.call("elbv2", "CreateTargetGroup", &group);
        let mut strangers = Self { platform, name, before: Vec::new() };
        strangers.before = strangers.told();
        assert!(strangers.before.iter().all(|told| told.contains(&strangers.name)), "{:?}", strangers.before);
        strangers
    }

    fn told(&self) -> Vec<String> {
        let tell = |service: &str, operation: &str, with: Value| {
            let told = self.platform.owner().try_call(service, operation, &with).unwrap_or(Value::Null);
            format!("{service} {}", without_answers(told))
        };
        vec![
            tell("ecr", "DescribeRepositories", json!({"repositoryNames": [self.name]})),
            tell("secretsmanager", "DescribeSecret", json!({"SecretId": self.name})),
            tell("elbv2", "DescribeTargetGroups", json!({"Names": [self.name]})),
        ]
    }

    fn disturbed(&self) -> Vec<String> {
        let pairs = self.before.iter().zip(self.told()).filter(|(before, now)| **before != *now);
        pairs.map(|(before, now)| format!("{before}, now {now},")).collect()
    }
}

/// What an answer says of itself and not of what was asked.
fn without_answers(mut told: Value) -> Value {
    if let Some(told) = told.as_object_mut() {
        told.remove("ResponseMetadata");
    }
    told
}

impl Drop for Strangers<'_> {
    fn drop(&mut self) {
        let owner = self.platform.owner();
        let _ = owner.try_call("ecr", "DeleteRepository", &json!({"repositoryName": self.name, "force": true}));
        let secret = json!({"SecretId": self.name, "ForceDeleteWithoutRecovery": true});
        let _ = owner.try_call("secretsmanager", "DeleteSecret", &secret);
        let told = owner.try_call("elbv2", "DescribeTargetGroups", &json!({"Names": [self.name]}));
        if let Ok(group) = told {
            let arn = &group["TargetGroups"][0]["TargetGroupArn"];
            let _ = owner.try_call("elbv2", "DeleteTargetGroup", &json!({"TargetGroupArn": arn}));
        }
    }
}
