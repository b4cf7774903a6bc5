//! Bad input, kept for whoever wants to know why.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use squall_fields::KnowledgeTime;

use crate::ports::{DecodeError, Outgoing, Record, StoreError};

/// Most bytes of a bad record that its dead letter keeps.
pub const KEPT_BYTES: usize = 256 * 1024;

/// Why a record was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// The record for the topic of dead letters.
    ///
    /// The value is the beginning of the raw bytes, at most [`KEPT_BYTES`]. Headers `dead-letter-*` say `topic`,
    /// `partition`, `offset`, `timestamp-ms`, `reason`, `detail`, `bytes` (whole length) and, if the whole value is
    /// known, its `sha256`; the headers of the record follow as they were.
    pub fn outgoing(&self, topic: &Arc<str>) -> Outgoing {
        let record = &self.record;
        // A tombstone has no bytes to keep.
        let value = record.value.clone().unwrap_or_default();
        let text = |name: &str, value: String| (format!("dead-letter-{name}"), Some(Bytes::from(value)));
        let mut headers = vec![
            text("topic", record.partition.topic.to_string()),
            text("partition", record.partition.partition.to_string()),
            text("offset", record.offset.to_string()),
            text("timestamp-ms", record.timestamp_ms.to_string()),
            text("reason", self.reason.name().to_owned()),
            text("detail", self.detail.chars().take(1000).collect()),
            text("bytes", record.value_bytes.to_string()),
        ];
        if !record.is_cut() {
            headers.push(text("sha256", hex::encode(Sha256::digest(&value))));
        }
        headers.extend(record.headers.iter().take(64).cloned());
        Outgoing {
            topic: topic.clone(),
            partition: None,
            key: Some(Bytes::from(format!("{}/{}", record.partition, record.offset))),
            headers,
            value: Some(value.slice(..value.len().min(KEPT_BYTES))),
            timestamp_ms: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ports::PartitionId;

    #[test]
    fn keeps_a_bounded_beginning_and_says_what_it_was() {
        let record = Record {
            partition: PartitionId::new("obs", 2),
            offset: 41,
            timestamp_ms: 7,
            key: None,
            headers: vec![("content-type".into(), Some("text/plain".into()))],
            value: Some(vec![1u8; 2 * KEPT_BYTES].into()),
            value_bytes: 2 * KEPT_BYTES as u64,
        };
        let reason = Reason::ContentType;
        let letter = DeadLetter { record: record.into(), known_at: Default::default(), reason, detail: "x".into() };
        let out = letter.outgoing(&"dead".into());
        let header = |name: &str| {
            let (_, value) = out.headers.iter().find(|(n, _)| n == name)?;
            Some(String::from_utf8_lossy(value.as_ref()?).into_owned())
        };
        assert_eq!(out.value.as_ref().map(Bytes::len), Some(KEPT_BYTES));
        assert_eq!(header("dead-letter-offset").as_deref(), Some("41"));
        assert_eq!(header("dead-letter-bytes").as_deref(), Some("524288"));
        assert_eq!(header("content-type").as_deref(), Some("text/plain"));
        assert_eq!(header("dead-letter-sha256").map(|h| h.len()), Some(64));
    }

    /// The words of the arms of [`Reason::name`], and those of the table: a new reason is in the first by itself.
    #[test]
    fn the_table_of_reasons_is_what_goes_on_the_wire() {
        let arms = include_str!("dead_letter.rs").lines().filter_map(|line| {
            let word = line.trim().strip_prefix("Self::")?.split_once(" => \"")?.1;
            word.split('"').next()
        });
        let wire: BTreeSet<&str> = arms.collect();
        assert!(wire.contains(Reason::Empty.name()) && wire.contains(Reason::TooMuchMissing.name()), "{wire:?}");
        let document = include_str!("../../docs/formats.md");
        let rows = document.lines().skip_while(|line| !line.starts_with("| reason |")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let documented: BTreeSet<&str> =
            rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2)).collect();
        assert_eq!(documented, wire);
    }
}
