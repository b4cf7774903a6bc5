//! How far the broker's clock is from the machine's.
//!
//! A live source lets time pass by the machine's clock where nothing comes; records are stamped by the broker, or by
//! producers whose clocks go with it. Were the machine's ahead, every record would come too late; were it behind, records
//! would lie in its future. No request asks a broker for its time, so it is taken from what the broker has stamped: a
//! record that was appended after one instant of the machine's clock and was read, or acknowledged, before another
//! bounds the offset from both sides. For a source that the broker stamps these are its own records: one that comes after
//! its partition was seen to be at its end was appended after that was asked. A topic that its producers stamp says
//! nothing of the broker's clock: there the program's own writes do ([`crate::ports::LogReader::broker_clock`]).

use std::time::{Duration, Instant};

/// How long bounds hold against looser ones: clocks drift.
const HOLDS: Duration = Duration::from_secs(60);
/// Bounds further apart tell nothing new that agrees with what is known: a connection was cut in between.
const LOOSE_MS: i64 = 1_000;

/// Bounds of the broker's clock minus the machine's.
///
/// ```
/// use std::time::Instant;
/// use squall_operators::source::ClockOffset;
/// let mut offset = ClockOffset::default();
/// // Stamped at 10.000 s, between 14.950 s and 15.010 s of the machine's clock, which is five seconds ahead.
/// offset.see(10_000, 14_950, 15_010, Instant::now());
/// assert_eq!((offset.least_ms(), offset.most_ms()), (-5_010, -4_950));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    known: Option<(Bounds, Instant)>,
}

/// Both in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    least: i64,
    most: i64,
}

impl Bounds {
    /// What both say; `None` if they exclude each other.
    fn and(self, other: Self) -> Option<Self> {
        let both = Self { least: self.least.max(other.least), most: self.most.min(other.most) };
        (both.least <= both.most).then_some(both)
    }
}

impl ClockOffset {
    /// The broker stamped a record with a timestamp, after one time and before another, both by the machine's clock in
    /// milliseconds since 1970. Whether the lower bound changed.
    pub fn see(&mut self, timestamp_ms: i64, after_ms: i64, before_ms: i64, now: Instant) -> bool {
        let seen = Bounds { least: timestamp_ms - before_ms, most: timestamp_ms - after_ms };
        if seen.most < seen.least {
            return false; // the machine's clock was set in between
        }
        let known = self.known.and_then(|(known, since)| Some((known.and(seen)?, since)));
        let taken = match known {
            // Bounds that exclude those of before are of after one of the clocks was set.
            None => (seen, now),
            Some((_, since)) if now.saturating_duration_since(since) >= HOLDS && seen.most - seen.least <= LOOSE_MS => {
                (seen, now)
            }
            Some(both) => both,
        };
        let before = self.known.replace(taken);
        before.map(|(bounds, _)| bounds.least) != Some(taken.0.least)
    }

    /// The offset in milliseconds, at least; 0 where nothing is known. For time that passes where nothing comes: time that
    /// is held back a little costs latency, time that runs ahead makes records late.
    pub fn least_ms(&self) -> i64 {
        self.known.map_or(0, |(bounds, _)| bounds.least)
    }

    /// The offset in milliseconds, at most; 0 where nothing is known. For the latest timestamp that can be true. Where the
    /// bounds are far apart the lower one is the nearer: a write may wait for long before it is stamped, but not after that.
    pub fn most_ms(&self) -> i64 {
        self.known.map_or(0, |(bounds, _)| bounds.most.min(bounds.least + LOOSE_MS))
    }

    /// This one, or the other where this knows nothing.
    pub(super) fn or(self, other: Self) -> Self {
        if self.known.is_some() { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn follows_a_clock_that_is_set() {
        let (mut offset, now) = (ClockOffset::default(), Instant::now());
        assert_eq!((offset.least_ms(), offset.most_ms()), (0, 0));
        offset.see(10_000, 14_950, 15_010, now); // the machine is 5 s ahead
        assert_eq!(offset.least_ms(), -5_010);
        offset.see(20_000, 24_980, 25_005, now);
        assert_eq!(offset.least_ms(), -5_005);
        offset.see(30_000, 29_980, 30_005, now); // it was set right
        assert_eq!(offset.least_ms(), -5);
        offset.see(40_000, 44_980, 45_005, now); // and wrong again
        assert_eq!(offset.least_ms(), -5_005);
    }

    #[test]
    fn what_was_held_up_on_its_way_says_nothing_against_what_is_known() {
        let (mut offset, start) = (ClockOffset::default(), Instant::now());
        offset.see(10_000, 9_990, 10_010, start);
        let later = start + 2 * HOLDS;
        assert!(!offset.see(200_000, 199_000, 230_000, later), "it took half a minute");
        assert_eq!((offset.least_ms(), offset.most_ms()), (-10, 10));
        assert!(offset.see(300_000, 299_980, 300_020, later), "after a while looser bounds are taken");
        assert_eq!((offset.least_ms(), offset.most_ms()), (-20, 20));
        let mut first = ClockOffset::default();
        first.see(10_000, 0, 10_010, start);
        assert_eq!((first.least_ms(), first.most_ms()), (-10, 990), "it waited long before it was stamped");
    }

    proptest! {
        /// The true offset lies between the bounds, so that time never runs ahead of the broker and no true timestamp is
        /// beyond what can be; and near both.
        #[test]
        fn is_bounded_from_both_sides(
            truth in -100_000i64..100_000, records in prop::collection::vec((0i64..100, 1i64..80), 1..40),
        ) {
            let (mut offset, now) = (ClockOffset::default(), Instant::now());
            let mut broker = 1_000_000;
            for (asked_before, lag) in records {
                broker += 1_000;
                offset.see(broker, broker - truth - asked_before, broker - truth + lag, now);
                prop_assert!(offset.least_ms() <= truth && offset.least_ms() >= truth - 80);
                prop_assert!(offset.most_ms() >= truth && offset.most_ms() <= truth + 100);
            }
        }
    }
}
