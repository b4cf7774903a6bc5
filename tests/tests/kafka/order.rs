//! The same records, however they lie and however many workers read them, give the same forecasts.

use std::collections::BTreeMap;

use squall_tests::rain::Rain;
use squall_tests::{Kafka, Seen, Sent, Setting, forecasts};

const FRAMES: usize = 14;

/// What was published, by frame.
fn frames(name: &str) -> (Rain, Vec<Seen>) {
    let setting = Setting::new(name);
    let rain = Rain::small(setting.folder(), FRAMES);
    let seen = setting.published(&rain.file);
    assert_eq!(seen.len(), rain.slots.len(), "one record a frame");
    (rain, seen)
}

/// Runs on a topic and gives all products, consolidated.
fn products(topic: &str, partitions: i32, workers: usize) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let mut setting = Setting::new(&format!("workers-{workers}"));
    (setting.workers, setting.partitions, setting.observations) = (workers, partitions, Some(topic.to_owned()));
    setting.run();
    let mut products = forecasts::consolidated(&setting.topic("probabilities"));
    products.extend(forecasts::consolidated(&setting.topic("quantiles")));
    let identities = forecasts::published(&setting).into_iter().map(|p| format!("{} r{}", p.issue_time, p.revision));
    (products, identities.collect())
}

/// Fills a topic, in each partition in the order in which records became known.
fn fill(name: &str, partitions: i32, mut records: Vec<Sent>) -> String {
    let topic = format!("{name}.{}", std::process::id());
    Kafka::shared().create(&topic, partitions);
    records.sort_by_key(|record| record.timestamp_ms);
    Kafka::shared().write(&topic, &records);
    topic
}

/// Delays in milliseconds that shuffle frames within a patience of three minutes over more than one slot.
fn delay(frame: usize) -> i64 {
    // Frames are five minutes apart. 170 s, 10 s, 90 s: neighbours meet in any order on different partitions.
    [170_000, 10_000, 90_000, 5_000, 120_000][frame % 5]
}

#[test]
fn workers_partitions_and_order_do_not_matter() {
    let (rain, seen) = frames("ordered");
    let known = |frame: usize, late: i64| rain.slots[frame] * 1000 + late;
    let in_order = seen.iter().enumerate().map(|(i, s)| Sent::again(s, 0, known(i, 1000))).collect();
    let in_order = fill("in-order", 1, in_order);
    let shuffled = seen.iter().enumerate().map(|(i, s)| Sent::again(s, (i as i32 * 2) % 3, known(i, delay(i))));
    let shuffled = fill("shuffled", 3, shuffled.collect());

    let (expected, identities) = products(&in_order, 1, 1);
    let windows: Vec<_> = rain.full_windows(3).iter().map(|time| format!("{time} r0")).collect();
    assert_eq!(identities, windows);
    for workers in [1, 2, 4] {
        let (products, found) = products(&shuffled, 3, workers);
        assert_eq!(found, identities, "{workers} workers");
        assert!(products == expected, "{workers} workers: {}", differing(&products, &expected));
    }
}

#[test]
fn uneven_partitions_give_what_one_gives() {
    let (rain, seen) = frames("uneven");
    let known = |frame: usize| rain.slots[frame] * 1000 + 1000;
    let one = seen.iter().enumerate().map(|(i, s)| Sent::again(s, 0, known(i))).collect();
    // All but every fifth frame lie in one partition, and between them much that is large and useless.
    let mut two: Vec<_> =
        seen.iter().enumerate().map(|(i, s)| Sent::again(s, i32::from(i % 5 == 2), known(i))).collect();
    let useless = two[0].clone().with_header("content-type", "text/plain");
    two.extend((0..200).map(|i| {
        let frame = i as usize * (FRAMES - 1) / 200;
        Sent { partition: 0, timestamp_ms: known(frame) + 1 + i, value: vec![b'x'; 50_000], ..useless.clone() }
    }));
    let (one, two) = (fill("one-partition", 1, one), fill("two-partitions", 2, two));
    let (expected, identities) = products(&one, 1, 1);
    let (found, same) = products(&two, 2, 2);
    assert_eq!(same, identities);
    assert!(found == expected, "{}", differing(&found, &expected));
}

fn differing(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> String {
    let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let differ: Vec<_> = keys.into_iter().filter(|key| a.get(*key) != b.get(*key)).collect();
    format!("{} of {} tiles differ, first {:?}", differ.len(), b.len(), differ.first())
}
