//! Reports of stations as JSON: CF standard names, units with every value.
//!
//! A record holds one report or a list of them. What a report says is checked as it is read, each report by itself: one that
//! is wrong is refused with its reason and the others are used. A quantity that Squall does not know is passed over and
//! counted, for stations measure much that is not forecast; a *unit* that is not known is refused, for a value without one
//! could be anything. docs/formats.md describes the format.
//!
//! ```
//! use squall_connectors::station::{StationDecoder, reports_json};
//! use squall_fields::{InputRef, Quantity};
//! use squall_operators::ports::ReportDecoder;
//!
//! let text = br#"{
//!     "station": {"id": "torp", "latitude": 57.72, "longitude": 12.04},
//!     "time": "2015-08-27T12:05:00Z",
//!     "readings": [
//!         {"standard_name": "precipitation_amount", "value": 0.2, "units": "kg m-2", "period_seconds": 60},
//!         {"standard_name": "air_temperature", "value": 290.1, "units": "K"}
//!     ]
//! }"#;
//! let input = InputRef { topic: "obs".into(), partition: 0, offset: 7, digest: "".into() };
//! let read = StationDecoder::default().decode(&text.as_slice().into(), &input)?;
//! assert_eq!(read.reports[0].value(Quantity::RainRate, Some(60)), Some(12.0));
//! assert_eq!((read.ignored, read.refused.len()), (1, 0));
//! // What is written is read back.
//! let again = StationDecoder::default().decode(&reports_json(&read.reports).into(), &input)?;
//! assert_eq!(again.reports, read.reports);
//! # Ok::<(), squall_operators::ports::DecodeError>(())
//! ```

mod decode;
mod document;
mod encode;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::decode::{CONTENT_TYPES, StationDecoder};
pub use self::encode::reports_json;

/// CloudEvents type of a record with reports of stations.
pub const STATION_REPORTS_TYPE: &str = "squall.station-reports.v1";

/// Bounds of one record. They are checked as it is read, before more of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StationLimits {
    /// Bytes of a record.
    pub max_bytes: usize,
    /// Reports in a record.
    pub max_reports: usize,
    /// Readings in a report, those that are passed over too.
    pub max_readings: usize,
    /// Bytes of a station's identifier or name.
    pub max_text_bytes: usize,
    /// Seconds of the period of a reading.
    pub max_period_seconds: u32,
}

impl Default for StationLimits {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            max_reports: 4096,
            max_readings: 64,
            max_text_bytes: 256,
            max_period_seconds: 31 * 86_400,
        }
    }
}
