//! What the foundation's stack says of itself: its outputs, by their names in `infra/`.

use std::collections::BTreeMap;

use crate::error::{AwsError, Kind};

/// Where an installation lives on AWS. Made once by `paas install`; deploys never change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foundation {
    /// `us-east-1`.
    pub region: String,
    /// The twelve digits.
    pub account_id: String,
    /// The cluster's name.
    pub cluster: String,
    /// Where target groups live.
    pub vpc_id: String,
    /// Where dynos and balancers are placed: at least two, in different zones.
    pub subnets: Vec<String>,
    /// Of the shared balancers.
    pub alb_security_group: String,
    /// Of dynos: only the balancers reach them.
    pub dyno_security_group: String,
    /// Whether dynos get a public address (without NAT they need one to reach ECR and the world).
    pub public_ip: bool,
    /// What ECS itself acts as: pulls images, reads secrets, writes logs.
    pub execution_role_arn: String,
    /// What apps act as: nothing.
    pub task_role_arn: String,
    /// Where dynos' lines are stored.
    pub log_group: String,
    /// State changes of tasks and deployments.
    pub events_queue_url: String,
    /// Sources, packs, outputs.
    pub bucket: String,
    /// Encrypts secrets and the bucket; `None` means AWS's own key.
    pub kms_key_arn: Option<String>,
    /// The zone that apps' records are made in.
    pub hosted_zone_id: String,
    /// What follows an app's name in its own host name.
    pub app_domain: String,
    /// The first balancer. The server makes further ones like it.
    pub load_balancer_arn: String,
    /// Its listener on 443.
    pub https_listener_arn: String,
    /// The certificate of `*.<app_domain>`, the default of every listener.
    pub certificate_arn: String,
}

impl Foundation {
    /// Reads a stack's outputs.
    ///
    /// # Errors
    /// When one is missing or empty: the stack is of another version of `infra/`.
    pub fn from_outputs(outputs: &BTreeMap<String, String>) -> Result<Self, AwsError> {
        let optional = |name: &str| outputs.get(name).filter(|value| !value.is_empty()).cloned();
        let text = |name: &str| {
            optional(name).ok_or_else(|| {
                let message = format!("the stack has no output {name}: run `paas install` of this version again");
                AwsError::own(Kind::Other, "reading the foundation's outputs", message)
            })
        };
        Ok(Self {
            region: text("Region")?,
            account_id: text("AccountId")?,
            cluster: text("Cluster")?,
            vpc_id: text("VpcId")?,
            subnets: text("Subnets")?.split(',').map(str::to_owned).collect(),
            alb_security_group: text("AlbSecurityGroup")?,
            dyno_security_group: text("DynoSecurityGroup")?,
            public_ip: text("DynoPublicIp")? == "ENABLED",
            execution_role_arn: text("ExecutionRoleArn")?,
            task_role_arn: text("TaskRoleArn")?,
            log_group: text("LogGroup")?,
            events_queue_url: text("EventsQueueUrl")?,
            bucket: text("Bucket")?,
            kms_key_arn: optional("KmsKeyArn"),
            hosted_zone_id: text("HostedZoneId")?,
            app_domain: text("AppDomain")?,
            load_balancer_arn: text("LoadBalancerArn")?,
            https_listener_arn: text("HttpsListenerArn")?,
            certificate_arn: text("CertificateArn")?,
        })
    }
}
