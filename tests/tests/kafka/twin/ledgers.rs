//! Records and progress, all or nothing, and who may commit them.

use std::collections::BTreeMap;

use squall_operators::ports::{Ledger, LedgerError, Opening, Outgoing};
use squall_operators::progress::Progress;

use super::records::small_and_too_large;
use super::{Twin, record, texts};

/// How often a commit may fail and be tried again; one that was cut off does so once.
const TRIES: usize = 5;

fn settings(frames: &str) -> BTreeMap<String, String> {
    [("window_frames".to_owned(), frames.to_owned())].into()
}

/// Opens a ledger with settings of so many frames.
pub(super) fn open(ledger: &mut dyn Ledger, frames: &str, reset: bool) -> Result<Progress, LedgerError> {
    ledger.open(&Opening { settings: &settings(frames), reset })
}

/// A progress of three frames that a version of the program tells apart from others.
fn at(version: &str) -> Progress {
    Progress { settings: settings("3"), version: version.to_owned(), ..Default::default() }
}

/// Commits, and again after every error that may pass; how many of these there were.
fn commit(ledger: &mut dyn Ledger, records: &[Outgoing], progress: &Progress) -> Result<usize, LedgerError> {
    let mut passed = Vec::new();
    while passed.len() < TRIES {
        match ledger.commit(records, progress) {
            Ok(()) => return Ok(passed.len()),
            Err(error) if error.is_retriable() => passed.push(error),
            Err(error) => return Err(error),
        }
    }
    panic!("it did not pass: {passed:?}")
}

/// Generation and version of a progress.
fn found(progress: &Progress) -> (u64, &str) {
    (progress.claim.generation, progress.version.as_str())
}

pub(super) fn a_ledger_commits_records_and_progress_together(twin: &Twin) {
    let (topic, progress) = (twin.topic("t", 1), twin.topic("progress", 1));
    let mut ledger = twin.ledger("one/rain", &progress);
    let error = ledger.commit(&[], &at("0")).expect_err("nobody has opened it");
    assert!(matches!(error, LedgerError::NotOpened { .. }), "{error}");
    let fresh = open(&mut *ledger, "3", false).expect("a new ledger");
    assert_eq!(fresh, Progress { claim: fresh.claim.clone(), ..at("") });
    assert_eq!(fresh.claim.generation, 1);
    ledger.commit(&[record(&topic, 0, "one"), record(&topic, 0, "two")], &at("1")).expect("a commit");
    ledger.commit(&[record(&topic, 0, "three")], &at("2")).expect("a commit");
    assert_eq!(texts(&twin.reading(&topic).take(3)), ["one", "two", "three"]);

    // Another instance, with a stream of the same name.
    let apart = open(&mut *twin.ledger("other/rain", &progress), "3", false).expect("a new ledger");
    assert_eq!(found(&apart), (1, ""));
    let again = open(&mut *twin.ledger("one/rain", &progress), "3", false).expect("the same ledger");
    assert_eq!(again, Progress { claim: again.claim.clone(), ..at("2") });
    assert_eq!(again.claim.generation, 2);
    assert_ne!(again.claim.owner, fresh.claim.owner);
}

pub(super) fn whoever_opens_a_ledger_last_is_its_owner(twin: &Twin) {
    let (topic, progress) = (twin.topic("t", 1), twin.topic("progress", 1));
    let (mut old, mut new) = (twin.ledger("rain", &progress), twin.ledger("rain", &progress));
    open(&mut *old, "3", false).expect("a new ledger");
    old.commit(&[record(&topic, 0, "old")], &at("1")).expect("a commit");
    assert_eq!(found(&open(&mut *new, "3", false).expect("the same ledger")), (2, "1"));
    let lost = [record(&topic, 0, "lost")];
    let error = commit(&mut *old, &lost, &at("lost")).expect_err("another is the owner");
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    new.commit(&[record(&topic, 0, "new")], &at("2")).expect("the predecessor disturbed nothing");
    let error = commit(&mut *old, &lost, &at("lost")).expect_err("another still is the owner");
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
    assert_eq!(texts(&twin.reading(&topic).take(2)), ["old", "new"]);
    let error = open(&mut *old, "3", false).expect_err("it was opened before");
    assert!(matches!(error, LedgerError::Fenced { .. }), "{error}");
}

