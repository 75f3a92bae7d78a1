//! Why a task does not serve, in words that say what to do. Pure.
//!
//! AWS's texts are from "Stopped tasks error messages" (ECS developer guide); they name ARNs, never values.

use paas_domain::Timestamp;

use super::sight::Task;

/// The most of AWS's words that is shown.
const MOST_WORDS: usize = 400;
/// What AWS says when a quota is used up, as of tasks or of vCPUs.
pub(crate) const QUOTA: &str = "reached the limit";

/// Why a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Heroku's code, when it has one.
    pub code: Option<&'static str>,
    /// A sentence.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// Whether a task that ended did so by itself or for a fault of its own: not because we, the scheduler or AWS
/// (Spot, maintenance) ended it.
#[must_use]
pub fn is_fault(task: &Task) -> bool {
    task.stopped()
        && (matches!(task.stop_code.as_str(), "EssentialContainerExited" | "TaskFailedToStart")
            || failed_checks(task)
            // ECS leaves the code out for some tasks that never ran.
            || task.stop_code.is_empty() && !task.reason.is_empty())
}

fn failed_checks(task: &Task) -> bool {
    task.reason.contains("health checks")
}

/// Why it ended. `web` tells whether it had to listen, `was_up` whether it ever served.
#[must_use]
pub fn ending(task: &Task, web: bool, was_up: bool, boot_timeout_s: u64) -> Ending {
    let at = task.stopped_at.or(task.stopping_at).unwrap_or(task.created_at);
    let (code, message) = words(task, web, was_up, boot_timeout_s);
    Ending { code, message, at }
}

fn words(task: &Task, web: bool, was_up: bool, boot_timeout_s: u64) -> (Option<&'static str>, String) {
    let all = format!("{} {}", task.reason, task.container_reason);
    let has = |needle: &str| all.contains(needle);
    let said = || {
        let reason = if task.container_reason.is_empty() { &task.reason } else { &task.container_reason };
        reason.chars().take(MOST_WORDS).collect::<String>()
    };
    if has("OutOfMemory") {
        return (Some("R15"), "Error R15 (Memory quota vastly exceeded)".to_owned());
    }
    if failed_checks(task) {
        if web && !was_up {
            let text = format!(
                "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {boot_timeout_s} seconds of launch"
            );
            return (Some("R10"), text);
        }
        let text = if web {
            "Web process no longer answers its health check"
        } else {
            "Process does not run: its health check fails"
        };
        return (None, text.to_owned());
    }
    if has("CannotPullContainer") || has("CannotPullImageManifest") {
        let text =
            format!("The release's image cannot be pulled: push again to store it anew, or roll back ({})", said());
        return (None, text);
    }
    if has("ResourceInitializationError") {
        let text = if has("secret") || has("Secret") {
            "The release's config vars cannot be read: change a config var to make a new release"
        } else if has("logger") || has("log group") {
            "The log group is not there: run `paas install` again"
        } else {
            "AWS could not prepare the dyno"
        };
        return (None, format!("{text} ({})", said()));
    }
    if has("CannotStartContainer") || has("CannotCreateContainer") {
        return (None, format!("Process could not be started: {}", said()));
    }
    if task.exit_code.is_none() && (has("apacity") || has(QUOTA)) {
        return (None, unplaced(&said()));
    }
    match task.exit_code {
        Some(code) => (None, exited(code)),
        None => (None, format!("Process could not be started: {}", said())),
    }
}

/// Whether a task ended because AWS had no room for it, before it ever ran.
#[must_use]
pub fn had_no_room(task: &Task) -> bool {
    let says = |text: &str| text.contains("apacity") || text.contains(QUOTA);
    task.stopped() && task.exit_code.is_none() && (says(&task.reason) || says(&task.container_reason))
}

/// What it means that AWS places a dyno nowhere, and what to do about it, around AWS's own words.
#[must_use]
pub fn unplaced(said: &str) -> String {
    let words: String = said.chars().take(MOST_WORDS).collect();
    if said.contains(QUOTA) {
        return format!("The account may run no more on Fargate: ask AWS for a higher quota, or run less ({words})");
    }
    if said.contains("apacity") || said.starts_with("RESOURCE:") {
        return format!("AWS has no room for this dyno at the moment ({words})");
    }
    format!("AWS does not start this dyno at the moment ({words})")
}

/// `Process exited with status 3`.
#[must_use]
pub fn exited(code: i32) -> String {
    format!("Process exited with status {code}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecs::plan::tests::task;

    fn ended(stop_code: &str, reason: &str, container: &str, exit_code: Option<i32>) -> Task {
        Task {
            stop_code: stop_code.to_owned(),
            reason: reason.to_owned(),
            container_reason: container.to_owned(),
            exit_code,
            last_status: "STOPPED".to_owned(),
            leaving: true,
            ..task(1, "ecs-svc/1")
        }
    }

    #[test]
    fn says_what_to_do() {
        let essential = "Essential container in task exited";
        for (task, code, begins) in [
            (ended("EssentialContainerExited", essential, "", Some(3)), None, "Process exited with status 3"),
            (
                ended(
                    "EssentialContainerExited",
                    essential,
                    "OutOfMemoryError: Container killed due to memory usage",
                    Some(137),
                ),
                Some("R15"),
                "Error R15",
            ),
            (
                ended("TaskFailedToStart", "CannotPullContainerError: pull image manifest has been retried", "", None),
                None,
                "The release's image cannot be pulled",
            ),
            (
                ended(
                    "TaskFailedToStart",
                    "ResourceInitializationError: unable to pull secrets or registry auth: secret is marked for deletion",
                    "",
                    None,
                ),
                None,
                "The release's config vars cannot be read",
            ),
            (
                ended("ServiceSchedulerInitiated", "Task failed ELB health checks in (target-group x)", "", Some(143)),
                Some("R10"),
                "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 60 seconds",
            ),
            (
                ended("TaskFailedToStart", "Capacity is unavailable at this time. Please try again later", "", None),
                None,
                "AWS has no room",
            ),
        ] {
            assert!(is_fault(&task), "{task:?}");
            let ending = ending(&task, true, false, 60);
            assert_eq!(ending.code, code, "{ending:?}");
            assert!(ending.message.starts_with(begins), "{ending:?}");
        }
    }

    #[test]
    fn what_is_placed_nowhere_says_what_to_do() {
        let limit = "You've reached the limit on the number of vCPUs you can run concurrently.";
        let capacity =
            "Capacity is unavailable at this time. Please try again later or in a different availability zone.";
        for (said, begins) in [
            (limit, "The account may run no more on Fargate: ask AWS for a higher quota"),
            (capacity, "AWS has no room for this dyno at the moment (Capacity"),
            ("RESOURCE:FARGATE", "AWS has no room"),
            ("something else", "AWS does not start this dyno"),
        ] {
            assert!(unplaced(said).starts_with(begins) && unplaced(said).contains(said), "{}", unplaced(said));
        }
        assert!(had_no_room(&ended("TaskFailedToStart", capacity, "", None)));
        assert!(!had_no_room(&ended("EssentialContainerExited", "Essential container in task exited", "", Some(1))));
    }

    #[test]
    fn who_was_told_to_stop_is_not_to_blame() {
        for (code, reason) in [
            ("UserInitiated", "stopped"),
            ("ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/1)"),
            ("SpotInterruption", "Your Spot Task was interrupted."),
            ("TerminationNotice", ""),
        ] {
            assert!(!is_fault(&ended(code, reason, "", Some(143))), "{code}");
        }
    }
}
