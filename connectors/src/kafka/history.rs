//! What a ledger committed, as the topic of progress has it.

use std::sync::Arc;

use squall_operators::ports::{LedgerError, LogError};
use squall_operators::progress::Progress;

use super::compacted::{Compacted, Entry};
use super::config::KafkaConfig;
use crate::progress::{generation, read_progress};

/// The records of one ledger on the topic of progress.
pub(super) struct History {
    name: String,
    topic: Compacted,
    /// Offset of a committed record of the ledger: what lies before it is of no interest any more.
    known: i64,
}

impl History {
    pub(super) fn new(config: Arc<KafkaConfig>, name: &str, topic: &str) -> Self {
        Self { name: name.to_owned(), topic: Compacted::new(config, topic), known: 0 }
    }

    fn failed(&self, error: LogError) -> LedgerError {
        LedgerError::log(&self.name, error)
    }

    fn is_ours(&self) -> impl Fn(&[u8]) -> bool {
        |key| key == self.name.as_bytes()
    }

    /// The newest committed progress; none behind a tombstone.
    pub(super) fn newest(&mut self) -> Result<Option<Progress>, LedgerError> {
        let mut committed = self.topic.committed(self.known, self.is_ours()).map_err(|error| self.failed(error))?;
        let Some(Entry { offset, value: Some(value), .. }) = committed.pop() else { return Ok(None) };
        self.known = offset;
        read_progress(&self.name, &value).map(Some)
    }

    /// Whether a progress of a newer generation was committed. Only if there is one, committed or not, it is waited for.
    pub(super) fn is_newer_than(&mut self, known: u64) -> Result<bool, LedgerError> {
        let all = self.topic.written(self.known, self.is_ours()).map_err(|error| self.failed(error))?;
        if all.iter().all(|entry| entry.value.as_ref().is_none_or(|value| generation(value) <= known)) {
            return Ok(false);
        }
        Ok(self.newest()?.is_some_and(|progress| progress.claim.generation > known))
    }
}
