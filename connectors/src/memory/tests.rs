//! Tests of the log in memory against what Kafka promises.

use std::collections::BTreeMap;

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use squall_operators::ports::{LedgerError, Opening, PartitionId, Record, Retention};
use squall_operators::progress::Progress;

fn log(topics: &[(&str, i32)]) -> MemoryLog {
    let log = MemoryLog::new();
    let spec = |(name, partitions): &(&str, i32)| TopicSpec {
        name: (*name).into(),
        partitions: *partitions,
        timestamps: Timestamps::Create,
        retention: Retention::Forever,
        max_record_bytes: 1000,
        unpacked: false,
    };
    log.create(&topics.iter().map(spec).collect::<Vec<_>>()).unwrap();
    log
}

fn record(topic: &str, partition: i32, text: &str) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        partition: Some(partition),
        key: None,
        headers: vec![],
        value: Some(Bytes::copy_from_slice(text.as_bytes())),
        timestamp_ms: Some(7),
    }
}

fn read_all(log: &MemoryLog, topic: &str) -> Vec<Record> {
    let mut reader = log.reader(1000).unwrap();
    let start: Vec<_> = reader.partitions(topic).unwrap().into_iter().map(|p| (p, 0)).collect();
    reader.assign(&start).unwrap();
    std::iter::from_fn(|| reader.poll(Duration::ZERO).unwrap()).collect()
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8_lossy(r.value.as_ref().unwrap()).into_owned()).collect()
}

#[test]
fn an_open_transaction_hides_what_lies_behind_it() {
    let log = log(&[("t", 1)]);
    let mut writer = log.transactional("a");
    log.append(record("t", 0, "before")).unwrap();
    writer.send(record("t", 0, "inside")).unwrap();
    log.append(record("t", 0, "behind")).unwrap();
    assert_eq!(texts(&read_all(&log, "t")), ["before"]);
    writer.commit().unwrap();
    assert_eq!(texts(&read_all(&log, "t")), ["before", "inside", "behind"]);
}

#[test]
fn control_records_take_offsets_and_positions_move_over_them() {
    let log = log(&[("t", 1)]);
    let mut writer = log.transactional("a");
    writer.send(record("t", 0, "lost")).unwrap();
    writer.abort().unwrap();
    let id = PartitionId::new("t", 0);
    let mut reader = log.reader(1000).unwrap();
    reader.assign(&[(id.clone(), 0)]).unwrap();
    assert_eq!(reader.poll(Duration::ZERO).unwrap(), None);
    assert_eq!((reader.position(&id).unwrap(), reader.end_offset(&id).unwrap()), (2, 2));
}

#[test]
fn the_newest_of_an_id_fences_the_others() {
    let log = log(&[("t", 1)]);
    let mut zombie = log.transactional("a");
    zombie.send(record("t", 0, "zombie")).unwrap();
    let mut new = log.transactional("a");
    assert!(matches!(zombie.commit(), Err(LedgerError::Fenced { ledger }) if ledger == "a"));
    assert!(zombie.send(record("t", 0, "zombie")).is_err());
    new.send(record("t", 0, "new")).unwrap();
    new.commit().unwrap();
    assert_eq!(texts(&read_all(&log, "t")), ["new"]);
}

#[test]
fn a_ledger_commits_records_and_progress_together() {
    let log = log(&[("t", 1), ("progress", 1)]);
    let settings = BTreeMap::new();
    let opening = Opening { settings: &settings, reset: false };
    let mut ledger = log.ledger("a/rain", "progress").unwrap();
    assert_eq!(ledger.open(&opening).unwrap().frontier, Default::default());
    let at = squall_fields::KnowledgeTime::from_unix_ms;
    let progress = |ms| Progress { frontier: at(ms), ..Default::default() };
    ledger.commit(&[record("t", 0, "one")], &progress(100)).unwrap();
    log.on_commit(|_| Verdict::FailBefore(LogError::away("committing", "test")));
    assert!(ledger.commit(&[record("t", 0, "two")], &progress(200)).unwrap_err().is_retriable());
    log.on_commit(|_| Verdict::Proceed);
    let mut again = log.ledger("a/rain", "progress").unwrap();
    assert_eq!(again.open(&opening).unwrap().frontier, at(100));
    assert_eq!(texts(&read_all(&log, "t")), ["one"]);
    assert!(ledger.commit(&[], &progress(300)).unwrap_err().is_retriable(), "it was cut off, and does not know why");
    assert!(matches!(ledger.commit(&[], &progress(300)), Err(LedgerError::Fenced { .. })));
    again.commit(&[], &progress(400)).expect("the predecessor disturbed nothing");
    assert_eq!(log.ledger("b/rain", "progress").unwrap().open(&opening).unwrap().frontier, at(0), "ledgers are apart");
}

