//! Bad input, kept for whoever wants to know why.
//!
//! Whatever a record holds, its dead letter is a record that its topic takes: everything in it that comes from input
//! is bounded, and what was cut is named.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use squall_fields::KnowledgeTime;

use crate::ports::{DecodeError, Headers, Outgoing, Record, StoreError};

/// Most bytes of a bad record that its dead letter keeps.
pub const KEPT_BYTES: usize = 256 * 1024;
/// Most bytes of a dead letter on a topic that takes larger ones.
const MOST_BYTES: usize = 1_000_000;
/// Bytes of a record beside its key, headers and value, and of the batch around it.
const ENVELOPE_BYTES: usize = 256;
/// Bytes of a header beside its name and value.
const HEADER_ENVELOPE_BYTES: usize = 10;
/// Most bytes of the detail.
pub const DETAIL_BYTES: usize = 1000;
/// Most of the record's own headers that are kept.
const HEADERS: usize = 64;
/// Most bytes of the name of one of them.
const NAME_BYTES: usize = 256;
/// Most bytes of the value of one of them.
const VALUE_BYTES: usize = 4096;
/// Most bytes of all of them.
const HEADERS_BYTES: usize = 64 * 1024;
/// Begins the names of the headers that a dead letter has of its own.
const OWN: &str = "dead-letter-";

/// The beginning of a text, of at most so many bytes, cut between two characters.
///
/// ```
/// use squall_operators::dead_letter::beginning;
/// assert_eq!(beginning("5 °C", 3), "5 ");
/// assert_eq!(beginning("5 °C", 100), "5 °C");
/// ```
pub fn beginning(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Where dead letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Largest record that it takes, in bytes.
    pub max_bytes: usize,
}

impl DeadLetters {
    /// A topic that takes records of so many bytes, if the log says; a dead letter never has more than 1 MB.
    pub fn new(topic: Arc<str>, max_record_bytes: Option<u64>) -> Self {
        let max_bytes = max_record_bytes.map_or(MOST_BYTES, |bytes| MOST_BYTES.min(bytes as usize));
        Self { topic, max_bytes }
    }
}

impl From<&str> for DeadLetters {
    fn from(topic: &str) -> Self {
        Self::new(topic.into(), None)
    }
}

/// Why a record was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reason {
    /// Larger than the source's `max_record_bytes`, or unpacks to more than is allowed.
    Oversized,
    /// No value.
    Empty,
    /// The claimed content type is none that a decoder reads, or is missing.
    ContentType,
    /// The bytes are not what the content type claims.
    Undecodable,
    /// What a notification points at could not be fetched.
    Fetch,
    /// What a notification points at is not what it says (digest, length).
    Integrity,
    /// Valid later than it was known, beyond the tolerance.
    Future,
    /// The same values for too many slots: a frozen source.
    Stale,
    /// Not on a slot of the source's cadence.
    WrongSlot,
    /// Not on the source's grid.
    WrongGrid,
    /// Lacks a variable, or has it in an impossible shape.
    WrongVariables,
    /// The same slot with the same values once more.
    Duplicate,
    /// Every value is missing.
    AllMissing,
    /// More values are missing than the source accepts.
    TooMuchMissing,
}

impl Reason {
    /// Name on the wire and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Empty => "empty",
            Self::ContentType => "content-type",
            Self::Undecodable => "undecodable",
            Self::Fetch => "fetch",
            Self::Integrity => "integrity",
            Self::Future => "future",
            Self::Stale => "stale",
            Self::WrongSlot => "wrong-slot",
            Self::WrongGrid => "wrong-grid",
            Self::WrongVariables => "wrong-variables",
            Self::Duplicate => "duplicate",
            Self::AllMissing => "all-missing",
            Self::TooMuchMissing => "too-much-missing",
        }
    }
}

impl From<&DecodeError> for Reason {
    fn from(error: &DecodeError) -> Self {
        match error {
            DecodeError::TooLarge(_) => Self::Oversized,
            DecodeError::WrongVariables(_) => Self::WrongVariables,
            DecodeError::Malformed(_) | DecodeError::Broke { .. } => Self::Undecodable,
        }
    }
}

/// Of a file that a notification points at.
impl From<&StoreError> for Reason {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::TooLarge { .. } => Self::Oversized,
            _ => Self::Fetch,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A record that was not used, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The record as it was read.
    pub record: Arc<Record>,
    /// When it became known.
    pub known_at: KnowledgeTime,
    /// Why it was not used.
    pub reason: Reason,
    /// What was expected and what came, for a person.
    pub detail: String,
}

