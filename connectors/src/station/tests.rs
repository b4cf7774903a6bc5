//! What is read, and what is refused with which reason.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use squall_fields::{
    Check, InputRef, Place, Quantity, Reading, Station, StationReport, ValidTime, Verdict, error::Chain,
};
use squall_operators::dead_letter::Reason;
use squall_operators::ports::{DecodeError, ReportDecoder, Reports};

use super::{StationDecoder, StationLimits, reports_json};

fn input() -> InputRef {
    InputRef { topic: "obs".into(), partition: 3, offset: 41, digest: "d".into() }
}

fn decode(value: &Value) -> Result<Reports, DecodeError> {
    StationDecoder::default().decode(&serde_json::to_vec(value).unwrap().into(), &input())
}

fn report(readings: Value) -> Value {
    json!({"station": {"id": "a", "latitude": 60.0, "longitude": 25.0}, "time": "2019-02-17T06:00:00Z",
        "readings": readings})
}

fn speed() -> Value {
    json!({"standard_name": "wind_speed", "value": 5.5, "units": "m s-1"})
}

/// The reason and the text with which a report is refused, beside one that is used.
fn refusal(bad: Value) -> (Reason, String) {
    let read = decode(&json!([report(json!([speed()])), bad, report(json!([speed()]))])).unwrap();
    assert_eq!(read.reports.len(), 2, "the others are used");
    let (index, error) = &read.refused[0];
    assert_eq!((*index, read.refused.len()), (1, 1));
    (Reason::from(error), Chain(error).to_string())
}

fn reading_refusal(reading: Value) -> (Reason, String) {
    refusal(report(json!([speed(), reading])))
}

/// The reason and the text with which a whole record is refused.
fn record_refusal(bytes: &[u8]) -> (Reason, String) {
    let error = StationDecoder::default().decode(&bytes.to_vec().into(), &input()).unwrap_err();
    (Reason::from(&error), Chain(&error).to_string())
}

#[test]
fn everything_that_a_report_says_is_read() {
    let read = decode(&json!({
        "station": {"id": "0-20000-0-02724", "name": "Torp", "latitude": 57.72, "longitude": 12.04, "elevation_m": 20.5},
        "time": "2015-08-27T14:05:00+02:00",
        "comment": "passed over",
        "readings": [
            {"standard_name": "precipitation_amount", "value": 0.2, "units": "kg m-2", "period_seconds": 600},
            {"standard_name": "lwe_precipitation_rate", "value": 1e-6, "units": "m s-1", "quality": "suspect"},
            {"standard_name": "wind_speed", "value": 10, "units": "knot"},
            {"standard_name": "wind_from_direction", "value": null, "units": "degree"},
            {"standard_name": "air_pressure", "value": {"any": "shape"}},
        ],
    }))
    .unwrap();
    assert_eq!((read.refused.len(), read.ignored), (0, 1));
    let report = &read.reports[0];
    assert_eq!(report.station.place, Some(Place::new(57.72, 12.04, Some(20.5)).unwrap()));
    assert_eq!((&*report.station.id, report.station.name.as_deref()), ("0-20000-0-02724", Some("Torp")));
    assert_eq!((report.valid.to_rfc3339().as_str(), &report.input), ("2015-08-27T12:05:00Z", &input()));
    let value = |quantity, period| report.value(quantity, period).unwrap();
    assert!((value(Quantity::RainRate, Some(600)) - 1.2).abs() < 1e-6);
    assert!((value(Quantity::RainRate, None) - 3.6).abs() < 1e-6);
    assert!((value(Quantity::WindSpeed, None) - 5.144_444).abs() < 1e-5);
    let flags = |quantity| report.reading(quantity, None).unwrap().flags;
    assert_eq!(flags(Quantity::RainRate).get(Check::Producer), Verdict::Suspect);
    assert_eq!(flags(Quantity::WindFromDirection).overall(), Verdict::Missing);
}

