//! The pure core: when a record became known, and whether a restart reads it again.

use std::collections::HashMap;

use squall_fields::KnowledgeTime;

use crate::knowledge::PartitionClock;
use crate::progress::{Decision, Position, Progress};

/// Stamps the records of one partition with their knowledge time: the pure core of the source.
#[derive(Clone, Debug)]
pub struct PartitionStamp {
    clock: PartitionClock,
    next: i64,
    recovered: KnowledgeTime,
    decisions: HashMap<i64, KnowledgeTime>,
}

impl PartitionStamp {
    /// For a partition without history.
    pub fn fresh() -> Self {
        Self { clock: Default::default(), next: i64::MIN, recovered: Default::default(), decisions: HashMap::new() }
    }

    /// For a partition that is new since a frontier was committed.
    pub fn new_since(recovered: KnowledgeTime) -> Self {
        Self { recovered, ..Self::fresh() }
    }

    /// Records that became visible late in the run that is replayed take the time that they took there.
    pub fn repeating(mut self, late: HashMap<i64, KnowledgeTime>) -> Self {
        self.decisions.extend(late);
        self
    }

    /// Before this time nothing of the partition is new.
    pub fn recovered(&self) -> KnowledgeTime {
        self.recovered
    }

    /// For a partition that a progress record speaks of.
    pub fn resumed(position: &Position, progress: &Progress) -> Self {
        let decisions = progress.decisions.iter().filter_map(|decision| match decision {
            Decision::Late { partition, offset, knowledge } if *partition == position.partition => {
                Some((*offset, *knowledge))
            }
            _ => None,
        });
        Self {
            clock: PartitionClock::going_on(position.knowledge, position.taken),
            next: position.next,
            recovered: progress.frontier,
            decisions: decisions.collect(),
        }
    }

    /// The partition is read anew from somewhere else: nothing of it was known before.
    pub fn restart(&mut self) {
        self.next = i64::MIN;
        self.decisions.clear();
    }

    /// Stamps the next record; `held` is the time that the partition's capability has reached.
    pub fn stamp(&mut self, seen: Seen, held: KnowledgeTime) -> Stamp {
        let Seen { offset, timestamp_ms, bytes, limit } = seen;
        let believed = KnowledgeTime::from_unix_ms(timestamp_ms);
        let natural = { self.clock }.take(believed, bytes);
        let refill = offset < self.next;
        let at = match (self.decisions.remove(&offset), limit) {
            (Some(decided), _) => decided,
            (None, Limit::None) => believed,
            (None, Limit::Now(now)) => believed.min(now),
            (None, Limit::Ahead) => self.clock.newest(),
            (None, Limit::Doubted(known)) => known,
        };
        let at = if refill { at } else { at.max(self.recovered).max(held) };
        let at = self.clock.take(at, bytes);
        // What is doubted is doubted again by whoever reads the log again; a limit was the clock's, whatever came of it.
        let decided = match limit {
            Limit::Now(now) => now < believed || at != natural,
            Limit::Ahead => true,
            Limit::None => at != natural,
            Limit::Doubted(_) => false,
        };
        Stamp { at, decided, refill }
    }

    /// The clock as it is after the newest record.
    pub fn clock(&self) -> PartitionClock {
        self.clock
    }

    /// Knowledge time of the newest record.
    pub fn newest(&self) -> KnowledgeTime {
        self.clock.newest()
    }
}

/// What the log says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Its bytes in the log.
    pub bytes: u64,
    /// How far its timestamp is believed.
    pub limit: Limit,
}

/// How far a timestamp is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As it is.
    None,
    /// No record is known later than it is read, by the broker's clock as far as that is known.
    Now(KnowledgeTime),
    /// Not at all, since it lies ahead of that clock: the record counts as known when its predecessor was.
    Ahead,
    /// Not at all, since the records after it speak against it: it counts as known when the oldest of those was.
    Doubted(KnowledgeTime),
}

