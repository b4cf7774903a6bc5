//! Large fields, outside the log.

use bytes::Bytes;
use squall_fields::{Cause, ErrorKind};

/// Why the store did not take or give a field. Each names the object, by name or URL.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store, or the network to it, is away for a while: the same call may succeed later.
    #[error("the store is away ({name})")]
    Away {
        /// The object.
        name: String,
        /// What the store said.
        #[source]
        cause: Cause,
    },
    /// The disk is full, slow or broken: the same call may succeed later.
    #[error("the disk of the store fails ({name})")]
    Disk {
        /// The object.
        name: String,
        /// What the system said.
        #[source]
        cause: Cause,
    },
    /// It cannot be opened, or lacks the rights: whoever configured it must mend it.
    #[error("the store refuses {name}")]
    Refused {
        /// The object, or the place that the store was opened on.
        name: String,
        /// What the store said.
        #[source]
        cause: Cause,
    },
    /// There is no such object.
    #[error("the store has no {name}")]
    Missing {
        /// The object.
        name: String,
    },
    /// The object is larger than was asked for.
    #[error("{name} has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The object.
        name: String,
        /// Its size.
        bytes: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A URL that leads out of the places that may be read, or is none.
    #[error("{name} may not be read: {reason}")]
    Outside {
        /// The URL.
        name: String,
        /// Where it leads instead, or what was expected.
        reason: String,
    },
    /// It was asked for what it cannot do by those who should know: a defect.
    #[error("{name} cannot be stored: {reason}")]
    Misused {
        /// The object.
        name: String,
        /// What was expected.
        reason: &'static str,
    },
}

impl StoreError {
    /// Who can help.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Away { .. } => ErrorKind::Broker,
            Self::Disk { .. } => ErrorKind::Device,
            Self::Refused { .. } => ErrorKind::User,
            Self::Missing { .. } | Self::TooLarge { .. } | Self::Outside { .. } => ErrorKind::Data,
            Self::Misused { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the same call may succeed later.
    pub const fn is_retriable(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Disk { .. })
    }
}

/// Keeps large fields outside the log.
pub trait FieldStore: Send + Sync {
    /// Writes an object whole, under a relative name with `/` that holds the digest of its bytes, and says at which URL
    /// it can be had. When this returns, a loss of power does not take it any more. A second write of the same name and
    /// bytes changes nothing; other bytes under the name are a damaged copy, and are replaced.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, StoreError>;

    /// Reads an object of at most `max_bytes` by its URL. Anything outside the places it may read is an error.
    fn get(&self, url: &str, max_bytes: u64) -> Result<Bytes, StoreError>;
}

/// Room for what need not outlive the process, and is too large for its memory.
pub trait Scratch: Send + Sync {
    /// Keeps parts until what is returned is dropped.
    fn keep(&self, parts: &[Vec<u8>]) -> Result<Box<dyn Kept>, StoreError>;
}

/// What a [`Scratch`] keeps.
pub trait Kept: Send {
    /// A part, counted from 0.
    fn part(&mut self, index: usize) -> Result<Vec<u8>, StoreError>;
}
