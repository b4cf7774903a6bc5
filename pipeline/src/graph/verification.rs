//! The dataflow that verifies the forecasts of one stream, beside that of the stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_fields::ValidTime;
use squall_models::scores::{Border, Operator};
use squall_operators::Tick;
use squall_operators::dead_letter::DeadLetters;
use squall_operators::decisions::{Keeper, Recorded};
use squall_operators::decode::{Decoder, decode};
use squall_operators::infer::device::Device;
use squall_operators::infer::{InferConfig, Inferred, Rules, infer};
use squall_operators::local::Local;
use squall_operators::note::Note;
use squall_operators::ports::{Connect, Ledger, Outgoing};
use squall_operators::progress::Progress;
use squall_operators::publish::{Publisher, publish};
use squall_operators::sink::{SinkConfig, SinkCore, sink};
use squall_operators::source::budget::Budget;
use squall_operators::source::{SourceConfig as SourceReading, source};
use squall_operators::stations::{Control, ControlConfig, ReportReader};
use squall_operators::steering::steer;
use squall_operators::stream::StreamContext;
use squall_operators::verify::{
    Arrival, Gather, Handover, Hours, Judge, Names, PUBLISHED, PlacesConfig, Report, Times, Verification, Whereabouts,
    places, published, since, verify,
};
use squall_operators::window::{Windowed, window};
use timely::dataflow::operators::vec::{Filter, Map};
use timely::dataflow::operators::{Concat, Inspect, Probe};
use timely::dataflow::{ProbeHandle, StreamVec};
use timely::worker::Worker;

use super::{
    BesidePlan, again, alone, infer_config, passed_of, progress_settings, quality_config, seconds, source_config,
    stale, window_config, winds_core,
};
use crate::config::{SourceConfig, StationsConfig, StreamConfig, VerificationConfig};
use crate::inputs::Inputs;
use crate::topics::STATION_BYTES;

/// Reports of a station may be as far apart, whatever the cadence of the frames.
const REPORTS_APART: Duration = Duration::from_secs(3600);

/// Reports of stations that forecasts are compared with.
pub struct StationsPlan {
    /// Where they come from.
    pub config: StationsConfig,
    /// The topic as it was found.
    pub inputs: Inputs,
    /// What reads its records.
    pub reader: ReportReader,
    /// Whether nobody else writes its dead letters.
    pub keeps_dead: bool,
}

/// A companion.
pub struct CompanionPlan {
    /// Its name.
    pub name: Arc<str>,
    /// The companion as a stream.
    pub stream: StreamConfig,
    /// What runs it; `None` where the stream is not at home.
    pub device: Option<Device>,
    /// What publishes its forecasts; `None` for one that is only scored.
    pub publisher: Option<Publisher>,
    /// What the machine's clock decides about it.
    pub rules: Rules,
    /// Where that is kept.
    pub keeper: Keeper,
}

/// Everything that the verification of one stream needs, on any worker.
pub struct VerificationPlan {
    /// The stream.
    pub stream: StreamConfig,
    /// How it is verified.
    pub config: VerificationConfig,
    /// Its source's topic as it was found.
    pub inputs: Inputs,
    /// What forecasts are compared with, if not its source.
    pub truth: Option<BesidePlan>,
    /// Stations that forecasts are compared with.
    pub stations: Option<StationsPlan>,
    /// The wind that steers its companions' rain.
    pub steering: Option<BesidePlan>,
    /// Topic of dead letters, on the worker that owns the sink.
    pub dead_letters: Option<DeadLetters>,
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
    /// The companions, in the order of their names.
    pub companions: Vec<CompanionPlan>,
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
        ("inputs.truth", topic_or_none(stream.inputs.truth.as_ref().map(|source| &source.topic))),
        ("inputs.stations", topic_or_none(stream.inputs.stations.as_ref().map(|stations| &stations.topic))),
        ("inputs.stations.quality", stream.inputs.stations.as_ref().map_or("none".to_owned(), checks)),
        ("verification.scores", config.scores.join(" ")),
        ("verification.thresholds", texts(&config.thresholds)),
        ("verification.scales", list(config.scales.iter().map(ToString::to_string).collect())),
        ("verification.regions", list(config.regions.iter().map(|(name, of)| format!("{name}={of:?}")).collect())),
        ("verification.horizon", seconds(config.horizon)),
    ];
    settings.extend(own.map(|(name, value)| (name.to_owned(), value)));
    // As they are by default they are left out: progress from before there was a choice is still good.
    let (border, operator) = (config.fss_border, config.fss_operator);
    let chosen = [
        (border != Border::default()).then(|| ("verification.fss_border", border.name())),
        (operator != Operator::default()).then(|| ("verification.fss_operator", operator.name())),
    ];
    settings.extend(chosen.into_iter().flatten().map(|(name, value)| (name.to_owned(), value.to_owned())));
    settings
}

