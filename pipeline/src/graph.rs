//! The dataflow of one stream, wired.
//!
//! Each stream is a dataflow of its own, from its source to its ledger: a slow model holds back nothing but itself,
//! and a restart rewinds one stream without touching another. Two streams of one source read it twice, which buys that
//! independence, but share what is decoded. Dead letters of a source are written by the first of its streams.

mod reading;
mod verification;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_fields::ZRelation;
use squall_operators::Tick;
use squall_operators::dead_letter::DeadLetters;
use squall_operators::decisions::{Keeper, Recorded};
use squall_operators::decode::{Decoder, decode};
use squall_operators::encode::EncodeConfig;
use squall_operators::infer::device::Device;
use squall_operators::infer::ladder::{Ladder, StandIn};
use squall_operators::infer::{InferConfig, Live, Rules, infer};
use squall_operators::local::Local;
use squall_operators::note::{Note, Passed};
use squall_operators::ports::{Connect, Ledger, Outgoing};
use squall_operators::progress::{Position, Progress};
use squall_operators::publish::{Publisher, publish};
use squall_operators::quality::QualityConfig;
use squall_operators::sink::{SinkConfig, SinkCore, sink};
use squall_operators::source::{Arrived, Clock, SourceConfig, source};
use squall_operators::steering::{Winds, steer};
use squall_operators::stream::StreamContext;
use squall_operators::verify::{Handover, Whereabouts, since};
use squall_operators::window::{WindowConfig, Windowed, window};
use timely::dataflow::operators::vec::{Map, ToStream};
use timely::dataflow::operators::{Concat, Exchange, Probe};
use timely::dataflow::{ProbeHandle, Scope, StreamVec};
use timely::worker::Worker;

use crate::config;
use crate::inputs::Inputs;

pub use self::reading::{ReadingPlan, build_reading};
pub use self::verification::{
    CompanionPlan, StationsPlan, VerificationPlan, build_verification, control, hours, verification_settings,
};

/// Forecasts of one stream that may be in memory at once: one being made, one being published, one waiting.
const FORECASTS_ALIVE: usize = 3;
/// Slots that a source may be read ahead of what is committed.
const SLOTS_AHEAD: u32 = 12;
/// What timestamps of a replay may be out of order by, however short the patience: clocks are not better than that.
const UNREST: Duration = Duration::from_secs(1);

/// Everything that the dataflow of one stream needs, on any worker.
pub struct StreamPlan {
    /// The stream.
    pub stream: config::StreamConfig,
    /// Name of the instance.
    pub instance: Arc<str>,
    /// Topic of dead letters.
    pub dead_letters: DeadLetters,
    /// Whether no other stream writes those of its source.
    pub keeps_dead: bool,
    /// Its source's topic as it was found.
    pub inputs: Inputs,
    /// What was committed before.
    pub progress: Option<Progress>,
    /// Its ledger, opened; taken by the worker that owns the sink. `None` where the stream is not at home.
    pub ledger: Mutex<Option<Box<dyn Ledger>>>,
    /// Where it reads.
    pub connect: Arc<dyn Connect>,
    /// What decodes its records.
    pub decoder: Decoder,
    /// The wind that steers its rain.
    pub steering: Option<BesidePlan>,
    /// What runs its model; `None` where the stream is not at home.
    pub device: Option<Device>,
    /// What runs the models that answer where there is no time for its own.
    pub stand_ins: BTreeMap<StandIn, Device>,
    /// What was decided in the run that is replayed.
    pub recorded: Option<Arc<Recorded>>,
    /// Where its decisions are kept.
    pub keeper: Keeper,
    /// What the first transaction forgets: decisions of before a reset.
    pub stale: Vec<Outgoing>,
    /// What publishes its forecasts.
    pub publisher: Publisher,
    /// Who is told what is committed, and where forecasts lie, if they are verified.
    pub handover: Option<(Arc<Handover>, Whereabouts)>,
    /// How long it waits for what is under way once it is asked to stop.
    pub stop_within: Duration,
    /// How it ends, how far it is, where it is at home.
    pub context: StreamContext,
}

