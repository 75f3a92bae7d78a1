//! The hub's bounds and times.

use std::time::Duration;

use crate::LinkKey;

/// What a hub needs to know, and its bounds.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// What tokens are made with.
    pub key: LinkKey,
    /// The most dynos that are linked at a time.
    pub max_links: usize,
    /// The most dynos of one app that are linked at a time: two rollouts' worth of the largest formation.
    pub max_links_per_app: usize,
    /// How much of what a one-off dyno wrote is kept for who attaches later.
    pub replay_bytes: usize,
    /// How much is kept of all of them together. Above it, what was read once is dropped.
    pub max_replay_bytes: usize,
    /// How long a dyno may be without anyone attached, after someone was, until it is hung up.
    pub hang_up_after: Duration,
    /// How long a cut link of an attached dyno is waited for.
    pub resume_within: Duration,
    /// How long a dyno without a link is remembered: its last line's number, and what it wrote if it was a one-off.
    pub keep: Duration,
}

impl HubOptions {
    /// The usual bounds.
    #[must_use]
    pub fn new(key: LinkKey) -> Self {
        Self {
            key,
            max_links: 4_096,
            max_links_per_app: 512,
            replay_bytes: 1 << 20,
            max_replay_bytes: 64 << 20,
            hang_up_after: Duration::from_secs(10),
            resume_within: Duration::from_secs(paas_link_frames::RESUME_WITHIN_S),
            keep: Duration::from_secs(600),
        }
    }
}
