//! The windows of a stream and the devices that forecast them: one order for each whose forecast is under way.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use squall_fields::{Chain, Degradation, IssueTime};
use timely::dataflow::operators::Capability;

use super::device::{Ask, Device};
use super::ladder::{Foresight, Full, StandIn, Step, choose};
use super::permits::{Inferred, Made, Permit, Permits};
use super::{Answer, InferConfig, Live, Resumed, Rules, assemble, request_for};
use crate::decisions::Recorded;
use crate::offload::{Desk, Lost, Refused};
use crate::progress::Decision;
use crate::source::reader::now_us;
use crate::stream::StreamContext;
use crate::window::Fired;
use crate::{Tick, events};

/// How soon a full device is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// A window without an order yet.
struct Waiting {
    capability: Capability<Tick>,
    fired: Fired,
    /// When the last frame that it needs arrived, or its patience ended.
    arrived: Instant,
}

/// A forecast under way.
struct Order {
    capability: Capability<Tick>,
    fired: Fired,
    permit: Permit,
    /// When the last resort is asked.
    due: Option<Instant>,
    /// What was asked for, and whether the clock chose it before the work began.
    step: Step,
    foreseen: bool,
    /// Number of the request at each desk, while it has no answer.
    device: Option<u64>,
    stand_in: Option<(StandIn, u64)>,
    /// What the device said, if it gave no forecast.
    failed: Option<Answer>,
}

impl Order {
    fn is_under_way(&self) -> bool {
        self.device.is_some() || self.stand_in.is_some()
    }
}

/// A device, and where this stream's requests to it are kept.
pub(super) struct AtWork {
    pub(super) device: Device,
    pub(super) desk: Desk<Ask, Answer, u64>,
}

impl AtWork {
    /// Hands a request over; `None` if the device takes nothing more.
    fn submit(&mut self, request: squall_models::Request, number: u64) -> Result<Option<u64>, Lost> {
        match self.desk.try_submit(self.device.ask(request), number) {
            Ok(id) => Ok(Some(id)),
            Err(Refused::Full(..)) => Ok(None),
            Err(Refused::Dead(lost)) => Err(lost),
        }
    }
}

/// Who answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Device,
    StandIn(StandIn),
}

pub(super) struct Orders {
    config: InferConfig,
    stream: StreamContext,
    device: AtWork,
    /// The models that answer where there is no time; the first is the last resort when a deadline passes.
    stand_ins: BTreeMap<StandIn, AtWork>,
    permits: Permits,
    waiting: VecDeque<Waiting>,
    orders: BTreeMap<u64, Order>,
    next: u64,
    /// Whether a device had no room: nobody tells when it has.
    again: bool,
    pub(super) out: Vec<(Capability<Tick>, Inferred)>,
}

impl Orders {
    pub(super) fn new(
        config: InferConfig,
        stream: StreamContext,
        device: AtWork,
        stand_ins: BTreeMap<StandIn, AtWork>,
        permits: Permits,
    ) -> Self {
        let (waiting, orders, out) = (VecDeque::new(), BTreeMap::new(), Vec::new());
        Self { config, stream, device, stand_ins, permits, waiting, orders, next: 0, again: false, out }
    }

    pub(super) fn push(&mut self, capability: Capability<Tick>, fired: Fired) {
        let ago = Duration::from_micros((now_us() - fired.read_at_us).max(0) as u64);
        let now = Instant::now();
        let arrived = now.checked_sub(ago).unwrap_or(now);
        self.waiting.push_back(Waiting { capability, fired, arrived });
    }

    /// Does what can be done now, and says when to be called again if nobody wakes it before.
    pub(super) fn turn(&mut self) -> Result<Option<Duration>, Lost> {
        self.take_answers()?;
        self.place()?;
        let next = self.ask_late()?;
        Ok(next.into_iter().chain(self.again.then_some(AGAIN)).min())
    }

    /// Takes the answers that are there.
    fn take_answers(&mut self) -> Result<(), Lost> {
        while let Some((number, answer)) = self.device.desk.poll() {
            self.answered(number, By::Device, answer?);
        }
        for stand_in in self.stand_ins.keys().copied().collect::<Vec<_>>() {
            while let Some((number, answer)) = self.stand_ins.get_mut(&stand_in).and_then(|at| at.desk.poll()) {
                self.answered(number, By::StandIn(stand_in), answer?);
            }
        }
        Ok(())
    }

