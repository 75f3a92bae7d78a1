//! Routes on load balancers.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Certificate, FixedResponseActionConfig, Listener, LoadBalancer, ProtocolEnum, Rule, Tag,
    TargetGroup,
};
use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ResourceRecordSet, RrType};
use paas_aws::alb::Quotas;
use paas_aws::ledger::{Change as RowChange, Key, Ledger as _};
use paas_aws::{AlbIngress, Aws, Foundation, MemoryLedger};
use paas_domain::{AppId, Generation, InstallId, ProcessType};
use paas_ports::{Attachment, Ingress as _, PortError, Route};
use tokio::sync::OnceCell;

use crate::cell::{Said, Story, Ways};

/// The zone of all cells: its id and its name.
static ZONE: OnceCell<(String, String)> = OnceCell::const_new();
/// Not ACM's, whose certificates are issued only when somebody validates them.
const CERTIFICATE: &str = "arn:aws:iam::000000000000:server-certificate/test";
/// One app on each balancer.
const NARROW: Quotas = Quotas { groups: 2, rules: 100, certificates: 25 };

/// An installation with a balancer, a listener and a domain.
pub(super) struct Site {
    pub(super) account: Aws,
    server: Aws,
    pub(super) ledger: Arc<MemoryLedger>,
    driver: Mutex<Arc<AlbIngress>>,
    quotas: Quotas,
    /// The rows before the story.
    before: Vec<(Key, String)>,
    pub(super) app: AppId,
    pub(super) host: String,
    /// A custom domain in the same zone.
    pub(super) custom: String,
}

impl Site {
    pub(super) async fn new(ways: &Arc<Ways>, quotas: Quotas) -> Self {
        let named = ways.foundation();
        let plain = ways.account(&named);
        let (zone, domain) = ZONE.get_or_init(|| make_zone(plain.clone())).await.clone();
        let install = ways.install.as_str();
        let elb = &plain.elb;
        let tag = Tag::builder().key("paas:install").value(install).build();
        let made = elb.create_load_balancer().name(format!("paas-{install}-1")).subnets("subnet-a").tags(tag);
        let made = made.send().await.expect("a balancer");
        let balancer = made.load_balancers()[0].load_balancer_arn().expect("an ARN").to_owned();
        let page = FixedResponseActionConfig::builder().status_code("404").content_type("text/html");
        let page = page.message_body("none").build();
        let page = Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(page).build();
        let certificate = Certificate::builder().certificate_arn(CERTIFICATE).build();
        let listener = elb.create_listener().load_balancer_arn(&balancer).port(443).protocol(ProtocolEnum::Https);
        let listener = listener.certificates(certificate).default_actions(page).send().await.expect("a listener");
        let foundation = Foundation {
            app_domain: format!("{install}.{domain}"),
            certificate_arn: CERTIFICATE.to_owned(),
            hosted_zone_id: zone,
            load_balancer_arn: balancer,
            https_listener_arn: listener.listeners()[0].listener_arn().expect("an ARN").to_owned(),
            ..named
        };
        let (account, server) = (ways.account(&foundation), ways.server(&foundation));
        let ledger = Arc::new(MemoryLedger::default());
        let driver = Arc::new(AlbIngress::with_quotas(server.clone(), ledger.clone(), quotas));
        Self {
            account,
            server,
            ledger,
            driver: Mutex::new(driver),
            quotas,
            before: Vec::new(),
            app: AppId::new(),
            host: format!("one.{install}.{domain}"),
            custom: format!("www-{install}.{domain}"),
        }
    }

    pub(super) fn driver(&self) -> Arc<AlbIngress> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another server's, by no line.
    pub(super) fn other(&self, ledger: &Arc<MemoryLedger>) -> AlbIngress {
        AlbIngress::with_quotas(self.account.clone(), ledger.clone(), self.quotas)
    }

    pub(super) fn restart(&self) {
        let driver = AlbIngress::with_quotas(self.server.clone(), self.ledger.clone(), self.quotas);
        *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(driver);
    }

    async fn remember(&mut self) {
        self.before = self.ledger.rows().await.expect("rows").1;
    }

    /// Makes the rows what they were before the story.
    async fn forget(&self) {
        let (revision, rows) = self.ledger.rows().await.expect("rows");
        let gone = rows.into_iter().map(|(key, _)| RowChange::Delete(key));
        let back = self.before.iter().map(|(key, body)| RowChange::Put(key.clone(), body.clone()));
        assert!(self.ledger.write(revision, gone.chain(back).collect()).await.expect("written"), "nobody else writes");
    }

    pub(super) fn route(&self, generation: i64, hosts: &[&String], attachment: &Attachment) -> Route {
        Route {
            app: self.app.clone(),
            app_name: "example-app".parse().expect("a name"),
            generation: Generation(generation),
            hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
            attachment: Some(attachment.clone()),
            released: true,
            maintenance: false,
            session_affinity: false,
        }
    }

