//! Ledgers on a real broker: who may commit, what a restart knows, and what becomes of commits that are slow, refused,
//! or cut off.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer;
use serde_json::Value;
use squall_tests::forecasts::published_by;
use squall_tests::program::{number, until};
use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::topics::Topics;
use squall_tests::{Kafka, Proxy, Running, Seen, Sent, Setting, models};

/// Short, so that what must outlast it does not take long.
const TIMEOUT: &str = "log.transaction_timeout=3 s";
const MARKER: &str = "runtime.until_marker=true";

/// How often each forecast was published.
fn counts(kafka: &Kafka, setting: &Setting) -> BTreeMap<(String, u64), usize> {
    let mut counts = BTreeMap::new();
    for forecast in published_by(kafka, &setting.topic("index")) {
        *counts.entry((forecast.issue_time, forecast.revision)).or_default() += 1;
    }
    counts
}

fn assert_each_once(kafka: &Kafka, setting: &Setting, rain: &Rain) {
    let counts = counts(kafka, setting);
    let expected: BTreeMap<_, _> = rain.full_windows(3).into_iter().map(|time| ((time, 0), 1)).collect();
    assert_eq!(counts, expected);
}

/// A setting on a broker of its own, with rain that is published already.
fn own(name: &str, kafka: &Kafka, frames: usize) -> (Setting, Rain) {
    let mut setting = Setting::new(name);
    setting.address = Some(kafka.address().to_owned());
    let rain = Rain::small(setting.folder(), frames);
    (setting, rain)
}

fn publish(setting: &Setting, rain: &Rain, more: &[&str]) {
    let (config, file) = (setting.config(), rain.file.display().to_string());
    setting.start(&[&["publish", &file, "--config", &config][..], more].concat()).success(LIMIT);
}

fn run(setting: &Setting, more: &[&str]) -> Running {
    setting.start(&[&["run", &setting.config()][..], more].concat())
}

/// Frames to be sent once more, known when they were known before.
fn again(frames: &[Seen]) -> Vec<Sent> {
    frames.iter().map(|frame| Sent::again(frame, 0, frame.timestamp_ms)).collect()
}

/// What a committed progress record says of who wrote it and how far the stream has come.
#[derive(Debug)]
struct Step {
    /// Generation of the claim, and the commits since.
    claim: (u64, u64),
    /// Knowledge time before which everything is committed.
    frontier: u64,
    /// First offset of partition 0 that was not known by then; none before the first commit.
    next: Option<i64>,
}

/// The committed progress of the stream, oldest first.
fn steps(kafka: &Kafka, setting: &Setting) -> Vec<Step> {
    let ledger = format!("{}/rain", setting.prefix());
    let step = |record: &Seen| {
        let json: Value = serde_json::from_slice(&record.value).expect("a progress record is JSON");
        let of_claim = |name: &str| json["claim"][name].as_u64().expect("a claim");
        Step {
            claim: (of_claim("generation"), of_claim("commits")),
            frontier: json["frontier"].as_u64().expect("a time"),
            next: json["positions"][0]["next"].as_i64(),
        }
    };
    let records = kafka.read(&setting.topic("progress"));
    records.iter().filter(|record| record.key == ledger.as_bytes()).map(step).collect()
}

