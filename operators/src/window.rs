//! Gathers the last T frames of a stream into the context of a forecast, and decides when it is time.
//!
//! A window fires as soon as it is complete, at the knowledge time of the record that completed it. An incomplete
//! one fires when time passes its slot plus a *patience*, with the mask of what is missing. A frame that comes later
//! (or replaces another) within the *horizon* makes a revision; after that it only serves verification. Nothing
//! waits for the next frame. All of this is a function of the log:
//!
//! - frames are taken in the order of the log, once no earlier one can come any more;
//! - a window that reaches back before the stream's first slot never fires, where *first* is the oldest slot seen so
//!   far, so that frames out of order within the patience give the same forecasts as in order;
//! - a window of which nothing was known when its patience ended fires only if it becomes complete: after an outage
//!   the backlog makes one forecast per issue time, not one per frame.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_fields::{Cadence, Frame, Grid, IssueTime, KnowledgeTime, ValidTime, Window, time::TICK_MS};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use crate::control::Control;
use crate::local::Local;
use crate::order::{Reorder, frontier_of};
use crate::ports::PartitionId;
use crate::progress::{Issued, Progress, StreamState};
use crate::quality::{Accepted, Checked};
use crate::source::reader::now_us;
use crate::{Tick, events};

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

    /// The last knowledge time at which a window is revised.
    pub fn last_revision(&self, issue_time: IssueTime) -> KnowledgeTime {
        self.after(issue_time.slot(), self.horizon_ms.max(self.patience_ms))
    }

    /// How long after its slot a frame is held, in milliseconds: until no window that has it is revised.
    pub fn memory_ms(&self) -> i64 {
        (self.frames as i64 - 1) * self.cadence.step_seconds() * 1000 + self.horizon_ms.max(self.patience_ms)
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
    /// The machine's clock in microseconds since 1970 when that record was read, for latencies alone.
    pub read_at_us: i64,
}

#[derive(Clone, Debug)]
struct Held {
    frame: Arc<Frame>,
    known_at: KnowledgeTime,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    next_revision: u32,
    /// Its patience has ended without a forecast: only completeness fires it.
    quiet: bool,
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
}

impl WindowBuffer {
    /// Without history.
    pub fn new(config: WindowConfig) -> Self {
        Self { config, grid: None, first_slot: None, frames: BTreeMap::new(), windows: BTreeMap::new() }
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
        Self { config, grid, first_slot: state.first_slot, frames: BTreeMap::new(), windows }
    }

    /// Takes a frame that the committed state rests on; nothing fires.
    pub fn refill(&mut self, frame: Arc<Frame>, known_at: KnowledgeTime) {
        self.frames.insert(frame.slot, Held { frame, known_at });
    }

    /// Takes a frame and says which windows fire at its knowledge time; `None` if it came after every horizon.
    ///
    /// Frames come in the order of the log, each after [`WindowBuffer::advance`] to its knowledge time.
    pub fn push(&mut self, frame: Arc<Frame>, known_at: KnowledgeTime, read_at_us: i64) -> Option<Vec<Fired>> {
        let config = self.config;
        let slot = frame.slot;
        if known_at > config.last_revision(config.newest_issue_with(slot)) {
            return None;
        }
        self.grid.get_or_insert_with(|| frame.grid.clone());
        self.first_slot = Some(self.first_slot.map_or(slot, |first| first.min(slot)));
        self.frames.insert(slot, Held { frame, known_at });
        let mut fired = Vec::new();
        for step in 0..config.frames as i64 {
            let issue_time = IssueTime::from(config.cadence.step(slot, step));
            if known_at > config.last_revision(issue_time) {
                continue;
            }
            let open = Open { next_revision: 0, quiet: known_at > config.due(issue_time) };
            let open = *self.windows.entry(issue_time).or_insert(open);
            let window = self.window(issue_time);
            if self.is_eligible(issue_time) && (open.next_revision > 0 || window.is_complete()) {
                fired.push(self.fire(window, known_at, read_at_us));
            }
        }
        Some(fired)
    }

