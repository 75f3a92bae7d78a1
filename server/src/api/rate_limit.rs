//! How many requests an account has left: a bucket of 4,500 that fills by 75 a minute, as Heroku's.
//!
//! In memory: after a restart every bucket is full.

use std::collections::HashMap;
use std::sync::Mutex;

use paas_domain::{AccountId, Timestamp};

/// What a full bucket has.
pub(crate) const BUCKET: u32 = 4_500;
const PER_MINUTE: f64 = 75.0;

/// Every account's bucket.
#[derive(Default)]
pub(crate) struct RateLimits(Mutex<HashMap<AccountId, (f64, Timestamp)>>);

impl RateLimits {
    /// Takes `cost` (0 or 1) from an account's bucket. What is left, or `None` when there was not enough.
    pub(crate) fn take(&self, account: &AccountId, cost: u32, now: Timestamp) -> Option<u32> {
        let mut buckets = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (left, at) = buckets.entry(account.clone()).or_insert((f64::from(BUCKET), now));
        // The clock may be set back; a bucket never loses by it.
        let minutes = now.since_ms(*at).max(0) as f64 / 60_000.0;
        *left = (*left + minutes * PER_MINUTE).min(f64::from(BUCKET));
        *at = now;
        if *left < f64::from(cost) {
            return None;
        }
        *left -= f64::from(cost);
        Some(left.floor() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empties_and_fills() {
        let (limits, account, start) = (RateLimits::default(), AccountId::new(), Timestamp(0));
        for left in (0..BUCKET).rev() {
            assert_eq!(limits.take(&account, 1, start), Some(left));
        }
        assert_eq!(limits.take(&account, 1, start), None);
        assert_eq!(limits.take(&account, 0, start), Some(0), "asking is free");
        assert_eq!(limits.take(&account, 1, start.plus_s(60)), Some(74));
        assert_eq!(limits.take(&account, 1, Timestamp(0)), Some(73), "a clock set back takes nothing");
        assert_eq!(limits.take(&AccountId::new(), 1, start), Some(BUCKET - 1));
    }
}
