//! Partitions of records with offsets and timestamps: what observations come from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use squall_fields::error::AnyError;
use squall_fields::{Cause, ErrorKind};

use super::Ledger;
use crate::source::positions::Advice;
use crate::source::{ClockOffset, Loss};

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition, from 0.
    pub partition: i32,
}

impl PartitionId {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Headers of a record, in order; a name may occur more than once, and a value may be null.
pub type Headers = Vec<(String, Option<Bytes>)>;

/// A record as read from a log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Where it lies.
    pub partition: PartitionId,
    /// Its offset in the partition.
    pub offset: i64,
    /// The log's timestamp in milliseconds since 1970, of whichever type the topic has.
    pub timestamp_ms: i64,
    /// Key, if any.
    pub key: Option<Bytes>,
    /// Headers, in order.
    pub headers: Headers,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Bytes that the value had in the log: more than `value` holds if it lay beyond the reader's bound and was cut.
    pub value_bytes: u64,
}

impl Record {
    /// The last header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(n, _)| n == name)?;
        std::str::from_utf8(value.as_ref()?).ok()
    }

    /// Bytes that it has in the log: value, key and headers.
    pub fn log_bytes(&self) -> u64 {
        let header = |(name, value): &(String, Option<Bytes>)| name.len() + value.as_ref().map_or(0, Bytes::len);
        let rest = self.key.as_ref().map_or(0, Bytes::len) + self.headers.iter().map(header).sum::<usize>();
        self.value_bytes + rest as u64
    }

    /// Bytes that it takes in memory, about.
    pub fn memory_bytes(&self) -> u64 {
        let cut = self.value_bytes - self.value.as_ref().map_or(0, |v| v.len() as u64);
        self.log_bytes() - cut + OVERHEAD_BYTES
    }

    /// Whether the value lay beyond the reader's bound and only its beginning was kept.
    pub fn is_cut(&self) -> bool {
        self.value_bytes > self.value.as_ref().map_or(0, |v| v.len() as u64)
    }
}

/// What a record takes besides its bytes.
const OVERHEAD_BYTES: u64 = 512;

/// Header of the record that ends a replay: nothing follows it in its partition. Its value is `true`.
pub const END_OF_LOG_HEADER: &str = "squall-end-of-log";

/// A record to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Topic to write to.
    pub topic: Arc<str>,
    /// Partition, or chosen by the key.
    pub partition: Option<i32>,
    /// Key, if any.
    pub key: Option<Bytes>,
    /// Headers, in order.
    pub headers: Headers,
    /// Value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Timestamp in milliseconds since 1970; `None` takes the machine's clock.
    pub timestamp_ms: Option<i64>,
}

impl Outgoing {
    /// Bytes of key, headers and value.
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + length(value));
        length(&self.key) + length(&self.value) + headers.sum::<usize>()
    }
}

/// Why a log could not be read, written or administered.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The broker is away, overloaded or restarting: the same call may succeed later.
    #[error("the broker is away or busy ({what})")]
    Away {
        /// What was tried.
        what: String,
        /// What the client said.
        #[source]
        cause: Cause,
    },
    /// Wrong credentials, rights, names or settings: whoever configured it must mend it.
    #[error("the broker refuses ({what})")]
    Refused {
        /// What was tried.
        what: String,
        /// What the client said.
        #[source]
        cause: Cause,
    },
    /// The settings make no client.
    #[error("the settings of the log cannot be used ({what})")]
    Settings {
        /// What was tried.
        what: String,
        /// What the client said.
        #[source]
        cause: Cause,
    },
    /// The broker failed for good: the same call cannot succeed.
    #[error("the broker failed ({what})")]
    Failed {
        /// What was tried.
        what: String,
        /// What the client said.
        #[source]
        cause: Cause,
    },
    /// There is no such topic.
    #[error("topic {topic} does not exist")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// The topic has no such partition.
    #[error("partition {partition} does not exist")]
    NoPartition {
        /// Which one.
        partition: PartitionId,
    },
    /// A record that its topic does not take.
    #[error("a record of {bytes} bytes, topic {topic} takes at most {limit}")]
    TooLarge {
        /// Name of the topic.
        topic: String,
        /// Size of the record.
        bytes: u64,
        /// How large it may be.
        limit: u64,
    },
    /// What was asked for is not there: the position lies outside the partition, or the topic is another.
    #[error("{partition} has nothing at the position of the reader ({reason})")]
    OutOfRange {
        /// Which partition.
        partition: PartitionId,
        /// What the broker said.
        reason: String,
    },
    /// The log does not have any more what was to be read.
    #[error("{loss}; {}", Advice)]
    Lost {
        /// What is lost.
        loss: Loss,
    },
    /// A partition was asked about that was not assigned: a defect.
    #[error("partition {partition} is not assigned")]
    NotAssigned {
        /// Which one.
        partition: PartitionId,
    },
}

