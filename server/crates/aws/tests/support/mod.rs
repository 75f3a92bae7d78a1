//! The emulator that contract tests run against, as an account with a foundation of one test's own.
#![allow(dead_code, unreachable_pub)]

use std::time::Duration;

use paas_aws::{Aws, AwsOptions, Foundation};
use paas_domain::InstallId;

/// Where the emulator listens.
///
/// # Panics
/// When there is none.
pub fn endpoint() -> String {
    std::env::var("PAAS_TEST_AWS").expect("not run: no AWS emulator (PAAS_TEST_AWS is not set)")
}

/// Host and port of the emulator, which is also its registry.
pub fn registry() -> String {
    endpoint().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// How calls are made in tests: short pauses.
pub fn options() -> AwsOptions {
    AwsOptions {
        region: Some("us-east-1".to_owned()),
        endpoint: Some(endpoint()),
        registry: Some(registry()),
        try_timeout: Duration::from_secs(20),
        tries: 3,
        backoff: Duration::from_millis(50),
    }
}

/// A foundation with the things that tests of ECS make themselves, named after the installation.
pub fn foundation(install: &InstallId) -> Foundation {
    let text = |what: &str| format!("paas-{install}-{what}");
    Foundation {
        region: "us-east-1".to_owned(),
        account_id: "000000000000".to_owned(),
        cluster: text("cluster"),
        vpc_id: "vpc-test".to_owned(),
        subnets: vec!["subnet-a".to_owned(), "subnet-b".to_owned()],
        alb_security_group: "sg-alb".to_owned(),
        dyno_security_group: "sg-dynos".to_owned(),
        public_ip: true,
        execution_role_arn: format!("arn:aws:iam::000000000000:role/{}", text("execution")),
        task_role_arn: format!("arn:aws:iam::000000000000:role/{}", text("task")),
        log_group: format!("/{}", text("dynos")),
        events_queue_url: String::new(),
        bucket: text("bucket"),
        kms_key_arn: None,
        hosted_zone_id: String::new(),
        app_domain: "apps.test".to_owned(),
        load_balancer_arn: String::new(),
        https_listener_arn: String::new(),
        certificate_arn: String::new(),
    }
}

/// The account of this installation.
pub async fn account(install: &InstallId) -> Aws {
    Aws::new(options(), foundation(install), install.clone()).await
}

/// Makes the foundation's bucket. The emulator asks nobody who does.
pub async fn make_bucket(aws: &Aws) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(registry()).await.expect("not run: no AWS emulator");
    let (name, host) = (&aws.foundation.bucket, registry());
    let request = format!("PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Tells the rig what else is so on its account (`tests/aws-rig/state.py`).
pub async fn put_state(path: &str, what: &str) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let rig = std::env::var("PAAS_TEST_AWS_STATE").expect("not run: no AWS rig (PAAS_TEST_AWS_STATE is not set)");
    let rig = rig.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = tokio::net::TcpStream::connect(rig).await.expect("not run: no AWS rig");
    let length = what.len();
    let request =
        format!("PUT {path} HTTP/1.1\r\nHost: {rig}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{what}");
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains(" 200 "), "{answer}");
}

/// The engine that the emulator starts containers with.
///
/// # Panics
/// When none answers.
pub async fn docker() -> bollard::Docker {
    let socket = std::env::var("PAAS_TEST_DOCKER").unwrap_or_else(|_| "/var/run/docker.sock".to_owned());
    let docker = bollard::Docker::connect_with_unix(&socket, 120, bollard::API_DEFAULT_VERSION);
    match docker {
        Ok(docker) => docker.negotiate_version().await.expect("not run: no Docker engine"),
        Err(e) => panic!("not run: no Docker engine at {socket}: {e}"),
    }
}

/// A certificate for this address that is its own authority, and that authority as PEM.
pub fn tls(address: &str) -> (std::sync::Arc<rustls::ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(vec![address.to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate");
    (std::sync::Arc::new(config), made.cert.pem())
}
