//! What of an AWS account the installer needs.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::parameters::Parameters;
use crate::error::AwsError;

/// A stack as CloudFormation describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Its ARN: a deleted stack is still found by it.
    pub id: String,
    /// As `CREATE_COMPLETE`.
    pub status: String,
    /// What it was last made with.
    pub parameters: BTreeMap<String, String>,
    /// What it says of itself.
    pub outputs: BTreeMap<String, String>,
}

impl Stack {
    /// Whether CloudFormation is at work on it.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.status.ends_with("_IN_PROGRESS") && self.status != "REVIEW_IN_PROGRESS"
    }

    /// Whether it was made once and is there now, so that its parameters count.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.status.starts_with("UPDATE_") || self.status.starts_with("IMPORT_") || self.status == "CREATE_COMPLETE"
    }

    /// Whether it is as it was last asked to be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self.status.as_str(), "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE")
    }
}

/// A change set: what would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposal {
    /// As `CREATE_COMPLETE` or `FAILED`.
    pub status: String,
    /// Whether it can be executed: made, not run yet, and the stack is as it was then.
    pub can_run: bool,
    /// Why it failed, in CloudFormation's words.
    pub reason: String,
    /// One per resource.
    pub changes: Vec<Change>,
}

impl Proposal {
    /// Whether it failed because there is nothing to do. CloudFormation has no other sign than its words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let reason = self.reason.to_ascii_lowercase();
        self.status == "FAILED"
            && (reason.contains("didn't contain changes") || reason.contains("no updates are to be performed"))
    }
}

/// One resource that would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// `Add`, `Modify`, `Remove`.
    pub action: String,
    /// Its name in the template.
    pub resource: String,
    /// As `AWS::EC2::VPC`.
    pub kind: String,
    /// Whether the one that is there goes away for certain.
    pub replaces: bool,
}

/// One thing that happened to a resource of the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Tells events apart.
    pub id: String,
    /// Its name in the template.
    pub resource: String,
    /// As `AWS::EC2::VPC`.
    pub kind: String,
    /// What it is called outside; of the stack itself, its ARN.
    pub physical_id: String,
    /// As `CREATE_FAILED`.
    pub status: String,
    /// Why, in AWS's words; often empty.
    pub reason: String,
}

/// A public zone of Route 53.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Without `/hostedzone/`.
    pub id: String,
    /// Without the dot at its end.
    pub name: String,
}

/// A certificate of ACM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// As `ISSUED`.
    pub status: String,
    /// What it is for.
    pub names: Vec<String>,
}

/// One account in one region. Every method is one question or one wish, and may be repeated.
#[async_trait]
pub trait Account: Send + Sync {
    /// The twelve digits.
    async fn account_id(&self) -> Result<String, AwsError>;
    /// The stack by name or ARN; `None` when there is none or it was deleted.
    async fn stack(&self, name: &str) -> Result<Option<Stack>, AwsError>;
    /// The template that the stack was last made with, byte for byte.
    async fn template(&self, name: &str) -> Result<String, AwsError>;
    /// Asks CloudFormation what it would do. Succeeds when a proposal of that name is there.
    async fn propose(
        &self,
        stack: &str,
        name: &str,
        is_new: bool,
        body: &str,
        parameters: &Parameters,
    ) -> Result<(), AwsError>;
    /// What became of a proposal.
    async fn proposal(&self, stack: &str, name: &str) -> Result<Proposal, AwsError>;
    /// Starts to do it.
    async fn execute(&self, stack: &str, name: &str) -> Result<(), AwsError>;
    /// Forgets a proposal.
    async fn withdraw(&self, stack: &str, name: &str) -> Result<(), AwsError>;
    /// Starts to delete a stack.
    async fn delete(&self, stack: &str) -> Result<(), AwsError>;
    /// Lets a rollback that got stuck go on.
    async fn continue_rollback(&self, stack: &str) -> Result<(), AwsError>;
    /// What happened since `after`, oldest first; without it, since the current or last operation began.
    async fn events(&self, stack: &str, after: Option<&str>) -> Result<Vec<Event>, AwsError>;
    /// The account's public zones.
    async fn zones(&self) -> Result<Vec<Zone>, AwsError>;
    /// Whether there is such a cluster, in use.
    async fn has_cluster(&self, name: &str) -> Result<bool, AwsError>;
    /// A certificate by its ARN.
    async fn certificate(&self, arn: &str) -> Result<Certificate, AwsError>;
}
