// SPDX-License-Identifier: Apache-2.0

//! How long a cached result stays valid.

/// The current time, by two clocks, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By a monotonic clock.
    pub monotonic: i64,
    /// Since the epoch, which the dates in certificates refer to. This clock may be set.
    pub date: i64,
}

/// How long a result stays valid, in milliseconds.
pub const LIFETIME: i64 = 10_000;
/// The maximum difference, in milliseconds, between the time elapsed by the two clocks. A greater
/// one means that the clock was set, and that a result which depends on dates may be wrong.
const STEP: i64 = 1_000;

/// Returns whether a result of the time `found` is still valid `now`, where `ends`, in seconds
/// since the epoch, is the next date on which the result may change.
pub fn still_holds(found: Moment, ends: f64, now: Moment) -> bool {
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
        still_holds(FOUND, ends, now)
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
