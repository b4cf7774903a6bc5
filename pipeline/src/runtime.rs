//! Starts a configuration and ends it.
//!
//! Before anything runs, everything that can be wrong is tried: topics, models, ledgers. Then the timely workers
//! start, each with every stream's dataflow. A stream that fails stops the others, cleanly; whoever started the
//! program is told why.

mod monitor;
mod processes;
mod reading;
mod room;
mod verification;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use squall_connectors::isolate::{Format, IsolatedDecoder};
use squall_connectors::netcdf::{NetcdfDecoder, NetcdfEncoder, NetcdfForecasts, WriteOptions};
use squall_connectors::odim::OdimDecoder;
use squall_connectors::options::Limits;
use squall_connectors::progress::read_progress;
use squall_connectors::store::ScratchFiles;
use squall_fields::{Chain, ErrorKind, Failure, KnowledgeTime};
use squall_operators::dead_letter::DeadLetters;
use squall_operators::decisions::{Keeper, Recorded};
use squall_operators::decode::{Decoder, SharedFrames};
use squall_operators::infer::device::Device;
use squall_operators::kept;
use squall_operators::offload::Aside;
use squall_operators::ports::{
    Connect, FieldStore, ForecastDecoder, ForecastEncoder, FrameDecoder, Ledger, LedgerError, LogError, Opening,
    Outgoing, Scratch,
};
use squall_operators::publish::Publisher;
use squall_operators::quality::Cleaner;
use squall_operators::retry::Backoff;
use squall_operators::source::Clock;
use squall_operators::source::budget::Budget;
use squall_operators::stream::StreamContext;

use crate::archive::read_options;
use crate::cluster::{Hosts, Opened};
use crate::config::{Config, SourceConfig, SteeringConfig, StreamConfig};
use crate::devices::{self, Devices, ModelFactory};
use crate::graph::{self, BesidePlan, StreamPlan};
use crate::inputs::{self, Inputs};
use crate::{scratch, topics, watch};

use self::processes::Processes;
use self::room::{budget, shared_frames};

pub use self::monitor::{Handle, Monitor};
pub use self::reading::read_to_end;
use self::verification::Companions;

/// How long the start waits for a broker that is away or loading.
const START: Duration = Duration::from_secs(120);
/// Most bytes of the file of a forecast.
pub const LARGEST_FILE: u64 = 4 << 30;
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
    /// Reads these files.
    pub forecasts: Arc<dyn ForecastDecoder>,
    /// Room for what need not outlive the program.
    pub scratch: Arc<dyn Scratch>,
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
            forecasts: forecasts(),
            scratch: Arc::new(ScratchFiles::made(config.store.scratch_folder())),
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

/// What reads the files of forecasts.
pub fn forecasts() -> Arc<dyn ForecastDecoder> {
    Arc::new(NetcdfForecasts { limits: Limits { max_bytes: LARGEST_FILE as usize, ..Limits::default() } })
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
        aside: Aside::default(),
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
        let devices = devices::start(&at_home, &*parts.models, &Aside::default())?;
        let companions = Companions::start(&at_home, &*parts.models)?;
        let mut processes = processes.meet(config, &parts, deadline)?;
        start(config, &parts, (devices, companions), &mut processes, deadline).inspect_err(|error| {
            processes.leave(Some(Chain(error.as_ref()).to_string()));
        })
    }
}

