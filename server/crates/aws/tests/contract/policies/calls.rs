//! Each call of the drivers once, on things with our names, and what IAM says to it.

use aws_sdk_acm::types::Tag as AcmTag;
use aws_sdk_cloudwatchlogs::types::InputLogEvent;
use aws_sdk_ecr::types::{ImageIdentifier, Tag as EcrTag};
use aws_sdk_ecs::types::{
    AwsVpcConfiguration, Compatibility, ContainerDefinition, LaunchType, NetworkConfiguration, NetworkMode,
    Tag as EcsTag,
};
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, Certificate, ProtocolEnum, RuleCondition, Tag as ElbTag, TargetDescription,
    TargetGroupAttribute, TargetTypeEnum,
};
use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet, RrType};
use aws_sdk_secretsmanager::types::Tag as SecretTag;
use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::SdkError;
use paas_aws::{Aws, Call};

const INSTALL: &str = "paas:install";

/// What IAM said against it, if it did. Any other failure is none of its business.
fn denied<T, E>(answer: Result<T, SdkError<E, HttpResponse>>) -> Option<String> {
    let error = answer.err()?;
    let Some(raw) = error.raw_response() else { panic!("no answer of AWS") };
    // Route 53's own error for changes leaves the SDK without a code; the answer has it.
    let body = String::from_utf8_lossy(raw.body().bytes().unwrap_or_default()).into_owned();
    body.contains("AccessDenied").then_some(body)
}

/// An ARN of ours.
fn arn(aws: &Aws, service: &str, rest: &str) -> String {
    let foundation = &aws.foundation;
    format!("arn:aws:{service}:{}:{}:{rest}", foundation.region, foundation.account_id)
}

/// Makes the call as the server's role; answers IAM's words when they are no.
pub(crate) async fn asked(aws: &Aws, call: Call) -> Option<String> {
    let name = format!("paas-{}-aaaaaaaaaaaaa-web", aws.install);
    match call.service() {
        "ecs" => ecs(aws, call, &name).await,
        "ecr" => ecr(aws, call, &name).await,
        "elasticloadbalancing" => elb(aws, call, &name).await,
        "secretsmanager" => secrets(aws, call).await,
        "logs" => logs(aws, call).await,
        _ => other(aws, call).await,
    }
}

fn untried(call: Call) -> ! {
    panic!("{call:?} is not tried: add it to tests/contract/policies/calls.rs")
}

fn network() -> NetworkConfiguration {
    let subnets = AwsVpcConfiguration::builder().subnets("subnet-a").build().expect("subnets");
    NetworkConfiguration::builder().awsvpc_configuration(subnets).build()
}

