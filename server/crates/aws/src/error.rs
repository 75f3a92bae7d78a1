//! What came back from AWS, sorted by what can be done about it.

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use paas_ports::PortError;

/// What can be done about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Too many calls: later.
    Throttled,
    /// Time-outs, 5xx, dropped connections: it may have happened; look, then again.
    Transient,
    /// IAM says no: somebody must change a policy.
    Denied,
    /// What was named is not there (or not yet: reads may be a minute old).
    NotFound,
    /// A quota of the account is used up.
    Quota,
    /// It is there already, in use, or changed under way.
    Conflict,
    /// The rest: making the call again cannot help.
    Other,
}

/// A failed call. Its text is safe to show: AWS's messages name actions, principals and ARNs, and never hold
/// what a request carried.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{doing}: {message}")]
pub struct AwsError {
    /// What can be done about it.
    pub kind: Kind,
    /// AWS's code, as `ThrottlingException`; empty when nothing came back.
    pub code: String,
    /// AWS's words.
    pub message: String,
    /// What was being done.
    pub doing: String,
}

impl AwsError {
    /// One that we found ourselves.
    pub fn own(kind: Kind, doing: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, code: String::new(), message: message.into(), doing: doing.into() }
    }

    /// What the SDK says.
    pub fn from_sdk<E>(doing: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let (code, message, status) = match error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let status = service.raw().status().as_u16();
                let said = meta.message().or(meta.code()).map(str::to_owned);
                // Some answers of some services have no words that the SDK finds.
                let message = said.unwrap_or_else(|| match status {
                    403 => "AWS refused it (403): the server's policy does not allow it".to_owned(),
                    _ => format!("AWS refused it ({status}) and gave no reason"),
                });
                (meta.code().unwrap_or_default().to_owned(), message, status)
            }
            SdkError::ResponseError(response) => {
                (String::new(), "AWS's answer could not be read".to_owned(), response.raw().status().as_u16())
            }
            SdkError::TimeoutError(_) => (String::new(), "AWS did not answer in time".to_owned(), 0),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                (String::new(), "AWS did not answer in time".to_owned(), 0)
            }
            SdkError::DispatchFailure(_) => (String::new(), "AWS could not be reached".to_owned(), 0),
            _ => (String::new(), "the request could not be made".to_owned(), 400),
        };
        let kind = kind_of(&code, status);
        Self { kind, code, message, doing: doing.to_owned() }
    }

    /// Whether AWS's code is one of these.
    #[must_use]
    pub fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }
}

/// By the code where there is one: variants differ between services, codes do not. ELBv2's and S3's lack the
/// "Exception" that others have.
fn kind_of(code: &str, status: u16) -> Kind {
    let name = code.strip_suffix("Exception").unwrap_or(code);
    match name {
        "Throttling"
        | "ThrottledException"
        | "Throttled"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "SlowDown"
        | "RequestThrottled"
        | "PriorRequestNotComplete" => Kind::Throttled,
        "AccessDenied"
        | "AccessDeniedFault"
        | "UnauthorizedOperation"
        | "NotAuthorized"
        | "UnrecognizedClient"
        | "InvalidClientTokenId"
        | "InvalidSignature"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "MissingAuthenticationToken"
        | "OptInRequired" => Kind::Denied,
        "LimitExceeded" | "ServiceQuotaExceeded" | "QuotaExceeded" => Kind::Quota,
        "ServiceUnavailable"
        | "InternalFailure"
        | "InternalError"
        | "InternalServerError"
        | "InternalService"
        | "Server"
        | "RequestTimeout" => Kind::Transient,
        _ if name.ends_with("NotFound") || name.starts_with("NoSuch") || name.ends_with("NonExistentQueue") => {
            Kind::NotFound
        }
        _ if name.starts_with("TooMany") => Kind::Quota,
        _ if name.ends_with("AlreadyExists") || name.ends_with("InUse") || name.starts_with("Duplicate") => {
            Kind::Conflict
        }
        _ => match status {
            429 => Kind::Throttled,
            0 | 500..=599 => Kind::Transient,
            403 => Kind::Denied,
            _ => Kind::Other,
        },
    }
}

/// What to do when IAM says no. The installer's policies hold every call; somebody has changed one, or stands above it.
pub(crate) const DENIED: &str = "run `paas install` again to give the server's role what it needs; if that does not \
    help, a permissions boundary or a policy of your organisation forbids it";

impl From<AwsError> for PortError {
    fn from(error: AwsError) -> Self {
        let refused = ["AccessDenied", "UnauthorizedOperation", "NotAuthorized"];
        let by_policy = error.code.is_empty() || refused.iter().any(|code| error.code.starts_with(code));
        if error.kind == Kind::Denied && by_policy {
            return Self::permanent(error.doing, format!("{} ({DENIED})", error.message));
        }
        match error.kind {
            Kind::Throttled | Kind::Transient | Kind::Conflict => Self::transient(error.doing, error.message),
            Kind::NotFound => Self::NotFound(format!("{} ({})", error.doing, error.message)),
            Kind::Denied | Kind::Quota | Kind::Other => Self::permanent(error.doing, error.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let denied = AwsError {
            code: "AccessDeniedException".to_owned(),
            ..AwsError::own(
                Kind::Denied,
                "changing a service",
                "User x is not authorized to perform: ecs:UpdateService",
            )
        };
        let said = PortError::from(denied.clone()).to_string();
        assert!(said.contains("ecs:UpdateService (run `paas install` again"), "{said}");
        // Of credentials that have ended, no policy is to blame.
        let ended = AwsError { code: "ExpiredTokenException".to_owned(), ..denied };
        assert!(!PortError::from(ended).to_string().contains("paas install"));
    }

    #[test]
    fn codes_say_what_can_be_done() {
        for (code, status, kind) in [
            ("ThrottlingException", 400, Kind::Throttled),
            ("Throttling", 400, Kind::Throttled),
            ("TooManyRequestsException", 429, Kind::Throttled),
            ("AccessDeniedException", 400, Kind::Denied),
            ("AccessDenied", 403, Kind::Denied),
            ("ClusterNotFoundException", 400, Kind::NotFound),
            ("LoadBalancerNotFound", 400, Kind::NotFound),
            ("NoSuchKey", 404, Kind::NotFound),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, Kind::NotFound),
            ("TooManyRules", 400, Kind::Quota),
            ("TooManyUniqueTargetGroupsPerLoadBalancer", 400, Kind::Quota),
            ("RepositoryAlreadyExistsException", 400, Kind::Conflict),
            ("PriorityInUse", 400, Kind::Conflict),
            ("InvalidParameterException", 400, Kind::Other),
            ("ServerException", 500, Kind::Transient),
            ("", 503, Kind::Transient),
            ("", 0, Kind::Transient),
        ] {
            assert_eq!(kind_of(code, status), kind, "{code} {status}");
        }
    }
}
