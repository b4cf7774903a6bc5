//! What moves the clock, and what must not.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::topics::Topics;
use squall_tests::{Kafka, Running, Seen, Sent, Setting, forecasts};

const CADENCE: i64 = 300;
/// Whatever the timestamp, the broker takes it.
const ANY: (&str, &str) = ("message.timestamp.after.max.ms", "9223372036854775807");

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Frames whose slots end just now.
fn frames(count: usize) -> (Vec<Seen>, Vec<i64>) {
    let source = Setting::new("time-source");
    let first = now_ms() / 1000 / CADENCE * CADENCE - count as i64 * CADENCE;
    let (start, number) = (rfc3339(first), count.to_string());
    let arguments = ["--frames", &number, "--size", "32x32", "--variables", "rain", "--start", &start];
    let storm = Rain::storm(source.folder(), "storm.nc", &arguments);
    (source.published(&storm.file), storm.slots)
}

fn issued(setting: &Setting) -> Vec<(String, u64, Vec<bool>)> {
    forecasts::published(setting).iter().map(|p| (p.issue_time.clone(), p.revision, p.mask())).collect()
}

fn junk(of: &Seen, partition: i32, timestamp_ms: i64) -> Sent {
    Sent { value: b"junk".to_vec(), ..Sent::again(of, partition, timestamp_ms) }
}

#[test]
fn junk_of_the_far_future_does_not_silence_a_replay() {
    const MINUTE: i64 = 60_000;
    let (seen, slots) = frames(12);
    let run = |name: &str, junk_ms: Option<i64>| {
        let mut setting = Setting::new(name);
        setting.partitions = 2;
        let settings = [("retention.ms", "-1"), ("message.timestamp.type", "CreateTime"), ANY];
        Topics::of(Kafka::shared().address()).create(&setting.topic("observations"), 2, &settings);
        let mut records = Vec::new();
        for (i, frame) in seen.iter().enumerate() {
            if let Some(junk_ms) = junk_ms.filter(|_| i == 4) {
                records.push(junk(frame, 0, junk_ms));
                records.push(junk(frame, 1, junk_ms));
            }
            records.push(Sent::again(frame, (i % 2) as i32, slots[i] * 1000 + 1000));
        }
        Kafka::shared().write(&setting.topic("observations"), &records);
        setting.run();
        issued(&setting)
    };
    let expected = run("clean-replay", None);
    assert_eq!(expected.len(), slots.len() - 2);
    let ahead = |minutes: i64| slots[4] * 1000 + minutes * MINUTE;
    for (name, junk_ms) in [
        ("junk-replay", 4_102_444_800_000), // 2100
        ("junk-of-ten-minutes", ahead(10)),
        ("junk-of-minutes", ahead(50)),
        ("junk-of-hours", ahead(300)),
    ] {
        assert_eq!(run(name, Some(junk_ms)), expected, "{name}");
    }
}

/// An archive in which hours are missing: what comes after them is far ahead of what came before, and holds.
#[test]
fn hours_that_are_missing_end_no_replay_however_many_workers_read_it() {
    const BEFORE: usize = 6;
    const HOURS: i64 = 3;
    let source = Setting::new("gap-source");
    let first = now_ms() / 1000 / CADENCE * CADENCE - 8 * 3600;
    let storm = |name: &str, start: i64| {
        let (number, start) = (BEFORE.to_string(), rfc3339(start));
        let arguments = ["--frames", &number, "--size", "32x32", "--variables", "rain", "--start", &start];
        Rain::storm(source.folder(), name, &arguments)
    };
    let parts = [storm("before.nc", first), storm("after.nc", first + HOURS * 3600)];
    let slots: Vec<i64> = parts.iter().flat_map(|part| part.slots.clone()).collect();
    for part in &parts {
        source.publish(&part.file);
    }
    let seen = Kafka::shared().read(&source.topic("observations"));
    assert_eq!(seen.len(), slots.len());
    let run = |name: &str, workers: usize, partitions: i32| {
        let mut setting = Setting::new(name);
        (setting.workers, setting.partitions) = (workers, partitions);
        Kafka::shared().create(&setting.topic("observations"), partitions);
        let sent = |(i, frame): (usize, &Seen)| Sent::again(frame, i as i32 % partitions, slots[i] * 1000 + 1000);
        Kafka::shared().write(&setting.topic("observations"), &seen.iter().enumerate().map(sent).collect::<Vec<_>>());
        let said = setting.run();
        assert!(!said.contains("timestamp not believed"), "{said}");
        issued(&setting)
    };
    let one = run("gap-one", 1, 1);
    let full: Vec<_> = one.iter().filter(|(_, revision, mask)| *revision == 0 && *mask == [true; 3]).collect();
    assert_eq!(full.len(), 2 * (BEFORE - 2), "each full window on both sides: {one:?}");
    assert_eq!(run("gap-three", 2, 3), one);
}

