//! What a stream is compared with while it runs: companions, scores, regions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use squall_fields::{Quantity, Unit, Variable};
use squall_models::scores::list::{self, Settings};
use squall_models::scores::{Border, FssOptions, Operator};
use squall_operators::stations::Thresholds;
use squall_operators::verify::{DOMAIN, MEASURES, PUBLISHED, Region, STATIONS};

use super::check;
use super::fault::one_of;
use super::model::ModelConfig;
use super::products::{self, StreamTopics};
use super::quantity::{as_duration, as_optional_duration};
use super::resolved::{SourceConfig, StreamConfig};
use super::section::Section;

/// A model beside that of a stream: it gets the same windows, and is scored like it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Companion {
    /// What makes its forecasts.
    pub model: ModelConfig,
    /// Device that runs it, on a thread apart from those of streams.
    pub device: Arc<str>,
    /// Members of its ensemble.
    pub members: usize,
    /// Of a live stream: a window with an issue time longer ago than this is not forecast if a newer one waits; `None`
    /// forecasts all, and has the scores wait for them.
    #[serde(serialize_with = "as_optional_duration", skip_serializing_if = "Option::is_none")]
    pub skip_older_than: Option<Duration>,
    /// Where its forecasts are published, as those of a stream `STREAM/NAME`; `None` publishes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics: Option<StreamTopics>,
}

/// What a stream reads besides its source, by role.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RolesConfig {
    /// Frames that forecasts are compared with, in place of those that they are made of; written as its name.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_name")]
    pub truth: Option<Arc<SourceConfig>>,
    /// Reports of stations, which forecasts are compared with, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stations: Option<StationsConfig>,
    /// A wind that moves the rain where its motion cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steering: Option<SteeringConfig>,
}

/// A wind that moves the rain where its motion cannot be seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SteeringConfig {
    /// The source of the wind; written as its name.
    #[serde(serialize_with = "super::resolved::as_name")]
    pub source: Arc<SourceConfig>,
    /// How long a wind is good for.
    #[serde(serialize_with = "as_duration")]
    pub max_age: Duration,
}

/// Reports of stations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StationsConfig {
    /// Topic that holds their records.
    pub topic: Arc<str>,
    /// Partitions of the topic, if Squall creates it.
    pub partitions: i32,
    /// A report valid later than it was known by more than this is a dead letter.
    #[serde(serialize_with = "as_duration")]
    pub future_tolerance: Duration,
    /// What the checks of readings allow; all quantities are there.
    #[serde(serialize_with = "as_standard_names")]
    pub quality: BTreeMap<Quantity, Thresholds>,
}

fn as_standard_names<S: Serializer>(
    quality: &BTreeMap<Quantity, Thresholds>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(quality.iter().map(|(quantity, limits)| (quantity.standard_name(), limits)))
}

fn as_name<S: Serializer>(source: &Option<Arc<SourceConfig>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(source.as_ref().map_or("", |source| &source.name))
}

impl RolesConfig {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether forecasts are compared with one of them.
    pub fn has_truth(&self) -> bool {
        self.truth.is_some() || self.stations.is_some()
    }
}

/// How a stream's forecasts are scored while it runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerificationConfig {
    /// Names of the scores.
    pub scores: Vec<&'static str>,
    /// Thresholds of events, in the unit of the variable.
    pub thresholds: Vec<f32>,
    /// Sides of windows in cells.
    pub scales: Vec<usize>,
    /// Which windows of the fractions skill score count.
    #[serde(skip_serializing_if = "is_usual")]
    pub fss_border: Border,
    /// Which values are events of the fractions skill score.
    #[serde(skip_serializing_if = "is_usual")]
    pub fss_operator: Operator,
    /// Parts of the grid that are scored by themselves, as `[west, south, east, north]` in degrees.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<Arc<str>, [f32; 4]>,
    /// How long after its end an hour is open for observations that are late or corrected.
    #[serde(serialize_with = "as_duration")]
    pub horizon: Duration,
    /// How long a baseline is better before the stream counts as behind it; whole hours.
    #[serde(serialize_with = "as_duration")]
    pub behind_after: Duration,
    /// Topics.
    pub topics: VerificationTopics,
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Topics of scores.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerificationTopics {
    /// Compacted: scores by hour, by day and of all time, and the skill against baselines.
    pub scores: Arc<str>,
    /// The raw statistics of each valid time.
    pub statistics: Arc<str>,
}

impl VerificationConfig {
    /// What scores of events and windows are of.
    pub fn settings(&self) -> Settings {
        let fss = FssOptions { border: self.fss_border, operator: self.fss_operator };
        Settings { thresholds: self.thresholds.clone(), scales: self.scales.clone(), fss }
    }

