//! Gives each window the wind that steers its rain, from a source of its own.
//!
//! A window takes the newest wind that is valid at or before its issue time, and not longer ago than a wind is good for,
//! of all that was known when the window fired: a function of the log, like the window itself. A wind that comes later
//! revises nothing. Winds are not part of a committed state: a restart reads again those that a window may still take.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_fields::{Frame, IssueTime, KnowledgeTime, ValidTime};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use crate::Tick;
use crate::local::Local;
use crate::order::frontier_of;
use crate::ports::PartitionId;
use crate::progress::Progress;
use crate::stream::StreamContext;
use crate::window::{Fired, Mark, Observed, OldestRecords, Windowed, note_oldest};

/// The pure core: the winds that windows may take.
///
/// ```
/// use squall_fields::IssueTime;
/// use squall_operators::steering::Winds;
/// let winds = Winds::new(6 * 3600, 1_800_000, None);
/// assert!(winds.at(IssueTime::from_unix_seconds(300)).is_none());
/// ```
#[derive(Clone, Debug)]
pub struct Winds {
    /// How long a wind is good for, in seconds.
    max_age: i64,
    /// How long after its issue time a window may fire, in milliseconds.
    horizon_ms: i64,
    winds: BTreeMap<ValidTime, Observed>,
    /// What the windows said last.
    windows: Mark,
}

impl Winds {
    /// Going on from what was committed, but for the winds: those come again.
    pub fn new(max_age: i64, horizon_ms: i64, progress: Option<&Progress>) -> Self {
        let windows = progress.map(Mark::of).unwrap_or_default();
        Self { max_age, horizon_ms, winds: BTreeMap::new(), windows }
    }

    /// Takes a wind that is known now; one of the same slot is replaced.
    pub fn take(&mut self, wind: Observed) {
        self.winds.insert(wind.frame.slot, wind);
    }

    /// The wind for a window.
    pub fn at(&self, issue_time: IssueTime) -> Option<Arc<Frame>> {
        let oldest = ValidTime::from_unix_seconds(issue_time.unix_seconds() - self.max_age);
        let newest = self.winds.range(oldest..=issue_time.slot()).next_back();
        newest.map(|(_, wind)| wind.frame.clone())
    }

    /// Lets go of what no window can take any more.
    pub fn forget(&mut self, now: KnowledgeTime) {
        let open = (now.unix_ms() as i64 - self.horizon_ms).div_euclid(1000) - self.max_age;
        self.winds = self.winds.split_off(&ValidTime::from_unix_seconds(open));
    }

    /// What a restart must know: what the windows say, and where the winds are.
    fn mark(&self) -> Mark {
        let mut oldest_records: OldestRecords = self.windows.oldest_records.clone();
        for Observed { frame, origin } in self.winds.values() {
            let id = PartitionId { topic: frame.input.topic.clone(), partition: frame.input.partition };
            note_oldest(&mut oldest_records, (id, origin.topic_id.clone()), (frame.input.offset, origin.clock));
        }
        Mark { state: self.windows.state.clone(), oldest_records }
    }

    /// What becomes of all that is known at one time.
    fn turn(&mut self, now: KnowledgeTime, Now { winds, windows }: Now) -> Vec<Windowed> {
        let is_new = !winds.is_empty();
        winds.into_iter().for_each(|wind| self.take(wind));
        self.forget(now);
        let mut out = Vec::with_capacity(windows.len() + 1);
        let mut is_marked = false;
        for windowed in windows {
            out.push(match windowed {
                Windowed::Fired(Fired { window, revision, known_at, read_at_us, trace }) => {
                    let mut window = Arc::unwrap_or_clone(window);
                    window.steering = self.at(window.issue_time);
                    Windowed::Fired(Fired { window: window.into(), revision, known_at, read_at_us, trace })
                }
                Windowed::Mark(mark) => {
                    self.windows = Arc::unwrap_or_clone(mark);
                    is_marked = true;
                    Windowed::Mark(self.mark().into())
                }
                other @ (Windowed::Observed(_) | Windowed::Dead(_)) => other,
            });
        }
        if is_new && !is_marked {
            out.push(Windowed::Mark(self.mark().into()));
        }
        out
    }
}

/// What becomes known at one time.
#[derive(Default)]
struct Now {
    winds: Vec<Observed>,
    windows: Vec<Windowed>,
}