async fn ecs(aws: &Aws, call: Call, name: &str) -> Option<String> {
    let (ecs, cluster) = (&aws.ecs, &aws.foundation.cluster);
    let task = arn(aws, "ecs", &format!("task/{cluster}/0123456789abcdef0123456789abcdef"));
    let definition = arn(aws, "ecs", &format!("task-definition/{name}:1"));
    match call {
        Call::RegisterTaskDefinition => {
            let request = ecs
                .register_task_definition()
                .family(name)
                .cpu("256")
                .memory("512")
                .network_mode(NetworkMode::Awsvpc)
                .requires_compatibilities(Compatibility::Fargate)
                .execution_role_arn(&aws.foundation.execution_role_arn)
                .task_role_arn(&aws.foundation.task_role_arn)
                .container_definitions(ContainerDefinition::builder().name("dyno").image("none").build())
                .tags(EcsTag::builder().key(INSTALL).value(aws.install.as_str()).build());
            denied(request.send().await)
        }
        Call::DeregisterTaskDefinition => {
            denied(ecs.deregister_task_definition().task_definition(definition).send().await)
        }
        Call::DescribeTaskDefinition => denied(ecs.describe_task_definition().task_definition(definition).send().await),
        Call::ListTaskDefinitions => denied(ecs.list_task_definitions().family_prefix(name).send().await),
        Call::ListTaskDefinitionFamilies => {
            denied(ecs.list_task_definition_families().family_prefix(name).send().await)
        }
        Call::CreateService => {
            let request = ecs.create_service().cluster(cluster).service_name(name).task_definition(definition);
            let request = request.launch_type(LaunchType::Fargate).network_configuration(network()).desired_count(0);
            denied(request.tags(EcsTag::builder().key(INSTALL).value(aws.install.as_str()).build()).send().await)
        }
        Call::UpdateService => {
            denied(ecs.update_service().cluster(cluster).service(name).desired_count(0).send().await)
        }
        Call::DeleteService => denied(ecs.delete_service().cluster(cluster).service(name).send().await),
        Call::DescribeServices => denied(ecs.describe_services().cluster(cluster).services(name).send().await),
        Call::ListServices => denied(ecs.list_services().cluster(cluster).send().await),
        Call::RunTask => {
            let request = ecs.run_task().cluster(cluster).task_definition(definition).network_configuration(network());
            denied(request.launch_type(LaunchType::Fargate).send().await)
        }
        Call::StopTask => denied(ecs.stop_task().cluster(cluster).task(task).send().await),
        Call::DescribeTasks => denied(ecs.describe_tasks().cluster(cluster).tasks(task).send().await),
        Call::ListTasks => denied(ecs.list_tasks().cluster(cluster).family(name).send().await),
        _ => untried(call),
    }
}

async fn ecr(aws: &Aws, call: Call, name: &str) -> Option<String> {
    let ecr = &aws.ecr;
    let image = ImageIdentifier::builder().image_tag("none").build();
    let digest = format!("sha256:{}", "0".repeat(64));
    let repository = arn(aws, "ecr", &format!("repository/{name}"));
    let tag = EcrTag::builder().key(INSTALL).value(aws.install.as_str()).build().expect("a tag");
    match call {
        Call::BatchDeleteImage => denied(ecr.batch_delete_image().repository_name(name).image_ids(image).send().await),
        Call::BatchGetImage => denied(ecr.batch_get_image().repository_name(name).image_ids(image).send().await),
        Call::CheckLayer => {
            denied(ecr.batch_check_layer_availability().repository_name(name).layer_digests(digest).send().await)
        }
        Call::CompleteLayerUpload => {
            let request = ecr.complete_layer_upload().repository_name(name).upload_id("none").layer_digests(digest);
            denied(request.send().await)
        }
        Call::CreateRepository => denied(ecr.create_repository().repository_name(name).tags(tag).send().await),
        Call::DeleteRepository => denied(ecr.delete_repository().repository_name(name).send().await),
        Call::DescribeRepositories => denied(ecr.describe_repositories().repository_names(name).send().await),
        Call::GetAuthorizationToken => denied(ecr.get_authorization_token().send().await),
        Call::InitiateLayerUpload => denied(ecr.initiate_layer_upload().repository_name(name).send().await),
        Call::ListImages => denied(ecr.list_images().repository_name(name).send().await),
        Call::ListTagsOfRepository => denied(ecr.list_tags_for_resource().resource_arn(repository).send().await),
        Call::MountLayer => {
            denied(ecr.get_download_url_for_layer().repository_name(name).layer_digest(digest).send().await)
        }
        Call::PutImage => denied(ecr.put_image().repository_name(name).image_manifest("{}").send().await),
        Call::TagRepository => denied(ecr.tag_resource().resource_arn(repository).tags(tag).send().await),
        Call::UploadLayerPart => {
            let request = ecr.upload_layer_part().repository_name(name).upload_id("none").part_first_byte(0);
            denied(request.part_last_byte(0).layer_part_blob(aws_smithy_types::Blob::new([0])).send().await)
        }
        _ => untried(call),
    }
}

