//! What docs/formats.md lists is what a run publishes: the tables are read, and compared both ways with every record and
//! every file of a run.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ndarray::{Array3, Array4, s};
use serde_json::Value;
use squall_connectors::memory::MemoryLog;
use squall_connectors::station::{StationDecoder, StationLimits, reports_json};
use squall_fields::{Check, Ensemble, InputRef, IssueTime, Quantity, ValidTime, Variable, Verdict};
use squall_models::simulate::StormSettings;
use squall_models::{Coordinates, Forecaster, ModelError, Prediction, Request};
use squall_operators::dead_letter::Reason;
use squall_operators::ports::{Connect, Record, ReportDecoder};
use squall_operators::products;
use squall_pipeline::commands::simulate::frames;
use squall_pipeline::config::{Config, Layers, StreamConfig};
use squall_pipeline::publish::{Arrivals, Format, end_of_log, record};
use squall_pipeline::runtime::{Parts, Runtime};
use squall_pipeline::{connect, topics};
use support::read;

const CONFIG: &str = r#"
name = "t"
[runtime]
clock = "log"
until_marker = true
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
[[sources]]
name = "analysis"
variables = ["eastward_wind", "northward_wind"]
cadence = "5 min"
[[streams]]
name = "rain"
source = "radar"
model = { name = "lagrangian-probability" }
window_frames = 3
leads = 2
members = 3
thresholds = [0.1, 1.0]
[[streams]]
name = "wind"
source = "analysis"
model = { file = "Cargo.toml" }
window_frames = 3
leads = 2
members = 3
thresholds = [5.0]
"#;

/// The newest frame, a little more of it in each member; a precision map of rain. It fails at [`FAILS`].
struct Guided;

/// The first complete window, ten minutes after [`START`].
const FAILS: IssueTime = IssueTime::from_unix_seconds(1_475_064_600);
const START: ValidTime = ValidTime::from_unix_seconds(1_475_064_000);

impl Forecaster for Guided {
    fn name(&self) -> &str {
        "guided"
    }

    fn digest(&self) -> &str {
        "g1"
    }

    fn coordinates(&self) -> Coordinates {
        Coordinates {
            variables: vec![vec![Variable::RainRate], vec![Variable::EastwardWind, Variable::NorthwardWind]],
            cadence: None,
            spacing_m: None,
            context_frames: 1,
            max_leads: None,
            min_shape: (1, 1),
            max_members: None,
        }
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        requests.iter().map(one).collect()
    }
}

fn one(request: &Request) -> Result<Prediction, ModelError> {
    if request.window.issue_time == FAILS {
        return Err(ModelError::device("cpu", "it is tired"));
    }
    let frame = request.window.newest().expect("a window with a frame");
    let (rows, columns) = frame.grid.shape();
    let shape = (request.members, request.leads.len(), rows, columns);
    let ensemble = |(plane, variable): (usize, &Variable)| {
        let values = frame.values.slice(s![plane, .., ..]);
        let values = Array4::from_shape_fn(shape, |(member, _, y, x)| values[[y, x]] * (1.0 + 0.1 * member as f32));
        Ensemble { variable: *variable, values }
    };
    let ensembles = frame.variables.iter().enumerate().map(ensemble).collect();
    let is_rain = *frame.variables == [Variable::RainRate];
    let precision = is_rain.then(|| Array3::from_elem((request.leads.len(), rows, columns), 0.7));
    Ok(Prediction { ensembles, precision })
}

/// What a run has left.
struct Left {
    config: Config,
    index: Vec<Record>,
    tiles: Vec<Record>,
    dead: Vec<Record>,
    _store: tempfile::TempDir,
}

/// Seven frames of rain and of wind, one of the rain missing, and two bad records.
static LEFT: LazyLock<Left> = LazyLock::new(|| {
    let store = tempfile::tempdir().unwrap();
    let layers = Layers::from_text("t.toml", CONFIG).set(format!("store.url={}", store.path().display()));
    let config = layers.load().unwrap_or_else(|faults| panic!("{faults}"));
    let log = MemoryLog::new();
    topics::ensure(&config, &log).unwrap();
    publish(&config, &log);
    let parts = Parts::new(&config, Arc::new(log.clone()), connect::store(&config).unwrap());
    let parts = Parts { models: Box::new(|_| Ok(Box::new(Guided))), ..parts };
    Runtime::start_with(&config, parts).unwrap().join().unwrap();
    let topics = &config.streams[0].topics;
    let tiles = topics.fields.values().flat_map(|topic| read(&log, topic)).collect();
    let (index, dead) = (read(&log, &topics.index), read(&log, &config.topics.dead_letters));
    Left { config, index, tiles, dead, _store: store }
});

