//! What a stream wants to read and the log does not have any more, and what it has since.

use std::time::Duration;

use squall_tests::rain::{Rain, rfc3339};
use squall_tests::setting::LIMIT;
use squall_tests::topics::{REPLAY, Topics};
use squall_tests::{Kafka, Running, Seen, Sent, Setting, forecasts, models};

fn frames(name: &str, count: usize) -> (Vec<Seen>, Vec<i64>) {
    let source = Setting::new(name);
    let rain = Rain::small(source.folder(), count);
    (source.published(&rain.file), rain.slots)
}

/// Frames that are minutes old.
fn frames_of_now(name: &str, count: usize) -> (Vec<Seen>, Vec<i64>) {
    const CADENCE: i64 = 300;
    let source = Setting::new(name);
    let first = chrono::Utc::now().timestamp() / CADENCE * CADENCE - count as i64 * CADENCE;
    let (start, number) = (rfc3339(first), count.to_string());
    let arguments = ["--frames", &number, "--size", "32x32", "--variables", "rain", "--start", &start];
    let storm = Rain::storm(source.folder(), "storm.nc", &arguments);
    (source.published(&storm.file), storm.slots)
}

fn records(seen: &[Seen], slots: &[i64], range: std::ops::Range<usize>) -> Vec<Sent> {
    range.map(|i| Sent::again(&seen[i], 0, slots[i] * 1000 + 1000)).collect()
}

fn write(setting: &Setting, seen: &[Seen], slots: &[i64], range: std::ops::Range<usize>) {
    Kafka::shared().write(&setting.topic("observations"), &records(seen, slots, range));
}

/// Starts a replay that goes on without what is lost, and waits for more at the end of the log; how often it counts a loss of
/// a kind.
fn goes_on_without(setting: &Setting, kind: &str) -> (Running, Option<f64>) {
    let [on, marker] = ["sources.radar.on_lost_position=continue", "runtime.until_marker=true"];
    let (config, metrics) = (setting.config(), "metrics.listen=127.0.0.1:0");
    let arguments = ["run", &config, "--set", on, "--set", marker, "--set", metrics, "--log-format", "json"];
    let mut running = setting.start(&arguments);
    let address = models::address(&mut running);
    let counted = models::metric(&address, "squall_lost_positions_total", &[("stream", "rain"), ("kind", kind)]);
    (running, counted)
}

#[test]
fn a_topic_that_was_made_again_or_cut_stops_the_stream_unless_it_may_go_on() {
    let topics = Topics::of(Kafka::shared().address());
    let (seen, slots) = frames("lost-source", 14);
    let setting = Setting::new("lost");
    let topic = setting.topic("observations");
    topics.create(&topic, 1, &REPLAY);
    write(&setting, &seen, &slots, 0..5);
    setting.run();
    let goes_on = || {
        let on = ["run", &setting.config(), "--set", "sources.radar.on_lost_position=continue"];
        setting.start(&on).success(LIMIT)
    };
    let issued = || forecasts::published(&setting).len();
    assert_eq!(issued(), 3);

    topics.delete(&topic);
    topics.create(&topic, 1, &REPLAY);
    write(&setting, &seen, &slots, 5..8);
    let said = setting.start(&["run", &setting.config()]).failure(2, LIMIT);
    assert!(said.contains("was deleted and made again") && said.contains("on_lost_position"), "{said}");
    assert_eq!(issued(), 3);
    let said = goes_on();
    assert!(said.contains("position lost"), "{said}");
    // Windows go on from frames 5 to 7 alone: those before are gone, and with them what the window of 5 and 6 needs.
    assert!(forecasts::published(&setting).iter().any(|p| p.issue_time == squall_tests::rain::rfc3339(slots[7])));

    write(&setting, &seen, &slots, 8..12);
    topics.delete_before(&topic, 5);
    let said = setting.start(&["run", &setting.config()]).failure(2, LIMIT);
    assert!(said.contains("offsets 3 to 4 are gone unread"), "{said}");
    let (mut running, counted) = goes_on_without(&setting, "unread");
    assert_eq!(counted, Some(1.0), "{}", running.output());
    write(&setting, &seen, &slots, 12..14);
    let full = squall_tests::rain::rfc3339(slots[12]);
    running.until(LIMIT, "a new forecast", || forecasts::published(&setting).iter().any(|p| p.issue_time == full));
    running.terminate();
    running.success(LIMIT);
    setting.run();
    let last = forecasts::published(&setting).pop().expect("forecasts");
    assert_eq!(last.issue_time, squall_tests::rain::rfc3339(slots[13]));
}