/// What [`PartitionStamp::stamp`] says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it became known.
    pub at: KnowledgeTime,
    /// Whether that is later than its own partition says.
    pub decided: bool,
    /// Whether its results are committed already.
    pub refill: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::PartitionId;
    use proptest::prelude::*;

    fn at(ms: i64) -> KnowledgeTime {
        KnowledgeTime::from_unix_ms(ms)
    }

    fn seen(offset: i64, timestamp_ms: i64) -> Seen {
        Seen { offset, timestamp_ms, bytes: 1, limit: Limit::None }
    }

    #[test]
    fn a_record_below_the_frontier_takes_its_time_and_a_restart_is_told() {
        let mut live = PartitionStamp::fresh();
        assert_eq!(live.stamp(seen(5, 1_000), at(0)), Stamp { at: at(1_000), decided: false, refill: false });
        let late = live.stamp(seen(6, 1_050), at(2_000));
        assert_eq!(late, Stamp { at: at(2_000), decided: true, refill: false });
        let id = PartitionId::new("obs", 0);
        let (partition, knowledge) = (id.clone(), KnowledgeTime::default());
        let position = Position { partition, rewind: 5, knowledge, taken: Default::default(), next: 7, topic_id: None };
        let decision = Decision::Late { partition: id, offset: 6, knowledge: late.at };
        let progress = Progress { frontier: at(3_000), decisions: vec![decision], ..Default::default() };
        let mut again = PartitionStamp::resumed(&position, &progress);
        assert_eq!(again.stamp(seen(5, 1_000), at(3_000)), Stamp { at: at(1_000), decided: false, refill: true });
        assert_eq!(again.stamp(seen(6, 1_050), at(3_000)), Stamp { at: at(2_000), decided: true, refill: true });
        let new = again.stamp(seen(7, 2_100), at(3_000));
        assert_eq!(new, Stamp { at: at(3_000), decided: true, refill: false }, "unseen before the frontier");
    }

    #[test]
    fn a_replay_gives_a_late_record_the_time_that_it_had() {
        let mut live = PartitionStamp::fresh();
        let all: Vec<_> = [(5, 1_000, 0), (6, 1_050, 2_000), (7, 1_100, 2_000), (8, 2_200, 2_100)]
            .map(|(offset, timestamp, held)| (offset, timestamp, live.stamp(seen(offset, timestamp), at(held))))
            .into();
        let late = all.iter().filter(|(_, _, stamp)| stamp.decided).map(|(offset, _, stamp)| (*offset, stamp.at));
        let mut replay = PartitionStamp::fresh().repeating(late.collect());
        // The capability of a replay follows its records alone.
        for (offset, timestamp, stamp) in all {
            assert_eq!(replay.stamp(seen(offset, timestamp), at(0)).at, stamp.at, "{offset}");
        }
    }

    #[test]
    fn a_timestamp_of_the_future_does_not_move_the_clock() {
        let mut live = PartitionStamp::fresh();
        live.stamp(seen(0, 1_000), at(0));
        let ahead = Seen { limit: Limit::Doubted(at(950)), ..seen(1, 9_000_000) };
        assert_eq!(live.stamp(ahead, at(1_000)), Stamp { at: at(1_000), decided: false, refill: false });
        let ahead = Seen { limit: Limit::Ahead, ..seen(1, 9_000_000) };
        assert_eq!(live.stamp(ahead, at(1_000)), Stamp { at: at(1_000), decided: true, refill: false });
        let ahead = Seen { limit: Limit::Now(at(1_200)), ..seen(2, 3_000) };
        assert_eq!(live.stamp(ahead, at(1_100)), Stamp { at: at(1_200), decided: true, refill: false });
        assert_eq!(live.stamp(seen(3, 1_300), at(1_200)), Stamp { at: at(1_300), decided: false, refill: false });
    }

    proptest! {
        /// Whatever was late, limited or more than is taken at once.
        #[test]
        fn a_restart_stamps_as_before(
            stamps in prop::collection::vec((0i64..1_500, 0i64..400, 0u64..3 << 20, prop::bool::weighted(0.2)), 2..80),
            rewind in 0usize..80, cut in 0usize..80,
        ) {
            let rewind = rewind % stamps.len();
            let next = rewind + cut % (stamps.len() - rewind + 1);
            let record = |offset: usize| {
                let (timestamp_ms, now, bytes, limited) = stamps[offset];
                let limit = if limited { Limit::Now(at(now)) } else { Limit::None };
                Seen { offset: offset as i64, timestamp_ms, bytes, limit }
            };
            let partition = PartitionId::new("obs", 0);
            let mut live = PartitionStamp::fresh();
            let (mut held, mut all, mut clocks, mut decisions) = (at(0), Vec::new(), Vec::new(), Vec::new());
            for (offset, (_, idle, _, late)) in stamps.iter().enumerate() {
                clocks.push(live.clock());
                // Now and then time has passed the record.
                held = if *late { held.max(at(held.unix_ms() as i64 + idle)) } else { held };
                let stamp = live.stamp(record(offset), held);
                held = stamp.at;
                if stamp.decided {
                    let (partition, offset) = (partition.clone(), offset as i64);
                    decisions.push(Decision::Late { partition, offset, knowledge: stamp.at });
                }
                all.push(stamp.at);
            }
            let (knowledge, taken) = (clocks[rewind].newest(), clocks[rewind].taken());
            let frontier = all.get(next).copied().unwrap_or(at(200_000));
            let position =
                Position { partition, rewind: rewind as i64, knowledge, taken, next: next as i64, topic_id: None };
            // Only what lies before the frontier is recorded.
            decisions.retain(|d| matches!(d, Decision::Late { offset, .. } if *offset < next as i64));
            let mut again = PartitionStamp::resumed(&position, &Progress { frontier, decisions, ..Default::default() });
            for (offset, expected) in all.iter().enumerate().take(next).skip(rewind) {
                let stamp = again.stamp(record(offset), frontier);
                prop_assert_eq!((stamp.at, stamp.refill), (*expected, true));
            }
        }
    }
}
