// SPDX-License-Identifier: Apache-2.0

//! The counters as they were when the page was shown before, for rates.
//!
//! Only the page needs them, and it renews itself. So nothing runs, and nothing is kept up to date,
//! while nobody looks at it.

use crate::status::counters::Counters;

/// How far samples are apart at least, in milliseconds.
const INTERVAL: u64 = 30_000;
/// The longest time that a rate is over.
const LONGEST: u64 = 120_000;
/// The shortest time that a rate is over.
const SHORTEST: u64 = 1_000;

/// Two samples, so that there is one of some age at any time. While the page is shown, the older
/// one is 30 to 60 seconds old.
pub struct History {
    older: Option<Sample>,
    newer: Option<Sample>,
}

struct Sample {
    /// The time of the monotonic clock, in milliseconds.
    at: u64,
    counters: Counters,
}

/// The time from a sample until now.
pub struct Window<'a> {
    pub milliseconds: u64,
    /// The counters at its beginning.
    pub before: &'a Counters,
}

impl History {
    pub const fn new() -> Self {
        Self { older: None, newer: None }
    }

    /// Takes a sample if it is time for one. Returns the time from an older one until now.
    pub fn advance(&mut self, now: u64, counters: &Counters) -> Option<Window<'_>> {
        let age = |sample: &Sample| now.saturating_sub(sample.at);
        let is_usable = |sample: &Sample| {
            age(sample) <= LONGEST && sample.counters.start_time == counters.start_time
        };
        self.older.take_if(|sample| !is_usable(sample));
        self.newer.take_if(|sample| !is_usable(sample));
        if self.newer.as_ref().is_none_or(|newest| age(newest) >= INTERVAL) {
            self.older = self.newer.replace(Sample { at: now, counters: counters.snapshot() });
        }
        let from = self.older.as_ref().or(self.newer.as_ref())?;
        let milliseconds = age(from);
        (milliseconds >= SHORTEST).then_some(Window { milliseconds, before: &from.counters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::counters::tests::example;

    #[test]
    fn rates_are_over_half_a_minute_to_a_minute() {
        let (mut history, counters) = (History::new(), example());
        let mut window = |now| history.advance(now, &counters).map(|window| window.milliseconds);
        assert_eq!(window(7), None);
        assert_eq!(window(8), None);
        for (now, expected) in [
            (5_007, 5_000),
            (29_007, 29_000),
            (30_007, 30_000),
            (59_007, 59_000),
            (60_007, 30_000),
            (65_007, 35_000),
            // Nobody has looked for some time.
            (165_007, 105_000),
            (170_007, 110_000),
        ] {
            assert_eq!(window(now), Some(expected), "{now}");
        }
        // Nobody has looked for a long time.
        assert_eq!(window(1_000_000), None);
        assert_eq!(window(1_001_000), Some(1_000));
    }

    #[test]
    fn other_counters_begin_anew() {
        let (mut history, counters) = (History::new(), example());
        assert!(history.advance(0, &counters).is_none());
        assert!(history.advance(5_000, &counters).is_some());
        let others = Counters::new(counters.start_time + 1);
        assert!(history.advance(10_000, &others).is_none());
        assert!(history.advance(15_000, &others).is_some());
    }
}
