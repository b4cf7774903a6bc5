//! The rules of claims, on a log whose answers are lost when a test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::memory::{MemoryLog, Verdict};
use bytes::Bytes;
use proptest::prelude::*;
use squall_fields::KnowledgeTime;
use squall_operators::ports::{Connect, Retention, Timestamps, TopicSpec};

fn log() -> MemoryLog {
    let log = MemoryLog::new();
    let topic = |name: &str| TopicSpec {
        name: name.into(),
        partitions: 1,
        timestamps: Timestamps::Create,
        retention: Retention::Compact,
        max_record_bytes: 1000,
        unpacked: false,
    };
    log.create(&[topic("t"), topic("progress")]).unwrap();
    log
}

fn ledger(log: &MemoryLog) -> Box<dyn Ledger> {
    log.ledger("a/rain", "progress").unwrap()
}

fn settings(frames: &str) -> BTreeMap<String, String> {
    [("window_frames".to_owned(), frames.to_owned())].into()
}

fn open(ledger: &mut dyn Ledger, settings: &BTreeMap<String, String>) -> Result<Progress, LedgerError> {
    ledger.open(&Opening { settings, reset: false })
}

fn record(value: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        topic: "t".into(),
        partition: Some(0),
        key: None,
        headers: vec![],
        value: Some(value.into()),
        timestamp_ms: Some(0),
    }
}

fn at(ms: i64) -> Progress {
    Progress { frontier: KnowledgeTime::from_unix_ms(ms), settings: settings("3"), ..Default::default() }
}

fn texts(log: &MemoryLog) -> Vec<String> {
    let mut reader = log.reader(1000).unwrap();
    let start: Vec<_> = reader.partitions("t").unwrap().into_iter().map(|p| (p, 0)).collect();
    reader.assign(&start).unwrap();
    let records = std::iter::from_fn(|| reader.poll(std::time::Duration::ZERO).unwrap());
    records.map(|r| String::from_utf8_lossy(&r.value.unwrap()).into_owned()).collect()
}

#[test]
fn a_commit_whose_answer_was_lost_is_not_made_twice() {
    let log = log();
    let mut ledger = ledger(&log);
    open(&mut *ledger, &settings("3")).unwrap();
    log.on_commit(|_| Verdict::FailAfter(LogError::away("committing", "the answer was lost")));
    assert!(ledger.commit(&[record("one")], &at(100)).unwrap_err().is_retriable());
    log.on_commit(|_| Verdict::Proceed);
    ledger.commit(&[record("one")], &at(100)).unwrap();
    ledger.commit(&[record("two")], &at(200)).unwrap();
    assert_eq!(texts(&log), ["one", "two"]);
}

#[test]
fn whoever_claims_last_is_the_owner_and_the_predecessor_writes_nothing() {
    let log = log();
    let (mut old, mut new) = (ledger(&log), ledger(&log));
    assert_eq!(open(&mut *old, &settings("3")).unwrap().claim.generation, 1);
    old.commit(&[record("old")], &at(100)).unwrap();
    let found = open(&mut *new, &settings("3")).unwrap();
    assert_eq!((found.claim.generation, found.frontier), (2, at(100).frontier));
    assert!(old.commit(&[record("lost")], &at(200)).unwrap_err().is_retriable());
    assert!(matches!(old.commit(&[record("lost")], &at(200)), Err(LedgerError::Fenced { .. })));
    new.commit(&[record("new")], &at(200)).unwrap();
    assert_eq!(texts(&log), ["old", "new"]);
}

#[test]
fn a_successor_that_was_cut_off_takes_its_place_again() {
    let log = log();
    let mut new = ledger(&log);
    open(&mut *new, &settings("3")).unwrap();
    new.commit(&[record("one")], &at(100)).unwrap();
    let _zombie = log.transactional("a/rain"); // becomes the only writer without a claim
    assert!(new.commit(&[record("two")], &at(200)).unwrap_err().is_retriable());
    new.commit(&[record("two")], &at(200)).unwrap();
    assert_eq!(texts(&log), ["one", "two"]);
}

#[test]
fn an_opening_that_was_cut_off_amid_its_claim_leaves_the_place_to_who_came_later() {
    let log = log();
    let (mut first, mut second) = (ledger(&log), ledger(&log));
    log.on_commit(|_| Verdict::FailBefore(LogError::away("committing", "the network is cut")));
    assert!(open(&mut *first, &settings("3")).unwrap_err().is_retriable());
    log.on_commit(|_| Verdict::Proceed);
    open(&mut *second, &settings("3")).unwrap();
    let error = open(&mut *first, &settings("3")).unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    second.commit(&[record("second")], &at(100)).unwrap();
    assert_eq!(texts(&log), ["second"], "and was not cut off");
}

