//! Every state a stack can be found in, on an account that obeys CloudFormation's documented rules.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use super::super::account::{Account, Certificate, Change, Event, Proposal, Stack, Zone};
use super::super::parameters::{Parameters, Wish};
use super::super::{InstallError, Pace, Talk, install};
use super::{Outcome, STACK};
use crate::error::{AwsError, Kind};

const ARN: &str = "arn:aws:cloudformation:us-east-1:123456789012:stack/paas/1";

#[derive(Default)]
struct Inner {
    stack: Option<Stack>,
    body: String,
    proposals: BTreeMap<String, (Proposal, String, Stack)>,
    events: Vec<Event>,
    /// How the next operation ends, and what fails in it.
    ends: Vec<(&'static str, Option<&'static str>)>,
    /// How many looks until it has ended.
    looks: u32,
    pending: Option<(Stack, String)>,
    calls: Vec<&'static str>,
    denied: Option<&'static str>,
    changes: Vec<Change>,
}

#[derive(Default)]
struct Fake(Mutex<Inner>);

impl Fake {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().expect("no test panicked with it"))
    }

    fn said(&self, call: &'static str) -> Result<(), AwsError> {
        self.with(|inner| {
            inner.calls.push(call);
            if inner.denied == Some(call) {
                return Err(AwsError {
                    kind: Kind::Denied,
                    code: "AccessDenied".into(),
                    message: "User: arn:aws:iam::1:user/x is not authorized to perform: cloudformation:CreateChangeSet"
                        .into(),
                    doing: "asking CloudFormation what it would do".into(),
                });
            }
            Ok(())
        })
    }

    fn found(status: &str, parameters: &BTreeMap<String, String>) -> Self {
        let fake = Self::default();
        fake.with(|inner| {
            inner.stack = Some(Stack {
                id: ARN.into(),
                status: status.into(),
                parameters: parameters.clone(),
                ..Stack::default()
            });
            inner.event("paas", ARN, STACK, status, "");
        });
        fake
    }

    fn ends(self, status: &'static str, fails: Option<&'static str>) -> Self {
        self.with(|inner| inner.ends.push((status, fails)));
        self
    }

    fn made(&self, call: &str) -> usize {
        self.with(|inner| inner.calls.iter().filter(|made| **made == call).count())
    }
}

impl Inner {
    fn event(&mut self, resource: &str, physical: &str, kind: &str, status: &str, reason: &str) {
        let id = format!("event-{}", self.events.len());
        self.events.push(Event {
            id,
            resource: resource.into(),
            kind: kind.into(),
            physical_id: physical.into(),
            status: status.into(),
            reason: reason.into(),
        });
    }

    /// Starts an operation; it ends some looks later.
    fn start(&mut self, moving: &str, end: Stack, body: String) {
        self.event("paas", ARN, STACK, moving, "User Initiated");
        if let Some(stack) = &mut self.stack {
            stack.status = moving.into();
        }
        self.looks = 3;
        self.pending = Some((end, body));
    }

    fn look(&mut self) {
        if self.pending.is_none() {
            return;
        }
        if self.looks > 0 {
            self.looks -= 1;
            return;
        }
        let Some((mut end, body)) = self.pending.take() else { return };
        let (status, fails) = if self.ends.is_empty() {
            (end.status.clone(), None)
        } else {
            let (status, fails) = self.ends.remove(0);
            (status.to_owned(), fails)
        };
        if let Some(reason) = fails {
            self.event("Key", "", "AWS::KMS::Key", "CREATE_FAILED", "Resource creation cancelled");
            self.event("Bucket", "", "AWS::S3::Bucket", "CREATE_FAILED", reason);
        }
        self.event("paas", ARN, STACK, &status, "");
        end.status = status.clone();
        self.body = body;
        self.stack = (status != "DELETE_COMPLETE").then_some(end);
    }
}

