//! The timely shell: frames are judged and gathered on one worker, in the order of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_fields::{Frame, KnowledgeTime, TraceParent, time::TICK_MS};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use super::{Fired, Fresh, Mark, Observed, WindowBuffer, WindowConfig, Windowed};
use crate::decode::Decoded;
use crate::local::Local;
use crate::order::{Reorder, frontier_of};
use crate::progress::Progress;
use crate::quality::{Accepted, Checked, Quality, QualityConfig, judge};
use crate::source::Arrived;
use crate::stream::StreamContext;
use crate::{Tick, events};

/// The shell's state: the cores, and permission to speak at the times when something is due.
struct Shell {
    stream: StreamContext,
    quality: Quality,
    windows: WindowBuffer,
    due: BTreeMap<Tick, Capability<Tick>>,
    /// Frames of the time that is being taken, in the order of the log, and permission to speak then.
    fresh: Option<(Capability<Tick>, Vec<Fresh>)>,
    /// Trace of the newest record with a frame.
    trace: Option<TraceParent>,
    now: KnowledgeTime,
    /// Knowledge time of the newest record.
    newest: KnowledgeTime,
    out: Vec<(Capability<Tick>, Windowed)>,
}

impl Shell {
    /// Judges a record and takes its frames, oldest slot first.
    fn take(&mut self, capability: &Capability<Tick>, decoded: Decoded) {
        self.newest = self.newest.max(decoded.arrived.at);
        let mut frames = BTreeMap::new();
        for checked in judge(&mut self.quality, decoded) {
            self.announce(&checked);
            match checked {
                Checked::Dead(letter) => self.out.push((capability.clone(), Windowed::Dead(letter))),
                Checked::Frame(Accepted { frame, arrived, .. }) => drop(frames.insert(frame.slot, (frame, arrived))),
            }
        }
        for (frame, arrived) in frames.into_values() {
            self.take_frame(capability, frame, &arrived);
        }
    }

    fn announce(&self, checked: &Checked) {
        match checked {
            Checked::Frame(Accepted { frame, arrived, correction }) if !arrived.refill => {
                let (stream, slot, correction) = (&*self.stream.name, frame.slot, *correction);
                events::FrameAccepted { stream, slot, correction }.emit();
            }
            Checked::Frame(_) => {}
            Checked::Dead(letter) => events::RecordRejected { source: self.quality.source(), letter }.emit(),
        }
    }

    fn take_frame(&mut self, capability: &Capability<Tick>, frame: Arc<Frame>, arrived: &Arrived) {
        if arrived.refill {
            self.windows.refill(frame, arrived.origin.clone(), arrived.at);
            return;
        }
        if self.fresh.as_ref().is_some_and(|(of, _)| of.time() != capability.time()) {
            self.finish_time();
        }
        let (observed, origin) = (frame.clone(), arrived.origin.clone());
        self.out.push((capability.clone(), Windowed::Observed(Observed { frame: observed, origin })));
        // In the order of the log: the last one completes what it completes.
        self.trace = arrived.trace();
        let (_, frames) = self.fresh.get_or_insert_with(|| (capability.clone(), Vec::new()));
        frames.push(Fresh { frame, origin: arrived.origin.clone(), read_at_us: arrived.read_at_us });
    }

    /// All that is known at one time is there: the windows take it.
    fn finish_time(&mut self) {
        let Some((capability, frames)) = self.fresh.take() else { return };
        let known_at = KnowledgeTime::at(*capability.time());
        self.advance(known_at);
        let (fired, late) = self.windows.push(known_at, frames);
        for slot in late {
            events::FrameTooLate { stream: &self.stream.name, slot, known_at }.emit();
        }
        for fired in fired {
            self.emit(capability.clone(), Fired { trace: self.trace, ..fired });
        }
        self.keep(Some(&capability));
        self.mark(capability);
    }

