//! What a stream wants to read and the log does not have any more, and what it has since.

use std::time::Duration;

use squall_tests::rain::Rain;
use squall_tests::setting::LIMIT;
use squall_tests::topics::{REPLAY, Topics};
use squall_tests::{Kafka, Seen, Sent, Setting, forecasts};

fn frames(name: &str, count: usize) -> (Vec<Seen>, Vec<i64>) {
    let source = Setting::new(name);
    let rain = Rain::small(source.folder(), count);
    (source.published(&rain.file), rain.slots)
}

fn write(setting: &Setting, seen: &[Seen], slots: &[i64], range: std::ops::Range<usize>) {
    let records: Vec<_> = range.map(|i| Sent::again(&seen[i], 0, slots[i] * 1000 + 1000)).collect();
    Kafka::shared().write(&setting.topic("observations"), &records);
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
    goes_on();
    write(&setting, &seen, &slots, 12..14);
    setting.run();
    let last = forecasts::published(&setting).pop().expect("forecasts");
    assert_eq!(last.issue_time, squall_tests::rain::rfc3339(slots[13]));
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
    let (seen, slots) = frames("grows-source", 3);
    let mut setting = Setting::new("grows");
    setting.clock = "wall";
    // The frames are old: far behind the horizon, but for this.
    setting.stream += "horizon = \"9000 d\"\n";
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
