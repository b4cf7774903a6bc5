//! The outputs of a stream and its progress, all or nothing.

use super::Outgoing;
use crate::progress::Progress;

/// Why a transaction was not committed. In every case nothing of it is visible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another instance has opened the ledger; this one must stop.
    #[error("ledger {ledger}: another instance has taken it over; this one stops")]
    Fenced {
        /// Name of the ledger.
        ledger: String,
    },
    /// The broker is away, overloaded or restarting: the same commit may succeed later.
    #[error("ledger {ledger}: {reason}")]
    Retriable {
        /// Name of the ledger.
        ledger: String,
        /// What the broker said.
        reason: String,
    },
    /// The commit can never succeed as it is.
    #[error("ledger {ledger}: {reason}")]
    Fatal {
        /// Name of the ledger.
        ledger: String,
        /// What the broker said.
        reason: String,
    },
}

/// The outputs of one stream and its progress, written together or not at all. Belongs to one thread.
pub trait Ledger: Send {
    /// Fences whoever had it open, and reads the last committed progress.
    fn open(&mut self) -> Result<Option<Progress>, LedgerError>;

    /// Commits records and progress in one transaction: all or nothing.
    fn commit(&mut self, records: &[Outgoing], progress: &Progress) -> Result<(), LedgerError>;
}