#[test]
fn a_station_may_have_no_place_and_a_report_nothing_that_is_known() {
    let read = decode(&json!([
        {"station": {"id": "a"}, "time": "2019-02-17T06:00:00Z", "readings": [speed()]},
        report(json!([{"standard_name": "air_temperature", "value": 280, "units": "K"}])),
        report(json!([])),
    ]))
    .unwrap();
    assert_eq!((read.reports.len(), read.refused.len(), read.ignored), (1, 0, 1));
    assert_eq!(read.reports[0].station.place, None);
    let none = decode(&json!([])).unwrap();
    assert_eq!((none.reports.len(), none.refused.len()), (0, 0));
}

#[test]
fn a_wrong_reading_costs_its_report() {
    let rain = |units: &str, period: Value| json!({"standard_name": "rainfall_amount", "value": 1, "units": units, "period_seconds": period});
    let speed = |key: &str, value: Value| {
        let mut speed = json!({"standard_name": "eastward_wind", "value": 5.5, "units": "m s-1"});
        speed[key] = value;
        speed
    };
    for (reading, reason, said) in [
        (rain("kg m-2", json!(null)), Reason::WrongVariables, "interval"),
        (rain("dBZ", json!(60)), Reason::WrongVariables, "a rate or an amount"),
        (rain("furlong", json!(60)), Reason::WrongVariables, "furlong"),
        (rain("kg m-2", json!(0)), Reason::Undecodable, "from 1 to 2678400, got 0"),
        (rain("kg m-2", json!(2_678_401)), Reason::Undecodable, "2678401"),
        (rain("kg m-2", json!(-5)), Reason::Undecodable, "-5"),
        (rain("kg m-2", json!(1.5)), Reason::Undecodable, "1.5"),
        (speed("units", json!("degree")), Reason::WrongVariables, "degree"),
        (speed("units", json!(7)), Reason::Undecodable, "string"),
        (speed("value", json!("5.5")), Reason::Undecodable, "5.5"),
        (speed("value", json!(1e300)), Reason::Undecodable, "is no value"),
        (speed("quality", json!("bad")), Reason::Undecodable, "expected the quality not_evaluated, good,"),
        (json!({"standard_name": "wind_speed", "units": "m s-1"}), Reason::Undecodable, "value"),
        (json!({"standard_name": "wind_speed", "value": 1.0}), Reason::Undecodable, "units"),
        (json!({"name": "wind_speed", "value": 1.0}), Reason::Undecodable, "expected a standard_name"),
        (json!(7), Reason::Undecodable, "expected a standard_name"),
        (self::speed(), Reason::Undecodable, "there is a wind_speed already"),
    ] {
        let (found, text) = reading_refusal(reading.clone());
        assert_eq!(found, reason, "{reading}: {text}");
        assert!(text.contains(said) && text.contains("reading 1 of a at 2019-02-17T06:00:00Z"), "{reading}: {text}");
    }
}

#[test]
fn a_wrong_report_is_refused_by_itself() {
    let with = |path: &str, value: Value| {
        let mut report = report(json!([self::speed()]));
        *report.pointer_mut(path).unwrap() = value;
        report
    };
    let mut half = report(json!([speed()]));
    half["station"].as_object_mut().unwrap().remove("longitude");
    for (bad, said) in [
        (half, "latitude and longitude, or neither"),
        (with("/station/latitude", json!(91)), "expected a latitude from -90 to 90, got 91"),
        (with("/station/longitude", json!(-180.5)), "a longitude"),
        (with("/station/id", json!(" ")), "expected a printable text"),
        (with("/station/id", json!("a\nb")), "expected a printable text"),
        (with("/station/id", json!("x".repeat(257))), "it has 257 bytes, at most 256"),
        (with("/station", json!("a")), "StationDocument"),
        (with("/time", json!("yesterday")), "expected a time such as 2016-09-28T16:00:00Z, got `yesterday`"),
        (with("/time", json!("2019-02-17T06:00:00")), "expected a time"),
        (with("/time", json!(1_550_361_600)), "1550361600"),
        (with("/readings", json!({})), "sequence"),
        (json!("x".repeat(100_000)), "xxx"),
        (json!(null), "null"),
    ] {
        let (reason, text) = refusal(bad);
        assert_eq!(reason, Reason::Undecodable, "{text}");
        assert!(text.contains(said) && text.len() < 400, "{said}: {text}");
    }
    let (reason, text) = refusal(report(json!(vec![json!({"standard_name": "air_pressure"}); 65])));
    assert_eq!((reason, text.as_str()), (Reason::Oversized, "number of readings is 65, at most 64 is allowed"));
}

