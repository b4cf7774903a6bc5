//! Every file in `configs/` is run: simulated data, the log in memory, the configuration otherwise as it is.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use squall_connectors::memory::MemoryLog;
use squall_fields::{Chain, Frame, ValidTime, Variable};
use squall_models::simulate::StormSettings;
use squall_operators::ports::Connect;
use squall_pipeline::commands::simulate::frames;
use squall_pipeline::config::{Config, Layers, ModelConfig, SourceConfig};
use squall_pipeline::publish::{Arrivals, Format, Spread, end_of_log, record};
use squall_pipeline::runtime::Runtime;
use squall_pipeline::{connect, topics};
use support::read;

fn configs() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "toml")).collect();
    paths.sort();
    paths
}

/// The configuration of a file, on the log in memory, as a replay, with its store in a temporary folder. Configurations
/// of other commands (training) have no streams and are theirs to test.
fn load(path: &Path, store: &Path) -> Option<Config> {
    let text = std::fs::read_to_string(path).unwrap();
    if !text.contains("[[streams]]") {
        return None;
    }
    let changes = ["log.kind=memory", "runtime.clock=log", "runtime.until_marker=true"];
    let layers = Layers::from_text(&path.display().to_string(), &text).set(format!("store.url={}", store.display()));
    let config = changes.into_iter().fold(layers, |layers, change| layers.set(change)).load();
    let mut config = config.unwrap_or_else(|faults| panic!("{faults}"));
    config.metrics = None; // ports are shared by all tests
    let trained = config.streams.iter_mut().filter(|stream| matches!(stream.model, ModelConfig::File { .. }));
    trained.for_each(|stream| stream.members = 2); // sampling takes seconds a member
    Some(config)
}

/// Frames that suit a source, and one more than its longest window has.
fn data(config: &Config, source: &SourceConfig) -> Vec<Frame> {
    let windows = config.streams.iter().filter(|stream| stream.source.name == source.name);
    let count = 1 + windows.map(|stream| stream.window_frames).max().unwrap_or(1);
    let start = source.cadence.slot_at_or_before(ValidTime::from_unix_seconds(1_475_064_000));
    // Models of weather that is analysed every few hours were made for grids of about a degree.
    let spacing_m = if source.cadence.step_seconds() < 3 * 3600 { 1000.0 } else { 100_000.0 };
    let cadence = source.cadence;
    let settings = StormSettings { rows: 64, columns: 72, spacing_m, cadence, start, ..StormSettings::default() };
    let known = [Variable::RainRate, Variable::EastwardWind, Variable::NorthwardWind];
    let variables = &source.variables;
    assert!(variables.iter().all(|variable| known.contains(variable)), "a storm has no {variables:?}");
    frames(settings, count, variables)
}

fn publish(config: &Config, log: &MemoryLog) {
    let mut writer = log.writer().unwrap();
    for source in &config.sources {
        let frames = data(config, source);
        let order = Arrivals::default().order(frames.iter().map(|frame| frame.slot));
        let last = order.last().map_or(0, |(_, arrival)| *arrival);
        for (place, arrival) in order {
            let partition = Spread::Slot.partition(frames[place].slot, source, source.partitions);
            // Both formats, in turn, where both can hold the frame.
            let format = if source.variables.len() == 1 && place % 2 == 1 { Format::Odim } else { Format::Netcdf };
            writer.send(record(config, source, &frames[place], arrival, partition, format).unwrap()).unwrap();
        }
        for partition in 0..source.partitions {
            writer.send(end_of_log(source, partition, last)).unwrap();
        }
    }
    writer.flush(Duration::from_secs(10)).unwrap();
}

#[test]
fn every_configuration_runs() {
    let mut ran = 0;
    for path in configs() {
        let store = tempfile::tempdir().unwrap();
        let Some(config) = load(&path, store.path()) else { continue };
        let log = MemoryLog::new();
        topics::ensure(&config, &log).unwrap();
        publish(&config, &log);
        let runtime = Runtime::start(&config, Arc::new(log.clone()), connect::store(&config).unwrap());
        let handle = runtime.unwrap_or_else(|error| panic!("{}: {error:#}", path.display()));
        handle.join().unwrap_or_else(|failure| panic!("{}: {}", path.display(), Chain(&failure)));
        let dead = read(&log, &config.topics.dead_letters);
        assert!(dead.is_empty(), "{}: {} dead letters", path.display(), dead.len());
        for stream in &config.streams {
            let frames = data(&config, &stream.source).len();
            let index = read(&log, &stream.topics.index);
            let mine = index.iter().filter(|record| record.header("stream") == Some(&stream.name));
            let degraded: Vec<_> = mine.map(|record| record.header("degraded").unwrap_or("").to_owned()).collect();
            let expected = vec!["false".to_owned(); frames + 1 - stream.window_frames];
            assert_eq!(degraded, expected, "{}: stream {}", path.display(), stream.name);
        }
        ran += 1;
    }
    assert!(ran >= 4, "only {ran} configurations ran");
}

#[test]
fn a_configuration_of_the_folder_is_what_it_prints() {
    for path in configs() {
        let Some(config) = load(&path, Path::new("out/test")) else { continue };
        let again = Layers::from_text("printed", &config.to_toml()).load();
        assert_eq!(again.unwrap_or_else(|faults| panic!("{faults}")), config, "{}", path.display());
    }
}
