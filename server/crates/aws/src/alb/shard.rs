//! Balancers: the foundation's, and those that are made like it when it is full.

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Certificate, Listener, LoadBalancer, LoadBalancerSchemeEnum, LoadBalancerStateEnum,
    LoadBalancerTypeEnum, ProtocolEnum, RedirectActionConfig, RedirectActionStatusCodeEnum,
};
use paas_ports::PortError;
use paas_ports::pages::NO_SUCH_APP;

use super::AlbIngress;
use super::book::Shard;
use super::group::tags;
use super::rule::fixed_response;
use crate::call::Call;
use crate::error::{AwsError, Kind};

/// The number of the foundation's balancer.
const FIRST: u32 = 1;
/// TLS 1.2 and 1.3, as the foundation's listener.
const TLS_POLICY: &str = "ELBSecurityPolicy-TLS13-1-2-2021-06";

impl AlbIngress {
    /// Makes this shard ready for apps.
    ///
    /// # Errors
    /// Transient while AWS is still making the balancer, which takes about two minutes.
    pub(super) async fn make_shard(&self, number: u32) -> Result<(), PortError> {
        let _making = self.making.lock().await;
        if self.book().await?.shards.get(&number).is_some_and(Shard::is_ready) {
            return Ok(());
        }
        // The number is taken before anything is made.
        self.note(|book| {
            book.shards.entry(number).or_default();
        })
        .await?;
        let doing = format!("making load balancer {number}");
        let foundation = &self.aws.foundation;
        let (balancer, listener) = if number == FIRST {
            let balancer = self.balancer(&foundation.load_balancer_arn, &doing).await?;
            (balancer, foundation.https_listener_arn.clone())
        } else {
            tracing::info!(number, "making a further load balancer: the others are at four fifths of a quota");
            let balancer = self.make_balancer(number, &doing).await?;
            let arn = balancer.load_balancer_arn().unwrap_or_default();
            self.note(|book| {
                book.shards.entry(number).or_default().load_balancer = Some(arn.to_owned());
            })
            .await?;
            let listener = self.make_listeners(arn, &doing).await?;
            let state = balancer.state().and_then(|state| state.code());
            match state {
                Some(LoadBalancerStateEnum::Provisioning) => {
                    return Err(PortError::transient(doing, "AWS is making it, which takes about two minutes"));
                }
                Some(LoadBalancerStateEnum::Failed) => {
                    let cause = format!("AWS could not make it: delete {arn}, and another one is made");
                    return Err(PortError::permanent(doing, cause));
                }
                _ => {}
            }
            (balancer, listener)
        };
        let text = |value: Option<&str>| value.map(str::to_owned).ok_or("AWS did not say all of it");
        let shard = Shard {
            load_balancer: balancer.load_balancer_arn().map(str::to_owned),
            listener: Some(listener),
            dns_name: text(balancer.dns_name()).map_err(|e| PortError::transient(&doing, e))?,
            zone_id: text(balancer.canonical_hosted_zone_id()).map_err(|e| PortError::transient(&doing, e))?,
            closed: false,
        };
        self.note(|book| drop(book.shards.insert(number, shard.clone()))).await
    }

    async fn balancer(&self, arn: &str, doing: &str) -> Result<LoadBalancer, PortError> {
        let describe = self.aws.elb.describe_load_balancers().load_balancer_arns(arn).send();
        let found = self.aws.call(Call::DescribeLoadBalancers, None, doing, describe).await?;
        let first = found.load_balancers().first().cloned();
        first.ok_or_else(|| PortError::NotFound(format!("the load balancer {arn}")))
    }

