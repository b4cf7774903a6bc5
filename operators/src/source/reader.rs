//! The thread that reads the log for one worker, and the queues between the two.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use squall_fields::{Chain, KnowledgeTime};
use timely::scheduling::SyncActivator;

use super::{Clock, SourceConfig};
use crate::events;
use crate::ports::{Connect, END_OF_LOG_HEADER, LogError, LogReader, PartitionId, Record};
use crate::retry::{Backoff, retry};
use crate::stream::StreamContext;

/// Records that one partition may have waiting.
const MAX_WAITING: usize = 256;
/// How long a poll waits.
const POLL: Duration = Duration::from_millis(20);
/// How often the broker is asked for the end of a partition that gives nothing.
const IDLE: Duration = Duration::from_millis(100);

/// How long it waits after a failure: a broker that is back is noticed soon.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(1) };

/// What the reader hands to the operator.
#[derive(Debug)]
pub enum Item {
    /// A record.
    Record {
        /// As the log gave it.
        record: Record,
        /// The machine's clock in microseconds since 1970.
        read_at_us: i64,
    },
    /// Nothing more was known before this time.
    Idle {
        /// The time.
        until: KnowledgeTime,
    },
    /// The partition is over.
    End,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: u64,
}

/// One bounded queue for each partition, shared by the reader and the operator.
#[derive(Clone)]
pub struct Queues {
    queues: Arc<Mutex<BTreeMap<PartitionId, Queue>>>,
    max_bytes: u64,
}

impl Queues {
    /// Queues that together hold about `max_bytes`, and each at least one record.
    pub fn new(partitions: &[(PartitionId, i64)], max_bytes: u64) -> Self {
        let queues = partitions.iter().map(|(id, _)| (id.clone(), Queue::default())).collect();
        Self { queues: Arc::new(Mutex::new(queues)), max_bytes: max_bytes / partitions.len().max(1) as u64 }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item and says whether the partition's queue is full now.
    pub fn push(&self, partition: &PartitionId, item: Item) -> bool {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(partition) else { return false };
        if let (Some(Item::Idle { until }), Item::Idle { until: newer }) = (queue.items.back_mut(), &item) {
            *until = *newer;
            return false;
        }
        if let Item::Record { record, .. } = &item {
            queue.bytes += record.value.as_ref().map_or(0, |v| v.len() as u64);
        }
        queue.items.push_back(item);
        queue.items.len() >= MAX_WAITING || queue.bytes >= self.max_bytes
    }

    /// The oldest item of a partition.
    pub fn pop(&self, partition: &PartitionId) -> Option<Item> {
        let mut queues = self.lock();
        let queue = queues.get_mut(partition)?;
        let item = queue.items.pop_front()?;
        if let Item::Record { record, .. } = &item {
            queue.bytes -= record.value.as_ref().map_or(0, |v| v.len() as u64);
        }
        Some(item)
    }

    /// Whether a partition has anything waiting.
    pub fn has_more(&self, partition: &PartitionId) -> bool {
        self.lock().get(partition).is_some_and(|q| !q.items.is_empty())
    }

    /// Whether a queue that was full has half its room again.
    fn has_room(&self, partition: &PartitionId) -> bool {
        let queues = self.lock();
        queues.get(partition).is_some_and(|q| q.items.len() <= MAX_WAITING / 2 && q.bytes <= self.max_bytes / 2)
    }
}

struct Partition {
    id: PartitionId,
    paused: bool,
    over: bool,
    /// Whether a record came.
    seen: bool,
    /// Where a replay ends.
    end: Option<i64>,
    asked: Instant,
}

/// Starts the reader of one worker.
pub(super) fn spawn(
    config: SourceConfig,
    starts: Vec<(PartitionId, i64)>,
    connect: Arc<dyn Connect>,
    stream: StreamContext,
    queues: Queues,
    waker: SyncActivator,
) {
    let reader = Reader { config, stream: stream.clone(), queues, waker };
    stream.spawn("read", move || {
        if let Err(error) = reader.run(&starts, &*connect) {
            reader.stream.fail(error.kind(), error);
        }
    });
}

struct Reader {
    config: SourceConfig,
    stream: StreamContext,
    queues: Queues,
    waker: SyncActivator,
}

impl Reader {
    fn run(&self, starts: &[(PartitionId, i64)], connect: &dyn Connect) -> Result<(), LogError> {
        let opened = self.retry("opening a reader", || connect.reader(self.config.max_record_bytes))?;
        let Some(mut log) = opened else { return Ok(()) };
        let log = &mut *log;
        let mut partitions = Vec::new();
        for (id, _) in starts {
            let end = match self.config.clock {
                Clock::Log { until_marker: false } => self.retry("asking for end offsets", || log.end_offset(id))?,
                _ => None,
            };
            let asked = Instant::now();
            partitions.push(Partition { id: id.clone(), paused: false, over: false, seen: false, end, asked });
        }
        self.retry("assigning partitions", || log.assign(starts))?;
        while self.stream.control.is_running() && partitions.iter().any(|p| !p.over) {
            self.retry("reading", || self.turn(log, &mut partitions))?;
        }
        Ok(())
    }

