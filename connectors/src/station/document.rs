//! The shape of a report in JSON. Members that are not listed here are passed over.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A report; `R` is a reading.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReportDocument<R> {
    pub(super) station: StationDocument,
    /// RFC 3339.
    pub(super) time: String,
    pub(super) readings: Vec<R>,
}

/// Read one after the other, so that an error says which it is of.
pub(super) type UnreadReport = ReportDocument<Value>;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StationDocument {
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) longitude: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) elevation_m: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReadingDocument {
    pub(super) standard_name: String,
    /// Null is a missing value; a report that forgets the member is wrong.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) value: Option<f64>,
    pub(super) units: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) period_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quality: Option<String>,
}
