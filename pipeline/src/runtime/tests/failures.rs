//! What hangs, and what panics: a device, a reader, a ledger, an encoder, a worker.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use squall_fields::{Chain, ErrorKind, Failure};
use squall_operators::ports::{LedgerError, LogError, LogReader, LogWriter, PartitionId, TopicInfo, TopicSpec};
use squall_operators::products::ProductField;
use squall_operators::progress::Progress;
use squall_operators::stream::StreamContext;
use timely::dataflow::StreamVec;
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::generic::operator::source as timely_source;

use super::*;
use crate::http::Status;

/// Ends a run that must end by itself, with the failure that it must have.
fn failure(handle: Handle) -> Failure {
    wait("the end of a run that has failed", || handle.is_finished());
    handle.join().expect_err("it has failed")
}

fn is_panic(failure: &Failure, of: &str) {
    let text = Chain(failure).to_string();
    assert_eq!(failure.kind(), ErrorKind::Internal, "{text}");
    assert!(text.contains("panicked: as asked") && text.contains(of), "{text}");
}

#[test]
fn a_device_that_hangs_is_stood_in_for_and_named_and_takes_no_memory() {
    const WINDOWS: i64 = 200;
    /// What the queue of a device with one stream has room for, and a batch.
    const MOST: usize = 8 + 4;
    let log = filled(in_order(WINDOWS + 2).into_iter().map(observation));
    let mut config = config(1, "wall", "5 min");
    config.streams[0].deadline = Some(Duration::from_millis(150));
    let (release, gate) = crossbeam_channel::bounded(0);
    let parts = Parts { models: Box::new(move |_| Ok(Box::new(Gated(gate.clone())))), ..parts(&log) };
    let handle = Runtime::start_with(&config, parts).unwrap();
    let monitor = handle.monitor();
    let device = &monitor.devices[0];
    wait("the device to be named", || {
        assert!(device.state().pending <= MOST, "what the device does not take is given back");
        monitor.ready().is_err_and(|unready| unready.to_string().contains("device cpu has not answered"))
    });
    wait("the forecasts, with a model that hangs", || {
        assert!(device.state().pending <= MOST, "{} requests wait", device.state().pending);
        read(&log, "fcst.index.v1").len() as i64 == WINDOWS
    });
    handle.stop();
    wait("the end", || handle.is_finished());
    handle.join().unwrap();
    drop(release);
    let index = read(&log, "fcst.index.v1");
    for record in index {
        let json: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        let provenance = &json["properties"]["squall"]["provenance"];
        assert!(provenance["degraded"].to_string().contains("\"deadline\""), "{provenance}");
    }
}

#[test]
fn a_stream_without_a_fallback_in_time_stops_all_the_same_and_loses_nothing() {
    let mut log = filled([]);
    let config = config(1, "wall", "1 s");
    let (release, gate) = crossbeam_channel::bounded::<()>(0);
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let hanging = Parts { models: Box::new(move |_| Ok(Box::new(Gated(gate.clone())))), ..parts(&log) };
    let handle = Runtime::start_with(&config, hanging).unwrap();
    // Known at their slots, also for the next start, which reads them again.
    let frame = |slot: i64| record(0, "text/x-words", format!("{slot} 1 2 0"), slot * 1000);
    (first - 3..first).for_each(|slot| log.send(frame(slot)).unwrap());
    let monitor = handle.monitor();
    wait("the window to reach the device", || monitor.devices[0].state().pending > 0);
    let asked = Instant::now();
    handle.stop();
    wait("the stop, with a model that hangs", || handle.is_finished());
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    handle.join().unwrap();
    drop(release);
    assert!(read(&log, "fcst.index.v1").is_empty());
    // The next start makes the forecast that this one owed.
    let again = start(&log, &config).unwrap();
    wait("the forecast", || !read(&log, "fcst.index.v1").is_empty());
    again.stop();
    wait("the stop", || again.is_finished());
    again.join().unwrap();
}

/// Forecasts once it is asked what it takes; panics there on the device's thread, outside of any guard of a call.
struct Faulty(AtomicBool);

impl Forecaster for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn digest(&self) -> &str {
        "f1"
    }

    fn coordinates(&self) -> Coordinates {
        // The first question is asked at the start, on another thread.
        assert!(!self.0.swap(true, Ordering::SeqCst), "as asked");
        Weighted.coordinates()
    }

    fn forecast(&mut self, requests: &[Request]) -> Vec<Result<Prediction, ModelError>> {
        Weighted.forecast(requests)
    }
}

#[test]
fn a_panic_on_the_thread_of_a_device_ends_the_program() {
    let log = filled(in_order(4).into_iter().map(observation));
    let parts = Parts { models: Box::new(|_| Ok(Box::new(Faulty(AtomicBool::new(false))))), ..parts(&log) };
    let handle = Runtime::start_with(&config(1, "log", "5 min"), parts).unwrap();
    is_panic(&failure(handle), "device cpu");
    assert!(read(&log, "fcst.index.v1").is_empty());
}