/// Opens every stream, and starts the workers.
fn start(
    config: &Config,
    parts: &Parts,
    (devices, companions): (Devices, Companions),
    processes: &mut Processes,
    deadline: Instant,
) -> anyhow::Result<Handle> {
    processes.prepare(deadline, parts, || {
        retry(parts, deadline, "preparing topics", || topics::ensure(config, &*parts.connect))
    })?;
    let mut ledgers = BTreeMap::new();
    for stream in config.streams.iter().enumerate().filter(|(number, _)| processes.is_home(*number)).map(|(_, s)| s) {
        let (opened, ledger) = open(config, stream, &of_stream(stream, parts), parts, deadline)?;
        processes.tell_opened(&stream.name, &opened);
        let verified = verification::open(config, stream, &opened, parts, deadline)?;
        if let Some((name, (opened, _))) = &verified {
            processes.tell_opened(name, opened);
        }
        ledgers.insert(stream.name.clone(), (opened, ledger));
        ledgers.extend(verified);
    }
    if config.streams.iter().any(|stream| stream.verification.is_some()) {
        scratch::warn_of_memory(&config.store.scratch_folder());
    }
    let shared = shared_frames(config);
    let (mut plans, mut verifications) = (Vec::new(), Vec::new());
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
        let mut plan = plan(&base, number, opened, ledger, device)?;
        if let Some(verified) = &stream.verification {
            let name = stream.scores_name();
            let (opened, ledger) = match ledgers.remove(&name) {
                Some((opened, ledger)) => (opened, Some(ledger)),
                None => (processes.await_opened(&name, deadline, parts)?, None),
            };
            let beside = verification::plan(&base, &mut plan, verified, &companions, opened, ledger)?;
            verifications.push(beside);
        }
        if let Some(device) = &plan.device {
            let has_model = !devices.without_model.contains(&stream.name);
            watch::start(stream, config.runtime.clock, device.clone(), plan.context.control.clone(), has_model)?;
        }
        plans.push(plan);
    }
    let beside = verifications.iter().map(|plan| &plan.context);
    let streams: Vec<_> = plans.iter().map(|plan| &plan.context).chain(beside).cloned().collect();
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
        for plan in &verifications {
            graph::build_verification(worker, plan);
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
    let Opened { progress, inputs, steering, is_new, .. } = opened;
    let keeper = Keeper::new(config.topics.progress.clone(), &config.name, &stream.name);
    // Of a stream that has begun anew what was decided before is about other forecasts.
    let begins_anew = is_new && ledger.is_some() && parts.reset.contains(&stream.name);
    let stale = if begins_anew { forgotten(base, &[&keeper])? } else { Vec::new() };
    let budget = budget(config, processes.count());
    // First how far that run has come: what it may decide later is about what lies behind.
    let until = repeated_until(config, &stream.name, parts, *deadline)?;
    let recorded = recorded(config, &stream.name, parts, *deadline)?;
    let may_stand_in = recorded.is_some() || (stream.deadline.is_some() && matches!(inputs.clock, Clock::Wall { .. }));
    let may_stand_in = may_stand_in && device.is_some();
    let stand_ins = if may_stand_in { devices::start_stand_ins(stream)? } else { BTreeMap::new() };
    let decoder = decoder(stream, parts, shared);
    let dead_letters = dead_letters(config, parts, *deadline)?;
    Ok(StreamPlan {
        stream: stream.clone(),
        instance: config.name.clone(),
        dead_letters,
        keeps_dead: writes_dead,
        inputs,
        progress: Some(progress),
        ledger: Mutex::new(ledger),
        connect: parts.connect.clone(),
        decoder,
        steering: beside(base, stream, Role::Steering, steering),
        device,
        stand_ins,
        recorded: recorded.map(Arc::new),
        keeper,
        stale,
        publisher: publisher(&config.name, stream, parts.store.clone(), parts.encoder.clone()),
        handover: None,
        stop_within: STOP_WITHIN,
        context: StreamContext {
            budget: Budget::new(budget).into(),
            until,
            ..StreamContext::new(stream.name.clone(), processes.home(number))
        },
    })
}

/// What a further source is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Its wind steers.
    Steering,
    /// The same, in the dataflow of the verification, which keeps none of its dead letters.
    SteeringAgain,
    /// Forecasts are compared with its frames.
    Truth,
}

