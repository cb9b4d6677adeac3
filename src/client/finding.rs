// SPDX-License-Identifier: Apache-2.0

//! For how long something that was found out counts.

/// The time, by two clocks, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Of a clock that nobody sets.
    pub monotonic: i64,
    /// Since the epoch: what certificates are dated by. It may be set.
    pub date: i64,
}

/// For how long a finding counts.
const LIFETIME: i64 = 10_000;
/// By how much the clocks may differ in what they say has passed. More is a clock that was set, and
/// what was found by the dates before may be wrong.
const STEP: i64 = 1_000;

/// Whether what was found at `found` still counts `now`, where `ends`, in seconds since the epoch,
/// is the next of the dates that it depends on.
pub fn counts(found: Moment, ends: f64, now: Moment) -> bool {
    let passed = now.monotonic.saturating_sub(found.monotonic);
    let by_date = now.date.saturating_sub(found.date);
    let is_before_end = (now.date as f64) < ends * 1000.0;
    (0..LIFETIME).contains(&passed)
        && by_date.saturating_sub(passed).saturating_abs() <= STEP
        && is_before_end
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: Moment = Moment { monotonic: 5_000, date: 1_000_000 };

    fn after(passed: i64, by_date: i64, ends: f64) -> bool {
        let now = Moment { monotonic: 5_000 + passed, date: 1_000_000 + by_date };
        counts(FOUND, ends, now)
    }

    #[test]
    fn a_finding_counts_for_a_while() {
        assert!(after(0, 0, 2000.0));
        assert!(after(9_999, 9_999, 2000.0));
        assert!(!after(10_000, 10_000, 2000.0));
        assert!(!after(-1, -1, 2000.0));
    }

    #[test]
    fn a_clock_that_is_set_ends_it() {
        for (passed, by_date) in [(0, 1_001), (0, -1_001), (5_000, 3_999), (9_000, -86_400_000)] {
            assert!(!after(passed, by_date, 1e9), "{passed} {by_date}");
        }
        assert!(after(5_000, 4_000, 2000.0));
        assert!(after(5_000, 6_000, 2000.0));
    }

    #[test]
    fn it_ends_at_its_date() {
        assert!(after(1_000, 999, 1001.0));
        assert!(!after(1_000, 1_000, 1001.0));
        assert!(after(1_000, 1_000, f64::INFINITY));
        assert!(!after(0, 0, f64::NEG_INFINITY));
        assert!(!after(0, 0, f64::NAN));
    }
}
