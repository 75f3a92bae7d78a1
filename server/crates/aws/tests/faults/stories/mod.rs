//! For each call an operation of a driver that makes it.

mod alb;
mod certificates;
mod config;
mod ecr;
mod ecs;
mod foundation;
mod logs;

use std::sync::Arc;

use aws_config::SdkConfig;
use paas_aws::Call;

use crate::cell::{Story, Ways};

/// The story of this call, ready to be played. A call that is not here does not compile.
pub(crate) async fn of(call: Call, ways: &Arc<Ways>) -> Box<dyn Story> {
    match call {
        Call::DescribeStacks => Box::new(foundation::Stack::new(ways).await),
        Call::ReceiveMessage => Box::new(foundation::Queue::new(ways, false).await),
        Call::DeleteMessage => Box::new(foundation::Queue::new(ways, true).await),

        Call::CreateService => Box::new(ecs::service(ways, ecs::Begin::Nothing).await),
        Call::UpdateService | Call::DescribeServices => Box::new(ecs::service(ways, ecs::Begin::OldService).await),
        Call::ListTasks => Box::new(ecs::watched(ways).await),
        Call::DeleteService => Box::new(ecs::removed(ways).await),
        Call::RegisterTaskDefinition | Call::RunTask => Box::new(ecs::started(ways).await),
        Call::DescribeTasks => Box::new(ecs::observed(ways).await),
        Call::StopTask => Box::new(ecs::stopped(ways).await),
        Call::DeregisterTaskDefinition => Box::new(ecs::forgotten(ways).await),
        Call::DescribeTaskDefinition => Box::new(ecs::found(ways).await),
        Call::ListTaskDefinitions | Call::ListTaskDefinitionFamilies | Call::ListServices => {
            Box::new(ecs::destroyed(ways).await)
        }

        Call::CreateSecret => Box::new(config::kept(ways, false).await),
        Call::DescribeSecret => Box::new(config::kept(ways, true).await),
        Call::ListSecrets => Box::new(config::all_removed(ways).await),
        Call::DeleteSecret => Box::new(config::removed(ways).await),

        Call::BatchGetImage
        | Call::CheckLayer
        | Call::CompleteLayerUpload
        | Call::CreateRepository
        | Call::GetAuthorizationToken
        | Call::InitiateLayerUpload
        | Call::PutImage
        | Call::UploadLayerPart => Box::new(ecr::pushed(ways).await),
        Call::MountLayer => Box::new(ecr::mounted(ways).await),
        Call::BatchDeleteImage => Box::new(ecr::removed(ways).await),
        Call::ListImages => Box::new(ecr::listed(ways).await),
        Call::DeleteRepository | Call::DescribeRepositories => Box::new(ecr::destroyed(ways).await),
        Call::ListTagsOfRepository => Box::new(ecr::known(ways).await),
        Call::TagRepository => unreachable!("nobody makes it: see `fault::strike`"),

        Call::CreateLogStream | Call::PutLogEvents => Box::new(logs::stored(ways).await),
        Call::DescribeLogStreams | Call::GetLogEvents => Box::new(logs::read(ways).await),
        Call::DeleteLogStream => Box::new(logs::removed(ways).await),

        Call::CreateTargetGroup
        | Call::ModifyTargetGroupAttributes
        | Call::CreateRule
        | Call::ChangeResourceRecordSets
        | Call::DescribeLoadBalancers => Box::new(alb::published(ways).await),
        Call::CreateLoadBalancer | Call::CreateListener | Call::DescribeListeners => Box::new(alb::second(ways).await),
        Call::ModifyRule => Box::new(alb::changed(ways).await),
        Call::DeleteRule | Call::DeleteTargetGroup => Box::new(alb::removed(ways).await),
        Call::DescribeTargetGroups | Call::DescribeTags => Box::new(alb::adopted(ways).await),
        Call::DescribeRules | Call::ListResourceRecordSets => Box::new(alb::swept(ways).await),

        Call::RequestCertificate | Call::DescribeCertificate => Box::new(certificates::requested(ways).await),
        Call::AddListenerCertificates => Box::new(certificates::shown(ways).await),
        Call::DescribeListenerCertificates => Box::new(certificates::swept(ways).await),
        Call::RemoveListenerCertificates | Call::DeleteCertificate => Box::new(certificates::gone(ways).await),
    }
}

/// Removes what all cells shared.
pub(crate) async fn finish(base: &SdkConfig) {
    alb::drop_zone(base).await;
}
