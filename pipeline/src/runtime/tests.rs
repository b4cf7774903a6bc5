//! The whole dataflow on the log in memory: what must hold whatever the order, the workers and the crashes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ndarray::{Array3, Array4};
use squall_connectors::kafka::{KafkaConfig, KafkaLog};
use squall_connectors::memory::{MemoryLog, Verdict};
use squall_fields::random::Philox;
use squall_fields::{Axis, Ensemble, Forecast, Frame, Grid, InputRef, ValidTime, Variable};
use squall_models::{Coordinates, Forecaster, ModelError, Prediction, Request};
use squall_operators::ports::{DecodeError, EncodeError, LogWriter, Outgoing, Record, StoreError};
use squall_operators::products::ProductField;
use squall_operators::tile;

mod failures;
mod processes;
mod repeats;
mod stumbles;

use super::*;
use crate::broker::DevBroker;
use crate::config::Layers;

const STEP: i64 = 300;

/// Reads `slot value value ...` as a frame of one row.
struct Words;

impl FrameDecoder for Words {
    fn content_types(&self) -> &[&'static str] {
        &["text/x-words"]
    }

    fn decode(&self, payload: &Bytes, input: &InputRef) -> Result<Vec<Frame>, DecodeError> {
        let text = std::str::from_utf8(payload).map_err(|e| DecodeError::new(e.to_string()))?;
        let words: Option<Vec<f32>> = text.split_whitespace().skip(1).map(|w| w.parse().ok()).collect();
        let slot = text.split_whitespace().next().and_then(|w| w.parse().ok());
        let (Some(slot), Some(values)) = (slot, words) else { return Err(DecodeError::new("no words")) };
        let axis = |step: f64, len| Axis { first: 0.0, step, len };
        let proj = "+proj=utm +zone=35".to_owned();
        let grid = Grid { proj, wkt: None, x: axis(1000.0, values.len()), y: axis(-1000.0, 1) };
        let values =
            Array3::from_shape_vec((1, 1, values.len()), values).map_err(|e| DecodeError::new(e.to_string()))?;
        Ok(vec![Frame {
            grid: grid.into(),
            slot: ValidTime::from_unix_seconds(slot),
            variables: vec![Variable::RainRate].into(),
            values,
            quality: None,
            input: input.clone(),
        }])
    }
}

/// A weighted sum of the window, so that every frame and every gap shows in the forecast.
struct Weighted;

impl Forecaster for Weighted {
    fn name(&self) -> &str {
        "weighted"
    }

    fn digest(&self) -> &str {
        "w1"
    }

    fn coordinates(&self) -> Coordinates {
        Coordinates {
            variables: vec![vec![Variable::RainRate]],
            cadence: None,
            spacing_m: None,
            context_frames: 1,
            max_leads: None,
            min_shape: (1, 1),
            max_members: None,
        }
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        let one = |request: &Request| {
            let frames = &request.window.frames;
            let columns = request.window.newest().map_or(1, |f| f.grid.shape().1);
            let shape = (request.members, request.leads.len(), 1, columns);
            let values = Array4::from_shape_fn(shape, |(member, lead, _, x)| {
                let weigh = |(i, frame): (usize, &Option<Arc<Frame>>)| {
                    frame.as_ref().map_or(50.0, |f| f.values[[0, 0, x]]) * (i + 1) as f32
                };
                frames.iter().enumerate().map(weigh).sum::<f32>() + (member * 10 + lead) as f32
            });
            Ok(Prediction { ensembles: vec![Ensemble { variable: Variable::RainRate, values }], precision: None })
        };
        requests.iter().map(one).collect()
    }
}

struct Text;

impl ForecastEncoder for Text {
    fn content_type(&self) -> &'static str {
        "text/plain"
    }

    fn extension(&self) -> &'static str {
        "txt"
    }

    fn encode(&self, forecast: &Forecast, _: &[ProductField<'_>]) -> Result<Vec<u8>, EncodeError> {
        Ok(format!("{} {:?}", forecast.id, forecast.ensembles).into_bytes())
    }
}

