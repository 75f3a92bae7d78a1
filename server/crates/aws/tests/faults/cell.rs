//! One cell: a call, a fault, and what has to come of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use paas_aws::{Aws, AwsError, AwsOptions, Call, Foundation};
use paas_domain::InstallId;
use paas_ports::PortError;

use crate::fault::{Fault, WORDS};
use crate::line::Line;
use crate::{stories, support};

/// In every story's config: in no error.
pub(crate) const CANARY: &str = "swordfish-in-the-config";
/// Longer than any operation takes whose every call is late.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often an operation is made again once AWS is well.
const AGAIN: usize = 300;

/// An operation of the drivers in a world of its own.
#[async_trait]
pub(crate) trait Story: Send + Sync {
    /// Makes it, once. May be made again, also when it has succeeded.
    async fn act(&self) -> Result<(), Said>;

    /// The server starts anew: what drivers remember is gone.
    fn restart(&self);

    /// The same, and what it noted down last is lost: it died between an effect and its row.
    async fn relapse(&self) {
        self.restart();
    }

    /// What is wrong though the operation has succeeded; asked of AWS itself.
    async fn wrong(&self) -> Option<String>;

    /// Removes what is left.
    async fn end(&self);
}

/// An error as somebody reads it.
#[derive(Debug)]
pub(crate) struct Said {
    text: String,
    kind: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Transient,
    Permanent,
    NotFound,
    Superseded,
    /// Kept in a row, for the API to show.
    Kept,
}

impl Said {
    /// An error that the operation itself does not return.
    pub(crate) fn kept(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Sort::Kept }
    }
}

impl From<PortError> for Said {
    fn from(error: PortError) -> Self {
        let kind = match &error {
            PortError::Transient { .. } => Sort::Transient,
            PortError::Permanent { .. } => Sort::Permanent,
            PortError::NotFound(_) => Sort::NotFound,
            PortError::Superseded => Sort::Superseded,
        };
        Self { text: error.to_string(), kind }
    }
}

impl From<AwsError> for Said {
    fn from(error: AwsError) -> Self {
        PortError::from(error).into()
    }
}

/// Where a story's drivers and its own questions go.
pub(crate) struct Ways {
    pub(crate) install: InstallId,
    pub(crate) line: Line,
    /// Of who looks and prepares.
    direct: SdkConfig,
    /// Of the drivers.
    lined: SdkConfig,
    pub(crate) options: AwsOptions,
}

impl Ways {
    async fn open(base: &SdkConfig, fault: Fault) -> Self {
        let line = Line::open().await;
        let options = AwsOptions {
            endpoint: Some(line.url.clone()),
            registry: Some(line.host().to_owned()),
            try_timeout: Duration::from_secs(if fault == Fault::Late { 1 } else { 20 }),
            tries: 2,
            backoff: Duration::from_millis(5),
            ..support::options()
        };
        let retry = RetryConfig::standard().with_max_attempts(options.tries).with_initial_backoff(options.backoff);
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(options.try_timeout).build();
        let lined = base.clone().into_builder().endpoint_url(&line.url).retry_config(retry).timeout_config(timeouts);
        Self { install: InstallId::random(), line, direct: base.clone(), lined: lined.build(), options }
    }

    /// A foundation of names.
    pub(crate) fn foundation(&self) -> Foundation {
        support::foundation(&self.install)
    }

    /// The account as drivers see it.
    pub(crate) fn server(&self, foundation: &Foundation) -> Aws {
        Aws::with_config(self.lined.clone(), self.options.clone(), foundation.clone(), self.install.clone())
    }

    /// The account as it is.
    pub(crate) fn account(&self, foundation: &Foundation) -> Aws {
        Aws::with_config(self.direct.clone(), support::options(), foundation.clone(), self.install.clone())
    }
}

/// What became of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The operation succeeded all the same.
    Converged,
    /// It said what is wrong, and succeeded when AWS was well again.
    Reported,
}

