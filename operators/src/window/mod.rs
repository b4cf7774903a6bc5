//! Gathers the last T frames of a stream into the context of a forecast, and decides when it is time.
//!
//! A window fires as soon as it is complete, at the knowledge time of the record that completed it. An incomplete
//! one fires when time passes its slot plus a *patience*, with the mask of what is missing; at the end of a log time has
//! come as far as [`StreamContext::end_after`](crate::stream::StreamContext::end_after) says. A frame that comes later
//! (or replaces another) within the *horizon* makes a revision; after that it only serves verification. Nothing
//! waits for the next frame. All of this is a function of the log:
//!
//! - frames are judged in the order of the log, once no earlier one can come any more, and all that become known at one
//!   time are taken together: a window fires at most once then, whatever came in which order or partition;
//! - a window without the frame of its issue time never fires, since the issue time is the slot of the newest frame used:
//!   when that frame comes after the patience, the window fires then;
//! - a window that reaches back before the stream's first slot never fires, where *first* is the oldest slot seen so
//!   far, so that frames out of order within the patience give the same forecasts as in order;
//! - a window of which nothing was known when its patience ended fires only if it becomes complete: after an outage
//!   the backlog makes one forecast per issue time, not one per frame.

mod buffer;
mod operator;

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_fields::{Cadence, Frame, IssueTime, KnowledgeTime, TraceParent, ValidTime, Window, time::TICK_MS};

pub use self::buffer::{Fresh, WindowBuffer};
pub use self::operator::window;
use crate::dead_letter::DeadLetter;
use crate::knowledge::PartitionClock;
use crate::ports::PartitionId;
use crate::progress::{Position, Progress, StreamState};
use crate::source::Origin;

/// The shape of a stream's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// Slots in a window.
    pub frames: usize,
    /// From slot to slot.
    pub cadence: Cadence,
    /// How long after its issue time an incomplete window waits, in milliseconds.
    pub patience_ms: i64,
    /// How long after its issue time a window is revised, in milliseconds; at least the patience.
    pub horizon_ms: i64,
}

impl WindowConfig {
    fn after(&self, slot: ValidTime, ms: i64) -> KnowledgeTime {
        // Up to the next tick: a patience is never cut short.
        KnowledgeTime::from_unix_ms(slot.unix_seconds() * 1000 + ms + TICK_MS as i64 - 1)
    }

    /// When an incomplete window fires.
    pub fn due(&self, issue_time: IssueTime) -> KnowledgeTime {
        self.after(issue_time.slot(), self.patience_ms)
    }

    /// How long after its issue time a window may fire, in milliseconds.
    pub fn revised_ms(&self) -> i64 {
        self.horizon_ms.max(self.patience_ms)
    }

    /// The last knowledge time at which a window is revised.
    pub fn last_revision(&self, issue_time: IssueTime) -> KnowledgeTime {
        self.after(issue_time.slot(), self.revised_ms())
    }

    /// How long after its slot a frame is held, in milliseconds: until no window that has it is revised.
    pub fn memory_ms(&self) -> i64 {
        (self.frames as i64 - 1) * self.cadence.step_seconds() * 1000 + self.revised_ms()
    }

    fn oldest_slot(&self, issue_time: IssueTime) -> ValidTime {
        self.cadence.step(issue_time.slot(), 1 - self.frames as i64)
    }

    fn newest_issue_with(&self, slot: ValidTime) -> IssueTime {
        self.cadence.step(slot, self.frames as i64 - 1).into()
    }
}

/// A window that fired.
#[derive(Clone, Debug)]
pub struct Fired {
    /// The context, with its mask.
    pub window: Arc<Window>,
    /// How often it has fired before.
    pub revision: u32,
    /// When the record that made it fire became known, or when its patience ended.
    pub known_at: KnowledgeTime,
    /// The machine's clock in microseconds since 1970 when that record was read, or when the patience had ended and all
    /// records before that were read: what latencies and deadlines count from.
    pub read_at_us: i64,
    /// The trace of that record, if it has one.
    pub trace: Option<TraceParent>,
}

/// For each partition of each topic, which may have been made again, the oldest record whose frame is held: its offset, and
/// the partition's clock before it.
pub type OldestRecords = BTreeMap<(PartitionId, Option<Arc<str>>), (i64, PartitionClock)>;

/// What the operator tells the sink: the state after everything known up to a time.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    /// What a restart must know.
    pub state: StreamState,
    /// The oldest records to read again.
    pub oldest_records: OldestRecords,
}

impl Mark {
    /// What a committed progress rests on.
    pub(crate) fn of(progress: &Progress) -> Self {
        let mut oldest_records = OldestRecords::new();
        for Position { partition, rewind, knowledge, taken, topic_id, .. } in &progress.positions {
            let record = (*rewind, PartitionClock::going_on(*knowledge, *taken));
            note_oldest(&mut oldest_records, (partition.clone(), topic_id.clone()), record);
        }
        Self { state: progress.state.clone(), oldest_records }
    }
}

/// Keeps the older of two records of a partition.
pub(crate) fn note_oldest(
    records: &mut OldestRecords,
    of: (PartitionId, Option<Arc<str>>),
    record: (i64, PartitionClock),
) {
    let known = records.entry(of).or_insert(record);
    if record.0 < known.0 {
        *known = record;
    }
}

/// A frame that passed quality control: what came, whatever windows make of it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The frame.
    pub frame: Arc<Frame>,
    /// Where its record stands.
    pub origin: Origin,
}

/// What comes out of the operator.
#[derive(Clone, Debug)]
pub enum Windowed {
    /// A frame, at the time at which it became known; those of one time in the order of the log.
    Observed(Observed),
    /// A record goes to dead letters.
    Dead(Arc<DeadLetter>),
    /// A window fired.
    Fired(Fired),
    /// The state after this time.
    Mark(Arc<Mark>),
}