fn publish(config: &Config, log: &MemoryLog) {
    let mut writer = log.writer().unwrap();
    for source in &config.sources {
        let cadence = source.cadence;
        let settings = StormSettings { rows: 64, columns: 72, cadence, start: START, ..StormSettings::default() };
        let mut frames = frames(settings, 7, &source.variables);
        let last = Arrivals::default().of(frames[6].slot);
        if source.variables == [Variable::RainRate] {
            frames.remove(4);
        }
        for frame in &frames {
            let arrival = Arrivals::default().of(frame.slot);
            writer.send(record(config, source, frame, arrival, Some(0), Format::Netcdf).unwrap()).unwrap();
        }
        let mut bad = record(config, source, &frames[0], last, Some(0), Format::Netcdf).unwrap();
        bad.value = Some("neither NetCDF nor ODIM".into());
        bad.headers.push(("large".into(), Some(vec![b'x'; 10_000].into())));
        writer.send(bad).unwrap();
        writer.send(end_of_log(source, 0, last)).unwrap();
    }
    writer.flush(Duration::from_secs(10)).unwrap();
}

/// A table of the document, without its first two lines.
type Table = Vec<Vec<String>>;

/// The tables of a section, by the beginning of its title.
fn tables(section: &str) -> Vec<Table> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats.md");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(&format!("## {section}"))).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("## ")).collect();
    let tables = lines.split(|line| !line.starts_with('|')).filter(|table| !table.is_empty());
    let tables: Vec<Table> = tables.map(|table| table.iter().skip(2).map(|line| cells(line)).collect()).collect();
    assert!(!tables.is_empty(), "docs/formats.md has no section {section} with tables");
    tables
}

/// The cells of a line; `\|` is a bar within one.
fn cells(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "\u{1}");
    line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// What stands between backticks.
