//! The dataflow of one stream, wired.
//!
//! Each stream is a dataflow of its own, from its source to its ledger: a slow model holds back nothing but itself,
//! and a restart rewinds one stream without touching another. Two streams of one source read it twice, which costs a
//! second decoding and buys that independence. Dead letters of a source are written by the first of its streams.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use squall_operators::Tick;
use squall_operators::control::Control;
use squall_operators::decode::{Decoder, decode};
use squall_operators::encode::EncodeConfig;
use squall_operators::infer::device::Device;
use squall_operators::infer::{InferConfig, infer};
use squall_operators::local::Local;
use squall_operators::note::Note;
use squall_operators::ports::{Connect, Ledger, PartitionId};
use squall_operators::progress::Progress;
use squall_operators::publish::{Publisher, publish};
use squall_operators::quality::{Checked, QualityConfig, quality};
use squall_operators::sink::{SinkCore, sink};
use squall_operators::source::{Arrived, Clock, SourceConfig, owner, source};
use squall_operators::window::{WindowConfig, Windowed, window};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Probe};
use timely::worker::Worker;

use crate::config;

/// Forecasts of one stream that may be in memory at once: one being made, one being published, one waiting.
const FORECASTS_ALIVE: usize = 3;
/// Slots that a source may be read ahead of what is committed.
const SLOTS_AHEAD: u32 = 12;

/// Everything that the dataflow of one stream needs, on any worker.
pub struct StreamPlan {
    /// The stream.
    pub stream: config::StreamConfig,
    /// Its source.
    pub source: config::SourceConfig,
    /// Name of the instance.
    pub instance: Arc<str>,
    /// Topic of dead letters; `None` if another stream of the source writes them.
    pub dead_letters: Option<Arc<str>>,
    /// Partitions of the source's topic.
    pub partitions: Vec<PartitionId>,
    /// Where its time comes from.
    pub clock: Clock,
    /// Bytes in flight on all workers.
    pub max_bytes_in_flight: u64,
    /// What was committed before.
    pub progress: Option<Progress>,
    /// Its ledger, opened; taken by the worker that owns the sink.
    pub ledger: Mutex<Option<Box<dyn Ledger>>>,
    /// Where it reads.
    pub connect: Arc<dyn Connect>,
    /// What decodes its records.
    pub decoder: Decoder,
    /// What runs its model.
    pub device: Device,
    /// What runs its fallback when the deadline passes.
    pub fallback: Option<Device>,
    /// What publishes its forecasts.
    pub publisher: Publisher,
    /// How it ends.
    pub control: Arc<Control>,
}

/// The shape of a stream's windows.
pub fn window_config(stream: &config::StreamConfig, source: &config::SourceConfig) -> WindowConfig {
    WindowConfig {
        frames: stream.window_frames,
        cadence: source.cadence,
        patience_ms: stream.patience.as_millis() as i64,
        horizon_ms: stream.horizon.as_millis() as i64,
    }
}

/// What a stream accepts of its source.
pub fn quality_config(stream: &config::StreamConfig, source: &config::SourceConfig) -> QualityConfig {
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
        memory_ms: window_config(stream, source).memory_ms(),
        grid: source.grid.clone(),
    }
}

/// What a stream asks of its model.
pub fn infer_config(stream: &config::StreamConfig, source: &config::SourceConfig) -> InferConfig {
    InferConfig {
        stream: stream.name.clone(),
        leads: stream.lead_times(source.cadence),
        members: stream.members,
        max_alive: FORECASTS_ALIVE,
        deadline: stream.deadline,
    }
}

/// Where a stream's records go.
pub fn encode_config(instance: &Arc<str>, stream: &config::StreamConfig) -> EncodeConfig {
    let (products, fields) = (stream.products.to_make(), &stream.topics.fields);
    let topics = products.topics().into_iter().map(|role| (role.setting, fields[role.setting].clone()));
    EncodeConfig { instance: instance.clone(), index: stream.topics.index.clone(), topics: topics.collect() }
}

fn source_config(plan: &StreamPlan, workers: usize) -> SourceConfig {
    SourceConfig {
        stream: plan.stream.name.clone(),
        partitions: plan.partitions.clone(),
        clock: plan.clock,
        read_ahead: Duration::from_secs(plan.source.cadence.step_seconds() as u64) * SLOTS_AHEAD,
        max_bytes_in_flight: plan.max_bytes_in_flight / workers as u64,
        max_record_bytes: plan.source.max_record_bytes,
    }
}

/// Wires the dataflow of a stream on a worker.
pub fn build(worker: &mut Worker, plan: &StreamPlan) {
    let (index, workers) = (worker.index(), worker.peers());
    // Windows, model and ledger of a stream are on one worker; another stream's are on another.
    let home = owner(&plan.stream.name, u64::MAX / 2, workers);
    let progress = plan.progress.as_ref();
    let control = || plan.control.clone();
    let name = plan.stream.name.clone();
    let mut accepted = quality_config(&plan.stream, &plan.source);
    accepted.grid = accepted.grid.or_else(|| progress.and_then(|p| p.state.grid.clone()).map(Arc::new));
    let ledger = (index == home).then(|| plan.ledger.lock().unwrap_or_else(PoisonError::into_inner).take()).flatten();
    let dead_letters = plan.dead_letters.clone();
    let keep_dead = dead_letters.is_some();
    let core = SinkCore::new(dead_letters.unwrap_or_else(|| "".into()), progress);
    worker.dataflow_named::<Tick, _, _>(&format!("stream {name}"), |scope| {
        let probe = ProbeHandle::new();
        let reading = source_config(plan, workers);
        let records = source(scope, reading, progress, plan.connect.clone(), control(), probe.clone());
        let passed = records.clone().flat_map(|Local(arrived)| passed(&arrived).map(Local));
        let decoded = decode(records, plan.decoder.clone());
        let checked = quality(decoded, accepted, name.clone(), home, control());
        let dead = checked.clone().flat_map(move |Local(checked)| match checked {
            Checked::Dead(letter) if keep_dead => Some(Local(Note::Dead(letter))),
            _ => None,
        });
        let shape = window_config(&plan.stream, &plan.source);
        // What was open is open again on the home worker alone: elsewhere it would fire without its frames.
        let open = progress.filter(|_| index == home);
        let windows = window(checked, shape, name.clone(), open, control());
        let marks = windows.clone().flat_map(|Local(windowed)| match windowed {
            Windowed::Mark(mark) => Some(Local(Note::Mark(mark))),
            Windowed::Fired(_) => None,
        });
        let asked = infer_config(&plan.stream, &plan.source);
        let forecasts = infer(windows, asked, plan.device.clone(), plan.fallback.clone(), control());
        let published = publish(forecasts, plan.publisher.clone(), name.clone(), control());
        let notes = passed.concat(dead).concat(marks).concat(published);
        sink(notes, name.clone(), core, ledger, home, control()).probe_with(&probe);
    });
}

fn passed(arrived: &Arrived) -> Option<Note> {
    let Arrived { record, at, decided, refill, .. } = arrived;
    let passed = || Note::Passed {
        partition: record.partition.clone(),
        offset: record.offset,
        known_at: *at,
        decided: *decided,
    };
    (!refill).then(passed)
}
