//! Reads committed records of a log in memory.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use squall_operators::dead_letter::KEPT_BYTES;
use squall_operators::ports::{LogError, LogReader, PartitionId, Record};

use super::{Entry, MemoryLog, Outcome, State};

/// A reader of committed records.
pub(super) struct MemoryReader {
    log: MemoryLog,
    max_record_bytes: u64,
    partitions: BTreeMap<PartitionId, Cursor>,
    /// The partition that was served last: the next one is served first.
    last: Option<PartitionId>,
}

struct Cursor {
    position: usize,
    paused: bool,
}

impl MemoryReader {
    pub(super) fn new(log: MemoryLog, max_record_bytes: u64) -> Self {
        Self { log, max_record_bytes, partitions: BTreeMap::new(), last: None }
    }

    /// The next record of any partition, in turn.
    fn take(&mut self) -> Result<Option<Record>, LogError> {
        let state = self.log.state();
        let mut order: Vec<&PartitionId> = self.partitions.keys().collect();
        if let Some(last) = &self.last {
            let after = order.partition_point(|id| *id <= last);
            let count = order.len().max(1);
            order.rotate_left(after % count);
        }
        let order: Vec<PartitionId> = order.into_iter().cloned().collect();
        for id in order {
            let Some(cursor) = self.partitions.get_mut(&id).filter(|c| !c.paused) else { continue };
            if let Some(record) = next_of(&state, &id, cursor, self.max_record_bytes)? {
                self.last = Some(id);
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn known(&self, partition: &PartitionId) -> Result<(), LogError> {
        let state = self.log.state();
        let count = state.topics.get(&partition.topic).map_or(0, |t| t.partitions.len());
        if (partition.partition as usize) < count {
            return Ok(());
        }
        Err(LogError::NoPartition { partition: partition.clone() })
    }
}

/// Moves a cursor over what is not delivered, and takes what is.
fn next_of(
    state: &State,
    id: &PartitionId,
    cursor: &mut Cursor,
    max_record_bytes: u64,
) -> Result<Option<Record>, LogError> {
    let number = id.partition as usize;
    let Some(entries) = state.topics.get(&id.topic).and_then(|topic| topic.partitions.get(number)) else {
        return Ok(None);
    };
    if cursor.position > entries.len() {
        let reason = format!("offset {}, and the partition ends at {}", cursor.position, entries.len());
        return Err(LogError::OutOfRange { partition: id.clone(), reason });
    }
    let end = state.stable_end(&id.topic, number);
    while cursor.position < end {
        let offset = cursor.position;
        cursor.position += 1;
        let Entry::Record { stored, transaction } = &entries[offset] else { continue };
        let aborted = |t: &usize| state.transactions[*t].outcome == Outcome::Aborted;
        if transaction.as_ref().is_some_and(aborted) {
            continue;
        }
        let value_bytes = stored.value.as_ref().map_or(0, |v| v.len() as u64);
        let keep = |v: &bytes::Bytes| {
            if value_bytes > max_record_bytes { v.slice(..v.len().min(KEPT_BYTES)) } else { v.clone() }
        };
        return Ok(Some(Record {
            partition: id.clone(),
            offset: offset as i64,
            timestamp_ms: stored.timestamp_ms,
            key: stored.key.clone(),
            headers: stored.headers.clone(),
            value: stored.value.as_ref().map(keep),
            value_bytes,
        }));
    }
    Ok(None)
}

impl LogReader for MemoryReader {
    fn partitions(&mut self, topic: &str) -> Result<Vec<PartitionId>, LogError> {
        let state = self.log.state();
        let found = state.topics.get(topic).ok_or_else(|| LogError::NoTopic { topic: topic.to_owned() })?;
        Ok((0..found.partitions.len()).map(|p| PartitionId::new(topic, p as i32)).collect())
    }

    fn assign(&mut self, start: &[(PartitionId, i64)]) -> Result<(), LogError> {
        start.iter().try_for_each(|(id, _)| self.known(id))?;
        let cursor = |offset: i64| Cursor { position: offset.max(0) as usize, paused: false };
        self.partitions = start.iter().map(|(id, offset)| (id.clone(), cursor(*offset))).collect();
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<Option<Record>, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(record) = self.take()? {
                return Ok(Some(record));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // News may come between looking and waiting: hence short waits.
            let shared = self.log.shared.clone();
            let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            drop(shared.news.wait_timeout(state, left.min(Duration::from_millis(5))));
        }
    }

    fn begin_offset(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        self.known(partition).map(|()| 0)
    }

    fn end_offset(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        self.known(partition)?;
        Ok(self.log.state().stable_end(&partition.topic, partition.partition as usize) as i64)
    }

    fn position(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        match self.partitions.get(partition) {
            Some(cursor) => Ok(cursor.position as i64),
            None => Err(LogError::NotAssigned { partition: partition.clone() }),
        }
    }

    fn pause(&mut self, partition: &PartitionId) -> Result<(), LogError> {
        if let Some(cursor) = self.partitions.get_mut(partition) {
            cursor.paused = true;
        }
        Ok(())
    }

    fn resume(&mut self, partition: &PartitionId) -> Result<(), LogError> {
        if let Some(cursor) = self.partitions.get_mut(partition) {
            cursor.paused = false;
        }
        Ok(())
    }
}
