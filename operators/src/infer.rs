//! Has windows forecast by models, without ever blocking a timely worker.
//!
//! The operator keeps a map of work in flight to capabilities, so that no frontier passes a forecast that is still
//! being computed. One long-lived thread per device ([`device`]) takes requests from a bounded channel, batches them
//! by size and deadline, and wakes the worker when answers are there. Several streams may share a device. Forecasts
//! are large: an operator asks for a new one only while few of its own are alive further down ([`Permits`]).

pub mod device;
pub mod slot;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use squall_fields::{Degradation, ErrorKind, Forecast, ForecastId, InputRef, LeadTime, Provenance};
use squall_models::{Prediction, Request};
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::scheduling::SyncActivator;

use self::device::{Device, Job};
use crate::control::Control;
use crate::failure::Failure;
use crate::local::Local;
use crate::order::frontier_of;
use crate::window::{Fired, Windowed};
use crate::{Tick, events};

/// What a stream asks of its model.
#[derive(Clone, Debug)]
pub struct InferConfig {
    /// Name of the stream.
    pub stream: Arc<str>,
    /// Leads to give.
    pub leads: Vec<LeadTime>,
    /// Members to give.
    pub members: usize,
    /// Forecasts of the stream that may be in memory at once, at least 1.
    pub max_alive: usize,
    /// How long the model may take before the fallback is asked as well; `None` waits.
    pub deadline: Option<Duration>,
}

/// What a device made of one request.
#[derive(Debug)]
pub struct Answer {
    /// The prediction, or why there is none, not even from the fallback.
    pub prediction: Result<Prediction, String>,
    /// Name of the model that made it.
    pub model: String,
    /// Digest of that model.
    pub model_digest: Arc<str>,
    /// Device, instruction set and precision.
    pub device: String,
    /// Why it is not what the stream normally publishes.
    pub degraded: Option<Degradation>,
}

/// The request of a window.
pub fn request(config: &InferConfig, fired: &Fired) -> Request {
    Request {
        stream: config.stream.clone(),
        window: fired.window.clone(),
        leads: config.leads.clone(),
        members: config.members,
    }
}

/// First 8 bytes of a digest over what keys the random numbers of a forecast: what its provenance names as seed.
pub fn seed(model_digest: &str, stream: &str, issue_time: squall_fields::IssueTime) -> u64 {
    let mut hash = Sha256::new();
    for part in [model_digest, stream] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(issue_time.unix_seconds().to_le_bytes());
    u64::from_le_bytes(hash.finalize()[..8].try_into().unwrap_or_default())
}

/// Makes a forecast of a window and what a model answered: identity, grid, provenance. `None` without a frame.
///
/// `squall forecast` and the stream both go through here, so that their files are equal.
pub fn assemble(config: &InferConfig, fired: &Fired, answer: Answer) -> Result<Forecast, String> {
    let Fired { window, revision, known_at, .. } = fired;
    let Answer { prediction, model, model_digest, device, degraded } = answer;
    let prediction = prediction?;
    let newest = window.newest().ok_or("the window has no frame")?;
    let missing = window.missing();
    let missing = (!missing.is_empty()).then_some(Degradation::MissingFrames { slots: missing });
    let inputs: Vec<InputRef> = window.frames.iter().flatten().map(|frame| frame.input.clone()).collect();
    let issue_time = window.issue_time;
    let provenance = Provenance {
        inputs,
        window_mask: window.mask(),
        seed: seed(&model_digest, &config.stream, issue_time),
        model,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        device,
        degraded: missing.into_iter().chain(degraded).collect(),
    };
    Ok(Forecast {
        id: ForecastId { stream: config.stream.clone(), model_digest, issue_time, revision: *revision },
        known_at: *known_at,
        grid: newest.grid.clone(),
        leads: config.leads.clone(),
        ensembles: prediction.ensembles,
        precision: prediction.precision,
        provenance,
    })
}

/// Counts the forecasts of one stream that are alive, from request to publication.
#[derive(Clone)]
pub struct Permits {
    alive: Arc<AtomicUsize>,
    most: usize,
    waker: Option<Arc<SyncActivator>>,
}

impl Permits {
    /// At most `most` at once, at least one; whoever waits for one is woken by `waker`.
    pub fn new(most: usize, waker: Option<SyncActivator>) -> Self {
        Self { alive: Arc::default(), most: most.max(1), waker: waker.map(Arc::new) }
    }

    /// One more, if there is room.
    pub fn take(&self) -> Option<Permit> {
        let take = |alive| (alive < self.most).then_some(alive + 1);
        self.alive.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).ok()?;
        Some(Permit { permits: self.clone() })
    }
}

/// Room for one forecast in memory, given back when dropped.
pub struct Permit {
    permits: Permits,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.alive.fetch_sub(1, Ordering::SeqCst);
        if let Some(waker) = &self.permits.waker {
            let _ = waker.activate(); // a worker that is gone needs no waking
        }
    }
}

/// A forecast on its way, with the room that it takes.
#[derive(Clone)]
pub struct Made {
    /// The forecast.
    pub forecast: Arc<Forecast>,
    /// When the last record that it needed was read, by the machine's clock in microseconds since 1970.
    pub read_at_us: i64,
    /// Given back once it is published.
    pub permit: Arc<Permit>,
}

