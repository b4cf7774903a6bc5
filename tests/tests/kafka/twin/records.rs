//! What readers see of what was written, and what is told of topics.

use std::collections::BTreeMap;
use std::time::Instant;

use squall_operators::ports::{LogError, Outgoing, PartitionId, Record, Retention, Timestamps, TopicInfo, TopicSpec};

use super::{LIMIT, MOST, TIME_MS, Twin, WAIT, ledgers, places, record, spec, texts};

pub(super) fn a_record_comes_back_as_it_was_written(twin: &Twin) {
    let topic = twin.topic("t", 2);
    let header = |name: &str, value: Option<&'static str>| (name.to_owned(), value.map(Into::into));
    let full = Outgoing {
        key: Some("key".into()),
        headers: vec![
            header("twice", Some("one")),
            header("empty", Some("")),
            header("null", None),
            header("twice", Some("two")),
        ],
        ..record(&topic, 1, "value")
    };
    let tombstone = Outgoing { value: None, timestamp_ms: Some(TIME_MS - 1), ..full.clone() };
    let sent = [full, record(&topic, 1, ""), tombstone];
    twin.write(&sent);
    let expected = (0i64..).zip(&sent).map(|(offset, sent)| Record {
        partition: PartitionId::new(topic.as_str(), 1),
        offset,
        timestamp_ms: sent.timestamp_ms.expect("a time"),
        key: sent.key.clone(),
        headers: sent.headers.clone(),
        value: sent.value.clone(),
        value_bytes: sent.value.as_ref().map_or(0, |value| value.len() as u64),
    });
    let seen = twin.reading(&topic).up_to(&[0, 3]);
    assert_eq!(seen, expected.collect::<Vec<_>>());
    assert_eq!(seen[0].header("twice"), Some("two"));
}

/// Which one, the logs need not agree on.
pub(super) fn a_key_chooses_one_partition(twin: &Twin) {
    let topic = twin.topic("t", 3);
    let sent = |number: usize| Outgoing {
        partition: None,
        key: Some(format!("key {}", number % 4).into()),
        ..record(&topic, 0, &number.to_string())
    };
    twin.write(&(0..12).map(sent).collect::<Vec<_>>());
    let mut by_key: BTreeMap<_, Vec<Record>> = BTreeMap::new();
    for record in twin.reading(&topic).take(12) {
        by_key.entry(record.key.as_ref().map(|key| key.to_vec())).or_default().push(record);
    }
    assert_eq!(by_key.len(), 4);
    for (number, records) in by_key.values().enumerate() {
        assert!(records.iter().all(|record| record.partition == records[0].partition), "{records:?}");
        assert_eq!(texts(records), [number, number + 4, number + 8].map(|number| number.to_string()));
    }
}

pub(super) fn an_open_transaction_hides_what_lies_behind_it(twin: &Twin) {
    let topic = twin.topic("t", 2);
    let (mut reading, mut other) = (twin.reading(&topic), twin.other("a"));
    twin.write(&[record(&topic, 0, "before")]);
    other.write(&record(&topic, 0, "inside")).expect("an open transaction");
    twin.write(&[record(&topic, 0, "behind"), record(&topic, 1, "beside")]);
    assert_eq!(places(&reading.up_to(&[1, 1])), ["0[0] before", "1[0] beside"]);
    reading.assert_nothing_comes();
    let one_by_one = reading.ids.iter().map(|id| reading.reader.end_offset(id).expect("an end"));
    assert_eq!(one_by_one.collect::<Vec<_>>(), [1, 1]);
    other.end(true).expect("a commit");
    // The last is the control record.
    assert_eq!(places(&reading.up_to(&[4, 1])), ["0[1] inside", "0[2] behind"]);
}

pub(super) fn positions_move_over_control_and_aborted_records(twin: &Twin) {
    let topic = twin.topic("t", 1);
    let (mut reading, mut other) = (twin.reading(&topic), twin.other("a"));
    for text in ["lost", "lost too"] {
        other.write(&record(&topic, 0, text)).expect("an open transaction");
    }
    other.end(false).expect("an abort");
    assert!(reading.up_to(&[3]).is_empty());
    twin.write(&[record(&topic, 0, "plain")]);
    other.write(&record(&topic, 0, "kept")).expect("an open transaction");
    other.end(true).expect("a commit");
    assert_eq!(places(&reading.up_to(&[6])), ["0[3] plain", "0[4] kept"]);
    assert_eq!(reading.reader.begin_offset(&reading.ids[0]).expect("a beginning"), 0);
}

pub(super) fn the_newest_of_an_id_fences_the_older_one(twin: &Twin) {
    let topic = twin.topic("t", 1);
    let (mut reading, mut zombie) = (twin.reading(&topic), twin.other("a"));
    zombie.write(&record(&topic, 0, "zombie")).expect("an open transaction");
    let mut newest = twin.other("a"); // which aborts what it finds
    newest.write(&record(&topic, 0, "new")).expect("an open transaction");
    assert!(zombie.end(true).is_err());
    assert!(zombie.write(&record(&topic, 0, "zombie")).is_err());
    newest.end(true).expect("the zombie disturbs nothing");
    assert_eq!(places(&reading.up_to(&[4])), ["0[2] new"]);
}

