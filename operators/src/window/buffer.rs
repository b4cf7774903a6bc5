//! The pure core: which windows a frame completes or revises, and which are due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use squall_fields::{Frame, Grid, IssueTime, KnowledgeTime, ValidTime, Window};

use super::{Fired, OldestRecords, WindowConfig, note_oldest};
use crate::ports::PartitionId;
use crate::progress::{Issued, Progress, StreamState};
use crate::source::Origin;
use crate::source::reader::now_us;

#[derive(Clone, Debug)]
struct Held {
    frame: Arc<Frame>,
    known_at: KnowledgeTime,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    next_revision: u32,
    /// Its patience has ended without a forecast: time alone fires it no more.
    quiet: bool,
}

/// A frame that is known now.
#[derive(Clone, Debug)]
pub struct Fresh {
    /// The frame.
    pub frame: Arc<Frame>,
    /// Where its record stands.
    pub origin: Origin,
    /// The machine's clock in microseconds since 1970 when its record was read, for latencies alone.
    pub read_at_us: i64,
}

/// The pure core: frames in the order of the log go in, windows come out.
///
/// ```
/// use squall_fields::{Cadence, KnowledgeTime};
/// use squall_operators::window::{WindowBuffer, WindowConfig};
/// let cadence = Cadence::every_seconds(300).unwrap();
/// let config = WindowConfig { frames: 4, cadence, patience_ms: 180_000, horizon_ms: 1_800_000 };
/// let mut windows = WindowBuffer::new(config);
/// assert!(windows.advance(KnowledgeTime::from_unix_ms(1_000_000)).is_empty()); // nothing known, nothing fires
/// ```
#[derive(Clone, Debug)]
pub struct WindowBuffer {
    config: WindowConfig,
    grid: Option<Arc<Grid>>,
    first_slot: Option<ValidTime>,
    frames: BTreeMap<ValidTime, Held>,
    windows: BTreeMap<IssueTime, Open>,
    /// The machine's clock in microseconds since 1970 when the newest record was read, at first when this was made.
    newest_read_us: i64,
}

impl WindowBuffer {
    /// Without history.
    pub fn new(config: WindowConfig) -> Self {
        let (frames, windows) = (BTreeMap::new(), BTreeMap::new());
        Self { config, grid: None, first_slot: None, frames, windows, newest_read_us: now_us() }
    }

    /// As it was at a committed frontier, but for the frames: those come again through [`WindowBuffer::refill`].
    pub fn restore(config: WindowConfig, progress: &Progress) -> Self {
        let state = &progress.state;
        let windows = state.windows.iter().map(|Issued { issue_time, next_revision }| {
            let quiet = *next_revision == 0 && config.due(*issue_time) < progress.frontier;
            (*issue_time, Open { next_revision: *next_revision, quiet })
        });
        let grid = state.grid.clone().map(Arc::new);
        let windows = windows.collect();
        Self { grid, first_slot: state.first_slot, windows, ..Self::new(config) }
    }

    /// Takes a frame that the committed state rests on; nothing fires.
    pub fn refill(&mut self, frame: Arc<Frame>, origin: Origin, known_at: KnowledgeTime) {
        self.frames.insert(frame.slot, Held { frame, known_at, origin });
    }

    /// Takes all frames that become known at one time, in the order of the log, and says which windows fire then: each
    /// at most once, whatever came in which order.
    ///
    /// Comes after [`WindowBuffer::advance`] to that time. A frame that came after every horizon is not used; its slot
    /// is in the second list.
    pub fn push(&mut self, known_at: KnowledgeTime, frames: Vec<Fresh>) -> (Vec<Fired>, Vec<ValidTime>) {
        let config = self.config;
        let over = |slot: ValidTime| known_at > config.last_revision(config.newest_issue_with(slot));
        let (late, frames): (Vec<_>, Vec<_>) = frames.into_iter().partition(|fresh| over(fresh.frame.slot));
        // Issue times of the windows that have news.
        let mut touched = BTreeSet::new();
        for Fresh { frame, origin, read_at_us } in frames {
            let slot = frame.slot;
            self.newest_read_us = self.newest_read_us.max(read_at_us);
            self.grid.get_or_insert_with(|| frame.grid.clone());
            self.first_slot = Some(self.first_slot.map_or(slot, |first| first.min(slot)));
            self.frames.insert(slot, Held { frame, known_at, origin });
            for step in 0..config.frames as i64 {
                let issue_time = IssueTime::from(config.cadence.step(slot, step));
                if known_at <= config.last_revision(issue_time) {
                    touched.insert(issue_time);
                }
            }
        }
        let mut fired = Vec::new();
        for issue_time in touched {
            let is_over = known_at > config.due(issue_time);
            let open = *self.windows.entry(issue_time).or_insert(Open { next_revision: 0, quiet: is_over });
            let window = self.window(issue_time);
            // What waits for its patience waits on; what has waited in vain may fire now.
            let fires = open.next_revision > 0 || window.is_complete() || (is_over && self.was_expected(&window));
            if fires && self.is_eligible(&window) {
                // A frame that was known earlier may have been read later, from another partition.
                fired.push(self.fire(window, known_at, self.newest_read_us));
            }
        }
        (fired, late.into_iter().map(|fresh| fresh.frame.slot).collect())
    }