    /// Whichever forecast comes first is published; a failure only if no other answer can come.
    fn answered(&mut self, number: u64, by: By, mut answer: Answer) {
        let Some(order) = self.orders.get_mut(&number) else { return };
        match by {
            By::Device => order.device = None,
            By::StandIn(_) => order.stand_in = None,
        }
        if answer.prediction.is_err() && order.is_under_way() {
            if by == By::Device {
                order.failed = Some(answer);
            }
            return;
        }
        let Some(order) = self.orders.remove(&number) else { return };
        order.device.and_then(|id| self.device.desk.cancel(id));
        order.stand_in.and_then(|(of, id)| self.stand_ins.get_mut(&of)?.desk.cancel(id));
        let Order { capability, fired, mut permit, step, foreseen, failed, .. } = order;
        let (got, mut reasons) = match by {
            By::Device => (step, reasons(step, self.config.members, answer.degraded.is_none())),
            By::StandIn(stand_in) => (Step::StandIn(stand_in), Vec::new()),
        };
        match (by, failed) {
            // What the model said tells more than what its stand-in said.
            (By::StandIn(_), Some(failed)) if answer.prediction.is_err() => answer = failed,
            (By::StandIn(_), _) => {
                answer.degraded = None;
                reasons.push(if foreseen { Degradation::DeadlineForeseen } else { Degradation::Deadline });
            }
            (By::Device, _) => {}
        }
        let issue_time = fired.window.issue_time;
        match assemble(&self.config, &fired, answer) {
            Ok(mut forecast) => {
                forecast.provenance.degraded.extend(reasons);
                let revision = fired.revision;
                let decided = || Decision::Degraded { issue_time, revision, to: got, foreseen };
                let decision = (got != Step::Full).then(decided);
                permit.weigh(&forecast, &self.stream.budget);
                let (forecast, read_at_us) = (forecast.into(), fired.read_at_us);
                let made = Made { forecast, read_at_us, decision, permit: permit.into() };
                self.out.push((capability, Inferred::Made(made)));
            }
            Err(error) => {
                let reason = Chain(&error).to_string();
                events::ForecastLost { stream: &self.stream.name, issue_time, reason: &reason }.emit();
            }
        }
    }

    /// Asks for as many of the waiting windows as there is room for.
    fn place(&mut self) -> Result<(), Lost> {
        self.again = false;
        self.skip();
        while let Some(first) = self.waiting.front() {
            let due = self.due(first);
            let Some(permit) = self.permits.take() else { break };
            let is_late = due.is_some_and(|due| due <= Instant::now());
            // Once it is late there is nothing to foresee: the last resort is asked.
            let (step, foreseen) = if is_late { (Step::Full, false) } else { self.step(first, due) };
            let request = request_for(&self.config, &first.fired, step);
            let (mut device, mut stand_in) = (None, None);
            let taken = match step {
                Step::StandIn(of) => {
                    let asked = self.stand_ins.get_mut(&of).map(|at| at.submit(request, self.next)).transpose()?;
                    stand_in = asked.flatten().map(|id| (of, id));
                    stand_in.is_some()
                }
                _ if is_late => true,
                _ => {
                    device = self.device.submit(request, self.next)?;
                    device.is_some() || due.is_some()
                }
            };
            // A device that takes nothing more: the window waits for it, unless the last resort will answer.
            if !taken {
                permit.give_back();
                self.again = true;
                break;
            }
            let Some(Waiting { capability, fired, .. }) = self.waiting.pop_front() else { break };
            if let (Step::StandIn(_), Rules::Live(_)) = (step, &self.config.rules) {
                self.device.device.passed_over(&self.config.stream);
            }
            let due = due.filter(|_| stand_in.is_none());
            let order = Order { capability, fired, permit, due, step, foreseen, device, stand_in, failed: None };
            self.orders.insert(self.next, order);
            self.next += 1;
            self.skip();
        }
        Ok(())
    }

    /// Passes over the oldest of the waiting windows, as many as are to be skipped.
    fn skip(&mut self) {
        while let Some(first) = self.waiting.front() {
            let (issue_time, revision) = (first.fired.window.issue_time, first.fired.revision);
            let was_skipped = |recorded: &Recorded| {
                matches!(recorded.of_window(issue_time, revision), Some(Decision::Skipped { .. }))
            };
            let is_stale = |limit: Duration| {
                let newer = self.waiting.iter().any(|other| other.fired.window.issue_time > issue_time);
                newer && is_older(issue_time, now_us() / 1000, limit)
            };
            let skips = match &self.config.rules {
                Rules::Clean => false,
                Rules::Recorded(recorded) => was_skipped(recorded),
                Rules::Live(Live { skip_older_than, .. }) => skip_older_than.is_some_and(is_stale),
                Rules::Resumed(Resumed { recorded, before, skip_older_than }) => {
                    if first.capability.time() < before {
                        was_skipped(recorded)
                    } else {
                        is_stale(*skip_older_than)
                    }
                }
            };
            if !skips {
                return;
            }
            events::WindowSkipped { stream: &self.config.stream, issue_time, revision }.emit();
            let Some(Waiting { capability, .. }) = self.waiting.pop_front() else { return };
            self.out.push((capability, Inferred::Skipped(Decision::Skipped { issue_time, revision })));
        }
    }

