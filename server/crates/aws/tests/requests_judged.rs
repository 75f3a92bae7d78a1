//! What our code asks of AWS, judged by AWS's own API models (botocore, by `infra/tests/judge.py`): also what no emulator
//! can show, Fargate Spot, ARM64 and session affinity. Requests go through a recorder to the emulator.

#[path = "support/judge.rs"]
mod judge;
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use paas_aws::account::sdk_config;
use paas_aws::install::{Pace, Sdk, Talk, Wish, install};
use paas_aws::sizes::Architecture;
use paas_aws::{
    AlbIngress, Aws, AwsOptions, AwsSecrets, Capacity, EcsOptions, EcsRuntime, Foundation, ImageNames, MemoryLedger,
    MemoryNotes, Timing,
};
use paas_domain::{
    AppId, ConfigId, ConfigVars, DynoSize, Generation, InstallId, ProcessType, Quantity, ReleaseVersion, SystemClock,
};
use paas_ports::fake::{FakeLogStore, FakeLogWorld};
use paas_ports::{ImageRef, Ingress as _, PortError, Runtime as _, ServiceSpec};
use serde_json::{Value, json};

/// One request: service, operation and body, as the judge takes them.
type Sent = Arc<Mutex<Vec<Value>>>;

/// Forwards to the emulator and writes down what went by; answers its address.
async fn recorder(sent: Sent) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (client, sent) = (client.clone(), Arc::clone(&sent));
            let carry = service_fn(move |request: Request<Incoming>| {
                let (client, sent) = (client.clone(), Arc::clone(&sent));
                async move {
                    let (mut head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    note(&sent, &head, &body);
                    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
                    head.uri = format!("{}{path}", support::endpoint().trim_end_matches('/')).parse().expect("a URI");
                    let answer = client.request(Request::from_parts(head, Full::new(body))).await.expect("an answer");
                    let (head, body) = answer.into_parts();
                    let body = body.collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(Response::from_parts(head, Full::new(body)))
                }
            });
            // A client that goes away is its own business.
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), carry);
            tokio::spawn(served);
        }
    });
    format!("http://{address}")
}

/// ECS names its operation in a header, ELBv2 in the body.
fn note(sent: &Sent, head: &http::request::Parts, body: &Bytes) {
    let body = String::from_utf8_lossy(body).into_owned();
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let request = if let Some(operation) = target.strip_prefix("AmazonEC2ContainerServiceV20141113.") {
        json!({"service": "ecs", "operation": operation, "body": body})
    } else if let Some(rest) = body.strip_prefix("Action=").filter(|_| body.contains("Version=2015-12-01")) {
        json!({"service": "elbv2", "operation": rest.split('&').next(), "body": body})
    } else {
        return;
    };
    sent.lock().expect("no panic while it was held").push(request);
}

fn judged(sent: &Sent) -> String {
    let sent = sent.lock().expect("no panic while it was held");
    judge::judged("requests", &serde_json::to_string(&*sent).expect("JSON"))
}

/// The body of the first request of this operation.
fn body(sent: &Sent, operation: &str) -> String {
    let sent = sent.lock().expect("no panic while it was held");
    let found = sent.iter().find(|request| request["operation"] == operation);
    found.unwrap_or_else(|| panic!("no {operation} was sent"))["body"].as_str().expect("a body").to_owned()
}

struct Silent;

impl Talk for Silent {
    fn tell(&self, _: &str) {}
    fn agree(&self, _: &str) -> bool {
        true
    }
}

/// A foundation in an account of the test's own, with its requests recorded.
async fn account() -> (Aws, Sent) {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).expect("random bytes");
    let number = format!("{:012}", u64::from_le_bytes(bytes) % 1_000_000_000_000);
    let sent = Sent::default();
    let endpoint = recorder(Arc::clone(&sent)).await;
    let options = AwsOptions { endpoint: Some(endpoint), ..support::options() };
    let credentials = SharedCredentialsProvider::new(Credentials::new(number, "test", None, None, "test"));
    let config = sdk_config(&options).await.into_builder().credentials_provider(credentials).build();
    let wish = Wish {
        region: "us-east-1".into(),
        stack: "judged".into(),
        domain: "judged.example.com".into(),
        database: Some("none".into()),
        ..Wish::default()
    };
    let pace = Pace { poll: Duration::from_millis(50), patience: Duration::from_secs(60) };
    let made = install(&Sdk::with_config(config.clone()), &wish, &Silent, pace).await;
    let (_, stack) = made.expect("a foundation");
    let foundation = Foundation::from_outputs(&stack.outputs).expect("a foundation");
    let install = InstallId::try_from(stack.outputs["Installation"].clone()).expect("an installation");
    (Aws::with_config(config, options, foundation, install), sent)
}

