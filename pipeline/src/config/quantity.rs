//! Quantities as people write them: durations and sizes.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use squall_fields::Cadence;

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads a size such as `512 MiB`, `64MB` or `1000`; `None` if the text is none.
///
/// ```
/// use squall_pipeline::config::parse_bytes;
/// assert_eq!(parse_bytes("512 MiB"), Some(512 << 20));
/// assert_eq!(parse_bytes("1.5 GB"), Some(1_500_000_000));
/// assert_eq!(parse_bytes("many"), None);
/// ```
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    let scale = if unit.is_empty() { 1 } else { UNITS.iter().find(|(name, _)| *name == unit)?.1 };
    let bytes = number * scale as f64;
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes.round() as u64)
}

/// Writes a size so that [`parse_bytes`] reads the same back.
///
/// ```
/// use squall_pipeline::config::format_bytes;
/// assert_eq!(format_bytes(64 << 20), "64 MiB");
/// assert_eq!(format_bytes(1001), "1001 B");
/// ```
pub fn format_bytes(bytes: u64) -> String {
    let unit = UNITS
        .iter()
        .rev()
        .find(|(_, scale)| *scale > 1 && bytes > 0 && bytes.is_multiple_of(*scale) && scale.is_power_of_two());
    unit.map_or_else(|| format!("{bytes} B"), |(name, scale)| format!("{} {name}", bytes / scale))
}

/// Reads a duration such as `5 min`, `1h 30m` or `250 ms`; `None` if the text is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text.trim()).ok()
}

/// Writes a duration so that [`parse_duration`] reads the same back.
///
/// ```
/// use std::time::Duration;
/// use squall_pipeline::config::format_duration;
/// assert_eq!(format_duration(Duration::from_secs(300)), "5 min");
/// assert_eq!(format_duration(Duration::from_secs(10)), "10 s");
/// assert_eq!(format_duration(Duration::from_secs(90)), "90 s");
/// ```
pub fn format_duration(duration: Duration) -> String {
    let (seconds, rest) = (duration.as_secs(), duration.subsec_nanos());
    match seconds {
        _ if rest != 0 => humantime::format_duration(duration).to_string(),
        s if s > 0 && s % 86_400 == 0 => format!("{} days", s / 86_400),
        s if s > 0 && s % 3600 == 0 => format!("{} h", s / 3600),
        s if s > 0 && s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

pub(crate) fn as_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

pub(crate) fn as_optional_duration<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(format_duration).serialize(serializer)
}

pub(super) fn as_bytes<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_bytes(*bytes))
}

/// Seconds from slot to slot as a person writes them.
pub(crate) fn format_cadence(seconds: u32) -> String {
    format_duration(Duration::from_secs(seconds.into()))
}

pub(crate) fn as_cadence<S: Serializer>(cadence: &Cadence, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(Duration::from_secs(cadence.step_seconds() as u64)))
}

pub(crate) fn as_optional_cadence<S: Serializer>(cadence: &Option<Cadence>, serializer: S) -> Result<S::Ok, S::Error> {
    let step = cadence.map(|cadence| Duration::from_secs(cadence.step_seconds() as u64));
    as_optional_duration(&step, serializer)
}

/// Writes what serde can so that TOML can hold it: without what means the same as nothing, and with numbers of 32 bits
/// as short as they were written.
pub(crate) fn as_written<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let json = serde_json::to_value(value).map_err(serde::ser::Error::custom)?;
    holdable(json).serialize(serializer)
}

fn holdable(json: Json) -> Option<Json> {
    match json {
        Json::Null => None,
        Json::Object(entries) => {
            let entries = entries.into_iter().filter_map(|(key, value)| Some((key, holdable(value)?)));
            Some(Json::Object(entries.collect()))
        }
        Json::Array(items) => Some(Json::Array(items.into_iter().filter_map(holdable).collect())),
        // A limit beyond what TOML can say is none.
        Json::Number(number) if number.is_u64() && !number.is_i64() => None,
        Json::Number(number) if number.is_f64() => Some(number.as_f64().map(shortest).into()),
        other => Some(other),
    }
}

fn shortest(number: f64) -> f64 {
    let short = number as f32;
    if f64::from(short) == number { short.to_string().parse().unwrap_or(number) } else { number }
}