async fn elb(aws: &Aws, call: Call, name: &str) -> Option<String> {
    let (elb, foundation) = (&aws.elb, &aws.foundation);
    let listener = &foundation.https_listener_arn;
    let rule = format!("{}/0123456789abcdef", listener.replacen(":listener/", ":listener-rule/", 1));
    let group =
        arn(aws, "elasticloadbalancing", &format!("targetgroup/{}/0123456789abcdef", &name[..name.len().min(32)]));
    let tag = ElbTag::builder().key(INSTALL).value(aws.install.as_str()).build();
    let certificate = Certificate::builder().certificate_arn(&foundation.certificate_arn).build();
    let forward = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(&group).build();
    match call.operation() {
        "CreateLoadBalancer" => {
            let request = elb.create_load_balancer().name(format!("paas-{}-2", aws.install)).tags(tag);
            denied(request.set_subnets(Some(foundation.subnets.clone())).send().await)
        }
        "DescribeLoadBalancers" => denied(elb.describe_load_balancers().send().await),
        "CreateListener" => {
            let request = elb.create_listener().load_balancer_arn(&foundation.load_balancer_arn).port(8443);
            denied(request.protocol(ProtocolEnum::Http).default_actions(forward).tags(tag).send().await)
        }
        "DescribeListeners" => {
            denied(elb.describe_listeners().load_balancer_arn(&foundation.load_balancer_arn).send().await)
        }
        "CreateTargetGroup" => {
            let request = elb.create_target_group().name(&name[..name.len().min(32)]).target_type(TargetTypeEnum::Ip);
            denied(request.port(5000).protocol(ProtocolEnum::Http).vpc_id(&foundation.vpc_id).tags(tag).send().await)
        }
        "ModifyTargetGroup" => denied(elb.modify_target_group().target_group_arn(group).send().await),
        "ModifyTargetGroupAttributes" => {
            let drain = TargetGroupAttribute::builder().key("deregistration_delay.timeout_seconds").value("35").build();
            denied(elb.modify_target_group_attributes().target_group_arn(group).attributes(drain).send().await)
        }
        "DeleteTargetGroup" => denied(elb.delete_target_group().target_group_arn(group).send().await),
        "DescribeTargetGroups" => denied(elb.describe_target_groups().send().await),
        "DescribeTargetHealth" => denied(elb.describe_target_health().target_group_arn(group).send().await),
        "DeregisterTargets" => {
            let target = TargetDescription::builder().id("10.42.0.9").build();
            denied(elb.deregister_targets().target_group_arn(group).targets(target).send().await)
        }
        "CreateRule" => {
            let host = RuleCondition::builder().field("host-header").values("a.example.com").build();
            let request = elb.create_rule().listener_arn(listener).priority(40_000).conditions(host);
            denied(request.actions(forward).tags(tag).send().await)
        }
        "ModifyRule" => denied(elb.modify_rule().rule_arn(rule).actions(forward).send().await),
        "DeleteRule" => denied(elb.delete_rule().rule_arn(rule).send().await),
        "DescribeRules" => denied(elb.describe_rules().listener_arn(listener).send().await),
        "DescribeTags" => denied(elb.describe_tags().resource_arns(&foundation.load_balancer_arn).send().await),
        "AddListenerCertificates" => {
            denied(elb.add_listener_certificates().listener_arn(listener).certificates(certificate).send().await)
        }
        "RemoveListenerCertificates" => {
            denied(elb.remove_listener_certificates().listener_arn(listener).certificates(certificate).send().await)
        }
        "DescribeListenerCertificates" => {
            denied(elb.describe_listener_certificates().listener_arn(listener).send().await)
        }
        _ => untried(call),
    }
}