pub(super) fn an_owner_that_was_cut_off_takes_its_place_again(twin: &Twin) {
    let (topic, progress) = (twin.topic("t", 1), twin.topic("progress", 1));
    let mut owner = twin.ledger("rain", &progress);
    open(&mut *owner, "3", false).expect("a new ledger");
    owner.commit(&[record(&topic, 0, "one")], &at("1")).expect("a commit");
    // Under the same id, and without a claim.
    let mut other = twin.other("rain");
    other.write(&record(&topic, 0, "lost")).expect("an open transaction");
    let failures = commit(&mut *owner, &[record(&topic, 0, "two")], &at("2")).expect("its place again");
    assert!(failures > 0, "it was cut off");
    assert!(other.end(true).is_err(), "it was cut off in its turn");
    assert_eq!(texts(&twin.reading(&topic).take(2)), ["one", "two"]);
}

pub(super) fn other_settings_are_refused_until_the_progress_is_reset(twin: &Twin) {
    let (topic, progress) = (twin.topic("t", 1), twin.topic("progress", 1));
    let mut running = twin.ledger("rain", &progress);
    open(&mut *running, "3", false).expect("a new ledger");
    running.commit(&[record(&topic, 0, "one")], &at("1")).expect("a commit");
    let error = open(&mut *twin.ledger("rain", &progress), "4", false).expect_err("other settings");
    let LedgerError::Settings { differences, .. } = &error else { panic!("{error}") };
    assert_eq!(differences, "window_frames was 3, is 4");
    // Who was refused has not taken the place of the one that runs.
    commit(&mut *running, &[record(&topic, 0, "two")], &at("2")).expect("its place again");
    assert_eq!(texts(&twin.reading(&topic).take(2)), ["one", "two"]);
    let anew = open(&mut *twin.ledger("rain", &progress), "4", true).expect("a ledger that was reset");
    assert_eq!(found(&anew), (2, ""));
    let error = open(&mut *twin.ledger("rain", &progress), "3", false).expect_err("the settings of before");
    assert!(matches!(error, LedgerError::Settings { .. }), "{error}");
}

pub(super) fn what_the_log_refuses_is_left_out_and_the_rest_is_committed(twin: &Twin) {
    let (small, large) = small_and_too_large(twin);
    let progress = twin.topic("progress", 1);
    let mut ledger = twin.ledger("rain", &progress);
    open(&mut *ledger, "3", false).expect("a new ledger");
    let text = |text| record(&small, 0, text);
    commit(&mut *ledger, &[text("one"), large.clone(), text("two"), large], &at("1")).expect("the rest");
    ledger.commit(&[text("three")], &at("2")).expect("a commit");
    assert_eq!(texts(&twin.reading(&small).take(3)), ["one", "two", "three"]);
    let again = open(&mut *twin.ledger("rain", &progress), "3", false).expect("the same ledger");
    assert_eq!(found(&again), (2, "2"));
}

/// Whoever configured the topic can make it: other than a record that is too large it is not left out.
pub(super) fn a_batch_with_a_record_for_no_topic_is_not_committed_at_all(twin: &Twin) {
    let (topic, progress) = (twin.topic("t", 1), twin.topic("progress", 1));
    let mut ledger = twin.ledger("rain", &progress);
    open(&mut *ledger, "3", false).expect("a new ledger");
    let batch = [record(&topic, 0, "lost"), record(&twin.name("none"), 0, "lost")];
    let error = ledger.commit(&batch, &at("lost")).expect_err("no topic");
    assert!(matches!(error, LedgerError::Log { .. }) && !error.is_retriable(), "{error}");
    let mut next = twin.ledger("rain", &progress);
    assert_eq!(found(&open(&mut *next, "3", false).expect("the same ledger")), (2, ""));
    next.commit(&[record(&topic, 0, "kept")], &at("1")).expect("a commit");
    assert_eq!(texts(&twin.reading(&topic).take(1)), ["kept"]);
}
