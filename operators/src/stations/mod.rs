//! Readings of stations: read, checked, and kept as the latest of each.
//!
//! Reports are small, many, and corrected, and a check of one compares it with others that may come later. So nothing is
//! held back until all are there: [`reader`] turns a record into reports, [`control`] judges each reading by what is known
//! and says so again when that changes, and [`latest()`] keeps the newest of each station, quantity and time as a
//! collection, of which every reading can be taken back.
//!
//! Flags are kept, never what they are about thrown away: who uses a reading decides what is good enough.

mod checks;
pub mod control;
pub mod latest;
mod memory;
pub mod reader;
pub mod thresholds;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_fields::{InputRef, Quantity, Reading, Station, ValidTime};

pub use self::control::{Control, ControlConfig, Judgement};
pub use self::latest::{LatestTrace, arrange_latest, latest};
pub use self::reader::{ReadReports, ReportReader};
pub use self::thresholds::{BuddyLimit, PersistenceLimit, StepLimit, Thresholds};

/// What a reading is of. There is one latest reading of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReadingKey {
    /// Identifier of the station.
    pub station: Arc<str>,
    /// What was measured.
    pub quantity: Quantity,
    /// Over how many seconds up to the valid time: the rain of one hour and of three are two things.
    pub period_seconds: Option<u32>,
    /// When it is valid.
    pub valid: ValidTime,
}

/// A reading with its flags, where it was measured and where it came from.
///
/// They are ordered by their place in the log first, so that of two that become known at one time the later one counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JudgedReading {
    /// The record that held it; of what is derived of two readings, the newer one.
    pub input: InputRef,
    /// Who measured, as the record says.
    pub station: Arc<Station>,
    /// Value and flags.
    pub reading: Reading,
}
