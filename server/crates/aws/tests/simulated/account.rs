//! An AWS account in this process: what the drivers' own SDK clients are answered by, on tokio's clock.
//!
//! It answers as AWS documents, refuses what AWS's token buckets refuse, lets some time pass before it answers, and
//! writes down every call. At a chosen [`point`](Account::point) whoever calls can be cut off, before a call's effect
//! or behind it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use paas_aws::account::sdk_config;
use paas_aws::{Aws, AwsOptions, Call, Family};
use paas_domain::{Clock, InstallId, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{Notify, OnceCell};
use tokio::time::{Instant, sleep};

use super::{ecs, others, support};

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From a request to its answer.
    pub(crate) call: Duration,
    /// From a task's making to its container.
    pub(crate) start: Duration,
    /// From there until its target is healthy.
    pub(crate) health: Duration,
    /// From a task's stop to its end.
    pub(crate) drain: Duration,
    /// How long a one-off dyno's command runs.
    pub(crate) run: Duration,
    /// From a change to its event in the queue; with `late`, up to so much more, so that events come in any order.
    pub(crate) event: Duration,
    pub(crate) late: Duration,
    /// How long describing and listing may show what was before.
    pub(crate) stale: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let s = Duration::from_secs;
        let (call, event) = (Duration::from_millis(40), Duration::from_millis(500));
        Self { call, start: s(6), health: s(3), drain: s(5), run: s(4), event, late: s(0), stale: s(0) }
    }
}

/// The account. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Account(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) pace: Pace,
    state: Mutex<State>,
    /// Something came into the queue.
    pub(crate) told: Notify,
    /// A task's container runs.
    pub(crate) ran: Notify,
    points: Mutex<Points>,
    cut: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) ecs: ecs::State,
    pub(crate) others: others::State,
    buckets: HashMap<Family, (f64, Instant)>,
    calls: BTreeMap<String, usize>,
    refused: usize,
    made: u64,
}

#[derive(Default)]
struct Points {
    passed: usize,
    cut_at: Option<usize>,
}

/// What every configuration begins with: reading the environment takes its time.
static BASE: OnceCell<SdkConfig> = OnceCell::const_new();

/// What AWS answers: a status and a body.
pub(crate) type Answer = (u16, String);

/// A refusal in the JSON protocols.
pub(crate) fn refusal(code: &str, message: &str) -> Answer {
    (400, json!({"__type": code, "message": message}).to_string())
}

impl std::ops::Deref for Account {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Account")
    }
}

