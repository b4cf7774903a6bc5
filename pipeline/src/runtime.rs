//! Starts a configuration and ends it.
//!
//! Before anything runs, everything that can be wrong is tried: topics, models, ledgers. Then the timely workers
//! start, each with every stream's dataflow. A stream that fails stops the others, cleanly; whoever started the
//! program is told why.

mod monitor;
mod processes;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use squall_connectors::isolate::{Format, IsolatedDecoder};
use squall_connectors::netcdf::{NetcdfDecoder, NetcdfEncoder, WriteOptions};
use squall_connectors::odim::OdimDecoder;
use squall_fields::{Chain, ErrorKind, Failure};
use squall_operators::decisions::{Keeper, Recorded};
use squall_operators::decode::{Decoder, SharedFrames};
use squall_operators::infer::device::Device;
use squall_operators::ports::{
    Connect, FieldStore, ForecastEncoder, FrameDecoder, Ledger, LedgerError, LogError, Opening,
};
use squall_operators::publish::Publisher;
use squall_operators::quality::Cleaner;
use squall_operators::retry::Backoff;
use squall_operators::source::Clock;
use squall_operators::source::budget::Budget;
use squall_operators::stream::StreamContext;

use crate::archive::read_options;
use crate::cluster::{Hosts, Opened};
use crate::config::{Config, SourceConfig, StreamConfig};
use crate::devices::{self, Devices, ModelFactory};
use crate::graph::{self, StreamPlan};
use crate::inputs::{self, Inputs};
use crate::{topics, watch};

use self::processes::Processes;

pub use self::monitor::{Handle, Monitor};

/// How long the start waits for a broker that is away or loading.
const START: Duration = Duration::from_secs(120);
/// Bytes of decoded values that the streams of one source keep for each other, at most.
const SHARED_BYTES: u64 = 128 << 20;
/// How long a stream that is asked to stop waits for what is under way.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Makes the decoders for the records of a source.
pub type DecoderFactory = dyn Fn(&SourceConfig) -> Vec<Arc<dyn FrameDecoder>>;

/// What a runtime is made of; [`Parts::new`] takes the usual ones.
pub struct Parts {
    /// The log.
    pub connect: Arc<dyn Connect>,
    /// The store of fields.
    pub store: Arc<dyn FieldStore>,
    /// Decoders for the records of a source.
    pub decoders: Box<DecoderFactory>,
    /// Writes forecasts as files.
    pub encoder: Arc<dyn ForecastEncoder>,
    /// Makes models.
    pub models: Box<ModelFactory>,
    /// Streams that forget their progress.
    pub reset: BTreeSet<Arc<str>>,
    /// Of a replay: the instance whose decisions are repeated, of those on the topic of progress; `None` ignores them.
    pub as_recorded: Option<String>,
    /// The processes that this one is one of; `None` for one that runs by itself.
    pub hosts: Option<Hosts>,
    /// Waits between two tries of what the start needs, and says whether to go on.
    pub pause: Box<dyn Fn(Duration) -> bool>,
}

impl Parts {
    /// CF-NetCDF in and out, and the models that a configuration can name.
    pub fn new(config: &Config, connect: Arc<dyn Connect>, store: Arc<dyn FieldStore>) -> Self {
        Self {
            connect,
            store,
            decoders: Box::new(decoders),
            encoder: encoder(config),
            models: Box::new(devices::model),
            reset: BTreeSet::new(),
            as_recorded: None,
            hosts: None,
            pause: Box::new(|wait| {
                std::thread::sleep(wait);
                true
            }),
        }
    }
}

/// Decoders for the records of a source.
pub fn decoders(source: &SourceConfig) -> Vec<Arc<dyn FrameDecoder>> {
    let options = read_options(source);
    vec![Arc::new(NetcdfDecoder::new(options.clone())), Arc::new(OdimDecoder::new(options))]
}