pub(super) fn a_paused_partition_waits_without_a_gap_while_others_go_on(twin: &Twin) {
    let topic = twin.topic("t", 2);
    let of = |partition: i32| (0..4).map(move |number: i32| (partition, number.to_string()));
    let sent: Vec<_> = of(0).chain(of(1)).map(|(partition, text)| record(&topic, partition, &text)).collect();
    twin.write(&sent);
    let mut reading = twin.reading(&topic);
    let paused = reading.take(1).remove(0).partition;
    reading.reader.pause(&paused).expect("a pause");
    let others = reading.take(4);
    assert!(others.iter().all(|record| record.partition != paused), "{others:?}");
    assert_eq!(texts(&others), ["0", "1", "2", "3"]);
    twin.write(&[record(&topic, paused.partition, "4")]);
    reading.assert_nothing_comes();
    assert_eq!(reading.reader.position(&paused).expect("a position"), 1);
    reading.reader.resume(&paused).expect("an end of the pause");
    let rest = reading.take(4);
    assert!(rest.iter().all(|record| record.partition == paused), "{rest:?}");
    assert_eq!(texts(&rest), ["1", "2", "3", "4"]);

    // An assignment ends the pause, and what is not in it is read no more.
    reading.reader.pause(&paused).expect("a pause");
    reading.reader.assign(&[(paused.clone(), 3)]).expect("an assignment");
    assert_eq!(texts(&reading.take(2)), ["3", "4"]);
    let other = &others[0].partition;
    twin.write(&[record(&topic, other.partition, "5")]);
    reading.assert_nothing_comes();
    assert!(matches!(reading.reader.position(other), Err(LogError::NotAssigned { partition }) if partition == *other));
}

/// Not to the bound itself: as much is kept as a dead letter may hold.
pub(super) fn values_beyond_the_bound_of_a_reader_are_cut(twin: &Twin) {
    let topic = twin.topic("t", 1);
    let large = "0123456789".repeat(30_000);
    twin.write(&[record(&topic, 0, &large), record(&topic, 0, "small")]);
    let seen = twin.reading_within(&topic, 1000).take(2);
    let kept = texts(&seen);
    assert!(seen[0].is_cut() && seen[0].value_bytes == 300_000);
    assert!(!kept[0].is_empty() && kept[0].len() < large.len() && large.starts_with(&kept[0]));
    assert!(!seen[1].is_cut() && seen[1].value_bytes == 5);
    assert_eq!(kept[1], "small");
    let whole = twin.reading(&topic).take(2);
    assert!(!whole[0].is_cut() && texts(&whole)[0] == large);
}

/// A topic of small records, and one that it does not take: in Kafka the bound is that of a whole batch, and larger.
pub(super) fn small_and_too_large(twin: &Twin) -> (String, Outgoing) {
    let spec = TopicSpec { max_record_bytes: 1000, ..spec(&twin.name("small"), 1) };
    twin.create(&spec);
    let large = record(&spec.name, 0, &"x".repeat(200_000));
    (spec.name, large)
}

pub(super) fn a_record_that_its_topic_does_not_take_is_an_error(twin: &Twin) {
    let (topic, large) = small_and_too_large(twin);
    let mut writer = twin.log.writer().expect("a writer");
    let error = writer.send(large).and_then(|()| writer.flush(LIMIT)).expect_err("a record that is too large");
    assert!(!error.is_retriable(), "{error}");
    twin.write(&[record(&topic, 0, "small")]);
    assert_eq!(places(&twin.reading(&topic).up_to(&[1])), ["0[0] small"]);
}

pub(super) fn an_offset_beyond_the_end_is_out_of_range(twin: &Twin) {
    let topic = twin.topic("t", 1);
    twin.write(&[record(&topic, 0, "first")]);
    let mut reading = twin.reading(&topic);
    let id = reading.ids[0].clone();
    // The end itself is where the next record will be.
    reading.reader.assign(&[(id.clone(), 1)]).expect("an assignment");
    reading.assert_nothing_comes();
    twin.write(&[record(&topic, 0, "next")]);
    assert_eq!(places(&reading.take(1)), ["0[1] next"]);
    reading.reader.assign(&[(id.clone(), 7)]).expect("an assignment");
    let start = Instant::now();
    let error = loop {
        match reading.reader.poll(WAIT) {
            Err(error) => break error,
            Ok(found) => assert!(found.is_none() && start.elapsed() < LIMIT / 4, "no error, and {found:?}"),
        }
    };
    assert!(matches!(&error, LogError::OutOfRange { partition, .. } if *partition == id), "{error}");
}

