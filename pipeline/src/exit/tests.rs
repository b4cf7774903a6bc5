//! Every error of a port and of the files: its kind, whether a retry can help, and what is printed of it.

use std::path::PathBuf;

use squall_fields::{Cause, IssueTime};
use squall_operators::ports::PartitionId;
use squall_operators::source::Loss;

use super::*;

/// Kind, whether a retry can help, and the error.
type Sample = (ErrorKind, bool, anyhow::Error);

macro_rules! samples {
    ($($error:expr),* $(,)?) => {
        vec![$({
            let error = $error;
            (error.kind(), error.is_retriable(), anyhow::Error::from(error))
        }),*]
    };
}

fn io(text: &str) -> std::io::Error {
    std::io::Error::other(text.to_owned())
}

fn logs() -> Vec<Sample> {
    samples![
        LogError::away("asking for topics", "timed out"),
        LogError::refused("writing", "not allowed"),
        LogError::settings("creating a reader", "no such property"),
        LogError::failed("committing", "a fatal error"),
        LogError::NoTopic { topic: "obs".into() },
        LogError::NoPartition { partition: PartitionId::new("obs", 3) },
        LogError::TooLarge { topic: "obs".into(), bytes: 20, limit: 10 },
        LogError::OutOfRange { partition: PartitionId::new("obs", 3), reason: "offset 7 is not there".into() },
        LogError::Lost { loss: Loss::Unread { partition: PartitionId::new("obs", 3), next: 4, begin: 9 } },
        LogError::NotAssigned { partition: PartitionId::new("obs", 3) },
    ]
}

fn ledgers() -> Vec<Sample> {
    samples![
        LedgerError::Fenced { ledger: "rain".into() },
        LedgerError::log("rain", LogError::away("committing", "timed out")),
        LedgerError::log("rain", LogError::NoTopic { topic: "progress".into() }),
        LedgerError::progress("rain", "missing field `frontier`"),
        LedgerError::Settings { ledger: "rain".into(), differences: "window_frames was 3, is 4".into() },
        LedgerError::NotOpened { ledger: "rain".into() },
    ]
}

fn stores() -> Vec<Sample> {
    let (name, cause) = (|| "s/i/d.nc".to_owned(), |text| Cause::new(io(text)));
    samples![
        StoreError::Away { name: name(), cause: cause("no route") },
        StoreError::Disk { name: name(), cause: cause("no space left") },
        StoreError::Refused { name: name(), cause: cause("not allowed") },
        StoreError::Missing { name: name() },
        StoreError::TooLarge { name: name(), bytes: 20, limit: 10 },
        StoreError::Outside { name: name(), reason: "it leads out of the folder".into() },
        StoreError::Misused { name: name(), reason: "expected a relative name" },
        PublishError::Store(StoreError::Refused { name: name(), cause: cause("not allowed") }),
        PublishError::Store(StoreError::Disk { name: name(), cause: cause("no space left") }),
        PublishError::Encode(EncodeError::new("NetCDF", ErrorKind::Data, "no such projection")),
        PublishError::Pack(io("too many levels")),
    ]
}

fn files() -> Vec<Sample> {
    let missing = || FileError::io("none.nc", std::io::ErrorKind::NotFound.into());
    samples![
        DecodeError::new("expected NetCDF, got GRIB"),
        DecodeError::TooLarge(Cause::new("20 bytes, at most 10 are allowed")),
        DecodeError::WrongVariables(Cause::new("no rain")),
        DecodeError::Broke { fate: "signal: 9".into(), cause: Cause::new(io("no answer in time")) },
        DecodeError::new(FileError::Forbidden { feature: "an external link".into() }),
        EncodeError::new("NetCDF", ErrorKind::Data, missing()),
        missing(),
        FileError::io("a.nc", io("input/output error")),
        FileError::NotRecognised { expected: "NetCDF", got: "GRIB".into() },
        FileError::Malformed { what: "rain".into(), cause: Cause::new(io("cut short")) },
        FileError::Unwritten { what: "rain".into(), cause: Cause::new(io("file too large")) },
    ]
}

