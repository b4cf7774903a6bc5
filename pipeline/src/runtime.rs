//! Starts a configuration and ends it.
//!
//! Before anything runs, everything that can be wrong is tried: topics, models, ledgers. Then the timely workers
//! start, each with every stream's dataflow. A stream that fails stops the others, cleanly; whoever started the
//! program is told why.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use serde_json::json;
use squall_connectors::isolate::{Format, IsolatedDecoder};
use squall_connectors::netcdf::{NetcdfDecoder, NetcdfEncoder, WriteOptions};
use squall_connectors::odim::OdimDecoder;
use squall_fields::KnowledgeTime;
use squall_operators::control::Control;
use squall_operators::decode::Decoder;
use squall_operators::ports::{
    Connect, FieldStore, ForecastEncoder, FrameDecoder, Ledger, LedgerError, LogError, PartitionId,
};
use squall_operators::progress::Progress;
use squall_operators::publish::Publisher;
use squall_operators::source::Clock;

use crate::archive::read_options;
use crate::config::{self, Config, SourceConfig, StreamConfig};
use crate::devices::{self, ModelFactory};
use crate::graph::{self, StreamPlan};
use crate::{http, topics, watch};

/// How long the start waits for a broker that is away or loading.
const START: Duration = Duration::from_secs(120);
/// Covers the lag from a record's append to its being visible, in the wall clock's time.
const MARGIN: Duration = Duration::from_millis(100);

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
        // First what needs no broker: a model that does not fit leaves no topics behind.
        let devices = devices::start(config, &*parts.models)?;
        retry(deadline, "preparing topics", || topics::ensure(config, &*parts.connect))?;
        let mut plans = Vec::new();
        for stream in &config.streams {
            let device = devices.threads.get(&stream.device).context("every stream has a device")?.clone();
            let plan = plan(config, stream, &parts, device, deadline)?;
            let has_model = !devices.without_model.contains(&stream.name);
            let (clock, device) = (config.runtime.clock, plan.device.clone());
            watch::start(stream, config.source_of(stream), clock, device, plan.control.clone(), has_model)?;
            plans.push(plan);
        }
        drop(devices);
        let controls: Vec<_> = plans.iter().map(|plan| (plan.stream.name.clone(), plan.control.clone())).collect();
        for (_, control) in &controls {
            let others = controls.iter().filter(|(_, other)| !Arc::ptr_eq(other, control));
            control.link(others.map(|(_, other)| Arc::downgrade(other)).collect());
        }
        let plans = Arc::new(plans);
        let workers = timely::Config::process(config.runtime.workers.max(1));
        let guards = timely::execute(workers, move |worker| {
            for plan in plans.iter() {
                graph::build(worker, plan);
            }
        })
        .map_err(|error| anyhow!("timely: {error}"))?;
        let watched = controls.clone();
        let supervisor = std::thread::Builder::new().name("supervisor".into()).spawn(move || {
            let results = guards.join();
            let panics = results.into_iter().filter_map(Result::err).map(|error| format!("a worker died: {error}"));
            let failures: Vec<String> =
                watched.iter().filter_map(|(_, control)| control.failure()).chain(panics).collect();
            if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
        })?;
        let monitor = Arc::new(Monitor { streams: controls, ended: Mutex::new(None) });
        Ok(Handle { monitor, supervisor })
    }
}

/// Everything that one stream needs, with its ledger opened.
fn plan(
    config: &Config,
    stream: &StreamConfig,
    parts: &Parts,
    device: squall_operators::infer::device::Device,
    deadline: Instant,
) -> anyhow::Result<StreamPlan> {
    let source = config.source_of(stream);
    let first = config.streams.iter().find(|s| s.source == stream.source);
    let writes_dead = first.is_some_and(|first| first.name == stream.name);
    let (partitions, clock) = retry(deadline, "asking for partitions", || inputs(config, source, &*parts.connect))?;
    let (ledger, progress) = open(config, stream, &*parts.connect, deadline)?;
    if let Some(progress) = &progress {
        tracing::info!(stream = &*stream.name, frontier = %progress.frontier, "going on from what is committed");
    }
    let decoder = Decoder::new((parts.decoders)(source), Some(parts.store.clone()), source.max_record_bytes);
    Ok(StreamPlan {
        stream: stream.clone(),
        source: source.clone(),
        instance: config.name.clone(),
        dead_letters: writes_dead.then(|| config.topics.dead_letters.clone()),
        partitions,
        clock,
        max_bytes_in_flight: config.runtime.max_bytes_in_flight,
        progress,
        ledger: Mutex::new(Some(ledger)),
        connect: parts.connect.clone(),
        decoder,
        device,
        fallback: devices::start_fallback(stream, source)?,
        publisher: publisher(&config.name, stream, parts.store.clone(), parts.encoder.clone()),
        control: Control::new(),
    })
}