pub(super) fn a_topic_that_is_not_there_is_told(twin: &Twin) {
    let none = twin.name("none");
    let mut reader = twin.log.reader(MOST).expect("a reader");
    assert!(matches!(reader.partitions(&none), Err(LogError::NoTopic { topic }) if topic == none));
    assert_eq!(twin.log.describe(&[&none]).expect("an answer")[0], None);
    assert!(twin.log.kept(&none, "").is_err(), "other than a topic without records");
    let mut writer = twin.log.writer().expect("a writer");
    let error = writer.send(record(&none, 0, "x")).and_then(|()| writer.flush(LIMIT)).expect_err("no topic");
    assert!(!error.is_retriable(), "{error}");
    let error = ledgers::open(&mut *twin.ledger("rain", &none), "3", false).expect_err("no topic of progress");
    assert!(!error.is_retriable(), "{error}");
    assert_eq!(twin.log.describe(&[&none]).expect("an answer")[0], None, "and nothing has made it");
}

pub(super) fn a_topic_is_described_as_it_was_created_first(twin: &Twin) {
    let live = TopicSpec { timestamps: Timestamps::LogAppend, unpacked: true, ..spec(&twin.name("live"), 3) };
    let compacted = TopicSpec { retention: Retention::Compact, ..spec(&twin.name("compacted"), 1) };
    let soon = TopicSpec { retention: Retention::CompactSoon, ..spec(&twin.name("soon"), 2) };
    let specs = [live, compacted, soon];
    specs.iter().for_each(|spec| twin.create(spec));
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let told = || -> Vec<TopicInfo> {
        let told = twin.log.describe(&names).expect("an answer");
        told.into_iter().map(|info| info.expect("a topic")).collect()
    };
    let first = told();
    for (info, spec) in first.iter().zip(&specs) {
        assert_eq!((&info.name, info.partitions), (&spec.name, spec.partitions));
        assert_eq!((info.timestamps, info.retention), (Some(spec.timestamps), Some(spec.retention)));
        // Kafka bounds a whole batch.
        assert!(info.max_record_bytes.is_some_and(|bytes| bytes >= spec.max_record_bytes), "{info:?}");
        // In memory nothing is packed, and nothing said of it.
        let is_unpacked = info.compression.as_deref().map(|codec| codec == TopicInfo::UNPACKED);
        assert!(is_unpacked.is_none_or(|is_unpacked| is_unpacked == spec.unpacked), "{info:?}");
    }
    let others: Vec<_> = names.iter().map(|name| spec(name, 5)).collect();
    twin.log.create(&others).expect("nothing to do");
    assert_eq!(told(), first);
}

pub(super) fn timestamps_are_those_of_the_log_or_of_the_producer(twin: &Twin) {
    let live = TopicSpec { timestamps: Timestamps::LogAppend, ..spec(&twin.name("live"), 1) };
    twin.create(&live);
    let replay = twin.topic("replay", 1);
    let now_ms = || chrono::Utc::now().timestamp_millis();
    let before = now_ms();
    let unstamped = Outgoing { timestamp_ms: None, ..record(&replay, 0, "unstamped") };
    twin.write(&[record(&live.name, 0, "stamped"), record(&replay, 0, "stamped"), unstamped]);
    let is_now = |time: i64| (before - 60_000..now_ms() + 60_000).contains(&time);
    let seen = twin.reading(&live.name).take(1);
    assert!(is_now(seen[0].timestamp_ms), "{seen:?}");
    let seen = twin.reading(&replay).take(2);
    assert_eq!(seen[0].timestamp_ms, TIME_MS);
    assert!(is_now(seen[1].timestamp_ms), "{seen:?}");
}

pub(super) fn what_is_kept_is_the_newest_record_of_each_key(twin: &Twin) {
    let spec = TopicSpec { retention: Retention::Compact, ..spec(&twin.name("compacted"), 1) };
    twin.create(&spec);
    let kept = || -> Vec<String> {
        let kept = twin.log.kept(&spec.name, "a/").expect("what is kept");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        kept.iter().map(|(key, value)| format!("{} {}", text(key), text(value))).collect()
    };
    assert!(kept().is_empty());
    let keyed = |key: &'static str, text| Outgoing { key: Some(key.into()), ..record(&spec.name, 0, text) };
    let tombstone = Outgoing { value: None, ..keyed("a/gone", "") };
    let [old, gone, beside] = [keyed("a/1", "old"), keyed("a/gone", "gone"), keyed("b/1", "beside")];
    twin.write(&[old, gone, beside, keyed("a/2", "two"), tombstone, keyed("a/1", "new")]);
    let mut other = twin.other("a");
    for (key, text, is_committed) in [("a/2", "lost", false), ("a/3", "three", true)] {
        other.write(&keyed(key, text)).expect("an open transaction");
        other.end(is_committed).expect("an end of the transaction");
    }
    assert_eq!(kept(), ["a/2 two", "a/1 new", "a/3 three"], "in the order of the log");
}