/// Cut off for many times the time-out of its transactions, and back while its successor is still at work.
#[test]
fn a_predecessor_that_comes_back_after_a_cut_stops_without_writing() {
    const CUT: Duration = Duration::from_secs(25);
    /// Frames that come once the network is mended, and of these those that come while the predecessor is still there.
    const LATE: usize = 6;
    const AT_ONCE: usize = 3;
    let proxy = Proxy::new();
    let kafka = Kafka::behind(&proxy);
    let (setting, _) = own("zombie", &kafka, 3);
    let rain = Rain::event(setting.folder()); // which takes long enough to be cut off in its middle
    publish(&setting, &rain, &[]);
    let mut early = kafka.read(&setting.topic("observations"));
    let late = early.split_off(early.len() - LATE);
    let live = format!("{}.live", setting.prefix());
    kafka.create(&live, 1);
    kafka.write(&live, &again(&early));
    let topic = format!("sources.radar.topic={live}");
    let through = format!("log.bootstrap_servers=127.0.0.1:{}", proxy.port());
    // All windows but the newest, which fires once the log has gone on.
    let of_frames = |frames: usize| frames - 3;
    let published = || counts(&kafka, &setting).len();

    let mut old = run(&setting, &["--set", MARKER, "--set", &topic, "--set", TIMEOUT, "--set", &through]);
    old.until_said(LIMIT, "forecasts", |said| said.matches("forecast stream=").count() >= 2);
    proxy.cut();
    let cut = Instant::now();
    let mut new = run(&setting, &["--set", MARKER, "--set", &topic]);
    old.until_said(LIMIT, "it has forecasts to commit", |said| said.contains("committing failed"));
    new.until(LIMIT, "it has taken over", || published() >= of_frames(early.len()));
    std::thread::sleep(CUT.saturating_sub(cut.elapsed())); // the cut is the situation
    assert!(!old.has_ended(), "it waits for its broker:\n{}", old.output());
    proxy.mend();
    kafka.write(&live, &again(&late[..AT_ONCE]));
    let said = old.failure(6, LIMIT);
    assert!(said.contains("another instance has taken it over"), "{said}");

    new.until(LIMIT, "it goes on", || published() >= of_frames(early.len() + AT_ONCE));
    let mut rest = again(&late[AT_ONCE..]);
    let last = rest.last().expect("frames").clone();
    rest.push(last.end_of_log());
    kafka.write(&live, &rest);
    let said = new.success(LIMIT);
    assert_each_once(&kafka, &setting, &rain);
    assert_eq!(said.matches("claiming the ledger").count(), 1, "it claimed once:\n{said}");
    for trouble in ["opening a ledger failed", "committing failed", "another instance", "fenced"] {
        assert!(!said.to_lowercase().contains(trouble), "{trouble}: nobody disturbs the successor:\n{said}");
    }
    let steps = steps(&kafka, &setting);
    for pair in steps.windows(2) {
        let [old, new] = pair else { continue };
        let goes_on = new.claim > old.claim && new.frontier >= old.frontier && new.next >= old.next;
        assert!(goes_on, "{old:?}, then {new:?}");
    }
    let claims = |step: Option<&Step>| step.map(|step| step.claim.0);
    assert_eq!((claims(steps.first()), claims(steps.last())), (Some(1), Some(2)), "{steps:?}");
}

#[test]
fn a_successor_that_its_predecessor_cuts_off_takes_its_place_again() {
    let (kafka, setting) = (Kafka::shared(), Setting::new("successor"));
    let (rain, frames) = Rain::observed(setting.prefix(), 12);
    let (observations, index) = (setting.topic("observations"), setting.topic("index"));
    kafka.create(&observations, 1);
    let mut successor = run(&setting, &["--set", MARKER]);
    let mut predecessors = Vec::new();
    for (part, frames) in frames.chunks(4).enumerate() {
        kafka.write(&observations, frames);
        // All windows but the newest, which fires once the log has gone on.
        successor.until(LIMIT, "forecasts", || counts(kafka, &setting).len() > 4 * part);
        // With a record under way that nobody must see.
        predecessors.push(kafka.open_transaction(&format!("{}/rain", setting.prefix()), &index));
    }
    kafka.write(&observations, &[frames[11].clone().end_of_log()]);
    successor.success(LIMIT);
    for predecessor in predecessors {
        assert!(predecessor.commit_transaction(LIMIT).is_err(), "it was cut off in its turn");
    }
    let issued: Vec<_> = kafka.read(&index).iter().map(|record| record.header("issue-time")).collect();
    assert_eq!(issued, rain.full_windows(3), "each once, and in order");
}

#[test]
fn an_open_transaction_of_another_ledger_hides_no_progress() {
    let (kafka, mut setting) = (Kafka::shared(), Setting::new("hidden"));
    setting.clock = "log";
    let rain = Rain::small(setting.folder(), 11);
    setting.publish(&rain.file);
    kafka.create(&setting.topic("progress"), 1);
    let other = kafka.open_transaction(&format!("{}.other", setting.prefix()), &setting.topic("progress"));
    setting.run();
    assert_each_once(kafka, &setting, &rain);
    let mut again = run(&setting, &[]);
    again.until_said(LIMIT, "it waits", |said| said.contains("waiting for an open transaction"));
    other.abort_transaction(Duration::from_secs(30)).expect("an end of the transaction");
    again.success(LIMIT);
    assert_each_once(kafka, &setting, &rain);
}

#[test]
fn two_instances_with_an_equally_named_stream_keep_their_own_progress() {
    let kafka = Kafka::shared();
    let settings = [Setting::new("first"), Setting::new("second")];
    let progress = format!("topics.progress={}", settings[0].topic("progress"));
    let rains = settings.each_ref().map(|setting| {
        let rain = Rain::small(setting.folder(), 6);
        setting.publish(&rain.file);
        rain
    });
    for _ in 0..2 {
        for (setting, rain) in settings.iter().zip(&rains) {
            run(setting, &["--set", &progress]).success(LIMIT);
            assert_each_once(kafka, setting, rain);
            assert!(kafka.read(&setting.topic("dead-letters")).is_empty(), "nothing was read twice");
        }
    }
    let other = ["--set", &progress, "--set", "streams.rain.window_frames=2"];
    let said = run(&settings[0], &other).failure(2, LIMIT);
    assert!(said.contains("window_frames was 3, is 2") && said.contains("--reset-progress"), "{said}");
    run(&settings[0], &[&other[..], &["--reset-progress", "rain"]].concat()).success(LIMIT);
    let newest = counts(kafka, &settings[0]);
    assert_eq!(newest.len(), rains[0].full_windows(2).len(), "windows of two, from the beginning: {newest:?}");
    let said = run(&settings[0], &["--reset-progress", "snow"]).failure(2, LIMIT);
    assert!(said.contains("the streams are rain"), "{said}");
}