    /// The scores that a stream and its baselines are compared by.
    pub fn measures(&self) -> Vec<&'static str> {
        self.scores.iter().copied().filter(|name| MEASURES.contains(name)).collect()
    }

    /// Parts of the grid that are scored by themselves.
    pub fn regions(&self) -> Vec<Region> {
        self.regions.iter().map(|(name, bounds)| region(name, *bounds)).collect()
    }
}

/// A part of the grid, from `[west, south, east, north]` in degrees.
pub(crate) fn region(name: &str, bounds: [f32; 4]) -> Region {
    let [west, south, east, north] = bounds.map(f64::from);
    Region { name: name.into(), west, south, east, north }
}

/// Whether `[west, south, east, north]` are bounds of a region.
pub(crate) fn are_bounds([west, south, east, north]: &[f32; 4]) -> bool {
    south < north && south.abs() <= 90.0 && north.abs() <= 90.0 && [west, east].iter().all(|l| l.abs() <= 360.0)
}

/// Whether a region may have that name.
pub(crate) fn is_region(name: &str) -> bool {
    check::is_name(name) && ![DOMAIN, STATIONS].contains(&name)
}

impl StreamConfig {
    /// A companion as a stream: with the same windows and leads, and nothing to be in time for.
    pub fn of_companion(&self, name: &str, companion: &Companion) -> Self {
        let Companion { model, device, members, skip_older_than, topics } = companion.clone();
        Self {
            name: self.companion_name(name),
            model,
            device: format!("{device} for companions").into(),
            members,
            deadline: None,
            degrade: Vec::new(),
            skip_older_than,
            companions: BTreeMap::new(),
            verification: None,
            inputs: RolesConfig::default(),
            topics: topics.unwrap_or_else(|| self.topics.clone()),
            ..self.clone()
        }
    }

    /// What a companion is called as a stream: no stream can have that name.
    pub fn companion_name(&self, name: &str) -> Arc<str> {
        format!("{}/{name}", self.name).into()
    }

    /// The topics of its forecasts, and of those of its companions that are published.
    pub fn all_topics(&self) -> impl Iterator<Item = &StreamTopics> {
        std::iter::once(&self.topics).chain(self.companions.values().filter_map(|companion| companion.topics.as_ref()))
    }

    /// What its verification is called beside it: no stream can have that name.
    pub fn scores_name(&self) -> Arc<str> {
        format!("{}/scores", self.name).into()
    }

    /// The companions that need no weights: what skill is measured against.
    pub fn baselines(&self) -> Vec<Arc<str>> {
        let named =
            self.companions.iter().filter(|(_, companion)| matches!(companion.model.base(), ModelConfig::Named(_)));
        named.map(|(name, _)| name.clone()).collect()
    }
}

