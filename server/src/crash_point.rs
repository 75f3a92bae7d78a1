//! Places where a test ends the server as a crash would: before a step's effect, and between the effect and
//! the transaction that writes its result.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Which side of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Nothing of the step has happened.
    BeforeEffect,
    /// The effect has happened; no row says so.
    BeforeCommit,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::BeforeEffect, Self::BeforeCommit];

    /// Its name in a plan.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeEffect => "before-effect",
            Self::BeforeCommit => "before-commit",
        }
    }
}

type Hook = Arc<dyn Fn(&str, Side) -> bool + Send + Sync>;

/// The crash points of one server. Without a hook or a plan they cost a look at an empty option.
#[derive(Default)]
pub struct CrashPoints {
    hook: Mutex<Option<Hook>>,
    /// The file with `step:side`: the process kills itself there.
    plan: Option<PathBuf>,
}

impl CrashPoints {
    /// No crash.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Kills this process with SIGKILL when it passes the point that the file `plan` names at that moment
    /// (`run_build:before-commit`), and removes the file before. For tests on real processes.
    #[must_use]
    pub fn planned(plan: PathBuf) -> Self {
        Self { hook: Mutex::default(), plan: Some(plan) }
    }

    /// Calls `hook` at every point; where it answers `true`, the caller must stop as if it were dead.
    pub fn set(&self, hook: impl Fn(&str, Side) -> bool + Send + Sync + 'static) {
        *self.hook.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// Passes a point. Where it is to crash, this never returns: the surrounding future hangs until the test
    /// drops it, which is what a crash looks like from inside.
    pub async fn pass(&self, step: &str, side: Side) {
        if let Some(plan) = &self.plan
            && std::fs::read_to_string(plan).is_ok_and(|plan| plan == format!("{step}:{}", side.as_str()))
            && std::fs::remove_file(plan).is_ok()
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
        // A hook may take its time: meanwhile others pass.
        let hook = self.hook.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if hook.is_some_and(|hook| hook(step, side)) {
            std::future::pending::<()>().await;
        }
    }
}
