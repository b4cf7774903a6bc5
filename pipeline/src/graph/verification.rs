//! The dataflow that verifies the forecasts of one stream, beside that of the stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_operators::Tick;
use squall_operators::decisions::{Keeper, Recorded};
use squall_operators::decode::{Decoder, decode};
use squall_operators::infer::device::Device;
use squall_operators::infer::infer;
use squall_operators::local::Local;
use squall_operators::note::{Note, Passed};
use squall_operators::ports::{Connect, Ledger, Outgoing};
use squall_operators::progress::{Position, Progress};
use squall_operators::sink::{SinkConfig, SinkCore, sink};
use squall_operators::source::source;
use squall_operators::stream::StreamContext;
use squall_operators::verify::{
    Arrival, Gather, Handover, Hours, Judge, Names, PUBLISHED, Report, Times, Verification, Whereabouts, published,
    since, verify,
};
use squall_operators::window::{Windowed, window};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::vec::{Map, ToStream};
use timely::dataflow::operators::{Concat, Exchange, InspectCore, Probe};
use timely::worker::Worker;

use super::{infer_config, progress_settings, quality_config, source_config, window_config};
use crate::config::{StreamConfig, VerificationConfig};
use crate::inputs::Inputs;

/// Everything that the verification of one stream needs, on any worker.
pub struct VerificationPlan {
    /// The stream.
    pub stream: StreamConfig,
    /// How it is verified.
    pub config: VerificationConfig,
    /// Its source's topic as it was found.
    pub inputs: Inputs,
    /// What was committed before.
    pub progress: Progress,
    /// Its ledger, opened; taken by the worker that owns the sink. `None` where the stream is not at home.
    pub ledger: Mutex<Option<Box<dyn Ledger>>>,
    /// What scores, and what is kept of before; taken by the same worker.
    pub judge: Mutex<Option<Judge>>,
    /// What the first transaction forgets: sums of before a reset.
    pub stale: Vec<Outgoing>,
    /// Where it reads.
    pub connect: Arc<dyn Connect>,
    /// What decodes its records.
    pub decoder: Decoder,
    /// What runs the companions, in the order of their names; `None` where the stream is not at home.
    pub devices: Vec<Option<Device>>,
    /// What was decided in the run that is replayed.
    pub recorded: Option<Arc<Recorded>>,
    /// Where its decisions are kept.
    pub keeper: Keeper,
    /// What the stream has committed; `None` where it is not at home.
    pub handover: Option<Arc<Handover>>,
    /// Where its forecasts lie.
    pub whereabouts: Whereabouts,
    /// Where scores go.
    pub report: Report,
    /// How long it waits for what is under way once it is asked to stop.
    pub stop_within: Duration,
    /// How it ends, how far it is, where it is at home.
    pub context: StreamContext,
}

/// The settings that the progress of a verification rests on: with others, its sums would mean something else.
pub fn verification_settings(stream: &StreamConfig, config: &VerificationConfig) -> BTreeMap<String, String> {
    let list = |items: Vec<String>| items.join(" ");
    let texts = |numbers: &[f32]| list(numbers.iter().map(ToString::to_string).collect());
    let mut settings = progress_settings(stream);
    let own = [
        ("leads", stream.leads.to_string()),
        ("verification.scores", config.scores.join(" ")),
        ("verification.thresholds", texts(&config.thresholds)),
        ("verification.scales", list(config.scales.iter().map(ToString::to_string).collect())),
        ("verification.regions", list(config.regions.iter().map(|(name, of)| format!("{name}={of:?}")).collect())),
        ("verification.horizon", format!("{} s", config.horizon.as_secs())),
    ];
    settings.extend(own.map(|(name, value)| (name.to_owned(), value)));
    settings
}

/// Which valid times are open.
pub fn hours(config: &VerificationConfig) -> Hours {
    Hours { horizon_ms: config.horizon.as_millis() as i64 }
}

/// The times that a verification goes by.
fn times(stream: &StreamConfig, config: &VerificationConfig) -> Times {
    Times {
        cadence: stream.source.cadence,
        window_frames: stream.window_frames,
        leads: stream.lead_times().iter().map(|lead| lead.seconds()).collect(),
        hours: hours(config),
    }
}