impl LogError {
    /// The broker is away: the same call may succeed later.
    pub fn away(what: impl Into<String>, cause: impl Into<AnyError>) -> Self {
        Self::Away { what: what.into(), cause: Cause::new(cause) }
    }

    /// The broker refuses what was configured.
    pub fn refused(what: impl Into<String>, cause: impl Into<AnyError>) -> Self {
        Self::Refused { what: what.into(), cause: Cause::new(cause) }
    }

    /// The settings make no client.
    pub fn settings(what: impl Into<String>, cause: impl Into<AnyError>) -> Self {
        Self::Settings { what: what.into(), cause: Cause::new(cause) }
    }

    /// The broker failed for good.
    pub fn failed(what: impl Into<String>, cause: impl Into<AnyError>) -> Self {
        Self::Failed { what: what.into(), cause: Cause::new(cause) }
    }

    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Away { .. } | Self::Failed { .. } => ErrorKind::Broker,
            Self::Refused { .. }
            | Self::Settings { .. }
            | Self::NoTopic { .. }
            | Self::NoPartition { .. }
            | Self::Lost { .. }
            | Self::TooLarge { .. } => ErrorKind::User,
            Self::OutOfRange { .. } => ErrorKind::Broker,
            Self::NotAssigned { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the same call may succeed later.
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

/// Reads records of the partitions that were assigned to it. Belongs to one thread.
pub trait LogReader: Send {
    /// The partitions of a topic, ascending. A topic that does not exist is a fatal error.
    fn partitions(&mut self, topic: &str) -> Result<Vec<PartitionId>, LogError>;

    /// The identity of a topic: one that is deleted and made again has another. `None` where the log does not tell.
    ///
    /// # Errors
    /// There is no such topic, or the broker does not answer.
    fn topic_id(&mut self, topic: &str) -> Result<Option<Arc<str>>, LogError> {
        let _ = topic;
        Ok(None)
    }

    /// Reads these partitions, each from an offset, and no others; what was paused goes on. A negative offset is the
    /// beginning. Reading from an offset that is not there, now or later, is [`LogError::OutOfRange`].
    fn assign(&mut self, start: &[(PartitionId, i64)]) -> Result<(), LogError>;

    /// The next committed record of any partition that is not paused; `None` if none came within `timeout`.
    fn poll(&mut self, timeout: Duration) -> Result<Option<Record>, LogError>;

    /// Offset of the oldest record that the broker still has.
    fn begin_offset(&mut self, partition: &PartitionId) -> Result<i64, LogError>;

    /// Offset behind the newest committed record, asked of the broker at this moment. Control records count.
    fn end_offset(&mut self, partition: &PartitionId) -> Result<i64, LogError>;

    /// The end offsets of several partitions, asked at once.
    fn end_offsets(&mut self, partitions: &[PartitionId]) -> Result<Vec<i64>, LogError> {
        partitions.iter().map(|partition| self.end_offset(partition)).collect()
    }

    /// Every record before this offset has been delivered. Moves over control records and aborted records once the
    /// reader has gone past them, so that it does reach the end offset.
    fn position(&mut self, partition: &PartitionId) -> Result<i64, LogError>;

    /// Delivers nothing more from a partition until [`LogReader::resume`]; others go on.
    fn pause(&mut self, partition: &PartitionId) -> Result<(), LogError>;

    /// Delivers again from a paused partition, without a gap.
    fn resume(&mut self, partition: &PartitionId) -> Result<(), LogError>;

    /// What the stamps of the program's own writes to the log tell of the broker's clock so far. Nothing where the log's
    /// clock is the machine's.
    fn broker_clock(&self) -> ClockOffset {
        ClockOffset::default()
    }
}

/// Writes records outside any transaction: for publishing observations.
pub trait LogWriter: Send {
    /// Queues a record; waits while the queue is full.
    fn send(&mut self, record: Outgoing) -> Result<(), LogError>;

    /// Waits until every queued record is acknowledged; the first failure is the error.
    fn flush(&mut self, timeout: Duration) -> Result<(), LogError>;
}

/// Which clock a topic's timestamps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// The broker stamps each record when it is appended: live topics.
    LogAppend,
    /// The producer stamps it: replays.
    Create,
}

/// How long a topic keeps its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// As the broker is set.
    Broker,
    /// For ever: replays, whose records carry old timestamps and would be deleted at once.
    Forever,
    /// The newest record of each key.
    Compact,
    /// The same, within minutes: for what every start reads to its end.
    CompactSoon,
}

