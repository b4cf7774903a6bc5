//! A log in memory: the embedded default of the demo, and the twin of Kafka that tests run on.
//!
//! It models what the dataflow depends on: partitions with offsets, both kinds of timestamps, transactions whose
//! records lie in the log before they are committed, control records that take offsets, aborts, readers that stop at
//! the last stable offset, and fencing of whoever opened a ledger before. It forgets nothing, until it is dropped.

mod ledger;
mod reader;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use squall_operators::ports::{
    Connect, Headers, Ledger, LogError, LogReader, LogWriter, Outgoing, PartitionId, Timestamps, TopicInfo, TopicSpec,
};

use crate::claims::ClaimedLedger;

pub use ledger::Transactional;

/// A log in memory. Clones share it.
///
/// ```
/// use squall_connectors::memory::MemoryLog;
/// use squall_operators::ports::{Connect, Retention, Timestamps, TopicSpec};
/// let log = MemoryLog::new();
/// log.create(&[TopicSpec {
///     name: "obs".into(),
///     partitions: 3,
///     timestamps: Timestamps::Create,
///     retention: Retention::Forever,
///     max_record_bytes: 1 << 20,
///     unpacked: true,
/// }])?;
/// assert_eq!(log.describe(&["obs", "none"])?[1], None);
/// # Ok::<(), squall_operators::ports::LogError>(())
/// ```
#[derive(Clone, Default)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

/// What a test makes of a commit, see [`MemoryLog::on_commit`].
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Commit.
    Proceed,
    /// Abort and answer with this error.
    FailBefore(LogError),
    /// Commit, and yet answer with this error: as if the answer had been lost.
    FailAfter(LogError),
}

type Hook = Arc<dyn Fn(&str) -> Verdict + Send + Sync>;
type Now = Box<dyn Fn() -> i64 + Send + Sync>;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when anything becomes visible.
    news: Condvar,
    hook: Mutex<Option<Hook>>,
    now: Mutex<Option<Now>>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<Arc<str>, Topic>,
    transactions: Vec<Transaction>,
    /// Newest epoch of each transactional id.
    epochs: HashMap<String, u64>,
    round_robin: usize,
}

struct Topic {
    info: TopicInfo,
    partitions: Vec<Vec<Entry>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Committed,
    Aborted,
}

struct Transaction {
    id: String,
    outcome: Outcome,
    /// Partitions that it wrote to, with the offset of its first record there.
    touched: BTreeMap<(Arc<str>, usize), usize>,
}

/// What lies at an offset.
enum Entry {
    Record {
        stored: Stored,
        transaction: Option<usize>,
    },
    /// Marks the end of a transaction; takes an offset and is never delivered.
    Control,
}

#[derive(Clone)]
struct Stored {
    timestamp_ms: i64,
    key: Option<bytes::Bytes>,
    headers: Headers,
    value: Option<bytes::Bytes>,
}

impl MemoryLog {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides what becomes of each commit, by the name of its ledger: for tests of crashes.
    pub fn on_commit(&self, hook: impl Fn(&str) -> Verdict + Send + Sync + 'static) {
        *self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hook));
    }

    /// Replaces the clock of topics that stamp on append: milliseconds since 1970.
    pub fn set_clock(&self, now: impl Fn() -> i64 + Send + Sync + 'static) {
        *self.shared.now.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(now));
    }

    /// Opens a transactional writer, and fences the one that had this id.
    pub fn transactional(&self, id: &str) -> Transactional {
        Transactional::open(self.clone(), id)
    }

    /// Appends one record outside any transaction and says at which offset.
    pub fn append(&self, record: Outgoing) -> Result<i64, LogError> {
        let now = self.now_ms();
        let offset = self.state().append(record, None, now)?;
        self.shared.news.notify_all();
        Ok(offset)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> i64 {
        match &*self.shared.now.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(now) => now(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64),
        }
    }

    fn verdict(&self, ledger: &str) -> Verdict {
        // Cloned, so that a hook may use the log.
        let hook = self.shared.hook.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hook.as_ref().map_or(Verdict::Proceed, |hook| hook(ledger))
    }
}