    async fn make_balancer(&self, number: u32, doing: &str) -> Result<LoadBalancer, PortError> {
        let foundation = &self.aws.foundation;
        let name = format!("paas-{}-{number}", self.aws.install);
        let create = self.aws.elb.create_load_balancer().name(&name).r#type(LoadBalancerTypeEnum::Application);
        let create =
            create.scheme(LoadBalancerSchemeEnum::InternetFacing).security_groups(&foundation.alb_security_group);
        let create = create.set_subnets(Some(foundation.subnets.clone()));
        let create = create.set_tags(Some(tags(&self.aws.install, None)));
        match self.aws.call(Call::CreateLoadBalancer, None, doing, create.send()).await {
            Ok(made) => {
                let first = made.load_balancers().first().cloned();
                first.ok_or_else(|| PortError::transient(doing, "AWS did not say its ARN"))
            }
            Err(error) if error.is(&["DuplicateLoadBalancerName"]) => {
                let describe = self.aws.elb.describe_load_balancers().names(&name).send();
                let found = self.aws.call(Call::DescribeLoadBalancers, None, doing, describe).await?;
                let first = found.load_balancers().first().cloned();
                let first = first.ok_or_else(|| PortError::transient(doing, "AWS says it is there and shows none"))?;
                let arn = first.load_balancer_arn().unwrap_or_default().to_owned();
                let tagged = self.tagged(None, &[arn], doing).await?;
                if tagged.first().is_some_and(|tagged| self.is_ours(tagged)) {
                    return Ok(first);
                }
                let cause = format!("somebody else has a load balancer {name}: delete or rename it");
                Err(PortError::permanent(doing, cause))
            }
            Err(error) if error.kind == Kind::Quota => {
                let cause = format!(
                    "{}: have AWS raise the quota \"Application Load Balancers per Region\", or destroy apps",
                    error.message
                );
                Err(PortError::permanent(doing, cause))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The two listeners: 80 redirects, 443 says "No such app" until it has rules. The one on 443.
    async fn make_listeners(&self, balancer: &str, doing: &str) -> Result<String, PortError> {
        let found = self.listeners(balancer, doing).await?;
        let on =
            |port: i32| found.iter().find(|listener| listener.port() == Some(port)).and_then(Listener::listener_arn);
        if on(80).is_none() {
            let to = RedirectActionConfig::builder().protocol("HTTPS").port("443").host("#{host}").path("/#{path}");
            let to = to.query("#{query}").status_code(RedirectActionStatusCodeEnum::Http301).build();
            let redirect = Action::builder().r#type(ActionTypeEnum::Redirect).redirect_config(to).build();
            let create =
                self.aws.elb.create_listener().load_balancer_arn(balancer).port(80).protocol(ProtocolEnum::Http);
            let create = create.default_actions(redirect).set_tags(Some(tags(&self.aws.install, None)));
            let made = self.aws.call(Call::CreateListener, None, doing, create.send()).await;
            there_already(made.map(drop))?;
        }
        if let Some(listener) = on(443) {
            return Ok(listener.to_owned());
        }
        let certificate = Certificate::builder().certificate_arn(&self.aws.foundation.certificate_arn).build();
        let create = self.aws.elb.create_listener().load_balancer_arn(balancer).port(443).protocol(ProtocolEnum::Https);
        let create = create.ssl_policy(TLS_POLICY).certificates(certificate);
        let create = create.default_actions(fixed_response("404", NO_SUCH_APP));
        let create = create.set_tags(Some(tags(&self.aws.install, None)));
        let made = self.aws.call(Call::CreateListener, None, doing, create.send()).await;
        there_already(made.map(drop))?;
        let found = self.listeners(balancer, doing).await?;
        let on_443 = found.iter().find(|listener| listener.port() == Some(443)).and_then(Listener::listener_arn);
        on_443.map(str::to_owned).ok_or_else(|| PortError::transient(doing, "AWS does not show its listener yet"))
    }

    async fn listeners(&self, balancer: &str, doing: &str) -> Result<Vec<Listener>, PortError> {
        let describe = self.aws.elb.describe_listeners().load_balancer_arn(balancer).send();
        let found = self.aws.call(Call::DescribeListeners, None, doing, describe).await?;
        Ok(found.listeners().to_vec())
    }
}

/// Somebody else has made it meanwhile.
fn there_already(made: Result<(), AwsError>) -> Result<(), AwsError> {
    match made {
        Err(error) if error.is(&["DuplicateListener"]) => Ok(()),
        other => other,
    }
}
