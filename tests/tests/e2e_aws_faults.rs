//! AWS at its worst, end to end: a dozen cells of fault × call, by a proxy between the server and its account.
//!
//! A fault that passes does not show: the push deploys, with at most half as many calls again as without it. One that
//! stays declines the push in words that name the cause, the release before serves on, and the next push deploys.
//! After each, what is on the account is what the releases say. The matrix of every call × every fault is the drivers'
//! own test.

use std::collections::BTreeMap;
use std::time::Instant;

use paas_tests::platform::{Platform, Repository, until};
use serde_json::{Value, json};

const DECLINED: &str = "! [remote rejected] main -> main (pre-receive hook declined)";
/// Calls that go with time, not with what is done: the queue is polled, outputs are followed, lines written, and tasks
/// and what they lack are looked at for as long as they take to come up, which is this machine's speed.
const BY_TIME: [&str; 6] = ["sqs:", "s3:", "logs:", "ecs:DescribeTasks", "ecs:DescribeServices", "ecs:ListTasks"];

/// One cell.
struct Cell {
    name: &'static str,
    fault: Value,
    /// What a declined push says; nothing when it deploys.
    says: Option<&'static str>,
    /// Whether the server starts anew under the fault: then it reads what it had in mind before.
    restarts: bool,
}

fn passes(name: &'static str, target: &str, times: u32, kind: Value) -> Cell {
    let mut fault = kind;
    fault["target"] = json!(target);
    fault["times"] = json!(times);
    Cell { name, fault, says: None, restarts: false }
}

fn stays(name: &'static str, target: &str, says: &'static str, kind: Value) -> Cell {
    let mut fault = kind;
    fault["target"] = json!(target);
    Cell { name, fault, says: Some(says), restarts: false }
}

fn lost() -> Value {
    json!({"drop": "after"})
}

#[test]
fn an_app_that_serves_is_deployed_again() {
    let refused = "User: server is not authorized to perform: ecs:UpdateService";
    let no_room =
        json!({"tasks": [], "failures": [{"reason": "Capacity is unavailable at this time. Please try again later"}]});
    let missing = json!({"tasks": [], "failures": [{"arn": "arn:aws:ecs:us-east-1:000000000000:task/gone", "reason": "MISSING"}]});
    let cells = [
        passes(
            "RegisterTaskDefinition is throttled",
            "^ecs:RegisterTaskDefinition ",
            2,
            json!({"status": 400, "code": "ThrottlingException", "message": "Rate exceeded"}),
        ),
        passes("UpdateService fails", "^ecs:UpdateService ", 2, json!({"status": 500, "code": "ServerException"})),
        passes("UpdateService's answer is lost", "^ecs:UpdateService ", 1, lost()),
        Cell {
            restarts: true,
            ..passes("DescribeTasks misses tasks", "^ecs:DescribeTasks ", 2, json!({"merge": missing}))
        },
        passes("RunTask's answer is lost", "^ecs:RunTask ", 1, lost()),
        passes("there is no room for a moment", "^ecs:RunTask ", 2, json!({"body": no_room.to_string()})),
        passes("PutImage's answer is lost", r"^registry:PUT /v2/\S+/manifests/", 1, lost()),
        stays(
            "UpdateService is refused",
            "^ecs:UpdateService ",
            "not authorized to perform: ecs:UpdateService",
            json!({"status": 400, "code": "AccessDeniedException", "message": refused}),
        ),
    ];

    let platform = Platform::on_aws_through_a_line();
    let app = platform.repository("release-phase");
    app.paas("create steady").done();
    app.push().done();
    let mut deploy = Deploy { platform: &platform, app, name: "steady", round: 1 };
    let clean = deploy.again(None);
    let mut report = vec![format!("clean: {} calls {clean:?}", sum(&clean))];
    for cell in &cells {
        let since = Instant::now();
        let calls = deploy.again(Some(cell));
        let hits = platform.line().hits();
        assert!(hits > 0, "{}: no call was met", cell.name);
        report.push(format!("{}: {} calls, {hits} met, {:.1?}, {calls:?}", cell.name, sum(&calls), since.elapsed()));
        if cell.says.is_some() {
            deploy.once_more();
        } else if !cell.restarts {
            within(&calls, &clean, &report);
        }
        holds(&platform, "steady");
    }
    eprintln!("{}", report.join("\n"));
    platform.finish();
}

