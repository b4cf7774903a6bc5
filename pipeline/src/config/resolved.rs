//! What a configuration means, after every layer was read and every fault was found.
//!
//! Nothing here is optional unless its absence has a meaning, every name refers to something that
//! exists, and every quantity has its type: the graph is wired from these types without further checks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use squall_connectors::kafka::Property;
use squall_connectors::store::folder_of;
use squall_fields::{Cadence, Grid, LeadTime, Variable, ZRelation};
use squall_models::Context;
use squall_models::baselines::{Baseline, ExtrapolationParams};
use squall_operators::infer::ladder::{Rung, StandIn};
use squall_operators::source::OnLost;

use super::model::ModelConfig;
use super::products::{StreamProducts, StreamTopics};
use super::quantity::{as_bytes, as_duration, as_optional_duration};
use super::verification::{Companion, RolesConfig, StationsConfig, VerificationConfig};

/// One running instance of Squall.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Name of the instance: prefix of its transactional ids, and its CloudEvents source.
    pub name: Arc<str>,
    /// Where observations come from and forecasts go to.
    pub log: LogConfig,
    /// Where the fields of forecasts are kept.
    pub store: StoreConfig,
    /// How the dataflow runs.
    pub runtime: RuntimeConfig,
    /// Where metrics are served; `None` serves none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsConfig>,
    /// Topics that belong to no single stream.
    pub topics: TopicsConfig,
    /// Observations that come in, in the order of the file.
    pub sources: Vec<Arc<SourceConfig>>,
    /// Forecasts that go out, in the order of the file.
    pub streams: Vec<StreamConfig>,
}

/// The kind of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// Apache Kafka.
    Kafka,
    /// The log embedded in the process: partitions and transactions in memory, gone at the end.
    Memory,
}

/// The log and how to reach it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogConfig {
    /// Which log.
    pub kind: LogKind,
    /// Brokers to ask first, `host:port` separated by commas; empty for the memory log.
    pub bootstrap_servers: String,
    /// Whether missing topics are created; otherwise they are one error that names all of them.
    pub create_topics: bool,
    /// How long the broker lets a transaction stay open before it aborts it.
    #[serde(serialize_with = "as_duration")]
    pub transaction_timeout: Duration,
    /// Passed on to librdkafka as they are, in the order of their names.
    pub properties: std::collections::BTreeMap<String, Property>,
}

/// The store of forecast fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoreConfig {
    /// A folder, or a URL `file://...` or `s3://bucket/prefix`.
    pub url: String,
    /// Further places that notifications may point into.
    pub reads: Vec<String>,
    /// Folder for what waits on disk; `None` leaves it to [`StoreConfig::scratch_folder`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scratch: Option<PathBuf>,
}

impl StoreConfig {
    /// The folder for what waits on disk: the one that is given, else `.scratch` in a store that is a folder, else the
    /// system's folder for temporary files.
    pub fn scratch_folder(&self) -> PathBuf {
        let below = || folder_of(&self.url).map(|store| store.join(".scratch"));
        self.scratch.clone().or_else(below).unwrap_or_else(std::env::temp_dir)
    }
}

/// What makes the dataflow's time advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Live: an idle source advances with the machine's clock.
    Wall,
    /// Replay: records alone move time, up to the end offsets seen at start or an end-of-log record.
    Log,
}

/// How the dataflow runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeConfig {
    /// Timely worker threads, at least 1.
    pub workers: usize,
    /// What makes time advance.
    pub clock: Clock,
    /// With the clock `log`: read on past the end offsets seen at start, until each partition has an end-of-log record.
    pub until_marker: bool,
    /// Sources read only while fewer bytes than this are in flight.
    #[serde(serialize_with = "as_bytes")]
    pub max_bytes_in_flight: u64,
}

/// The HTTP endpoint for metrics, health and frontiers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MetricsConfig {
    /// Address and port to listen on.
    pub listen: SocketAddr,
}

/// Topics that belong to no single stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicsConfig {
    /// Records that could not be used, with the reason.
    pub dead_letters: Arc<str>,
    /// Compacted, one partition: what each ledger has committed.
    pub progress: Arc<str>,
}

/// Observations of one kind on one grid.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceConfig {
    /// Name, by which streams refer to it.
    pub name: Arc<str>,
    /// Topic that holds its records.
    pub topic: Arc<str>,
    /// Partitions of the topic, if Squall creates it.
    pub partitions: i32,
    /// Variables that are read from each record, in the order of a frame's planes.
    pub variables: Vec<Variable>,
    /// Rhythm of the slots.
    #[serde(serialize_with = "super::quantity::as_cadence")]
    pub cadence: Cadence,
    /// A record valid later than it was known by more than this is a dead letter.
    #[serde(serialize_with = "as_duration")]
    pub future_tolerance: Duration,
    /// A larger record is a dead letter.
    #[serde(serialize_with = "as_bytes")]
    pub max_record_bytes: u64,
    /// What to do about a position that the topic does not have any more.
    pub on_lost_position: OnLost,
    /// Turns reflectivity into rain rate.
    pub z_relation: ZRelation,
    /// The grid that frames must have; `None`: the first valid frame sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grid: Option<Arc<Grid>>,
    /// Checks of each frame.
    pub quality: QualityConfig,
}