    /// Time passes everything before `to`: fires what was due and forgets what is over.
    pub fn advance(&mut self, to: KnowledgeTime) -> Vec<Fired> {
        let config = self.config;
        let due = |issue: &IssueTime, open: &Open| !open.quiet && open.next_revision == 0 && config.due(*issue) < to;
        let due: Vec<_> = self.windows.iter().filter(|(i, o)| due(i, o)).map(|(i, _)| *i).collect();
        let mut fired = Vec::new();
        for issue_time in due {
            let window = self.window(issue_time);
            if self.is_eligible(&window) {
                let due = config.due(issue_time);
                // When its patience ended, or, of a backlog, when that became known here.
                let known_us = ((due.unix_ms() as i64).saturating_mul(1000)).max(self.newest_read_us).min(now_us());
                fired.push(self.fire(window, due, known_us));
            } else if let Some(open) = self.windows.get_mut(&issue_time) {
                open.quiet = true;
            }
        }
        self.windows.retain(|issue_time, _| config.last_revision(*issue_time) >= to);
        self.frames.retain(|slot, _| config.last_revision(config.newest_issue_with(*slot)) >= to);
        fired
    }

    /// When incomplete windows will fire.
    pub fn dues(&self) -> impl Iterator<Item = KnowledgeTime> + '_ {
        let waiting = self.windows.iter().filter(|(_, open)| !open.quiet && open.next_revision == 0);
        waiting.map(|(issue_time, _)| self.config.due(*issue_time))
    }

    /// What a restart must know besides the frames.
    pub fn state(&self) -> StreamState {
        let issued = |(issue_time, open): (&IssueTime, &Open)| Issued {
            issue_time: *issue_time,
            next_revision: open.next_revision,
        };
        StreamState {
            grid: self.grid.as_deref().cloned(),
            first_slot: self.first_slot,
            windows: self.windows.iter().map(issued).collect(),
        }
    }

    /// The oldest records whose frames are held.
    pub fn oldest_records(&self) -> OldestRecords {
        let mut oldest = OldestRecords::new();
        for Held { frame, origin, .. } in self.frames.values() {
            let id = PartitionId { topic: frame.input.topic.clone(), partition: frame.input.partition };
            note_oldest(&mut oldest, (id, origin.topic_id.clone()), (frame.input.offset, origin.clock));
        }
        oldest
    }

    /// The window of an issue time, from the frames that are held.
    pub fn window(&self, issue_time: IssueTime) -> Window {
        let WindowConfig { frames, cadence, .. } = self.config;
        let slots = (0..frames as i64).map(|i| cadence.step(self.config.oldest_slot(issue_time), i));
        let frames = slots.map(|slot| self.frames.get(&slot).map(|held| held.frame.clone())).collect();
        Window { issue_time, cadence, frames, steering: None }
    }

    /// Whether a window may fire at all: it has the frame of its issue time, which would otherwise not be the slot of the
    /// newest frame used, and does not reach back before the stream's first slot.
    fn is_eligible(&self, window: &Window) -> bool {
        let reaches = self.first_slot.is_some_and(|first| self.config.oldest_slot(window.issue_time) >= first);
        reaches && window.frames.last().is_some_and(Option::is_some)
    }

    /// Whether any frame of a window was known by the end of its patience: then it fires as soon as it may, and not only
    /// once it is complete.
    fn was_expected(&self, window: &Window) -> bool {
        let due = self.config.due(window.issue_time);
        let slots = window.frames.iter().flatten().map(|frame| frame.slot);
        slots.filter_map(|slot| self.frames.get(&slot)).any(|held| held.known_at <= due)
    }

    fn fire(&mut self, window: Window, known_at: KnowledgeTime, read_at_us: i64) -> Fired {
        let open = self.windows.entry(window.issue_time).or_default();
        let revision = open.next_revision;
        open.next_revision += 1;
        Fired { window: window.into(), revision, known_at, read_at_us, trace: None }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