/// The companions of a stream of so many members; `model` reads what makes their forecasts, and `topic` a topic with the
/// name that it has where nothing is said.
pub(super) fn companions(
    section: &Section<'_>,
    (members, topics): (Option<u64>, Option<&StreamTopics>),
    model: impl Fn(&Section<'_>, Option<&str>) -> Option<ModelConfig>,
    topic: impl Fn(&Section<'_>, &str, &str) -> Option<Arc<str>>,
) -> Option<BTreeMap<Arc<str>, Companion>> {
    let companion = |name: &str| {
        if !check::is_name(name) || name == PUBLISHED {
            section.fault(name, format!("expected 1 to 64 of A-Z a-z 0-9 . _ -, and not \"{PUBLISHED}\""));
        }
        let table = section.section(name);
        let device = match table.optional_text("device") {
            Some(_) => table.device("device"),
            None => Some("cpu".into()),
        };
        let model = model(&table.section("model"), device.as_deref());
        let own = table.optional_count("members", 1..=10_000);
        let skip_older_than = table.optional_duration("skip_older_than");
        let published = table.section("topics");
        let published = published.is_given().then(|| {
            products::topics(&published, |section, key| topic(section, key, &format!("{}.{name}", topics?.named(key)?)))
        });
        table.finish();
        let members = own.or(members)? as usize;
        let topics = match published {
            Some(read) => Some(read?),
            None => None,
        };
        Some((name.into(), Companion { model: model?, device: device?, members, skip_older_than, topics }))
    };
    let all: Vec<_> = section.keys().into_iter().map(companion).collect();
    all.into_iter().collect()
}

/// What a stream reads besides its source; `topic` reads a topic.
pub(super) fn roles(
    section: &Section<'_>,
    sources: &[Arc<SourceConfig>],
    own: Option<&Arc<SourceConfig>>,
    topic: impl Fn(&Section<'_>, &str, &str) -> Option<Arc<str>>,
) -> Option<RolesConfig> {
    let truth = section.optional_text("truth").map(|name| {
        let found = sources.iter().find(|source| *source.name == *name).cloned();
        match (&found, own) {
            (None, _) => section.fault("truth", one_of(&name, sources.iter().map(|source| &*source.name))),
            (Some(found), Some(own)) if found.name == own.name => {
                section.fault("truth", "is the stream's own source: leave it out");
            }
            (Some(found), Some(own)) if (found.cadence, &found.variables) != (own.cadence, &own.variables) => {
                section.fault("truth", "has another cadence, or other variables, than the stream's source");
            }
            _ => {}
        }
        found
    });
    let steering = steering(&section.section("steering"), sources, own);
    let table = section.section("stations");
    let stations = table.is_given().then(|| {
        let topic = topic(&table, "topic", "obs.stations.v1");
        let partitions = table.optional_count("partitions", 1..=10_000).unwrap_or(1);
        let future_tolerance = table.optional_duration("future_tolerance").unwrap_or(Duration::from_secs(600));
        let quality = limits(&table.section("quality"));
        table.finish();
        let partitions = i32::try_from(partitions).ok()?;
        Some(StationsConfig { topic: topic?, partitions, future_tolerance, quality: quality? })
    });
    section.finish();
    let truth = match truth {
        Some(found) => Some(found?),
        None => None,
    };
    let stations = match stations {
        Some(read) => Some(read?),
        None => None,
    };
    Some(RolesConfig { truth, stations, steering: steering? })
}

/// What the checks of readings allow: of a quantity that is named, what is said and nothing else.
fn limits(section: &Section<'_>) -> Option<BTreeMap<Quantity, Thresholds>> {
    let mut limits: BTreeMap<_, _> = Quantity::ALL.iter().map(|of| (*of, Thresholds::of(*of))).collect();
    let mut is_right = true;
    for name in section.keys() {
        let read = section.optional_typed::<Thresholds>(name);
        let Some(quantity) = Quantity::of_standard_name(name) else {
            section.fault(name, one_of(name, Quantity::ALL.iter().map(|of| of.standard_name())));
            continue;
        };
        match read {
            Some(own) => {
                own.faults().iter().for_each(|fault| section.fault(name, fault));
                limits.insert(quantity, own);
            }
            None => is_right = false,
        }
    }
    is_right.then_some(limits)
}

/// The wind that moves a stream's rain; none where it is not asked for.
fn steering(
    section: &Section<'_>,
    sources: &[Arc<SourceConfig>],
    own: Option<&Arc<SourceConfig>>,
) -> Option<Option<SteeringConfig>> {
    if !section.is_given() {
        return Some(None);
    }
    let name = section.text("source");
    let max_age = section.optional_duration("max_age").unwrap_or(Duration::from_secs(6 * 3600));
    section.finish();
    let name = name?;
    let source = sources.iter().find(|source| *source.name == *name).cloned();
    let is_wind = |source: &SourceConfig| {
        let has = |pair: [Variable; 2]| pair.iter().all(|variable| source.variables.contains(variable));
        has([Variable::XWind, Variable::YWind]) || has([Variable::EastwardWind, Variable::NorthwardWind])
    };
    match &source {
        None => section.fault("source", one_of(&name, sources.iter().map(|source| &*source.name))),
        Some(found) if own.is_some_and(|own| own.name == found.name) => {
            section.fault("source", "is the stream's own source, whose wind steers without being asked");
        }
        Some(found) if !is_wind(found) => section.fault("source", format!("\"{name}\" has no wind of two components")),
        Some(_) => {}
    }
    Some(Some(SteeringConfig { source: source?, max_age }))
}

/// Scores that need no thresholds or windows.
const OF_FIELDS: [&str; 4] = ["crps", "mae", "spread-skill", "rank"];
/// Scores of events.
const OF_EVENTS: [&str; 2] = ["csi", "probability"];
/// Scores of windows of cells.
const OF_WINDOWS: [&str; 1] = ["fss"];
/// Scores of a wind.
const OF_WIND: [&str; 2] = ["energy", "vector"];

/// What a stream has besides, where nothing is said.
pub(super) struct Defaults<'a> {
    pub(super) variables: &'a [Variable],
    pub(super) thresholds: &'a [f32],
    pub(super) horizon: Duration,
}

/// The verification of a stream; `topic` reads a topic. None where it is not asked for.
pub(super) fn verification(
    section: &Section<'_>,
    is_wanted: bool,
    defaults: &Defaults<'_>,
    topic: impl Fn(&Section<'_>, &str, &str) -> Option<Arc<str>>,
) -> Option<Option<VerificationConfig>> {
    if !section.is_given() && !is_wanted {
        return Some(None);
    }
    let thresholds = section.numbers("thresholds").unwrap_or_else(|| defaults.thresholds.to_vec());
    check::ascending(section, "thresholds", &thresholds);
    let scales = scales(section);
    let of = scales.as_deref().unwrap_or_default();
    let scores = scores(section, defaults.variables, &thresholds, of);
    let fss_border = chosen(section, "fss_border", &Border::NAMED);
    let fss_operator = chosen(section, "fss_operator", &Operator::NAMED);
    let regions = regions(&section.section("regions"));
    let horizon = section.optional_duration("horizon").unwrap_or(defaults.horizon);
    if horizon < defaults.horizon {
        section.fault("horizon", "must not be shorter than the stream's: its revisions are scored, too");
    }
    let behind_after = section.optional_duration("behind_after").unwrap_or(Duration::from_secs(6 * 3600));
    if behind_after.as_secs() < 3600 || !behind_after.as_secs().is_multiple_of(3600) {
        section.fault("behind_after", "expected whole hours, at least one");
    }
    let table = section.section("topics");
    let scores_topic = topic(&table, "scores", "fcst.scores.v1");
    let statistics = topic(&table, "statistics", "fcst.statistics.v1");
    table.finish();
    section.finish();
    let topics = VerificationTopics { scores: scores_topic?, statistics: statistics? };
    Some(Some(VerificationConfig {
        scores: scores?,
        thresholds,
        scales: scales?,
        fss_border: fss_border?,
        fss_operator: fss_operator?,
        regions: regions?,
        horizon,
        behind_after,
        topics,
    }))
}

/// One of a few words; where nothing is said what is usual.
fn chosen<T: Copy + Default>(section: &Section<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
    match section.optional_text(key) {
        Some(text) => section.chosen(key, &text, choices),
        None => Some(T::default()),
    }
}

fn scales(section: &Section<'_>) -> Option<Vec<usize>> {
    let Some(numbers) = section.numbers("scales") else { return Some(Vec::new()) };
    check::ascending(section, "scales", &numbers);
    let whole = |number: &f32| (number.fract() == 0.0 && (1.0..=10_000.0).contains(number)).then_some(*number as usize);
    let scales: Option<Vec<usize>> = numbers.iter().map(whole).collect();
    if scales.is_none() {
        section.fault("scales", "expected whole numbers of cells, from 1 to 10000");
    }
    scales
}

fn scores(
    section: &Section<'_>,
    variables: &[Variable],
    thresholds: &[f32],
    scales: &[usize],
) -> Option<Vec<&'static str>> {
    let choices: Vec<(&'static str, &'static str)> = list::measures().map(|name| (name, name)).collect();
    let is_wind = variables.len() == 2 && variables.iter().all(|v| v.unit() == Unit::MetresPerSecond);
    let sets = [
        (true, &OF_FIELDS[..]),
        (!thresholds.is_empty(), &OF_EVENTS),
        (!thresholds.is_empty() && !scales.is_empty(), &OF_WINDOWS),
        (is_wind, &OF_WIND),
    ];
    let mut chosen: Vec<&'static str> = match section.optional_texts("scores")? {
        Some(texts) => {
            let chosen: Vec<_> = texts.iter().map(|text| section.chosen("scores", text, &choices)).collect();
            chosen.into_iter().collect::<Option<_>>()?
        }
        None => sets.into_iter().filter(|(wanted, _)| *wanted).flat_map(|(_, names)| names.iter().copied()).collect(),
    };
    // In one order, however they are written: sums are told apart by their places.
    chosen.sort_unstable_by_key(|name| choices.iter().position(|(known, _)| known == name));
    chosen.dedup();
    if chosen.is_empty() {
        section.fault("scores", "expected at least one score");
    }
    Some(chosen)
}

fn regions(section: &Section<'_>) -> Option<BTreeMap<Arc<str>, [f32; 4]>> {
    let one = |name: &str| {
        let bounds: Option<[f32; 4]> = section.numbers(name)?.try_into().ok();
        let bounds = bounds.filter(are_bounds);
        if bounds.is_none() {
            section.fault(name, "expected [west, south, east, north] in degrees");
        }
        if !is_region(name) {
            section
                .fault(name, format!("expected 1 to 64 of A-Z a-z 0-9 . _ -, and not \"{DOMAIN}\" or \"{STATIONS}\""));
        }
        Some((name.into(), bounds?))
    };
    let all: Vec<_> = section.keys().into_iter().map(one).collect();
    all.into_iter().collect()
}