/// Checks of each frame of a source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityConfig {
    /// Values outside `[lowest, highest]`, in the variable's unit, become missing.
    pub range: [f32; 2],
    /// A frame with a larger share of missing cells (0 to 1) is a dead letter; 1 accepts all but an empty frame.
    pub max_missing: f32,
    /// A cell that differs from the median of its neighbours by more than this, in the variable's unit, becomes
    /// missing; `None` looks for no spikes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spikes: Option<f32>,
    /// A frame that repeats this many frames before it, value for value, is stale and a dead letter; `None` looks for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale: Option<u32>,
}

/// Forecasts that are made from one source by one model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamConfig {
    /// Name: part of every forecast's identity.
    pub name: Arc<str>,
    /// The source that it forecasts; written as its name.
    #[serde(serialize_with = "as_name")]
    pub source: Arc<SourceConfig>,
    /// Frames that make a window, at least 1.
    pub window_frames: usize,
    /// How long after its slot an incomplete window waits.
    #[serde(serialize_with = "as_duration")]
    pub patience: Duration,
    /// How long after its slot late inputs still make revisions.
    #[serde(serialize_with = "as_duration")]
    pub horizon: Duration,
    /// Number of leads, one cadence step apart, at least 1.
    pub leads: usize,
    /// Members of the ensemble, at least 1.
    pub members: usize,
    /// What makes the forecast.
    pub model: ModelConfig,
    /// Device that runs the model: `cpu`, `cuda`, `cuda:N`, or `cpu:N` for another thread of the CPU; streams with the
    /// same text share one device thread.
    pub device: Arc<str>,
    /// Of a live stream: another model answers when its own has not, this long after the arrival of the last frame that a
    /// window needs or the end of its patience; `None` waits.
    #[serde(serialize_with = "as_optional_duration", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// What is given up to keep the deadline, by what was measured before, the first of it first; empty foresees nothing.
    pub degrade: Vec<Rung>,
    /// Solver steps that are not given up.
    pub min_steps: usize,
    /// Members that are not given up.
    pub min_members: usize,
    /// Of a live stream: a window with an issue time longer ago than this is not forecast if a newer one waits; `None`
    /// forecasts all.
    #[serde(serialize_with = "as_optional_duration", skip_serializing_if = "Option::is_none")]
    pub skip_older_than: Option<Duration>,
    /// What is written and published, at which levels.
    #[serde(flatten)]
    pub products: StreamProducts,
    /// Models beside its own, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub companions: BTreeMap<Arc<str>, Companion>,
    /// How its forecasts, and those of its companions, are scored while it runs; `None` scores none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationConfig>,
    /// What it reads besides its source.
    #[serde(skip_serializing_if = "RolesConfig::is_empty")]
    pub inputs: RolesConfig,
    /// Topics of its products.
    pub topics: StreamTopics,
}

pub(super) fn as_name<S: Serializer>(source: &SourceConfig, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&source.name)
}

impl Config {
    /// The source of that name.
    pub fn source(&self, name: &str) -> Option<&SourceConfig> {
        self.sources.iter().map(|source| &**source).find(|source| &*source.name == name)
    }

    /// The reports of stations that streams are compared with.
    pub fn stations(&self) -> impl Iterator<Item = &StationsConfig> {
        self.streams.iter().filter_map(|stream| stream.inputs.stations.as_ref())
    }

    /// Whether observations come on a topic.
    pub fn reads(&self, topic: &str) -> bool {
        self.sources.iter().any(|source| *source.topic == *topic) || self.stations().any(|of| *of.topic == *topic)
    }

    /// The stream of that name.
    pub fn stream(&self, name: &str) -> Option<&StreamConfig> {
        self.streams.iter().find(|stream| &*stream.name == name)
    }
}

impl StreamConfig {
    /// The leads of this stream on its source's cadence, ascending.
    pub fn lead_times(&self) -> Vec<LeadTime> {
        self.source.cadence.leads(self.leads)
    }

    /// The models that can answer in place of its own, the best of them first.
    pub fn stand_ins(&self) -> BTreeMap<StandIn, Baseline> {
        let all = [
            (StandIn::Extrapolation, Baseline::Extrapolation(ExtrapolationParams::default())),
            (StandIn::Persistence, Baseline::Persistence),
        ];
        let context = self.context();
        let is_own =
            |other: &Baseline| matches!(self.model.base(), ModelConfig::Named(own) if own.kind() == other.kind());
        let fits = |other: &Baseline| !is_own(other) && other.clone().build().check(&context).is_ok();
        all.into_iter().filter(|(_, other)| fits(other)).collect()
    }

    /// What it will ask of its model.
    pub fn context(&self) -> Context {
        Context {
            stream: self.name.clone(),
            variables: self.source.variables.clone(),
            cadence: self.source.cadence,
            grid: self.source.grid.clone(),
            window_frames: self.window_frames,
            leads: self.leads,
            members: self.members,
        }
    }
}
