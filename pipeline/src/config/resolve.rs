//! From what was written to what it means.

use std::collections::BTreeMap;
use std::sync::Arc;

use figment::value::Value;
use squall_fields::{Axis, Cadence, Grid, Variable, ZRelation};

use super::check;
use super::fault::{Faults, quoted, suggestion};
use super::file::join;
use super::products;
use super::quantity::Property;
use super::resolved::{
    Clock, Config, LogConfig, LogKind, MetricsConfig, ModelConfig, QualityConfig, RuntimeConfig, SourceConfig,
    StoreConfig, StreamConfig, TopicsConfig,
};
use super::section::{Context, Section};

/// Variables by their name in a configuration.
const VARIABLES: [(&str, Variable); 8] = [
    ("rain_rate", Variable::RainRate),
    ("reflectivity", Variable::Reflectivity),
    ("precipitation_amount", Variable::PrecipitationAmount),
    ("eastward_wind", Variable::EastwardWind),
    ("northward_wind", Variable::NorthwardWind),
    ("x_wind", Variable::XWind),
    ("y_wind", Variable::YWind),
    ("wind_speed", Variable::WindSpeed),
];

/// Models that need no weights.
const MODELS: [&str; 3] = ["persistence", "extrapolation", "lagrangian-probability"];

pub(super) fn resolve(context: Context<'_>) -> Result<Config, Faults> {
    let config = root(&context.root());
    if let Some(config) = &config {
        check::whole(&context, config);
    }
    context.finish(config)
}

fn root(section: &Section<'_>) -> Option<Config> {
    let name = name(section);
    let log = log(&section.section("log"));
    let store = store(&section.section("store"));
    let runtime = runtime(&section.section("runtime"));
    let metrics = metrics(&section.section("metrics"));
    let topics = topics(&section.section("topics"));
    let sources = each(section, "sources", source);
    let streams = each(section, "streams", stream);
    section.finish();
    Some(Config {
        name: name?,
        log: log?,
        store: store?,
        runtime: runtime?,
        metrics: metrics?,
        topics: topics?,
        sources: sources?,
        streams: streams?,
    })
}

/// Every table of a named list; one fault does not hide those of the next table.
fn each<T>(parent: &Section<'_>, list: &str, read: impl Fn(&Section<'_>, &str) -> Option<T>) -> Option<Vec<T>> {
    let section = parent.section(list);
    let names = section.keys();
    if names.is_empty() {
        parent.fault(list, format!("at least one is needed: expected [[{list}]]"));
        return None;
    }
    let entries: Vec<Option<T>> = names.into_iter().map(|name| read(&section.section(name), name)).collect();
    entries.into_iter().collect()
}

fn name(section: &Section<'_>) -> Option<Arc<str>> {
    let text = section.text("name")?;
    check_name(section, &text)
}

fn check_name(section: &Section<'_>, text: &str) -> Option<Arc<str>> {
    if check::is_name(text) {
        return Some(text.into());
    }
    section.fault("name", format!("expected 1 to 64 of A-Z a-z 0-9 . _ -, got \"{text}\""));
    None
}

fn log(section: &Section<'_>) -> Option<LogConfig> {
    let kind = section.choice("kind", &[("kafka", LogKind::Kafka), ("memory", LogKind::Memory)]);
    let bootstrap_servers = section.text("bootstrap_servers");
    let create_topics = section.boolean("create_topics");
    let transaction_timeout = section.duration("transaction_timeout");
    if transaction_timeout.is_some_and(|timeout| timeout.as_secs() < 1) {
        section.fault("transaction_timeout", "expected at least 1 s");
    }
    let properties = properties(&section.section("properties"));
    section.finish();
    Some(LogConfig {
        kind: kind?,
        bootstrap_servers: bootstrap_servers?,
        create_topics: create_topics?,
        transaction_timeout: transaction_timeout?,
        properties,
    })
}

/// Settings of the client library; dotted keys of TOML are joined again.
fn properties(section: &Section<'_>) -> BTreeMap<String, Property> {
    const OURS: [&str; 5] =
        ["bootstrap.servers", "transactional.id", "isolation.level", "enable.auto.commit", "group.id"];
    let mut properties = BTreeMap::new();
    for key in section.keys() {
        if let Some(value) = section.get(key) {
            flatten(section, key, value, &mut properties);
        }
    }
    for key in OURS.iter().filter(|key| properties.contains_key(**key)) {
        section.fault(key, "is set by Squall itself");
    }
    properties
}

fn flatten(section: &Section<'_>, key: &str, value: &Value, properties: &mut BTreeMap<String, Property>) {
    let text = match value {
        Value::Dict(_, values) => {
            values.iter().for_each(|(inner, value)| flatten(section, &join(key, inner), value, properties));
            return;
        }
        Value::String(_, text) => text.clone(),
        Value::Bool(_, flag) => flag.to_string(),
        other => match serde_json::to_value(other) {
            Ok(serde_json::Value::Number(number)) => number.to_string(),
            _ => return section.fault(key, "expected text, a number, true or false"),
        },
    };
    properties.insert(key.to_owned(), Property::new(key, text));
}

