use super::*;
use crate::ports::{DecodeError, PartitionId, StoreError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ndarray::Array3;
use sha2::Sha512;
use squall_fields::{Axis, Frame, Grid, ValidTime, Variable};

/// Reads `slot value value ...`: a frame of one row.
pub(crate) struct Words;

impl FrameDecoder for Words {
    fn content_types(&self) -> &[&'static str] {
        &["text/x-words"]
    }

    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Vec<Frame>, DecodeError> {
        let text = std::str::from_utf8(payload).map_err(|e| DecodeError::new(e.to_string()))?;
        assert!(text != "panic", "as asked");
        let mut words = text.split_whitespace();
        let slot = words.next().and_then(|w| w.parse().ok()).ok_or_else(|| DecodeError::new("no slot"))?;
        let values: Vec<f32> = words.filter_map(|w| w.parse().ok()).collect();
        let axis = |step: f64, len| Axis { first: 0.0, step, len };
        let grid = Grid { proj: "+proj=utm".into(), wkt: None, x: axis(1000.0, values.len()), y: axis(-1000.0, 1) };
        let values =
            Array3::from_shape_vec((1, 1, values.len()), values).map_err(|e| DecodeError::new(e.to_string()))?;
        Ok(vec![Frame {
            grid: grid.into(),
            slot: ValidTime::from_unix_seconds(slot),
            variables: vec![Variable::RainRate].into(),
            values,
            quality: None,
            input: input.clone(),
        }])
    }
}

struct OneFile(&'static [u8]);

impl FieldStore for OneFile {
    fn put(&self, name: &str, _: &[u8]) -> Result<String, StoreError> {
        Err(StoreError::Misused { name: name.into(), reason: "the store is for reading only" })
    }

    fn get(&self, url: &str, _: u64) -> Result<Bytes, StoreError> {
        if url == "file:///one" {
            return Ok(Bytes::from_static(self.0));
        }
        Err(StoreError::Missing { name: url.into() })
    }
}

pub(crate) fn record(content_type: &str, value: &[u8]) -> Record {
    Record {
        partition: PartitionId::new("obs", 0),
        offset: 3,
        timestamp_ms: 0,
        key: None,
        headers: vec![("content-type".into(), Some(Bytes::copy_from_slice(content_type.as_bytes())))],
        value: Some(Bytes::copy_from_slice(value)),
        value_bytes: value.len() as u64,
    }
}

/// Takes nothing out.
pub(crate) fn cleaner() -> Cleaner {
    let cadence = squall_fields::Cadence::every_seconds(300).unwrap();
    Cleaner::new(&crate::quality::QualityConfig::new("radar", vec![Variable::RainRate], cadence))
}

fn decoder() -> Decoder {
    Decoder::new(vec![Arc::new(Words)], Some(Arc::new(OneFile(b"300 1 2"))), 1000, cleaner())
}

fn decode(record: Record) -> Outcome {
    decoder().decode(&record, |_| true)
}

fn fault(record: Record) -> Option<Reason> {
    decode(record).err().map(|(reason, _)| reason)
}

#[test]
fn decodes_by_the_claimed_type_alone() {
    let frames = decode(record("text/x-words; charset=utf-8", b"300 1 2")).unwrap();
    assert_eq!(frames[0].frame.slot.unix_seconds(), 300);
    assert_eq!(frames[0].frame.input.offset, 3);
    assert_eq!(fault(record("application/x-netcdf", b"300 1 2")), Some(Reason::ContentType));
    assert_eq!(fault(Record { headers: vec![], ..record("", b"300 1 2") }), Some(Reason::ContentType));
}

#[test]
fn each_fault_has_its_reason() {
    assert_eq!(fault(record("text/x-words", b"")), Some(Reason::Empty));
    assert_eq!(fault(record("text/x-words", b"no slot")), Some(Reason::Undecodable));
    assert_eq!(fault(record("text/x-words", b"panic")), Some(Reason::Undecodable));
    assert_eq!(fault(record("text/x-words", &[0u8; 1001])), Some(Reason::Oversized));
    let cut = Record { value_bytes: 500, ..record("text/x-words", b"300 1 2") };
    assert_eq!(fault(cut), Some(Reason::Oversized));
}

fn notification(href: &str, length: u64, sha512: &str) -> Record {
    let text = format!(
        r#"{{"type":"Feature","properties":{{"integrity":{{"method":"sha512","value":"{sha512}"}}}},
            "links":[{{"href":"{href}","rel":"canonical","type":"text/x-words","length":{length}}}]}}"#
    );
    record(NOTIFICATION, text.as_bytes())
}

#[test]
fn follows_a_notification_and_checks_what_came() {
    let right = STANDARD.encode(Sha512::digest(b"300 1 2"));
    assert!(decode(notification("file:///one", 7, &right)).is_ok());
    assert_eq!(fault(notification("file:///one", 8, &right)), Some(Reason::Integrity));
    assert_eq!(fault(notification("file:///one", 7, "AAAA")), Some(Reason::Integrity));
    assert_eq!(fault(notification("file:///etc/passwd", 7, &right)), Some(Reason::Fetch));
    assert_eq!(fault(notification("file:///one", 5000, &right)), Some(Reason::Oversized));
    assert_eq!(fault(record(NOTIFICATION, b"{}")), Some(Reason::Undecodable));
}
