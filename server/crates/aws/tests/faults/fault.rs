//! The nine faults of AWS, in the words of each service, and the rule that says where each can strike.

use paas_aws::Call;
use serde_json::{Value, json};

/// What AWS does to a call. Answers that are lost, and what is used up or not allowed, are two each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Too many calls, for as long as it is tried.
    Throttled,
    /// 500, once: the next try works.
    Broken,
    /// 503, for as long as it is tried.
    Unavailable,
    /// No answer in time, and nothing was done.
    Late,
    /// The connection ends before anything was done.
    Dropped,
    /// It takes effect, and its answer is lost, once.
    Lost,
    /// It takes effect every time it is tried, and nobody ever hears of it.
    AllLost,
    /// A read says what it said before the last write.
    Stale,
    /// What was just made is not there yet.
    NotYet,
    /// 200, and in it that a part, or all, has failed.
    Partial,
    /// IAM says no.
    Denied,
    /// A quota is used up.
    Full,
}

impl Fault {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Throttled,
        Self::Broken,
        Self::Unavailable,
        Self::Late,
        Self::Dropped,
        Self::Lost,
        Self::AllLost,
        Self::Stale,
        Self::NotYet,
        Self::Partial,
        Self::Denied,
        Self::Full,
    ];

    /// Whether an operation that says it is done may yet have left AWS as it was: it was told that there is nothing,
    /// or that all is as it should be.
    pub(crate) fn deceives(self) -> bool {
        matches!(self, Self::Stale | Self::NotYet)
    }

    /// Whether asking again later is what helps.
    pub(crate) fn passes(self) -> bool {
        !matches!(self, Self::Denied | Self::Full)
    }
}

/// What every injected answer says: an error that is shown has to have it.
pub(crate) const WORDS: &str = "injected by the matrix of faults";

/// What the proxy is told, or why the fault cannot strike this call.
pub(crate) fn strike(call: Call, fault: Fault) -> Result<Value, &'static str> {
    if call == Call::TagRepository {
        return Err("only IAM knows it, when a repository is made with its tags");
    }
    let mut told = match fault {
        Fault::Throttled => refusal(call, throttled(call)),
        Fault::Broken => {
            let mut told = refusal(call, (500, "InternalFailure"));
            told["times"] = 1.into();
            told
        }
        Fault::Unavailable => refusal(call, (503, "ServiceUnavailable")),
        // Longer than a try lasts: see `cell`.
        Fault::Late => json!({"delay": 2.2, "drop": "before"}),
        Fault::Dropped => json!({"drop": "before"}),
        Fault::Lost => json!({"drop": "after", "times": 1}),
        Fault::AllLost => json!({"drop": "after"}),
        Fault::Stale if !is_read(call) => return Err("it writes, and a read is what can be stale"),
        Fault::Stale if on_the_wire(call) => {
            return Err("of the registry's own protocol; what is stale there is not there yet");
        }
        Fault::Stale => json!({"stale": true}),
        Fault::NotYet => not_yet(call).ok_or("it names nothing that the drivers have made")?,
        Fault::Partial => partial(call).ok_or("its answer has no part that can fail")?,
        Fault::Denied => refusal(call, denied(call)),
        Fault::Full => {
            let code = full(call).ok_or("it makes nothing")?;
            let mut told = refusal(call, (400, code));
            // The SDK takes this code for throttling and asks once more.
            told["times"] = if code == "LimitExceededException" { 2 } else { 1 }.into();
            told
        }
    };
    told["target"] = target(call).into();
    Ok(told)
}

/// Whether it goes by the registry's own protocol, which has neither operations nor codes.
fn on_the_wire(call: Call) -> bool {
    wire(call).is_some()
}

/// How the proxy knows a request of the registry's protocol.
fn wire(call: Call) -> Option<&'static str> {
    match call {
        Call::CheckLayer => Some("^registry:HEAD "),
        Call::InitiateLayerUpload => Some("^registry:POST (?!.*mount=)"),
        Call::MountLayer => Some("^registry:POST .*mount="),
        Call::UploadLayerPart => Some("^registry:PATCH "),
        Call::CompleteLayerUpload => Some("^registry:PUT .*/blobs/uploads/"),
        Call::PutImage => Some("^registry:PUT .*/manifests/"),
        _ => None,
    }
}

fn target(call: Call) -> String {
    match (wire(call), call) {
        (Some(wire), _) => wire.to_owned(),
        // IAM has one action for the call and its batch.
        (None, Call::DeleteMessage) => "^sqs:DeleteMessageBatch ".to_owned(),
        (None, _) => format!("^{}:{} ", call.service(), call.operation()),
    }
}

fn is_read(call: Call) -> bool {
    let begins = |word: &&str| call.operation().starts_with(word);
    ["Describe", "List", "Get", "BatchGet", "BatchCheck"].iter().any(begins)
        // It takes nothing that a write makes.
        && call != Call::GetAuthorizationToken
}

/// JSON services end their codes with "Exception", XML services do not.
fn speaks_json(call: Call) -> bool {
    !matches!(call.service(), "elasticloadbalancing" | "route53" | "cloudformation")
}

fn refusal(call: Call, (status, code): (u16, &str)) -> Value {
    if on_the_wire(call) {
        return wire_refusal(status, code);
    }
    json!({"status": status, "code": code, "message": WORDS})
}

fn wire_refusal(status: u16, code: &str) -> Value {
    let body = json!({"errors": [{"code": code, "message": WORDS}]}).to_string();
    json!({"status": status, "body": body, "type": "application/json"})
}

