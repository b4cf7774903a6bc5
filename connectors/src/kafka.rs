//! The log on Apache Kafka.
//!
//! Partitions are assigned, never subscribed to: who reads what is a function of the configuration, and offsets live
//! in the progress records of Squall's own transactions. One reader per stream and worker, one transactional
//! producer per ledger.

mod admin;
mod advice;
mod client;
mod config;
mod headers;
mod ledger;
mod property;
mod reader;
mod writer;

use std::sync::Arc;

use squall_operators::ports::{Connect, Ledger, LogError, LogReader, LogWriter, TopicInfo, TopicSpec};

pub use config::KafkaConfig;
pub use property::{Property, PropertyError, Secret};

/// A Kafka cluster. Clones share the configuration; each reader, writer and ledger has its own client.
#[derive(Clone, Debug)]
pub struct KafkaLog {
    config: Arc<KafkaConfig>,
}

impl KafkaLog {
    /// The cluster of a configuration; connects only when it is used.
    pub fn new(config: KafkaConfig) -> Self {
        Self { config: config.into() }
    }
}

impl Connect for KafkaLog {
    fn reader(&self, max_record_bytes: u64) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(reader::KafkaReader::new(&self.config, max_record_bytes)?))
    }

    fn writer(&self) -> Result<Box<dyn LogWriter>, LogError> {
        Ok(Box::new(writer::KafkaWriter::new(&self.config)?))
    }

    fn ledger(&self, name: &str, progress_topic: &str) -> Result<Box<dyn Ledger>, LogError> {
        Ok(Box::new(ledger::KafkaLedger::new(self.config.clone(), name, progress_topic)))
    }

    fn describe(&self, topics: &[&str]) -> Result<Vec<Option<TopicInfo>>, LogError> {
        admin::describe(&self.config, topics)
    }

    fn create(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        admin::create(&self.config, topics)
    }
}
