//! `install`: the foundation in an account, by CloudFormation and by nothing else.
//!
//! One call of [`install`] looks at what is there, says what it will make and what it costs, asks, applies it as a
//! change set and follows the stack until it rests. Every step looks before it acts, and nothing is remembered outside
//! AWS: stopped anywhere and run again, it goes on from what it finds; run again after that, it changes nothing.
//!
//! [`Account`] is what of AWS it needs, so that every state of a stack can be tried without one.

mod account;
mod apply;
mod cost;
mod parameters;
#[cfg(test)]
mod policy_tests;
mod sdk;
mod template;
mod words;

use std::time::Duration;

pub use account::{Account, Certificate, Change, Event, Proposal, Stack, Zone};
pub use apply::Outcome;
pub use parameters::{Parameters, Wish};
pub use sdk::Sdk;
pub use template::{policy, template};
pub use words::next_steps;

use crate::error::AwsError;

/// How the installer speaks to whoever runs it.
pub trait Talk: Send + Sync {
    /// One line of progress, without its end.
    fn tell(&self, line: &str);
    /// Asks for a yes. Not asked when everything was agreed to beforehand.
    fn agree(&self, question: &str) -> bool;
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two looks at the stack.
    pub poll: Duration,
    /// After which a stack that still moves is left to itself; running again waits on.
    pub patience: Duration,
}

impl Default for Pace {
    /// Every five seconds, for four hours: a database takes ten minutes, a certificate as long as its name servers.
    fn default() -> Self {
        Self { poll: Duration::from_secs(5), patience: Duration::from_secs(4 * 3600) }
    }
}

/// Why there is no foundation.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// What was asked for makes no sense or cannot be.
    #[error("{0}")]
    Refused(String),
    /// Whoever was asked did not say yes.
    #[error("nothing was done")]
    NotAgreed,
    /// AWS refused a call.
    #[error("{}", words::of_aws(.0))]
    Aws(#[from] AwsError),
    /// CloudFormation could not make it, and has taken back what it had made.
    #[error(
        "CloudFormation could not build stack {stack} ({status}):\n{causes}\nPut that right and run the same command again."
    )]
    Failed {
        /// The stack.
        stack: String,
        /// Where it rests now.
        status: String,
        /// What failed first, a line each.
        causes: String,
    },
    /// It still moves.
    #[error("stack {stack} still is {status}: it goes on by itself; run the same command again to wait for it")]
    StillMoving {
        /// The stack.
        stack: String,
        /// What it does.
        status: String,
    },
}

/// Makes the foundation be what `wish` says, and says how it is reached.
///
/// # Errors
/// When it cannot be; whatever was made stays under CloudFormation's care, and the call can be repeated.
pub async fn install(
    account: &dyn Account,
    wish: &Wish,
    talk: &dyn Talk,
    pace: Pace,
) -> Result<(Outcome, Stack), InstallError> {
    wish.check().map_err(InstallError::Refused)?;
    let owner = account.account_id().await?;
    let mut applier = apply::Applier { account, talk, pace, stack: &wish.stack };
    let found = applier.at_rest().await?;
    let parameters = decide(account, wish, &owner, found.as_ref()).await?;
    let body = template();
    if let Some(stack) = found.as_ref().filter(|stack| stack.is_whole())
        && stack.parameters == *parameters.as_map()
        && account.template(&wish.stack).await? == body
    {
        return Ok((Outcome::Unchanged, stack.clone()));
    }
    words::plan(talk, wish, &owner, &parameters, found.as_ref());
    if !talk.agree("Go on?") {
        return Err(InstallError::NotAgreed);
    }
    applier.apply(&body, &parameters, wish.replace, found).await
}

/// The parameters, from what was asked, what the stack has, and what the account has.
async fn decide(
    account: &dyn Account,
    wish: &Wish,
    owner: &str,
    found: Option<&Stack>,
) -> Result<Parameters, InstallError> {
    let standing = found.filter(|stack| stack.stands());
    let mut wish = wish.clone();
    if wish.zone.is_none() && standing.is_none() {
        let zones = account.zones().await?;
        wish.zone = Some(parameters::zone_for(&wish.domain, &zones).map_or_else(String::new, |zone| zone.id.clone()));
    }
    let parameters = Parameters::decide(&wish, owner, standing).map_err(InstallError::Refused)?;
    let is_new = |name: &str| {
        standing.is_none_or(|stack| stack.parameters.get(name).map(String::as_str) != Some(parameters.get(name)))
    };
    let cluster = parameters.get("ClusterName");
    if !cluster.is_empty() && is_new("ClusterName") && !account.has_cluster(cluster).await? {
        return Err(InstallError::Refused(format!("there is no active cluster {cluster} in {}", wish.region)));
    }
    let certificate = parameters.get("CertificateArn");
    if !certificate.is_empty() && is_new("CertificateArn") {
        let found = account.certificate(certificate).await?;
        parameters::check_certificate(&found, parameters.get("Domain")).map_err(InstallError::Refused)?;
    }
    let zone = parameters.get("HostedZoneId");
    if !zone.is_empty() && is_new("HostedZoneId") {
        let zones = account.zones().await?;
        let Some(known) = zones.iter().find(|known| known.id == zone) else {
            return Err(InstallError::Refused(format!("there is no public zone {zone} in account {owner}")));
        };
        if !parameters::is_within(parameters.get("Domain"), &known.name) {
            return Err(InstallError::Refused(format!(
                "{} is not in the zone {}",
                parameters.get("Domain"),
                known.name
            )));
        }
    }
    Ok(parameters)
}