#[async_trait]
impl Account for Fake {
    async fn account_id(&self) -> Result<String, AwsError> {
        Ok("123456789012".into())
    }

    async fn stack(&self, _: &str) -> Result<Option<Stack>, AwsError> {
        self.said("stack")?;
        Ok(self.with(|inner| {
            inner.look();
            inner.stack.clone()
        }))
    }

    async fn template(&self, _: &str) -> Result<String, AwsError> {
        Ok(self.with(|inner| inner.body.clone()))
    }

    async fn propose(
        &self,
        _: &str,
        name: &str,
        is_new: bool,
        body: &str,
        parameters: &Parameters,
    ) -> Result<(), AwsError> {
        self.said("propose")?;
        self.with(|inner| {
            let takes_new = inner.stack.as_ref().is_none_or(|stack| stack.status == "REVIEW_IN_PROGRESS");
            assert_eq!(is_new, takes_new, "CloudFormation refuses the other type");
            if inner.proposals.contains_key(name) {
                return;
            }
            let mut end = inner.stack.clone().unwrap_or(Stack { id: ARN.into(), ..Stack::default() });
            let unchanged = end.parameters == *parameters.as_map() && inner.body == body;
            end.parameters = parameters.as_map().clone();
            end.status = if is_new { "CREATE_COMPLETE".into() } else { "UPDATE_COMPLETE".into() };
            let proposal = if unchanged {
                let reason = "The submitted information didn't contain changes. Submit different information to create a change set.";
                Proposal { status: "FAILED".into(), reason: reason.into(), ..Proposal::default() }
            } else {
                Proposal { status: "CREATE_COMPLETE".into(), can_run: true, changes: inner.changes.clone(), ..Proposal::default() }
            };
            if inner.stack.is_none() {
                inner.stack = Some(Stack { id: ARN.into(), status: "REVIEW_IN_PROGRESS".into(), ..Stack::default() });
                inner.event("paas", ARN, STACK, "REVIEW_IN_PROGRESS", "User Initiated");
            }
            inner.proposals.insert(name.into(), (proposal, body.into(), end));
        });
        Ok(())
    }

    async fn proposal(&self, _: &str, name: &str) -> Result<Proposal, AwsError> {
        Ok(self.with(|inner| inner.proposals[name].0.clone()))
    }

    async fn execute(&self, _: &str, name: &str) -> Result<(), AwsError> {
        self.said("execute")?;
        self.with(|inner| {
            let (_, body, end) = inner.proposals.remove(name).expect("a proposal");
            let moving = if end.status == "CREATE_COMPLETE" { "CREATE_IN_PROGRESS" } else { "UPDATE_IN_PROGRESS" };
            inner.start(moving, end, body);
        });
        Ok(())
    }

    async fn withdraw(&self, _: &str, name: &str) -> Result<(), AwsError> {
        self.said("withdraw")?;
        self.with(|inner| inner.proposals.remove(name));
        Ok(())
    }

    async fn delete(&self, _: &str) -> Result<(), AwsError> {
        self.said("delete")?;
        self.with(|inner| {
            let end = Stack { status: "DELETE_COMPLETE".into(), ..Stack::default() };
            inner.start("DELETE_IN_PROGRESS", end, String::new());
        });
        Ok(())
    }

    async fn continue_rollback(&self, _: &str) -> Result<(), AwsError> {
        self.said("continue_rollback")?;
        self.with(|inner| {
            let end = Stack { status: "UPDATE_ROLLBACK_COMPLETE".into(), ..inner.stack.clone().expect("a stack") };
            let body = inner.body.clone();
            inner.start("UPDATE_ROLLBACK_IN_PROGRESS", end, body);
        });
        Ok(())
    }

    async fn events(&self, _: &str, after: Option<&str>) -> Result<Vec<Event>, AwsError> {
        Ok(self.with(|inner| {
            let from = after.and_then(|id| inner.events.iter().position(|event| event.id == id)).map_or(0, |at| at + 1);
            inner.events[from..].to_vec()
        }))
    }