#[derive(Default)]
struct Shelf(Mutex<BTreeMap<String, Bytes>>);

impl FieldStore for Shelf {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<String, StoreError> {
        self.0.lock().unwrap().insert(name.to_owned(), Bytes::copy_from_slice(bytes));
        Ok(format!("mem:///{name}"))
    }

    fn get(&self, url: &str, _: u64) -> Result<Bytes, StoreError> {
        let found = self.0.lock().unwrap().get(url.trim_start_matches("mem:///")).cloned();
        found.ok_or_else(|| StoreError::Missing { name: url.into() })
    }
}

/// A log that a test can share.
trait Log {
    fn connect(&self) -> Arc<dyn Connect>;
}

impl Log for MemoryLog {
    fn connect(&self) -> Arc<dyn Connect> {
        Arc::new(self.clone())
    }
}

impl Log for KafkaLog {
    fn connect(&self) -> Arc<dyn Connect> {
        Arc::new(self.clone())
    }
}

fn config(workers: usize, clock: &str, cadence: &str) -> Config {
    Layers::from_text("test.toml", &settings(workers, clock, cadence)).load().unwrap()
}

fn settings(workers: usize, clock: &str, cadence: &str) -> String {
    format!(
        r#"
        name = "test"
        [runtime]
        workers = {workers}
        clock = "{clock}"
        [[sources]]
        name = "radar"
        variables = ["rain_rate"]
        cadence = "{cadence}"
        partitions = 3
        [[streams]]
        name = "rain"
        source = "radar"
        model = {{ name = "lagrangian-probability" }}
        window_frames = 3
        leads = 2
        members = 2
        thresholds = [100.0]
        quantiles = [0.5]
        "#
    )
}

fn parts(log: &dyn Log) -> Parts {
    Parts {
        reset: Default::default(),
        connect: log.connect(),
        store: Arc::new(Shelf::default()),
        decoders: Box::new(|_| vec![Arc::new(Words)]),
        encoder: Arc::new(Text),
        forecasts: super::forecasts(),
        scratch: Arc::new(ScratchFiles::default()),
        models: Box::new(|_| Ok(Box::new(Weighted))),
        as_recorded: None,
        hosts: None,
        pause: Box::new(|wait| {
            std::thread::sleep(wait);
            true
        }),
    }
}

fn start(log: &dyn Log, config: &Config) -> anyhow::Result<Handle> {
    Runtime::start_with(config, parts(log))
}

/// Waits for a condition, within a bound that no healthy run comes near.
fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn run(log: &dyn Log, workers: usize) -> anyhow::Result<()> {
    let handle = start(log, &config(workers, "log", "5 min"))?;
    wait("the end of the log", || handle.is_finished());
    Ok(handle.join()?)
}

/// An observation: partition, slot number, value, known at (ms).
type Observation = (i32, i64, i32, i64);

fn observation((partition, slot, value, known_ms): Observation) -> Outgoing {
    let text = format!("{} {value} {} 0", slot * STEP, value + 1);
    record(partition, "text/x-words", text, known_ms)
}

fn record(partition: i32, content_type: &str, text: String, known_ms: i64) -> Outgoing {
    Outgoing {
        topic: "obs.radar.v1".into(),
        partition: Some(partition),
        key: None,
        headers: vec![("content-type".into(), Some(Bytes::copy_from_slice(content_type.as_bytes())))],
        value: Some(Bytes::from(text)),
        timestamp_ms: Some(known_ms),
    }
}

fn filled(records: impl IntoIterator<Item = Outgoing>) -> MemoryLog {
    let log = MemoryLog::new();
    fill(&log, records);
    log
}