impl DeadLetter {
    /// A record that was not used; the detail is cut to [`DETAIL_BYTES`].
    pub fn new(record: Arc<Record>, known_at: KnowledgeTime, reason: Reason, detail: &str) -> Self {
        Self { record, known_at, reason, detail: beginning(detail, DETAIL_BYTES).to_owned() }
    }

    /// The record for the topic of dead letters.
    ///
    /// The value is the beginning of the raw bytes, at most [`KEPT_BYTES`]. Headers `dead-letter-*` say `topic`,
    /// `partition`, `offset`, `timestamp-ms`, `reason`, `detail`, `bytes` (whole length) and, if the whole value is
    /// known, its `sha256`; the headers of the record follow as they were, within bounds of number and size. Names of
    /// those that were cut or left out are in `dead-letter-headers-cut`. On a topic that takes small records only,
    /// there is less of the headers and of the value.
    pub fn outgoing(&self, to: &DeadLetters) -> Outgoing {
        let record = &self.record;
        // A tombstone has no bytes to keep.
        let value = record.value.clone().unwrap_or_default();
        let text = |name: &str, value: String| (format!("{OWN}{name}"), Some(Bytes::from(value)));
        let mut headers = vec![
            text("topic", record.partition.topic.to_string()),
            text("partition", record.partition.partition.to_string()),
            text("offset", record.offset.to_string()),
            text("timestamp-ms", record.timestamp_ms.to_string()),
            text("reason", self.reason.name().to_owned()),
            text("detail", beginning(&self.detail, DETAIL_BYTES).to_owned()),
            text("bytes", record.value_bytes.to_string()),
        ];
        if !record.is_cut() {
            headers.push(text("sha256", hex::encode(Sha256::digest(&value))));
        }
        let key = Bytes::from(format!("{}/{}", record.partition, record.offset));
        let room = to.max_bytes.saturating_sub(ENVELOPE_BYTES + key.len() + bytes_of(&headers));
        // The names of what was cut may take as much as the detail.
        let (kept, cut) = bounded(&record.headers, HEADERS_BYTES.min(room.saturating_sub(2 * DETAIL_BYTES) / 2));
        if let Some(cut) = cut {
            headers.push(text("headers-cut", cut));
        }
        headers.extend(kept);
        let room = to.max_bytes.saturating_sub(ENVELOPE_BYTES + key.len() + bytes_of(&headers));
        Outgoing {
            topic: to.topic.clone(),
            partition: None,
            key: Some(key),
            headers,
            value: Some(value.slice(..value.len().min(KEPT_BYTES).min(room))),
            timestamp_ms: None,
        }
    }
}

/// Bytes that headers take.
fn bytes_of(headers: &Headers) -> usize {
    let one = |(name, value): &(String, Option<Bytes>)| {
        HEADER_ENVELOPE_BYTES + name.len() + value.as_ref().map_or(0, Bytes::len)
    };
    headers.iter().map(one).sum()
}

/// The headers of a record within bounds, and the names of those that were cut or left out. Those that would pass for
/// a dead letter's own are left out.
fn bounded(headers: &Headers, most_bytes: usize) -> (Headers, Option<String>) {
    let (mut kept, mut bytes) = (Headers::new(), 0);
    let (mut cut, mut unnamed) = (String::new(), 0);
    for (name, value) in headers {
        let short = beginning(name, NAME_BYTES);
        let bounded = value.as_ref().map(|value| value.slice(..value.len().min(VALUE_BYTES)));
        let is_whole = short.len() == name.len() && bounded == *value;
        let header = (short.to_owned(), bounded);
        let size = bytes_of(&vec![header.clone()]);
        let fits = kept.len() < HEADERS && bytes + size <= most_bytes && !short.starts_with(OWN);
        if fits {
            bytes += size;
            kept.push(header);
        }
        if fits && is_whole {
            continue;
        }
        if cut.len() + short.len() < DETAIL_BYTES - 40 {
            cut = if cut.is_empty() { short.to_owned() } else { format!("{cut}, {short}") };
        } else {
            unnamed += 1;
        }
    }
    if unnamed > 0 {
        cut = format!("{cut} and {unnamed} more");
    }
    (kept, (!cut.is_empty()).then_some(cut))
}

#[cfg(test)]
mod tests;
