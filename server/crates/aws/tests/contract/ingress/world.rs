//! An account with a balancer, a zone and a front door.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Certificate, FixedResponseActionConfig, ProtocolEnum, Tag, TargetDescription,
};
use aws_sdk_route53::types::{
    AliasTarget, Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType,
};
use paas_aws::{AlbIngress, Aws, MemoryLedger};
use paas_domain::InstallId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support;

/// Not ACM's, whose certificates are issued only when somebody validates them.
const CERTIFICATE: &str = "arn:aws:iam::000000000000:server-certificate/test";

/// One installation on the emulated account.
pub(crate) struct World {
    pub(crate) aws: Aws,
    pub(crate) ledger: Arc<MemoryLedger>,
    /// What every host of this test ends with.
    pub(crate) domain: String,
    pub(crate) dns_name: String,
}

impl World {
    pub(crate) async fn start() -> Self {
        let install = InstallId::random();
        let domain = format!("{install}.test");
        let mut foundation = support::foundation(&install);
        foundation.app_domain = format!("apps.{domain}");
        foundation.certificate_arn = CERTIFICATE.to_owned();
        let plain = Aws::new(support::options(), foundation.clone(), install.clone()).await;
        let elb = &plain.elb;
        let tag = Tag::builder().key("paas:install").value(install.as_str()).build();
        let made = elb.create_load_balancer().name(format!("paas-{install}-1")).subnets("subnet-a").tags(tag);
        let made = made.send().await.expect("a balancer");
        let balancer = made.load_balancers().first().expect("a balancer");
        foundation.load_balancer_arn = balancer.load_balancer_arn().expect("an ARN").to_owned();
        let dns_name = balancer.dns_name().expect("a name").to_owned();
        let page =
            FixedResponseActionConfig::builder().status_code("404").content_type("text/html").message_body("none");
        let page = Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(page.build()).build();
        let certificate = Certificate::builder().certificate_arn(CERTIFICATE).build();
        let listener = elb.create_listener().load_balancer_arn(&foundation.load_balancer_arn).port(443);
        let listener = listener.protocol(ProtocolEnum::Https).certificates(certificate).default_actions(page);
        let listener = listener.send().await.expect("a listener");
        foundation.https_listener_arn = listener.listeners()[0].listener_arn().expect("an ARN").to_owned();
        let zone = plain.route53.create_hosted_zone().name(&domain).caller_reference(install.as_str());
        let zone = zone.send().await.expect("a zone");
        foundation.hosted_zone_id =
            zone.hosted_zone().expect("a zone").id().trim_start_matches("/hostedzone/").to_owned();
        let aws = Aws::new(support::options(), foundation, install).await;
        Self { aws, ledger: Arc::default(), domain, dns_name }
    }

    /// A driver of a server of its own, which knows what the others wrote.
    pub(crate) async fn another(&self) -> AlbIngress {
        let aws = Aws::new(support::options(), self.aws.foundation.clone(), self.aws.install.clone()).await;
        AlbIngress::new(aws, self.ledger.clone())
    }

    /// Points a name at the first balancer, as the owner of a domain does.
    pub(crate) async fn point(&self, host: &str) {
        let target = AliasTarget::builder().dns_name(&self.dns_name).hosted_zone_id("Z").evaluate_target_health(false);
        let set = ResourceRecordSet::builder().name(host).r#type(RrType::A);
        self.record(set.alias_target(target.build().expect("a target")).build().expect("a record")).await;
    }

    /// Makes a CNAME.
    pub(crate) async fn cname(&self, name: &str, value: &str) {
        let set = ResourceRecordSet::builder().name(name).r#type(RrType::Cname).ttl(60);
        let value = ResourceRecord::builder().value(value).build().expect("a value");
        self.record(set.resource_records(value).build().expect("a record")).await;
    }

    pub(crate) async fn record(&self, set: ResourceRecordSet) {
        self.change_record(ChangeAction::Upsert, set).await;
    }

    pub(crate) async fn change_record(&self, action: ChangeAction, set: ResourceRecordSet) {
        let change = Change::builder().action(action).resource_record_set(set).build().expect("a change");
        let batch = ChangeBatch::builder().changes(change).build().expect("a batch");
        let change = self.aws.route53.change_resource_record_sets().change_batch(batch);
        change.hosted_zone_id(&self.aws.foundation.hosted_zone_id).send().await.expect("a record");
    }

    /// Makes these the targets of a group.
    pub(crate) async fn register(&self, group: &str, ports: &[u16]) {
        let targets =
            ports.iter().map(|port| TargetDescription::builder().id("127.0.0.1").port(i32::from(*port)).build());
        let register = self.aws.elb.register_targets().target_group_arn(group);
        register.set_targets(Some(targets.collect())).send().await.expect("registered");
    }

    /// The rules of the first listener, default left out.
    pub(crate) async fn rules(&self, listener: &str) -> Vec<aws_sdk_elasticloadbalancingv2::types::Rule> {
        let found = self.aws.elb.describe_rules().listener_arn(listener).send().await.expect("rules");
        found.rules().iter().filter(|rule| rule.is_default() != Some(true)).cloned().collect()
    }