/// A further source of a stream.
pub struct BesidePlan {
    /// The stream, with this source in place of its own.
    pub stream: config::StreamConfig,
    /// The source's topic as it was found.
    pub inputs: Inputs,
    /// What decodes its records.
    pub decoder: Decoder,
    /// Whether nobody else writes its dead letters.
    pub keeps_dead: bool,
}

/// The shape of a stream's windows.
pub fn window_config(stream: &config::StreamConfig) -> WindowConfig {
    WindowConfig {
        frames: stream.window_frames,
        cadence: stream.source.cadence,
        patience_ms: stream.patience.as_millis() as i64,
        horizon_ms: stream.horizon.as_millis() as i64,
    }
}

/// A duration as progress has it, to the millisecond: windows know no finer one. Whole seconds are written as they were
/// when all were cut to them.
fn seconds(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        ms => format!("{ms} ms"),
    }
}

/// The settings that a stream's progress rests on: with others, its positions and windows would mean something else.
/// What a source makes of its records is among them, since a restart reads again what the windows hold: with another
/// quality control a window that has fired would lose frames, or have more, and a revision of its forecast would differ
/// by more than what came late.
pub fn progress_settings(stream: &config::StreamConfig) -> BTreeMap<String, String> {
    let source = &stream.source;
    let variables: Vec<String> = source.variables.iter().map(|v| v.standard_name().to_owned()).collect();
    let config::QualityConfig { range: [lowest, highest], max_missing, spikes, stale } = source.quality;
    let ZRelation { a, b } = source.z_relation;
    let settings = [
        ("source.topic", source.topic.to_string()),
        ("source.variables", variables.join(" ")),
        ("source.cadence", format!("{} s", source.cadence.step_seconds())),
        ("source.grid", source.grid.as_ref().map_or("of the first frame".to_owned(), |grid| format!("{grid:?}"))),
        ("source.future_tolerance", seconds(source.future_tolerance)),
        ("source.z_relation", format!("{a} R^{b}")),
        ("source.quality.range", format!("{lowest} to {highest}")),
        ("source.quality.max_missing", max_missing.to_string()),
        ("source.quality.spikes", spikes.map_or("none".to_owned(), |spikes| spikes.to_string())),
        ("source.quality.stale", stale.map_or("none".to_owned(), |stale| stale.to_string())),
        ("window_frames", stream.window_frames.to_string()),
        ("patience", seconds(stream.patience)),
        ("horizon", seconds(stream.horizon)),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What a stream accepts of its source.
pub fn quality_config(stream: &config::StreamConfig) -> QualityConfig {
    let source = &stream.source;
    let config::QualityConfig { range, max_missing, spikes, stale } = source.quality;
    QualityConfig {
        source: source.name.clone(),
        variables: source.variables.clone(),
        cadence: source.cadence,
        future_tolerance_seconds: source.future_tolerance.as_secs() as i64,
        range: (range[0], range[1]),
        spikes,
        max_missing,
        stale,
        memory_ms: window_config(stream).memory_ms(),
        grid: source.grid.clone(),
    }
}

/// What a stream asks of its model, in full.
pub fn infer_config(stream: &config::StreamConfig) -> InferConfig {
    InferConfig {
        stream: stream.name.clone(),
        leads: stream.lead_times(),
        members: stream.members,
        max_alive: FORECASTS_ALIVE,
        rules: Rules::Clean,
    }
}

/// What the machine's clock decides about a stream: live what it is set to, in a replay nothing, or what was recorded.
fn rules(plan: &StreamPlan) -> Rules {
    let stream = &plan.stream;
    match (&plan.recorded, plan.inputs.clock) {
        (Some(recorded), _) => Rules::Recorded(recorded.clone()),
        (None, Clock::Log { .. }) => Rules::Clean,
        (None, Clock::Wall { .. }) => Rules::Live(Live {
            deadline: stream.deadline,
            ladder: Ladder {
                rungs: stream.degrade.clone(),
                min_steps: stream.min_steps,
                min_members: stream.min_members,
            },
            skip_older_than: stream.skip_older_than,
        }),
    }
}

/// Where a stream's records go.
pub fn encode_config(instance: &Arc<str>, stream: &config::StreamConfig) -> EncodeConfig {
    let (products, fields) = (stream.products.to_make(), &stream.topics.fields);
    let topics = products.topics().into_iter().map(|role| (role.setting, fields[role.setting].clone()));
    EncodeConfig { instance: instance.clone(), index: stream.topics.index.clone(), topics: topics.collect() }
}

fn source_config(stream: &config::StreamConfig, inputs: &Inputs, recorded: Option<&Arc<Recorded>>) -> SourceConfig {
    let source = &stream.source;
    let step = Duration::from_secs(source.cadence.step_seconds() as u64);
    // Time that runs ahead by a slot and half the patience makes no frame late that comes within the other half.
    let disorder = (stream.patience / 2).max(UNREST);
    SourceConfig {
        topic: source.topic.clone(),
        topic_id: inputs.topic_id.clone(),
        stamped_by_broker: inputs.stamped_by_broker,
        partitions: inputs.partitions.clone(),
        on_lost: source.on_lost_position,
        clock: inputs.clock,
        read_ahead: step * SLOTS_AHEAD,
        jump: step + disorder,
        disorder,
        sources: 1,
        max_record_bytes: source.max_record_bytes,
        first_holder: 0,
        recorded: recorded.cloned(),
    }
}

/// The worker that has the windows, the model and the ledger of a stream: in the next process for each next stream, and
/// there on the next worker.
///
/// ```
/// use squall_pipeline::graph::home;
/// // Two processes of two workers each; those of process 0 are 0 and 1.
/// assert_eq!([0, 1, 2, 3, 4].map(|stream| home(stream, 2, 2)), [0, 2, 1, 3, 0]);
/// ```
pub fn home(stream: usize, workers: usize, processes: usize) -> usize {
    (stream % processes) * workers + (stream / processes) % workers
}

/// What the sink, on the home worker, must know of the records that were read.
fn passed_of<'scope>(
    records: &StreamVec<'scope, Tick, Local<Arrived>>,
    home: u64,
) -> StreamVec<'scope, Tick, Local<Note>> {
    let passed = records.clone().flat_map(|Local(arrived)| Passed::of(&arrived)).exchange(move |_| home);
    passed.map(|passed| Local(Note::Passed(passed)))
}

