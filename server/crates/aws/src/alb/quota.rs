//! How much fits on a balancer. The numbers are AWS's defaults (Elastic Load Balancing, "Quotas for your Application
//! Load Balancers", as of 2026-11); only that of target groups cannot be raised.

/// The most values in the conditions of a rule.
pub(crate) const HOSTS_PER_RULE: usize = 5;
/// The most target groups in an action.
pub(crate) const GROUPS_PER_RULE: usize = 5;
/// The longest value of a host condition.
pub(crate) const HOST_LENGTH: usize = 128;
/// The longest domain that ACM makes a certificate for ("cannot exceed 64 octets (characters), including periods").
pub(crate) const CERTIFICATE_LENGTH: usize = 64;

/// What a balancer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Target groups: 100.
    pub groups: usize,
    /// Rules besides the default ones, of all listeners: 100.
    pub rules: usize,
    /// Certificates besides the default one: 25.
    pub certificates: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { groups: 100, rules: 100, certificates: 25 }
    }
}

impl Quotas {
    /// What apps that come to a balancer may fill; the rest is for those that grow on it: four fifths.
    pub(crate) fn for_newcomers(self) -> Self {
        let share = |all: usize| all * 4 / 5;
        Self { groups: share(self.groups), rules: share(self.rules), certificates: share(self.certificates) }
    }

    /// The rules that hosts may fill. The rest, 16 of 100, is kept so that every app of a full balancer may be in
    /// maintenance or without dynos at once: each parks its group then, 5 in a rule.
    pub(crate) fn rules_for_hosts(self) -> usize {
        self.rules.saturating_sub(self.for_newcomers().groups.div_ceil(GROUPS_PER_RULE))
    }
}