fn fill(log: &dyn Log, records: impl IntoIterator<Item = Outgoing>) {
    topics::ensure(&config(1, "log", "5 min"), &*log.connect()).unwrap();
    let mut writer = log.connect().writer().unwrap();
    records.into_iter().for_each(|record| writer.send(record).unwrap());
    writer.flush(Duration::from_secs(60)).unwrap();
}

/// Committed records of a topic.
fn read(log: &dyn Log, topic: &str) -> Vec<Record> {
    let mut reader = log.connect().reader(u64::MAX).unwrap();
    let partitions = reader.partitions(topic).unwrap();
    let ends: Vec<_> = partitions.iter().map(|p| (p.clone(), reader.end_offset(p).unwrap())).collect();
    reader.assign(&partitions.into_iter().map(|p| (p, 0)).collect::<Vec<_>>()).unwrap();
    let mut records = Vec::new();
    wait("the end of a topic", || {
        while let Some(record) = reader.poll(Duration::ZERO).unwrap() {
            records.push(record);
        }
        ends.iter().all(|(partition, end)| reader.position(partition).unwrap() >= *end)
    });
    records
}

/// Everything that was said, in an order of its own: (topic, key, value).
fn said(log: &dyn Log) -> Vec<(String, String, Vec<u8>)> {
    let topics = ["fcst.index.v1", "fcst.prob.v1", "fcst.quantile.v1", "squall.dead-letters.v1"];
    let line = |r: Record| {
        let text = |b: Option<Bytes>| b.map(|b| b.to_vec()).unwrap_or_default();
        let key = String::from_utf8(text(r.key)).unwrap();
        (r.partition.topic.to_string(), key, text(r.value))
    };
    let mut said: Vec<_> = topics.iter().flat_map(|topic| read(log, topic)).map(line).collect();
    said.sort();
    said
}

/// Issue slot, revision, mask and first probability of each forecast, in the order of commit.
fn forecasts(log: &dyn Log) -> Vec<(i64, u64, Vec<bool>)> {
    let line = |r: Record| {
        let json: serde_json::Value = serde_json::from_slice(r.value.as_ref().unwrap()).unwrap();
        let squall = &json["properties"]["squall"];
        let issue = ValidTime::parse_rfc3339(squall["issue_time"].as_str().unwrap()).unwrap();
        let mask = squall["provenance"]["window_mask"].as_array().unwrap().iter().map(|b| b.as_bool().unwrap());
        (issue.unix_seconds() / STEP, squall["revision"].as_u64().unwrap(), mask.collect())
    };
    read(log, "fcst.index.v1").into_iter().map(line).collect()
}

/// What the tiles say, without where their inputs lay: (key, values).
fn fields(log: &dyn Log) -> Vec<(String, Vec<u32>)> {
    let line = |r: Record| {
        let (header, values) = tile::read(r.value.as_ref().unwrap()).unwrap();
        let key = format!("{}|r{}", String::from_utf8_lossy(r.key.as_ref().unwrap()), header.field.revision);
        (key, values.iter().map(|v| v.to_bits()).collect())
    };
    let mut fields: Vec<_> = read(log, "fcst.quantile.v1").into_iter().map(line).collect();
    fields.sort();
    fields
}

/// Slots 10 to 10 + n, each known 20 s after its slot, in one partition.
fn in_order(n: i64) -> Vec<Observation> {
    (10..10 + n).map(|slot| (0, slot, (slot % 7) as i32, (slot * STEP + 20) * 1000)).collect()
}

/// The same, delayed by up to 280 s each (so that neighbours change places, within the patience of one slot), over
/// three partitions, one of which has most of them.
fn shuffled(n: i64, seed: u64) -> Vec<Observation> {
    let random = Philox::new(seed, 0);
    let delayed = |(i, (_, slot, value, _)): (usize, Observation)| {
        let draw = random.block(i as u64);
        let partition = [0, 0, 0, 0, 1, 2][draw[0] as usize % 6];
        (partition, slot, value, slot * STEP * 1000 + i64::from(draw[1] % 170_000))
    };
    let mut observations: Vec<_> = in_order(n).into_iter().enumerate().map(delayed).collect();
    observations.sort_by_key(|o| o.3);
    observations
}

