//! Why a stream ended before its time.

pub use squall_fields::Failure;

use crate::ports::{LedgerError, LogError};
use crate::publish::PublishError;

macro_rules! failures {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.kind(), error.to_string()).because(error)
            }
        })*
    };
}

failures!(LedgerError, LogError, PublishError);