/// The timely shell, where the windows are: what comes of them waits until all winds are there that were known then.
pub fn steer<'scope>(
    windows: StreamVec<'scope, Tick, Local<Windowed>>,
    winds: StreamVec<'scope, Tick, Local<Windowed>>,
    mut core: Winds,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Windowed>> {
    windows.binary_frontier(winds, Pipeline, Pipeline, "Steer", move |_capability, _info| {
        let mut waiting: BTreeMap<Tick, (Capability<Tick>, Now)> = BTreeMap::new();
        move |(windows, of_windows), (winds, of_winds), output| {
            windows.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                let (_, now) = waiting.entry(*capability.time()).or_insert_with(|| (capability, Now::default()));
                now.windows.extend(batches.flat_map(|batch| batch.drain(..)).map(|Local(windowed)| windowed));
            });
            winds.for_each_time(|time, batches| {
                let observed = batches.flat_map(|batch| batch.drain(..)).filter_map(|Local(windowed)| match windowed {
                    Windowed::Observed(observed) => Some(observed),
                    Windowed::Dead(_) | Windowed::Fired(_) | Windowed::Mark(_) => None,
                });
                let observed: Vec<_> = observed.collect();
                if !observed.is_empty() {
                    let capability = time.retain(output.output_index());
                    let (_, now) = waiting.entry(*capability.time()).or_insert_with(|| (capability, Now::default()));
                    now.winds.extend(observed);
                }
            });
            if stream.control.is_done() {
                waiting.clear();
                return;
            }
            let frontiers = [frontier_of(of_windows), frontier_of(of_winds)];
            let frontier = frontiers.into_iter().flatten().min();
            stream.frontiers.report("steer", frontier);
            while let Some(first) = waiting.first_entry()
                && frontier.is_none_or(|frontier| *first.key() < frontier)
            {
                let (time, (capability, now)) = first.remove_entry();
                let out = core.turn(KnowledgeTime::at(time), now);
                output.session(&capability).give_iterator(out.into_iter().map(Local));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::Array3;
    use squall_fields::{Axis, Cadence, Grid, InputRef, Variable, Window};

    use super::*;
    use crate::knowledge::PartitionClock;
    use crate::source::Origin;

    const HOUR: i64 = 3600;

    fn wind(slot: i64, offset: i64) -> Observed {
        let axis = |step: f64| Axis { first: 0.0, step, len: 1 };
        let variables = [Variable::XWind, Variable::YWind];
        let frame = Frame {
            grid: Arc::new(Grid { proj: "+proj=utm +zone=35".into(), wkt: None, x: axis(1.0), y: axis(-1.0) }),
            slot: ValidTime::from_unix_seconds(slot),
            variables: variables.into(),
            values: Array3::zeros((2, 1, 1)),
            quality: None,
            input: InputRef { topic: "wind".into(), partition: 0, offset, digest: "".into() },
        };
        Observed { frame: frame.into(), origin: Origin { topic_id: None, clock: PartitionClock::default() } }
    }

    fn fired(issue_time: i64) -> Windowed {
        let cadence = Cadence::every_seconds(300).unwrap();
        let issue_time = IssueTime::from_unix_seconds(issue_time);
        let window = Window { issue_time, cadence, frames: vec![None], steering: None };
        let known_at = KnowledgeTime::at(0);
        Windowed::Fired(Fired { window: window.into(), revision: 0, known_at, read_at_us: 0, trace: None })
    }

    /// The slots of the winds that windows took.
    fn taken(out: &[Windowed]) -> Vec<Option<i64>> {
        let slot = |window: &Window| window.steering.as_ref().map(|wind| wind.slot.unix_seconds());
        let of = |windowed: &Windowed| match windowed {
            Windowed::Fired(fired) => Some(slot(&fired.window)),
            _ => None,
        };
        out.iter().filter_map(of).collect()
    }

    fn at(seconds: i64) -> KnowledgeTime {
        KnowledgeTime::from_unix_ms(seconds * 1000)
    }

    #[test]
    fn a_window_takes_the_newest_wind_up_to_its_issue_time_that_is_not_too_old() {
        let mut winds = Winds::new(2 * HOUR, 1_800_000, None);
        let early = vec![wind(0, 0), wind(HOUR, 1), wind(2 * HOUR, 2)];
        let windows = [HOUR - 300, HOUR, 3 * HOUR, 4 * HOUR, 4 * HOUR + 300].map(fired).to_vec();
        let out = winds.turn(at(HOUR), Now { winds: early, windows });
        assert_eq!(taken(&out), [Some(0), Some(HOUR), Some(2 * HOUR), Some(2 * HOUR), None]);
    }

    #[test]
    fn a_restart_reads_again_what_a_window_may_still_take_and_no_more() {
        let mut winds = Winds::new(2 * HOUR, 1_800_000, None);
        let rewind = |out: &[Windowed]| match out {
            [Windowed::Mark(mark)] => mark.oldest_records.values().map(|(offset, _)| *offset).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        for (offset, hour) in [0, 1, 2, 3].into_iter().enumerate() {
            let now = Now { winds: vec![wind(hour * HOUR, offset as i64)], windows: Vec::new() };
            let kept = rewind(&winds.turn(at(hour * HOUR + 600), now));
            // At 3:10 a window of 2:40 may fire, which takes no wind of before 0:40.
            assert_eq!(kept, if hour < 3 { [0] } else { [1] });
        }
    }

    #[test]
    fn what_the_windows_said_before_stays_said() {
        let partition = (PartitionId::new("radar", 0), None);
        let said = Mark {
            oldest_records: OldestRecords::from([(partition.clone(), (7, PartitionClock::default()))]),
            ..Mark::default()
        };
        let mut winds = Winds::new(HOUR, 0, None);
        let windows = vec![Windowed::Mark(said.into())];
        winds.turn(at(0), Now { winds: Vec::new(), windows });
        let out = winds.turn(at(10), Now { winds: vec![wind(0, 3)], windows: Vec::new() });
        let [Windowed::Mark(mark)] = &out[..] else { panic!("{out:?}") };
        let offsets: Vec<_> =
            mark.oldest_records.iter().map(|(of, (offset, _))| (of.0.topic.to_string(), *offset)).collect();
        assert_eq!(offsets, [("radar".to_owned(), 7), ("wind".to_owned(), 3)]);
    }
}