fn bad_records() -> Vec<Outgoing> {
    let at = |i: i64| ((12 + i) * STEP + 30) * 1000;
    let texts = [
        ("text/x-words", "not words"),
        ("image/png", "x"),
        ("text/x-words", "3601 1 2 0"),
        ("text/x-words", "9000000 1 2 0"),
    ];
    texts
        .iter()
        .enumerate()
        .map(|(i, (kind, text))| record(i as i32 % 3, kind, (*text).to_owned(), at(i as i64)))
        .collect()
}

#[test]
fn one_forecast_per_full_window_and_none_twice() {
    let log = filled(in_order(12).into_iter().map(observation));
    run(&log, 1).unwrap();
    let expected: Vec<_> = (12..22).map(|slot| (slot, 0, vec![true; 3])).collect();
    assert_eq!(forecasts(&log), expected);
    assert_eq!(read(&log, "fcst.prob.v1").len(), 20);
    assert_eq!(read(&log, "fcst.quantile.v1").len(), 40, "quantile and mean of two leads");
    run(&log, 2).unwrap();
    assert_eq!(forecasts(&log), expected, "a second run has nothing to add");
}

#[test]
fn workers_and_partitions_and_order_do_not_matter() {
    let reference = filled(in_order(16).into_iter().map(observation));
    run(&reference, 1).unwrap();
    for seed in 0..3 {
        let records: Vec<_> = shuffled(16, seed).into_iter().map(observation).chain(bad_records()).collect();
        let mut first = None;
        for workers in [1, 2, 4] {
            let log = filled(records.clone());
            run(&log, workers).unwrap();
            assert_eq!(fields(&log), fields(&reference), "seed {seed}, {workers} workers: as in order");
            let said = said(&log);
            assert_eq!(said.iter().filter(|s| s.0 == "squall.dead-letters.v1").count(), bad_records().len());
            let first = first.get_or_insert_with(|| said.clone());
            assert!(*first == said, "seed {seed}, {workers} workers: to the byte");
        }
    }
}

#[test]
fn a_missing_slot_is_waited_for_and_its_late_frame_makes_revisions() {
    let mut observations: Vec<_> = in_order(9).into_iter().filter(|o| o.1 != 14).collect();
    observations.push((0, 14, 5, (18 * STEP + 40) * 1000)); // within the horizon of 30 minutes
    let log = filled(observations.into_iter().map(observation));
    run(&log, 1).unwrap();
    let mut seen = forecasts(&log);
    let order: Vec<_> = seen.iter().map(|f| (f.0, f.1)).collect();
    assert_eq!(order, [(12, 0), (13, 0), (15, 0), (16, 0), (17, 0), (18, 0), (14, 0), (15, 1), (16, 1)]);
    seen.retain(|f| !f.2.iter().all(|present| *present));
    let with = |missing: usize| (0..3).map(|i| i != missing).collect::<Vec<_>>();
    assert_eq!(seen, [(15, 0, with(1)), (16, 0, with(0))]);
}