/// The same, each in a helper process: a hostile file costs a record and not the program. Only for a program whose
/// `main` calls [`squall_connectors::isolate::run_if_helper`] first.
pub fn isolated_decoders(source: &SourceConfig) -> Vec<Arc<dyn FrameDecoder>> {
    let decoder = |format| Arc::new(IsolatedDecoder::new(format, read_options(source))) as Arc<dyn FrameDecoder>;
    vec![decoder(Format::Netcdf), decoder(Format::Odim)]
}

/// What writes the files of forecasts.
pub fn encoder(config: &Config) -> Arc<dyn ForecastEncoder> {
    Arc::new(NetcdfEncoder::new(WriteOptions { institution: config.name.to_string(), ..WriteOptions::default() }))
}

/// What publishes the forecasts of a stream.
pub fn publisher(
    instance: &Arc<str>,
    stream: &StreamConfig,
    store: Arc<dyn FieldStore>,
    encoder: Arc<dyn ForecastEncoder>,
) -> Publisher {
    Publisher {
        products: stream.products.to_make(),
        encode: graph::encode_config(instance, stream),
        files: (store, encoder),
    }
}

/// Starts configurations.
pub struct Runtime;

impl Runtime {
    /// Starts a configuration on a log and a store, and returns once it runs.
    ///
    /// # Errors
    /// Topics are missing, a model does not fit, another instance cannot be fenced, the broker stays away.
    pub fn start(config: &Config, connect: Arc<dyn Connect>, store: Arc<dyn FieldStore>) -> anyhow::Result<Handle> {
        Self::start_with(config, Parts::new(config, connect, store))
    }

    /// Starts a configuration from parts.
    ///
    /// # Errors
    /// As [`Runtime::start`].
    pub fn start_with(config: &Config, parts: Parts) -> anyhow::Result<Handle> {
        let deadline = Instant::now() + START;
        // First what needs nobody: a model that does not fit leaves no topics behind.
        let processes = Processes::new(config, &parts);
        let at_home = config.streams.iter().enumerate().filter(|(number, _)| processes.is_home(*number));
        let at_home: Vec<&StreamConfig> = at_home.map(|(_, stream)| stream).collect();
        let devices = devices::start(&at_home, &*parts.models)?;
        let mut processes = processes.meet(config, &parts, deadline)?;
        start(config, &parts, devices, &mut processes, deadline).inspect_err(|error| {
            processes.leave(Some(Chain(error.as_ref()).to_string()));
        })
    }
}

