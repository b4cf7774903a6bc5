use std::collections::BTreeSet;
use std::time::Duration;

use squall_connectors::memory::MemoryLog;
use squall_connectors::station::StationDecoder;
use squall_fields::{InputRef, Place, Quantity, Reading, Station};
use squall_operators::ports::{Connect, Retention, Timestamps, TopicSpec};
use squall_operators::stations::ReportReader;

use super::*;

fn reports(count: usize, name: &str) -> Vec<StationReport> {
    let input = InputRef { topic: "a.nc".into(), partition: 0, offset: 0, digest: "".into() };
    let report = |number: usize| StationReport {
        station: Arc::new(Station {
            id: format!("station {number}").into(),
            name: Some(name.into()),
            place: Place::new(60.0, number as f64 / 100.0, None).ok(),
        }),
        valid: ValidTime::from_unix_seconds(1_550_361_600),
        readings: vec![
            Reading::new(Quantity::RainRate, Some(420), number as f32 * 0.1),
            Reading::new(Quantity::WindSpeed, None, 5.1),
        ],
        input: input.clone(),
    };
    (0..count).map(report).collect()
}

fn topic() -> Arc<str> {
    "obs.stations.v1".into()
}

#[test]
fn what_is_published_is_read_back_from_the_log() {
    let log = MemoryLog::new();
    let spec = TopicSpec {
        name: topic().to_string(),
        partitions: 3,
        timestamps: Timestamps::Create,
        retention: Retention::Forever,
        max_record_bytes: 1 << 20,
        unpacked: true,
    };
    log.create(&[spec]).unwrap();
    let sent = reports(40, "name");
    let mut writer = log.writer().unwrap();
    for record in station_records("t", &topic(), &sent, 1_550_361_660_000, Some(1)) {
        writer.send(record).unwrap();
    }
    writer.flush(Duration::from_secs(10)).unwrap();
    let mut reader = log.reader(1 << 20).unwrap();
    let partition = reader.partitions(&topic()).unwrap().remove(1);
    reader.assign(&[(partition.clone(), 0)]).unwrap();
    assert_eq!(reader.end_offset(&partition).unwrap(), 1);
    let record = reader.poll(Duration::from_secs(10)).unwrap().unwrap();
    assert_eq!(record.header("ce_type"), Some("squall.station-reports.v1"));
    assert_eq!(record.header("ce_time"), Some("2019-02-17T00:00:00Z"));
    assert_eq!(record.header("ce_source"), Some("/squall/t/obs.stations.v1"));
    assert_eq!(record.timestamp_ms, 1_550_361_660_000);
    let read = ReportReader::new(vec![Arc::new(StationDecoder::default())], 1 << 20).read(&record);
    assert_eq!((read.fault, read.ignored, read.reports.len()), (None, 0, 40));
    for (read, sent) in read.reports.iter().zip(&sent) {
        assert_eq!((&read.station, read.valid, &read.readings), (&sent.station, sent.valid, &sent.readings));
        assert_eq!((&*read.input.topic, read.input.partition), ("obs.stations.v1", 1));
    }
}

#[test]
fn no_record_is_larger_than_a_reader_takes_and_no_report_is_lost() {
    let limits = StationLimits::default();
    for (count, name) in [(0, "n"), (1, "n"), (5000, "n"), (4096, "n"), (3000, &*"x".repeat(256))] {
        let sent = reports(count, name);
        let records = station_records("t", &topic(), &sent, 0, None);
        let read = |record: &Outgoing| {
            let value = record.value.clone().unwrap();
            assert!(value.len() <= MAX_BYTES && MAX_BYTES < limits.max_bytes);
            let input = sent[0].input.clone();
            squall_operators::ports::ReportDecoder::decode(&StationDecoder::default(), &value, &input).unwrap().reports
        };
        let all: Vec<StationReport> = records.iter().flat_map(read).collect();
        assert_eq!(all, sent, "{count}");
        let ids: BTreeSet<_> =
            records.iter().flat_map(|r| r.headers.iter().find(|(name, _)| name == "ce_id")).collect();
        assert_eq!(ids.len(), records.len(), "each has an id of its own");
        assert_eq!(records.is_empty(), count == 0);
    }
}

#[test]
fn files_are_one_series_and_the_oldest_comes_first() {
    let Some(folder) = std::env::var_os("SQUALL_DATA").map(PathBuf::from) else {
        eprintln!("SQUALL_DATA is not set: skipped");
        return;
    };
    let paths = ["stations_synop_20190217_20190220.nc", "gauges_openmrg_20150827.nc"].map(|name| folder.join(name));
    let archive = StationArchive::open(&paths, &Limits::default()).unwrap();
    let times: Vec<ValidTime> = archive.times().collect();
    assert_eq!(times.len(), 96 + 1440);
    assert!(times.is_sorted() && times[0].to_rfc3339() == "2015-08-27T00:00:00Z");
    let first = archive.reports(0).unwrap();
    assert_eq!((first.len(), first[0].valid, &*first[0].station.id), (10, times[0], "Jarn"));
    assert!(archive.reports(1440).unwrap().len() > 1000);
    assert!(archive.reports(1536).is_err());
    let notes: Vec<String> = archive.notes().map(|(file, note)| format!("{file}: {note}")).collect();
    let said = |text: &str| notes.iter().any(|note| note.contains(text));
    assert!(said("synop") && said("interval: rain_1min gathers 1 min, by its name"), "{notes:?}");
    assert!(said("skipped: wind_gust: wind_speed_of_gust is no rain and no wind"), "{notes:?}");
}
