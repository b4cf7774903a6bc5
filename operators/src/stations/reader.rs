//! Turns a record into reports.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use squall_fields::{Chain, InputRef, StationReport};

use crate::dead_letter::{DETAIL_BYTES, Reason, beginning};
use crate::decode::{Fault, media_type};
use crate::ports::{DecodeError, Record, ReportDecoder, Reports};

/// The pure core: decodes records by the content type that they claim.
#[derive(Clone)]
pub struct ReportReader {
    decoders: Vec<Arc<dyn ReportDecoder>>,
    max_bytes: u64,
}

/// What is in a record. It may hold reports that are used and others that are not: then it is a dead letter, too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadReports {
    /// Those that can be used.
    pub reports: Vec<StationReport>,
    /// Readings of quantities that are not known.
    pub ignored: usize,
    /// Reason and detail of the record's dead letter, if anything in it cannot be used.
    pub fault: Option<Fault>,
}

impl ReportReader {
    /// Decoders for the formats, and the bound for a record.
    pub const fn new(decoders: Vec<Arc<dyn ReportDecoder>>, max_bytes: u64) -> Self {
        Self { decoders, max_bytes }
    }

    /// The reports of a record.
    pub fn read(&self, record: &Record) -> ReadReports {
        match self.decode(record) {
            Ok(Reports { reports, refused, ignored }) => {
                let count = reports.len() + refused.len();
                ReadReports { reports, ignored, fault: fault(&refused, count) }
            }
            Err(fault) => ReadReports { fault: Some(fault), ..ReadReports::default() },
        }
    }

    fn decode(&self, record: &Record) -> Result<Reports, Fault> {
        if record.is_cut() || record.value_bytes > self.max_bytes {
            return Err((Reason::Oversized, format!("{} bytes, at most {}", record.value_bytes, self.max_bytes)));
        }
        let Some(value) = record.value.as_ref().filter(|value| !value.is_empty()) else {
            return Err((Reason::Empty, "the record has no value".into()));
        };
        let known = || self.decoders.iter().flat_map(|d| d.content_types()).copied().collect::<Vec<_>>().join(", ");
        let Some(claimed) = record.header("content-type").map(media_type) else {
            return Err((Reason::ContentType, format!("no content-type header; expected {}", known())));
        };
        let Some(decoder) = self.decoders.iter().find(|d| d.content_types().contains(&claimed.as_str())) else {
            return Err((Reason::ContentType, format!("{claimed}; expected {}", known())));
        };
        let input = InputRef {
            topic: record.partition.topic.clone(),
            partition: record.partition.partition,
            offset: record.offset,
            digest: hex::encode(Sha256::digest(value)).into(),
        };
        catch_unwind(AssertUnwindSafe(|| decoder.decode(value, &input)))
            .map_err(|_| (Reason::Undecodable, "the decoder panicked".to_owned()))?
            .map_err(|error| (Reason::from(&error), Chain(&error).to_string()))
    }
}

/// The fault of a record of which some reports were refused, with the reason of the first: as many as its detail takes.
fn fault(refused: &[(usize, DecodeError)], count: usize) -> Option<Fault> {
    let (_, first) = refused.first()?;
    let mut detail = format!("{} of {count} reports", refused.len());
    for (index, error) in refused {
        if detail.len() >= DETAIL_BYTES {
            break;
        }
        detail.push_str(&format!("; {index}: {}", Chain(error)));
    }
    Some((Reason::from(first), beginning(&detail, DETAIL_BYTES).to_owned()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use squall_fields::{Quantity, Reading, Station, ValidTime};

    use super::*;
    use crate::ports::PartitionId;

    /// Reads `1`, `2`, ... as so many reports, `x` as one that is wrong, and panics at `!`.
    struct Letters;

    impl ReportDecoder for Letters {
        fn content_types(&self) -> &[&'static str] {
            &["text/letters"]
        }

        fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Reports, DecodeError> {
            let mut read = Reports { ignored: 3, ..Reports::default() };
            for (index, letter) in payload.iter().enumerate() {
                match letter {
                    b'x' => read.refused.push((index, DecodeError::new("it is an x"))),
                    b'!' => panic!("what a decoder must not do"),
                    b'?' => return Err(DecodeError::new("what is this")),
                    _ => read.reports.push(StationReport {
                        station: Arc::new(Station { id: "a".into(), name: None, place: None }),
                        valid: ValidTime::from_unix_seconds(0),
                        readings: vec![Reading::new(Quantity::RainRate, None, 1.0)],
                        input: input.clone(),
                    }),
                }
            }
            Ok(read)
        }
    }

    fn record(content_type: Option<&'static str>, value: &'static str) -> Record {
        let header = |value: &'static str| ("content-type".to_owned(), Some(Bytes::from(value)));
        Record {
            partition: PartitionId::new("obs", 2),
            offset: 7,
            timestamp_ms: 0,
            key: None,
            headers: content_type.map(header).into_iter().collect(),
            value: Some(Bytes::from(value)),
            value_bytes: value.len() as u64,
        }
    }

    fn read(record: &Record) -> ReadReports {
        ReportReader::new(vec![Arc::new(Letters)], 2000).read(record)
    }

    #[test]
    fn what_is_wrong_with_a_record_is_its_fault() {
        let long: &'static str = "1".repeat(2001).leak();
        for (record, reason, detail) in [
            (record(None, "1"), Reason::ContentType, "no content-type header; expected text/letters"),
            (record(Some("application/json"), "1"), Reason::ContentType, "application/json; expected text/letters"),
            (record(Some("text/letters"), ""), Reason::Empty, "no value"),
            (record(Some("text/letters"), long), Reason::Oversized, "2001 bytes, at most 2000"),
            (record(Some("text/letters"), "1!"), Reason::Undecodable, "the decoder panicked"),
            (record(Some("text/letters"), "1?"), Reason::Undecodable, "what is this"),
        ] {
            let read = read(&record);
            let (found, said) = read.fault.unwrap();
            assert!(found == reason && said.contains(detail), "{found} {said}");
            assert!(read.reports.is_empty());
        }
        let cut = Record { value_bytes: 100, ..record(Some("text/letters"), "1") };
        assert_eq!(read(&cut).fault.unwrap().0, Reason::Oversized);
    }

    #[test]
    fn good_reports_are_used_beside_bad_ones_which_are_all_named() {
        let whole = read(&record(Some("Text/Letters; charset=utf-8"), "11"));
        assert_eq!((whole.reports.len(), whole.ignored, whole.fault), (2, 3, None));
        assert_eq!((whole.reports[0].input.partition, whole.reports[0].input.offset), (2, 7));
        assert_eq!(whole.reports[0].input.digest.len(), 64);
        let mixed = read(&record(Some("text/letters"), "1x1x"));
        assert_eq!(mixed.reports.len(), 2);
        let fault = (Reason::Undecodable, "2 of 4 reports; 1: it is an x; 3: it is an x".to_owned());
        assert_eq!(mixed.fault, Some(fault));
        let many = read(&record(Some("text/letters"), "x".repeat(1500).leak()));
        assert!(many.fault.unwrap().1.len() <= DETAIL_BYTES);
    }
}