/// A topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Which clock its timestamps come from.
    pub timestamps: Timestamps,
    /// How long it keeps records.
    pub retention: Retention,
    /// Largest record in bytes.
    pub max_record_bytes: u64,
    /// Whether the broker keeps batches unpacked, and so bounds what they unpack to: for what others write.
    pub unpacked: bool,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Which clock its timestamps come from, if the broker says.
    pub timestamps: Option<Timestamps>,
    /// Largest record in bytes, if the broker says.
    pub max_record_bytes: Option<u64>,
    /// How long it keeps records, if the broker says. Of a compacted one, whether that happens soon: within an hour.
    pub retention: Option<Retention>,
    /// How the broker packs batches (Kafka's `compression.type`), if it says.
    pub compression: Option<String>,
}

impl TopicInfo {
    /// The compression of a topic whose batches the broker unpacks before it takes them.
    pub const UNPACKED: &'static str = "uncompressed";
}

/// The newest record of each key, as a compacted topic keeps it.
#[derive(Clone, Debug, Default)]
pub struct Newest(BTreeMap<Bytes, (i64, Bytes)>);

impl Newest {
    /// Takes the next record; one without a value takes its key away.
    pub fn take(&mut self, offset: i64, key: Bytes, value: Option<Bytes>) {
        match value {
            Some(value) => drop(self.0.insert(key, (offset, value))),
            None => drop(self.0.remove(&key)),
        }
    }

    /// Keys and values in the order of the log.
    pub fn in_order(self) -> Vec<(Bytes, Bytes)> {
        let mut all: Vec<_> = self.0.into_iter().map(|(key, (offset, value))| (offset, key, value)).collect();
        all.sort_by_key(|(offset, ..)| *offset);
        all.into_iter().map(|(_, key, value)| (key, value)).collect()
    }
}

/// Makes readers, writers and ledgers of one log, and administers its topics. Shared by all threads.
pub trait Connect: Send + Sync {
    /// A reader, for one thread. Values beyond `max_record_bytes` arrive cut to their beginning.
    fn reader(&self, max_record_bytes: u64) -> Result<Box<dyn LogReader>, LogError>;

    /// The same, where the log's client holds back no more than about `queue_bytes` for each partition.
    fn reader_within(&self, max_record_bytes: u64, queue_bytes: u64) -> Result<Box<dyn LogReader>, LogError> {
        let _ = queue_bytes;
        self.reader(max_record_bytes)
    }

    /// A writer without transactions, for one thread.
    fn writer(&self) -> Result<Box<dyn LogWriter>, LogError>;

    /// The ledger of that name, not yet opened. Its progress goes to `progress_topic` under its name.
    fn ledger(&self, name: &str, progress_topic: &str) -> Result<Box<dyn Ledger>, LogError>;

    /// Key and value of the newest committed record of each key with a prefix, on a compacted topic of one partition, in
    /// the order of the log.
    ///
    /// Reads what is there now. Other than a topic without records, a topic that does not exist is an error.
    fn kept(&self, topic: &str, prefix: &str) -> Result<Vec<(Bytes, Bytes)>, LogError> {
        let mut reader = self.reader(u64::MAX)?;
        let partition = PartitionId::new(topic, 0);
        let end = reader.end_offset(&partition)?;
        reader.assign(&[(partition.clone(), 0)])?;
        let mut newest = Newest::default();
        while reader.position(&partition)? < end {
            if let Some(Record { offset, key: Some(key), value, .. }) = reader.poll(Duration::from_millis(20))?
                && key.starts_with(prefix.as_bytes())
            {
                newest.take(offset, key, value);
            }
        }
        Ok(newest.in_order())
    }

    /// Each topic as it is, in the order asked for; `None` for one that does not exist.
    fn describe(&self, topics: &[&str]) -> Result<Vec<Option<TopicInfo>>, LogError>;

    /// Creates topics; one that exists already is left as it is.
    fn create(&self, topics: &[TopicSpec]) -> Result<(), LogError>;
}