    /// The installation's balancers.
    pub(crate) async fn balancers(&self) -> Vec<aws_sdk_elasticloadbalancingv2::types::LoadBalancer> {
        let found = self.aws.elb.describe_load_balancers().send().await.expect("balancers");
        let prefix = format!("paas-{}-", self.aws.install);
        let ours = |name: Option<&str>| name.is_some_and(|name| name.starts_with(&prefix));
        found.load_balancers().iter().filter(|lb| ours(lb.load_balancer_name())).cloned().collect()
    }

    /// Removes what the test made.
    pub(crate) async fn finish(&self) {
        let elb = &self.aws.elb;
        for balancer in self.balancers().await {
            let arn = balancer.load_balancer_arn().unwrap_or_default();
            let listeners = elb.describe_listeners().load_balancer_arn(arn).send().await;
            for listener in listeners.iter().flat_map(|found| found.listeners()) {
                let listener = listener.listener_arn().unwrap_or_default();
                for rule in self.rules(listener).await {
                    let _ = elb.delete_rule().rule_arn(rule.rule_arn().unwrap_or_default()).send().await;
                }
                let _ = elb.delete_listener().listener_arn(listener).send().await;
            }
            let _ = elb.delete_load_balancer().load_balancer_arn(arn).send().await;
        }
        let groups = elb.describe_target_groups().send().await;
        for group in groups.iter().flat_map(|found| found.target_groups()) {
            if group.target_group_name().is_some_and(|name| name.contains(self.aws.install.as_str())) {
                let _ = elb
                    .delete_target_group()
                    .target_group_arn(group.target_group_arn().unwrap_or_default())
                    .send()
                    .await;
            }
        }
        let zone = &self.aws.foundation.hosted_zone_id;
        let records = self.aws.route53.list_resource_record_sets().hosted_zone_id(zone).send().await;
        for set in records.iter().flat_map(|found| found.resource_record_sets()) {
            if !matches!(set.r#type(), RrType::Ns | RrType::Soa) {
                self.change_record(ChangeAction::Delete, set.clone()).await;
            }
        }
        let _ = self.aws.route53.delete_hosted_zone().id(zone).send().await;
    }
}

/// What came back through the front door.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// What the balancer wants to hear again, as `name=value`.
    pub(crate) cookie: Option<String>,
}

/// Waits until the front door has looked at the account as it is now.
pub(crate) async fn front_door_looks() {
    assert_eq!(get("localhost", "/_look", None).await.status, 200);
}

/// Sends `GET /` with this `Host`, and perhaps a cookie, to the listeners on 443.
async fn ask_as(host: &str, cookie: Option<&str>) -> Reply {
    get(host, "/", cookie).await
}

async fn get(host: &str, path: &str, cookie: Option<&str>) -> Reply {
    let front = std::env::var("PAAS_TEST_AWS_FRONT_443").expect("not run: no AWS front door (PAAS_TEST_AWS_FRONT_443)");
    let address = front.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await.expect("the front door");
    let cookie = cookie.map_or_else(String::new, |cookie| format!("Cookie: {cookie}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{cookie}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // The front door keeps connections open, as balancers do: the answer says how long it is.
    while !whole(&answer) {
        let read = tokio::time::timeout(Duration::from_secs(70), stream.read_buf(&mut answer)).await;
        if matches!(read, Err(_) | Ok(Err(_) | Ok(0))) {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let told =
        head.lines().filter_map(|line| line.split_once(": ")).find(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
    let cookie = told.and_then(|(_, told)| told.split(';').next()).map(str::to_owned);
    Reply { status, body: body.to_owned(), cookie }
}

fn whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// Asks until the balancer has a healthy target, or says something that is not about targets.
pub(crate) async fn ask_patiently(host: &str) -> Reply {
    ask_patiently_as(host, None).await
}

/// The same with a cookie.
pub(crate) async fn ask_patiently_as(host: &str, cookie: Option<&str>) -> Reply {
    let mut reply = ask_as(host, cookie).await;
    for _ in 0..100 {
        let no_target = reply.status == 502 || (reply.status == 503 && reply.body.contains("Temporarily Unavailable"));
        if !no_target {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        reply = ask_as(host, cookie).await;
    }
    reply
}

/// A dyno on loopback that says its name.
pub(crate) async fn dyno(name: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}", name.len());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let mut read = 0;
                while !head[..read].ends_with(b"\r\n\r\n") {
                    match stream.read(&mut head[read..]).await {
                        Ok(0) | Err(_) => return,
                        Ok(more) => read += more,
                    }
                }
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    port
}

/// Asks over TLS, as a browser that trusts the rig's authority: what came, or why the handshake failed.
pub(crate) async fn ask_tls(host: &str) -> Result<String, String> {
    let host = host.to_owned();
    tokio::task::spawn_blocking(move || blocking_tls(&host)).await.expect("not cancelled")
}

fn blocking_tls(host: &str) -> Result<String, String> {
    use std::io::{Read as _, Write as _};

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    let front = std::env::var("PAAS_TEST_AWS_FRONT_TLS").expect("not run: no AWS front door (PAAS_TEST_AWS_FRONT_TLS)");
    let authority = std::env::var("PAAS_TEST_AWS_CA").expect("not run: no authority (PAAS_TEST_AWS_CA)");
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).expect("the authority") {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = host.to_owned().try_into().expect("a name");
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).expect("a session");
    let address = front.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let mut socket = std::net::TcpStream::connect(address).expect("the front door");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !whole(&answer) {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&part[..read]),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(String::from_utf8_lossy(&answer).split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}
