//! Turns records into frames.
//!
//! The content type that a record *claims* chooses the decoder; nothing is sniffed past it. A WIS2 notification
//! (`application/geo+json`) points at a file, which is fetched from the store within a bound, compared with the
//! digest and length that the notification gives, and decoded by the type of its link. Whatever is wrong becomes a
//! dead letter; a decoder that panics is caught and counts as undecodable.

mod notification;
mod operator;
mod shared;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use squall_fields::{Chain, Grid, InputRef};

pub use self::notification::NOTIFICATION;
pub use self::operator::decode;
pub use self::shared::SharedFrames;
use crate::dead_letter::{DeadLetter, Reason};
use crate::order::LogOrder;
use crate::ports::{FieldStore, FrameDecoder, Record};
use crate::quality::{CleanFrame, Cleaner};
use crate::source::Arrived;

/// Most bytes of the PROJ string of a grid, and of its well-known text: several times what real ones have.
const GRID_BYTES: usize = 8 * 1024;

/// The reason and the detail of the dead letter that a record becomes.
pub type Fault = (Reason, String);

/// The frames of a record, or what is wrong with it.
pub type Outcome = Result<Vec<CleanFrame>, Fault>;

/// What became of a record. It travels to the worker that gathers the windows, in whichever process that is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decoded {
    /// The record as it arrived.
    pub arrived: Arrived,
    /// Its frames, or what is wrong with it.
    pub outcome: Outcome,
}

impl Decoded {
    /// The dead letter of a record with that fault.
    pub fn dead(arrived: &Arrived, (reason, detail): Fault) -> DeadLetter {
        DeadLetter::new(arrived.record.clone(), arrived.at, reason, &detail)
    }

    /// Place of the record in the order of the log.
    pub fn place(&self) -> LogOrder {
        (self.arrived.at, self.arrived.record.partition.clone(), self.arrived.record.offset)
    }
}

/// The pure core: decodes records by their claimed type.
#[derive(Clone)]
pub struct Decoder {
    decoders: Vec<Arc<dyn FrameDecoder>>,
    store: Option<Arc<dyn FieldStore>>,
    max_bytes: u64,
    cleaner: Cleaner,
    shared: Option<Arc<SharedFrames>>,
}

impl Decoder {
    /// Decoders for the formats; the store that notifications may point into; the bound for a record or a file; what
    /// is taken out of each frame.
    pub fn new(
        decoders: Vec<Arc<dyn FrameDecoder>>,
        store: Option<Arc<dyn FieldStore>>,
        max_bytes: u64,
        cleaner: Cleaner,
    ) -> Self {
        Self { decoders, store, max_bytes, cleaner, shared: None }
    }

    /// The same, for one of several streams that share what is decoded.
    #[must_use]
    pub fn sharing(self, shared: Arc<SharedFrames>) -> Self {
        Self { shared: Some(shared), ..self }
    }

    /// The frames of a record. `pause` waits for a store that is away, and says whether to try again.
    pub fn decode(&self, record: &Record, pause: impl FnMut(Duration) -> bool) -> Outcome {
        match &self.shared {
            Some(shared) => shared.get_or_make(record, || self.decode_alone(record, pause)),
            None => self.decode_alone(record, pause),
        }
    }

    fn decode_alone(&self, record: &Record, pause: impl FnMut(Duration) -> bool) -> Outcome {
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
        let (content_type, payload) = match (&self.store, claimed == NOTIFICATION) {
            (Some(store), true) => notification::fetch(&**store, value, self.max_bytes, pause)?,
            _ => (claimed, value.clone()),
        };
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
        frames.iter().try_for_each(|frame| bounded_grid(&frame.grid))?;
        Ok(frames.into_iter().map(|frame| self.cleaner.clean(Arc::new(frame))).collect())
    }

    fn known(&self) -> String {
        let types = self.decoders.iter().flat_map(|d| d.content_types()).copied();
        types.chain(self.store.is_some().then_some(NOTIFICATION)).collect::<Vec<_>>().join(", ")
    }
}

/// What a grid is called goes into the index record of every forecast on it, into each of its tiles and into the
/// progress: a text without bound would make them larger than their topics take.
fn bounded_grid(grid: &Grid) -> Result<(), Fault> {
    for (name, length) in
        [("PROJ string", grid.proj.len()), ("well-known text", grid.wkt.as_ref().map_or(0, String::len))]
    {
        if length > GRID_BYTES {
            return Err((Reason::WrongGrid, format!("its {name} has {length} bytes, at most {GRID_BYTES}")));
        }
    }
    Ok(())
}

/// Without parameters and in lower case.
pub(crate) fn media_type(text: &str) -> String {
    text.split(';').next().expect("split gives at least one part").trim().to_ascii_lowercase()
}

#[cfg(test)]
pub(crate) mod tests;
