//! Small helpers of time and chance.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Between half of `wait` and all of it, so that many dynos do not come back at the same moment.
pub(crate) fn jitter(wait: Duration) -> Duration {
    // The standard library seeds each of these from the operating system's randomness.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    wait / 2 + wait.mul_f64((random % 1_000) as f64 / 2_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_differ_and_keep_within_bounds() {
        let waits: Vec<_> = (0..50).map(|_| jitter(Duration::from_secs(1))).collect();
        assert!(waits.iter().all(|wait| (500..=1_000).contains(&wait.as_millis())));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