#[test]
fn a_panic_while_publishing_ends_the_program() {
    struct Panics;
    impl ForecastEncoder for Panics {
        fn content_type(&self) -> &'static str {
            "text/plain"
        }
        fn extension(&self) -> &'static str {
            "txt"
        }
        fn encode(&self, _: &Forecast, _: &[ProductField<'_>]) -> Result<Vec<u8>, EncodeError> {
            panic!("as asked")
        }
    }
    let log = filled(in_order(4).into_iter().map(observation));
    let parts = Parts { encoder: Arc::new(Panics), ..parts(&log) };
    is_panic(&failure(Runtime::start_with(&config(1, "log", "5 min"), parts).unwrap()), "publish rain");
}

/// A log whose readers or ledgers panic.
struct Breaking {
    log: Arc<dyn Connect>,
    reader: bool,
}

struct Broken<T>(T);

impl LogReader for Broken<Box<dyn LogReader>> {
    fn partitions(&mut self, topic: &str) -> Result<Vec<PartitionId>, LogError> {
        self.0.partitions(topic)
    }
    fn assign(&mut self, start: &[(PartitionId, i64)]) -> Result<(), LogError> {
        self.0.assign(start)
    }
    fn poll(&mut self, _: Duration) -> Result<Option<Record>, LogError> {
        panic!("as asked")
    }
    fn begin_offset(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        self.0.begin_offset(partition)
    }
    fn end_offset(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        self.0.end_offset(partition)
    }
    fn position(&mut self, partition: &PartitionId) -> Result<i64, LogError> {
        self.0.position(partition)
    }
    fn pause(&mut self, partition: &PartitionId) -> Result<(), LogError> {
        self.0.pause(partition)
    }
    fn resume(&mut self, partition: &PartitionId) -> Result<(), LogError> {
        self.0.resume(partition)
    }
}

impl Ledger for Broken<Box<dyn Ledger>> {
    fn open(&mut self, opening: &Opening<'_>) -> Result<Progress, LedgerError> {
        self.0.open(opening)
    }
    fn commit(&mut self, _: &[Outgoing], _: &Progress) -> Result<(), LedgerError> {
        panic!("as asked")
    }
}

impl Connect for Breaking {
    fn reader(&self, max_record_bytes: u64) -> Result<Box<dyn LogReader>, LogError> {
        let reader = self.log.reader(max_record_bytes)?;
        Ok(if self.reader { Box::new(Broken(reader)) } else { reader })
    }
    fn writer(&self) -> Result<Box<dyn LogWriter>, LogError> {
        self.log.writer()
    }
    fn ledger(&self, name: &str, progress_topic: &str) -> Result<Box<dyn Ledger>, LogError> {
        let ledger = self.log.ledger(name, progress_topic)?;
        Ok(if self.reader { ledger } else { Box::new(Broken(ledger)) })
    }
    fn describe(&self, topics: &[&str]) -> Result<Vec<Option<TopicInfo>>, LogError> {
        self.log.describe(topics)
    }
    fn create(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        self.log.create(topics)
    }
}

#[test]
fn a_panic_of_a_reader_or_a_ledger_ends_the_program() {
    for (reader, thread) in [(true, "read rain"), (false, "commit rain")] {
        let log = filled(in_order(4).into_iter().map(observation));
        let connect = Arc::new(Breaking { log: log.connect(), reader });
        let parts = Parts { connect, ..parts(&log) };
        is_panic(&failure(Runtime::start_with(&config(2, "log", "5 min"), parts).unwrap()), thread);
    }
}

#[test]
fn a_panic_of_any_worker_ends_all_of_them() {
    for broken in 0..3 {
        let stream = StreamContext::new("rain", 0);
        let turns = Arc::new(AtomicU64::new(0));
        let seen = turns.clone();
        let (watched, of_workers) = (stream.clone(), stream.clone());
        let abandoned = Arc::new(AtomicBool::new(false));
        let workers = workers::run(3, None, abandoned, vec![stream], move |worker| {
            let (index, seen, stream) = (worker.index(), seen.clone(), of_workers.clone());
            worker.dataflow::<u64, _, _>(|scope| {
                let waker = scope.worker();
                let numbers: StreamVec<'_, u64, u64> = timely_source(scope, "Holds", move |capability, info| {
                    stream.control.register(waker.sync_activator_for(info.address.to_vec()));
                    let activator = waker.activator_for(info.address);
                    move |output| {
                        // Each worker holds a capability for ever; only the panic ends this.
                        seen.fetch_add(1, Ordering::SeqCst);
                        output.session(&capability).give(0u64);
                        assert!(index != broken || seen.load(Ordering::SeqCst) < 30, "as asked");
                        activator.activate_after(Duration::from_millis(1));
                    }
                });
                numbers.inspect(|_| {});
            });
        });
        let died = workers.unwrap().join();
        assert!(died.is_empty(), "a panic is told, not passed on: {died:?}");
        is_panic(&watched.control.failure().unwrap(), &format!("timely worker {broken}"));
    }
}