#[test]
fn an_app_is_deployed_for_the_first_time() {
    let cells = [
        passes("CreateService's answer is lost", "^ecs:CreateService ", 1, lost()),
        passes("CreateRule's answer is lost", "^elasticloadbalancing:CreateRule ", 1, lost()),
        passes("CreateSecret's answer is lost", "^secretsmanager:CreateSecret ", 1, lost()),
        stays(
            "no more target groups",
            "^elasticloadbalancing:CreateTargetGroup ",
            "too many target groups",
            json!({"status": 400, "code": "TooManyTargetGroups", "message": "You have too many target groups"}),
        ),
    ];
    let platform = Platform::on_aws_through_a_line();
    // What all apps have in common is in the registry after the first one.
    let _ = first(&platform, "app-before", &json!([]), None);
    let clean = first(&platform, "app-clean", &json!([]), None);
    let names = ["app-a", "app-b", "app-c", "app-d"];
    let mut report = vec![format!("clean: {} calls {clean:?}", sum(&clean))];
    for (cell, name) in cells.iter().zip(names) {
        let since = Instant::now();
        let calls = first(&platform, name, &json!([cell.fault]), cell.says);
        let hits = platform.line().hits();
        assert!(hits > 0, "{}: no call was met", cell.name);
        report.push(format!("{}: {} calls, {hits} met, {:.1?}, {calls:?}", cell.name, sum(&calls), since.elapsed()));
        if cell.says.is_none() {
            within(&calls, &clean, &report);
        }
        holds(&platform, name);
    }
    eprintln!("{}", report.join("\n"));
    platform.finish();
}

/// The first push of a new app under this fault, and when it is declined, another one without. Answers the calls of
/// the one under the fault.
fn first(platform: &Platform, name: &str, faults: &Value, says: Option<&str>) -> BTreeMap<String, u64> {
    let app = platform.repository("procfile-only");
    platform.line().begin(faults);
    app.paas(&format!("create {name}")).done();
    let push = app.push();
    match says {
        None => {
            push.done();
            at_rest(platform, name);
        }
        Some(says) => {
            push.exits(1).tells(says).tells(DECLINED);
        }
    }
    let calls = calls(platform);
    if says.is_some() {
        platform.line().lift();
        app.push().done();
        at_rest(platform, name);
    }
    platform.serves(name, "Hello from procfile-only v1", platform.soon());
    calls
}

/// An app that is deployed again and again.
struct Deploy<'a> {
    platform: &'a Platform,
    app: Repository<'a>,
    name: &'static str,
    round: u32,
}

impl Deploy<'_> {
    /// A new version in this cell; answers the calls that it took.
    fn again(&mut self, cell: Option<&Cell>) -> BTreeMap<String, u64> {
        let before = self.version();
        self.round += 1;
        self.app.replace("serve.pl", &before, &self.version());
        self.app.commit(&self.version());
        let faults: Vec<&Value> = cell.iter().map(|cell| &cell.fault).collect();
        self.platform.line().begin(&json!(faults));
        if cell.is_some_and(|cell| cell.restarts) {
            self.platform.kill_server();
            self.platform.start_server(&[]);
        }
        let push = self.app.push();
        let says = cell.and_then(|cell| cell.says);
        if let Some(says) = says {
            push.exits(1).tells(says).tells(DECLINED);
            self.platform.serves(self.name, &before, self.platform.soon());
        } else {
            let push = push.done();
            assert_eq!(push.stderr.matches("migrating with status 0").count(), 1, "{push}");
            self.platform.serves(self.name, &self.version(), self.platform.soon());
            at_rest(self.platform, self.name);
        }
        calls(self.platform)
    }

    /// The same version, with nothing in its way.
    fn once_more(&self) {
        self.platform.line().lift();
        self.app.push().done();
        self.platform.serves(self.name, &self.version(), self.platform.soon());
        at_rest(self.platform, self.name);
    }

    fn version(&self) -> String {
        format!("release-phase v{}", self.round)
    }
}