    /// What is asked for a window, and whether the clock chose it.
    fn step(&self, first: &Waiting, due: Option<Instant>) -> (Step, bool) {
        let (issue_time, revision) = (first.fired.window.issue_time, first.fired.revision);
        match (&self.config.rules, due) {
            (Rules::Recorded(recorded), _) => match recorded.of_window(issue_time, revision) {
                Some(Decision::Degraded { to, foreseen, .. }) => (*to, *foreseen),
                _ => (Step::Full, false),
            },
            (Rules::Live(Live { ladder, .. }), Some(due)) if !ladder.rungs.is_empty() => {
                let (full, foresight) = self.foresight(&first.fired, due);
                let step = choose(ladder, &full, &foresight);
                if step != Step::Full {
                    let Foresight { left, queue, .. } = foresight;
                    events::DeadlineForeseen { stream: &self.stream.name, issue_time, step, left, queue }.emit();
                }
                (step, step != Step::Full)
            }
            _ => (Step::Full, false),
        }
    }

    fn foresight(&self, fired: &Fired, due: Instant) -> (Full, Foresight) {
        let (stream, members) = (&self.config.stream, self.config.members);
        let cells = fired.window.newest().map_or(0, |frame| frame.grid.shape().0 * frame.grid.shape().1);
        let (model, steps) = self.device.device.pace(stream);
        let full = Full { members, steps, cells };
        let takes = |(of, at): (&StandIn, &AtWork)| {
            let (pace, _) = at.device.pace(stream);
            let takes = pace.estimate(full.work(members, None)).map(|takes| takes + at.device.queue());
            (*of, takes)
        };
        let stand_ins = self.stand_ins.iter().map(takes).collect();
        let left = due.saturating_duration_since(Instant::now());
        (full, Foresight { left, queue: self.device.device.queue(), model, stand_ins })
    }

    fn due(&self, waiting: &Waiting) -> Option<Instant> {
        let Rules::Live(Live { deadline, .. }) = &self.config.rules else { return None };
        let deadline = deadline.filter(|_| !self.stand_ins.is_empty())?;
        Some(waiting.arrived + deadline)
    }

    /// Asks the last resort for every order whose deadline has passed, and says how long until the next one passes.
    fn ask_late(&mut self) -> Result<Option<Duration>, Lost> {
        let waiting = self.waiting.front().and_then(|first| self.due(first));
        let Some((last_resort, at)) = self.stand_ins.iter_mut().next() else { return Ok(None) };
        let mut next: Option<Duration> = None;
        for (number, order) in &mut self.orders {
            let Some(due) = order.due else { continue };
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                next = Some(next.map_or(left, |n| n.min(left)));
                continue;
            }
            let issue_time = order.fired.window.issue_time;
            let request = request_for(&self.config, &order.fired, Step::Full);
            // The device keeps its request: whichever answer comes first is taken, and the other is cancelled. Where there
            // is no room, its answers wake us.
            let Some(id) = at.submit(request, *number)? else { break };
            let (stream, device) = (&self.stream.name, self.device.device.name());
            events::DeadlineMissed { stream, device, issue_time }.emit();
            order.due = None;
            order.foreseen = false;
            order.stand_in = Some((*last_resort, id));
        }
        if let Some(first) = waiting.filter(|_| next.is_none()) {
            next = Some(first.saturating_duration_since(Instant::now()));
        }
        Ok(next)
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.orders.clear();
        self.device.desk.clear();
        self.stand_ins.values_mut().for_each(|at| at.desk.clear());
    }
}

/// Why a forecast that the stream's device gave is less than it should be; `own` if its own model made it.
fn reasons(step: Step, of: usize, own: bool) -> Vec<Degradation> {
    let Step::Less { steps, members } = step else { return Vec::new() };
    let steps = steps.filter(|_| own).map(|fewer| Degradation::FewerSteps { steps: fewer.steps, of: fewer.of });
    let members = (members < of).then_some(Degradation::FewerMembers { members, of });
    steps.into_iter().chain(members).collect()
}

/// Whether an issue time is longer ago than a limit.
fn is_older(issue_time: IssueTime, now_ms: i64, limit: Duration) -> bool {
    i128::from(now_ms) - 1000 * i128::from(issue_time.unix_seconds()) > limit.as_millis() as i128
}

#[cfg(test)]
mod tests {
    use super::super::ladder::FewerSteps;
    use super::*;

    #[test]
    fn a_forecast_says_what_it_has_less_of() {
        let steps = Some(FewerSteps { steps: 4, of: 10 });
        let (fewer_steps, fewer_members) =
            (Degradation::FewerSteps { steps: 4, of: 10 }, Degradation::FewerMembers { members: 2, of: 8 });
        assert!(reasons(Step::Full, 8, true).is_empty());
        assert_eq!(reasons(Step::Less { steps, members: 8 }, 8, true), std::slice::from_ref(&fewer_steps));
        assert_eq!(reasons(Step::Less { steps, members: 2 }, 8, true), [fewer_steps, fewer_members.clone()]);
        assert_eq!(reasons(Step::Less { steps, members: 2 }, 8, false), [fewer_members], "a fallback has no steps");
    }

    #[test]
    fn a_window_is_stale_once_it_is_older_than_the_limit() {
        let issue_time = IssueTime::from_unix_seconds(600);
        let limit = Duration::from_secs(60);
        assert!(!is_older(issue_time, 660_000, limit) && is_older(issue_time, 660_001, limit));
        assert!(!is_older(issue_time, 0, limit), "of the future");
    }
}
