//! What is true of an installation whatever happened to it: one checker, for the fakes, for Docker and for AWS.
//!
//! A look ([`Seen`]) is what the installation shows from outside: rows, the platform's objects, logs, outputs, answers.
//! Next to it stands what it was promised to whoever asked for something ([`Promises`]). [`check`] holds one against
//! the other and says each breach by its number, in a sentence. Whoever crashes a server calls it twice: at once after
//! the restart, and again once everything has come to rest.
//!
//! They are numbered, I1–I12, and each is in words at its [`Invariant`]. Adding one means adding its rule here and, in `seeded`, something that
//! breaks it: the test there iterates [`Invariant::ALL`].

pub mod eyes;
pub mod fakes;
mod promises;
mod rules;
#[cfg(test)]
mod seeded;
mod seen;

pub use promises::{Promised, Promises};
pub use seen::{BalancerRule, Host, Reached, Rows, Run, Seen, SeenDyno};

/// What always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// A write that was answered is there after the restart.
    I1,
    /// Release versions are dense and unique, one at most is current, and it is the highest that succeeded.
    I2,
    /// What runs is of the current or the last serving release; at rest it is current × formation, or the rollout has
    /// failed with its reason and the last serving release serves.
    I3,
    /// A failed or cancelled build or release phase changes neither the current release nor what runs.
    I4,
    /// The branch names the commit of a succeeded build whose release came to serve, of which there is one.
    I5,
    /// Every object with our tag maps to a row or is collected; what is not ours is not touched.
    I6,
    /// A request for a host reaches only the owner of that host.
    I7,
    /// The balancer's rules are unique and lead to target groups of the same app.
    I8,
    /// A one-off dyno starts at most once for each accepted request.
    I9,
    /// A release's command runs at most once.
    I10,
    /// Secrets appear nowhere.
    I11,
    /// Lines of log: produced = delivered + counted as dropped, in the order of each dyno.
    I12,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::I1,
        Self::I2,
        Self::I3,
        Self::I4,
        Self::I5,
        Self::I6,
        Self::I7,
        Self::I8,
        Self::I9,
        Self::I10,
        Self::I11,
        Self::I12,
    ];

    /// The rule by which it is checked, which adds a sentence for each breach.
    fn rule(self) -> fn(&Look<'_>, &mut Vec<String>) {
        match self {
            Self::I1 => rules::answered_writes_are_there,
            Self::I2 => rules::versions_are_dense,
            Self::I3 => rules::what_runs_is_wanted,
            Self::I4 => rules::failures_change_nothing,
            Self::I5 => rules::the_branch_serves,
            Self::I6 => rules::objects_have_rows,
            Self::I7 => rules::hosts_reach_their_owner,
            Self::I8 => rules::balancer_rules_lead_home,
            Self::I9 => rules::one_off_dynos_start_once,
            Self::I10 => rules::release_commands_run_once,
            Self::I11 => rules::secrets_are_nowhere,
            Self::I12 => rules::lines_are_whole,
        }
    }
}

/// One moment of an installation, and what it owes.
pub struct Look<'a> {
    /// What it shows.
    pub seen: &'a Seen,
    /// What it promised.
    pub promises: &'a Promises,
    /// Whether it has come to rest: what converges must have converged.
    pub at_rest: bool,
}

/// A breach of an invariant.
#[derive(Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How, in a sentence.
    pub sentence: String,
}

impl std::fmt::Debug for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.sentence)
    }
}

/// Every breach of every invariant at this moment.
#[must_use]
pub fn check(look: &Look<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for invariant in Invariant::ALL {
        let mut said = Vec::new();
        invariant.rule()(look, &mut said);
        violations.extend(said.into_iter().map(|sentence| Violation { invariant, sentence }));
    }
    violations
}
