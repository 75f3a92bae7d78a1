//! How long a crashed dyno rests before the next one takes its slot.

/// Seconds to wait after the first, second, … crash in a row.
///
/// Heroku restarts at once after the first crash and then cools off exponentially, up to 20 minutes in
/// what users have seen (devcenter, "Dyno restarts"); the exact ladder is not published, so this is ours.
pub const CRASH_LADDER_S: [i64; 8] = [0, 10, 30, 60, 120, 300, 600, 1200];

/// A dyno that was up this long starts the ladder anew.
pub const CRASH_RESET_S: i64 = 600;

/// The rest after `crashes` crashes in a row, the present one included. Stays at the last rung.
#[must_use]
pub fn crash_delay_s(crashes: u32) -> i64 {
    let rung = usize::try_from(crashes.saturating_sub(1)).unwrap_or(usize::MAX);
    CRASH_LADDER_S[rung.min(CRASH_LADDER_S.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn climbs_and_stays() {
        let delays: Vec<i64> = (0..10).map(crash_delay_s).collect();
        assert_eq!(delays, [0, 0, 10, 30, 60, 120, 300, 600, 1200, 1200]);
    }
}
