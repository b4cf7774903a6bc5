//! What can be wrong with a file.

use std::io;
use std::path::{Path, PathBuf};

use squall_fields::crs::CrsError;
use squall_fields::error::AnyError;
use squall_fields::time_units::TimeUnitsError;
use squall_fields::units::UnitError;
use squall_fields::{Cause, ErrorKind};
use thiserror::Error;

/// Why a file, or bytes that should be one, could not be read or written. Its text says the causes, too.
#[derive(Debug, Error)]
pub enum FileError {
    /// The file could not be opened, read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bytes are no file of this format.
    #[error("expected {expected}, got {got}")]
    NotRecognised {
        /// The format.
        expected: &'static str,
        /// The first bytes, or what they are.
        got: String,
    },
    /// The format's library refused it, or it contradicts the format.
    #[error("{what}: {cause}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it, or the library's error.
        #[source]
        cause: Cause,
    },
    /// The format's library could not write it: to the disk, for its contents were looked at before.
    #[error("writing {what}: {cause}")]
    Unwritten {
        /// What was written.
        what: String,
        /// The library's error.
        #[source]
        cause: Cause,
    },
    /// It is larger than is allowed.
    #[error("{what} is {got}, at most {limit} is allowed")]
    TooLarge {
        /// What is too large, and in which unit.
        what: &'static str,
        /// How large it is.
        got: u64,
        /// How large it may be.
        limit: u64,
    },
    /// It uses a feature of the format that could reach outside the bytes, or load code.
    #[error("{feature} is refused in a file from outside")]
    Forbidden {
        /// The feature.
        feature: String,
    },
    /// It has no variable of the wanted kind.
    #[error("expected a variable that gives {wanted}, found: {found}")]
    NoVariable {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// It has no such field.
    #[error("field {index} was asked for, there are {count}")]
    NoField {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A unit is unknown or does not fit.
    #[error("{variable}: {source}")]
    Unit {
        /// Name of the variable.
        variable: String,
        /// What is wrong.
        source: UnitError,
    },
    /// The reference system is missing or unknown.
    #[error(transparent)]
    Crs(#[from] CrsError),
    /// The times cannot be read.
    #[error(transparent)]
    Time(#[from] TimeUnitsError),
    /// One of several files cannot be read.
    #[error("cannot read {path}: {error}", path = .path.display())]
    In {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<FileError>,
    },
}

impl FileError {
    /// A malformed thing, in short.
    pub(crate) fn malformed(what: impl Into<String>, cause: impl Into<AnyError>) -> Self {
        Self::Malformed { what: what.into(), cause: Cause::new(cause) }
    }

    /// What the format's library could not write, in short.
    pub(crate) fn unwritten(what: impl Into<String>, cause: impl Into<AnyError>) -> Self {
        Self::Unwritten { what: what.into(), cause: Cause::new(cause) }
    }

    /// What the system says of a file.
    pub fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    /// The error of one of several files.
    pub(crate) fn within(path: &Path, error: Self) -> Self {
        match error {
            // These name the path already.
            Self::Io { .. } | Self::In { .. } => error,
            error => Self::In { path: path.to_owned(), error: Box::new(error) },
        }
    }

    /// Who can help.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::In { error, .. } => error.kind(),
            Self::Io { source, .. } if is_about_the_path(source) => ErrorKind::User,
            Self::Io { .. } | Self::Unwritten { .. } => ErrorKind::Device,
            _ => ErrorKind::Data,
        }
    }

    /// Whether the same call may succeed later: only what the disk did not do.
    pub fn is_retriable(&self) -> bool {
        self.kind() == ErrorKind::Device
    }
}

/// Whether the system refuses the path that was given, rather than fails.
fn is_about_the_path(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::NotFound
            | K::PermissionDenied
            | K::AlreadyExists
            | K::IsADirectory
            | K::NotADirectory
            | K::InvalidFilename
            | K::InvalidInput
            | K::ReadOnlyFilesystem
    )
}