#[test]
fn what_is_no_list_of_reports_is_refused_whole() {
    for (bytes, said) in [
        (&b"7"[..], "expected a report or a list of reports"),
        (b"\"text\"", "expected a report or a list of reports"),
        (b"", "EOF"),
        (b"\xff\xfe", "expected value"),
        (b"[", "EOF"),
        (b"[{}] []", "trailing characters"),
        (b"{\"station\": {\"id\": \"a\"", "EOF"),
        (b"[1e999]", "out of range"),
    ] {
        let (reason, text) = record_refusal(bytes);
        assert!(reason == Reason::Undecodable && text.contains(said), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(record_refusal(deep.as_bytes()).1.contains("recursion limit"));
}

#[test]
fn what_is_larger_than_allowed_is_refused_whole() {
    let many = format!("[{}0]", "0,".repeat(4096));
    let (reason, text) = record_refusal(many.as_bytes());
    assert_eq!(reason, Reason::Oversized);
    assert!(text.contains("4097, at most 4096"), "{text}");
    let (reason, text) = record_refusal(&vec![b' '; (1 << 20) + 1]);
    assert!(reason == Reason::Oversized && text.contains("1048577"), "{text}");
    // As many as are allowed are read, or refused one by one.
    let most = StationDecoder::new(StationLimits { max_reports: 3, ..StationLimits::default() });
    assert_eq!(most.decode(&b"[0,0,0]".to_vec().into(), &input()).unwrap().refused.len(), 3);
    assert!(most.decode(&b"[0,0,0,0]".to_vec().into(), &input()).is_err());
}

fn readings() -> impl Strategy<Value = Vec<Reading>> {
    let value = prop_oneof![any::<f32>(), Just(f32::NAN), (0..100i32).prop_map(|v| v as f32 / 10.0)];
    let reading = (prop::sample::select(Quantity::ALL), prop::option::of(1..100_000u32), value, any::<bool>());
    let reading = reading.prop_map(|(quantity, period, value, good)| {
        let reading = Reading::new(quantity, period, value);
        let verdict = if good { Verdict::Good } else { Verdict::NotEvaluated };
        Reading { flags: reading.flags.with(Check::Producer, verdict), ..reading }
    });
    prop::collection::vec(reading, 1..5).prop_map(|mut readings| {
        readings.sort();
        readings.dedup_by_key(|reading| (reading.quantity, reading.period_seconds));
        readings
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        all in prop::collection::vec((readings(), "[a-z0-9]{1,8}", -90.0..90.0f64, -180.0..360.0f64, any::<i32>()), 1..4)
    ) {
        let reports: Vec<_> = all.into_iter().map(|(readings, id, latitude, longitude, seconds)| {
            let place = Place::new(latitude, longitude, (seconds % 2 == 0).then_some(12.34)).ok();
            let name = (seconds % 3 == 0).then(|| Arc::from("\u{e5} \"name\""));
            let station = Arc::new(Station { id: id.into(), name, place });
            let valid = ValidTime::from_unix_seconds(i64::from(seconds));
            StationReport { station, valid, readings, input: input() }
        }).collect();
        let bytes = reports_json(&reports);
        let read = StationDecoder::default().decode(&bytes.into(), &input()).unwrap();
        prop_assert!(read.refused.is_empty(), "{:?}", read.refused);
        prop_assert_eq!(read.reports, reports);
    }
}