/// Plays a cell to its end; an error says what was promised and did not hold.
pub(crate) async fn play(
    base: &SdkConfig,
    call: Call,
    fault: Fault,
    told: serde_json::Value,
) -> Result<Outcome, String> {
    let ways = Arc::new(Ways::open(base, fault).await);
    let story: Arc<dyn Story> = stories::of(call, &ways).await.into();
    let played = through(&ways.line, &story, call, fault, &told).await;
    ways.line.lift().await;
    story.end().await;
    ways.line.close().await;
    played
}

async fn through(
    line: &Line,
    story: &Arc<dyn Story>,
    call: Call,
    fault: Fault,
    told: &serde_json::Value,
) -> Result<Outcome, String> {
    if fault == Fault::Stale {
        // What is read from now on was read before the writes of this.
        again(story).await.map_err(|why| format!("without a fault: {why}"))?;
        story.relapse().await;
    }
    line.strike(told).await;
    let mut under = once(story).await?;
    // On a busy machine a call before it may have taken longer than a try lasts.
    for _ in 0..10 {
        if under.is_ok() || line.struck().await > 0 {
            break;
        }
        under = once(story).await?;
    }
    let struck = line.struck().await;
    line.lift().await;
    if struck == 0 {
        return Err(format!("the fault did not strike; the operation said {under:?}"));
    }
    let outcome = match under {
        Ok(()) => {
            if !fault.deceives()
                && let Some(wrong) = story.wrong().await
            {
                return Err(format!("it says it is done, and {wrong}"));
            }
            Outcome::Converged
        }
        Err(said) => {
            judge(&said, fault)?;
            Outcome::Reported
        }
    };
    // One half goes on in the same process, the other one in the next.
    if (call as usize + fault as usize).is_multiple_of(2) {
        story.restart();
    }
    again(story).await.map_err(|why| format!("when AWS is well again: {why}"))?;
    match story.wrong().await {
        Some(wrong) => Err(format!("when AWS is well again, {wrong}")),
        None => Ok(outcome),
    }
}

/// The operation once: it neither panics nor hangs.
async fn once(story: &Arc<dyn Story>) -> Result<Result<(), Said>, String> {
    let played = Arc::clone(story);
    let task = tokio::spawn(async move { played.act().await });
    let stop = task.abort_handle();
    match tokio::time::timeout(PATIENCE, task).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(broken)) => Err(format!("it panics: {broken}")),
        Err(_) => {
            stop.abort();
            Err("it hangs".to_owned())
        }
    }
}

/// The operation until it succeeds, as a job makes it: what is permanent is not made again.
async fn again(story: &Arc<dyn Story>) -> Result<(), String> {
    let mut last = None;
    for _ in 0..AGAIN {
        match once(story).await? {
            Ok(()) => return Ok(()),
            Err(said) if matches!(said.kind, Sort::Permanent | Sort::Superseded) => {
                return Err(format!("it fails for good: {said:?}"));
            }
            Err(said) => last = Some(said),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("it does not come to rest: {last:?}"))
}

/// Whether an error says what it should, in the right way.
fn judge(said: &Said, fault: Fault) -> Result<(), String> {
    let right = match said.kind {
        Sort::Transient => fault.passes(),
        Sort::Permanent => !fault.passes(),
        Sort::NotFound => fault == Fault::NotYet,
        Sort::Superseded => false,
        Sort::Kept => true,
    };
    if !right {
        return Err(format!("it fails in the wrong way: {said:?}"));
    }
    if said.text.contains(CANARY) {
        return Err(format!("a secret is in {said:?}"));
    }
    let silent = matches!(fault, Fault::Late | Fault::Dropped | Fault::AllLost | Fault::Stale);
    // What AWS refused is AWS's to explain; where nothing came, we do. Where one answer was lost, the next one is a
    // refusal of AWS's own: it is there already.
    let explained = if fault == Fault::Lost {
        said.text.contains(": ")
    } else if silent {
        ["AWS", "registry"].iter().any(|who| said.text.contains(who))
    } else {
        // The registry answers a HEAD without words; what is not there yet is told in our own; so is what CloudWatch
        // has rejected.
        [WORDS, "the registry answered", "did not take all"].iter().any(|words| said.text.contains(words))
            || fault == Fault::NotYet
    };
    if explained { Ok(()) } else { Err(format!("its cause is not said: {said:?}")) }
}
