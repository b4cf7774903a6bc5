//! From a configuration to the log and the store that it names.

use std::sync::Arc;

use anyhow::Context;
use squall_connectors::kafka::{KafkaConfig, KafkaLog};
use squall_connectors::memory::MemoryLog;
use squall_connectors::store::ObjectFieldStore;
use squall_operators::ports::{Connect, FieldStore};

use crate::config::{Config, LogKind};

/// The log of a configuration. A memory log is a new one, and empty.
pub fn log(config: &Config) -> Arc<dyn Connect> {
    match config.log.kind {
        LogKind::Memory => Arc::new(MemoryLog::new()),
        LogKind::Kafka => Arc::new(kafka(config)),
    }
}

/// The Kafka cluster of a configuration, whatever its kind of log.
pub fn kafka(config: &Config) -> KafkaLog {
    KafkaLog::new(KafkaConfig {
        properties: config.log.properties.clone(),
        transaction_timeout: config.log.transaction_timeout,
        ..KafkaConfig::new(&config.name, &config.log.bootstrap_servers)
    })
}

/// The store of a configuration.
///
/// # Errors
/// A folder cannot be made or read, or the URL is of no kind that this build knows.
pub fn store(config: &Config) -> anyhow::Result<Arc<dyn FieldStore>> {
    let store = ObjectFieldStore::open(&config.store.url).context("the store (store.url)")?;
    let reads = |store: ObjectFieldStore, url: &String| store.also_reads(url);
    let store = config.store.reads.iter().try_fold(store, reads).context("the store (store.reads)")?;
    Ok(Arc::new(store))
}
