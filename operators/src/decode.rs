//! Turns records into frames.
//!
//! The content type that a record *claims* chooses the decoder; nothing is sniffed past it. A WIS2 notification
//! (`application/geo+json`) points at a file, which is fetched from the store within a bound, compared with the
//! digest and length that the notification gives, and decoded by the type of its link. Whatever is wrong becomes a
//! dead letter; a decoder that panics is caught and counts as undecodable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256, Sha512};
use squall_fields::{Chain, Frame, InputRef, KnowledgeTime};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::Tick;
use crate::dead_letter::{DeadLetter, Reason};
use crate::local::Local;
use crate::ports::{FieldStore, FrameDecoder, Record};
use crate::source::Arrived;

/// Media type of a WIS2 notification.
pub const NOTIFICATION: &str = "application/geo+json";

/// What became of a record.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The record as it arrived.
    pub arrived: Arrived,
    /// Its frames, or the reason and detail of the dead letter that it becomes.
    pub outcome: Result<Vec<Arc<Frame>>, (Reason, String)>,
}

impl Decoded {
    /// The dead letter of a record with that fault.
    pub fn dead(arrived: &Arrived, (reason, detail): (Reason, String)) -> DeadLetter {
        DeadLetter { record: arrived.record.clone(), known_at: arrived.at, reason, detail }
    }

    /// Place of the record in the order of the log.
    pub fn place(&self) -> (KnowledgeTime, crate::ports::PartitionId, i64) {
        (self.arrived.at, self.arrived.record.partition.clone(), self.arrived.record.offset)
    }
}

/// The pure core: decodes records by their claimed type.
#[derive(Clone)]
pub struct Decoder {
    decoders: Vec<Arc<dyn FrameDecoder>>,
    store: Option<Arc<dyn FieldStore>>,
    max_bytes: u64,
}

type Fault = (Reason, String);

impl Decoder {
    /// Decoders for the formats; the store that notifications may point into; the bound for a record or a file.
    pub fn new(decoders: Vec<Arc<dyn FrameDecoder>>, store: Option<Arc<dyn FieldStore>>, max_bytes: u64) -> Self {
        Self { decoders, store, max_bytes }
    }

    /// The frames of a record.
    pub fn decode(&self, record: &Record) -> Result<Vec<Arc<Frame>>, (Reason, String)> {
        if record.is_cut() || record.value_bytes > self.max_bytes {
            return Err((Reason::Oversized, format!("{} bytes, at most {}", record.value_bytes, self.max_bytes)));
        }
        let Some(value) = record.value.as_ref().filter(|v| !v.is_empty()) else {
            return Err((Reason::Empty, "the record has no value".into()));
        };
        let Some(claimed) = record.header("content-type") else {
            return Err((Reason::ContentType, format!("no content-type header; expected {}", self.known())));
        };
        let claimed = media_type(claimed);
        let (content_type, payload) =
            if claimed == NOTIFICATION { self.fetch(value)? } else { (claimed, value.clone()) };
        let Some(decoder) = self.decoders.iter().find(|d| d.content_types().contains(&content_type.as_str())) else {
            return Err((Reason::ContentType, format!("{content_type}; expected {}", self.known())));
        };
        let input = InputRef {
            topic: record.partition.topic.clone(),
            partition: record.partition.partition,
            offset: record.offset,
            digest: hex::encode(Sha256::digest(&payload)).into(),
        };
        // Hostile bytes meet third-party parsers here: a panic is one more way of being undecodable.
        let frames = catch_unwind(AssertUnwindSafe(|| decoder.decode(&payload, &input)))
            .map_err(|_| (Reason::Undecodable, "the decoder panicked".to_owned()))?
            .map_err(|error| (Reason::from(&error), Chain(&error).to_string()))?;
        if frames.is_empty() {
            return Err((Reason::Undecodable, "no field in it".into()));
        }
        Ok(frames.into_iter().map(Arc::new).collect())
    }

    fn known(&self) -> String {
        let types = self.decoders.iter().flat_map(|d| d.content_types()).copied();
        types.chain(self.store.is_some().then_some(NOTIFICATION)).collect::<Vec<_>>().join(", ")
    }