impl Account {
    /// One that goes by `pace`.
    pub(crate) fn new(pace: Pace) -> Self {
        let (state, points) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { pace, state, told: Notify::new(), ran: Notify::new(), points, cut: Notify::new() }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The product's own view of it: its clients, its retries, its buckets, as new as after a start of the server.
    pub(crate) async fn aws(&self, install: &InstallId) -> Aws {
        let endpoint = Some("http://aws.simulated".to_owned());
        let options = AwsOptions { region: Some("us-east-1".to_owned()), endpoint, ..AwsOptions::default() };
        let config = BASE.get_or_init(|| sdk_config(&options)).await.clone().into_builder();
        let config = config.region(Region::new("us-east-1")).http_client(self.clone()).credentials_provider(
            SharedCredentialsProvider::new(Credentials::new("AKID", "secret", None, None, "simulated")),
        );
        let mut foundation = support::foundation(install);
        foundation.hosted_zone_id = "Z1".to_owned();
        foundation.load_balancer_arn = "arn:balancer".to_owned();
        foundation.https_listener_arn = "arn:listener".to_owned();
        Aws::with_config(config.build(), options, foundation, install.clone())
    }

    /// How often calls of this service were made, refused ones too, since [`forget_calls`](Self::forget_calls).
    pub(crate) fn calls(&self, service: &str) -> usize {
        self.lock().calls.iter().filter(|(call, _)| call.split(':').next() == Some(service)).map(|(_, n)| n).sum()
    }

    /// How often one call was made.
    pub(crate) fn count(&self, call: Call) -> usize {
        self.lock().calls.get(call.action()).copied().unwrap_or_default()
    }

    /// Every call that was made and how often, queue aside.
    pub(crate) fn told(&self) -> String {
        let state = self.lock();
        let calls = state.calls.iter().filter(|(call, _)| !call.starts_with("sqs"));
        calls.map(|(call, n)| format!("{call}×{n}")).collect::<Vec<_>>().join(" ")
    }

    /// How many calls were refused for their rate.
    pub(crate) fn refused(&self) -> usize {
        self.lock().refused
    }

    pub(crate) fn forget_calls(&self) {
        self.lock().calls.clear();
    }

    /// Cuts whoever passes the point of this number off, counted from now on; nobody without a number.
    pub(crate) fn cut_at(&self, point: Option<usize>) {
        *self.points.lock().unwrap_or_else(PoisonError::into_inner) = Points { passed: 0, cut_at: point };
    }

    /// One step's beginning or end. Never returns to whom is cut off.
    pub(crate) async fn point(&self) {
        let cut = {
            let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
            points.passed += 1;
            points.cut_at == Some(points.passed)
        };
        if cut {
            self.cut.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// Runs `work` to its end, or `None` when it was cut off on the way.
    pub(crate) async fn until_cut<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.cut.notified() => None,
            done = work => Some(done),
        }
    }

    async fn answer(&self, request: &HttpRequest) -> Answer {
        let Asked { service, operation, words } = Asked::read(request);
        let queue = service == "sqs";
        // A read has no effect that one could end behind.
        let changes = !queue && !operation.starts_with("Describe") && !operation.starts_with("List");
        sleep(self.pace.call / 2).await;
        if !queue {
            self.point().await;
        }
        let answer = match (service.as_str(), self.admit(&service, &operation)) {
            (_, false) => refusal("ThrottlingException", "Rate exceeded"),
            ("ecs", true) => ecs::answer(self, &operation, &words),
            ("sqs", true) => others::queue(self, &operation, &words).await,
            (_, true) => others::answer(self, &service, &operation, &words),
        };
        if changes {
            self.point().await;
        }
        sleep(self.pace.call / 2).await;
        answer
    }

    /// Writes a call down, and whether AWS's token bucket lets it through.
    fn admit(&self, service: &str, operation: &str) -> bool {
        let mut state = self.lock();
        let action = format!("{service}:{operation}");
        let call = Call::ALL.iter().find(|call| call.action() == action);
        *state.calls.entry(action).or_default() += 1;
        let Some(family) = call.map(|call| call.family()) else { return true };
        let ((size, per_second), now) = (family.limit(), Instant::now());
        let (tokens, at) = state.buckets.entry(family).or_insert((size, now));
        *tokens = (*tokens + (now - *at).as_secs_f64() * per_second).min(size);
        *at = now;
        let granted = *tokens >= 1.0;
        if granted {
            *tokens -= 1.0;
        } else {
            state.refused += 1;
        }
        granted
    }
}

impl State {
    /// The next number of this account.
    pub(crate) fn number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }
}

/// What a request asks for.
struct Asked {
    service: String,
    operation: String,
    /// The JSON body; a form's fields; for REST the text itself.
    words: Value,
}

impl Asked {
    fn read(request: &HttpRequest) -> Self {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        if let Some((target, operation)) = request.headers().get("x-amz-target").and_then(|text| text.split_once('.')) {
            let service = match target {
                "AmazonEC2ContainerServiceV20141113" => "ecs",
                "AmazonSQS" => "sqs",
                other => other,
            };
            let words = serde_json::from_str(&body).expect("JSON");
            return Self { service: service.to_owned(), operation: operation.to_owned(), words };
        }
        if let Some(fields) = body.strip_prefix("Action=") {
            let operation = fields.split('&').next().unwrap_or_default().to_owned();
            return Self { service: "elasticloadbalancing".to_owned(), operation, words: json!(fields) };
        }
        let operation = if request.method() == "POST" { "ChangeResourceRecordSets" } else { "ListResourceRecordSets" };
        Self { service: "route53".to_owned(), operation: operation.to_owned(), words: json!(body) }
    }
}

impl HttpClient for Account {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Account {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let account = self.clone();
        HttpConnectorFuture::new(async move {
            let (status, body) = account.answer(&request).await;
            Ok(HttpResponse::new(StatusCode::try_from(status).expect("a status"), SdkBody::from(body)))
        })
    }
}

/// The time of the account and of whoever works with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VirtualClock(Instant);

impl VirtualClock {
    pub(crate) fn at(&self, instant: Instant) -> Timestamp {
        let ms = i64::try_from((instant - self.0).as_millis()).expect("a short test");
        Timestamp(1_795_428_000_000).plus_ms(ms)
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }
}