/// What readings are checked for.
fn checks(stations: &StationsConfig) -> String {
    let usual = ControlConfig::default().thresholds;
    let own = stations.quality.iter().filter(|(quantity, limits)| usual.get(*quantity) != Some(*limits));
    let own: Vec<_> = own.map(|(quantity, limits)| format!("{}={limits:?}", quantity.standard_name())).collect();
    if own.is_empty() { "usual".to_owned() } else { own.join(" ") }
}

fn topic_or_none(topic: Option<&Arc<str>>) -> String {
    topic.map_or("none".to_owned(), |topic| topic.to_string())
}

/// How readings of stations are judged, for as long as they are compared.
pub fn control(stations: &StationsConfig, hours: Hours) -> ControlConfig {
    ControlConfig {
        horizon_seconds: 3600 + (hours.horizon_ms / 1000) as u32,
        future_tolerance_seconds: stations.future_tolerance.as_secs() as u32,
        thresholds: stations.quality.clone(),
    }
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
        reports_back: stream.inputs.stations.as_ref().map_or(0, |of| control(of, hours(config)).memory_seconds()),
    }
}

/// The contestants that the stream is held against, by number: its baselines, where anything is counted that they are compared by.
fn rivals(stream: &StreamConfig, config: &VerificationConfig, contestants: &[Arc<str>]) -> Vec<u32> {
    let baselines = if config.measures().is_empty() { Vec::new() } else { stream.baselines() };
    (0..).zip(contestants).filter(|(_, name)| baselines.contains(name)).map(|(number, _)| number).collect()
}

