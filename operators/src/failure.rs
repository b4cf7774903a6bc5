//! Why a stream ended before its time.

use squall_fields::ErrorKind;

use crate::ports::{LedgerError, LogError};

/// What made a stream fail, for whoever restarts it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    cause: Cause,
    message: String,
}

/// What a failure is, as far as it decides what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Something that an error said.
    Error(ErrorKind),
    /// Another instance has taken over.
    Fenced,
    /// A thread panicked: a defect.
    Panic,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { cause: Cause::Error(kind), message: message.into() }
    }

    /// A thread panicked.
    pub fn panic(message: impl Into<String>) -> Self {
        Self { cause: Cause::Panic, message: message.into() }
    }

    /// What it is.
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether a thread panicked.
    pub const fn is_panic(&self) -> bool {
        matches!(self.cause, Cause::Panic)
    }

    /// The same, and where it happened.
    #[must_use]
    pub fn of_stream(self, stream: &str) -> Self {
        Self { message: format!("stream {stream}: {}", self.message), ..self }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let cause = match error {
            LedgerError::Fenced { .. } => Cause::Fenced,
            _ => Cause::Error(ErrorKind::Broker),
        };
        Self { cause, message: error.to_string() }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::new(ErrorKind::Broker, error.to_string())
    }
}

impl From<crate::offload::Lost> for Failure {
    fn from(lost: crate::offload::Lost) -> Self {
        Self::panic(lost.to_string())
    }
}
