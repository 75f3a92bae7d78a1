//! Every AWS call that is ever made, by its IAM action.

/// Calls that AWS counts together, with the bucket it counts them in.
///
/// Bucket size and refill per second are AWS's (Amazon ECS "Request throttling", ELBv2 and ECR quotas, as of
/// 2026-11): per account and region. [`crate::rate`] takes four fifths of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// RegisterTaskDefinition and DeregisterTaskDefinition: 20 / 1.
    EcsRegister,
    /// Create, Update and DeleteService: 50 / 5.
    EcsService,
    /// DescribeServices, ListServices: 100 / 20.
    EcsRead,
    /// RunTask and StopTask: 100 / 40.
    EcsTask,
    /// DescribeTasks, ListTasks: 100 / 20.
    EcsTaskRead,
    /// Changes of rules, target groups, listeners: 20 / 3.
    ElbWrite,
    /// CreateLoadBalancer: 10 / 0.2.
    ElbCreate,
    /// Describe: 40 / 10.
    ElbRead,
    /// Blob uploads and reads of ECR: 100 / 100.
    Ecr,
    /// PutImage: 10 / 10.
    EcrPut,
    /// Create, Put and DeleteSecret: 50 / 50.
    Secrets,
    /// Route53: 5 / 5 for the whole account.
    Route53,
    /// ACM: 5 / 5.
    Acm,
    /// CloudWatch Logs: PutLogEvents 800 / 800 per account, the others at least 10 / 10.
    LogsWrite,
    /// Logs reads: 10 / 10.
    LogsRead,
    /// SQS, STS, CloudFormation: no limit that we come near.
    Free,
}

impl Family {
    /// AWS's bucket: how many at once, and how many per second.
    #[must_use]
    pub const fn limit(self) -> (f64, f64) {
        match self {
            Self::EcsRegister => (20.0, 1.0),
            Self::EcsService => (50.0, 5.0),
            Self::EcsRead | Self::EcsTaskRead => (100.0, 20.0),
            Self::EcsTask => (100.0, 40.0),
            Self::ElbWrite => (20.0, 3.0),
            Self::ElbCreate => (10.0, 0.2),
            Self::ElbRead => (40.0, 10.0),
            Self::Ecr => (100.0, 100.0),
            Self::EcrPut | Self::LogsRead => (10.0, 10.0),
            Self::Secrets => (50.0, 50.0),
            Self::Route53 | Self::Acm => (5.0, 5.0),
            Self::LogsWrite => (800.0, 800.0),
            Self::Free => (1_000.0, 1_000.0),
        }
    }
}

macro_rules! calls {
    ($($name:ident = $action:literal in $family:ident),* $(,)?) => {
        /// One AWS call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Call { $($name),* }

        impl Call {
            /// Every call, so that policies and tests of faults miss none.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The IAM action, as `ecs:RunTask`.
            #[must_use]
            pub const fn action(self) -> &'static str {
                match self { $(Self::$name => $action),* }
            }

            /// The bucket it is counted in.
            #[must_use]
            pub const fn family(self) -> Family {
                match self { $(Self::$name => Family::$family),* }
            }
        }
    };
}