fn models() -> Vec<Sample> {
    let issue_time = IssueTime::from_unix_seconds(0);
    samples![
        ModelError::DoesNotFit { model: "m".into(), stream: "rain".into(), reasons: vec!["needs 4 frames".into()] },
        ModelError::Window { issue_time, reason: "no frame".into() },
        ModelError::file("m.safetensors", io("cut short")),
        ModelError::Unavailable(Cause::new(ModelError::file("m.safetensors", io("cut short")))),
        ModelError::device("cuda:3", "1 CUDA devices are there"),
        ModelError::Answer { model: "m".into(), reason: "gave no answer".into() },
    ]
}

fn all() -> Vec<Sample> {
    [logs(), ledgers(), stores(), files(), models()].into_iter().flatten().collect()
}

#[test]
fn every_error_of_a_port_is_printed_once_with_its_kind() {
    let mut text = String::new();
    for (kind, retriable, error) in all() {
        let error = error.context("what was done");
        let (printed, code) = report(&error);
        assert_eq!(code, super::code(kind), "{printed}");
        let retry = if retriable { ", may pass" } else { "" };
        text += &format!("{kind} {code}{retry}\n{printed}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn no_cause_is_printed_twice_and_none_is_lost() {
    for (_, _, error) in all() {
        let (printed, _) = report(&error.context("cannot read none.nc").context("the demo"));
        let said: Vec<&str> = printed.lines().map(|line| line.trim_start_matches("  because: ")).collect();
        for (index, line) in said.iter().enumerate() {
            let before = said[..index].iter().any(|earlier| earlier.contains(line));
            assert!(!before, "{line:?} was said before:\n{printed}");
        }
        assert!(said.len() >= 3, "{printed}");
    }
}

#[test]
fn an_error_may_pass_only_where_the_broker_or_a_device_can_help() {
    for (kind, retriable, error) in all() {
        assert!(!retriable || matches!(kind, ErrorKind::Broker | ErrorKind::Device), "{error}");
    }
}

#[test]
fn a_failure_of_a_stream_has_the_kind_that_it_was_given() {
    let fenced = LedgerError::Fenced { ledger: "rain".into() };
    let failure = Failure::new(fenced.kind(), "stream rain").because(fenced);
    let (text, code) = report(&failure.into());
    assert_eq!(code, 6);
    insta::assert_snapshot!(text, @r"
    error: stream rain
      because: ledger rain: another instance has taken it over; this one stops
    ");
    let panic = std::panic::catch_unwind(|| panic!("no such row")).unwrap_err();
    assert_eq!(report(&Failure::panicked("worker 1", &*panic).into()).1, 101);
    assert_eq!(report(&anyhow::anyhow!("no kind")).1, FAILED);
}

#[test]
fn each_kind_has_a_code_of_its_own() {
    let mut codes: Vec<u8> = ErrorKind::ALL.into_iter().map(code).collect();
    codes.extend([0, FAILED]);
    codes.sort_unstable();
    let listed: Vec<u8> = CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, listed, "the list is sorted and has every kind");
}

#[test]
fn the_codes_are_those_of_the_documentation() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for (code, meaning) in CODES {
        let row = format!("| {code} | {meaning} |");
        assert!(docs.lines().any(|line| line.starts_with(&row)), "{row} is not in docs/operations.md");
    }
    let rows = docs.lines().skip_while(|line| !line.starts_with("| code |")).skip(2);
    let rows =
        rows.take_while(|line| line.starts_with('|')).filter_map(|line| line.split('|').nth(1)?.trim().parse().ok());
    let documented: Vec<u8> = rows.collect();
    assert_eq!(documented, CODES.map(|(code, _)| code), "in the order of the list, and no others");
}