#[test]
fn of_two_that_claim_at_the_same_time_one_stops() {
    let log = log();
    let (mut first, rival, came) = (ledger(&log), log.clone(), AtomicBool::new(false));
    // While the first one's claim is under way, another opens the ledger and claims it.
    log.on_commit(move |_| {
        if !came.swap(true, Ordering::SeqCst) {
            open(&mut *ledger(&rival), &settings("3")).unwrap();
        }
        Verdict::Proceed
    });
    let error = open(&mut *first, &settings("3")).unwrap_err();
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
}

#[test]
fn other_settings_are_refused_with_the_difference_until_the_progress_is_reset() {
    let log = log();
    let mut running = ledger(&log);
    open(&mut *running, &settings("3")).unwrap();
    running.commit(&[record("one")], &at(100)).unwrap();
    let error = open(&mut *ledger(&log), &settings("4")).unwrap_err();
    assert!(error.to_string().contains("window_frames was 3, is 4") && !error.is_retriable(), "{error}");
    // Who was refused did not take the place of the one that runs.
    assert!(running.commit(&[record("two")], &at(200)).unwrap_err().is_retriable());
    running.commit(&[record("two")], &at(200)).unwrap();
    let anew = ledger(&log).open(&Opening { settings: &settings("4"), reset: true }).unwrap();
    assert_eq!((anew.frontier, anew.claim.generation), (KnowledgeTime::default(), 2));
    assert!(open(&mut *ledger(&log), &settings("3")).is_err());
    assert_eq!(open(&mut *ledger(&log), &settings("4")).unwrap().claim.generation, 3);
}

#[test]
fn what_the_log_refuses_is_left_out_and_the_rest_is_committed() {
    let log = log();
    let mut ledger = ledger(&log);
    open(&mut *ledger, &settings("3")).unwrap();
    let large = || record(vec![b'x'; 2000]);
    ledger.commit(&[record("one"), large(), record("two"), large()], &at(100)).unwrap();
    ledger.commit(&[record("three")], &at(200)).unwrap();
    assert_eq!(texts(&log), ["one", "two", "three"]);
}

#[test]
fn a_progress_that_is_gone_is_an_error_and_not_a_fresh_start() {
    let log = log();
    let mut ledger = ledger(&log);
    open(&mut *ledger, &settings("3")).unwrap();
    let _zombie = log.transactional("a/rain");
    let tombstone = Outgoing { topic: "progress".into(), key: Some("a/rain".into()), value: None, ..record("") };
    log.append(tombstone).unwrap();
    assert!(ledger.commit(&[], &at(100)).unwrap_err().is_retriable());
    let error = ledger.commit(&[], &at(100)).unwrap_err();
    assert!(matches!(error, LedgerError::Progress { .. }), "{error}");
}

proptest! {
    /// Owners come and go, answers are lost, writers are cut off: what is visible is what the owners were told.
    #[test]
    fn nothing_is_lost_and_nothing_is_there_twice(steps in prop::collection::vec(0u8..6, 1..60)) {
        let log = log();
        let mut owner = ledger(&log);
        open(&mut *owner, &settings("3")).unwrap();
        let (mut zombies, mut told) = (Vec::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            let lost = || LogError::away("committing", "test");
            match step {
                0 => log.on_commit(move |_| Verdict::FailBefore(lost())),
                1 => log.on_commit(move |_| Verdict::FailAfter(lost())),
                2 => drop(log.transactional("a/rain")),
                3 => {
                    log.on_commit(|_| Verdict::Proceed);
                    let mut successor = ledger(&log);
                    open(&mut *successor, &settings("3")).unwrap();
                    zombies.push(std::mem::replace(&mut owner, successor));
                    continue;
                }
                _ => {}
            }
            for zombie in &mut zombies {
                let error = zombie.commit(&[record("zombie")], &at(0)).unwrap_err();
                let stops = matches!(error, LedgerError::Fenced { .. });
                prop_assert!(stops || error.is_retriable(), "{error}");
            }
            let text = number.to_string();
            let mut answer = owner.commit(&[record(text.clone())], &at(number as i64));
            log.on_commit(|_| Verdict::Proceed);
            for _ in 0..3 {
                if answer.is_err() {
                    answer = owner.commit(&[record(text.clone())], &at(number as i64));
                }
            }
            prop_assert!(answer.is_ok(), "{answer:?}");
            told.push(text);
        }
        prop_assert_eq!(texts(&log), told);
    }
}
