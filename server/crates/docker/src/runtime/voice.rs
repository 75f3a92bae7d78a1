//! What Heroku says in an app's log about a dyno, in its words.

use paas_domain::Timestamp;
use paas_ports::{LogLine, LogSource};

use super::facts::{Exit, Failure};
use super::tag::Tag;

/// A line of the platform about this dyno.
pub(crate) fn line(tag: &Tag, at: Timestamp, message: impl Into<String>) -> LogLine {
    LogLine { at, source: LogSource::Heroku, process: tag.name.to_string(), message: message.into() }
}

/// ``Starting process with command `bin/web` ``.
pub(crate) fn starting(tag: &Tag) -> String {
    format!("Starting process with command `{}`", tag.command)
}

/// `State changed from starting to up`.
pub(crate) fn state_changed(from: &str, to: &str) -> String {
    format!("State changed from {from} to {to}")
}

/// R10.
pub(crate) fn boot_timeout(boot_timeout_s: u64) -> String {
    format!("Error R10 (Boot timeout) -> Web process failed to bind to $PORT within {boot_timeout_s} seconds of launch")
}

/// R12.
pub(crate) fn exit_timeout(grace_s: u64) -> String {
    format!("Error R12 (Exit timeout) -> At least one process failed to exit within {grace_s} seconds of SIGTERM")
}

/// `Process running mem=600M(117.2%)`.
pub(crate) fn memory(used_bytes: u64, quota_mib: u32) -> String {
    let used_mib = used_bytes / (1024 * 1024);
    let quota = u64::from(quota_mib) * 1024 * 1024;
    // Tenths of a percent in whole numbers, rounded.
    let permille = (used_bytes * 1000 + quota / 2) / quota;
    format!("Process running mem={used_mib}M({}.{}%)", permille / 10, permille % 10)
}

/// R14.
pub(crate) const MEMORY_EXCEEDED: &str = "Error R14 (Memory quota exceeded)";
/// R15.
pub(crate) const MEMORY_VASTLY_EXCEEDED: &str = "Error R15 (Memory quota vastly exceeded)";
/// Before SIGTERM.
pub(crate) const SIGTERM: &str = "Stopping all processes with SIGTERM";
/// Before SIGKILL when SIGTERM did not do.
pub(crate) const SIGKILL_REMAINING: &str = "Stopping remaining processes with SIGKILL";
/// Before SIGKILL for a fault.
pub(crate) const SIGKILL: &str = "Stopping process with SIGKILL";

/// `Process exited with status 3`.
pub(crate) fn exited(exit: Exit) -> String {
    format!("Process exited with status {}", exit.code)
}

/// Why a dyno does not serve, for the person who pushed, with Heroku's code when it has one.
pub(crate) fn reason(
    failure: Option<&Failure>,
    exit: Option<Exit>,
    boot_timeout_s: u64,
) -> (Option<&'static str>, String) {
    match (failure, exit) {
        (Some(Failure::BootTimeout), _) => (Some("R10"), boot_timeout(boot_timeout_s)),
        (Some(Failure::MemoryVastlyExceeded), _) => (Some("R15"), MEMORY_VASTLY_EXCEEDED.to_owned()),
        (Some(Failure::CannotStart(why)), _) => (None, format!("Process could not be started: {why}")),
        (None, Some(exit)) => (None, exited(exit)),
        (None, None) => (None, "Process is gone".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_as_heroku_does() {
        assert_eq!(memory(600 * 1024 * 1024, 512), "Process running mem=600M(117.2%)");
        assert_eq!(
            boot_timeout(60),
            "Error R10 (Boot timeout) -> Web process failed to bind to $PORT within 60 seconds of launch"
        );
    }
}
