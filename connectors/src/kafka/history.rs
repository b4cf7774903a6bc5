//! Reads what a ledger committed, off the topic of progress.
//!
//! The end that the broker names to a reader of committed records is the last stable offset: an open transaction of any
//! other ledger on the topic hides our newest progress behind it. So the topic is first read to its very end, committed
//! or not, which tells where our records lie; only if one of them lies behind the last stable offset is there anything to
//! wait for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use squall_operators::ports::{LedgerError, LogError};
use squall_operators::progress::Progress;

use super::client::{Context, log_error};
use super::config::KafkaConfig;
use crate::progress::{generation, read_progress};

/// How long one question may take.
const ASK: Duration = Duration::from_secs(5);
/// How long the topic may take to be read, and a transaction on it to end.
const READ: Duration = Duration::from_secs(90);
/// How soon it is asked again whether a transaction has ended.
const AGAIN: Duration = Duration::from_millis(20);

/// The records of one ledger on the topic of progress.
pub(super) struct History {
    config: Arc<KafkaConfig>,
    name: String,
    topic: String,
    /// Offset of a committed record of the ledger: what lies before it is of no interest any more.
    known: i64,
}

/// A record of the ledger.
struct Entry {
    offset: i64,
    value: Vec<u8>,
}

impl History {
    pub(super) fn new(config: Arc<KafkaConfig>, name: &str, topic: &str) -> Self {
        Self { config, name: name.to_owned(), topic: topic.to_owned(), known: 0 }
    }

    fn failed(&self, error: LogError) -> LedgerError {
        LedgerError::log(&self.name, error)
    }

    /// The newest committed progress.
    pub(super) fn newest(&mut self) -> Result<Option<Progress>, LedgerError> {
        let all = self.entries("read_uncommitted").map_err(|error| self.failed(error))?;
        let Some(last) = all.last().map(|entry| entry.offset) else { return Ok(None) };
        self.await_stable(last).map_err(|error| self.failed(error))?;
        let committed = self.entries("read_committed").map_err(|error| self.failed(error))?;
        let Some(newest) = committed.last() else { return Ok(None) };
        self.known = newest.offset;
        read_progress(&self.name, &newest.value).map(Some)
    }

    /// Whether a progress of a newer generation was committed. Only if there is one, committed or not, it is waited for.
    pub(super) fn is_newer_than(&mut self, known: u64) -> Result<bool, LedgerError> {
        let all = self.entries("read_uncommitted").map_err(|error| self.failed(error))?;
        if all.iter().all(|entry| generation(&entry.value) <= known) {
            return Ok(false);
        }
        Ok(self.newest()?.is_some_and(|progress| progress.claim.generation > known))
    }

    /// Waits until the transaction of an offset, and every earlier one, has ended.
    fn await_stable(&self, offset: i64) -> Result<(), LogError> {
        let consumer = self.consumer("read_committed")?;
        let deadline = Instant::now() + READ;
        let mut said = false;
        loop {
            let asked = consumer.fetch_watermarks(&self.topic, 0, ASK);
            let (_, stable) = asked.map_err(|error| self.told(&consumer, error))?;
            if stable > offset {
                return Ok(());
            }
            if !std::mem::replace(&mut said, true) {
                let (ledger, topic) = (&self.name, &self.topic);
                tracing::info!(ledger, topic, stable, "waiting for an open transaction that may hide newer progress");
            }
            if Instant::now() > deadline {
                let what = format!("a transaction before offset {offset} is still open after {} s", READ.as_secs());
                return Err(LogError::away(&self.topic, what));
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// The ledger's records from the known one up to the end that this isolation level sees, in order.
    fn entries(&self, isolation: &str) -> Result<Vec<Entry>, LogError> {
        let consumer = self.consumer(isolation)?;
        let topic = self.topic.as_str();
        let asked = consumer.fetch_watermarks(topic, 0, ASK);
        let (begin, end) = asked.map_err(|error| self.told(&consumer, error))?;
        let mut entries = Vec::new();
        if begin >= end {
            return Ok(entries);
        }
        let told = |error| self.told(&consumer, error);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(self.known.clamp(begin, end))).map_err(told)?;
        consumer.assign(&list).map_err(told)?;
        let deadline = Instant::now() + READ;
        loop {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) if message.key() == Some(self.name.as_bytes()) => {
                    let value = message.payload().unwrap_or_default().to_vec();
                    entries.push(Entry { offset: message.offset(), value });
                }
                // The end came after the offsets that were asked for.
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => match log_error(topic, error) {
                    error if error.is_retriable() => {}
                    error => return Err(error),
                },
                Some(Ok(_)) | None => consumer.context().check()?,
            }
            if Instant::now() > deadline {
                return Err(LogError::away(
                    topic,
                    format!("it could not be read to its end within {} s", READ.as_secs()),
                ));
            }
        }
        // A tombstone forgets what was before.
        let from = entries.iter().rposition(|entry| entry.value.is_empty()).map_or(0, |at| at + 1);
        Ok(entries.split_off(from))
    }

    fn consumer(&self, isolation: &str) -> Result<BaseConsumer<Context>, LogError> {
        let mut config = self.config.consumer();
        config.set("isolation.level", isolation).set("enable.partition.eof", "true");
        config.create_with_context(Context::default()).map_err(|error| log_error("creating a consumer", error))
    }

    /// What an error of a call means; wrong credentials, for example, are told beside the call.
    fn told(&self, consumer: &BaseConsumer<Context>, error: KafkaError) -> LogError {
        let _ = consumer.poll(Duration::ZERO);
        consumer.context().check().err().unwrap_or_else(|| log_error(&self.topic, error))
    }
}
