//! How the program ends: what is printed of an error, and the exit code, which follows from its kind.
//!
//! An error is one printed line, followed by its causes; a faulty configuration is one line for each fault. Whoever
//! supervises the program decides by the code alone whether starting it again can help.

use std::error::Error;
use std::fmt::Write;

use squall_connectors::error::FileError;
use squall_fields::crs::CrsError;
use squall_fields::error::lines;
use squall_fields::units::UnitError;
use squall_fields::{ErrorKind, Failure};
use squall_models::ModelError;
use squall_models::training::TrainingError;
use squall_operators::infer::InferError;
use squall_operators::ports::{DecodeError, EncodeError, LedgerError, LogError, StoreError};
use squall_operators::publish::PublishError;

use crate::broker::BrokerError;
use crate::commands::Usage;
use crate::config::Faults;
use crate::doctor::Unhealthy;
use crate::gc::IndexError;

/// Exit codes and what they say, as `squall --help` and docs/operations.md show them.
pub const CODES: [(u8, &str); 9] = [
    (0, "done"),
    (FAILED, "failed"),
    (code(ErrorKind::User), "wrong command line or configuration"),
    (code(ErrorKind::Data), "bad data"),
    (code(ErrorKind::Device), "device or disk"),
    (code(ErrorKind::Broker), "broker or store"),
    (code(ErrorKind::Fenced), "another instance took over"),
    (code(ErrorKind::Peer), "another process of the cluster ended"),
    (code(ErrorKind::Internal), "a defect of Squall"),
];

/// The code of an error of no kind.
const FAILED: u8 = 1;

/// The exit code of a kind. A defect has the code of a Rust program that panics, on whichever thread it was.
pub const fn code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::User => 2,
        ErrorKind::Data => 3,
        ErrorKind::Device => 4,
        ErrorKind::Broker => 5,
        ErrorKind::Fenced => 6,
        ErrorKind::Peer => 7,
        ErrorKind::Internal => 101,
    }
}

/// The exit codes in one line.
pub fn help() -> String {
    let codes: Vec<String> = CODES.iter().map(|(code, meaning)| format!("{code} {meaning}")).collect();
    format!("Exit codes: {}.", codes.join(", "))
}

/// What is printed of an error, and the exit code that it deserves.
pub fn report(error: &anyhow::Error) -> (String, u8) {
    if let Some(faults) = error.downcast_ref::<Faults>() {
        let count = faults.0.len();
        let plural = if count == 1 { "" } else { "s" };
        return (format!("{faults}\nerror: {count} fault{plural} in the configuration\n"), code(ErrorKind::User));
    }
    let mut text = String::new();
    for (index, line) in lines(error.as_ref()).into_iter().enumerate() {
        let head = if index == 0 { "error: " } else { "  because: " };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{head}{line}");
    }
    (text, kind(error).map_or(FAILED, code))
}

/// The kind of the outermost error that has one: it knows best what was being done.
pub fn kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.chain().find_map(kind_of)
}

/// The kind of one error of a chain, by each type of Squall that has one.
fn kind_of(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    macro_rules! kinds {
        ($($kinded:ty),* $(,)?) => {
            None$(.or_else(|| error.downcast_ref::<$kinded>().map(<$kinded>::kind)))*
        };
    }
    kinds![
        Failure,
        Faults,
        Usage,
        Unhealthy,
        LogError,
        LedgerError,
        StoreError,
        DecodeError,
        EncodeError,
        PublishError,
        InferError,
        TrainingError,
        ModelError,
        FileError,
        BrokerError,
        IndexError,
        CrsError,
        UnitError,
    ]
}

#[cfg(test)]
mod tests;