/// The progress from which a source reads everything again, as if for the first time.
fn again(progress: &Progress) -> Progress {
    let position = |position: &Position| Position { next: position.rewind, ..position.clone() };
    let positions = progress.positions.iter().map(position).collect();
    Progress { frontier: Default::default(), positions, ..progress.clone() }
}

/// The frames of a further source, each by itself, and its dead letters if nobody else writes them; what a frame was is
/// remembered for so many milliseconds at least.
fn alone<'scope>(
    records: StreamVec<'scope, Tick, Local<Arrived>>,
    BesidePlan { stream, decoder, keeps_dead, .. }: &BesidePlan,
    memory_ms: i64,
    context: StreamContext,
) -> (StreamVec<'scope, Tick, Local<Windowed>>, StreamVec<'scope, Tick, Local<Note>>) {
    let keeps_dead = *keeps_dead;
    let mut accepted = quality_config(stream);
    accepted.memory_ms = accepted.memory_ms.max(memory_ms);
    let decoded = decode(records, decoder.clone(), context.clone());
    let shape = WindowConfig { frames: 1, ..window_config(stream) };
    let frames = window(decoded, accepted, shape, context, None);
    let dead = frames.clone().flat_map(move |Local(windowed)| match windowed {
        Windowed::Dead(letter) if keeps_dead => Some(Local(Note::Dead(letter))),
        _ => None,
    });
    (frames, dead)
}