    /// Polls once and looks after pauses and ends.
    fn turn(&self, log: &mut dyn LogReader, partitions: &mut [Partition]) -> Result<(), LogError> {
        match log.poll(POLL)? {
            Some(record) => self.take(log, partitions, record)?,
            None => self.look_idle(log, partitions)?,
        }
        for partition in partitions.iter_mut() {
            if partition.paused && !partition.over && self.queues.has_room(&partition.id) {
                log.resume(&partition.id)?;
                partition.paused = false;
            }
            if !partition.over {
                self.look_for_end(log, partition)?;
            }
        }
        Ok(())
    }

    fn take(&self, log: &mut dyn LogReader, partitions: &mut [Partition], record: Record) -> Result<(), LogError> {
        let Some(partition) = partitions.iter_mut().find(|p| p.id == record.partition) else { return Ok(()) };
        if partition.over || partition.end.is_some_and(|end| record.offset >= end) {
            return self.finish(log, partition);
        }
        if matches!(self.config.clock, Clock::Log { .. }) && record.header(END_OF_LOG_HEADER).is_some() {
            return self.finish(log, partition);
        }
        partition.seen = true;
        let read_at_us = now_us();
        if self.queues.push(&partition.id, Item::Record { record, read_at_us }) {
            log.pause(&partition.id)?;
            partition.paused = true;
        }
        let _ = self.waker.activate();
        Ok(())
    }

    fn finish(&self, log: &mut dyn LogReader, partition: &mut Partition) -> Result<(), LogError> {
        if !partition.over {
            partition.over = true;
            self.queues.push(&partition.id, Item::End);
            log.pause(&partition.id)?;
            let _ = self.waker.activate();
        }
        Ok(())
    }

    fn look_for_end(&self, log: &mut dyn LogReader, partition: &mut Partition) -> Result<(), LogError> {
        let Some(end) = partition.end else { return Ok(()) };
        if log.position(&partition.id)? >= end || self.is_empty_before(log, partition, end)? {
            self.finish(log, partition)?;
        }
        Ok(())
    }

    /// Whether the broker has nothing before an offset: a partition that gives no record gives no position either.
    fn is_empty_before(&self, log: &mut dyn LogReader, partition: &mut Partition, end: i64) -> Result<bool, LogError> {
        if partition.seen || partition.asked.elapsed() < IDLE {
            return Ok(false);
        }
        partition.asked = Instant::now();
        Ok(log.begin_offset(&partition.id)? >= end)
    }

    /// Nothing came: with the wall clock, time moves for the partitions whose position is their end.
    fn look_idle(&self, log: &mut dyn LogReader, partitions: &mut [Partition]) -> Result<(), LogError> {
        let Clock::Wall { margin } = self.config.clock else { return Ok(()) };
        for partition in partitions.iter_mut().filter(|p| !p.paused && p.asked.elapsed() >= IDLE) {
            partition.asked = Instant::now();
            let now_ms = now_us() / 1000; // before the broker is asked: what it does not have by then came later
            let end = log.end_offset(&partition.id)?;
            let position = log.position(&partition.id)?;
            let offsets = end - position;
            events::Lag { stream: &self.stream.name, partition: &partition.id, offsets }.emit();
            let empty = offsets > 0 && !partition.seen && log.begin_offset(&partition.id)? >= end;
            if offsets <= 0 || empty {
                let until = KnowledgeTime::from_unix_ms(now_ms - margin.as_millis() as i64);
                self.queues.push(&partition.id, Item::Idle { until });
                let _ = self.waker.activate();
            }
        }
        Ok(())
    }

    /// Tries a call until it succeeds or can never succeed; `None` if the stream ends meanwhile.
    fn retry<T>(&self, what: &'static str, call: impl FnMut() -> Result<T, LogError>) -> Result<Option<T>, LogError> {
        let StreamContext { name: stream, control, .. } = &self.stream;
        let passes = |error: &LogError| {
            if error.is_retriable() {
                events::BrokerTrouble { stream, what, reason: Chain(error).to_string() }.emit();
            }
            error.is_retriable()
        };
        match retry(BACKOFF, |wait| control.pause_while_running(wait), passes, call) {
            Ok(value) => Ok(Some(value)),
            Err(_) if !control.is_running() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The machine's clock in microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> Item {
        let partition = PartitionId::new("obs", 0);
        let value = Some(vec![0u8; bytes].into());
        let value_bytes = bytes as u64;
        let record = Record { partition, offset: 0, timestamp_ms: 0, key: None, headers: vec![], value, value_bytes };
        Item::Record { record, read_at_us: 0 }
    }

    #[test]
    fn a_queue_is_full_by_bytes_and_has_room_again_at_half() {
        let id = PartitionId::new("obs", 0);
        let queues = Queues::new(&[(id.clone(), 0)], 100);
        assert!(!queues.push(&id, record(60)));
        assert!(queues.push(&id, record(60)));
        assert!(!queues.has_room(&id));
        queues.pop(&id);
        assert!(!queues.has_room(&id));
        queues.pop(&id);
        assert!(queues.has_room(&id));
    }

    #[test]
    fn idle_times_melt_into_one() {
        let id = PartitionId::new("obs", 0);
        let queues = Queues::new(&[(id.clone(), 0)], 100);
        for ms in [50, 100, 150] {
            queues.push(&id, Item::Idle { until: KnowledgeTime::from_unix_ms(ms) });
        }
        assert!(matches!(queues.pop(&id), Some(Item::Idle { until }) if until.unix_ms() == 150));
        assert!(queues.pop(&id).is_none());
    }
}