impl State {
    fn append(&mut self, record: Outgoing, transaction: Option<usize>, now_ms: i64) -> Result<i64, LogError> {
        let Self { topics, transactions, round_robin, .. } = self;
        let topic =
            topics.get_mut(&record.topic).ok_or_else(|| LogError::NoTopic { topic: record.topic.to_string() })?;
        let size = record.value.as_ref().map_or(0, |v| v.len() as u64);
        if let Some(most) = topic.info.max_record_bytes.filter(|most| size > *most) {
            return Err(LogError::TooLarge { topic: record.topic.to_string(), bytes: size, limit: most });
        }
        let count = topic.partitions.len();
        let number = match (record.partition, &record.key) {
            (Some(number), _) => number as usize,
            (None, Some(key)) => (fnv(key) % count as u64) as usize,
            (None, None) => {
                *round_robin += 1;
                *round_robin % count
            }
        };
        let Some(partition) = topic.partitions.get_mut(number) else {
            return Err(LogError::NoPartition { partition: PartitionId::new(record.topic, number as i32) });
        };
        let timestamp_ms = match topic.info.timestamps {
            Some(Timestamps::LogAppend) => now_ms,
            _ => record.timestamp_ms.unwrap_or(now_ms),
        };
        let offset = partition.len();
        let stored = Stored { timestamp_ms, key: record.key, headers: record.headers, value: record.value };
        partition.push(Entry::Record { stored, transaction });
        if let Some(transaction) = transaction.and_then(|t| transactions.get_mut(t)) {
            transaction.touched.entry((record.topic, number)).or_insert(offset);
        }
        Ok(offset as i64)
    }

    /// Offset behind the newest record that a reader of committed records may see.
    fn stable_end(&self, topic: &Arc<str>, partition: usize) -> usize {
        let open = self.transactions.iter().filter(|t| t.outcome == Outcome::Open);
        let first_open = open.filter_map(|t| t.touched.get(&(topic.clone(), partition))).min().copied();
        let end = self.topics.get(topic).and_then(|t| t.partitions.get(partition)).map_or(0, Vec::len);
        first_open.unwrap_or(end)
    }

    fn finish(&mut self, transaction: usize, outcome: Outcome) {
        let Some(found) = self.transactions.get_mut(transaction) else { return };
        if found.outcome != Outcome::Open {
            return;
        }
        found.outcome = outcome;
        for (topic, partition) in std::mem::take(&mut found.touched).into_keys() {
            if let Some(partition) = self.topics.get_mut(&topic).and_then(|t| t.partitions.get_mut(partition)) {
                partition.push(Entry::Control);
            }
        }
    }
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

impl MemoryLog {
    /// Adds partitions to a topic.
    pub fn add_partitions(&self, topic: &str, count: i32) {
        if let Some(topic) = self.state().topics.get_mut(topic) {
            topic.partitions.extend((0..count).map(|_| Vec::new()));
            topic.info.partitions += count;
        }
    }
}

impl Connect for MemoryLog {
    fn reader(&self, max_record_bytes: u64) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(reader::MemoryReader::new(self.clone(), max_record_bytes)))
    }

    fn writer(&self) -> Result<Box<dyn LogWriter>, LogError> {
        Ok(Box::new(self.clone()))
    }

    fn ledger(&self, name: &str, progress_topic: &str) -> Result<Box<dyn Ledger>, LogError> {
        let transactions = ledger::MemoryTransactions::new(self.clone(), name, progress_topic);
        Ok(Box::new(ClaimedLedger::new(name, progress_topic, transactions)))
    }

    fn describe(&self, topics: &[&str]) -> Result<Vec<Option<TopicInfo>>, LogError> {
        let state = self.state();
        Ok(topics.iter().map(|name| state.topics.get(*name).map(|t| t.info.clone())).collect())
    }

    fn create(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        let mut state = self.state();
        for spec in topics {
            let info = TopicInfo {
                name: spec.name.clone(),
                partitions: spec.partitions,
                timestamps: Some(spec.timestamps),
                max_record_bytes: Some(spec.max_record_bytes),
                retention: Some(spec.retention),
                compression: None, // nothing is packed here
            };
            let partitions = (0..spec.partitions.max(1)).map(|_| Vec::new()).collect();
            state.topics.entry(spec.name.as_str().into()).or_insert(Topic { info, partitions });
        }
        Ok(())
    }
}

impl LogWriter for MemoryLog {
    fn send(&mut self, record: Outgoing) -> Result<(), LogError> {
        self.append(record).map(drop)
    }

    fn flush(&mut self, _timeout: Duration) -> Result<(), LogError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
