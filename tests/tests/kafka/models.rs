//! The trained models in the stream: rain by CogDPM and wind by DyDiff in one process, as the shipped configuration has
//! them, each forecast equal to the last bit to what `squall forecast` makes of the same frames.

use std::path::{Path, PathBuf};

use squall_tests::forecasts::{Published, published_on};
use squall_tests::program::{python, root};
use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, Sent, Setting, files, models};

/// One stream of the configuration and what it is fed with.
struct Stream {
    name: &'static str,
    source: &'static str,
    weights: &'static str,
    cadence_seconds: i64,
    leads: usize,
    archive: Rain,
}

/// Frames in a window of either stream, and members asked of either.
const WINDOW: usize = 4;
const MEMBERS: usize = 2;

fn rain(folder: &Path) -> Rain {
    let part = Rain::part(folder, "radar_fmi_20170509.nc", "2017-05-09T12:00", 7, 128, -1);
    part.unwrap_or_else(|| {
        eprintln!("SQUALL_DATA is not set: simulated rain instead of the Finnish radar");
        Rain::storm(folder, "rain.nc", &["--frames", "7", "--size", "128x128", "--variables", "rain"])
    })
}

/// With one analysis missing, so that some windows are short.
fn wind(folder: &Path) -> Rain {
    let part = Rain::part(folder, "wind_gfs_201809_201810_natlantic.nc", "2018-10-14T00:00", 8, 64, 5);
    part.unwrap_or_else(|| {
        eprintln!("SQUALL_DATA is not set: simulated wind instead of analyses");
        let arguments =
            ["--frames", "6", "--size", "64x64", "--variables", "wind", "--cadence", "3h", "--spacing", "100"];
        Rain::storm(folder, "wind.nc", &arguments)
    })
}

/// The shipped configuration on the tests' broker and store, as a replay, with a small ensemble.
fn settings(setting: &Setting) -> Vec<String> {
    let topic = |kind: &str| setting.topic(kind);
    let mut settings = vec![
        format!("name={}", setting.prefix()),
        format!("log.bootstrap_servers={}", Kafka::shared().address()),
        format!("store.url={}", setting.store().display()),
        "runtime.clock=log".to_owned(),
        "runtime.until_marker=true".to_owned(),
        "metrics.listen=127.0.0.1:0".to_owned(),
        format!("topics.dead_letters={}", topic("dead-letters")),
        format!("topics.progress={}", topic("progress")),
        format!("sources.radar.topic={}", topic("radar")),
        format!("sources.analysis.topic={}", topic("analysis")),
        format!("streams.rain.topics.probabilities={}", topic("rain.probabilities")),
    ];
    for stream in ["rain", "wind"] {
        settings.push(format!("streams.{stream}.members={MEMBERS}"));
        settings.push(format!("streams.{stream}.topics.index={}", topic(&format!("{stream}.index"))));
        settings.push(format!("streams.{stream}.topics.quantiles={}", topic(&format!("{stream}.quantiles"))));
    }
    settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect()
}

fn start(setting: &Setting, arguments: &[&str]) -> Running {
    let settings = settings(setting);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    setting.start(&[arguments, &settings].concat())
}

const CONFIG: &str = "configs/rain-and-wind.toml";

#[test]
fn rain_and_wind_are_forecast_by_the_trained_models_in_one_process() {
    let setting = Setting::new("rain-and-wind");
    let folder = setting.folder();
    let stream = |name, source, weights, cadence_seconds, leads, archive| Stream {
        name,
        source,
        weights,
        cadence_seconds,
        leads,
        archive,
    };
    let streams = [
        stream("rain", "radar", "models/weights/cogdpm-rain.safetensors", 300, 12, rain(folder)),
        stream("wind", "analysis", "models/weights/dydiff-wind.safetensors", 10_800, 8, wind(folder)),
    ];
    for stream in &streams {
        let file = stream.archive.file.display().to_string();
        start(&setting, &["publish", &file, "--config", CONFIG, "--source", stream.source]).success(LIMIT);
    }
    let mut running = start(&setting, &["run", CONFIG, "--log-format", "json"]);
    let address = models::address(&mut running);
    let digests: Vec<_> = streams.iter().map(|s| models::digest(folder, &root().join(s.weights))).collect();
    for (stream, digest) in streams.iter().zip(&digests) {
        running.until(LIMIT, "a forecast of each stream", || made(&address, stream.name));
        measured(&address, stream.name, digest);
    }
    // The replay goes on until it is told that this is all.
    for stream in &streams {
        let timestamp_ms = stream.archive.slots.last().map_or(0, |slot| slot * 1000);
        let headers = vec![("squall-end-of-log".to_owned(), b"true".to_vec())];
        let end = Sent { partition: 0, timestamp_ms, key: Vec::new(), headers, value: Vec::new() };
        Kafka::shared().write(&setting.topic(stream.source), &[end]);
    }
    running.success(LIMIT);

    let mut some = Vec::new();
    for (stream, digest) in streams.iter().zip(&digests) {
        let published = published_on(&setting.topic(&format!("{}.index", stream.name)));
        as_it_should_be(stream, digest, &published);
        published.iter().for_each(|one| holds(stream, &one.file()));
        let one = &published[published.len() - 2];
        let alone = alone(&setting, stream, &one.issue_time);
        assert_eq!(files::difference(&one.file(), &alone), Vec::<String>::new(), "{} {}", stream.name, one.issue_time);
        some.push(one.file().display().to_string());
    }
    let checks = ["--test=cf:1.11", "--criteria=normal", "--format=text", &some[0], &some[1]];
    let report = Running::start(folder, &python().with_file_name("compliance-checker"), &checks).success(LIMIT);
    assert!(report.contains("All tests passed!"), "{report}");
}