/// The partitions of a source, and its clock. A replay of a topic that is still empty waits for its end-of-log records.
fn inputs(config: &Config, source: &SourceConfig, connect: &dyn Connect) -> anyhow::Result<(Vec<PartitionId>, Clock)> {
    let mut reader = connect.reader(source.max_record_bytes)?;
    let partitions = reader.partitions(&source.topic)?;
    let clock = match config.runtime.clock {
        config::Clock::Wall => Clock::Wall { margin: MARGIN },
        config::Clock::Log => {
            let mut empty = true;
            for partition in &partitions {
                empty &= reader.end_offset(partition)? == 0;
            }
            Clock::Log { until_marker: empty || config.runtime.until_marker }
        }
    };
    Ok((partitions, clock))
}

/// Opens a stream's ledger: fences whoever had it, and reads what is committed.
fn open(
    config: &Config,
    stream: &StreamConfig,
    connect: &dyn Connect,
    deadline: Instant,
) -> anyhow::Result<(Box<dyn Ledger>, Option<Progress>)> {
    retry(deadline, "opening a ledger", || {
        let mut ledger = connect.ledger(&stream.name, &config.topics.progress)?;
        let progress = ledger.open()?;
        Ok((ledger, progress))
    })
    .with_context(|| format!("the ledger of stream {}", stream.name))
}

/// Tries again while the broker is away, until a deadline.
fn retry<T>(deadline: Instant, what: &str, mut call: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        let error = match call() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let passes = matches!(error.downcast_ref::<LogError>(), Some(LogError::Retriable(_)))
            || matches!(error.downcast_ref::<LedgerError>(), Some(LedgerError::Retriable { .. }));
        if !passes || Instant::now() > deadline {
            return Err(error);
        }
        tracing::warn!(%error, "{what} failed; trying again");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A configuration that runs.
pub struct Handle {
    monitor: Arc<Monitor>,
    supervisor: JoinHandle<Result<(), String>>,
}

impl Handle {
    /// Asks to end cleanly: stop reading, finish what is in flight, commit. Returns at once.
    pub fn stop(&self) {
        self.monitor.stop();
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.supervisor.is_finished()
    }

    /// What others may look at and stop it by.
    pub fn monitor(&self) -> Arc<Monitor> {
        self.monitor.clone()
    }

    /// Waits for its end: of the log, after a stop, or by a failure.
    ///
    /// # Errors
    /// Why a stream failed.
    pub fn join(self) -> anyhow::Result<()> {
        let result = self.supervisor.join().map_err(|_| anyhow!("the supervisor died"))?;
        let ended = self.monitor.ended.lock();
        *ended.unwrap_or_else(std::sync::PoisonError::into_inner) = Some(result.clone());
        result.map_err(|reason| anyhow!(reason))
    }
}

/// Looks at a running configuration, from any thread.
pub struct Monitor {
    streams: Vec<(Arc<str>, Arc<Control>)>,
    ended: Mutex<Option<Result<(), String>>>,
}

impl Monitor {
    /// Asks to end cleanly; see [`Handle::stop`].
    pub fn stop(&self) {
        for (_, control) in &self.streams {
            control.stop();
        }
    }
}

impl http::Status for Monitor {
    fn live(&self) -> Result<(), String> {
        match self.streams.iter().find_map(|(_, control)| control.failure()) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.live()?;
        let ending = |(_, control): &&(Arc<str>, Arc<Control>)| !control.is_running();
        match self.streams.iter().find(ending) {
            Some((stream, _)) => Err(format!("stream {stream} ends")),
            None => Ok(()),
        }
    }

    fn frontiers(&self) -> serde_json::Value {
        let time = |tick: u64| KnowledgeTime::from_unix_ms(tick as i64).to_string();
        let stream = |(name, control): &(Arc<str>, Arc<Control>)| {
            let operators: serde_json::Map<_, _> = control
                .frontiers()
                .into_iter()
                .map(|(operator, frontier)| (operator.to_owned(), json!(frontier.map(time))))
                .collect();
            let partitions: serde_json::Map<_, _> =
                control.partitions().into_iter().map(|(id, tick)| (id.to_string(), json!(time(tick)))).collect();
            (name.to_string(), json!({"partitions": partitions, "operators": operators}))
        };
        serde_json::Value::Object(self.streams.iter().map(stream).collect())
    }
}

#[cfg(test)]
mod tests;