/// The progress from which a source reads everything again that open hours rest on, as if for the first time.
fn again(progress: &Progress) -> Progress {
    let position = |position: &Position| Position { next: position.rewind, ..position.clone() };
    let positions = progress.positions.iter().map(position).collect();
    Progress { frontier: Default::default(), positions, ..progress.clone() }
}

/// Wires the verification of a stream on a worker.
pub fn build_verification(worker: &mut Worker, plan: &VerificationPlan) {
    let VerificationPlan { stream, config, progress, context, .. } = plan;
    let is_home = worker.index() == context.home;
    let taken = |mutex: &Mutex<Option<Judge>>| mutex.lock().unwrap_or_else(PoisonError::into_inner).take();
    let judge = is_home.then(|| taken(&plan.judge)).flatten();
    let ledger = is_home.then(|| plan.ledger.lock().unwrap_or_else(PoisonError::into_inner).take()).flatten();
    let times = times(stream, config);
    let mut accepted = quality_config(stream);
    accepted.grid = accepted.grid.or_else(|| progress.state.grid.clone().map(Arc::new));
    // Observations are compared for as long as their hour is open.
    let hour_ms = 3_600_000;
    accepted.memory_ms = accepted.memory_ms.max(hour_ms + times.hours.horizon_ms);
    let again = again(progress);
    let open = times.open_before(progress.frontier);
    let committed = progress.frontier.unix_ms();
    let core = SinkCore::new("".into(), Some(progress)).keeping(plan.keeper.clone());
    let stale = if is_home { plan.stale.clone() } else { Vec::new() };
    worker.dataflow_named::<Tick, _, _>(&format!("verification {}", stream.name), |scope| {
        let probe = ProbeHandle::new();
        let reading = source_config(stream, &plan.inputs, plan.recorded.as_ref());
        let records = source(scope, reading, Some(&again), plan.connect.clone(), context.clone(), probe.clone());
        let home = context.home as u64;
        let passed = records.clone().flat_map(|Local(arrived)| Passed::of(&arrived)).exchange(move |_| home);
        let passed = passed.map(|passed| Local(Note::Passed(passed)));
        let decoded = decode(records, plan.decoder.clone(), context.clone());
        let windows =
            window(decoded, accepted, window_config(stream), context.clone(), Some(&again).filter(|_| is_home));
        let observed = windows.clone().flat_map(|Local(windowed)| match windowed {
            Windowed::Observed(observed) => Some(Local(Arrival::Observed(observed))),
            Windowed::Dead(_) | Windowed::Fired(_) | Windowed::Mark(_) => None,
        });
        let reach = times.clone();
        let fired = windows.flat_map(move |Local(windowed)| match &windowed {
            Windowed::Fired(fired) if reach.reaches(fired.window.issue_time, open) => Some(Local(windowed)),
            _ => None,
        });
        let mut arrivals = observed;
        let mut contestants: Vec<Arc<str>> = vec![PUBLISHED.into()];
        for ((name, companion), device) in stream.companions.iter().zip(&plan.devices) {
            let number = contestants.len() as u32;
            contestants.push(name.clone());
            let asked = infer_config(&stream.of_companion(name, companion));
            let made = infer(fired.clone(), asked, device.clone(), BTreeMap::new(), context.clone());
            arrivals = arrivals.concat(made.map(move |Local(made)| Local(Arrival::Made(number, made))));
        }
        let handover = plan.handover.clone().filter(|_| is_home);
        let own = published(scope, handover, context.clone());
        let arrivals = arrivals.concat(own.map(|Local(file)| Local(Arrival::Published(file))));
        let verification = Verification {
            names: Names { contestants, leads: times.leads.clone() },
            gather: Gather::new(times.clone(), Some(progress)),
            times,
            whereabouts: plan.whereabouts.clone(),
            report: plan.report.clone(),
            judge,
        };
        let scored = verify(arrivals, verification, context.clone());
        let budget = context.budget.clone();
        let scored = scored.inspect_container(move |event| {
            if let Ok((time, notes)) = event {
                notes.iter().for_each(|Local(note)| budget.add_note(*time, note));
            }
        });
        let stale = (!stale.is_empty()).then_some(Local(Note::Records(stale))).to_stream(scope);
        let notes = since(passed.concat(scored).concat(stale), committed);
        let config = SinkConfig { stop_within: plan.stop_within, holders: 1, handover: None };
        sink(notes, config, core, ledger, context.clone()).probe_with(&probe);
    });
}
