//! What happens between the log and the dataflow.

use metrics::{counter, gauge};
use squall_fields::KnowledgeTime;

use crate::ports::PartitionId;
use crate::source::Loss;

/// A record was read.
pub struct RecordRead<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Where it was.
    pub partition: &'a PartitionId,
    /// Bytes of its value.
    pub bytes: u64,
    /// When it became known.
    pub known_at: KnowledgeTime,
}

impl RecordRead<'_> {
    /// Counts it.
    pub fn emit(self) {
        let labels = partition_labels(self.stream, self.partition);
        counter!("squall_records_total", &labels).increment(1);
        counter!("squall_bytes_total", &labels).increment(self.bytes);
        gauge!("squall_knowledge_time_seconds", &labels).set(self.known_at.unix_ms() as f64 / 1000.0);
    }
}

/// How far a reader is behind the end of its partition.
pub struct Lag<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Which partition.
    pub partition: &'a PartitionId,
    /// Offsets between the position and the end.
    pub offsets: i64,
}

impl Lag<'_> {
    /// Sets the gauge.
    pub fn emit(self) {
        gauge!("squall_lag_offsets", &partition_labels(self.stream, self.partition)).set(self.offsets.max(0) as f64);
    }
}

fn partition_labels(stream: &str, partition: &PartitionId) -> [(&'static str, String); 3] {
    let number = partition.partition.to_string();
    [("stream", stream.to_owned()), ("topic", partition.topic.to_string()), ("partition", number)]
}

/// A record became visible after the clock had passed its timestamp.
pub struct RecordLate<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Where it was.
    pub partition: &'a PartitionId,
    /// Its offset.
    pub offset: i64,
    /// When it counts as known.
    pub known_at: KnowledgeTime,
}

impl RecordLate<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, partition, offset, known_at } = self;
        tracing::info!(stream, %partition, offset, %known_at, "record became visible late; it takes the frontier's time");
        counter!("squall_late_records_total", "stream" => stream.to_owned()).increment(1);
    }
}

/// A record's timestamp lies in the future, or far ahead of the records around it.
pub struct TimestampDoubted<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Where it was.
    pub partition: &'a PartitionId,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// When it counts as known.
    pub known_at: KnowledgeTime,
}

impl TimestampDoubted<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, partition, offset, timestamp_ms, known_at } = self;
        tracing::warn!(stream, %partition, offset, timestamp_ms, %known_at, "timestamp not believed; the record counts as known at another time");
        counter!("squall_doubted_timestamps_total", "stream" => stream.to_owned()).increment(1);
    }
}

/// The log does not have any more what was to be read, and the stream goes on without it.
pub struct PositionLost<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// What is lost.
    pub loss: &'a Loss,
}

impl PositionLost<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        let Self { stream, loss } = self;
        tracing::warn!(stream, %loss, "position lost; going on from what is there");
        let [stream, topic, partition] = partition_labels(stream, loss.partition());
        let labels = [stream, topic, partition, ("kind", loss.name().to_owned())];
        counter!("squall_lost_positions_total", &labels).increment(1);
    }
}

/// A partition was added to a topic that is read.
pub struct NewPartition<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// Which partition.
    pub partition: &'a PartitionId,
}

impl NewPartition<'_> {
    /// Logs it.
    pub fn emit(self) {
        tracing::info!(stream = self.stream, partition = %self.partition, "the topic has a new partition; it is read from now on");
    }
}

/// How far the broker's clock is ahead of the machine's, newly estimated.
pub struct BrokerClock<'a> {
    /// Name of the stream that reads.
    pub stream: &'a str,
    /// The broker's clock minus the machine's, in milliseconds; no more than it really is.
    pub offset_ms: i64,
}

impl BrokerClock<'_> {
    /// Sets the gauge.
    pub fn emit(self) {
        gauge!("squall_broker_clock_offset_seconds", "stream" => self.stream.to_owned())
            .set(self.offset_ms as f64 / 1000.0);
    }
}

/// The broker failed in a way that may pass.
pub struct BrokerTrouble<'a> {
    /// Name of the stream that waits.
    pub stream: &'a str,
    /// What was tried.
    pub what: &'static str,
    /// What the broker said.
    pub reason: String,
}

impl BrokerTrouble<'_> {
    /// Logs and counts it.
    pub fn emit(self) {
        tracing::warn!(stream = self.stream, reason = self.reason, "{} failed; trying again", self.what);
        counter!("squall_broker_errors_total", "stream" => self.stream.to_owned(), "what" => self.what).increment(1);
    }
}