fn codes(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn plain(cell: &str) -> String {
    cell.replace('`', "")
}

fn first_column(table: &Table) -> BTreeSet<String> {
    table.iter().flat_map(|row| codes(&row[0])).collect()
}

/// The paths of everything in a JSON value that is no object: `a.b` and, of objects in a list, `a[].b`.
fn paths(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    let inner = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| paths(value, &inner(key), into)),
        Value::Array(items) if items.iter().all(Value::is_object) => {
            items.iter().for_each(|item| paths(item, &format!("{path}[]"), into));
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

fn json(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

fn tile_header(record: &Record) -> Value {
    let value = record.value.as_deref().unwrap();
    let length = u32::from_le_bytes(value[4..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&value[8..8 + length]).unwrap()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn stream_of(record: &Record) -> &'static StreamConfig {
    LEFT.config.stream(record.header("stream").unwrap()).unwrap()
}

fn variables_of(stream: &StreamConfig) -> &[Variable] {
    &stream.source.variables
}

#[test]
fn every_record_has_the_headers_that_are_listed() {
    let listed = first_column(&tables("Headers")[0]);
    assert!(LEFT.index.len() > 4 && LEFT.tiles.len() > 20);
    for record in LEFT.index.iter().chain(&LEFT.tiles) {
        let found: BTreeSet<String> = record.headers.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(found, listed, "{}", record.partition);
    }
}

#[test]
fn the_index_has_the_fields_that_are_listed() {
    let tables = tables("Index");
    let mut listed = first_column(&tables[0]);
    listed.extend(first_column(&tables[1]).into_iter().map(|field| format!("properties.squall.{field}")));
    let mut found = BTreeSet::new();
    LEFT.index.iter().for_each(|record| paths(&json(record), "", &mut found));
    assert_eq!(found, listed);
    let said: BTreeSet<String> = LEFT.index.iter().flat_map(|record| reasons(&json(record))).collect();
    assert_eq!(said, ["missing_frames".to_owned(), "model_failed".to_owned()].into(), "both ways to be degraded ran");
}

fn reasons(index: &Value) -> Vec<String> {
    let degraded = index["properties"]["squall"]["provenance"]["degraded"].as_array().unwrap();
    degraded.iter().map(|reason| text(reason, "reason").to_owned()).collect()
}

#[test]
fn tiles_have_the_headers_and_products_that_are_listed() {
    let tables = tables("Packed fields");
    let (fields, listed) = (first_column(&tables[1]), &tables[2]);
    let mut seen = BTreeSet::new();
    for record in &LEFT.tiles {
        let (header, stream) = (tile_header(record), stream_of(record));
        let mut found = BTreeSet::new();
        paths(&header, "", &mut found);
        assert_eq!(found, fields);
        let product = text(&header, "product");
        let row = listed.iter().find(|row| codes(&row[0]) == [product]);
        let row = row.unwrap_or_else(|| panic!("product {product} is not listed"));
        let variable = variables_of(stream).iter().find(|variable| variable.name() == text(&header, "variable"));
        assert_eq!(variable.is_none(), product == "precision", "{header}");
        let unit = |cell: &str| if cell == "U" { variable.unwrap().unit().symbol().to_owned() } else { plain(cell) };
        let topic = plain(&row[2]);
        let levels =
            codes(&row[3]).first().map_or(vec![0.0], |setting| stream.products.levels[setting.as_str()].clone());
        assert_eq!(record.partition.topic, stream.topics.fields[topic.as_str()], "{product}");
        let found: Vec<f32> = serde_json::from_value(header["levels"].clone()).unwrap();
        assert_eq!(found, levels, "{product}");
        assert_eq!((text(&header, "level_unit"), text(&header, "unit")), (&*unit(&row[4]), &*unit(&row[5])));
        assert_eq!(text(&header, "dtype"), plain(&row[6]), "{product}");
        assert_eq!(header["scale"].as_f64().map(|scale| scale as f32), row[7].parse().ok(), "{product}");
        seen.insert(product.to_owned());
    }
    assert_eq!(seen, first_column(listed));
}

#[test]
fn products_are_asked_for_by_the_names_that_are_listed() {
    let asked: BTreeSet<String> =
        products::ALL.iter().filter(|p| p.is_asked_for()).map(|product| product.name.to_owned()).collect();
    let listed = |table: &Table| table.iter().flat_map(|row| codes(&row[1])).collect::<BTreeSet<_>>();
    assert_eq!(listed(&tables("Files")[0]), asked);
    let packed = products::ALL.iter().filter(|product| product.tiles.is_some() && product.is_asked_for());
    assert_eq!(listed(&tables("Packed fields")[2]), packed.map(|product| product.name.to_owned()).collect());
}

#[test]
fn dead_letters_have_the_headers_and_reasons_that_are_listed() {
    let tables = tables("Dead letters");
    assert_eq!(LEFT.dead.len(), 2);
    for letter in &LEFT.dead {
        let own = |name: &&String| name.starts_with("dead-letter-");
        let found: BTreeSet<_> = letter.headers.iter().map(|(name, _)| name).filter(own).cloned().collect();
        assert_eq!(found, first_column(&tables[0]));
        assert!(letter.header("content-type").is_some(), "the record's own headers follow");
        assert_eq!(letter.header("dead-letter-reason"), Some(Reason::Undecodable.name()));
    }
    assert!(first_column(&tables[1]).contains(Reason::Undecodable.name()));
}

#[test]
fn station_reports_are_read_as_they_are_described() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("## Station reports").nth(1).unwrap();
    let example = section.split("```json").nth(1).unwrap().split("```").next().unwrap();
    let input = InputRef { topic: "t".into(), partition: 0, offset: 0, digest: "".into() };
    let decode = |bytes: Vec<u8>| StationDecoder::default().decode(&bytes.into(), &input).unwrap();
    let read = decode(example.as_bytes().to_vec());
    assert!(read.refused.is_empty() && read.ignored == 0, "{:?}", read.refused);
    assert_eq!(read.reports[0].readings.len(), 3);
    let tables = tables("Station reports");
    // Everything that the example has, and that Squall writes, is listed, and nothing else.
    for bytes in [example.as_bytes().to_vec(), reports_json(&read.reports)] {
        let mut found = BTreeSet::new();
        match serde_json::from_slice(&bytes).unwrap() {
            Value::Array(reports) => reports.iter().for_each(|report| paths(report, "", &mut found)),
            report => paths(&report, "", &mut found),
        }
        assert_eq!(found, first_column(&tables[0]));
    }
    for row in &tables[1] {
        for name in codes(&row[0]) {
            let quantity = Quantity::of_standard_name(&name).unwrap_or_else(|| panic!("{name} is not read"));
            assert_eq!(codes(&row[1]), [quantity.name()], "{name}");
            assert!(row[2].starts_with(quantity.unit()), "{name} is in {}", quantity.unit());
        }
    }
    let limits = StationLimits::default();
    let listed: Vec<usize> = tables[2].iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(listed, [limits.max_bytes, limits.max_reports, limits.max_readings]);
    assert!(section.contains(&format!("from 1 to {}", limits.max_period_seconds)));
    assert!(section.contains(&format!("at most {} bytes", limits.max_text_bytes)));
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let verdicts: Vec<&str> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
    assert_eq!(first_column(&tables[3]), named(&verdicts));
    for row in &tables[3] {
        let verdict = Verdict::ALL.iter().find(|verdict| codes(&row[0]) == [verdict.name()]);
        assert_eq!(verdict.map(|verdict| verdict.code().to_string()).as_ref(), Some(&row[1]));
    }
    let checks: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
    assert_eq!(first_column(&tables[4]), named(&checks));
}

/// What `squall inspect stations` prints.
fn inspected(arguments: &[&str]) -> String {
    let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
    squall.env_remove("RUST_LOG").args(["inspect", "stations"]).args(arguments);
    let output = squall.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_thought_of_readings_is_printed_as_it_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("winds.nc");
    let mut file = netcdf::create(&path).unwrap();
    file.add_dimension("station", 2).unwrap();
    file.add_dimension("time", 3).unwrap();
    let mut add = |name: &str, dimensions: &[&str], values: &[f64], attributes: &[(&str, &str)]| {
        let mut variable = file.add_variable::<f64>(name, dimensions).unwrap();
        for (name, value) in attributes {
            variable.put_attribute(name, *value).unwrap();
        }
        variable.put_values(values, ..).unwrap();
    };
    add("time", &["time"], &[0.0, 10.0, 20.0], &[("units", "minutes since 2020-01-01 00:00:00")]);
    add("latitude", &["station"], &[57.0, 58.0], &[("units", "degrees_north")]);
    add("longitude", &["station"], &[12.0, 13.0], &[("units", "degrees_east")]);
    let wind = [("standard_name", "wind_speed"), ("units", "m s-1")];
    add("wind", &["station", "time"], &[5.0, 60.0, 6.0, 4.0, 5.0, f64::NAN], &wind);
    drop(file);
    let path = path.display().to_string();
    let json = |arguments: &[&str]| -> Value {
        let arguments = [&[path.as_str(), "--format", "json"][..], arguments].concat();
        serde_json::from_str(&inspected(&arguments)).unwrap()
    };
    let (all, listed) = (json(&[]), first_column(&tables("Station reports")[5]));
    let rows = all["readings"].as_array().unwrap();
    for row in rows {
        let mut found = BTreeSet::new();
        paths(row, "", &mut found);
        assert_eq!(found, listed);
    }
    let verdicts = |json: &Value| -> Vec<String> {
        json["readings"].as_array().unwrap().iter().map(|row| text(row, "verdict").to_owned()).collect()
    };
    // What a file has no value for is no reading.
    assert_eq!(verdicts(&all), ["good", "suspect", "good", "good", "good"]);
    assert_eq!((&rows[1]["flags"]["range"], &rows[1]["flags"]["step"]), (&"suspect".into(), &"suspect".into()));
    assert_eq!((&rows[1]["value"], &rows[1]["time"]), (&60.0.into(), &"2020-01-01T00:10:00Z".into()));
    assert_eq!(verdicts(&json(&["--flagged"])), ["suspect"]);
    let table = inspected(&[&path, "--flagged"]);
    assert!(table.contains("60.00  suspect by range, step"), "{table}");
    assert!(table.ends_with("5 readings of 2 stations: 4 good, 1 suspect\n"), "{table}");
    // With the limits of a stream.
    let config = folder.path().join("c.toml");
    let limits = "inputs.stations.quality.wind_speed = { possible = [0.0, 50.0] }\n";
    std::fs::write(&config, format!("{SCORED_CONFIG}{limits}")).unwrap();
    let of_stream = json(&["--config", &config.display().to_string()]);
    assert_eq!(verdicts(&of_stream), ["good", "fail", "good", "good", "good"]);
}

/// A stream that is worse than its baseline.
const SCORED_CONFIG: &str = r#"
name = "t"
[runtime]
clock = "log"
until_marker = true
[[sources]]
name = "radar"
variables = ["rain_rate"]
cadence = "5 min"
[[streams]]
name = "rain"
source = "radar"
model = { name = "persistence" }
window_frames = 2
leads = 2
members = 2
horizon = "5 min"
thresholds = [1.0]
companions.moved.model = { name = "extrapolation" }
verification = { scores = ["crps", "csi", "fss"], scales = [3] }
"#;

/// What is scored of an hour and ten minutes of rain: the records of the scores, and of the statistics.
static SCORED: LazyLock<[Vec<Record>; 2]> = LazyLock::new(|| {
    let store = tempfile::tempdir().unwrap();
    let scratch = store.path().join("own/scratch");
    let layers = Layers::from_text("t.toml", SCORED_CONFIG).set(format!("store.url={}", store.path().display()));
    let layers = layers.set(format!("store.scratch={}", scratch.display()));
    let config = layers.load().unwrap_or_else(|faults| panic!("{faults}"));
    let log = MemoryLog::new();
    topics::ensure(&config, &log).unwrap();
    let source = &config.sources[0];
    let cadence = source.cadence;
    let settings = StormSettings { rows: 48, columns: 48, cadence, start: START, ..StormSettings::default() };
    let mut writer = log.writer().unwrap();
    let mut last = 0;
    for frame in frames(settings, 15, &source.variables) {
        last = Arrivals::default().of(frame.slot);
        writer.send(record(&config, source, &frame, last, Some(0), Format::Netcdf).unwrap()).unwrap();
    }
    writer.send(end_of_log(source, 0, last)).unwrap();
    writer.flush(Duration::from_secs(10)).unwrap();
    let parts = Parts::new(&config, Arc::new(log.clone()), connect::store(&config).unwrap());
    Runtime::start_with(&config, parts).unwrap().join().unwrap();
    assert!(scratch.read_dir().unwrap().next().is_none(), "fields have waited there, and nothing is left");
    let topics = &config.streams[0].verification.as_ref().unwrap().topics;
    [&topics.scores, &topics.statistics].map(|topic| read(&log, topic))
});

/// What a table lists: a name that begins with a dot goes on as the one before it in its row.
fn listed_paths(table: &Table) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for row in table {
        let mut parent = String::new();
        for name in codes(&row[0]) {
            let full = if name.starts_with('.') { format!("{parent}{name}") } else { name };
            parent = full.rsplit_once('.').map_or("", |(parent, _)| parent).to_owned();
            all.insert(full);
        }
    }
    all
}

/// Checks that all records of a kind, which are so many at least, have the fields of a table.
fn have_the_fields_of(table: &Table, records: &[Record], kind: &str, at_least: usize) {
    let of_kind = |record: &&Record| record.header("ce_type") == Some(kind) && record.value.is_some();
    let records: Vec<_> = records.iter().filter(of_kind).collect();
    assert!(records.len() >= at_least, "{} records of {kind}", records.len());
    let is_number = |path: &str| path.bytes().all(|byte| byte.is_ascii_digit());
    for record in records {
        let mut found = BTreeSet::new();
        paths(&json(record), "", &mut found);
        let numbered = |path: String| match path.rsplit_once('.') {
            Some((parent, number)) if is_number(number) => format!("{parent}.N"),
            _ => path,
        };
        assert_eq!(found.into_iter().map(numbered).collect::<BTreeSet<_>>(), listed_paths(table), "{kind}");
    }
}

#[test]
fn scores_skill_and_statistics_have_the_fields_and_headers_that_are_listed() {
    let [scores, statistics] = &*SCORED;
    let (of_scores, of_statistics) = (tables("Scores"), tables("Statistics"));
    // Two contestants, two leads, three windows; one hour that is closed; and each valid time.
    have_the_fields_of(&of_scores[0], scores, "squall.scores.v1", 2 * 2 * 3);
    have_the_fields_of(&of_scores[1], scores, "squall.skill.v1", 1);
    have_the_fields_of(&of_statistics[0], statistics, "squall.statistics.v1", 2 * 2 * 12);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats.md");
    let document = std::fs::read_to_string(path).unwrap();
    let section = document.split("## Scores").nth(1).unwrap();
    let sentence = section.split("Headers are ").nth(1).unwrap().split("\n\n").next().unwrap();
    for record in scores.iter().chain(statistics) {
        let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 7);
        assert!(names.iter().all(|name| sentence.contains(&format!("`{name}`"))), "{names:?} in {sentence}");
        assert!(sentence.contains(&format!("`{}`", record.header("ce_type").unwrap())), "{sentence}");
        assert_eq!(record.header("ce_subject").unwrap().as_bytes(), &*record.key.clone().unwrap());
    }
}

/// A variable of a file in the words of the document.
type Described = (String, BTreeMap<&'static str, String>);

/// What a file holds; standard name and unit of what is forecast as X and U, and `threshold_1` as `threshold`.
fn in_file(index: &Value, variables: &[Variable]) -> Vec<Described> {
    let href = index["links"][0]["href"].as_str().unwrap();
    hdf5_metno::silence_errors(true); // it would print its own account of each attribute that is not there
    let file = netcdf::open(href.strip_prefix("file://").unwrap()).unwrap();
    file.variables().map(|variable| described(&variable, variables)).collect()
}

fn described(variable: &netcdf::Variable<'_>, variables: &[Variable]) -> Described {
    let attribute = |name: &str| match variable.attribute(name).map(|a| a.value()) {
        Some(Ok(netcdf::AttributeValue::Str(text))) => text,
        _ => String::new(),
    };
    let (name, standard_name) = (variable.name(), attribute("standard_name"));
    let of = variables.iter().find(|v| name.contains(v.standard_name()) || standard_name == v.standard_name());
    let replaced = |text: String, long: fn(Variable) -> &'static str, short: &str| match of {
        Some(of) => text.replace(long(*of), short),
        None => text,
    };
    let dimensions: Vec<String> = variable.dimensions().iter().map(|d| d.name().replace("_1", "")).collect();
    let packed = matches!(variable.vartype(), netcdf::types::NcVariableType::Int(netcdf::types::IntType::I16));
    let columns = [
        ("dimensions", dimensions.join(", ")),
        ("units", replaced(attribute("units"), |v| v.unit().symbol(), "U")),
        ("standard_name", replaced(standard_name, Variable::standard_name, "X")),
        ("cell_methods", attribute("cell_methods")),
        ("type", if packed { "packed" } else { "float" }.to_owned()),
    ];
    (replaced(name.replace("_1", ""), Variable::standard_name, "X"), columns.into())
}

/// The rows of a table, one for each name; of several names in a row the other columns list as many, or say `as named`.
fn documented(table: &Table, columns: &[(&'static str, usize)]) -> Vec<Described> {
    let mut all = Vec::new();
    for row in table {
        let names = codes(&row[0]);
        for (place, name) in names.iter().enumerate() {
            let value = |column: usize| match codes(&row[column]) {
                _ if row[column] == "as named" => name.clone(),
                codes if names.len() > 1 && codes.len() == names.len() => codes[place].clone(),
                _ => plain(&row[column]),
            };
            all.push((name.clone(), columns.iter().map(|(key, column)| (*key, value(*column))).collect()));
        }
    }
    all
}

#[test]
fn files_hold_the_variables_that_are_listed() {
    let tables = tables("Files");
    let dense = [("dimensions", 2), ("units", 3), ("standard_name", 4), ("cell_methods", 5), ("type", 6)];
    let mut listed = documented(&tables[0], &dense);
    let names: BTreeSet<String> = listed.iter().map(|(name, _)| name.clone()).collect();
    listed.extend(documented(&tables[1], &[("dimensions", 1), ("units", 2), ("standard_name", 3)]));
    let listed: BTreeSet<Described> = listed.into_iter().collect();
    let mut found = BTreeSet::new();
    for record in &LEFT.index {
        let variables = variables_of(stream_of(record));
        for (name, mut columns) in in_file(&json(record), variables) {
            if !names.contains(&name) {
                columns.retain(|key, _| !["cell_methods", "type"].contains(key));
            }
            found.insert((name, columns));
        }
    }
    let difference: Vec<_> = listed.symmetric_difference(&found).collect();
    assert!(difference.is_empty(), "listed and not found, or found and not listed: {difference:#?}");
}