fn store(section: &Section<'_>) -> Option<StoreConfig> {
    let (url, reads) = (section.text("url"), section.texts("reads"));
    section.finish();
    let (url, reads) = (url?, reads?);
    for (key, url) in std::iter::once(("url", &url)).chain(reads.iter().map(|url| ("reads", url))) {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        if url.is_empty() || scheme.is_some_and(|scheme| !["file", "s3"].contains(&scheme)) {
            section.fault(key, format!("expected a folder, file://... or s3://..., got \"{url}\""));
        }
    }
    Some(StoreConfig { url, reads })
}

fn runtime(section: &Section<'_>) -> Option<RuntimeConfig> {
    let workers = section.count("workers", 1..=256);
    let clock = section.choice("clock", &[("wall", Clock::Wall), ("log", Clock::Log)]);
    let until_marker = section.boolean("until_marker");
    let max_bytes_in_flight = section.bytes("max_bytes_in_flight");
    section.finish();
    if clock == Some(Clock::Wall) && until_marker == Some(true) {
        section.fault("until_marker", "needs clock = \"log\"");
    }
    Some(RuntimeConfig {
        workers: workers? as usize,
        clock: clock?,
        until_marker: until_marker?,
        max_bytes_in_flight: max_bytes_in_flight?,
    })
}

fn metrics(section: &Section<'_>) -> Option<Option<MetricsConfig>> {
    if !section.is_given() {
        return Some(None);
    }
    let listen = section.text("listen");
    section.finish();
    let listen = listen?;
    match listen.parse() {
        Ok(listen) => Some(Some(MetricsConfig { listen })),
        Err(_) => {
            section.fault("listen", format!("expected address:port such as \"127.0.0.1:9600\", got \"{listen}\""));
            None
        }
    }
}

fn topics(section: &Section<'_>) -> Option<TopicsConfig> {
    let (dead_letters, progress) = (topic(section, "dead_letters", ""), topic(section, "progress", ""));
    section.finish();
    Some(TopicsConfig { dead_letters: dead_letters?, progress: progress? })
}

/// A topic; `{name}` in it stands for the name of its source.
fn topic(section: &Section<'_>, key: &str, name: &str) -> Option<Arc<str>> {
    let topic = section.text(key)?.replace("{name}", name);
    if check::is_topic(&topic) {
        return Some(topic.into());
    }
    section.fault(key, format!("\"{topic}\" is not a topic name: use A-Z a-z 0-9 . _ -"));
    None
}

fn own_name(section: &Section<'_>, name: &str) -> Option<Arc<str>> {
    if let Some(other) = section.optional_text("name").filter(|other| other != name) {
        section.fault("name", format!("the table is called \"{name}\", got \"{other}\""));
    }
    check_name(section, name)
}

fn source(section: &Section<'_>, name: &str) -> Option<SourceConfig> {
    let own = own_name(section, name);
    let topic = topic(section, "topic", name);
    let partitions = section.count("partitions", 1..=10_000);
    let variables = variables(section);
    let cadence = cadence(section);
    let future_tolerance = section.duration("future_tolerance");
    let max_record_bytes = section.bytes("max_record_bytes");
    let z_relation = z_relation(&section.section("z_relation"));
    let grid = grid(&section.section("grid"));
    let quality = quality(&section.section("quality"), variables.as_deref().unwrap_or_default());
    section.finish();
    let source = SourceConfig {
        name: own?,
        topic: topic?,
        partitions: i32::try_from(partitions?).ok()?,
        variables: variables?,
        cadence: cadence?,
        future_tolerance: future_tolerance?,
        max_record_bytes: max_record_bytes?,
        z_relation: z_relation?,
        grid: grid?,
        quality: quality?,
    };
    check::source(section, &source);
    Some(source)
}

fn variables(section: &Section<'_>) -> Option<Vec<Variable>> {
    let texts = section.texts("variables")?;
    let variables: Vec<_> = texts.iter().map(|text| section.chosen("variables", text, &VARIABLES)).collect();
    let variables: Vec<Variable> = variables.into_iter().collect::<Option<_>>()?;
    if variables.is_empty() {
        section.fault("variables", "expected at least one variable");
    }
    if let Some(twice) = (1..variables.len()).find(|i| variables[..*i].contains(&variables[*i])) {
        section.fault("variables", format!("\"{}\" is given twice", variables[twice].name()));
    }
    Some(variables)
}

fn cadence(section: &Section<'_>) -> Option<Cadence> {
    let step = section.duration("cadence")?;
    let seconds = u32::try_from(step.as_secs()).ok().filter(|_| step.subsec_nanos() == 0);
    let cadence = seconds.and_then(Cadence::every_seconds);
    if cadence.is_none() {
        section.fault("cadence", "expected whole seconds, at least one");
    }
    cadence
}

fn z_relation(section: &Section<'_>) -> Option<ZRelation> {
    let (a, b) = (section.number("a"), section.number("b"));
    section.finish();
    Some(ZRelation { a: a? as f32, b: b? as f32 })
}