fn throttled(call: Call) -> (u16, &'static str) {
    match call {
        _ if on_the_wire(call) => (429, "TOOMANYREQUESTS"),
        Call::ChangeResourceRecordSets => (400, "PriorRequestNotComplete"),
        _ if speaks_json(call) => (400, "ThrottlingException"),
        _ => (400, "Throttling"),
    }
}

fn denied(call: Call) -> (u16, &'static str) {
    match call {
        _ if on_the_wire(call) => (403, "DENIED"),
        _ if speaks_json(call) => (400, "AccessDeniedException"),
        _ => (403, "AccessDenied"),
    }
}

/// The code of a quota that this call can use up.
fn full(call: Call) -> Option<&'static str> {
    Some(match call {
        Call::PutImage | Call::InitiateLayerUpload => "LIMIT_EXCEEDED",
        Call::CreateLoadBalancer => "TooManyLoadBalancers",
        Call::CreateListener => "TooManyListeners",
        Call::CreateTargetGroup => "TooManyTargetGroups",
        Call::CreateRule => "TooManyRules",
        Call::ModifyRule => "TooManyTargetGroups",
        Call::AddListenerCertificates => "TooManyCertificates",
        Call::ChangeResourceRecordSets => "LimitsExceeded",
        Call::RegisterTaskDefinition
        | Call::CreateService
        | Call::RunTask
        | Call::CreateSecret
        | Call::CreateRepository
        | Call::CreateLogStream
        | Call::RequestCertificate => "LimitExceededException",
        _ => return None,
    })
}

/// What AWS says of a thing that a driver made a moment ago and that this call names. Cluster, zone, queue, log group
/// and the first balancer are the foundation's: made long before. What is removed or read back is what AWS itself has
/// listed or shown before: a definition that has run, a certificate with its record, a stream with lines.
fn not_yet(call: Call) -> Option<Value> {
    let missing = |code: &str| Some(json!({"status": 400, "code": code, "message": format!("not found: {WORDS}")}));
    let said = |message: &str| Some(json!({"status": 400, "code": "ClientException", "message": message}));
    match call {
        Call::DescribeServices => answer(&json!({"services": [], "failures": [{"arn": "x", "reason": "MISSING"}]})),
        Call::DescribeTasks => answer(&json!({"tasks": [], "failures": [{"arn": "x", "reason": "MISSING"}]})),
        Call::CreateService | Call::RunTask | Call::UpdateService => {
            said(&format!("TaskDefinition not found. {WORDS}"))
        }
        Call::DescribeTaskDefinition => said(&format!("Unable to describe task definition. {WORDS}")),
        Call::DeleteService | Call::ListTasks => missing("ServiceNotFoundException"),
        Call::StopTask => Some(json!({"status": 400, "code": "InvalidParameterException",
            "message": format!("The referenced task was not found. {WORDS}")})),
        Call::DescribeSecret | Call::DeleteSecret => missing("ResourceNotFoundException"),
        Call::BatchDeleteImage
        | Call::BatchGetImage
        | Call::DeleteRepository
        | Call::DescribeRepositories
        | Call::ListImages
        | Call::ListTagsOfRepository => missing("RepositoryNotFoundException"),
        Call::CheckLayer => Some(wire_refusal(404, "BLOB_UNKNOWN")),
        Call::InitiateLayerUpload | Call::MountLayer => Some(wire_refusal(404, "NAME_UNKNOWN")),
        Call::UploadLayerPart | Call::CompleteLayerUpload => Some(wire_refusal(404, "BLOB_UPLOAD_UNKNOWN")),
        Call::PutImage => Some(wire_refusal(404, "LAYERS_NOT_FOUND")),
        Call::DeleteLogStream | Call::PutLogEvents => missing("ResourceNotFoundException"),
        Call::DescribeLoadBalancers | Call::CreateListener | Call::DescribeListeners => missing("LoadBalancerNotFound"),
        Call::ModifyTargetGroupAttributes | Call::DescribeTargetGroups | Call::CreateRule => {
            missing("TargetGroupNotFound")
        }
        Call::ModifyRule | Call::DeleteRule | Call::DescribeTags => missing("RuleNotFound"),
        Call::AddListenerCertificates => missing("CertificateNotFound"),
        Call::DescribeCertificate => missing("ResourceNotFoundException"),
        _ => None,
    }
}

/// A 200 that says inside what has failed.
fn partial(call: Call) -> Option<Value> {
    let image = json!({"failures": [{"imageId": {}, "failureCode": "KmsError", "failureReason": WORDS}]});
    match call {
        Call::DescribeServices => answer(&json!({"services": [], "failures": [{"arn": "x", "reason": WORDS}]})),
        Call::DescribeTasks => answer(&json!({"tasks": [], "failures": [{"arn": "x", "reason": WORDS}]})),
        // No capacity comes like this.
        Call::RunTask => answer(&json!({"tasks": [], "failures":
            [{"reason": format!("Capacity is unavailable at this time. {WORDS}")}]})),
        Call::BatchGetImage | Call::BatchDeleteImage => answer(&image),
        Call::DeleteMessage => answer(&json!({"Successful": [], "Failed":
            [{"Id": "0", "SenderFault": false, "Code": "InternalError", "Message": WORDS}]})),
        Call::PutLogEvents => answer(&json!({"rejectedLogEventsInfo": {"tooNewLogEventStartIndex": 0}})),
        _ => None,
    }
}

fn answer(body: &Value) -> Option<Value> {
    Some(json!({"body": body.to_string()}))
}
