//! From JSON to reports.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use squall_fields::{Check, InputRef, Place, Quantity, Reading, Station, StationReport, ValidTime, Verdict};
use squall_operators::dead_letter::beginning;
use squall_operators::ports::{DecodeError, ReportDecoder, Reports};

use super::StationLimits;
use super::document::{ReadingDocument, StationDocument, UnreadReport};
use crate::error::FileError;

/// Media types under which reports are announced.
pub const CONTENT_TYPES: [&str; 1] = ["application/json"];

/// Most bytes of what the JSON library says: it quotes what came.
const MAX_SAID: usize = 200;

/// Reads reports of stations.
#[derive(Clone, Copy, Debug, Default)]
pub struct StationDecoder {
    /// Bounds.
    pub limits: StationLimits,
}

impl StationDecoder {
    /// A decoder with these bounds.
    pub const fn new(limits: StationLimits) -> Self {
        Self { limits }
    }
}

impl ReportDecoder for StationDecoder {
    fn content_types(&self) -> &[&'static str] {
        &CONTENT_TYPES
    }

    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Reports, DecodeError> {
        let limits = &self.limits;
        within("size in bytes", payload.len(), limits.max_bytes)?;
        let (mut read, mut count, mut over) = (Reports::default(), 0, None);
        let take = |document: Value| {
            let parser = Parser { limits, input };
            match parser.report(document, &mut read.ignored) {
                // It measures only what is passed over.
                Ok(report) if report.readings.is_empty() => {}
                Ok(report) => read.reports.push(report),
                Err(error) => read.refused.push((count, error.into())),
            }
            count += 1;
            over = within("number of reports, at least,", count, limits.max_reports).err();
            over.is_none()
        };
        let mut json = serde_json::Deserializer::from_slice(payload);
        let outcome = json.deserialize_any(EachReport(take)).and_then(|()| json.end());
        match (over, outcome) {
            (Some(over), _) => Err(over.into()),
            (None, Err(error)) => Err(said("the record", &error).into()),
            (None, Ok(())) => Ok(read),
        }
    }
}

/// Hands the reports of a record to a function, one after the other, as long as it says to go on: not more than one is
/// held as JSON, which takes many times the room of its text.
struct EachReport<F>(F);

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for EachReport<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a report or a list of reports")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        (self.0)(Value::deserialize(MapAccessDeserializer::new(map))?);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(document) = list.next_element()? {
            if !(self.0)(document) {
                return Err(A::Error::custom("too many reports"));
            }
        }
        Ok(())
    }
}

/// Reads one report.
struct Parser<'a> {
    limits: &'a StationLimits,
    input: &'a InputRef,
}

impl Parser<'_> {
    /// A report, without the readings of unknown quantities, which are counted.
    fn report(&self, document: Value, ignored: &mut usize) -> Result<StationReport, FileError> {
        let UnreadReport { station, time, readings } = from_json("the report", document)?;
        let station = self.station(station)?;
        let what = || format!("the report of {}", station.id);
        let valid = ValidTime::parse_rfc3339(&time).ok_or_else(|| {
            let got = beginning(&time, 40);
            FileError::malformed(what(), format!("expected a time such as 2016-09-28T16:00:00Z, got `{got}`"))
        })?;
        within("number of readings", readings.len(), self.limits.max_readings)?;
        let mut known: Vec<Reading> = Vec::new();
        for (place, reading) in readings.into_iter().enumerate() {
            let what = || format!("reading {place} of {} at {valid}", station.id);
            let Some(reading) = self.reading(reading, &what)? else {
                *ignored += 1;
                continue;
            };
            let (quantity, period) = (reading.quantity, reading.period_seconds);
            if known.iter().any(|other| (other.quantity, other.period_seconds) == (quantity, period)) {
                return Err(FileError::malformed(what(), format!("there is a {} already", quantity.name())));
            }
            known.push(reading);
        }
        Ok(StationReport { station: Arc::new(station), valid, readings: known, input: self.input.clone() })
    }

    fn station(&self, document: StationDocument) -> Result<Station, FileError> {
        let StationDocument { id, name, latitude, longitude, elevation_m } = document;
        self.text("the identifier of a station", &id)?;
        let what = || format!("the station {id}");
        name.as_deref().map_or(Ok(()), |name| self.text(&format!("the name of {id}"), name))?;
        let place = match (latitude, longitude) {
            (Some(latitude), Some(longitude)) => {
                let place = Place::new(latitude, longitude, elevation_m);
                Some(place.map_err(|error| FileError::malformed(what(), error))?)
            }
            (None, None) => None,
            _ => return Err(FileError::malformed(what(), "expected latitude and longitude, or neither, got one")),
        };
        Ok(Station { place, name: name.map(Arc::from), id: id.into() })
    }

    fn text(&self, what: &str, text: &str) -> Result<(), FileError> {
        let (got, limit) = (text.len(), self.limits.max_text_bytes);
        if got > limit {
            return Err(FileError::malformed(what, format!("it has {got} bytes, at most {limit} are allowed")));
        }
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(FileError::malformed(what, format!("expected a printable text, got {text:?}")));
        }
        Ok(())
    }

    /// `None` if the quantity is not known.
    fn reading(&self, document: Value, what: &dyn Fn() -> String) -> Result<Option<Reading>, FileError> {
        // The name alone decides whether the rest is looked at: what is not known may have any shape.
        let name = document.get("standard_name").and_then(Value::as_str);
        let name = name.ok_or_else(|| FileError::malformed(what(), "expected a standard_name"))?;
        let Some(quantity) = Quantity::of_standard_name(name) else { return Ok(None) };
        let ReadingDocument { standard_name, value, units, period_seconds, quality } = from_json(&what(), document)?;
        let longest = self.limits.max_period_seconds;
        if let Some(seconds) = period_seconds.filter(|seconds| !(1..=longest).contains(seconds)) {
            let reason = format!("expected period_seconds from 1 to {longest}, got {seconds}");
            return Err(FileError::malformed(what(), reason));
        }
        let conversion = quantity
            .conversion(&units, period_seconds)
            .map_err(|source| FileError::Unit { variable: format!("{}, {standard_name}", what()), source })?;
        let reading = match value {
            None => Reading::new(quantity, period_seconds, f32::NAN),
            Some(value) => {
                let reading = Reading::new(quantity, period_seconds, conversion.apply(value as f32));
                if reading.is_missing() {
                    return Err(FileError::malformed(what(), format!("{value} {units} is no value")));
                }
                reading
            }
        };
        let Some(word) = quality else { return Ok(Some(reading)) };
        let Some(verdict) = Verdict::ALL.iter().find(|verdict| verdict.name() == word) else {
            let words = Verdict::ALL.iter().map(|verdict| verdict.name()).collect::<Vec<_>>().join(", ");
            let reason = format!("expected the quality {words}, got `{}`", beginning(&word, 40));
            return Err(FileError::malformed(what(), reason));
        };
        Ok(Some(Reading { flags: reading.flags.with(Check::Producer, *verdict), ..reading }))
    }
}

fn within(what: &'static str, got: usize, limit: usize) -> Result<(), FileError> {
    if got > limit { Err(FileError::TooLarge { what, got: got as u64, limit: limit as u64 }) } else { Ok(()) }
}

fn from_json<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, FileError> {
    serde_json::from_value(value).map_err(|error| said(what, &error))
}

fn said(what: &str, error: &serde_json::Error) -> FileError {
    FileError::malformed(what, beginning(&error.to_string(), MAX_SAID))
}