#[test]
fn a_crash_anywhere_loses_nothing_and_says_nothing_twice() {
    let mut observations = shuffled(20, 7);
    observations.retain(|o| o.1 != 17);
    observations.push((2, 17, 3, (22 * STEP) * 1000));
    observations.sort_by_key(|o| o.3);
    let records: Vec<_> = observations.into_iter().map(observation).chain(bad_records()).collect();
    let reference = filled(records.clone());
    run(&reference, 1).unwrap();
    let expected = said(&reference);
    let crashes_of = |seed: u64| {
        let log = filled(records.clone());
        let (random, commits) = (Philox::new(seed, 1), AtomicUsize::new(0));
        log.on_commit(move |_| {
            let failure = || LogError::failed("committing", "crash");
            match random.block(commits.fetch_add(1, Ordering::SeqCst) as u64)[0] % 4 {
                0 => Verdict::FailBefore(failure()),
                1 => Verdict::FailAfter(failure()),
                2 => Verdict::FailBefore(LogError::away("committing", "test")),
                _ => Verdict::Proceed,
            }
        });
        let mut crashes = 0;
        while run(&log, 1 + seed as usize % 3).is_err() {
            crashes += 1;
            assert!(crashes < 200, "it must come to an end");
        }
        let mut seen = (forecasts(&log), forecasts(&reference));
        seen.0.sort();
        seen.1.sort();
        assert_eq!(seen.0, seen.1, "seed {seed}, {crashes} crashes");
        assert!(said(&log) == expected, "seed {seed}, {crashes} crashes: to the byte");
    };
    // Most of each is waiting for the next attempt.
    const AT_ONCE: u64 = 4;
    std::thread::scope(|scope| {
        for first in 0..AT_ONCE {
            let seeds = (first..16).step_by(AT_ONCE as usize);
            scope.spawn(|| seeds.for_each(crashes_of));
        }
    });
}

#[test]
fn stops_cleanly_and_goes_on_with_the_wall_clock() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut log = MemoryLog::new();
    let config = config(2, "wall", "1 s");
    topics::ensure(&config, &log).unwrap();
    let first = now();
    let frame = |slot: i64| record((slot % 3) as i32, "text/x-words", format!("{slot} {} 2 0", slot % 5), 0);
    let handle = start(&log, &config).unwrap();
    (first..first + 5).for_each(|slot| log.send(frame(slot)).unwrap());
    wait("three forecasts", || read(&log, "fcst.index.v1").len() >= 3);
    handle.stop();
    wait("the stop", || handle.is_finished());
    handle.join().unwrap();
    (first + 5..first + 8).for_each(|slot| log.send(frame(slot)).unwrap());
    let handle = start(&log, &config).unwrap();
    wait("three more", || read(&log, "fcst.index.v1").len() >= 6);
    handle.stop();
    wait("the stop", || handle.is_finished());
    handle.join().unwrap();
    let complete: Vec<_> = forecasts(&log).into_iter().filter(|f| f.2 == [true; 3] && f.1 == 0).collect();
    assert_eq!(complete.len(), 6, "each full window once: {complete:?}");
}

#[test]
fn a_taken_over_ledger_stops_the_old_instance() {
    let mut log = MemoryLog::new();
    let config = config(1, "wall", "1 s");
    topics::ensure(&config, &log).unwrap();
    let old = start(&log, &config).unwrap();
    let new = start(&log, &config).unwrap();
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    (first..first + 3).for_each(|slot| log.send(record(0, "text/x-words", format!("{slot} 1 2 0"), 0)).unwrap());
    wait("the old instance to stop", || old.is_finished());
    let failure = old.join().unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::Fenced);
    let text = Chain(&failure).to_string();
    assert!(text.contains("another instance has taken it over"), "{text}");
    wait("the forecast", || !read(&log, "fcst.index.v1").is_empty());
    new.stop();
    wait("the stop", || new.is_finished());
    new.join().unwrap();
}

/// Answers only when it is let: a device that hangs.
struct Gated(crossbeam_channel::Receiver<()>);

impl Forecaster for Gated {
    fn name(&self) -> &str {
        "gated"
    }

    fn digest(&self) -> &str {
        "g1"
    }

    fn coordinates(&self) -> Coordinates {
        Weighted.coordinates()
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        let _ = self.0.recv(); // until the test lets go
        Weighted.forecast(requests)
    }
}

