//! What our code asks of AWS, judged by AWS's own API models (botocore, by `infra/tests/judge.py`): also what no emulator
//! can show, Fargate Spot, ARM64 and session affinity. Requests go through a recorder to the emulator.

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
use paas_aws::{
    AlbIngress, Aws, AwsOptions, AwsSecrets, EcsOptions, EcsRuntime, Foundation, ImageNames, MemoryLedger, MemoryNotes,
    Timing,
};
use paas_domain::{
    AppId, Architecture, Capacity, ConfigId, ConfigVars, DynoSize, Generation, InstallId, ProcessType, Quantity,
    ReleaseVersion, SystemClock,
};
use paas_ports::fake::{FakeLogStore, FakeLogWorld};
use paas_ports::{ImageRef, Ingress as _, PortError, Route, Runtime as _, ServiceSpec};
use serde_json::{Value, json};

use crate::{judge, support};

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

fn runtime(aws: &Aws) -> EcsRuntime {
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
        timing: Timing { pause: Duration::from_millis(50), ..Timing::default() },
    };
    EcsRuntime::new(aws.clone(), options)
}

async fn worker(aws: &Aws, sent: &Sent, architecture: Architecture, capacity: Capacity) {
    worker_until(aws, sent, (architecture, capacity), "CreateService").await;
}

/// Brings a worker on its way until this was asked.
async fn worker_until(aws: &Aws, sent: &Sent, (architecture, capacity): (Architecture, Capacity), operation: &str) {
    let runtime = runtime(aws);
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
        architecture,
        capacity,
        quantity: Quantity::new(2).expect("a quantity"),
        attachment: None,
        restart: 0,
        revive: false,
    };
    for _ in 0..200 {
        runtime.ensure(&spec).await.expect("one step");
        let sent = sent.lock().expect("no panic while it was held").clone();
        if sent.iter().any(|request| request["operation"] == operation) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    runtime.remove(&app, &spec.process_type, Generation(2)).await.expect("removed");
}

#[tokio::test]
async fn spot_and_arm64_are_asked_for_as_aws_has_them() {
    let (aws, sent) = account().await;
    worker(&aws, &sent, Architecture::Arm, Capacity::Spot).await;
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
async fn the_way_from_spot_on_demand_is_asked_for_as_aws_has_it() {
    let (aws, sent) = account().await;
    let cluster = aws.foundation.cluster.rsplit('/').next().expect("a name").to_owned();
    let full = json!({cluster: {"FARGATE_SPOT": "Capacity is unavailable at this time."}});
    support::put_state("/capacity", &full.to_string()).await;
    worker_until(&aws, &sent, (Architecture::X86, Capacity::Spot), "UpdateService").await;
    let change: Value = serde_json::from_str(&body(&sent, "UpdateService")).expect("JSON");
    let on_demand = json!([{"capacityProvider": "FARGATE", "base": 0, "weight": 1}]);
    assert_eq!((&change["capacityProviderStrategy"], &change["forceNewDeployment"]), (&on_demand, &json!(true)));
    assert_eq!(judged(&sent), "");
}

#[tokio::test]
async fn what_is_asked_for_on_demand_is_what_aws_has() {
    let (aws, sent) = account().await;
    worker(&aws, &sent, Architecture::X86, Capacity::OnDemand).await;
    let service: Value = serde_json::from_str(&body(&sent, "CreateService")).expect("JSON");
    assert_eq!(service["launchType"], "FARGATE");
    assert!(service.get("capacityProviderStrategy").is_none());
    // ECS rolls so, and gives up after three tasks.
    let rolling = &service["deploymentConfiguration"];
    assert_eq!((&rolling["minimumHealthyPercent"], &rolling["maximumPercent"]), (&json!(100), &json!(200)));
    assert_eq!(
        rolling["deploymentCircuitBreaker"],
        json!({"enable": true, "rollback": true, "thresholdConfiguration": {"type": "COUNT", "value": 3}})
    );
    let definition: Value = serde_json::from_str(&body(&sent, "RegisterTaskDefinition")).expect("JSON");
    assert_eq!(definition["taskRoleArn"], aws.foundation.task_role_arn);
    assert_eq!(definition["executionRoleArn"], aws.foundation.execution_role_arn);
    let container = &definition["containerDefinitions"][0];
    assert_eq!(container["privileged"], false);
    assert_eq!(container["linuxParameters"], json!({"capabilities": {"drop": ["ALL"]}}));
    assert_eq!(container["healthCheck"]["command"], json!(["CMD", "/paas/launcher", "health"]));
    assert_eq!(judged(&sent), "");
}

#[tokio::test]
async fn session_affinity_is_asked_for_as_aws_has_it() {
    let (aws, sent) = account().await;
    let ingress = AlbIngress::new(aws, Arc::new(MemoryLedger::default()));
    let (app, web) = (AppId::new(), ProcessType::web());
    let pool = ingress.place(&app, &web).await.expect("placed");
    let group = body(&sent, "CreateTargetGroup");
    for pair in ["HealthCheckIntervalSeconds=5", "HealthCheckTimeoutSeconds=4", "TargetType=ip", "HttpCode=200-499"] {
        assert!(group.contains(pair), "{group}");
    }
    let attributes = body(&sent, "ModifyTargetGroupAttributes");
    assert!(
        attributes.contains("Key=deregistration_delay.timeout_seconds&Attributes.member.1.Value=35"),
        "{attributes}"
    );
    let route = |generation, session_affinity| Route {
        app: app.clone(),
        app_name: "example".parse().expect("a name"),
        generation: Generation(generation),
        hosts: vec!["example.judged.example.com".parse().expect("a host")],
        attachment: Some(pool.clone()),
        released: true,
        maintenance: false,
        session_affinity,
    };
    let asked = |sent: &Sent| {
        let mut sent = sent.lock().expect("no panic while it was held");
        let changes = sent.iter().filter(|request| request["operation"] == "ModifyTargetGroupAttributes");
        let bodies: Vec<String> = changes.map(|request| request["body"].to_string()).collect();
        sent.clear();
        bodies
    };
    assert_eq!(judged(&sent), "");
    assert!(asked(&sent).iter().all(|body| body.contains("stickiness.enabled") && !body.contains("lb_cookie")));
    ingress.publish(&route(1, false)).await.expect("published");
    assert!(asked(&sent).is_empty(), "nobody wishes for it");
    ingress.publish(&route(2, true)).await.expect("published");
    assert_eq!(judged(&sent), "");
    let told = asked(&sent);
    assert_eq!(told.len(), 1);
    for word in ["stickiness.enabled", "stickiness.type", "lb_cookie", "stickiness.lb_cookie.duration_seconds"] {
        assert!(told[0].contains(word), "{told:?}");
    }
    ingress.publish(&route(3, true)).await.expect("published");
    assert!(asked(&sent).is_empty(), "it was told already");
    ingress.publish(&route(4, false)).await.expect("published");
    assert_eq!(judged(&sent), "");
    let told = asked(&sent);
    assert!(told.len() == 1 && told[0].contains("stickiness.enabled") && !told[0].contains("lb_cookie"), "{told:?}");
}