calls! {
    DescribeStacks = "cloudformation:DescribeStacks" in Free,
    ReceiveMessage = "sqs:ReceiveMessage" in Free,
    DeleteMessage = "sqs:DeleteMessage" in Free,

    RegisterTaskDefinition = "ecs:RegisterTaskDefinition" in EcsRegister,
    DeregisterTaskDefinition = "ecs:DeregisterTaskDefinition" in EcsRegister,
    DescribeTaskDefinition = "ecs:DescribeTaskDefinition" in EcsRead,
    ListTaskDefinitions = "ecs:ListTaskDefinitions" in EcsRead,
    ListTaskDefinitionFamilies = "ecs:ListTaskDefinitionFamilies" in EcsRead,
    CreateService = "ecs:CreateService" in EcsService,
    UpdateService = "ecs:UpdateService" in EcsService,
    DeleteService = "ecs:DeleteService" in EcsService,
    DescribeServices = "ecs:DescribeServices" in EcsRead,
    ListServices = "ecs:ListServices" in EcsRead,
    RunTask = "ecs:RunTask" in EcsTask,
    StopTask = "ecs:StopTask" in EcsTask,
    DescribeTasks = "ecs:DescribeTasks" in EcsTaskRead,
    ListTasks = "ecs:ListTasks" in EcsTaskRead,

    CreateSecret = "secretsmanager:CreateSecret" in Secrets,
    DescribeSecret = "secretsmanager:DescribeSecret" in Secrets,
    ListSecrets = "secretsmanager:ListSecrets" in Secrets,
    DeleteSecret = "secretsmanager:DeleteSecret" in Secrets,

    BatchDeleteImage = "ecr:BatchDeleteImage" in Ecr,
    BatchGetImage = "ecr:BatchGetImage" in Ecr,
    CheckLayer = "ecr:BatchCheckLayerAvailability" in Ecr,
    CompleteLayerUpload = "ecr:CompleteLayerUpload" in Ecr,
    CreateRepository = "ecr:CreateRepository" in Ecr,
    DeleteRepository = "ecr:DeleteRepository" in Ecr,
    DescribeRepositories = "ecr:DescribeRepositories" in Ecr,
    GetAuthorizationToken = "ecr:GetAuthorizationToken" in Ecr,
    InitiateLayerUpload = "ecr:InitiateLayerUpload" in Ecr,
    ListImages = "ecr:ListImages" in Ecr,
    ListTagsOfRepository = "ecr:ListTagsForResource" in Ecr,
    MountLayer = "ecr:GetDownloadUrlForLayer" in Ecr,
    PutImage = "ecr:PutImage" in EcrPut,
    TagRepository = "ecr:TagResource" in Ecr,
    UploadLayerPart = "ecr:UploadLayerPart" in Ecr,

    CreateLogStream = "logs:CreateLogStream" in LogsWrite,
    DeleteLogStream = "logs:DeleteLogStream" in LogsRead,
    DescribeLogStreams = "logs:DescribeLogStreams" in LogsRead,
    GetLogEvents = "logs:GetLogEvents" in LogsRead,
    PutLogEvents = "logs:PutLogEvents" in LogsWrite,

    CreateLoadBalancer = "elasticloadbalancing:CreateLoadBalancer" in ElbCreate,
    DescribeLoadBalancers = "elasticloadbalancing:DescribeLoadBalancers" in ElbRead,
    CreateListener = "elasticloadbalancing:CreateListener" in ElbWrite,
    DescribeListeners = "elasticloadbalancing:DescribeListeners" in ElbRead,
    CreateTargetGroup = "elasticloadbalancing:CreateTargetGroup" in ElbWrite,
    ModifyTargetGroupAttributes = "elasticloadbalancing:ModifyTargetGroupAttributes" in ElbWrite,
    DeleteTargetGroup = "elasticloadbalancing:DeleteTargetGroup" in ElbWrite,
    DescribeTargetGroups = "elasticloadbalancing:DescribeTargetGroups" in ElbRead,
    CreateRule = "elasticloadbalancing:CreateRule" in ElbWrite,
    ModifyRule = "elasticloadbalancing:ModifyRule" in ElbWrite,
    DeleteRule = "elasticloadbalancing:DeleteRule" in ElbWrite,
    DescribeRules = "elasticloadbalancing:DescribeRules" in ElbRead,
    DescribeTags = "elasticloadbalancing:DescribeTags" in ElbRead,
    AddListenerCertificates = "elasticloadbalancing:AddListenerCertificates" in ElbWrite,
    RemoveListenerCertificates = "elasticloadbalancing:RemoveListenerCertificates" in ElbWrite,
    DescribeListenerCertificates = "elasticloadbalancing:DescribeListenerCertificates" in ElbRead,
    ChangeResourceRecordSets = "route53:ChangeResourceRecordSets" in Route53,
    ListResourceRecordSets = "route53:ListResourceRecordSets" in Route53,
    RequestCertificate = "acm:RequestCertificate" in Acm,
    DescribeCertificate = "acm:DescribeCertificate" in Acm,
    DeleteCertificate = "acm:DeleteCertificate" in Acm,
}

impl Call {
    /// The service's part of the action: `ecs`.
    #[must_use]
    pub fn service(self) -> &'static str {
        self.action().split_once(':').map_or("", |(service, _)| service)
    }

    /// The operation's name: `RunTask`.
    #[must_use]
    pub fn operation(self) -> &'static str {
        self.action().split_once(':').map_or("", |(_, operation)| operation)
    }
}
