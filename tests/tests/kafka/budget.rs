//! Bounds: of memory whatever comes at once, and of the end whatever the broker does.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use squall_pipeline::broker::DevBroker;
use squall_tests::freeze::{FrozenProcesses, memory};
use squall_tests::program::{python, until};
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Running, Sent, Setting};

/// What the programs of these tests may have in flight.
pub(super) const BUDGET: u64 = 96 << 20;
/// Records that come at once.
const RECORDS: usize = 300;

/// Follows a run to its end, which must be a success: the least of its memory, that of its start, and the most.
pub(super) fn least_and_most(mut running: Running) -> (u64, u64) {
    let (mut least, mut most) = (u64::MAX, 0);
    running.until_said(LIMIT, "running", |text| text.contains("running"));
    let pid = running.pid();
    let ended = |running: &Running| running.output().contains("everything is committed");
    let began = Instant::now();
    while !ended(&running) && began.elapsed() < LIMIT {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.contains("RssAnon") && !status.contains("zombie") {
            let now = memory(pid);
            (least, most) = (least.min(now), most.max(now));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    running.success(LIMIT);
    (least, most)
}

/// Runs to the end of the log within the budget.
fn stays_within_the_budget(setting: &Setting) {
    let budget = format!("runtime.max_bytes_in_flight={BUDGET}");
    let arguments = ["run", &setting.config(), "--set", &budget, "--set", "sources.radar.max_record_bytes=67108864"];
    let (least, most) = least_and_most(setting.start(&arguments));
    assert!(most < least + BUDGET + BUDGET / 2, "{}: {least} bytes at the start, {most} at most", setting.prefix());
}

/// Hundreds of records of one tick, each a few kilobytes in the log and 2.4 MB in memory.
#[test]
fn hundreds_of_records_of_one_tick_stay_within_the_budget() {
    let source = Setting::new("tick-source");
    let arguments = ["--frames", "2", "--size", "768x768", "--variables", "rain"];
    let storm = Rain::storm(source.folder(), "storm.nc", &arguments);
    let dry = source.folder().join("dry.nc");
    let code = "import sys, xarray\n\
                data = xarray.open_dataset(sys.argv[1], mask_and_scale=False, decode_times=False)\n\
                for name in data.data_vars:\n\
                \x20   if 'time' in data[name].dims: data[name][:, 9:, :] = 0\n\
                data.to_netcdf(sys.argv[2])\n";
    let (from, to) = (storm.file.display().to_string(), dry.display().to_string());
    Running::start(source.folder(), &python(), &["-c", code, &from, &to]).success(LIMIT);
    let seen = source.published(&dry);
    let setting = Setting::new("tick");
    Kafka::shared().create(&setting.topic("observations"), 1);
    assert!(seen.iter().all(|record| record.value.len() < 200_000), "{:?}", seen.iter().map(|r| r.value.len()).max());
    let known = storm.slots[1] * 1000 + 1000;
    // Two frames in turn: the second of each is a duplicate, which is known only once it is decoded.
    let records: Vec<_> = (0..RECORDS).map(|i| Sent::again(&seen[i % 2], 0, known)).collect();
    Kafka::shared().write(&setting.topic("observations"), &records);
    stays_within_the_budget(&setting);
}

/// Writes these in turn as a producer does that packs its batches. A large record is a batch by itself.
fn write_packed(topic: &str, codec: &str, records: &[Sent]) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", Kafka::shared().address()).set("compression.type", codec);
    config.set("message.max.bytes", "8388608").set("enable.idempotence", "true");
    let producer: BaseProducer = config.create().expect("a producer");
    for record in records.iter().cycle().take(RECORDS) {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let next = BaseRecord::to(topic).partition(record.partition).timestamp(record.timestamp_ms);
        let sent = producer.send(next.key(&record.key).headers(headers).payload(&record.value));
        assert!(sent.is_ok(), "{topic}: {:?}", sent.err().map(|(error, _)| error));
        while producer.in_flight_count() > 16 {
            producer.poll(Duration::from_millis(5));
        }
    }
    producer.flush(LIMIT).unwrap_or_else(|error| panic!("{topic}: {error}"));
}

/// Hundreds of batches, each a few kilobytes in the log and 1 MB once the client has unpacked it.
#[test]
fn hundreds_of_packed_batches_stay_within_the_budget() {
    let source = Setting::new("packed-source");
    let arguments = ["--frames", "2", "--size", "32x32", "--variables", "rain"];
    let storm = Rain::storm(source.folder(), "storm.nc", &arguments);
    let known = storm.slots[1] * 1000 + 1000;
    let padded = |mut sent: Sent| {
        sent.value.resize(1 << 20, 0); // behind its end a file may have anything
        sent
    };
    let seen = source.published(&storm.file);
    let records: Vec<_> = seen.iter().map(|seen| padded(Sent::again(seen, 0, known))).collect();
    for codec in ["zstd", "gzip"] {
        let setting = Setting::new(&format!("packed-{codec}"));
        Kafka::shared().create(&setting.topic("observations"), 1);
        write_packed(&setting.topic("observations"), codec, &records);
        stays_within_the_budget(&setting);
        let letters = Kafka::shared().read(&setting.topic("dead-letters"));
        assert_eq!(letters.len(), RECORDS - records.len(), "{codec}: every further one is a duplicate");
        assert!(letters.iter().all(|letter| letter.header("dead-letter-reason") == "duplicate"), "{codec}");
    }
}

/// A live instance on a broker of its own.
fn start(name: &str, broker: &DevBroker) -> (Setting, Running) {
    let mut setting = Setting::new(name);
    setting.clock = "wall";
    setting.address = Some(broker.bootstrap_servers().to_owned());
    let running = setting.start(&["run", &setting.config()]);
    (setting, running)
}

/// Whether a process has a thread of that name.
fn has_thread(pid: u32, name: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.map(|task| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()).any(|n| n.trim() == name)
}

/// Ends it as an operator would, and says how long that took.
fn end(running: Running) -> Duration {
    let asked = Instant::now();
    running.terminate();
    let output = running.success(LIMIT);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}\n{output}");
    took
}

#[test]
fn it_ends_within_15_s_whatever_the_broker_does() {
    const BOUND: Duration = Duration::from_secs(15);
    let mut broker = DevBroker::start().unwrap_or_else(|error| panic!("{error}"));
    let (_folder, mut runs) = start("end-runs", &broker);
    runs.until_said(LIMIT, "running", |text| text.contains("running"));
    let frozen = FrozenProcesses::new(vec![broker.pid().expect("it runs")]);
    let (_second, starts) = start("end-starts", &broker);
    let (_third, fails) = start("end-fails", &broker);
    // Both are in the midst of a call to a broker that takes connections and never answers.
    for running in [&starts, &fails] {
        assert!(until(LIMIT, || has_thread(running.pid(), "stop")), "{}", running.output());
    }
    std::thread::sleep(Duration::from_secs(2));
    let took = end(starts);
    assert!(took < BOUND, "while starting: {took:?}");
    drop(frozen);
    broker.kill().expect("it is ours");
    let took = end(fails);
    assert!(took < BOUND, "while starting, the broker killed: {took:?}");
    let took = end(runs);
    assert!(took < BOUND, "running, the broker killed: {took:?}");
}
