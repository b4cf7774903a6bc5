//! What is removed, what is not, and in which order.

use bytes::Bytes;
use squall_connectors::memory::MemoryLog;
use squall_operators::ports::{Connect, Outgoing, PartitionId, Retention, Timestamps, TopicSpec};

use super::*;

const NOW: u64 = 1_500_000_000;
const HOUR: u64 = 3600;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn file(name: &str, age_hours: u64) -> Stored {
    let written = now() - Duration::from_secs(age_hours * HOUR);
    Stored { name: name.into(), bytes: 10, written, temporary: name.ends_with(".part") }
}

fn rules(keep: Option<Duration>) -> Rules {
    let streams = [("rain".to_owned(), Duration::from_secs(HOUR / 2))].into();
    Rules { streams, older_than: Duration::from_secs(HOUR), keep }
}

fn pointer(key: &'static str, file: &str) -> Pointer {
    Pointer { partition: PartitionId::new("index", 0), key: Bytes::from_static(key.as_bytes()), file: file.into() }
}

fn index(pointers: Vec<Pointer>, known_seconds: u64) -> Index {
    Index { pointers, newest_known_ms: [("rain".to_owned(), known_seconds as i64 * 1000)].into() }
}

fn fates(plan: &Plan) -> Vec<(&str, Fate)> {
    plan.files.iter().map(|(file, fate)| (file.name.as_str(), *fate)).collect()
}

#[test]
fn names_of_files_are_read() {
    let (stream, time) = parse("rain/20160928T160000Z/r0-ab.nc").unwrap();
    assert_eq!((stream, time.to_rfc3339().as_str()), ("rain", "2016-09-28T16:00:00Z"));
    for other in
        ["rain/x/r0-ab.nc", "rain/20160928T160000Z", "a/rain/20160928T160000Z/r0.nc", "rain/20160928X160000Z/a"]
    {
        assert_eq!(parse(other), None, "{other}");
    }
}

#[test]
fn only_what_nobody_can_point_at_any_more_is_removed() {
    // 1,500,000,000 is 2017-07-14T02:40:00Z.
    let (old, new) = ("rain/20170713T120000Z", "rain/20170714T023500Z");
    let at = |folder: &str, name: &str| format!("{folder}/{name}");
    let files = vec![
        file(&at(old, "r0-in-use.nc"), 14),
        file(&at(old, "r1-lost.nc"), 14),
        file(&at(old, "r2-just-written.nc"), 0),
        file(&at(new, "r0-waits-for-the-broker.nc"), 14),
        file(&at(old, ".r0.x.part"), 2),
        file(&at(new, ".r0.y.part"), 0),
        file("wind/20170713T120000Z/r0.nc", 100),
        file("read-me.txt", 100),
    ];
    let index = index(vec![pointer("a", &at(old, "r0-in-use.nc"))], NOW);
    let plan = plan(files, &index, &rules(None), now());
    let expected = [
        Fate::Kept,
        Fate::Orphan,
        Fate::Young,
        Fate::Young,
        Fate::Temporary,
        Fate::Young,
        Fate::Foreign,
        Fate::Foreign,
    ];
    assert_eq!(fates(&plan).into_iter().map(|(_, fate)| fate).collect::<Vec<_>>(), expected);
    assert_eq!(plan.count(Fate::Orphan), (1, 10));
    assert!(plan.tombstones.is_empty());
}

#[test]
fn a_stream_that_has_committed_nothing_has_no_orphans() {
    let files = || vec![file("rain/20170713T120000Z/r0.nc", 100)];
    assert_eq!(fates(&plan(files(), &Index::default(), &rules(None), now()))[0].1, Fate::Young);
    // Nor one that is held up: it may still commit what it has stored.
    let held_up = index(vec![], NOW - 15 * HOUR);
    assert_eq!(fates(&plan(files(), &held_up, &rules(None), now()))[0].1, Fate::Young);
}

#[test]
fn old_forecasts_go_with_all_their_revisions_and_their_records_go_first() {
    let (old, new) = ("rain/20170713T120000Z", "rain/20170714T020000Z");
    let files: Vec<_> = ["r0.nc", "r1.nc"].iter().map(|name| file(&format!("{old}/{name}"), 14)).collect();
    let files = [files, vec![file(&format!("{new}/r0.nc"), 1)]].concat();
    let pointers = vec![
        pointer("old", &format!("{old}/r0.nc")),
        pointer("old", &format!("{old}/r1.nc")),
        pointer("new", &format!("{new}/r0.nc")),
        pointer("elsewhere", "rain/20170701T120000Z/r0.nc"),
    ];
    let plan = plan(files, &index(pointers, NOW), &rules(Some(Duration::from_secs(2 * HOUR))), now());
    assert_eq!(plan.count(Fate::Expired).0, 2);
    assert_eq!(plan.count(Fate::Kept).0, 1);
    let keys: Vec<_> = plan.tombstones.iter().map(|pointer| pointer.key.clone()).collect();
    assert_eq!(keys, ["old"], "one tombstone for each key, and none for files that are not in this store");
}

#[test]
fn the_index_is_read_with_its_tombstones() {
    let log = MemoryLog::new();
    let (partitions, retention) = (1, Retention::Compact);
    let timestamps = Timestamps::Create;
    let (name, max_record_bytes, unpacked) = ("index".into(), 1 << 20, false);
    log.create(&[TopicSpec { name, partitions, timestamps, retention, max_record_bytes, unpacked }]).unwrap();
    let append = |key: &'static str, value: Option<String>| {
        let (key, value) = (Some(Bytes::from(key)), value.map(Bytes::from));
        log.append(Outgoing {
            topic: "index".into(),
            partition: None,
            key,
            headers: vec![],
            value,
            timestamp_ms: None,
        })
        .unwrap();
    };
    let value = |file: &str, known: &str| {
        Some(format!(
            r#"{{"properties":{{"squall":{{"stream":"rain","known_at":"{known}"}}}},"links":[{{"href":"file:///s/{file}"}}]}}"#
        ))
    };
    append("a", value("rain/t/r0.nc", "2017-07-14T02:00:00.000Z"));
    append("a", value("rain/t/r1.nc", "2017-07-14T02:10:00.000Z"));
    append("b", value("rain/u/r0.nc", "2017-07-14T02:05:00.000Z"));
    append("b", None);
    let index = read(&log, &["index"]).unwrap();
    let files: Vec<_> = index.pointers.iter().map(|pointer| pointer.file.as_str()).collect();
    assert_eq!(files, ["rain/t/r0.nc", "rain/t/r1.nc"], "both revisions are in use, what was taken back is not");
    assert_eq!(index.newest_known_ms["rain"], 1_499_998_200_000);
    append("c", Some("It will rain.".into()));
    let error = read(&log, &["index"]).unwrap_err();
    assert!(error.to_string().contains("index[0]/4"), "{error}");
}
