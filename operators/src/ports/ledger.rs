//! The outputs of a stream and its progress, all or nothing.

use std::collections::BTreeMap;

use squall_fields::error::AnyError;
use squall_fields::{Cause, ErrorKind};

use super::{LogError, Outgoing};
use crate::progress::Progress;

/// Why a transaction was not committed. In every case nothing of it is visible.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Another instance has opened the ledger; this one must stop.
    #[error("ledger {ledger}: another instance has taken it over; this one stops")]
    Fenced {
        /// Name of the ledger.
        ledger: String,
    },
    /// The log did not do it. Whether the same commit may succeed later, the log's error says.
    #[error("ledger {ledger}")]
    Log {
        /// Name of the ledger.
        ledger: String,
        /// What the log said.
        source: LogError,
    },
    /// The progress that was committed last is not what this version of Squall writes and reads.
    #[error("ledger {ledger}: its progress record is not what this version writes")]
    Progress {
        /// Name of the ledger.
        ledger: String,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// What was committed last rests on other settings of source or windows.
    #[error(
        "ledger {ledger}: its progress was made with other settings: {differences}; put them back, or start the \
         stream anew with --reset-progress"
    )]
    Settings {
        /// Name of the ledger.
        ledger: String,
        /// Each setting, as it was and as it is.
        differences: String,
    },
    /// It was committed to before it was opened: a defect.
    #[error("ledger {ledger} was not opened")]
    NotOpened {
        /// Name of the ledger.
        ledger: String,
    },
}

impl LedgerError {
    /// An error of the log under a ledger.
    pub fn log(ledger: &str, source: LogError) -> Self {
        Self::Log { ledger: ledger.to_owned(), source }
    }

    /// A progress record that cannot be read or written, for that reason.
    pub fn progress(ledger: &str, cause: impl Into<AnyError>) -> Self {
        Self::Progress { ledger: ledger.to_owned(), cause: Cause::new(cause) }
    }

    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Fenced { .. } => ErrorKind::Fenced,
            Self::Log { source, .. } => source.kind(),
            Self::Progress { .. } => ErrorKind::Data,
            Self::Settings { .. } => ErrorKind::User,
            Self::NotOpened { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the same commit may succeed later.
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Log { source, .. } if source.is_retriable())
    }
}

/// How a ledger is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Settings that its progress must have been made with.
    pub settings: &'a BTreeMap<String, String>,
    /// Forget the progress, whatever it was made with.
    pub reset: bool,
}

/// The outputs of one stream and its progress, written together or not at all. Belongs to one thread.
pub trait Ledger: Send {
    /// Claims the ledger, which fences whoever had it open, and reads the last committed progress.
    fn open(&mut self, opening: &Opening<'_>) -> Result<Progress, LedgerError>;

    /// Commits records and progress in one transaction: all or nothing. After an error that may pass, only the same
    /// batch may follow. A record that the log will never take, for its size, is left out, logged and counted.
    fn commit(&mut self, records: &[Outgoing], progress: &Progress) -> Result<(), LedgerError>;
}
