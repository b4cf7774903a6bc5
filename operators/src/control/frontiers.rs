//! How far each operator and each partition of a stream has come: what `squall inspect frontiers` shows.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Tick;
use crate::ports::PartitionId;

/// What the operators of one stream last saw of time, on all workers. Read by people only: nothing is decided by it.
#[derive(Debug, Default)]
pub struct Frontiers {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    operators: BTreeMap<&'static str, Option<Tick>>,
    partitions: BTreeMap<PartitionId, Tick>,
}

impl Frontiers {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operator says which input frontier it sees.
    pub fn report(&self, operator: &'static str, frontier: Option<Tick>) {
        self.seen().operators.insert(operator, frontier);
    }

    /// A source says which knowledge time a partition has reached.
    pub fn report_partition(&self, partition: &PartitionId, time: Tick) {
        let mut seen = self.seen();
        match seen.partitions.get_mut(partition) {
            Some(reached) => *reached = time,
            None => drop(seen.partitions.insert(partition.clone(), time)),
        }
    }

    /// The input frontier that each operator saw last, by name; `None` for one that nothing can reach any more.
    pub fn operators(&self) -> BTreeMap<&'static str, Option<Tick>> {
        self.seen().operators.clone()
    }

    /// Knowledge time that each partition has reached.
    pub fn partitions(&self) -> BTreeMap<PartitionId, Tick> {
        self.seen().partitions.clone()
    }
}