#[test]
fn paused_partitions_wait_without_a_gap_and_large_values_are_cut() {
    let log = log(&[("t", 2)]);
    for i in 0..4 {
        log.append(record("t", i % 2, &format!("{i}"))).unwrap();
    }
    let ids: Vec<_> = (0..2).map(|p| PartitionId::new("t", p)).collect();
    let mut reader = log.reader(0).unwrap();
    reader.assign(&[(ids[0].clone(), 0), (ids[1].clone(), 0)]).unwrap();
    reader.pause(&ids[0]).unwrap();
    let odd: Vec<_> = std::iter::from_fn(|| reader.poll(Duration::ZERO).unwrap()).collect();
    assert_eq!(texts(&odd), ["1", "3"]);
    reader.resume(&ids[0]).unwrap();
    assert_eq!(reader.poll(Duration::ZERO).unwrap().map(|r| r.offset), Some(0));
    assert!(log.append(record("t", 0, &"x".repeat(2000))).is_err(), "the topic takes 1000 bytes");
    assert!(log.append(record("none", 0, "x")).is_err());
}

#[test]
fn append_time_is_the_logs_own() {
    let log = MemoryLog::new();
    log.set_clock(|| 42);
    let (timestamps, retention) = (Timestamps::LogAppend, Retention::Broker);
    let (name, partitions, max_record_bytes, unpacked) = ("t".into(), 1, 10, false);
    log.create(&[TopicSpec { name, partitions, timestamps, retention, max_record_bytes, unpacked }]).unwrap();
    log.append(record("t", 0, "x")).unwrap();
    assert_eq!(read_all(&log, "t")[0].timestamp_ms, 42);
}

#[derive(Clone, Debug)]
enum Step {
    Plain(i32),
    Send(usize, i32),
    Commit(usize),
    Abort(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2i32).prop_map(Step::Plain),
        (0..2usize, 0..2i32).prop_map(|(w, p)| Step::Send(w, p)),
        (0..2usize).prop_map(Step::Commit),
        (0..2usize).prop_map(Step::Abort),
    ]
}

proptest! {
    /// A reader sees what was committed, in order, once; and never a record behind an open transaction's first.
    #[test]
    fn readers_see_exactly_what_is_committed(steps in prop::collection::vec(step(), 1..60)) {
        let log = log(&[("t", 2)]);
        let mut writers = [log.transactional("a"), log.transactional("b")];
        // The oracle: for each partition its records, each with the state of its transaction.
        let mut lines: BTreeMap<i32, Vec<(String, Option<usize>)>> = BTreeMap::new();
        let (mut open, mut outcomes): ([Option<usize>; 2], Vec<Option<bool>>) = ([None; 2], vec![]);
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Plain(p) => {
                    log.append(record("t", p, &i.to_string())).unwrap();
                    lines.entry(p).or_default().push((i.to_string(), None));
                }
                Step::Send(w, p) => {
                    writers[w].send(record("t", p, &i.to_string())).unwrap();
                    let t = *open[w].get_or_insert_with(|| { outcomes.push(None); outcomes.len() - 1 });
                    lines.entry(p).or_default().push((i.to_string(), Some(t)));
                }
                Step::Commit(w) => {
                    writers[w].commit().unwrap();
                    if let Some(t) = open[w].take() { outcomes[t] = Some(true) }
                }
                Step::Abort(w) => {
                    writers[w].abort().unwrap();
                    if let Some(t) = open[w].take() { outcomes[t] = Some(false) }
                }
            }
        }
        let seen = read_all(&log, "t");
        for p in 0..2 {
            let ours: Vec<_> = seen.iter().filter(|r| r.partition.partition == p).cloned().collect();
            let expected: Vec<_> = lines.get(&p).into_iter().flatten()
                .take_while(|(_, t)| t.is_none_or(|t| outcomes[t].is_some()))
                .filter(|(_, t)| t.is_none_or(|t| outcomes[t] == Some(true)))
                .map(|(text, _)| text.clone()).collect();
            prop_assert_eq!(texts(&ours), expected);
        }
    }
}