    /// Places the app and publishes these hosts.
    pub(super) async fn publish(
        &self,
        driver: &AlbIngress,
        generation: i64,
        hosts: &[&String],
    ) -> Result<(), PortError> {
        let pool = driver.place(&self.app, &ProcessType::web()).await?;
        driver.publish(&self.route(generation, hosts, &pool)).await
    }

    pub(super) async fn listeners(&self, balancer: &str) -> Vec<Listener> {
        let found = self.account.elb.describe_listeners().load_balancer_arn(balancer).send().await;
        found.expect("listeners").listeners().to_vec()
    }

    /// A listener's rules, the default one left out.
    pub(super) async fn rules(&self, listener: &str) -> Vec<Rule> {
        let found = self.account.elb.describe_rules().listener_arn(listener).send().await.expect("rules");
        found.rules().iter().filter(|rule| rule.is_default() != Some(true)).cloned().collect()
    }

    async fn balancers(&self) -> Vec<LoadBalancer> {
        let found = self.account.elb.describe_load_balancers().send().await.expect("balancers");
        let ours = |lb: &&LoadBalancer| lb.load_balancer_name().is_some_and(|name| name.contains(self.install()));
        found.load_balancers().iter().filter(ours).cloned().collect()
    }

    async fn groups(&self) -> Vec<TargetGroup> {
        let found = self.account.elb.describe_target_groups().send().await.expect("groups");
        let ours = |group: &&TargetGroup| group.target_group_name().is_some_and(|name| name.contains(self.install()));
        found.target_groups().iter().filter(ours).cloned().collect()
    }

    fn install(&self) -> &str {
        self.account.install.as_str()
    }

    /// The records of the app's host.
    async fn records(&self) -> Vec<ResourceRecordSet> {
        let zone = &self.account.foundation.hosted_zone_id;
        let list = self.account.route53.list_resource_record_sets().hosted_zone_id(zone);
        let list = list.start_record_name(&self.host).start_record_type(RrType::A).max_items(1);
        let found = list.send().await.expect("records");
        let named = |set: &&ResourceRecordSet| set.name().trim_end_matches('.') == self.host;
        found.resource_record_sets().iter().filter(named).cloned().collect()
    }

    pub(super) async fn change_record(&self, action: ChangeAction, set: ResourceRecordSet) {
        let zone = &self.account.foundation.hosted_zone_id;
        let change = Change::builder().action(action).resource_record_set(set).build().expect("a change");
        let batch = ChangeBatch::builder().changes(change).build().expect("a batch");
        let change = self.account.route53.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch);
        change.send().await.expect("a record");
    }

    pub(super) async fn end(&self) {
        let elb = &self.account.elb;
        for balancer in self.balancers().await {
            let arn = balancer.load_balancer_arn().unwrap_or_default();
            for listener in self.listeners(arn).await {
                let listener = listener.listener_arn().unwrap_or_default();
                for rule in self.rules(listener).await {
                    let _ = elb.delete_rule().rule_arn(rule.rule_arn().unwrap_or_default()).send().await;
                }
                let _ = elb.delete_listener().listener_arn(listener).send().await;
            }
            let _ = elb.delete_load_balancer().load_balancer_arn(arn).send().await;
        }
        for group in self.groups().await {
            let arn = group.target_group_arn().unwrap_or_default();
            let _ = elb.delete_target_group().target_group_arn(arn).send().await;
        }
    }
}

async fn make_zone(account: Aws) -> (String, String) {
    let domain = format!("faults-{}.test", InstallId::random());
    let zone = account.route53.create_hosted_zone().name(&domain).caller_reference(&domain).send().await;
    let zone = zone.expect("a zone").hosted_zone.expect("a zone");
    (zone.id().trim_start_matches("/hostedzone/").to_owned(), domain)
}

