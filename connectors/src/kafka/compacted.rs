//! Reads a compacted topic of one partition, such as that of progress, as it is now.
//!
//! The end that the broker names to a reader of committed records is the last stable offset: an open transaction of any
//! other writer of the topic hides whatever lies behind its first record. So the topic is first read to its very end,
//! committed or not, which tells where the records that are wanted lie; only if one of them lies behind the last stable
//! offset is there anything to wait for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use squall_operators::ports::LogError;

use super::client::{Context, log_error};
use super::config::KafkaConfig;

/// How long one question may take.
const ASK: Duration = Duration::from_secs(5);
/// How long the topic may take to be read, and a transaction on it to end.
const READ: Duration = Duration::from_secs(90);
/// How soon it is asked again whether a transaction has ended.
const AGAIN: Duration = Duration::from_millis(20);

/// A compacted topic of one partition.
pub(super) struct Compacted {
    config: Arc<KafkaConfig>,
    topic: String,
}

/// A record of it.
pub(super) struct Entry {
    pub(super) offset: i64,
    pub(super) key: Bytes,
    /// `None` is a tombstone.
    pub(super) value: Option<Bytes>,
}

impl Compacted {
    pub(super) fn new(config: Arc<KafkaConfig>, topic: &str) -> Self {
        Self { config, topic: topic.to_owned() }
    }

    /// The records with wanted keys from an offset on, committed or not, in order.
    pub(super) fn written(&self, from: i64, wants: impl Fn(&[u8]) -> bool) -> Result<Vec<Entry>, LogError> {
        self.entries("read_uncommitted", from, wants)
    }

    /// The committed records with wanted keys from an offset on, in order. Waits for transactions under way that may have
    /// written any.
    pub(super) fn committed(&self, from: i64, wants: impl Fn(&[u8]) -> bool) -> Result<Vec<Entry>, LogError> {
        let Some(last) = self.written(from, &wants)?.pop() else { return Ok(Vec::new()) };
        self.await_stable(last.offset)?;
        self.entries("read_committed", from, wants)
    }

    /// Waits until the transaction of an offset, and every earlier one, has ended.
    fn await_stable(&self, offset: i64) -> Result<(), LogError> {
        let consumer = self.consumer("read_committed")?;
        let deadline = Instant::now() + READ;
        let mut said = false;
        loop {
            let (_, stable) = self.watermarks(&consumer)?;
            if stable > offset {
                return Ok(());
            }
            if !std::mem::replace(&mut said, true) {
                tracing::info!(
                    topic = self.topic,
                    stable,
                    "waiting for an open transaction that may hide newer records"
                );
            }
            if Instant::now() > deadline {
                let what = format!("a transaction before offset {offset} is still open after {} s", READ.as_secs());
                return Err(LogError::away(&self.topic, what));
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// The records up to the end that an isolation level sees.
    fn entries(&self, isolation: &str, from: i64, wants: impl Fn(&[u8]) -> bool) -> Result<Vec<Entry>, LogError> {
        let consumer = self.consumer(isolation)?;
        let topic = self.topic.as_str();
        let (begin, end) = self.watermarks(&consumer)?;
        let mut entries = Vec::new();
        if begin >= end {
            return Ok(entries);
        }
        let failed = |error| log_error(topic, error);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(from.clamp(begin, end))).map_err(failed)?;
        consumer.assign(&list).map_err(failed)?;
        let deadline = Instant::now() + READ;
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    if let Some(key) = message.key().filter(|key| wants(key)) {
                        let key = Bytes::copy_from_slice(key);
                        let value = message.payload().map(Bytes::copy_from_slice);
                        entries.push(Entry { offset: message.offset(), key, value });
                    }
                }
                // The end came after the offsets that were asked for.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(entries),
                Some(Err(error)) => match failed(error) {
                    error if error.is_retriable() => {}
                    error => return Err(error),
                },
                None => consumer.context().check()?,
            }
            if Instant::now() > deadline {
                let what = format!("it could not be read to its end within {} s", READ.as_secs());
                return Err(LogError::away(topic, what));
            }
        }
    }

    /// Where it begins and ends, as the consumer's isolation level sees it.
    fn watermarks(&self, consumer: &BaseConsumer<Context>) -> Result<(i64, i64), LogError> {
        consumer.fetch_watermarks(&self.topic, 0, ASK).map_err(|error| {
            // Wrong credentials, for example, are told beside the call.
            let _ = consumer.poll(Duration::ZERO);
            consumer.context().check().err().unwrap_or_else(|| log_error(&self.topic, error))
        })
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer<Context>, LogError> {
        let mut config = self.config.consumer();
        config.set("isolation.level", isolation).set("enable.partition.eof", "true");
        config.create_with_context(Context::default()).map_err(|error| log_error("creating a consumer", error))
    }
}