    /// Time passes everything before `to`: fires what was due and forgets what is over.
    pub fn advance(&mut self, to: KnowledgeTime) -> Vec<Fired> {
        let config = self.config;
        let due = |issue: &IssueTime, open: &Open| !open.quiet && open.next_revision == 0 && config.due(*issue) < to;
        let due: Vec<_> = self.windows.iter().filter(|(i, o)| due(i, o)).map(|(i, _)| *i).collect();
        let mut fired = Vec::new();
        for issue_time in due {
            if self.is_eligible(issue_time) {
                fired.push(self.fire(self.window(issue_time), config.due(issue_time), now_us()));
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

    /// For each partition, the oldest record whose frame is held, and when it became known.
    pub fn oldest_records(&self) -> BTreeMap<PartitionId, (i64, KnowledgeTime)> {
        let mut oldest = BTreeMap::new();
        for Held { frame, known_at } in self.frames.values() {
            let id = PartitionId { topic: frame.input.topic.clone(), partition: frame.input.partition };
            let record = (frame.input.offset, *known_at);
            oldest.entry(id).and_modify(|o: &mut (i64, KnowledgeTime)| *o = (*o).min(record)).or_insert(record);
        }
        oldest
    }

    /// The window of an issue time, from the frames that are held.
    pub fn window(&self, issue_time: IssueTime) -> Window {
        let WindowConfig { frames, cadence, .. } = self.config;
        let slots = (0..frames as i64).map(|i| cadence.step(self.config.oldest_slot(issue_time), i));
        let frames = slots.map(|slot| self.frames.get(&slot).map(|held| held.frame.clone())).collect();
        Window { issue_time, cadence, frames }
    }

    fn is_eligible(&self, issue_time: IssueTime) -> bool {
        self.first_slot.is_some_and(|first| self.config.oldest_slot(issue_time) >= first)
    }

    fn fire(&mut self, window: Window, known_at: KnowledgeTime, read_at_us: i64) -> Fired {
        let open = self.windows.entry(window.issue_time).or_default();
        let revision = open.next_revision;
        open.next_revision += 1;
        Fired { window: window.into(), revision, known_at, read_at_us }
    }
}

/// What the operator tells the sink: the state after everything known up to a time.
#[derive(Clone, Debug)]
pub struct Mark {
    /// What a restart must know.
    pub state: StreamState,
    /// For each partition, the oldest record to read again.
    pub oldest_records: BTreeMap<PartitionId, (i64, KnowledgeTime)>,
}

/// What comes out of the operator.
#[derive(Clone, Debug)]
pub enum Windowed {
    /// A window fired.
    Fired(Fired),
    /// The state after this time.
    Mark(Arc<Mark>),
}

/// The shell's state: the core, and permission to speak at the times when something is due.
struct Shell {
    core: WindowBuffer,
    stream: Arc<str>,
    due: BTreeMap<Tick, Capability<Tick>>,
    now: KnowledgeTime,
    out: Vec<(Capability<Tick>, Windowed)>,
}

impl Shell {
    /// Moves time to just before `to`, firing what is due on the way.
    fn advance(&mut self, to: KnowledgeTime) {
        if to <= self.now {
            return;
        }
        self.now = to;
        // One due time after the other, each with its own mark: a commit may fall between two of them.
        while let Some(due) = self.core.dues().filter(|due| *due < to).min() {
            let fired = self.core.advance(KnowledgeTime::from_unix_ms((due.unix_ms() + TICK_MS) as i64));
            let Some(capability) = self.due.remove(&due.unix_ms()) else { continue };
            for fired in fired {
                self.emit(capability.clone(), fired);
            }
            self.mark(capability);
        }
        self.core.advance(to);
        self.keep(None);
    }

    fn take(&mut self, capability: Capability<Tick>, accepted: Accepted) {
        let Accepted { frame, arrived, .. } = accepted;
        if arrived.refill {
            self.core.refill(frame, arrived.at);
            return;
        }
        self.advance(arrived.at);
        let slot = frame.slot;
        let Some(fired) = self.core.push(frame, arrived.at, arrived.read_at_us) else {
            events::FrameTooLate { stream: &self.stream, slot, known_at: arrived.at }.emit();
            return;
        };
        for fired in fired {
            self.emit(capability.clone(), fired);
        }
        self.keep(Some(&capability));
        self.mark(capability);
    }

    fn emit(&mut self, capability: Capability<Tick>, fired: Fired) {
        let Fired { window, revision, .. } = &fired;
        let (issue_time, missing) = (window.issue_time, window.missing().len());
        events::WindowFired { stream: &self.stream, issue_time, revision: *revision, missing }.emit();
        self.out.push((capability, Windowed::Fired(fired)));
    }

    fn mark(&mut self, capability: Capability<Tick>) {
        let mark = Mark { state: self.core.state(), oldest_records: self.core.oldest_records() };
        self.out.push((capability, Windowed::Mark(mark.into())));
    }

    /// Keeps a capability for each time at which something is due, and no other.
    fn keep(&mut self, fresh: Option<&Capability<Tick>>) {
        let mut due = BTreeMap::new();
        for time in self.core.dues().map(KnowledgeTime::unix_ms) {
            let kept = self.due.remove(&time);
            if let Some(capability) = kept.or_else(|| fresh.map(|c| c.delayed(&time.max(*c.time())))) {
                due.insert(time, capability);
            }
        }
        self.due = due;
    }
}

/// Gathers the frames of a stream. All of them are on one worker, [`crate::quality::quality`] saw to that; what was
/// committed before, `progress`, is given on that worker alone.
pub fn window<'scope>(
    checked: StreamVec<'scope, Tick, Local<Checked>>,
    config: WindowConfig,
    stream: Arc<str>,
    progress: Option<&Progress>,
    control: Arc<Control>,
) -> StreamVec<'scope, Tick, Local<Windowed>> {
    let recovered = progress.map(|p| p.frontier).unwrap_or_default();
    let core = progress.map_or_else(|| WindowBuffer::new(config), |p| WindowBuffer::restore(config, p));
    checked.unary_frontier(Pipeline, "Window", move |root, _info| {
        let mut shell = Shell { core, stream, due: BTreeMap::new(), now: recovered, out: Vec::new() };
        shell.keep(Some(&root));
        drop(root);
        let mut waiting = Reorder::default();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(checked) in batches.flat_map(|batch| batch.drain(..)) {
                    let Checked::Frame(accepted) = checked else { continue };
                    let record = &accepted.arrived.record;
                    // A record may hold several frames; their slots tell them apart.
                    let place = (accepted.arrived.at, record.partition.clone(), record.offset);
                    let slot = accepted.frame.slot;
                    waiting.push(*capability.time(), (place, slot), (capability.clone(), accepted));
                }
            });
            if control.is_done() {
                waiting.clear();
                shell.due.clear();
                return;
            }
            let frontier = frontier_of(frontier);
            control.report("window", frontier);
            while let Some((_, (capability, accepted))) = waiting.pop_before(frontier) {
                shell.take(capability, accepted);
            }
            // With nothing left to come, time ends where the log ended; a stream that was stopped ends nowhere.
            let to = frontier.unwrap_or_else(|| control.end().unix_ms().saturating_add(TICK_MS));
            shell.advance(KnowledgeTime::from_unix_ms(to as i64));
            if frontier.is_none() {
                shell.due.clear();
            }
            for (capability, windowed) in shell.out.drain(..) {
                output.session(&capability).give(Local(windowed));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;
    use proptest::prelude::*;
    use squall_fields::{Axis, InputRef, Variable};

    const STEP: i64 = 300;

    fn config() -> WindowConfig {
        let cadence = Cadence::every_seconds(STEP as u32).unwrap();
        WindowConfig { frames: 4, cadence, patience_ms: 180_000, horizon_ms: 1_800_000 }
    }

    fn at(seconds: i64) -> KnowledgeTime {
        KnowledgeTime::from_unix_ms(seconds * 1000)
    }

    fn frame(slot: i64, offset: i64) -> Arc<Frame> {
        let axis = |step: f64| Axis { first: 0.0, step, len: 1 };
        Arc::new(Frame {
            grid: Grid { proj: "+proj=utm".into(), wkt: None, x: axis(1.0), y: axis(-1.0) }.into(),
            slot: ValidTime::from_unix_seconds(slot * STEP),
            variables: vec![Variable::RainRate].into(),
            values: Array3::zeros((1, 1, 1)),
            quality: None,
            input: InputRef { topic: "obs".into(), partition: 0, offset, digest: "".into() },
        })
    }

    /// What fired: issue slot, revision, mask, known at (s).
    type Line = (i64, u32, Vec<bool>, i64);

    fn lines(fired: Vec<Fired>) -> Vec<Line> {
        let line = |f: Fired| {
            let slot = f.window.issue_time.unix_seconds() / STEP;
            (slot, f.revision, f.window.mask(), (f.known_at.unix_ms() / 1000) as i64)
        };
        fired.into_iter().map(line).collect()
    }

    /// Runs a log of (slot, known at) to its end and a little further.
    fn run(log: &[(i64, i64)], end: i64) -> Vec<Line> {
        let mut windows = WindowBuffer::new(config());
        let mut out = Vec::new();
        for (offset, (slot, known)) in log.iter().enumerate() {
            out.extend(lines(windows.advance(at(*known))));
            out.extend(lines(windows.push(frame(*slot, offset as i64), at(*known), 0).unwrap_or_default()));
        }
        out.extend(lines(windows.advance(at(end))));
        out
    }

    #[test]
    fn fires_when_complete_and_never_before_the_first_slot() {
        let log: Vec<_> = (10..16).map(|s| (s, s * STEP + 20)).collect();
        let fired = run(&log, 15 * STEP + 21);
        let expected: Vec<Line> = (13..16).map(|s| (s, 0, vec![true; 4], s * STEP + 20)).collect();
        assert_eq!(fired, expected);
    }

    #[test]
    fn an_incomplete_window_fires_after_its_patience_and_is_revised() {
        let mut log: Vec<_> = (10..18).filter(|s| *s != 14).map(|s| (s, s * STEP + 20)).collect();
        log.push((14, 18 * STEP)); // late, within the horizon
        log.sort_by_key(|(_, known)| *known);
        let fired = run(&log, 18 * STEP + 100);
        let with = |missing: usize| (0..4).map(|i| i != missing).collect::<Vec<_>>();
        let due = |s: i64| s * STEP + 180;
        assert_eq!(
            fired,
            [
                (13, 0, vec![true; 4], 13 * STEP + 20),
                (14, 0, with(3), due(14)),
                (15, 0, with(2), due(15)),
                (16, 0, with(1), due(16)),
                (17, 0, with(0), due(17)),
                (14, 1, vec![true; 4], 18 * STEP),
                (15, 1, vec![true; 4], 18 * STEP),
                (16, 1, vec![true; 4], 18 * STEP),
                (17, 1, vec![true; 4], 18 * STEP),
            ]
        );
    }

    #[test]
    fn after_the_horizon_nothing_is_revised() {
        let mut windows = WindowBuffer::new(config());
        for s in 10..14 {
            windows.push(frame(s, s), at(s * STEP + 1), 0);
        }
        let late = at(13 * STEP + 1801);
        windows.advance(late);
        let fired = lines(windows.push(frame(13, 99), late, 0).unwrap());
        assert_eq!(
            fired.iter().map(|l| l.0).collect::<Vec<_>>(),
            [14, 15, 16],
            "later windows are revised, 13 is over"
        );
        assert!(windows.push(frame(9, 99), late, 0).is_none(), "no window may use it");
    }

    #[test]
    fn a_backlog_makes_one_forecast_per_issue_time() {
        let mut log: Vec<_> = (10..14).map(|s| (s, s * STEP + 20)).collect();
        log.extend((20..26).map(|s| (s, 25 * STEP + 20))); // an outage, then all at once
        let fired = run(&log, 25 * STEP + 100);
        let outage: Vec<_> = fired.iter().filter(|l| (17..20).contains(&l.0)).collect();
        assert!(outage.is_empty(), "nothing was known of these: {outage:?}");
        let backlog: Vec<_> = fired.iter().filter(|l| l.0 >= 20).map(|l| (l.0, l.1)).collect();
        assert_eq!(backlog, [(23, 0), (24, 0), (25, 0)]);
    }

    proptest! {
        /// Out of order within the patience gives the same windows as in order.
        #[test]
        fn order_within_the_patience_does_not_matter(delays in prop::collection::vec(0i64..170, 4..20)) {
            let slots: Vec<i64> = (10..10 + delays.len() as i64).collect();
            let in_order: Vec<_> = slots.iter().map(|s| (*s, s * STEP)).collect();
            // Delays of up to 170 s on 60 s slots would reorder; on 300 s slots spread them over two slots.
            let mut shuffled: Vec<_> = slots.iter().zip(&delays).map(|(s, d)| (*s, s * STEP + d)).collect();
            shuffled.sort_by_key(|(slot, known)| (*known, -slot));
            let end = (10 + delays.len() as i64) * STEP - 1;
            let key = |lines: Vec<Line>| lines.into_iter().map(|(s, r, m, _)| (s, r, m)).collect::<Vec<_>>();
            prop_assert_eq!(key(run(&in_order, end)), key(run(&shuffled, end)));
        }

        /// A restart at any frontier fires exactly what the run without it fires from there on.
        #[test]
        fn a_restart_fires_the_rest(
            known in prop::collection::vec((10i64..22, 0i64..2400), 1..25), cut in 0i64..7000,
        ) {
            let mut log: Vec<_> = known.iter().map(|(s, delay)| (*s, s * STEP + delay)).collect();
            log.sort_by_key(|(slot, known)| (*known, *slot));
            let (frontier, end) = (10 * STEP + cut, 50 * STEP);
            let whole: Vec<_> = run(&log, end).into_iter().filter(|l| l.3 >= frontier).collect();
            // Run up to the frontier and take what a progress record holds ...
            let mut before = WindowBuffer::new(config());
            let next = log.iter().position(|(_, k)| *k >= frontier).unwrap_or(log.len());
            for (offset, (slot, known)) in log[..next].iter().enumerate() {
                before.advance(at(*known));
                before.push(frame(*slot, offset as i64), at(*known), 0);
            }
            before.advance(at(frontier));
            let progress = Progress { frontier: at(frontier), state: before.state(), ..Default::default() };
            let oldest = before.oldest_records();
            let rewind = oldest.values().map(|(offset, _)| *offset as usize).min().unwrap_or(next);
            // ... and go on from it, reading again from the rewind offset.
            let mut after = WindowBuffer::restore(config(), &progress);
            for (offset, (slot, known)) in log.iter().enumerate().take(next).skip(rewind) {
                after.refill(frame(*slot, offset as i64), at(*known));
            }
            let mut out = Vec::new();
            out.extend(lines(after.advance(at(frontier))));
            for (offset, (slot, known)) in log.iter().enumerate().skip(next) {
                out.extend(lines(after.advance(at(*known))));
                out.extend(lines(after.push(frame(*slot, offset as i64), at(*known), 0).unwrap_or_default()));
            }
            out.extend(lines(after.advance(at(end))));
            prop_assert_eq!(out, whole);
        }

        /// Memory is bounded by the window and the horizon, whatever comes.
        #[test]
        fn state_is_bounded(slots in prop::collection::vec(0i64..500, 1..100)) {
            let mut windows = WindowBuffer::new(config());
            for slot in slots.iter().scan(0, |now, s| { *now += s % 3; Some(*now) }) {
                windows.advance(at(slot * STEP));
                windows.push(frame(slot, 0), at(slot * STEP), 0);
                prop_assert!(windows.frames.len() <= 11 && windows.windows.len() <= 11);
            }
        }
    }
}