#[test]
fn a_model_that_misses_its_deadline_is_stood_in_for() {
    let log = filled(in_order(4).into_iter().map(observation));
    let mut config = config(1, "wall", "5 min");
    config.streams[0].deadline = Some(Duration::from_millis(20));
    let (release, gate) = crossbeam_channel::bounded(0);
    let parts = Parts { models: Box::new(move |_| Ok(Box::new(Gated(gate.clone())))), ..parts(&log) };
    let handle = Runtime::start_with(&config, parts).unwrap();
    wait("the forecasts, with a model that hangs", || read(&log, "fcst.index.v1").len() == 2);
    handle.stop();
    wait("the end", || handle.is_finished());
    handle.join().unwrap();
    drop(release);
    let index = read(&log, "fcst.index.v1");
    for record in index {
        let json: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        let provenance = &json["properties"]["squall"]["provenance"];
        assert!(provenance["degraded"].to_string().contains("\"deadline\""), "{provenance}");
        assert_ne!(provenance["model"], "gated");
    }
}

#[test]
fn missing_topics_are_one_error_where_they_may_not_be_created() {
    let mut config = config(1, "log", "5 min");
    config.log.create_topics = false;
    let error = start(&MemoryLog::new(), &config).err().expect("it is refused");
    assert_eq!(crate::exit::kind(&error), Some(ErrorKind::User));
    let error = error.to_string();
    for topic in ["obs.radar.v1", "fcst.index.v1", "squall.progress.v1"] {
        assert!(error.contains(topic), "{error}");
    }
}

/// The same on Kafka: the log in memory is its twin.
#[test]
fn kafka_says_what_memory_says() {
    let mut broker = match DevBroker::start() {
        Ok(broker) => broker,
        Err(error) => return eprintln!("no Kafka, skipped: {error}"),
    };
    let mut observations = shuffled(14, 3);
    observations.retain(|o| o.1 != 17);
    let records: Vec<_> = observations.into_iter().map(observation).chain(bad_records()).collect();
    let reference = filled(records.clone());
    run(&reference, 1).unwrap();
    let kafka = KafkaLog::new(KafkaConfig::new("test", broker.bootstrap_servers()));
    fill(&kafka, records);
    run(&kafka, 2).unwrap();
    assert_eq!(forecasts(&kafka), forecasts(&reference));
    assert!(said(&kafka) == said(&reference), "to the byte");
    run(&kafka, 3).unwrap();
    assert!(said(&kafka) == said(&reference), "a second run has nothing to add");
    // Live, with a clean stop, and a zombie.
    let mut live = config(2, "wall", "1 s");
    live.name = "live".into();
    live.streams[0].name = "live".into();
    let source = Arc::new(SourceConfig { topic: "obs.live.v1".into(), ..(*live.sources[0]).clone() });
    live.sources[0] = source.clone();
    live.streams[0].source = source;
    live.streams[0].topics.index = "live.index".into();
    let log = KafkaLog::new(KafkaConfig::new("live", broker.bootstrap_servers()));
    let zombie = start(&log, &live).unwrap();
    let handle = start(&log, &live).unwrap();
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut writer = log.connect().writer().unwrap();
    let mut send = |slots: std::ops::Range<i64>| {
        for slot in slots {
            let frame = record((slot % 3) as i32, "text/x-words", format!("{slot} 1 2 0"), 0);
            writer.send(Outgoing { topic: "obs.live.v1".into(), timestamp_ms: None, ..frame }).unwrap();
        }
        writer.flush(Duration::from_secs(60)).unwrap();
    };
    send(first..first + 5);
    wait("three forecasts", || read(&log, "live.index").len() >= 3);
    wait("the zombie to stop", || zombie.is_finished());
    assert!(zombie.join().is_err());
    // The broker dies and comes back: the stream waits for it and goes on.
    broker.kill().unwrap();
    broker.restart().unwrap();
    let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    send(second..second + 3);
    let issue = second + 2;
    let is_new = |r: &Record| {
        String::from_utf8_lossy(r.key.as_ref().unwrap()).ends_with(&ValidTime::from_unix_seconds(issue).to_rfc3339())
    };
    wait("a forecast after the broker's death", || read(&log, "live.index").iter().any(is_new));
    handle.stop();
    wait("the stop", || handle.is_finished());
    handle.join().unwrap();
}
