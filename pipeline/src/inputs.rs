//! The topic of a source as it is found at the start, and whether it still has what a stream wants to read.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_operators::events;
use squall_operators::ports::{Connect, LogError, PartitionId, Timestamps};
use squall_operators::progress::Progress;
use squall_operators::source::{Clock, OnLost, positions};

use crate::config::{self, Config, SourceConfig, StreamConfig};

/// Covers the lag from a record's append to its being visible, in the wall clock's time.
const MARGIN: Duration = Duration::from_millis(100);

/// The topic of a source as it was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inputs {
    /// Its partitions.
    pub partitions: Vec<PartitionId>,
    /// Its identity, if the log tells.
    pub topic_id: Option<Arc<str>>,
    /// Whether the broker stamps its records.
    pub stamped_by_broker: bool,
    /// Where its time comes from.
    pub clock: Clock,
}

/// Looks at the topic of a source. A replay of a topic that is still empty waits for its end-of-log records.
///
/// # Errors
/// There is no such topic, or the broker does not answer.
pub fn look(config: &Config, source: &SourceConfig, connect: &dyn Connect) -> anyhow::Result<Inputs> {
    look_at(config, &source.topic, source.max_record_bytes, connect)
}

/// The same of a topic, whose records have so many bytes at most.
///
/// # Errors
/// As [`look`].
pub fn look_at(config: &Config, topic: &str, max_bytes: u64, connect: &dyn Connect) -> anyhow::Result<Inputs> {
    let mut reader = connect.reader(max_bytes)?;
    let partitions = reader.partitions(topic)?;
    let topic_id = reader.topic_id(topic)?;
    let described = connect.describe(&[topic])?.pop().flatten();
    let stamped_by_broker = described.is_some_and(|topic| topic.timestamps == Some(Timestamps::LogAppend));
    let clock = match config.runtime.clock {
        config::Clock::Wall => Clock::Wall { margin: MARGIN },
        config::Clock::Log => {
            let empty = reader.end_offsets(&partitions)?.iter().all(|end| *end == 0);
            Clock::Log { until_marker: empty || config.runtime.until_marker }
        }
    };
    Ok(Inputs { partitions, topic_id, stamped_by_broker, clock })
}

/// The progress to go on from, if the log still has what it speaks of, or if the stream may go on without.
///
/// # Errors
/// Something is lost, and the source says to stop then; the broker does not answer.
pub fn check(stream: &StreamConfig, mut progress: Progress, connect: &dyn Connect) -> anyhow::Result<Progress> {
    let mut reader = connect.reader(stream.source.max_record_bytes)?;
    let losses = positions::adjust(&mut progress, &mut *reader)?;
    for loss in losses {
        if stream.source.on_lost_position == OnLost::Stop {
            return Err(LogError::Lost { loss }.into());
        }
        events::PositionLost { stream: &stream.name, loss: &loss }.emit();
    }
    Ok(progress)
}
