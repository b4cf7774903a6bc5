//! The timely shell, and the orders that it keeps: one for each window whose forecast is under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_fields::{Chain, Degradation};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;

use super::device::{Ask, Device};
use super::permits::{Made, Permit, Permits};
use super::{Answer, InferConfig, assemble, request};
use crate::local::Local;
use crate::offload::{Desk, Lost, Refused};
use crate::order::frontier_of;
use crate::stream::StreamContext;
use crate::window::{Fired, Windowed};
use crate::{Tick, events};

/// How soon a full device is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// A window without an order yet.
struct Waiting {
    capability: Capability<Tick>,
    fired: Fired,
    since: Instant,
}

/// A forecast under way.
struct Order {
    capability: Capability<Tick>,
    fired: Fired,
    permit: Permit,
    /// When the fallback is asked.
    due: Option<Instant>,
    /// Number of the request at each desk, while it has no answer.
    device: Option<u64>,
    fallback: Option<u64>,
    /// What the device said, if it gave no forecast.
    failed: Option<Answer>,
}

/// Who answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Device,
    Fallback,
}

/// The windows of a stream and the devices that forecast them.
struct Orders {
    config: InferConfig,
    stream: StreamContext,
    /// Name of the device.
    name: Arc<str>,
    device: Desk<Ask, Answer, u64>,
    /// The device that answers where the deadline passes.
    fallback: Option<Desk<Ask, Answer, u64>>,
    permits: Permits,
    waiting: VecDeque<Waiting>,
    orders: BTreeMap<u64, Order>,
    next: u64,
    /// Whether the device had no room: nobody tells when it has.
    again: bool,
    out: Vec<(Capability<Tick>, Made)>,
}

impl Orders {
    /// Takes the answers that are there.
    fn take_answers(&mut self) -> Result<(), Lost> {
        while let Some((number, answer)) = self.device.poll() {
            self.answered(number, By::Device, answer?);
        }
        while let Some((number, answer)) = self.fallback.as_mut().and_then(Desk::poll) {
            self.answered(number, By::Fallback, answer?);
        }
        Ok(())
    }

    /// Whichever forecast comes first is published; a failure only if no other answer can come.
    fn answered(&mut self, number: u64, by: By, mut answer: Answer) {
        let Some(order) = self.orders.get_mut(&number) else { return };
        match by {
            By::Device => order.device = None,
            By::Fallback => order.fallback = None,
        }
        if answer.prediction.is_err() && (order.device.is_some() || order.fallback.is_some()) {
            if by == By::Device {
                order.failed = Some(answer);
            }
            return;
        }
        let Some(Order { capability, fired, permit, device, fallback, failed, .. }) = self.orders.remove(&number)
        else {
            return;
        };
        device.and_then(|id| self.device.cancel(id));
        fallback.and_then(|id| self.fallback.as_mut()?.cancel(id));
        match (by, failed) {
            // What the model said tells more than what its stand-in said.
            (By::Fallback, Some(failed)) if answer.prediction.is_err() => answer = failed,
            (By::Fallback, _) => answer.degraded = Some(Degradation::Deadline),
            (By::Device, _) => {}
        }
        match assemble(&self.config, &fired, answer) {
            Ok(forecast) => {
                let made = Made { forecast: forecast.into(), read_at_us: fired.read_at_us, permit: permit.into() };
                self.out.push((capability, made));
            }
            Err(error) => {
                let (issue_time, reason) = (fired.window.issue_time, Chain(&error).to_string());
                events::ForecastLost { stream: &self.stream.name, issue_time, reason: &reason }.emit();
            }
        }
    }

    /// Asks the device for as many of the waiting windows as there is room for.
    fn place(&mut self) -> Result<(), Lost> {
        self.again = false;
        while let Some(first) = self.waiting.front() {
            let due = self.due(first);
            let Some(permit) = self.permits.take() else { break };
            let ask = Ask::Forecast(request(&self.config, &first.fired));
            let is_late = due.is_some_and(|due| due <= Instant::now());
            let device = match (!is_late).then(|| self.device.try_submit(ask, self.next)) {
                Some(Ok(id)) => Some(id),
                Some(Err(Refused::Dead(lost))) => return Err(lost),
                // A device that takes nothing more: without a fallback the window waits for it.
                Some(Err(Refused::Full(..))) if due.is_none() => {
                    permit.give_back();
                    self.again = true;
                    break;
                }
                Some(Err(Refused::Full(..))) | None => None,
            };
            let Some(Waiting { capability, fired, .. }) = self.waiting.pop_front() else { break };
            let order = Order { capability, fired, permit, due, device, fallback: None, failed: None };
            self.orders.insert(self.next, order);
            self.next += 1;
        }
        Ok(())
    }

