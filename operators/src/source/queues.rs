//! What lies between the reader and the operator: one bounded queue for each partition.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_fields::KnowledgeTime;

use super::stamp::Limit;
use crate::ports::{PartitionId, Record};

/// Records that one partition may have waiting.
const MAX_WAITING: usize = 256;

/// What the reader hands to the operator.
#[derive(Debug)]
pub(super) enum Item {
    /// A record.
    Record {
        /// As the log gave it.
        record: Record,
        /// The machine's clock in microseconds since 1970.
        read_at_us: i64,
        /// How far its timestamp is believed.
        limit: Limit,
    },
    /// Nothing more was known before this time.
    Idle {
        /// The time.
        until: KnowledgeTime,
    },
    /// The partition is new, or what was read of it is gone: it goes on from where its topic with this identity begins.
    Anew {
        /// Identity of the topic, if the log tells.
        topic_id: Option<Arc<str>>,
    },
    /// The partition is over.
    End,
}

impl Item {
    fn bytes(&self) -> u64 {
        match self {
            Self::Record { record, .. } => record.memory_bytes(),
            _ => 0,
        }
    }
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: u64,
}

/// One bounded queue for each partition, shared by the reader and the operator.
#[derive(Clone)]
pub(super) struct Queues {
    queues: Arc<Mutex<BTreeMap<PartitionId, Queue>>>,
    max_bytes: u64,
}

impl Queues {
    /// Queues that each hold about `max_bytes`, and at least one record.
    pub(super) fn new<'a>(partitions: impl Iterator<Item = &'a PartitionId>, max_bytes: u64) -> Self {
        let queues = partitions.map(|id| (id.clone(), Queue::default())).collect();
        Self { queues: Arc::new(Mutex::new(queues)), max_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more partition.
    pub(super) fn add(&self, partition: &PartitionId) {
        self.lock().entry(partition.clone()).or_default();
    }

    /// The partitions beyond those that are known, of which there are so many; none is ever taken away.
    pub(super) fn beyond(&self, count: usize, is_known: impl Fn(&PartitionId) -> bool) -> Vec<PartitionId> {
        let queues = self.lock();
        if queues.len() == count {
            return Vec::new(); // as in every turn but one
        }
        queues.keys().filter(|id| !is_known(id)).cloned().collect()
    }

    /// Adds an item and says whether the partition's queue is full now.
    pub(super) fn push(&self, partition: &PartitionId, item: Item) -> bool {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(partition) else { return false };
        if let (Some(Item::Idle { until }), Item::Idle { until: newer }) = (queue.items.back_mut(), &item) {
            *until = *newer;
            return false;
        }
        queue.bytes += item.bytes();
        queue.items.push_back(item);
        queue.items.len() >= MAX_WAITING || queue.bytes >= self.max_bytes
    }

    /// The oldest item of a partition.
    pub(super) fn pop(&self, partition: &PartitionId) -> Option<Item> {
        let mut queues = self.lock();
        let queue = queues.get_mut(partition)?;
        let item = queue.items.pop_front()?;
        queue.bytes -= item.bytes();
        Some(item)
    }

    /// Whether a partition has anything waiting.
    pub(super) fn has_more(&self, partition: &PartitionId) -> bool {
        self.lock().get(partition).is_some_and(|q| !q.items.is_empty())
    }

    /// Whether a queue that was full has half its room again.
    pub(super) fn has_room(&self, partition: &PartitionId) -> bool {
        let queues = self.lock();
        queues.get(partition).is_some_and(|q| q.items.len() <= MAX_WAITING / 2 && q.bytes <= self.max_bytes / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> Item {
        let partition = PartitionId::new("obs", 0);
        let value = Some(vec![0u8; bytes].into());
        let value_bytes = bytes as u64;
        let record = Record { partition, offset: 0, timestamp_ms: 0, key: None, headers: vec![], value, value_bytes };
        Item::Record { record, read_at_us: 0, limit: Limit::None }
    }

    #[test]
    fn a_queue_is_full_by_bytes_and_has_room_again_at_half() {
        let id = PartitionId::new("obs", 0);
        let queues = Queues::new([&id].into_iter(), 10_000);
        assert!(!queues.push(&id, record(6_000)));
        assert!(queues.push(&id, record(6_000)));
        assert!(!queues.has_room(&id));
        queues.pop(&id);
        assert!(!queues.has_room(&id));
        queues.pop(&id);
        assert!(queues.has_room(&id));
    }

    #[test]
    fn headers_count_too() {
        let id = PartitionId::new("obs", 0);
        let queues = Queues::new([&id].into_iter(), 10_000);
        let Item::Record { mut record, read_at_us, limit } = record(1) else { panic!("a record") };
        record.headers = vec![("padding".into(), Some(vec![0; 20_000].into()))];
        assert!(queues.push(&id, Item::Record { record, read_at_us, limit }));
    }

    #[test]
    fn idle_times_melt_into_one() {
        let id = PartitionId::new("obs", 0);
        let queues = Queues::new([&id].into_iter(), 100);
        for ms in [50, 100, 150] {
            queues.push(&id, Item::Idle { until: KnowledgeTime::from_unix_ms(ms) });
        }
        assert!(matches!(queues.pop(&id), Some(Item::Idle { until }) if until.unix_ms() == 150));
        assert!(queues.pop(&id).is_none());
    }
}
