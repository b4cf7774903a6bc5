//! When a record became known.
//!
//! The knowledge time of a record is its log timestamp made monotone within its partition and rounded down to a
//! tick: a function of a prefix of one partition, never of interleaving, speed or number of workers. That is what
//! makes a forecast of a replay equal to the forecast of the live run.

use squall_fields::KnowledgeTime;

/// Stamps the records of one partition.
///
/// ```
/// use squall_fields::KnowledgeTime;
/// use squall_operators::knowledge::PartitionClock;
/// let mut clock = PartitionClock::default();
/// assert_eq!(clock.stamp(1_060).unix_ms(), 1_050);
/// assert_eq!(clock.stamp(900).unix_ms(), 1_050); // time does not run backwards
/// assert_eq!(clock.stamp(1_100).unix_ms(), 1_100);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionClock {
    newest: KnowledgeTime,
}

impl PartitionClock {
    /// A clock whose next record is known no earlier than `newest`.
    pub const fn starting_at(newest: KnowledgeTime) -> Self {
        Self { newest }
    }

    /// Knowledge time of the next record, from its timestamp in milliseconds since 1970.
    pub fn stamp(&mut self, timestamp_ms: i64) -> KnowledgeTime {
        self.not_before(KnowledgeTime::from_unix_ms(timestamp_ms))
    }

    /// Moves the clock to a time unless it is past it already, and reads it.
    pub fn not_before(&mut self, time: KnowledgeTime) -> KnowledgeTime {
        self.newest = self.newest.max(time);
        self.newest
    }

    /// Knowledge time of the newest record.
    pub const fn newest(&self) -> KnowledgeTime {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_the_running_maximum_in_ticks(stamps in prop::collection::vec(-1_000_000i64..1_000_000_000, 1..60)) {
            let mut clock = PartitionClock::default();
            for (i, stamp) in stamps.iter().enumerate() {
                let oracle = *stamps[..=i].iter().max().unwrap_or(&0);
                prop_assert_eq!(clock.stamp(*stamp), KnowledgeTime::from_unix_ms(oracle));
            }
        }

        #[test]
        fn a_restart_goes_on_where_it_was(stamps in prop::collection::vec(0i64..100_000, 2..40), cut in 0usize..40) {
            let cut = cut % stamps.len();
            let mut whole = PartitionClock::default();
            let all: Vec<_> = stamps.iter().map(|s| whole.stamp(*s)).collect();
            let mut again = PartitionClock::starting_at(all[cut]);
            let rest: Vec<_> = stamps[cut..].iter().map(|s| again.stamp(*s)).collect();
            prop_assert_eq!(&all[cut..], &rest[..]);
        }
    }
}