    /// Moves time to just before `to`, firing what is due on the way.
    fn advance(&mut self, to: KnowledgeTime) {
        if to <= self.now {
            return;
        }
        self.now = to;
        // One due time after the other, each with its own mark: a commit may fall between two of them.
        while let Some(due) = self.windows.dues().filter(|due| *due < to).min() {
            let fired = self.windows.advance(KnowledgeTime::from_unix_ms((due.unix_ms() + TICK_MS) as i64));
            let Some(capability) = self.due.remove(&due.unix_ms()) else { continue };
            for fired in fired {
                self.emit(capability.clone(), fired);
            }
            self.mark(capability);
        }
        self.windows.advance(to);
        self.keep(None);
    }

    fn emit(&mut self, capability: Capability<Tick>, fired: Fired) {
        let Fired { window, revision, .. } = &fired;
        let (issue_time, missing) = (window.issue_time, window.missing().len());
        events::WindowFired { stream: &self.stream.name, issue_time, revision: *revision, missing }.emit();
        self.out.push((capability, Windowed::Fired(fired)));
    }

    fn mark(&mut self, capability: Capability<Tick>) {
        let mark = Mark { state: self.windows.state(), oldest_records: self.windows.oldest_records() };
        self.out.push((capability, Windowed::Mark(mark.into())));
    }

    /// Keeps a capability for each time at which something is due, and no other.
    fn keep(&mut self, fresh: Option<&Capability<Tick>>) {
        let mut due = BTreeMap::new();
        for time in self.windows.dues().map(KnowledgeTime::unix_ms) {
            let kept = self.due.remove(&time);
            if let Some(capability) = kept.or_else(|| fresh.map(|c| c.delayed(&time.max(*c.time())))) {
                due.insert(time, capability);
            }
        }
        self.due = due;
    }

    /// Takes what the frontier has passed, and lets time follow it.
    fn turn(&mut self, frontier: Option<Tick>, waiting: &mut Reorder<(Capability<Tick>, Decoded)>) {
        while let Some((_, (capability, decoded))) = waiting.pop_before(frontier) {
            self.take(&capability, decoded);
        }
        self.finish_time();
        // With nothing left to come, time ends with the log; a stream that was stopped ends nowhere.
        let to = frontier.map_or_else(|| self.stream.end_after(self.newest), KnowledgeTime::at);
        self.advance(to);
        if frontier.is_none() {
            self.due.clear();
        }
    }
}

/// Judges and gathers the frames of a stream, all of them on its home worker. What was committed before, `progress`,
/// is given on that worker alone: elsewhere it would fire without its frames.
pub fn window<'scope>(
    decoded: StreamVec<'scope, Tick, Decoded>,
    accepts: QualityConfig,
    config: WindowConfig,
    stream: StreamContext,
    progress: Option<&Progress>,
) -> StreamVec<'scope, Tick, Local<Windowed>> {
    // Without a progress, time begins at 1970.
    let recovered = progress.map(|p| p.frontier).unwrap_or_default();
    let windows = progress.map_or_else(|| WindowBuffer::new(config), |p| WindowBuffer::restore(config, p));
    let quality = Quality::new(accepts);
    let home = stream.home as u64;
    let together = Exchange::new(move |_: &Decoded| home);
    decoded.unary_frontier(together, "Window", move |root, _info| {
        let (due, out) = (BTreeMap::new(), Vec::new());
        let newest = KnowledgeTime::default();
        let mut shell = Shell { stream, quality, windows, due, fresh: None, trace: None, now: recovered, newest, out };
        shell.keep(Some(&root));
        drop(root);
        let mut waiting = Reorder::default();
        move |(input, frontier), output| {
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for decoded in batches.flat_map(|batch| batch.drain(..)) {
                    waiting.push(*capability.time(), decoded.place(), (capability.clone(), decoded));
                }
            });
            if shell.stream.control.is_done() {
                waiting.clear();
                shell.due.clear();
                shell.fresh = None;
                return;
            }
            let frontier = frontier_of(frontier);
            shell.stream.frontiers.report("window", frontier);
            shell.turn(frontier, &mut waiting);
            for (capability, windowed) in shell.out.drain(..) {
                output.session(&capability).give(Local(windowed));
            }
        }
    })
}
