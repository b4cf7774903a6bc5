//! Large fields, outside the log.

use bytes::Bytes;

/// Why the store did not take or give a field.
#[derive(Debug, thiserror::Error)]
#[error("store, {name}: {reason}")]
pub struct StoreError {
    /// Name or URL of the object.
    pub name: String,
    /// What the store said.
    pub reason: String,
    /// Whether the same call may succeed later.
    pub retriable: bool,
}

/// Keeps large fields outside the log.
pub trait FieldStore: Send + Sync {
    /// Writes an object whole, under a relative name with `/`, and says at which URL it can be had. A second
    /// write of the same name and bytes changes nothing.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, StoreError>;

    /// Reads an object of at most `max_bytes` by its URL. Anything outside the places it may read is an error.
    fn get(&self, url: &str, max_bytes: u64) -> Result<Bytes, StoreError>;
}
