//! Reads the partitions of a topic into the dataflow.
//!
//! Each worker owns the partitions that fall on it, the same ones for all streams of a topic, and holds one capability
//! for each, so that the frontier
//! is the minimum over all partitions of what each has read. A worker that owns none holds nothing. Records are
//! read on a thread of their own ([`reader`]), behind bounded queues; the operator takes from a queue only while
//! the probe behind the *sink* is near enough and the bytes in flight are within a budget ([`budget`]). Timely's
//! channels are unbounded, so this is the only place where a flood can be held back.
//!
//! The partition that holds time back is always read: with several partitions of uneven speed, the far ones wait
//! and the slow one never does, so that nothing deadlocks. It is read until it has moved on in time, and few of its
//! records are known at one time ([`crate::knowledge`]), so that this does not fill the memory either.
//!
//! A partition that is added to the topic while a live source reads it is read from then on, by a worker that reads
//! already. What its records say happened before the frontier is known at the frontier. A replay reads the partitions
//! that are there at its start.

pub mod budget;
mod clock_offset;
mod operator;
mod plausible;
pub mod positions;
mod queues;
pub mod reader;
mod stamp;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_fields::{KnowledgeTime, TraceParent};

use self::budget::Budget;
pub use self::clock_offset::ClockOffset;
pub use self::operator::source;
pub use self::positions::{Loss, OnLost};
pub use self::stamp::{PartitionStamp, Stamp};
use crate::decisions::Recorded;
use crate::knowledge::PartitionClock;
use crate::ports::{PartitionId, Record};

/// Where a source's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Clock {
    /// Live: at the end of a partition, time is the machine's clock minus a margin that covers the lag from append
    /// to visible.
    Wall {
        /// The margin.
        margin: Duration,
    },
    /// Replay: time moves by records alone, and ends at the end offsets seen at the start or, where
    /// `until_marker` is set, at a record with the header [`crate::ports::END_OF_LOG_HEADER`].
    Log {
        /// Go on past the end offsets, until the marker.
        until_marker: bool,
    },
}

/// What a source reads, and how far ahead.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Its identity, if the log tells.
    pub topic_id: Option<Arc<str>>,
    /// Whether its timestamps are the broker's word; otherwise they are the producers', and live the broker's clock, as
    /// far as it is known, bounds them.
    pub stamped_by_broker: bool,
    /// Every partition of the topic.
    pub partitions: Vec<PartitionId>,
    /// What to do about a position that the log does not have any more.
    pub on_lost: OnLost,
    /// Where time comes from.
    pub clock: Clock,
    /// How far in knowledge time a partition may be read ahead of what is committed.
    pub read_ahead: Duration,
    /// How far ahead of those before it a timestamp of a replay may be without being confirmed by those after it: no
    /// further than what makes no frame late beyond its patience.
    pub jump: Duration,
    /// How much older than those before it a timestamp of a replay may be without speaking against them.
    pub disorder: Duration,
    /// Sources of its dataflow, which share what the stream may have in queues.
    pub sources: usize,
    /// Larger records are cut, and go to dead letters.
    pub max_record_bytes: u64,
    /// Number of this source's first holder of time: those of a dataflow differ, since each says what it holds when the
    /// stream is asked to stop.
    pub first_holder: usize,
    /// What the run decided that is replayed: late records take the time that they took there.
    pub recorded: Option<Arc<Recorded>>,
}

impl SourceConfig {
    /// Bytes that the queue of each of its partitions may hold, whichever worker reads it.
    fn queue_bytes(&self, budget: &Budget) -> u64 {
        budget.for_queue(self.sources, self.partitions.len())
    }
}

/// What a reader needs to come back to a record, besides its partition and offset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Identity of its topic, if the log tells.
    pub topic_id: Option<Arc<str>>,
    /// The partition's clock before it.
    pub clock: PartitionClock,
}

/// A record in the dataflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arrived {
    /// The record.
    pub record: Arc<Record>,
    /// Where it stands, for coming back to it.
    pub origin: Origin,
    /// The partition's clock after it.
    pub after: PartitionClock,
    /// When it became known.
    pub at: KnowledgeTime,
    /// Whether its time was decided by the machine's clock, so that a restart must be told.
    pub decided: bool,
    /// Whether its results are committed already: it is read again only to refill windows.
    pub refill: bool,
    /// The machine's clock in microseconds since 1970 when it was read, for latencies alone.
    pub read_at_us: i64,
}

impl Arrived {
    /// The trace that whoever sent the record has put it into, by a valid header `traceparent`.
    pub fn trace(&self) -> Option<TraceParent> {
        self.record.header("traceparent").and_then(TraceParent::parse)
    }
}

/// The worker that owns something of that name: the same on every run with as many workers.
pub fn owner(name: &str, index: u64, workers: usize) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    ((hash >> 32).wrapping_add(index) % workers as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_spread() {
        let owners: std::collections::BTreeSet<_> = (0..4).map(|p| owner("radar", p, 4)).collect();
        assert_eq!(owners.len(), 4);
    }
}
