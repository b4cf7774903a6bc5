//! What reaches the sink.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_fields::{ForecastId, KnowledgeTime};

use crate::dead_letter::{DeadLetter, KEPT_BYTES};
use crate::knowledge::PartitionClock;
use crate::ports::{Outgoing, PartitionId};
use crate::progress::Decision;
use crate::source::Arrived;
use crate::verify::PublishedFile;
use crate::window::Mark;

/// What the sink is told, each at its knowledge time.
#[derive(Clone, Debug)]
pub enum Note {
    /// A record was read.
    Passed(Passed),
    /// The state of the windows after this time.
    Mark(Arc<Mark>),
    /// A forecast, as records.
    Published(Arc<Published>),
    /// The machine's clock decided something of which there is no forecast.
    Decided(Decision),
    /// A record for the topic of dead letters.
    Dead(Arc<DeadLetter>),
    /// Records as they are.
    Records(Vec<Outgoing>),
}

impl Note {
    /// About how many bytes of records it brings.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Published(published) => published.bytes(),
            Self::Dead(letter) => letter.record.value.as_ref().map_or(0, |value| value.len().min(KEPT_BYTES)),
            Self::Records(records) => records.iter().map(Outgoing::bytes).sum(),
            Self::Passed(_) | Self::Mark(_) | Self::Decided(_) => 0,
        }
    }
}

/// A record that was read: what the sink, which may be in another process, must know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passed {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: i64,
    /// When it became known.
    pub known_at: KnowledgeTime,
    /// Whether the machine's clock decided that.
    pub decided: bool,
    /// Identity of its topic, if the log tells.
    pub topic_id: Option<Arc<str>>,
    /// The partition's clock after it.
    pub after: PartitionClock,
}

impl Passed {
    /// What is to be known of a record, unless its results are committed already.
    pub fn of(arrived: &Arrived) -> Option<Self> {
        let Arrived { record, origin, after, at, decided, refill, .. } = arrived;
        let passed = || Self {
            partition: record.partition.clone(),
            offset: record.offset,
            known_at: *at,
            decided: *decided,
            topic_id: origin.topic_id.clone(),
            after: *after,
        };
        (!refill).then(passed)
    }
}

/// A forecast as it will be committed.
#[derive(Clone, Debug)]
pub struct Published {
    /// Which forecast.
    pub id: ForecastId,
    /// Name of the model.
    pub model: String,
    /// Whether it is less than it should be.
    pub degraded: bool,
    /// When the last record that it needed was read.
    pub read_at_us: i64,
    /// What the machine's clock decided about it, if anything.
    pub decision: Option<Decision>,
    /// Where its file lies.
    pub file: PublishedFile,
    /// Its records.
    pub records: Vec<Outgoing>,
}

impl Published {
    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(Outgoing::bytes).sum()
    }
}
