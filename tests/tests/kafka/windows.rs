//! Windows with missing slots, and frames that come late.

use squall_tests::rain::{Rain, rfc3339};
use squall_tests::{Kafka, Sent, Setting, forecasts};

/// A topic of its own with the frames as `squall publish` writes them, each known one second after its slot, changed by
/// `change` (frame number, record).
fn setting_with(name: &str, frames: usize, change: impl Fn(usize, Sent) -> Option<Sent>) -> (Setting, Rain) {
    let source = Setting::new(&format!("{name}-source"));
    let rain = Rain::small(source.folder(), frames);
    source.publish(&rain.file);
    let mut seen = Kafka::shared().read(&source.topic("observations"));
    seen.retain(|record| record.header("squall-end-of-log").is_empty());
    let records = seen.iter().enumerate();
    let records = records.map(|(i, s)| (i, Sent::again(s, 0, rain.slots[i] * 1000 + 1000)));
    let mut records: Vec<_> = records.filter_map(|(i, sent)| change(i, sent)).collect();
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
        ("the slot itself", 6, vec![true, true, false]),
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
    let full = rain.full_windows(3);
    assert_eq!(published.len(), full.len(), "every slot from the first full window has its forecast");
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
    assert_eq!(of(6), [(0, true), (1, false)], "first without the frame, then with it");
    assert_eq!(of(7), [(0, true), (1, false)]);
    assert_eq!(of(9), [(0, false)]);
}