#[test]
fn a_topic_that_ends_before_a_position_stops_the_stream_unless_it_may_go_on() {
    let mut kafka = Kafka::own(Default::default());
    let (seen, slots) = frames("cut-back-source", 9);
    let mut setting = Setting::new("cut-back");
    setting.address = Some(kafka.address().to_owned());
    let topic = setting.topic("observations");
    kafka.create(&topic, 1);
    // Each in a batch of its own.
    records(&seen, &slots, 0..5).into_iter().for_each(|record| kafka.write(&topic, &[record]));
    setting.run();
    let published = |kafka: &Kafka| forecasts::published_by(kafka, &setting.topic("index"));
    assert_eq!(published(&kafka).len(), 3);

    kafka.cut_back(&topic, 3);
    let said = setting.start(&["run", &setting.config()]).failure(2, LIMIT);
    assert!(said.contains("ends at offset 3 and was read up to 5") && said.contains("offsets 3 to 4"), "{said}");
    assert!(said.contains("bring the records back") && said.contains("on_lost_position"), "{said}");
    let (mut running, counted) = goes_on_without(&setting, "cut-back");
    assert_eq!(counted, Some(1.0), "{}", running.output());
    kafka.write(&topic, &records(&seen, &slots, 5..9));
    // Of frames that came after the cut alone.
    let full = rfc3339(slots[7]);
    let new = || published(&kafka).into_iter().find(|forecast| forecast.issue_time == full);
    running.until(LIMIT, "a new forecast", || new().is_some());
    assert_eq!(new().map(|forecast| (forecast.revision, forecast.mask())), Some((0, vec![true; 3])));
    running.terminate();
    running.success(LIMIT);
}

#[test]
fn a_topic_that_is_made_again_under_a_running_stream_stops_it() {
    let topics = Topics::of(Kafka::shared().address());
    let (seen, slots) = frames("remade-source", 4);
    let mut setting = Setting::new("remade");
    setting.clock = "wall";
    let topic = setting.topic("observations");
    topics.create(&topic, 1, &REPLAY);
    write(&setting, &seen, &slots, 0..4);
    let mut running = setting.start(&["run", &setting.config()]);
    running.until_said(LIMIT, "running", |text| text.contains("running"));
    topics.delete(&topic);
    topics.create(&topic, 1, &REPLAY);
    let said = running.failure(2, Duration::from_secs(60));
    assert!(said.contains("was deleted"), "{said}");
}

#[test]
fn a_partition_that_is_added_is_read_without_a_restart() {
    let topics = Topics::of(Kafka::shared().address());
    let (seen, slots) = frames_of_now("grows-source", 3);
    let mut setting = Setting::new("grows");
    setting.clock = "wall";
    // However long the start takes.
    setting.stream += "horizon = \"2 d\"\n";
    let topic = setting.topic("observations");
    topics.create(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
    let send = |i: usize, partition: i32| {
        Kafka::shared().write(&topic, &[Sent::again(&seen[i], partition, slots[i] * 1000)]);
    };
    let mut running = setting.start(&["run", &setting.config()]);
    running.until_said(LIMIT, "running", |text| text.contains("running"));
    send(0, 0);
    send(1, 0);
    topics.grow(&topic, 2);
    running.until_said(Duration::from_secs(30), "the new partition", |text| text.contains("has a new partition"));
    send(2, 1);
    running.until(Duration::from_secs(30), "a forecast from both", || !forecasts::published(&setting).is_empty());
    running.terminate();
    running.success(LIMIT);
    let published = forecasts::published(&setting);
    assert_eq!(published[0].mask(), [true; 3]);
    // And the topic of progress is compacted within minutes, so that a start need not read all that ever was.
    let progress = |key: &str| topics.setting(&setting.topic("progress"), key);
    assert_eq!((progress("cleanup.policy").as_str(), progress("segment.ms").as_str()), ("compact", "600000"));
    assert_eq!(progress("max.compaction.lag.ms"), "600000");
}