/// A request in flight.
struct Running {
    capability: Capability<Tick>,
    fired: Fired,
    permit: Permit,
    started: Instant,
    /// Whether the deadline passed and the fallback was asked.
    late: bool,
}

/// Set in the id of a request to the fallback.
const LATE: u64 = 1 << 63;

/// Asks the fallback for every request whose deadline has passed, and says when the next one will.
fn ask_late(
    running: &mut BTreeMap<u64, Running>,
    deadline: Duration,
    mut ask: impl FnMut(u64, &Fired) -> Result<(), String>,
) -> Result<Option<Duration>, String> {
    let mut next = None;
    for (id, entry) in running.iter_mut().filter(|(_, entry)| !entry.late) {
        let left = deadline.saturating_sub(entry.started.elapsed());
        if left.is_zero() {
            entry.late = true;
            ask(id | LATE, &entry.fired)?;
        } else {
            next = Some(next.map_or(left, |n: Duration| n.min(left)));
        }
    }
    Ok(next)
}

/// Has each window that fires forecast by the model of its stream on a device.
///
/// `fallback` runs the model that answers where the deadline passes; whichever answer comes first is published.
pub fn infer<'scope>(
    windows: StreamVec<'scope, Tick, Local<Windowed>>,
    config: InferConfig,
    device: Device,
    fallback: Option<Device>,
    control: Arc<Control>,
) -> StreamVec<'scope, Tick, Local<Made>> {
    let worker = windows.scope().worker();
    windows.unary_frontier(Pipeline, "Infer", move |_capability, info| {
        let waker = || worker.sync_activator_for(info.address.to_vec());
        control.register(waker());
        let permits = Permits::new(config.max_alive, Some(waker()));
        let wake = Arc::new(waker());
        let (outbox, answers) = crossbeam_channel::unbounded::<(u64, Answer)>();
        let mut waiting: VecDeque<(Capability<Tick>, Fired)> = VecDeque::new();
        let mut running: BTreeMap<u64, Running> = BTreeMap::new();
        let activator = worker.activator_for(info.address.clone());
        let mut next_id = 0u64;
        move |(input, frontier), output| {
            control.report("infer", frontier_of(frontier));
            input.for_each_time(|time, batches| {
                let capability = time.retain(output.output_index());
                for Local(windowed) in batches.flat_map(|batch| batch.drain(..)) {
                    if let Windowed::Fired(fired) = windowed {
                        waiting.push_back((capability.clone(), fired));
                    }
                }
            });
            if control.is_done() {
                waiting.clear();
                running.clear();
                return;
            }
            for (id, mut answer) in answers.try_iter() {
                // The other answer came first, or the fallback has none while the model still works.
                let useless = id & LATE != 0 && answer.prediction.is_err();
                let Some(entry) = (!useless).then(|| running.remove(&(id & !LATE))).flatten() else { continue };
                if id & LATE != 0 {
                    answer.degraded = Some(Degradation::Deadline);
                }
                let Running { capability, fired, permit, .. } = entry;
                match assemble(&config, &fired, answer) {
                    Ok(forecast) => {
                        let Fired { read_at_us, .. } = fired;
                        let made = Made { forecast: forecast.into(), read_at_us, permit: permit.into() };
                        output.session(&capability).give(Local(made));
                    }
                    Err(reason) => {
                        let issue_time = fired.window.issue_time;
                        events::ForecastLost { stream: &config.stream, issue_time, reason: &reason }.emit();
                    }
                }
            }
            // A full device is tried again when an answer or a permit comes back.
            while !waiting.is_empty() {
                let Some(permit) = permits.take() else { break };
                let Some((capability, fired)) = waiting.pop_front() else { break };
                let (id, request) = (next_id, request(&config, &fired));
                let job = Job { id, request, reply: outbox.clone(), wake: Some(wake.clone()) };
                running.insert(id, Running { capability, fired, permit, started: Instant::now(), late: false });
                next_id += 1;
                if let Err(message) = device.submit(job) {
                    control.fail(Failure::new(ErrorKind::Internal, message));
                    return;
                }
            }
            if let (Some(deadline), Some(fallback)) = (config.deadline, &fallback) {
                let asked = ask_late(&mut running, deadline, |id, fired| {
                    let request = request(&config, fired);
                    fallback.submit(Job { id, request, reply: outbox.clone(), wake: Some(wake.clone()) })
                });
                match asked {
                    Ok(Some(next)) => activator.activate_after(next),
                    Ok(None) => {}
                    Err(message) => control.fail(Failure::new(ErrorKind::Internal, message)),
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back() {
        let permits = Permits::new(2, None);
        let first = permits.take();
        let second = permits.take();
        assert!(first.is_some() && second.is_some() && permits.take().is_none());
        drop(first);
        assert!(permits.take().is_some());
    }

    #[test]
    fn the_seed_tells_forecasts_apart() {
        let at = squall_fields::IssueTime::from_unix_seconds;
        let seeds =
            [seed("a", "rain", at(0)), seed("b", "rain", at(0)), seed("a", "rai", at(0)), seed("a", "rain", at(1))];
        let distinct: std::collections::BTreeSet<_> = seeds.iter().collect();
        assert_eq!(distinct.len(), 4);
    }
}