/// Opens every stream, and starts the workers.
fn start(
    config: &Config,
    parts: &Parts,
    devices: Devices,
    processes: &mut Processes,
    deadline: Instant,
) -> anyhow::Result<Handle> {
    processes.prepare(deadline, parts, || {
        retry(parts, deadline, "preparing topics", || topics::ensure(config, &*parts.connect))
    })?;
    let mut ledgers = BTreeMap::new();
    for stream in config.streams.iter().enumerate().filter(|(number, _)| processes.is_home(*number)).map(|(_, s)| s) {
        let (opened, ledger) = open(config, stream, parts, deadline)?;
        processes.tell_opened(&stream.name, &opened);
        ledgers.insert(stream.name.clone(), (opened, ledger));
    }
    let shared = shared_frames(config);
    let mut plans = Vec::new();
    for (number, stream) in config.streams.iter().enumerate() {
        let (opened, ledger) = match ledgers.remove(&stream.name) {
            Some((opened, ledger)) => (opened, Some(ledger)),
            None => (processes.await_opened(&stream.name, deadline, parts)?, None),
        };
        let device = match ledger {
            Some(_) => Some(devices.threads.get(&stream.device).context("every stream has a device")?.clone()),
            None => None,
        };
        let base = Base { config, parts, shared: &shared, deadline, processes };
        let plan = plan(&base, number, opened, ledger, device)?;
        if let Some(device) = &plan.device {
            let has_model = !devices.without_model.contains(&stream.name);
            watch::start(stream, config.runtime.clock, device.clone(), plan.context.control.clone(), has_model)?;
        }
        plans.push(plan);
    }
    let streams: Vec<_> = plans.iter().map(|plan| plan.context.clone()).collect();
    for stream in &streams {
        let others = streams.iter().filter(|other| other.name != stream.name);
        stream.control.link(others.map(|other| Arc::downgrade(&other.control)).collect());
    }
    let stand_ins = plans.iter().flat_map(|plan| plan.stand_ins.values().cloned()).collect::<Vec<_>>();
    let devices = devices.threads.into_values().chain(stand_ins).collect();
    let abandoned = Arc::new(AtomicBool::new(false));
    processes.attach(&streams, &abandoned);
    let (place, goodbye) = (processes.place(), processes.goodbye());
    let monitor = Arc::new(Monitor { streams: streams.clone(), devices });
    let workers = workers::run(config.runtime.workers, place, abandoned, streams, move |worker| {
        for plan in &plans {
            graph::build(worker, plan);
        }
    })?;
    let watched = monitor.clone();
    let supervisor = std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        let lost = workers.join().into_iter();
        let lost = lost.map(|error| Failure::new(ErrorKind::Internal, "a worker died").because(error));
        let ended = monitor::together(watched.failures().chain(lost).collect());
        goodbye(ended.as_ref().err());
        ended
    })?;
    Ok(Handle { monitor, supervisor })
}

/// What the plans of all streams rest on.
struct Base<'a> {
    config: &'a Config,
    parts: &'a Parts,
    shared: &'a BTreeMap<Arc<str>, Arc<SharedFrames>>,
    deadline: Instant,
    processes: &'a Processes,
}

/// Everything that one stream needs, with its ledger and its device where it is at home.
fn plan(
    base: &Base<'_>,
    number: usize,
    opened: Opened,
    ledger: Option<Box<dyn Ledger>>,
    device: Option<Device>,
) -> anyhow::Result<StreamPlan> {
    let Base { config, parts, shared, deadline, processes } = base;
    let stream = &config.streams[number];
    let source = &stream.source;
    let first = config.streams.iter().find(|s| s.source.name == source.name);
    let writes_dead = ledger.is_some() && first.is_some_and(|first| first.name == stream.name);
    let Opened { progress, inputs } = opened;
    let budget = config.runtime.max_bytes_in_flight / (config.streams.len().max(1) * processes.count()) as u64;
    let recorded = recorded(config, stream, parts, *deadline)?;
    let may_stand_in = recorded.is_some() || (stream.deadline.is_some() && matches!(inputs.clock, Clock::Wall { .. }));
    let may_stand_in = may_stand_in && device.is_some();
    let stand_ins = if may_stand_in { devices::start_stand_ins(stream)? } else { BTreeMap::new() };
    let cleaner = Cleaner::new(&graph::quality_config(stream));
    let decoder = Decoder::new((parts.decoders)(source), Some(parts.store.clone()), source.max_record_bytes, cleaner);
    let decoder = match shared.get(&source.name) {
        Some(frames) => decoder.sharing(frames.clone()),
        None => decoder,
    };
    Ok(StreamPlan {
        stream: stream.clone(),
        instance: config.name.clone(),
        dead_letters: if writes_dead { Some(topics::dead_letters(config, &*parts.connect)?) } else { None },
        inputs,
        progress: Some(progress),
        ledger: Mutex::new(ledger),
        connect: parts.connect.clone(),
        decoder,
        device,
        stand_ins,
        recorded: recorded.map(Arc::new),
        keeper: Keeper::new(config.topics.progress.clone(), &config.name, &stream.name),
        publisher: publisher(&config.name, stream, parts.store.clone(), parts.encoder.clone()),
        stop_within: STOP_WITHIN,
        context: StreamContext {
            budget: Budget::new(budget).into(),
            ..StreamContext::new(stream.name.clone(), processes.home(number))
        },
    })
}