/// A live instance whose frames are sent by hand, long after their slots.
fn live(name: &str, partitions: i32, timestamps: &str) -> Setting {
    let mut setting = Setting::new(name);
    (setting.clock, setting.partitions) = ("wall", partitions);
    setting.stream += "horizon = \"2 d\"\n";
    let topics = Topics::of(Kafka::shared().address());
    topics.create(&setting.topic("observations"), partitions, &[("message.timestamp.type", timestamps), ANY]);
    setting
}

#[test]
fn a_record_ahead_of_the_clock_does_not_silence_a_live_stream() {
    let (seen, slots) = frames(5);
    let setting = live("ahead", 1, "CreateTime");
    let topic = setting.topic("observations");
    let mut running = setting.start(&["run", &setting.config()]);
    running.until_said(LIMIT, "running", |text| text.contains("running"));
    let send = |i: usize| Kafka::shared().write(&topic, &[Sent::again(&seen[i], 0, now_ms())]);
    (0..3).for_each(send);
    Kafka::shared().write(&topic, &[junk(&seen[0], 0, now_ms() + 3_000_000)]);
    (3..5).for_each(send);
    let last = rfc3339(slots[4]);
    running.until(Duration::from_secs(20), "forecasts go on", || issued(&setting).iter().any(|i| i.0 == last));
    running.terminate();
    assert!(running.success(LIMIT).contains("timestamp not believed"));
}

/// The machine's clock decides about each of them, more often than a progress record has room for.
#[test]
fn thousands_of_records_ahead_of_the_clock_end_no_stream_and_a_restart_knows_them() {
    const JUNK: usize = 15_000;
    let (seen, slots) = frames(5);
    let setting = live("far-ahead", 1, "CreateTime");
    let topic = setting.topic("observations");
    let start = || {
        let mut running = setting.start(&["run", &setting.config()]);
        running.until_said(LIMIT, "running", |text| text.contains("running"));
        running
    };
    let send = |i: usize| Kafka::shared().write(&topic, &[Sent::again(&seen[i], 0, now_ms())]);
    let forecast = |running: &mut Running, i: usize| {
        let slot = rfc3339(slots[i]);
        running.until(LIMIT, "a forecast", || issued(&setting).iter().any(|i| i.0 == slot));
    };
    let mut running = start();
    (0..2).for_each(send);
    let ahead = now_ms() + 3_000_000;
    Kafka::shared().write(&topic, &vec![junk(&seen[0], 0, ahead); JUNK]);
    send(2);
    forecast(&mut running, 2);
    running.terminate();
    running.success(LIMIT);
    let mut again = start();
    (3..5).for_each(send);
    forecast(&mut again, 4);
    again.terminate();
    again.success(LIMIT);
    let letters = Kafka::shared().read(&setting.topic("dead-letters"));
    assert_eq!(letters.len(), JUNK, "each is a dead letter, once");
    let progress = Kafka::shared().read(&setting.topic("progress"));
    let largest = progress.iter().map(|record| record.value.len()).max();
    assert!(largest < Some(1_000_000), "{largest:?}");
    assert!(progress.iter().any(|r| String::from_utf8_lossy(&r.value).contains("\"more_decisions\":true")));
}

#[test]
fn a_busy_partition_does_not_hold_up_an_idle_one() {
    let (seen, slots) = frames(3);
    let setting = live("busy", 2, "LogAppendTime");
    let topic = setting.topic("observations");
    let mut running = setting.start(&["run", &setting.config()]);
    running.until_said(LIMIT, "running", |text| text.contains("running"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Without a pause of the 20 ms that a poll waits.
        scope.spawn(|| Kafka::shared().write_on(&topic, &junk(&seen[0], 0, 0), &over));
        Kafka::shared().write(&topic, &(0..3).map(|i| Sent::again(&seen[i], 0, now_ms())).collect::<Vec<_>>());
        let sent = Instant::now();
        let last = rfc3339(slots[2]);
        let there = squall_tests::program::until(LIMIT, || issued(&setting).iter().any(|i| i.0 == last));
        over.store(true, Ordering::SeqCst);
        assert!(there && sent.elapsed() < Duration::from_secs(5), "after {:?}", sent.elapsed());
    });
    running.terminate();
    running.success(LIMIT);
}

