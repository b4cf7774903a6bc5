//! What reaches the sink.

use std::sync::Arc;

use squall_fields::{ForecastId, KnowledgeTime};

use crate::dead_letter::DeadLetter;
use crate::knowledge::PartitionClock;
use crate::ports::{Outgoing, PartitionId};
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
    /// A record for the topic of dead letters.
    Dead(Arc<DeadLetter>),
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
    /// Its records.
    pub records: Vec<Outgoing>,
}
