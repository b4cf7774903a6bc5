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
            clock: PartitionClock::starting_at(position.knowledge),
            next: position.next,
            recovered: progress.frontier,
            decisions: decisions.collect(),
        }
    }

    /// Stamps the next record; `held` is the time that the partition's capability has reached.
    pub fn stamp(&mut self, offset: i64, timestamp_ms: i64, held: KnowledgeTime) -> Stamp {
        let natural = self.clock.stamp(timestamp_ms);
        let refill = offset < self.next;
        let mut at = natural;
        if let Some(decided) = self.decisions.remove(&offset) {
            at = at.max(decided);
        }
        if !refill {
            at = at.max(self.recovered).max(held);
        }
        self.clock.not_before(at);
        Stamp { at, decided: at != natural, refill }
    }

    /// Knowledge time of the newest record.
    pub fn newest(&self) -> KnowledgeTime {
        self.clock.newest()
    }
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

    #[test]
    fn a_record_below_the_frontier_takes_its_time_and_a_restart_is_told() {
        let mut live = PartitionStamp::fresh();
        assert_eq!(live.stamp(5, 1_000, at(0)), Stamp { at: at(1_000), decided: false, refill: false });
        let late = live.stamp(6, 1_050, at(2_000));
        assert_eq!(late, Stamp { at: at(2_000), decided: true, refill: false });
        let id = PartitionId::new("obs", 0);
        let position = Position { partition: id.clone(), rewind: 5, knowledge: at(1_000), next: 7 };
        let decision = Decision::Late { partition: id, offset: 6, knowledge: late.at };
        let progress = Progress { frontier: at(3_000), decisions: vec![decision], ..Default::default() };
        let mut again = PartitionStamp::resumed(&position, &progress);
        assert_eq!(again.stamp(5, 1_000, at(3_000)), Stamp { at: at(1_000), decided: false, refill: true });
        assert_eq!(again.stamp(6, 1_050, at(3_000)), Stamp { at: at(2_000), decided: true, refill: true });
        let new = again.stamp(7, 2_100, at(3_000));
        assert_eq!(new, Stamp { at: at(3_000), decided: true, refill: false }, "unseen before the frontier");
    }

    #[test]
    fn a_replay_gives_a_late_record_the_time_that_it_had() {
        let mut live = PartitionStamp::fresh();
        let all: Vec<_> = [(5, 1_000, 0), (6, 1_050, 2_000), (7, 1_100, 2_000), (8, 2_200, 2_100)]
            .map(|(offset, timestamp, held)| (offset, timestamp, live.stamp(offset, timestamp, at(held))))
            .into();
        let late = all.iter().filter(|(_, _, stamp)| stamp.decided).map(|(offset, _, stamp)| (*offset, stamp.at));
        let mut replay = PartitionStamp::fresh().repeating(late.collect());
        // The capability of a replay follows its records alone.
        for (offset, timestamp, stamp) in all {
            assert_eq!(replay.stamp(offset, timestamp, at(0)).at, stamp.at, "{offset}");
        }
    }

    proptest! {
        #[test]
        fn a_restart_stamps_as_before(
            stamps in prop::collection::vec(0i64..10_000, 2..30), rewind in 0usize..30, cut in 0usize..30,
        ) {
            let rewind = rewind % stamps.len();
            let next = rewind + cut % (stamps.len() - rewind + 1);
            let mut live = PartitionStamp::fresh();
            let all: Vec<_> = stamps.iter().enumerate().map(|(o, s)| live.stamp(o as i64, *s, at(0)).at).collect();
            let partition = PartitionId::new("obs", 0);
            let knowledge = all[rewind];
            let position = Position { partition, rewind: rewind as i64, knowledge, next: next as i64 };
            let frontier = all.get(next).copied().unwrap_or(at(20_000));
            let mut again = PartitionStamp::resumed(&position, &Progress { frontier, ..Default::default() });
            for offset in rewind..stamps.len() {
                let stamp = again.stamp(offset as i64, stamps[offset], frontier);
                prop_assert_eq!(stamp, Stamp { at: all[offset], decided: false, refill: offset < next });
            }
        }
    }
}