/// A library that sets the machine's clock so many seconds ahead for one process.
fn shifted_clock(folder: &Path, seconds: i64) -> String {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <pthread.h>
        #include <threads.h>
        #include <sys/syscall.h>
        #include <sys/time.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t id, struct timespec *at) {
            int result = syscall(SYS_clock_gettime, id, at);
            if (result == 0 && id == CLOCK_REALTIME) at->tv_sec += SECONDS;
            return result;
        }
        int gettimeofday(struct timeval *at, void *zone) {
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            at->tv_sec = now.tv_sec;
            at->tv_usec = now.tv_nsec / 1000;
            return 0;
        }
        /* Who waits until an instant of the shifted clock is woken by the true one. */
        static struct timespec back(const struct timespec *until) {
            struct timespec at = *until;
            if (at.tv_sec > 1000000000) at.tv_sec -= SECONDS;
            return at;
        }
        int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until) {
            int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *) = dlsym(RTLD_NEXT, __func__);
            struct timespec at = back(until);
            return wait(c, m, &at);
        }
        int cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *until) {
            int (*wait)(cnd_t *, mtx_t *, const struct timespec *) = dlsym(RTLD_NEXT, __func__);
            struct timespec at = back(until);
            return wait(c, m, &at);
        }
    "#;
    let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
    std::fs::write(&source, SOURCE).expect("a file");
    let shift = format!("-DSECONDS=({seconds})");
    let made = Command::new("gcc").args(["-shared", "-fPIC", &shift, "-o"]).arg(&library).arg(&source).status();
    let status = made.unwrap_or_else(|error| panic!("gcc ({error}): run `make setup` first"));
    assert!(status.success(), "gcc: {status}");
    library.display().to_string()
}

/// Runs a live instance on a machine whose clock is so many seconds ahead.
fn start_shifted(setting: &Setting, seconds: i64) -> Running {
    let preload = format!("LD_PRELOAD={}", shifted_clock(setting.folder(), seconds));
    let program = squall_tests::squall().display().to_string();
    let mut running =
        Running::start(setting.folder(), Path::new("env"), &[&preload, &program, "run", &setting.config()]);
    running.until_said(LIMIT, "running", |text| text.contains("running"));
    running
}

#[test]
fn a_machine_that_is_ahead_of_the_broker_does_not_make_every_record_late() {
    const LIVE: usize = 8;
    let (seen, slots) = frames(LIVE);
    let setting = live("shifted", 1, "LogAppendTime");
    let topic = setting.topic("observations");
    let mut running = start_shifted(&setting, 5);
    for (i, frame) in seen.iter().enumerate() {
        Kafka::shared().write(&topic, &[Sent::again(frame, 0, now_ms())]);
        // The first tells how the clocks differ; time that had run ahead by then is waited for.
        std::thread::sleep(if i == 0 { Duration::from_secs(6) } else { Duration::from_millis(400) });
    }
    let last = rfc3339(slots[LIVE - 1]);
    running.until(LIMIT, "forecasts", || issued(&setting).iter().any(|i| i.0 == last));
    running.terminate();
    let said = running.success(LIMIT);
    let late = said.matches("became visible late").count();
    assert!(late <= 1, "{late} of {LIVE} records were late");
}

/// Producers stamp the records, by clocks that go with the broker's: nothing that is read tells how the machine's differs.
#[test]
fn a_machine_ahead_of_the_broker_or_behind_it_decides_nothing_about_what_producers_stamp() {
    const LIVE: usize = 8;
    let (seen, slots) = frames(LIVE);
    // Connected before a record is stamped, so that it is there within the margin of 100 ms.
    let address = Kafka::shared().address();
    let producer = ClientConfig::new().set("bootstrap.servers", address).set("linger.ms", "0").create();
    let producer: BaseProducer = producer.expect("a producer");
    for seconds in [5, -5] {
        let setting = live(&format!("stamped-by-producers{seconds}"), 1, "CreateTime");
        let topic = setting.topic("observations");
        let mut running = start_shifted(&setting, seconds);
        producer.client().fetch_metadata(Some(topic.as_str()), LIMIT).expect("metadata");
        for frame in &seen {
            let headers = frame
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
            let record = BaseRecord::to(&topic).partition(0).timestamp(now_ms()).key(&frame.key).payload(&frame.value);
            assert!(producer.send(record.headers(headers)).is_ok(), "room for a record");
            producer.flush(LIMIT).expect("an acknowledgement");
            std::thread::sleep(Duration::from_millis(400)); // time passes where nothing comes
        }
        let last = rfc3339(slots[LIVE - 1]);
        running.until(LIMIT, "forecasts", || issued(&setting).iter().any(|i| i.0 == last));
        running.terminate();
        let said = running.success(LIMIT);
        let [late, doubted] = ["became visible late", "timestamp not believed"].map(|what| said.matches(what).count());
        // The first may wait for a connection.
        assert!(late <= 1 && doubted == 0, "{seconds} s ahead: {late} of {LIVE} late, {doubted} not believed\n{said}");
    }
}