    /// Type and bytes of the file that a notification points at.
    fn fetch(&self, notification: &[u8]) -> Result<(String, Bytes), Fault> {
        let Some(store) = &self.store else {
            return Err((Reason::ContentType, "notifications are not read: no store".into()));
        };
        let notification: Notification = serde_json::from_slice(notification)
            .map_err(|e| (Reason::Undecodable, format!("not a WIS2 notification: {e}")))?;
        let mut links = notification.links.iter().filter(|l| matches!(l.rel.as_str(), "canonical" | "update"));
        let Some(link) = links.next() else {
            return Err((Reason::Undecodable, "no link with rel canonical or update".into()));
        };
        let Some(content_type) = &link.content_type else {
            return Err((Reason::ContentType, "the link has no type".into()));
        };
        if link.length.is_some_and(|length| length > self.max_bytes) {
            return Err((
                Reason::Oversized,
                format!("the link says {:?} bytes, at most {}", link.length, self.max_bytes),
            ));
        }
        let bytes = get(&**store, &link.href, self.max_bytes)?;
        if let Some(length) = link.length.filter(|l| *l != bytes.len() as u64) {
            return Err((Reason::Integrity, format!("the link says {length} bytes, {} came", bytes.len())));
        }
        if let Some(integrity) = &notification.properties.integrity {
            integrity.check(&bytes)?;
        }
        Ok((media_type(content_type), bytes))
    }
}

/// Without parameters and in lower case.
fn media_type(text: &str) -> String {
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Tries a few times, for a store that is away for a moment.
fn get(store: &dyn FieldStore, url: &str, max_bytes: u64) -> Result<Bytes, Fault> {
    let mut tries = 0;
    loop {
        tries += 1;
        match store.get(url, max_bytes) {
            Ok(bytes) if bytes.len() as u64 > max_bytes => {
                return Err((Reason::Oversized, format!("{} bytes, at most {max_bytes}", bytes.len())));
            }
            Ok(bytes) => return Ok(bytes),
            Err(error) if error.is_retriable() && tries < 4 => std::thread::sleep(Duration::from_millis(50 << tries)),
            Err(error) => return Err((Reason::from(&error), Chain(&error).to_string())),
        }
    }
}

#[derive(Deserialize)]
struct Notification {
    properties: Properties,
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Properties {
    integrity: Option<Integrity>,
}

#[derive(Deserialize)]
struct Integrity {
    method: String,
    value: String,
}

#[derive(Deserialize)]
struct Link {
    href: String,
    rel: String,
    #[serde(rename = "type")]
    content_type: Option<String>,
    length: Option<u64>,
}

impl Integrity {
    fn check(&self, bytes: &[u8]) -> Result<(), Fault> {
        let digest = match self.method.as_str() {
            "sha512" => STANDARD.encode(Sha512::digest(bytes)),
            "sha256" => STANDARD.encode(Sha256::digest(bytes)),
            other => return Err((Reason::Integrity, format!("method {other}; expected sha512 or sha256"))),
        };
        if digest == self.value {
            return Ok(());
        }
        Err((Reason::Integrity, format!("{} is {digest}, the notification says {}", self.method, self.value)))
    }
}

/// Decodes each record where it was read.
pub fn decode<'scope>(
    records: StreamVec<'scope, Tick, Local<Arrived>>,
    decoder: Decoder,
) -> StreamVec<'scope, Tick, Local<Decoded>> {
    records.unary(Pipeline, "Decode", move |_capability, _info| {
        move |input, output| {
            input.for_each_time(|time, batches| {
                let mut session = output.session(&time);
                for Local(arrived) in batches.flat_map(|batch| batch.drain(..)) {
                    let outcome = decoder.decode(&arrived.record);
                    session.give(Local(Decoded { arrived, outcome }));
                }
            });
        }
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ports::{DecodeError, PartitionId, StoreError};
    use ndarray::Array3;
    use squall_fields::{Axis, Grid, ValidTime, Variable};

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

    fn decoder() -> Decoder {
        Decoder::new(vec![Arc::new(Words)], Some(Arc::new(OneFile(b"300 1 2"))), 1000)
    }

    fn fault(record: Record) -> Option<Reason> {
        decoder().decode(&record).err().map(|(reason, _)| reason)
    }

    #[test]
    fn decodes_by_the_claimed_type_alone() {
        let frames = decoder().decode(&record("text/x-words; charset=utf-8", b"300 1 2")).unwrap();
        assert_eq!(frames[0].slot.unix_seconds(), 300);
        assert_eq!(frames[0].input.offset, 3);
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
        assert!(decoder().decode(&notification("file:///one", 7, &right)).is_ok());
        assert_eq!(fault(notification("file:///one", 8, &right)), Some(Reason::Integrity));
        assert_eq!(fault(notification("file:///one", 7, "AAAA")), Some(Reason::Integrity));
        assert_eq!(fault(notification("file:///etc/passwd", 7, &right)), Some(Reason::Fetch));
        assert_eq!(fault(notification("file:///one", 5000, &right)), Some(Reason::Oversized));
        assert_eq!(fault(record(NOTIFICATION, b"{}")), Some(Reason::Undecodable));
    }
}
