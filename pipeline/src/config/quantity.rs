//! Quantities as people write them: durations, sizes, secrets.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use squall_fields::Cadence;

/// A setting that is passed on to the log's client. A secret prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Property {
    value: String,
    secret: bool,
}

impl Property {
    /// The value of a setting; whether it is secret follows from its key.
    ///
    /// ```
    /// use squall_pipeline::config::Property;
    /// let password = Property::new("sasl.password", "hunter2");
    /// assert_eq!(format!("{password} {password:?}"), "*** ***");
    /// assert_eq!(password.reveal(), "hunter2");
    /// assert_eq!(Property::new("linger.ms", "5").to_string(), "5");
    /// ```
    pub fn new(key: &str, value: impl Into<String>) -> Self {
        Self { value: value.into(), secret: is_secret(key) }
    }

    /// The value itself: for the client library only, never for a log.
    pub fn reveal(&self) -> &str {
        &self.value
    }
}

/// Whether the value of a key must never be printed.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('_', ".");
    ["password", "secret", "token", ".pem", "credential", "sasl.oauthbearer.config", "jaas"]
        .iter()
        .any(|word| key.contains(word))
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secret { "***" } else { &self.value })
    }
}

impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Property {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

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

pub(super) fn as_duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(*duration))
}

pub(super) fn as_optional_duration<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(format_duration).serialize(serializer)
}

pub(super) fn as_bytes<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_bytes(*bytes))
}

pub(super) fn as_cadence<S: Serializer>(cadence: &Cadence, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_duration(Duration::from_secs(cadence.step_seconds() as u64)))
}
