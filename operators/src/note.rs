//! What reaches the sink.

use std::sync::Arc;

use squall_fields::{ForecastId, KnowledgeTime};

use crate::dead_letter::{DeadLetter, KEPT_BYTES};
use crate::knowledge::PartitionClock;
use crate::ports::{Outgoing, PartitionId};
use crate::progress::Decision;
use crate::window::Mark;

/// What the sink is told, each at its knowledge time.
#[derive(Clone, Debug)]
pub enum Note {
    /// A record was read.
    Passed {
        /// Its partition.
        partition: PartitionId,
        /// Its offset.
        offset: i64,
        /// When it became known.
        known_at: KnowledgeTime,
        /// Whether the machine's clock decided that.
        decided: bool,
        /// Identity of its topic, if the log tells.
        topic_id: Option<Arc<str>>,
        /// The partition's clock after it.
        after: PartitionClock,
    },
    /// The state of the windows after this time.
    Mark(Arc<Mark>),
    /// A forecast, as records.
    Published(Arc<Published>),
    /// The machine's clock decided something of which there is no forecast.
    Decided(Decision),
    /// A record for the topic of dead letters.
    Dead(Arc<DeadLetter>),
}

impl Note {
    /// About how many bytes of records it brings.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Published(published) => published.bytes(),
            Self::Dead(letter) => letter.record.value.as_ref().map_or(0, |value| value.len().min(KEPT_BYTES)),
            Self::Passed { .. } | Self::Mark(_) | Self::Decided(_) => 0,
        }
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
    /// Its records.
    pub records: Vec<Outgoing>,
}

impl Published {
    /// Bytes of its records.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(Outgoing::bytes).sum()
    }
}