struct Images;

#[async_trait]
impl ImageNames for Images {
    async fn pinned(&self, _: &AppId, _: &ImageRef) -> Result<String, PortError> {
        Ok(format!("registry.invalid/app@sha256:{}", "0".repeat(64)))
    }
}

fn runtime(aws: &Aws, capacity: Capacity, architecture: Architecture) -> EcsRuntime {
    let options = EcsOptions {
        images: Arc::new(Images),
        secrets: Arc::new(AwsSecrets::new(aws.clone())),
        ledger: Arc::new(MemoryLedger::default()),
        notes: Arc::new(MemoryNotes::default()),
        logs: Arc::new(FakeLogStore(Arc::new(FakeLogWorld::default()))),
        links: None,
        link: None,
        clock: Arc::new(SystemClock),
        on_change: Arc::new(|_| {}),
        architecture,
        timing: Timing { pause: Duration::from_millis(50), ..Timing::default() },
    };
    EcsRuntime::on(capacity, aws.clone(), options)
}

async fn worker(runtime: &EcsRuntime, sent: &Sent) {
    let app = AppId::new();
    let spec = ServiceSpec {
        app: app.clone(),
        process_type: "worker".parse().expect("a type"),
        generation: Generation(1),
        release: ReleaseVersion(1),
        image: format!("sha256:{}", "0".repeat(64)).parse::<paas_domain::Digest>().map(ImageRef).expect("an image"),
        command: "true".to_owned(),
        config: ConfigVars::default(),
        config_id: ConfigId::new(),
        size: DynoSize::PerformanceM,
        quantity: Quantity::new(2).expect("a quantity"),
        attachment: None,
        restart: 0,
        revive: false,
    };
    for _ in 0..100 {
        runtime.ensure(&spec).await.expect("one step");
        if sent
            .lock()
            .expect("no panic while it was held")
            .iter()
            .any(|request| request["operation"] == "CreateService")
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    runtime.remove(&app, &spec.process_type, Generation(2)).await.expect("removed");
}

#[tokio::test]
async fn spot_and_arm64_are_asked_for_as_aws_has_them() {
    let (aws, sent) = account().await;
    worker(&runtime(&aws, Capacity::Spot, Architecture::Arm), &sent).await;
    let definition: Value = serde_json::from_str(&body(&sent, "RegisterTaskDefinition")).expect("JSON");
    assert_eq!(definition["runtimePlatform"]["cpuArchitecture"], "ARM64");
    assert_eq!((&definition["cpu"], &definition["memory"]), (&json!("2048"), &json!("4096")));
    let service: Value = serde_json::from_str(&body(&sent, "CreateService")).expect("JSON");
    assert!(service.get("launchType").is_none(), "AWS takes a launch type or a strategy");
    assert_eq!(
        service["capacityProviderStrategy"],
        json!([
            {"capacityProvider": "FARGATE", "base": 1, "weight": 1},
            {"capacityProvider": "FARGATE_SPOT", "base": 0, "weight": 4},
        ])
    );
    assert_eq!(judged(&sent), "");
}

#[tokio::test]
async fn what_is_asked_for_on_demand_is_what_aws_has() {
    let (aws, sent) = account().await;
    worker(&runtime(&aws, Capacity::OnDemand, Architecture::X86), &sent).await;
    let service: Value = serde_json::from_str(&body(&sent, "CreateService")).expect("JSON");
    assert_eq!(service["launchType"], "FARGATE");
    assert!(service.get("capacityProviderStrategy").is_none());
    assert_eq!(judged(&sent), "");
}

#[tokio::test]
async fn session_affinity_is_asked_for_as_aws_has_it() {
    let (aws, sent) = account().await;
    let ingress = AlbIngress::new(aws.clone(), Arc::new(MemoryLedger::default())).with_session_affinity();
    let web: ProcessType = "web".parse().expect("a type");
    ingress.place(&AppId::new(), &web).await.expect("placed");
    let attributes = body(&sent, "ModifyTargetGroupAttributes");
    for pair in ["stickiness.enabled", "stickiness.type", "lb_cookie", "stickiness.lb_cookie.duration_seconds"] {
        assert!(attributes.contains(pair), "{attributes}");
    }
    assert_eq!(judged(&sent), "");
    // Without the wish nothing of it is sent.
    let (aws, sent) = account().await;
    let ingress = AlbIngress::new(aws, Arc::new(MemoryLedger::default()));
    ingress.place(&AppId::new(), &web).await.expect("placed");
    assert!(!body(&sent, "ModifyTargetGroupAttributes").contains("stickiness"));
    assert_eq!(judged(&sent), "");
}
