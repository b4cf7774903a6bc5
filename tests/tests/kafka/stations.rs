//! Series of stations, published by the binary and read by a plain consumer.

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::DateTime;
use serde_json::Value;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Setting};

#[test]
fn reports_of_each_time_are_a_record_that_is_known_when_it_arrived() {
    let Some(folder) = std::env::var_os("SQUALL_DATA").map(PathBuf::from) else {
        eprintln!("SQUALL_DATA is not set: skipped");
        return;
    };
    let file = folder.join("gauges_openmrg_20150827.nc").display().to_string();
    let setting = Setting::new("stations");
    let (config, topic) = (setting.config(), setting.topic("stations"));
    let mut arguments = vec!["publish", &file, "--config", &config, "--stations", &topic, "--delay", "90 s"];
    arguments.extend(["--partitions", "3", "--partitions-by", "slot", "--end"]);
    let said = setting.start(&arguments).success(LIMIT);
    assert!(said.contains(&format!("1440 records to {topic}")), "{said}");

    let seen = Kafka::shared().read(&topic);
    let (ends, records): (Vec<_>, Vec<_>) = seen.iter().partition(|record| record.value.is_empty());
    assert_eq!((ends.len(), records.len()), (3, 1440));
    let mut times = BTreeSet::new();
    for partition in 0..3 {
        let in_it: Vec<_> = records.iter().filter(|record| record.partition == partition).collect();
        assert!(in_it.len() == 480 && in_it.is_sorted_by_key(|record| record.timestamp_ms));
    }
    for record in records {
        assert_eq!(record.header("content-type"), "application/json");
        assert_eq!(record.header("ce_type"), "squall.station-reports.v1");
        let reports: Vec<Value> = serde_json::from_slice(&record.value).expect("a list");
        let time = record.header("ce_time");
        let valid = DateTime::parse_from_rfc3339(&time).expect("a time").timestamp_millis();
        assert_eq!(record.timestamp_ms, valid + 90_000);
        assert!(reports.len() == 10 && reports.iter().all(|report| report["time"] == time.as_str()));
        assert!(reports.iter().all(|report| report["readings"][0]["period_seconds"] == 60));
        times.insert(time);
    }
    assert_eq!(times.len(), 1440);
}
