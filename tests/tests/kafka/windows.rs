//! Windows with missing slots, and frames that come late.

use squall_tests::rain::{Rain, rfc3339};
use squall_tests::{Kafka, Sent, Setting, forecasts};

/// A topic of its own with the frames as `squall publish` writes them, each known one second after its slot, changed by
/// `change` (frame number, record).
fn setting_with(name: &str, frames: usize, change: impl Fn(usize, Sent) -> Option<Sent>) -> (Setting, Rain) {
    let (rain, records) = Rain::observed(name, frames);
    let mut records: Vec<_> = records.into_iter().enumerate().filter_map(|(i, sent)| change(i, sent)).collect();
    records.sort_by_key(|record| record.timestamp_ms);
    let setting = Setting::new(name);
    Kafka::shared().create(&setting.topic("observations"), 1);
    Kafka::shared().write(&setting.topic("observations"), &records);
    (setting, rain)
}

#[test]
fn a_window_with_a_missing_slot_fires_with_its_mask() {
    let (setting, rain) = setting_with("missing-slot", 12, |i, sent| (i != 6).then_some(sent));
    setting.run();
    let published = forecasts::published(&setting);
    for (name, frame, mask) in [
        ("before", 5, vec![true, true, true]),
        ("one after", 7, vec![true, false, true]),
        ("two after", 8, vec![false, true, true]),
        ("full again", 9, vec![true, true, true]),
    ] {
        let time = rfc3339(rain.slots[frame]);
        let found: Vec<_> = published.iter().filter(|p| p.issue_time == time).collect();
        assert_eq!(found.len(), 1, "{name}: one forecast at {time}");
        assert_eq!(found[0].mask(), mask, "{name}");
        assert_eq!(found[0].degraded(), mask.contains(&false), "{name}: the forecast says so");
    }
    let slot = rfc3339(rain.slots[6]);
    assert!(published.iter().all(|p| p.issue_time != slot), "without its newest frame there is no forecast");
    let full = rain.full_windows(3);
    assert_eq!(published.len(), full.len() - 1, "every other slot from the first full window has its forecast");
}

#[test]
fn a_frame_later_than_the_patience_makes_revisions() {
    // Known 10 minutes after its slot: beyond the patience of 3 minutes, within the horizon of 30.
    let late = |i: usize, sent: Sent| {
        let delay = if i == 6 { 600_000 } else { 0 };
        Some(Sent { timestamp_ms: sent.timestamp_ms + delay, ..sent })
    };
    let (setting, rain) = setting_with("late-frame", 12, late);
    setting.run();
    let published = forecasts::published(&setting);
    let of = |frame: usize| {
        let time = rfc3339(rain.slots[frame]);
        let found = published.iter().filter(move |p| p.issue_time == time);
        found.map(|p| (p.revision, p.degraded())).collect::<Vec<_>>()
    };
    assert_eq!(of(5), [(0, false)]);
    assert_eq!(of(6), [(0, false)], "once its newest frame is there");
    assert_eq!(of(7), [(0, true), (1, false)]);
    assert_eq!(of(9), [(0, false)]);
}

/// Ten minutes of nothing, then everything at once, in one tick and in three partitions: a forecast for each issue time
/// whose frame is there, one revision of each, wherever the frames lie.
#[test]
fn after_an_outage_each_issue_time_has_one_forecast_wherever_its_frames_lie() {
    let source = Setting::new("outage-source");
    let rain = Rain::small(source.folder(), 12);
    let seen = source.published(&rain.file);
    let run = |name: &str, partition: fn(usize) -> i32, partitions: i32| {
        let mut setting = Setting::new(name);
        setting.partitions = partitions;
        Kafka::shared().create(&setting.topic("observations"), partitions);
        // Frames 5 and 6 never come; 4 comes late, together with 7 and 8.
        let known = |i: usize| if (4..9).contains(&i) { rain.slots[8] } else { rain.slots[i] } * 1000 + 1000;
        let frames = seen.iter().enumerate().filter(|(i, _)| ![5, 6].contains(i));
        let mut records: Vec<_> = frames.map(|(i, s)| Sent::again(s, partition(i), known(i))).collect();
        records.sort_by_key(|record| record.timestamp_ms);
        Kafka::shared().write(&setting.topic("observations"), &records);
        setting.run();
        let published = forecasts::published(&setting);
        published.iter().map(|p| (p.issue_time.clone(), p.revision, p.mask())).collect::<Vec<_>>()
    };
    let one = run("outage-one", |_| 0, 1);
    let of = |slot: usize| one.iter().filter(|p| p.0 == rfc3339(rain.slots[slot])).map(|p| p.1).collect::<Vec<_>>();
    assert_eq!([4, 5, 6, 8].map(|slot| of(slot).len()), [1, 0, 0, 1], "{one:?}");
    assert!(one.iter().all(|(_, _, mask)| mask[2]), "the issue time is the slot of the newest frame: {one:?}");
    let issued: std::collections::BTreeSet<_> = one.iter().map(|p| &p.0).collect();
    assert_eq!(issued.len(), one.len(), "one revision each: {one:?}");
    assert_eq!(run("outage-three", |i| ((i * 2) % 3) as i32, 3), one);
    assert_eq!(run("outage-reversed", |i| 2 - (i % 3) as i32, 3), one);
}