#[test]
fn what_the_broker_refuses_is_left_out_and_told() {
    let (kafka, setting) = (Kafka::shared(), Setting::new("refused"));
    let rain = Rain::small(setting.folder(), 5);
    setting.publish(&rain.file);
    let quantiles = setting.topic("quantiles");
    Topics::of(kafka.address()).create(&quantiles, 1, &[("max.message.bytes", "300")]);
    let more = ["--set", MARKER, "--set", "metrics.listen=127.0.0.1:0", "--log-format", "json"];
    let mut running = run(&setting, &more);
    let address = models::address(&mut running);
    // The newest window fires once the log has gone on.
    running.until(LIMIT, "forecasts", || counts(kafka, &setting).len() == 2);
    let told = running.output().matches("the log refuses a record").count();
    let counted = models::metric(&address, "squall_refused_records_total", &[("topic", quantiles.as_str())]);
    assert!(told > 0 && counted == Some(told as f64), "{counted:?}\n{}", running.output());
    let last = kafka.read(&setting.topic("observations")).pop().expect("frames");
    let end = Sent::again(&last, 0, last.timestamp_ms).end_of_log();
    kafka.write(&setting.topic("observations"), &[end]);
    running.success(LIMIT);
    assert_each_once(kafka, &setting, &rain);
    assert!(!kafka.read(&setting.topic("probabilities")).is_empty());
    assert!(kafka.read(&quantiles).is_empty());
    setting.run();
    assert_each_once(kafka, &setting, &rain);
}

/// The broker is away for 17 s, or for as long as `SQUALL_OUTAGE_SECONDS` says, such as 56: the first commit must not come
/// later after a longer outage.
#[test]
fn commits_go_on_soon_after_the_broker_is_back() {
    let mut kafka = Kafka::own(Default::default());
    let (setting, rain) = own("outage", &kafka, 12);
    publish(&setting, &rain, &[]);
    let mut frames = kafka.read(&setting.topic("observations"));
    // All but the last two frames are there from the start.
    let late = frames.split_off(frames.len() - 2);
    let live = format!("{}.live", setting.prefix());
    kafka.create(&live, 1);
    kafka.write(&live, &again(&frames));
    let topic = format!("sources.radar.topic={live}");
    let mut running = run(&setting, &["--set", MARKER, "--set", &topic]);
    let published = |kafka: &Kafka| counts(kafka, &setting).len();
    // The newest window fires once the log has gone on.
    running.until(LIMIT, "forecasts", || published(&kafka) >= 7);
    kafka.broker().kill().expect("a broker that can be killed");
    let away = Duration::from_secs(number("SQUALL_OUTAGE_SECONDS", 17));
    std::thread::sleep(away); // the outage is the situation
    kafka.broker().restart().expect("a broker that comes back");
    let back = Instant::now();
    kafka.write(&live, &again(&late));
    running.until(LIMIT, "forecasts again", || published(&kafka) >= 9);
    let took = back.elapsed();
    let (away, took_seconds) = (away.as_secs(), took.as_secs_f64());
    eprintln!("away for {away} s: first commit {took_seconds:.1} s after the broker's first answer");
    assert!(took < Duration::from_secs(10), "{took:?}\n{}", running.output());
    running.terminate();
    running.success(LIMIT);
}

#[test]
fn a_commit_that_outlasts_its_time_out_is_given_more_time() {
    let proxy = Proxy::new();
    let kafka = Kafka::behind(&proxy);
    let (mut setting, rain) = own("slow", &kafka, 4);
    setting.stream = setting.stream.replace("leads = 3", "leads = 12").replace("members = 4", "members = 8");
    publish(&setting, &rain, &["--end"]);
    let through = format!("log.bootstrap_servers=127.0.0.1:{}", proxy.port());
    let mut running = run(&setting, &["--set", MARKER, "--set", TIMEOUT, "--set", &through]);
    running.until_said(LIMIT, "it runs", |said| said.contains("running"));
    proxy.throttle(20_000);
    let said = running.success(LIMIT);
    assert!(said.contains("longer time-outs"), "it was fast enough:\n{said}");
    assert!(until(LIMIT, || counts(&kafka, &setting).len() == rain.full_windows(3).len()));
    assert_each_once(&kafka, &setting, &rain);
}