/// The calls since the line began, but for those that go with time.
fn calls(platform: &Platform) -> BTreeMap<String, u64> {
    let mut calls = platform.line().calls();
    calls.retain(|name, _| !BY_TIME.iter().any(|service| name.starts_with(service)));
    // Which blob it was does not matter.
    let mut counted = BTreeMap::new();
    for (name, count) in calls {
        let name = name.split("/v2/").next().unwrap_or_default().to_owned();
        *counted.entry(name).or_default() += count;
    }
    counted
}

/// At most half as many calls again.
fn within(calls: &BTreeMap<String, u64>, clean: &BTreeMap<String, u64>, report: &[String]) {
    let (many, most) = (sum(calls), sum(clean) * 3 / 2);
    assert!(many <= most, "{many} calls are more than {most}:\n{}", report.join("\n"));
}

fn sum(calls: &BTreeMap<String, u64>) -> u64 {
    calls.values().sum()
}

/// The account's service of the app's web, as ECS shows it.
fn service(platform: &Platform, app: &str) -> Value {
    let cluster = &platform.outputs()["Cluster"];
    let id: paas_domain::AppId = platform.app_id(app).parse().expect("an id");
    let name = format!("paas-{}-{}-web", platform.install(), paas_domain::app13(&id));
    let asked = json!({"cluster": cluster, "services": [name], "include": ["TAGS"]});
    platform.owner().call("ecs", "DescribeServices", &asked)["services"][0].take()
}

/// Waits until the deployment is over, and the release before has gone.
fn at_rest(platform: &Platform, app: &str) {
    until(&format!("{app} is at rest"), platform.soon() * 2, || {
        let service = service(platform, app);
        let deployments = service["deployments"].as_array()?;
        let whole = service["runningCount"] == service["desiredCount"] && service["pendingCount"] == 0;
        let over = deployments.len() == 1 && deployments[0]["rolloutState"] == "COMPLETED";
        (whole && over && service["desiredCount"] == 1).then_some(())
    });
}

/// What is on the account is what the releases say: the current one runs, one rule leads to it, and whatever its
/// definition names is there.
fn holds(platform: &Platform, app: &str) {
    let releases = platform.releases(app);
    let versions: Vec<i64> = releases.iter().filter_map(|release| release["version"].as_i64()).collect();
    assert_eq!(versions, (1..=i64::try_from(releases.len()).expect("few")).collect::<Vec<_>>(), "versions are dense");
    let current: Vec<&Value> = releases.iter().filter(|release| release["current"] == true).collect();
    let newest = releases.iter().rfind(|release| release["status"] == "succeeded");
    assert_eq!(current, newest.into_iter().collect::<Vec<_>>(), "the newest that succeeded is current");

    let owner = platform.owner();
    let service = service(platform, app);
    let asked = json!({"taskDefinition": service["taskDefinition"], "include": ["TAGS"]});
    let definition = owner.call("ecs", "DescribeTaskDefinition", &asked);
    let version = current[0]["version"].to_string();
    let tags = definition["tags"].as_array().expect("tags");
    assert!(tags.contains(&json!({"key": "paas:release", "value": version})), "not {version}: {tags:?}");
    for secret in definition["taskDefinition"]["containerDefinitions"][0]["secrets"].as_array().expect("secrets") {
        let parts: Vec<&str> = secret["valueFrom"].as_str().expect("a reference").split(':').collect();
        let _ = owner.call("secretsmanager", "GetSecretValue", &json!({"SecretId": parts[..7].join(":")}));
    }

    let id: paas_domain::AppId = platform.app_id(app).parse().expect("an id");
    let tail = paas_domain::app13(&id);
    let objects = platform.objects(&tail);
    let count = |kind: &str| objects.iter().filter(|object| object.starts_with(kind)).count();
    let found = ["service ", "target group ", "rule ", "repository ", "listener "].map(count);
    assert_eq!(found, [1, 1, 1, 1, 0], "{objects:#?}");
    platform.are_up(app, "web", 1);
}