    fn due(&self, waiting: &Waiting) -> Option<Instant> {
        let deadline = self.config.deadline.filter(|_| self.fallback.is_some())?;
        Some(if self.config.counts_waiting { waiting.since } else { Instant::now() } + deadline)
    }

    /// Asks the fallback for every order whose deadline has passed, and says how long until the next one passes.
    fn ask_late(&mut self) -> Result<Option<Duration>, Lost> {
        let Some(fallback) = &mut self.fallback else { return Ok(None) };
        let mut next: Option<Duration> = None;
        for (number, order) in &mut self.orders {
            let Some(due) = order.due else { continue };
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                next = Some(next.map_or(left, |n| n.min(left)));
                continue;
            }
            let issue_time = order.fired.window.issue_time;
            match fallback.try_submit(Ask::Forecast(request(&self.config, &order.fired)), *number) {
                Ok(id) => {
                    let (stream, device) = (&self.stream.name, &self.name);
                    events::DeadlineMissed { stream, device, issue_time }.emit();
                    order.due = None;
                    order.fallback = Some(id);
                    // The device keeps its request: whichever answer comes first is taken, and the other is cancelled.
                }
                // Its answers wake us.
                Err(Refused::Full(..)) => break,
                Err(Refused::Dead(lost)) => return Err(lost),
            }
        }
        if let Some(first) = self.waiting.front().and_then(|first| self.due(first)).filter(|_| next.is_none()) {
            next = Some(first.saturating_duration_since(Instant::now()));
        }
        Ok(next)
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.orders.clear();
        self.device.clear();
        if let Some(fallback) = &mut self.fallback {
            fallback.clear();
        }
    }
}

/// Has each window that fires forecast by the model of its stream on a device.
///
/// `fallback` runs the model that answers where the deadline passes; whichever answer comes first is published.
pub fn infer<'scope>(
    windows: StreamVec<'scope, Tick, Local<Windowed>>,
    config: InferConfig,
    device: Device,
    fallback: Option<Device>,
    stream: StreamContext,
) -> StreamVec<'scope, Tick, Local<Made>> {
    let worker = windows.scope().worker();
    windows.unary_frontier(Pipeline, "Infer", move |_capability, info| {
        let waker = || worker.sync_activator_for(info.address.to_vec());
        stream.control.register(waker());
        let activator = worker.activator_for(info.address.clone());
        let mut orders = Orders {
            permits: Permits::new(config.max_alive, Some(waker())),
            name: device.name().clone(),
            device: device.desk(&stream.control, waker()),
            fallback: fallback.map(|device| device.desk(&stream.control, waker())),
            config,
            stream,
            waiting: VecDeque::new(),
            orders: BTreeMap::new(),
            next: 0,
            again: false,
            out: Vec::new(),
        };
        move |(input, frontier), output| {
            orders.stream.frontiers.report("infer", frontier_of(frontier));
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(windowed) in batches.flat_map(|batch| batch.drain(..)) {
                    if let Windowed::Fired(fired) = windowed {
                        let (capability, since) = (capability.clone(), Instant::now());
                        orders.waiting.push_back(Waiting { capability, fired, since });
                    }
                }
            });
            if orders.stream.control.is_done() {
                orders.clear();
                return;
            }
            let turned = orders.take_answers().and_then(|()| orders.place()).and_then(|()| orders.ask_late());
            match turned {
                Ok(next) => {
                    let again = orders.again.then_some(AGAIN);
                    if let Some(next) = next.into_iter().chain(again).min() {
                        activator.activate_after(next);
                    }
                }
                Err(lost) => orders.stream.control.fail(lost.into()),
            }
            for (capability, made) in orders.out.drain(..) {
                output.session(&capability).give(Local(made));
            }
        }
    })
}