pub(super) async fn drop_zone(base: &SdkConfig) {
    let Some((zone, _)) = ZONE.get() else { return };
    let client = aws_sdk_route53::Client::new(base);
    while let Ok(found) = client.list_resource_record_sets().hosted_zone_id(zone).send().await {
        let made = |set: &&ResourceRecordSet| !matches!(set.r#type(), RrType::Ns | RrType::Soa);
        let sets: Vec<_> = found.resource_record_sets().iter().filter(made).cloned().collect();
        let gone =
            |set| Change::builder().action(ChangeAction::Delete).resource_record_set(set).build().expect("built");
        if sets.is_empty() {
            break;
        }
        let batch = ChangeBatch::builder().set_changes(Some(sets.into_iter().map(gone).collect())).build();
        let change = client.change_resource_record_sets().hosted_zone_id(zone).change_batch(batch.expect("built"));
        if change.send().await.is_err() {
            break;
        }
    }
    let _ = client.delete_hosted_zone().id(zone).send().await;
}

#[derive(Clone, Copy, PartialEq)]
enum Act {
    Publish,
    /// On a balancer that is to be made.
    Second,
    Maintain,
    Remove,
    Adopt,
    Sweep,
}

pub(super) struct Routes {
    site: Site,
    act: Act,
}

pub(super) async fn published(ways: &Arc<Ways>) -> Routes {
    Routes { site: Site::new(ways, Quotas::default()).await, act: Act::Publish }
}

/// The first balancer has no room.
pub(super) async fn second(ways: &Arc<Ways>) -> Routes {
    let mut site = Site::new(ways, NARROW).await;
    let other = site.other(&site.ledger);
    other.place(&AppId::new(), &ProcessType::web()).await.expect("placed");
    site.remember().await;
    Routes { site, act: Act::Second }
}

async fn there(ways: &Arc<Ways>, act: Act) -> Routes {
    let mut site = Site::new(ways, Quotas::default()).await;
    site.publish(&site.other(&site.ledger), 1, &[&site.host]).await.expect("published");
    site.remember().await;
    Routes { site, act }
}

pub(super) async fn changed(ways: &Arc<Ways>) -> Routes {
    there(ways, Act::Maintain).await
}

pub(super) async fn removed(ways: &Arc<Ways>) -> Routes {
    there(ways, Act::Remove).await
}

/// The group is there, and no row tells of it.
pub(super) async fn adopted(ways: &Arc<Ways>) -> Routes {
    let site = Site::new(ways, Quotas::default()).await;
    let lost = Arc::new(MemoryLedger::default());
    site.other(&lost).place(&site.app, &ProcessType::web()).await.expect("placed");
    Routes { site, act: Act::Adopt }
}

/// Somebody has deleted the rule and the record.
pub(super) async fn swept(ways: &Arc<Ways>) -> Routes {
    let story = there(ways, Act::Sweep).await;
    let site = &story.site;
    let rules = site.rules(&site.account.foundation.https_listener_arn).await;
    let rule = rules[0].rule_arn().expect("an ARN");
    site.account.elb.delete_rule().rule_arn(rule).send().await.expect("deleted");
    let record = site.records().await.pop().expect("a record");
    site.change_record(ChangeAction::Delete, record).await;
    story
}

impl Routes {
    /// What there is of the installation; of the rules only those of the app's host.
    async fn count(&self) -> String {
        let site = &self.site;
        let balancers = site.balancers().await;
        let (mut rules, mut forwards, mut listeners) = (0, 0, 0);
        for balancer in &balancers {
            for listener in site.listeners(balancer.load_balancer_arn().unwrap_or_default()).await {
                listeners += 1;
                let found = site.rules(listener.listener_arn().unwrap_or_default()).await;
                let of_host = found.iter().filter(|rule| format!("{:?}", rule.conditions()).contains(&site.host));
                let of_host: Vec<_> = of_host.collect();
                rules += of_host.len();
                forwards += of_host.iter().filter(|rule| rule.actions()[0].target_group_arn().is_some()).count();
            }
        }
        let (groups, records) = (site.groups().await.len(), site.records().await.len());
        let balancers = balancers.len();
        format!(
            "groups {groups}, rules {rules}, forwards {forwards}, records {records}, balancers {balancers}, \
             listeners {listeners}"
        )
    }
}

#[async_trait]
impl Story for Routes {
    async fn act(&self) -> Result<(), Said> {
        let (site, driver) = (&self.site, self.site.driver());
        match self.act {
            Act::Publish | Act::Second => site.publish(&driver, 1, &[&site.host]).await?,
            Act::Maintain => {
                let pool = driver.place(&site.app, &ProcessType::web()).await?;
                let route = Route { maintenance: true, ..site.route(2, &[&site.host], &pool) };
                driver.publish(&route).await?;
            }
            Act::Remove => {
                let removed = driver.remove(&site.app).await;
                if removed.is_err() {
                    // Meanwhile the sweep comes by, as it always does; what it says is not what was asked.
                    let _ = driver.repair().await;
                }
                removed?;
            }
            Act::Adopt => drop(driver.place(&site.app, &ProcessType::web()).await?),
            Act::Sweep => drop(driver.repair().await?),
        }
        Ok(())
    }

    fn restart(&self) {
        self.site.restart();
    }

    async fn relapse(&self) {
        self.site.restart();
        self.site.forget().await;
    }

    async fn wrong(&self) -> Option<String> {
        let wanted = match self.act {
            Act::Publish | Act::Sweep => "groups 1, rules 1, forwards 1, records 1",
            // Another app has a group; of the first balancer there is one listener here.
            Act::Second => "groups 2, rules 1, forwards 1, records 1, balancers 2, listeners 3",
            Act::Maintain => "groups 1, rules 1, forwards 0, records 1",
            Act::Remove => "groups 0, rules 0, forwards 0, records 0",
            Act::Adopt => "groups 1, rules 0, forwards 0, records 0",
        };
        // Where AWS says that a balancer is full, the next one is right.
        let there = self.count().await;
        (!there.starts_with(wanted)).then(|| format!("there is {there} instead of {wanted}"))
    }

    async fn end(&self) {
        self.site.end().await;
    }
}