/// A further source of a stream, whose topic was found like that; none where there is no such source.
fn beside(base: &Base<'_>, stream: &StreamConfig, role: Role, found: Option<Inputs>) -> Option<BesidePlan> {
    let of = |stream: &StreamConfig, role| match role {
        Role::Steering | Role::SteeringAgain => stream.inputs.steering.as_ref().map(|steering| steering.source.clone()),
        Role::Truth => stream.inputs.truth.clone(),
    };
    let (source, inputs) = of(stream, role).zip(found)?;
    let plan = beside_of(stream, &source, inputs, base.parts, base.shared);
    let stream = &plan.stream;
    // Its dead letters are written once: by a stream that forecasts it, else by one that it steers, else a verification.
    let streams = &base.config.streams;
    let first = |role| {
        let is_of = |other: &&StreamConfig| of(other, role).is_some_and(|source| source.name == stream.source.name);
        streams.iter().find(is_of).map(|first| (first.name.clone(), role))
    };
    let is_forecast = streams.iter().any(|other| other.source.name == stream.source.name);
    let keeper = first(Role::Steering).or_else(|| first(Role::Truth)).filter(|_| !is_forecast);
    let keeps_dead = keeper == Some((stream.name.clone(), role));
    Some(BesidePlan { keeps_dead, ..plan })
}

/// A further source of a stream, whose dead letters are kept by another.
fn beside_of(
    stream: &StreamConfig,
    source: &Arc<SourceConfig>,
    inputs: Inputs,
    parts: &Parts,
    shared: &BTreeMap<Arc<str>, Arc<SharedFrames>>,
) -> BesidePlan {
    let stream = StreamConfig { source: source.clone(), ..stream.clone() };
    let decoder = decoder(&stream, parts, shared);
    BesidePlan { stream, inputs, decoder, keeps_dead: false }
}

/// What decodes the records of a stream's source.
fn decoder(stream: &StreamConfig, parts: &Parts, shared: &BTreeMap<Arc<str>, Arc<SharedFrames>>) -> Decoder {
    let source = &stream.source;
    let cleaner = Cleaner::new(&graph::quality_config(stream));
    let decoder = Decoder::new((parts.decoders)(source), Some(parts.store.clone()), source.max_record_bytes, cleaner);
    match shared.get(&source.name) {
        Some(frames) => decoder.sharing(frames.clone()),
        None => decoder,
    }
}

/// What was decided about a stream in the run that is to be repeated.
fn recorded(config: &Config, name: &str, parts: &Parts, deadline: Instant) -> anyhow::Result<Option<Recorded>> {
    let Some(instance) = &parts.as_recorded else { return Ok(None) };
    let keeper = Keeper::new(config.topics.progress.clone(), instance, name);
    let recorded = decided(config, &keeper, parts, deadline)?;
    tracing::info!(stream = name, instance, decisions = recorded.len(), "repeats what was decided");
    Ok(Some(recorded))
}

/// How far a stream had come in the run that is to be repeated; 1970 if none is.
fn repeated_until(config: &Config, name: &str, parts: &Parts, deadline: Instant) -> anyhow::Result<KnowledgeTime> {
    let Some(instance) = &parts.as_recorded else { return Ok(KnowledgeTime::default()) };
    let (ledger, topic) = (format!("{instance}/{name}"), &config.topics.progress);
    let kept = retry(parts, deadline, "reading progress", || Ok(parts.connect.kept(topic, &ledger)?))?;
    let Some((_, value)) = kept.iter().find(|(key, _)| key[..] == *ledger.as_bytes()) else {
        tracing::warn!(stream = name, instance, topic = &**topic, "there is no progress of what is to be repeated");
        return Ok(KnowledgeTime::default());
    };
    Ok(read_progress(&ledger, value)?.frontier)
}

