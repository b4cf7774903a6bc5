//! The log on Apache Kafka.
//!
//! Partitions are assigned, never subscribed to: who reads what is a function of the configuration, and offsets live
//! in the progress records of Squall's own transactions. One reader per stream and worker, one transactional
//! producer per ledger.

mod admin;
mod advice;
mod client;
mod clock;
mod compacted;
mod config;
mod headers;
mod history;
mod ledger;
mod property;
mod reader;
mod topic_id;
mod writer;

use std::sync::Arc;

use bytes::Bytes;
use squall_operators::ports::{Connect, Ledger, LogError, LogReader, LogWriter, Newest, TopicInfo, TopicSpec};

use self::clock::BrokerClock;
use crate::claims::ClaimedLedger;

pub use admin::Cluster;
pub use config::KafkaConfig;
pub use property::{Property, PropertyError, Secret};

/// A Kafka cluster. Clones share the configuration, and what the ledgers learn of the broker's clock; each reader, writer
/// and ledger has its own client.
#[derive(Clone, Debug)]
pub struct KafkaLog {
    config: Arc<KafkaConfig>,
    clock: BrokerClock,
}

impl KafkaLog {
    /// The cluster of a configuration; connects only when it is used.
    pub fn new(config: KafkaConfig) -> Self {
        Self { config: config.into(), clock: BrokerClock::default() }
    }

    /// The cluster as it answers.
    ///
    /// # Errors
    /// It does not answer, or refuses.
    pub fn cluster(&self) -> Result<Cluster, LogError> {
        admin::cluster(&self.config)
    }
}

impl Connect for KafkaLog {
    fn reader(&self, max_record_bytes: u64) -> Result<Box<dyn LogReader>, LogError> {
        self.reader_within(max_record_bytes, u64::MAX)
    }

    fn reader_within(&self, max_record_bytes: u64, queue_bytes: u64) -> Result<Box<dyn LogReader>, LogError> {
        let clock = self.clock.clone();
        Ok(Box::new(reader::KafkaReader::new(&self.config, clock, max_record_bytes, queue_bytes)?))
    }

    fn writer(&self) -> Result<Box<dyn LogWriter>, LogError> {
        Ok(Box::new(writer::KafkaWriter::new(&self.config)?))
    }

    fn ledger(&self, name: &str, progress_topic: &str) -> Result<Box<dyn Ledger>, LogError> {
        let (config, clock) = (self.config.clone(), self.clock.clone());
        let transactions = ledger::KafkaTransactions::new(config, clock, name, progress_topic);
        Ok(Box::new(ClaimedLedger::new(name, progress_topic, transactions)))
    }

    fn kept(&self, topic: &str, prefix: &str) -> Result<Vec<(Bytes, Bytes)>, LogError> {
        let topic = compacted::Compacted::new(self.config.clone(), topic);
        let mut newest = Newest::default();
        for entry in topic.committed(0, |key| key.starts_with(prefix.as_bytes()))? {
            newest.take(entry.offset, entry.key, entry.value);
        }
        Ok(newest.in_order())
    }

    fn describe(&self, topics: &[&str]) -> Result<Vec<Option<TopicInfo>>, LogError> {
        admin::describe(&self.config, topics)
    }

    fn create(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        admin::create(&self.config, topics)
    }
}
