//! From a configuration to the log and the store that it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use squall_connectors::kafka::{KafkaConfig, KafkaLog};
use squall_connectors::memory::MemoryLog;
use squall_operators::ports::{Connect, FieldStore, StoreError};

use crate::config::{Config, LogKind};

/// The log of a configuration. A memory log is a new one, and empty.
pub fn log(config: &Config) -> Arc<dyn Connect> {
    match config.log.kind {
        LogKind::Memory => Arc::new(MemoryLog::new()),
        LogKind::Kafka => {
            let properties = &config.log.properties;
            Arc::new(KafkaLog::new(KafkaConfig {
                properties: properties.iter().map(|(key, value)| (key.clone(), value.reveal().to_owned())).collect(),
                transaction_timeout: config.log.transaction_timeout,
                ..KafkaConfig::new(&config.name, &config.log.bootstrap_servers)
            }))
        }
    }
}

/// The store of a configuration.
///
/// # Errors
/// Its folder cannot be made.
pub fn store(config: &Config) -> anyhow::Result<Arc<dyn FieldStore>> {
    let url = config.store.url.strip_prefix("file://").unwrap_or(&config.store.url);
    Ok(Arc::new(Folder::new(Path::new(url))?))
}

/// A store in a folder.
struct Folder(PathBuf);

impl Folder {
    fn new(path: &Path) -> anyhow::Result<Self> {
        let make = || std::fs::create_dir_all(path).and_then(|()| path.canonicalize());
        Ok(Self(make().with_context(|| format!("cannot use the folder {} (store.url)", path.display()))?))
    }
}

fn failed(name: &str, error: impl ToString) -> StoreError {
    StoreError { name: name.to_owned(), reason: error.to_string(), retriable: false }
}

impl FieldStore for Folder {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, StoreError> {
        let path = self.0.join(name);
        let folder = path.parent().unwrap_or(&self.0);
        std::fs::create_dir_all(folder).map_err(|error| failed(name, error))?;
        // Whole or not at all: a reader never sees half a file.
        let file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(name, error))?;
        std::fs::write(file.path(), bytes).map_err(|error| failed(name, error))?;
        file.persist(&path).map_err(|error| failed(name, error))?;
        Ok(format!("file://{}", path.display()))
    }

    fn get(&self, url: &str, max_bytes: u64) -> Result<Bytes, StoreError> {
        let path = Path::new(url.strip_prefix("file://").unwrap_or(url));
        let path = path.canonicalize().map_err(|error| failed(url, error))?;
        if !path.starts_with(&self.0) {
            return Err(failed(url, "lies outside the store"));
        }
        let length = path.metadata().map_err(|error| failed(url, error))?.len();
        if length > max_bytes {
            return Err(failed(url, format!("{length} bytes, at most {max_bytes}")));
        }
        std::fs::read(&path).map(Bytes::from).map_err(|error| failed(url, error))
    }
}
