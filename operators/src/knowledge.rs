//! When a record became known.
//!
//! The knowledge time of a record is its log timestamp made monotone within its partition and rounded down to a
//! tick: a function of a prefix of one partition, never of interleaving, speed or number of workers. That is what
//! makes a forecast of a replay equal to the forecast of the live run.
//!
//! What is known at one time must be in memory at once. So only a few records of a partition are: those of a tick that
//! has more lie behind it, a few at each of the milliseconds that follow ([`RECORDS_AT_ONCE`], [`BYTES_AT_ONCE`]).

use serde::{Deserialize, Serialize};
use squall_fields::KnowledgeTime;

/// Records of one partition that are known at one instant, at most.
pub const RECORDS_AT_ONCE: u32 = 8;
/// Their bytes in the log, at most; a single record may have more.
pub const BYTES_AT_ONCE: u64 = 4 << 20;

/// What of an instant is taken already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Records.
    pub records: u32,
    /// Their bytes in the log.
    pub bytes: u64,
}

impl Taken {
    /// Whether that is nothing.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Stamps the records of one partition.
///
/// ```
/// use squall_fields::KnowledgeTime;
/// use squall_operators::knowledge::{PartitionClock, RECORDS_AT_ONCE};
/// let mut clock = PartitionClock::default();
/// assert_eq!(clock.stamp(1_060, 10).unix_ms(), 1_050);
/// assert_eq!(clock.stamp(900, 10).unix_ms(), 1_050); // time does not run backwards
/// (2..RECORDS_AT_ONCE).for_each(|_| drop(clock.stamp(1_060, 10)));
/// assert_eq!(clock.stamp(1_060, 10).unix_ms(), 1_051); // no more at once
/// assert_eq!(clock.stamp(1_100, 10).unix_ms(), 1_100);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionClock {
    newest: KnowledgeTime,
    taken: Taken,
}

impl PartitionClock {
    /// A clock whose next record is known no earlier than `newest`.
    pub const fn starting_at(newest: KnowledgeTime) -> Self {
        Self { newest, taken: Taken { records: 0, bytes: 0 } }
    }

    /// The clock that has come to a time and taken something of it.
    pub const fn going_on(newest: KnowledgeTime, taken: Taken) -> Self {
        Self { newest, taken }
    }

    /// Knowledge time of the next record, from its timestamp in milliseconds since 1970 and its bytes in the log.
    pub fn stamp(&mut self, timestamp_ms: i64, bytes: u64) -> KnowledgeTime {
        self.take(KnowledgeTime::from_unix_ms(timestamp_ms), bytes)
    }

    /// Knowledge time of the next record, no earlier than a time.
    pub fn take(&mut self, time: KnowledgeTime, bytes: u64) -> KnowledgeTime {
        if time > self.newest {
            *self = Self::starting_at(time);
        }
        let Taken { records, bytes: taken } = self.taken;
        if records >= RECORDS_AT_ONCE || (records > 0 && taken + bytes > BYTES_AT_ONCE) {
            *self = Self::starting_at(self.newest.next());
        }
        self.taken.records += 1;
        self.taken.bytes += bytes;
        self.newest
    }

    /// Knowledge time of the newest record.
    pub const fn newest(&self) -> KnowledgeTime {
        self.newest
    }

    /// What of that time is taken.
    pub const fn taken(&self) -> Taken {
        self.taken
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
                let newest = *stamps[..=i].iter().max().unwrap_or(&0);
                let time = clock.stamp(*stamp, 1).unix_ms();
                let oracle = KnowledgeTime::from_unix_ms(newest).unix_ms();
                // Behind the tick lie at most as many instants as its records fill.
                prop_assert!(time >= oracle && time - oracle <= i as u64 / u64::from(RECORDS_AT_ONCE));
            }
        }

        #[test]
        fn never_more_at_once_than_may_be(records in prop::collection::vec((0i64..200, 0u64..3 << 20), 1..200)) {
            let mut clock = PartitionClock::default();
            let mut at_once = std::collections::BTreeMap::<_, (u32, u64)>::new();
            for (stamp, bytes) in records {
                let (count, sum) = at_once.entry(clock.stamp(stamp, bytes)).or_default();
                (*count, *sum) = (*count + 1, *sum + bytes);
            }
            prop_assert!(at_once.values().all(|(count, sum)| *count <= RECORDS_AT_ONCE && *sum <= BYTES_AT_ONCE));
        }

        #[test]
        fn a_restart_goes_on_where_it_was(stamps in prop::collection::vec(0i64..1_000, 2..80), cut in 0usize..80) {
            let cut = cut % stamps.len();
            let mut whole = PartitionClock::default();
            let mut before = Vec::new();
            let mut all = Vec::new();
            for stamp in &stamps {
                before.push(whole);
                all.push(whole.stamp(*stamp, 7));
            }
            let mut again = PartitionClock::going_on(before[cut].newest(), before[cut].taken());
            let rest: Vec<_> = stamps[cut..].iter().map(|s| again.stamp(*s, 7)).collect();
            prop_assert_eq!(&all[cut..], &rest[..]);
        }
    }
}
