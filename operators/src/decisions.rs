//! What the machine's clock decided, kept so that a replay can decide the same.
//!
//! Everything else is a function of the log. A progress record holds no more decisions than a restart needs; a replay
//! needs all of them, so each transaction that rests on any has a record of its own for them, on the topic of progress:
//! its key ends in the transaction's frontier, so that compaction keeps every one.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_fields::{IssueTime, KnowledgeTime};

use crate::kept;
use crate::ports::{Outgoing, PartitionId};
use crate::progress::{Decision, Position, Progress};

/// Decisions in one record: far below what a topic takes.
pub(crate) const IN_A_RECORD: usize = 2000;

/// Where the decisions of a stream are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    topic: Arc<str>,
    prefix: String,
}

/// The value of a record of decisions.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    frontier: KnowledgeTime,
    decisions: Vec<Decision>,
}

impl Keeper {
    /// Of a stream of an instance, on the topic of progress.
    pub fn new(topic: impl Into<Arc<str>>, instance: &str, stream: &str) -> Self {
        Self { topic: topic.into(), prefix: format!("{instance}/{stream}/decisions/") }
    }

    /// What the keys of its records begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The record of what was decided about a window, by itself: for decisions that no transaction has a record of.
    pub fn of_window(&self, decision: &Decision) -> Option<Outgoing> {
        let (Decision::Degraded { issue_time, revision, .. } | Decision::Skipped { issue_time, revision }) = decision
        else {
            return None;
        };
        let kept = Kept { frontier: KnowledgeTime::default(), decisions: vec![decision.clone()] };
        let key = format!("{}{}/{revision}", self.prefix, issue_time.unix_seconds());
        Some(kept::record(&self.topic, key, Some(&kept)))
    }

    /// The records of what was decided before a frontier and after the one committed before it.
    pub fn records(&self, frontier: KnowledgeTime, decisions: &[Decision]) -> Vec<Outgoing> {
        let record = |(part, decisions): (usize, &[Decision])| {
            let kept = Kept { frontier, decisions: decisions.to_vec() };
            kept::record(&self.topic, format!("{}{}/{part}", self.prefix, frontier.unix_ms()), Some(&kept))
        };
        decisions.chunks(IN_A_RECORD).enumerate().map(record).collect()
    }
}

/// What a run decided, for one that decides the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    windows: HashMap<(IssueTime, u32), Decision>,
    late: HashMap<PartitionId, HashMap<i64, KnowledgeTime>>,
}

impl Recorded {
    /// From decisions in the order in which they were committed; a later one on the same counts.
    pub fn new(decisions: impl IntoIterator<Item = Decision>) -> Self {
        let mut recorded = Self::default();
        for decision in decisions {
            match decision {
                Decision::Late { partition, offset, knowledge } => {
                    recorded.late.entry(partition).or_default().insert(offset, knowledge);
                }
                Decision::Degraded { issue_time, revision, .. } | Decision::Skipped { issue_time, revision } => {
                    recorded.windows.insert((issue_time, revision), decision);
                }
            }
        }
        recorded
    }

    /// From the values of records, in the order of the log.
    ///
    /// # Errors
    /// One is not what this version writes.
    pub fn read<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Self, serde_json::Error> {
        let kept: Result<Vec<Kept>, _> = values.into_iter().map(serde_json::from_slice).collect();
        Ok(Self::new(kept?.into_iter().flat_map(|kept| kept.decisions)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.windows.len() + self.late.values().map(HashMap::len).sum::<usize>()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was decided about a window.
    pub fn of_window(&self, issue_time: IssueTime, revision: u32) -> Option<&Decision> {
        self.windows.get(&(issue_time, revision))
    }

    /// A progress with all the decisions that a restart meets again.
    pub fn complete(&self, mut progress: Progress) -> Progress {
        let late = |position: &Position| {
            let partition = position.partition.clone();
            let is_ahead = |offset, at| offset >= position.rewind && at >= position.knowledge;
            let late = self.late(&partition).into_iter().filter(move |(offset, at)| is_ahead(*offset, *at));
            let mut late: Vec<_> = late.collect();
            late.sort_unstable();
            late.into_iter().map(move |(offset, knowledge)| {
                let partition = partition.clone();
                Decision::Late { partition, offset, knowledge }
            })
        };
        progress.decisions = progress.positions.iter().flat_map(late).collect();
        progress.more_decisions = false;
        progress
    }

    /// When the late records of a partition count as known, by offset.
    pub fn late(&self, partition: &PartitionId) -> HashMap<i64, KnowledgeTime> {
        self.late.get(partition).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infer::ladder::{FewerSteps, StandIn, Step};

    fn at(ms: i64) -> KnowledgeTime {
        KnowledgeTime::from_unix_ms(ms)
    }

    fn degraded(issue_time: i64, to: Step) -> Decision {
        let issue_time = IssueTime::from_unix_seconds(issue_time);
        Decision::Degraded { issue_time, revision: 0, to, foreseen: true }
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let keeper = Keeper::new("progress", "live", "rain");
        let partition = PartitionId::new("obs", 1);
        let decisions = [
            Decision::Late { partition: partition.clone(), offset: 7, knowledge: at(500) },
            degraded(300, Step::Less { steps: Some(FewerSteps { steps: 4, of: 10 }), members: 6 }),
            degraded(600, Step::StandIn(StandIn::Persistence)),
            Decision::Skipped { issue_time: IssueTime::from_unix_seconds(900), revision: 2 },
        ];
        let records = keeper.records(at(1000), &decisions);
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].key.as_deref(), Some(&b"live/rain/decisions/1000/0"[..]));
        let values: Vec<_> = records.iter().filter_map(|record| record.value.as_deref()).collect();
        let recorded = Recorded::read(values).unwrap();
        assert_eq!(recorded, Recorded::new(decisions.clone()));
        assert_eq!(recorded.len(), 4);
        assert_eq!(recorded.of_window(IssueTime::from_unix_seconds(900), 2), Some(&decisions[3]));
        assert_eq!(recorded.of_window(IssueTime::from_unix_seconds(900), 0), None);
        assert_eq!(recorded.late(&partition), HashMap::from([(7, at(500))]));
        assert!(Recorded::read([&b"{}"[..]]).is_err());
    }

    #[test]
    fn many_decisions_are_several_records() {
        let decisions = vec![degraded(300, Step::Full); IN_A_RECORD + 1];
        let records = Keeper::new("progress", "live", "rain").records(at(50), &decisions);
        let keys: std::collections::BTreeSet<_> = records.iter().map(|record| record.key.clone()).collect();
        assert_eq!((records.len(), keys.len()), (2, 2));
        assert!(records.iter().all(|record| record.value.as_ref().unwrap().len() < 900_000));
    }
}