fn made(address: &str, stream: &str) -> bool {
    models::metric(address, "squall_forecasts_total", &[("stream", stream)]).is_some_and(|count| count >= 1.0)
}

/// What the instance measures of a stream whose model was there from the start.
fn measured(address: &str, stream: &str, digest: &str) {
    let metric = |name: &str| models::metric(address, name, &[("stream", stream)]);
    for name in ["squall_model_load_seconds", "squall_model_warm_up_seconds"] {
        assert!(metric(name).is_some_and(|seconds| seconds > 0.0), "{name} of {stream}");
    }
    assert_eq!(metric("squall_models_taken_up_total"), Some(1.0), "{stream}");
    assert_eq!(metric("squall_model_load_failures_total"), None, "{stream}");
    let labels = [("stream", stream), ("digest", digest)];
    assert_eq!(models::metric(address, "squall_model_in_use", &labels), Some(1.0), "{stream}");
}

/// A forecast for each frame from the first full window on, by the model, degraded only where the window is short.
fn as_it_should_be(stream: &Stream, digest: &str, published: &[Published]) {
    let name = stream.name;
    let full = stream.archive.windows(WINDOW, stream.cadence_seconds);
    assert!(!full.is_empty(), "{name}");
    for time in &full {
        let found: Vec<_> = published.iter().filter(|p| p.issue_time == *time).collect();
        assert_eq!(found.len(), 1, "{name}: one forecast at {time}");
        assert_eq!(found[0].mask(), [true; WINDOW], "{name} {time}");
    }
    let last = stream.archive.slots[stream.archive.slots.len() - 1];
    // A slot without a frame is no issue time.
    let slots = stream.archive.slots.len() - (WINDOW - 1);
    // A short window waits for its patience, which the end of the log cuts off.
    let waits = usize::from(full.last() != Some(&rfc3339(last)));
    assert_eq!(published.len(), slots - waits, "{name}: one forecast for each frame");
    for one in published {
        let time = &one.issue_time;
        assert_eq!((one.model_digest(), one.revision), (digest, 0), "{name} {time}");
        assert_eq!(one.degraded(), one.mask().contains(&false), "{name} {time}: {}", one.reasons());
    }
}

/// Checks what lies in a file: the ensemble, and of the guided model the precision map.
fn holds(stream: &Stream, path: &Path) {
    let file = files::open(path);
    let place = path.display();
    let ensembles: Vec<_> = file.variables().filter(|v| v.dimensions().first().is_some_and(is_realization)).collect();
    let ensembles: Vec<_> = ensembles.into_iter().filter(|v| v.dimensions().len() == 4).collect();
    assert_eq!(ensembles.len(), if stream.name == "rain" { 1 } else { 2 }, "{place}: one for each variable");
    let present: Vec<Vec<bool>> = ensembles.iter().map(files::present).collect();
    for (ensemble, present) in ensembles.iter().zip(&present) {
        let shape: Vec<_> = ensemble.dimensions().iter().map(netcdf::Dimension::len).collect();
        assert_eq!(shape[..2], [MEMBERS, stream.leads], "{place}: {}", ensemble.name());
        let count = present.iter().filter(|there| **there).count();
        assert!(count * 10 > present.len() * 9, "{place}: {} has {count} of {} values", ensemble.name(), present.len());
    }
    let Some(precision) = file.variable("precision") else {
        assert_eq!(stream.name, "wind", "{place}: no precision map");
        return;
    };
    assert_eq!(stream.name, "rain", "{place}: a precision map of a model that is not guided");
    let values = precision.get_values::<f32, _>(..).expect("numbers");
    let there = files::present(&precision);
    assert_eq!(values.len(), present[0].len() / MEMBERS, "{place}: one map for all members");
    let sound = |i: usize| !present[0][i] || (there[i] && values[i].is_finite() && values[i] >= 0.0);
    let bad = (0..values.len()).filter(|i| !sound(*i)).count();
    assert_eq!(bad, 0, "{place}: precision is no number where the ensemble is one");
}

fn is_realization(dimension: &netcdf::Dimension<'_>) -> bool {
    dimension.name() == "realization"
}

/// What `squall forecast` makes of the archive for an issue time.
fn alone(setting: &Setting, stream: &Stream, issue_time: &str) -> PathBuf {
    let output = setting.folder().join(format!("{}-alone", stream.name));
    let (input, folder) = (stream.archive.file.display().to_string(), output.display().to_string());
    let arguments = ["forecast", CONFIG, "--input", &input, "--stream", stream.name, "--at", issue_time];
    start(setting, &[&arguments[..], &["--output", &folder]].concat()).success(LIMIT);
    let files = files::below(&output, "nc");
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}