    async fn zones(&self) -> Result<Vec<Zone>, AwsError> {
        Ok(vec![Zone { id: "ZOLD".into(), name: "example.com".into() }])
    }

    async fn has_cluster(&self, name: &str) -> Result<bool, AwsError> {
        Ok(name == "theirs")
    }

    async fn certificate(&self, _: &str) -> Result<Certificate, AwsError> {
        Ok(Certificate { status: "ISSUED".into(), names: vec!["*.other.com".into()] })
    }
}

#[derive(Default)]
struct Said(Mutex<Vec<String>>, bool);

impl Talk for Said {
    fn tell(&self, line: &str) {
        self.0.lock().expect("no test panicked with it").push(line.to_owned());
    }

    fn agree(&self, _: &str) -> bool {
        !self.1
    }
}

impl Said {
    fn has(&self, text: &str) -> bool {
        self.0.lock().expect("no test panicked with it").iter().any(|line| line.contains(text))
    }
}

fn wish() -> Wish {
    Wish { region: "us-east-1".into(), stack: "paas".into(), domain: "apps.example.com".into(), ..Wish::default() }
}

const FAST: Pace = Pace { poll: Duration::from_millis(1), patience: Duration::from_secs(60) };

async fn run(fake: &Fake, wish: &Wish) -> Result<(Outcome, Stack), InstallError> {
    install(fake, wish, &Said::default(), FAST).await
}

fn parameters() -> Parameters {
    Parameters::decide(&Wish { zone: Some("ZOLD".into()), ..wish() }, "123456789012", None).expect("parameters")
}

#[tokio::test]
async fn is_made_once_and_then_left_alone() {
    let fake = Fake::default();
    let said = Said::default();
    let (outcome, stack) = install(&fake, &wish(), &said, FAST).await.expect("installed");
    assert_eq!(outcome, Outcome::Created);
    assert_eq!(stack.parameters["HostedZoneId"], "ZOLD", "the account's zone is adopted");
    assert!(said.has("together") && said.has("Standard-1X"), "it says what it costs");
    let executed = fake.made("execute");
    let (outcome, _) = run(&fake, &wish()).await.expect("installed again");
    assert_eq!(outcome, Outcome::Unchanged);
    assert_eq!((fake.made("execute"), fake.made("propose")), (executed, 1), "a second run changes nothing");
    let (outcome, _) = run(&fake, &Wish { log_days: Some(90), ..wish() }).await.expect("changed");
    assert_eq!(outcome, Outcome::Updated);
    let (outcome, stack) = run(&fake, &wish()).await.expect("installed again");
    assert_eq!(outcome, Outcome::Unchanged);
    assert_eq!(stack.parameters["LogRetentionDays"], "90", "what was asked once stays");
}

#[tokio::test]
async fn goes_on_from_wherever_it_was_stopped() {
    let all = parameters();
    for (status, deletes) in [
        ("REVIEW_IN_PROGRESS", 0),
        ("ROLLBACK_COMPLETE", 1),
        ("ROLLBACK_FAILED", 1),
        ("CREATE_FAILED", 1),
        ("UPDATE_COMPLETE", 0),
        ("UPDATE_ROLLBACK_COMPLETE", 0),
    ] {
        let fake = Fake::found(status, all.as_map());
        let (_, stack) = run(&fake, &wish()).await.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert!(stack.is_whole(), "{status}");
        assert_eq!(fake.made("delete"), deletes, "{status}");
    }
    for (status, end) in [
        ("CREATE_IN_PROGRESS", "CREATE_COMPLETE"),
        ("UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"),
        ("ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"),
        ("DELETE_IN_PROGRESS", "DELETE_COMPLETE"),
    ] {
        let fake = Fake::found(status, all.as_map());
        fake.with(|inner| {
            let stack = inner.stack.clone().expect("a stack");
            inner.start(status, Stack { status: end.into(), ..stack }, String::new());
        });
        let (_, stack) = run(&fake, &wish()).await.unwrap_or_else(|error| panic!("{status}: {error}"));
        assert!(stack.is_whole(), "{status}");
    }
    let stuck = Fake::found("UPDATE_ROLLBACK_FAILED", all.as_map());
    run(&stuck, &wish()).await.expect("freed and updated");
    assert_eq!(stuck.made("continue_rollback"), 1);
}