fn grid(section: &Section<'_>) -> Option<Option<Arc<Grid>>> {
    if !section.is_given() {
        return Some(None);
    }
    let proj = section.text("proj");
    let wkt = section.optional_text("wkt");
    let (x, y) = (axis(&section.section("x")), axis(&section.section("y")));
    section.finish();
    let grid = Grid { proj: proj?, wkt, x: x?, y: y? };
    if grid.x.step <= 0.0 || grid.y.step >= 0.0 {
        section.fault("", "expected x.step > 0 (west to east) and y.step < 0 (north to south)");
    }
    Some(Some(Arc::new(grid)))
}

fn axis(section: &Section<'_>) -> Option<Axis> {
    if !section.is_given() {
        section.fault("", "expected { first = ..., step = ..., len = ... }");
        return None;
    }
    let (first, step, len) = (section.number("first"), section.number("step"), section.count("len", 1..=100_000));
    section.finish();
    Some(Axis { first: first?, step: step?, len: len? as usize })
}

fn quality(section: &Section<'_>, variables: &[Variable]) -> Option<QualityConfig> {
    let range = match section.numbers("range").as_deref() {
        Some([lowest, highest]) => Some([*lowest, *highest]),
        Some(other) => {
            section.fault("range", format!("expected [lowest, highest], got {} numbers", other.len()));
            None
        }
        None => Some(plausible(variables)),
    };
    let max_missing = section.number("max_missing");
    let spikes = section.optional_number("spikes").map(|spikes| spikes as f32);
    let stale = section.optional_count("stale", 1..=1000).map(|stale| stale as u32);
    section.finish();
    Some(QualityConfig { range: range?, max_missing: max_missing? as f32, spikes, stale })
}

/// The range that holds every plausible value of a source's variables.
fn plausible(variables: &[Variable]) -> [f32; 2] {
    let range = |variable: &Variable| match variable {
        Variable::RainRate | Variable::PrecipitationAmount => [0.0, 500.0],
        Variable::Reflectivity => [-32.0, 95.0],
        Variable::WindSpeed => [0.0, 120.0],
        _ => [-120.0, 120.0],
    };
    let widest = |[a, b]: [f32; 2], [c, d]: [f32; 2]| [a.min(c), b.max(d)];
    variables.iter().map(range).reduce(widest).unwrap_or([f32::MIN, f32::MAX])
}

fn stream(section: &Section<'_>, name: &str) -> Option<StreamConfig> {
    let own = own_name(section, name);
    let source = section.text("source");
    let window_frames = section.count("window_frames", 1..=1000);
    let (patience, horizon) = (section.duration("patience"), section.duration("horizon"));
    let (leads, members) = (section.count("leads", 1..=1000), section.count("members", 1..=10_000));
    let model = model(&section.section("model"));
    let device = device(section);
    let deadline = section.optional_duration("deadline");
    let products = products::products(section);
    let topics = products::topics(&section.section("topics"), |section, key| topic(section, key, ""));
    section.finish();
    let parts = check::StreamParts { source: source.as_deref(), times: patience.zip(horizon) };
    check::stream(section, &parts);
    Some(StreamConfig {
        name: own?,
        source: source?.into(),
        window_frames: window_frames? as usize,
        patience: patience?,
        horizon: horizon?,
        leads: leads? as usize,
        members: members? as usize,
        model: model?,
        device: device?,
        deadline,
        products: products?,
        topics: topics?,
    })
}

fn model(section: &Section<'_>) -> Option<ModelConfig> {
    if !section.is_given() {
        section.fault("", "expected { name = \"extrapolation\" } or { file = \"....safetensors\" }");
        return None;
    }
    let (name, file) = (section.optional_text("name"), section.optional_text("file"));
    match (name, file) {
        (Some(name), None) => {
            if !MODELS.contains(&name.as_str()) {
                let near = suggestion(&name, MODELS);
                section.fault("name", format!("expected one of {}, got \"{name}\"{near}", quoted(MODELS)));
                return None;
            }
            Some(ModelConfig::Named { name: name.into(), parameters: section.rest() })
        }
        (None, Some(file)) => {
            let watch = section.boolean("watch");
            let parameters = section.rest();
            let Some(found) = section.context.existing(&file) else {
                section.fault("file", format!("there is no file {file} here or beside the configuration"));
                return None;
            };
            Some(ModelConfig::File { file: found, watch, parameters })
        }
        (None, None) => {
            section.fault("", "expected name = \"...\" or file = \"...\"");
            None
        }
        (Some(_), Some(_)) => {
            section.fault("", "expected either a name or a file, got both");
            None
        }
    }
}

fn device(section: &Section<'_>) -> Option<Arc<str>> {
    let text = section.text("device")?;
    let index = text
        .split_once(':')
        .is_some_and(|(kind, index)| ["cpu", "cuda"].contains(&kind) && index.parse::<u16>().is_ok());
    if text == "cpu" || text == "cuda" || index {
        return Some(text.into());
    }
    section.fault("device", format!("expected \"cpu\", \"cpu:N\", \"cuda\" or \"cuda:N\", got \"{text}\""));
    None
}