/// For each source that several streams read, what they share of its records.
fn shared_frames(config: &Config) -> BTreeMap<Arc<str>, Arc<SharedFrames>> {
    let mut streams: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for stream in &config.streams {
        *streams.entry(stream.source.name.clone()).or_default() += 1;
    }
    let shared = streams.into_iter().filter(|(_, streams)| *streams > 1);
    let bytes = SHARED_BYTES.min(config.runtime.max_bytes_in_flight / 8) as usize;
    shared.map(|(source, streams)| (source, SharedFrames::new(streams, bytes).into())).collect()
}

/// What was decided about a stream in the run that is to be repeated.
fn recorded(
    config: &Config,
    stream: &StreamConfig,
    parts: &Parts,
    deadline: Instant,
) -> anyhow::Result<Option<Recorded>> {
    let Some(instance) = &parts.as_recorded else { return Ok(None) };
    let keeper = Keeper::new(config.topics.progress.clone(), instance, &stream.name);
    let kept = retry(parts, deadline, "reading decisions", || {
        Ok(parts.connect.kept(&config.topics.progress, keeper.prefix())?)
    })?;
    let values = kept.iter().map(|(_, value)| &**value);
    let recorded = Recorded::read(values)
        .map_err(|error| LedgerError::progress(instance, error))
        .with_context(|| format!("the decisions of stream {}", stream.name))?;
    tracing::info!(stream = &*stream.name, instance, decisions = recorded.len(), "repeats what was decided");
    Ok(Some(recorded))
}

/// Looks at a stream's source and opens its ledger: fences whoever had it, and reads what is committed.
fn open(
    config: &Config,
    stream: &StreamConfig,
    parts: &Parts,
    deadline: Instant,
) -> anyhow::Result<(Opened, Box<dyn Ledger>)> {
    let look = || inputs::look(config, &stream.source, &*parts.connect);
    let inputs: Inputs = retry(parts, deadline, "asking for partitions", look)?;
    let settings = graph::progress_settings(stream);
    let opening = Opening { settings: &settings, reset: parts.reset.contains(&stream.name) };
    let (ledger, progress) = retry(parts, deadline, "opening a ledger", || {
        let mut ledger = parts.connect.ledger(&ledger_name(config, stream), &config.topics.progress)?;
        let progress = ledger.open(&opening)?;
        Ok((ledger, progress))
    })
    .with_context(|| format!("the ledger of stream {}", stream.name))?;
    let check = || inputs::check(stream, progress.clone(), &*parts.connect);
    let progress = retry(parts, deadline, "asking for offsets", check)?;
    if !progress.positions.is_empty() {
        tracing::info!(stream = &*stream.name, frontier = %progress.frontier, "going on from what is committed");
    }
    Ok((Opened { progress, inputs }, ledger))
}

/// The name of a stream's ledger: instances may share a broker, a progress topic, and the names of their streams.
pub fn ledger_name(config: &Config, stream: &StreamConfig) -> String {
    format!("{}/{}", config.name, stream.name)
}

/// Tries again while the broker is away, until a deadline, or until `parts` say that nobody waits any more.
fn retry<T>(
    parts: &Parts,
    deadline: Instant,
    what: &str,
    call: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let passes = |error: &anyhow::Error| {
        let passes = error.downcast_ref().is_some_and(LogError::is_retriable)
            || error.downcast_ref().is_some_and(LedgerError::is_retriable);
        if passes {
            tracing::warn!(error = %Chain(error.as_ref()), "{what} failed; trying again");
        }
        passes
    };
    let pause = |wait| Instant::now() < deadline && (parts.pause)(wait);
    let backoff = Backoff { first: Duration::from_millis(500), most: Duration::from_secs(2) };
    squall_operators::retry::retry(backoff, pause, passes, call)
}

#[cfg(test)]
mod tests;