/// Everything that was decided about a stream.
fn decided(config: &Config, keeper: &Keeper, parts: &Parts, deadline: Instant) -> anyhow::Result<Recorded> {
    let kept = retry(parts, deadline, "reading decisions", || {
        Ok(parts.connect.kept(&config.topics.progress, keeper.prefix())?)
    })?;
    Recorded::read(kept.iter().map(|(_, value)| &**value))
        .map_err(|error| LedgerError::progress(keeper.prefix(), error))
        .context("what was decided")
}

/// The records that forget what was decided before.
fn forgotten(base: &Base<'_>, keepers: &[&Keeper]) -> anyhow::Result<Vec<Outgoing>> {
    let Base { config, parts, deadline, .. } = base;
    let topic = &config.topics.progress;
    let mut records = Vec::new();
    for keeper in keepers {
        let kept = retry(parts, *deadline, "reading decisions", || Ok(parts.connect.kept(topic, keeper.prefix())?))?;
        let key = |key: &bytes::Bytes| String::from_utf8_lossy(key).into_owned();
        records.extend(kept.iter().map(|(of, _)| kept::record(topic, key(of), None::<&()>)));
    }
    Ok(records)
}

/// What a ledger is called among those of an instance, and what its progress rests on.
struct Claim {
    name: Arc<str>,
    settings: BTreeMap<String, String>,
    /// Whether it forgets what it had committed.
    reset: bool,
}

fn of_stream(stream: &StreamConfig, parts: &Parts) -> Claim {
    let (name, settings) = (stream.name.clone(), graph::progress_settings(stream));
    Claim { reset: parts.reset.contains(&name), name, settings }
}

/// Looks at a stream's source and opens a ledger of it: fences whoever had it, and reads what is committed.
fn open(
    config: &Config,
    stream: &StreamConfig,
    claim: &Claim,
    parts: &Parts,
    deadline: Instant,
) -> anyhow::Result<(Opened, Box<dyn Ledger>)> {
    let look = || inputs::look(config, &stream.source, &*parts.connect);
    let inputs: Inputs = retry(parts, deadline, "asking for partitions", look)?;
    let Claim { name, settings, reset } = claim;
    let opening = Opening { settings, reset: *reset };
    let of_stream = || format!("the ledger of stream {name}");
    let make = || Ok(parts.connect.ledger(&ledger_name(config, name), &config.topics.progress)?);
    let mut ledger = retry(parts, deadline, "making a ledger", make).with_context(of_stream)?;
    // The same ledger each time: it knows what it has claimed.
    let progress = retry(parts, deadline, "opening a ledger", || Ok(ledger.open(&opening)?)).with_context(of_stream)?;
    let progress = if progress.more_decisions {
        let keeper = Keeper::new(config.topics.progress.clone(), &config.name, name);
        decided(config, &keeper, parts, deadline)?.complete(progress)
    } else {
        progress
    };
    let check = || inputs::check(stream, progress.clone(), &*parts.connect);
    let progress = retry(parts, deadline, "asking for offsets", check)?;
    if !progress.positions.is_empty() {
        tracing::info!(stream = &**name, frontier = %progress.frontier, "going on from what is committed");
    }
    let is_new = progress.positions.is_empty();
    let look = |steering: &SteeringConfig| {
        let look = || inputs::look(config, &steering.source, &*parts.connect);
        retry(parts, deadline, "asking for partitions", look)
    };
    let steering = stream.inputs.steering.as_ref().map(look).transpose()?;
    Ok((Opened { progress, inputs, is_new, truth: None, stations: None, steering }, ledger))
}

/// The topic of dead letters, and how large they may be.
fn dead_letters(config: &Config, parts: &Parts, deadline: Instant) -> anyhow::Result<DeadLetters> {
    let ask = || Ok(topics::dead_letters(config, &*parts.connect)?);
    retry(parts, deadline, "asking for the topic of dead letters", ask)
}

/// The name of a stream's ledger: instances may share a broker, a progress topic, and the names of their streams.
pub fn ledger_name(config: &Config, stream: &str) -> String {
    format!("{}/{stream}", config.name)
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