/// Notes that count as in flight until they are committed.
pub(super) fn counted<'scope>(
    notes: StreamVec<'scope, Tick, Local<Note>>,
    budget: &Arc<Budget>,
) -> StreamVec<'scope, Tick, Local<Note>> {
    let budget = budget.clone();
    notes.inspect_time(move |time, Local(note)| budget.add_note(*time, note))
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
    let dead_letters = plan.dead_letters.clone().unwrap_or_else(|| "".into());
    let core = SinkCore::new(dead_letters, Some(progress)).keeping(plan.keeper.clone());
    worker.dataflow_named::<Tick, _, _>(&format!("verification {}", stream.name), |scope| {
        let probe = ProbeHandle::new();
        let further = [plan.truth.is_some(), plan.steering.is_some(), plan.stations.is_some()];
        let sources = 1 + further.into_iter().filter(|is_there| *is_there).count();
        let reading = SourceReading { sources, ..source_config(stream, &plan.inputs, plan.recorded.as_ref()) };
        let records = source(scope, reading, Some(&again), plan.connect.clone(), context.clone(), probe.clone());
        let home = context.home as u64;
        let read = passed_of(&records, home);
        let decoded = decode(records, plan.decoder.clone(), context.clone());
        let mut windows =
            window(decoded, accepted, window_config(stream), context.clone(), Some(&again).filter(|_| is_home));
        let is_truth = plan.truth.is_none();
        let observed = windows.clone().flat_map(move |Local(windowed)| match windowed {
            Windowed::Observed(observed) if is_truth => Some(Local(Arrival::Observed(observed))),
            Windowed::Observed(observed) => Some(Local(Arrival::Used(observed))),
            Windowed::Dead(_) | Windowed::Fired(_) | Windowed::Mark(_) => None,
        });
        let mut beside = Vec::new();
        let mut arrivals = observed;
        // After the workers with the stream's own source comes what the stream has published, then each further source.
        let peers = scope.peers();
        let mut holders = 1;
        let of = |inputs: &Inputs, stream: &StreamConfig| source_config(stream, inputs, plan.recorded.as_ref());
        let mut more = |reading: SourceReading| {
            let first_holder = peers + holders;
            holders += peers;
            let reading = SourceReading { first_holder, sources, ..reading };
            source(scope, reading, Some(&again), plan.connect.clone(), context.clone(), probe.clone())
        };
        if let Some(truth) = &plan.truth {
            let records = more(of(&truth.inputs, &truth.stream));
            beside.push(passed_of(&records, home));
            let (frames, dead) = alone(records, truth, hour_ms + times.hours.horizon_ms, context.clone());
            beside.push(dead);
            arrivals = arrivals.concat(frames.flat_map(|Local(windowed)| match windowed {
                Windowed::Observed(observed) => Some(Local(Arrival::Observed(observed))),
                Windowed::Dead(_) | Windowed::Fired(_) | Windowed::Mark(_) => None,
            }));
        }
        if let Some(steering) = &plan.steering {
            let records = more(of(&steering.inputs, &steering.stream));
            beside.push(passed_of(&records, home));
            let (winds, _) = alone(records, steering, 0, context.clone());
            let good_for = stream.inputs.steering.as_ref().map_or(0, |steering| steering.max_age.as_secs() as i64);
            arrivals = arrivals.concat(winds.clone().flat_map(move |Local(windowed)| match windowed {
                Windowed::Observed(observed) => {
                    let until = ValidTime::from_unix_seconds(observed.frame.slot.unix_seconds() + good_for);
                    Some(Local(Arrival::Wind(observed, until)))
                }
                Windowed::Dead(_) | Windowed::Fired(_) | Windowed::Mark(_) => None,
            }));
            windows = steer(windows, winds, winds_core(stream, None), context.clone());
        }
        if let Some(StationsPlan { config, inputs, reader, keeps_dead }) = &plan.stations {
            let from = SourceConfig {
                topic: config.topic.clone(),
                max_record_bytes: STATION_BYTES,
                ..(*stream.source).clone()
            };
            let reading = of(inputs, &StreamConfig { source: from.into(), ..stream.clone() });
            let jump = reading.jump.max(REPORTS_APART + reading.disorder);
            let records = more(SourceReading { jump, ..reading });
            beside.push(passed_of(&records, home));
            let taken = PlacesConfig {
                variables: stream.source.variables.clone(),
                cadence: times.cadence,
                hours: times.hours,
                open_at_start: open,
            };
            let checks = Control::new(control(config, times.hours));
            let topic = config.topic.clone();
            let (said, dead) = places(records, reader.clone(), checks, taken, topic, context.clone());
            arrivals = arrivals.concat(said);
            if *keeps_dead {
                beside.push(dead);
            }
        }
        let reach = times.clone();
        let fired = windows.flat_map(move |Local(windowed)| match &windowed {
            Windowed::Fired(fired) if reach.reaches(fired.window.issue_time, open) => Some(Local(windowed)),
            _ => None,
        });
        let mut contestants: Vec<Arc<str>> = vec![PUBLISHED.into()];
        for (number, companion) in (1..).zip(&plan.companions) {
            let CompanionPlan { name, stream: of_companion, device, publisher, rules, keeper } = companion;
            contestants.push(name.clone());
            let asked = InferConfig { rules: rules.clone(), ..infer_config(of_companion) };
            let made = infer(fired.clone(), asked, device.clone(), BTreeMap::new(), context.clone());
            if let Some(publisher) = publisher {
                let whole = made.clone().filter(|Local(made)| matches!(made, Inferred::Made(_)));
                let new = since(whole, committed);
                beside.push(counted(publish(new, publisher.clone(), context.clone()), &context.budget));
            }
            let keeper = keeper.clone();
            beside.push(made.clone().flat_map(move |Local(made)| match made {
                Inferred::Skipped(decision) => {
                    keeper.of_window(&decision).map(|record| Local(Note::Records(vec![record])))
                }
                Inferred::Made(_) => None,
            }));
            arrivals = arrivals.concat(made.map(move |Local(made)| Local(Arrival::Made(number, made))));
        }
        let handover = plan.handover.clone().filter(|_| is_home);
        let own = published(scope, handover, context.clone());
        let arrivals = arrivals.concat(own.map(|Local(file)| Local(Arrival::Published(file))));
        let verification = Verification {
            names: Names { rivals: rivals(stream, config, &contestants), contestants, leads: times.leads.clone() },
            gather: Gather::new(times.clone(), Some(progress)),
            times,
            whereabouts: plan.whereabouts.clone(),
            report: plan.report.clone(),
            judge,
        };
        let scored = verify(arrivals, verification, context.clone());
        let scored = counted(scored, &context.budget);
        let said = beside.into_iter().fold(read.concat(scored), Concat::concat);
        let notes = since(said, committed).concat(stale(scope, if is_home { &plan.stale } else { &[] }));
        let config = SinkConfig { stop_within: plan.stop_within, holders, handover: None };
        sink(notes, config, core, ledger, context.clone()).probe_with(&probe);
    });
}