/// The winds that the windows of a stream may take.
fn winds_core(stream: &config::StreamConfig, progress: Option<&Progress>) -> Winds {
    let max_age = stream.inputs.steering.as_ref().map_or(0, |steering| steering.max_age.as_secs() as i64);
    Winds::new(max_age, window_config(stream).revised_ms(), progress)
}

/// Records that lie before all times.
fn stale<'scope>(scope: Scope<'scope, Tick>, records: &[Outgoing]) -> StreamVec<'scope, Tick, Local<Note>> {
    (!records.is_empty()).then(|| Local(Note::Records(records.to_vec()))).to_stream(scope)
}

/// Wires the dataflow of a stream on a worker.
pub fn build(worker: &mut Worker, plan: &StreamPlan) {
    let index = worker.index();
    let context = || plan.context.clone();
    let progress = plan.progress.as_ref();
    let mut accepted = quality_config(&plan.stream);
    accepted.grid = accepted.grid.or_else(|| progress.and_then(|p| p.state.grid.clone()).map(Arc::new));
    let is_home = index == plan.context.home;
    let ledger = is_home.then(|| plan.ledger.lock().unwrap_or_else(PoisonError::into_inner).take()).flatten();
    let keep_dead = plan.keeps_dead;
    let (handover, whereabouts) = plan.handover.clone().unzip();
    let core = SinkCore::new(plan.dead_letters.clone(), progress).keeping(plan.keeper.clone()).telling(whereabouts);
    worker.dataflow_named::<Tick, _, _>(&format!("stream {}", plan.context.name), |scope| {
        let probe = ProbeHandle::new();
        let sources = 1 + usize::from(plan.steering.is_some());
        let reading = SourceConfig { sources, ..source_config(&plan.stream, &plan.inputs, plan.recorded.as_ref()) };
        let records = source(scope, reading, progress, plan.connect.clone(), context(), probe.clone());
        let home = plan.context.home as u64;
        let passed = passed_of(&records, home);
        let decoded = decode(records, plan.decoder.clone(), context());
        let shape = window_config(&plan.stream);
        let mut windows = window(decoded, accepted, shape, context(), progress.filter(|_| is_home));
        let mut beside = Vec::new();
        let mut holders = 0;
        if let Some(steering) = &plan.steering {
            let reading = SourceConfig {
                first_holder: scope.peers(),
                sources,
                ..source_config(&steering.stream, &steering.inputs, plan.recorded.as_ref())
            };
            holders = scope.peers();
            let again = again(&progress.cloned().unwrap_or_default());
            let records = source(scope, reading, Some(&again), plan.connect.clone(), context(), probe.clone());
            let committed = progress.map_or(0, |progress| progress.frontier.unix_ms());
            beside.push(since(passed_of(&records, home), committed));
            let (winds, dead) = alone(records, steering, 0, context());
            beside.push(since(dead, committed));
            let steered = steer(windows, winds, winds_core(&plan.stream, progress), context());
            // While winds are read again, what is to be read again is as it was committed.
            windows = since(steered, committed);
        }
        let said = windows.clone().flat_map(move |Local(windowed)| match windowed {
            Windowed::Dead(letter) => keep_dead.then_some(Local(Note::Dead(letter))),
            Windowed::Mark(mark) => Some(Local(Note::Mark(mark))),
            Windowed::Fired(_) | Windowed::Observed(_) => None,
        });
        let asked = InferConfig { rules: rules(plan), ..infer_config(&plan.stream) };
        let forecasts = infer(windows, asked, plan.device.clone(), plan.stand_ins.clone(), context());
        let published = publish(forecasts, plan.publisher.clone(), context());
        let published = verification::counted(published, &plan.context.budget);
        let notes = beside.into_iter().fold(passed.concat(said).concat(published), Concat::concat);
        let notes = notes.concat(stale(scope, if is_home { &plan.stale } else { &[] }));
        let config = SinkConfig { stop_within: plan.stop_within, holders, handover: handover.clone() };
        sink(notes, config, core, ledger, context()).probe_with(&probe);
    });
}