#[tokio::test]
async fn says_what_failed_first() {
    let fake = Fake::default().ends("ROLLBACK_COMPLETE", Some("The bucket you tried to create exists already"));
    let error = run(&fake, &wish()).await.expect_err("failed").to_string();
    assert!(error.contains("AWS::S3::Bucket Bucket: The bucket you tried to create exists already"), "{error}");
    assert!(!error.contains("cancelled"), "{error}");
    run(&fake, &wish()).await.expect("the next run takes it away and makes it anew");
}

#[tokio::test]
async fn a_refusal_says_who_can_help() {
    let fake = Fake::default();
    fake.with(|inner| inner.denied = Some("propose"));
    let error = run(&fake, &wish()).await.expect_err("denied");
    assert!(matches!(&error, InstallError::Aws(error) if error.kind == Kind::Denied));
    let error = error.to_string();
    assert!(
        error.contains("cloudformation:CreateChangeSet") && error.contains("ask who manages the account"),
        "{error}"
    );
    assert_eq!(fake.made("execute"), 0);
}

#[tokio::test]
async fn does_nothing_without_a_yes() {
    let fake = Fake::default();
    let error = install(&fake, &wish(), &Said(Mutex::default(), true), FAST).await.expect_err("not agreed");
    assert!(matches!(error, InstallError::NotAgreed));
    assert_eq!(fake.made("propose"), 0);
}

#[tokio::test]
async fn what_it_would_lose_must_be_agreed_to() {
    let fake = Fake::found("CREATE_COMPLETE", parameters().as_map());
    fake.with(|inner| {
        inner.changes.push(Change {
            action: "Modify".into(),
            resource: "DatabaseInstance".into(),
            kind: "AWS::RDS::DBInstance".into(),
            replaces: true,
        });
    });
    let error = run(&fake, &wish()).await.expect_err("refused").to_string();
    assert!(error.contains("DatabaseInstance") && error.contains("--allow-replacement"), "{error}");
    assert_eq!(fake.made("execute"), 0);
    run(&fake, &Wish { replace: true, ..wish() }).await.expect("meant");
}

#[tokio::test]
async fn what_is_adopted_is_looked_at_first() {
    for (wish, word) in [
        (Wish { cluster: Some("gone".into()), ..wish() }, "no active cluster"),
        (Wish { certificate: Some("arn:x".into()), ..wish() }, "not for *.apps.example.com"),
        (Wish { zone: Some("ZNONE".into()), ..wish() }, "no public zone"),
        (Wish { zone: Some("ZOLD".into()), domain: "apps.example.org".into(), ..wish() }, "not in the zone"),
    ] {
        let fake = Fake::default();
        let error = run(&fake, &wish).await.expect_err("refused").to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(fake.made("propose"), 0);
    }
    let (_, stack) = run(&Fake::default(), &Wish { cluster: Some("theirs".into()), ..wish() }).await.expect("adopted");
    assert_eq!(stack.parameters["ClusterName"], "theirs");
}

#[tokio::test]
async fn patience_ends_with_words() {
    let fake = Fake::default();
    let pace = Pace { patience: Duration::ZERO, ..FAST };
    let error = install(&fake, &wish(), &Said::default(), pace).await.expect_err("too long").to_string();
    assert!(error.contains("run the same command again"), "{error}");
}
