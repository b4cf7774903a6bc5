//! Series of stations, published by the binary and read by a plain consumer, and as truth for a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chrono::DateTime;
use serde_json::Value;
use squall_tests::setting::LIMIT;
use squall_tests::{Kafka, Setting, forecasts};

use crate::scores::{region, verified};

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

/// (lead in minutes, score, threshold) -> (value, count) at stations, as `squall verify` says it.
fn at_stations(setting: &Setting, arguments: &[&str]) -> BTreeMap<(u64, String, String), (f64, f64)> {
    let chosen = ["verify", "--scores", "crps,mae,csi,rank", "--thresholds", "0.1,1", "--format", "json"];
    let said = setting.start(&[&chosen[..], arguments].concat()).success(LIMIT);
    let json: Value = serde_json::from_str(said.find("\n{").map_or(&*said, |at| &said[at..])).expect("scores as JSON");
    let rows = json["scores"].as_array().expect("a list").iter().filter(|row| row["region"] == "stations");
    let of = |json: &Value| json.as_str().map_or_else(|| json.to_string(), str::to_owned);
    let number = |json: &Value| json.as_f64().expect("a number");
    let one = |row: &Value| {
        let key = (number(&row["lead_minutes"]) as u64, of(&row["score"]), of(&row["threshold"]));
        Some((key, (row["value"].as_f64()?, number(&row["count"]))))
    };
    rows.filter_map(one).collect()
}

#[test]
fn real_gauges_are_truth_for_the_radar_above_them_while_it_runs_and_afterwards() {
    let Some(folder) = std::env::var_os("SQUALL_DATA").map(PathBuf::from) else {
        eprintln!("SQUALL_DATA is not set: skipped");
        return;
    };
    let file = |name: &str| folder.join(name).display().to_string();
    let (radar, gauges) = (file("radar_openmrg_20150827.nc"), file("gauges_openmrg_20150827.nc"));
    let mut setting = verified("stations-truth");
    let topic = setting.topic("stations");
    setting.more += &format!("[streams.inputs.stations]\ntopic = \"{topic}\"\n");
    let config = setting.config();
    setting.start(&["publish", &radar, "--config", &config, "--delay", "1 s"]).success(LIMIT);
    let stations = ["publish", &gauges, "--config", &config, "--stations", &topic, "--delay", "90 s"];
    setting.start(&stations).success(LIMIT);
    setting.run();
    let published = forecasts::published(&setting);
    assert_eq!(published.len(), 143, "one for every full window of 145 frames");

    // What the stream scored at the gauges is what its files score there, and its topics, to the last bit.
    let live = region(&setting, "stations");
    let of = |contestant: &str| -> BTreeMap<(u64, String, String), (f64, f64)> {
        let own = live.iter().filter(|((name, ..), _)| name == contestant);
        own.map(|((_, lead, score, threshold), said)| ((*lead, score.clone(), threshold.clone()), *said)).collect()
    };
    assert!(of("published").len() >= 3 * 15, "{live:?}");
    let files: Vec<String> = published.iter().map(|forecast| forecast.file().display().to_string()).collect();
    let mut of_files = vec!["--observation", &radar, "--stations", &gauges, "--forecast"];
    of_files.extend(files.iter().map(String::as_str));
    assert_eq!(at_stations(&setting, &of_files), of("published"));
    assert_eq!(at_stations(&setting, &["--config", &config, "--stream", "rain"]), of("published"));

    // Of persistence by NumPy and PROJ: the frame's cell at each gauge against what that gathered in the minute up to
    // the valid time. The ten gauges report on after the last frame, so that all leads of all forecasts have a truth.
    let expected = [(5, 2.193_944, -0.215_315), (10, 2.308_629, -0.215_315), (15, 2.420_084, -0.219_510)];
    let persistence = of("persistence");
    for (lead, mae, bias) in expected {
        for (score, right) in [("mae", mae), ("bias", bias)] {
            let (value, count) = persistence[&(lead, score.to_owned(), "null".to_owned())];
            assert_eq!(count, 10.0 * 143.0, "{score} at {lead} minutes");
            // Forecasts are rounded to 0.01 mm/h.
            assert!((value - right).abs() < 0.005, "{score} at {lead} minutes: {value}, expected {right}");
        }
    }
}