async fn secrets(aws: &Aws, call: Call) -> Option<String> {
    let (secrets, name) = (&aws.secrets, format!("paas/{}/app/config/1/0", aws.install));
    match call {
        Call::CreateSecret => {
            let tag = SecretTag::builder().key(INSTALL).value(aws.install.as_str()).build();
            denied(secrets.create_secret().name(name).secret_string("{}").tags(tag).send().await)
        }
        Call::DescribeSecret => denied(secrets.describe_secret().secret_id(name).send().await),
        Call::ListSecrets => denied(secrets.list_secrets().send().await),
        Call::DeleteSecret => {
            denied(secrets.delete_secret().secret_id(name).force_delete_without_recovery(true).send().await)
        }
        _ => untried(call),
    }
}

async fn logs(aws: &Aws, call: Call) -> Option<String> {
    let (logs, group) = (&aws.logs, &aws.foundation.log_group);
    match call.operation() {
        "CreateLogStream" => denied(logs.create_log_stream().log_group_name(group).log_stream_name("x").send().await),
        "DeleteLogStream" => denied(logs.delete_log_stream().log_group_name(group).log_stream_name("x").send().await),
        "DescribeLogStreams" => denied(logs.describe_log_streams().log_group_name(group).send().await),
        "FilterLogEvents" => denied(logs.filter_log_events().log_group_name(group).send().await),
        "GetLogEvents" => denied(logs.get_log_events().log_group_name(group).log_stream_name("x").send().await),
        "PutLogEvents" => {
            let event = InputLogEvent::builder().timestamp(1).message("x").build().expect("an event");
            let request = logs.put_log_events().log_group_name(group).log_stream_name("x");
            denied(request.log_events(event).send().await)
        }
        _ => untried(call),
    }
}

async fn other(aws: &Aws, call: Call) -> Option<String> {
    let foundation = &aws.foundation;
    match call.operation() {
        "DescribeStacks" => {
            let client = aws_sdk_cloudformation::Client::new(&aws.config);
            let stack = foundation.app_domain.split('.').next().expect("the stack's name");
            denied(client.describe_stacks().stack_name(stack).send().await)
        }
        "ReceiveMessage" => {
            let request = aws.sqs.receive_message().queue_url(&foundation.events_queue_url).wait_time_seconds(0);
            denied(request.send().await)
        }
        "DeleteMessage" | "DeleteMessageBatch" => {
            denied(aws.sqs.delete_message().queue_url(&foundation.events_queue_url).receipt_handle("x").send().await)
        }
        "ChangeResourceRecordSets" => {
            let record = ResourceRecord::builder().value("10.0.0.1").build().expect("a value");
            let set =
                ResourceRecordSet::builder().name(format!("a.{}", foundation.app_domain)).r#type(RrType::A).ttl(60);
            let set = set.resource_records(record).build().expect("a record");
            let change = Change::builder().action(ChangeAction::Upsert).resource_record_set(set).build();
            let batch = ChangeBatch::builder().changes(change.expect("a change")).build().expect("a batch");
            let request = aws.route53.change_resource_record_sets().hosted_zone_id(&foundation.hosted_zone_id);
            denied(request.change_batch(batch).send().await)
        }
        "ListResourceRecordSets" => {
            let request = aws.route53.list_resource_record_sets().hosted_zone_id(&foundation.hosted_zone_id);
            denied(request.send().await)
        }
        "RequestCertificate" => {
            let tag = AcmTag::builder().key(INSTALL).value(aws.install.as_str()).build().expect("a tag");
            denied(aws.acm.request_certificate().domain_name("www.example.org").tags(tag).send().await)
        }
        "ListCertificates" => denied(aws.acm.list_certificates().send().await),
        // The foundation's own is tagged as every certificate of ours.
        "DescribeCertificate" => {
            denied(aws.acm.describe_certificate().certificate_arn(&foundation.certificate_arn).send().await)
        }
        "DeleteCertificate" => {
            denied(aws.acm.delete_certificate().certificate_arn(&foundation.certificate_arn).send().await)
        }
        _ => untried(call),
    }
}
