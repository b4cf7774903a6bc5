//! How far the broker's clock is from the machine's.
//!
//! A live source lets time pass by the machine's clock where nothing comes; records are stamped by the broker's. Were the
//! machine's ahead, every record would come too late. No request asks a broker for its time, so it is taken from the
//! records: one that comes after its partition was seen to be at its end was appended after that was asked, and before it
//! was read, which bounds the offset from both sides. A topic that its producers stamp says nothing of the broker's clock:
//! there the machine's counts as it is.

use std::time::{Duration, Instant};

/// How long a bound holds against a looser one: clocks drift.
const HOLDS: Duration = Duration::from_secs(60);

/// A lower bound of the broker's clock minus the machine's, in milliseconds. The lower bound is the safe one: time that
/// is held back a little costs latency, time that runs ahead makes records late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClockOffset {
    lower: Option<(i64, Instant)>,
}

impl ClockOffset {
    /// A record with a broker's timestamp was read at `read_ms`, after its partition was at its end at `asked_ms`, both by
    /// the machine's clock in milliseconds since 1970. Whether the estimate changed.
    pub(super) fn see(&mut self, timestamp_ms: i64, asked_ms: i64, read_ms: i64, now: Instant) -> bool {
        let (lower, upper) = (timestamp_ms - read_ms, timestamp_ms - asked_ms);
        if upper < lower {
            return false; // the machine's clock was set in between
        }
        let holds = self.lower.is_some_and(|(known, since)| {
            // A bound above the upper one of now is of before one of the clocks was set.
            known >= lower && known <= upper && now.saturating_duration_since(since) < HOLDS
        });
        if !holds {
            self.lower = Some((lower, now));
        }
        !holds
    }

    /// What to add to the machine's clock, in milliseconds.
    pub(super) fn ms(&self) -> i64 {
        self.lower.map_or(0, |(lower, _)| lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn follows_a_clock_that_is_set() {
        let (mut offset, now) = (ClockOffset::default(), Instant::now());
        assert_eq!(offset.ms(), 0);
        offset.see(10_000, 14_950, 15_010, now); // the machine is 5 s ahead
        assert_eq!(offset.ms(), -5_010);
        offset.see(20_000, 24_980, 25_005, now);
        assert_eq!(offset.ms(), -5_005);
        offset.see(30_000, 29_980, 30_005, now); // it was set right
        assert_eq!(offset.ms(), -5);
        offset.see(40_000, 44_980, 45_005, now); // and wrong again
        assert_eq!(offset.ms(), -5_005);
    }

    proptest! {
        /// Never more than the true offset, so that time never runs ahead of the broker; and near it.
        #[test]
        fn is_a_lower_bound(
            truth in -100_000i64..100_000, records in prop::collection::vec((0i64..100, 1i64..80), 1..40),
        ) {
            let (mut offset, now) = (ClockOffset::default(), Instant::now());
            let mut broker = 1_000_000;
            for (asked_before, lag) in records {
                broker += 1_000;
                offset.see(broker, broker - truth - asked_before, broker - truth + lag, now);
                prop_assert!(offset.ms() <= truth && offset.ms() >= truth - 80);
            }
        }
    }
}
