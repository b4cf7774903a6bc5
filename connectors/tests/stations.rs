//! Real reports, with the faults that they have, all the way from the file through a record to flagged readings.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use squall_connectors::netcdf::StationSeries;
use squall_connectors::options::Limits;
use squall_connectors::station::{StationDecoder, reports_json};
use squall_fields::{Check, InputRef, KnowledgeTime, Quantity, StationReport, Verdict};
use squall_operators::ports::ReportDecoder;
use squall_operators::stations::{Control, ControlConfig, JudgedReading, ReadingKey};

/// The reports of a file at some of its times, each time one record (or a few, so that none is too large).
fn reports(name: &str, times: Range<usize>) -> Option<Vec<Vec<StationReport>>> {
    let path = PathBuf::from(std::env::var_os("SQUALL_DATA")?).join(name);
    let series = StationSeries::open(&path, &Limits::default()).unwrap();
    let decoder = StationDecoder::default();
    let at = |index: usize| {
        let written = series.reports(index).unwrap();
        let mut read = Vec::new();
        for part in written.chunks(500) {
            let input = InputRef { topic: "obs".into(), partition: 0, offset: index as i64, digest: "".into() };
            let decoded = decoder.decode(&reports_json(part).into(), &input).unwrap();
            assert!(decoded.refused.is_empty() && decoded.ignored == 0, "{:?}", decoded.refused);
            read.extend(decoded.reports);
        }
        // What is written is read back, but for where it came from.
        let same = |(a, b): (&StationReport, &StationReport)| {
            (&a.station, a.valid, &a.readings) == (&b.station, b.valid, &b.readings)
        };
        assert!(read.len() == written.len() && read.iter().zip(&written).all(same));
        read
    };
    assert!(times.end <= series.times().len(), "{name} has {} times", series.times().len());
    Some(times.map(at).collect())
}

/// The latest of each reading, when all reports of a time become known a minute after it.
fn judge(reports: &[Vec<StationReport>]) -> BTreeMap<ReadingKey, JudgedReading> {
    let mut control = Control::new(ControlConfig::default());
    let mut latest = BTreeMap::new();
    for at_once in reports.iter().filter(|reports| !reports.is_empty()) {
        let known_at = KnowledgeTime::from_unix_ms(1000 * (at_once[0].valid.unix_seconds() + 60));
        let judgement = control.push(known_at, at_once.clone());
        assert!(judgement.refused.is_empty());
        latest.extend(judgement.readings);
    }
    latest
}

/// How many readings of a quantity have each verdict of a check.
fn counts(latest: &BTreeMap<ReadingKey, JudgedReading>, quantity: Quantity, check: Check) -> BTreeMap<Verdict, usize> {
    let mut counts = BTreeMap::new();
    for (_, judged) in latest.iter().filter(|(key, _)| key.quantity == quantity) {
        *counts.entry(judged.reading.flags.get(check)).or_default() += 1;
    }
    counts
}

#[test]
fn synop_of_two_days_is_mostly_good_and_what_stands_out_is_flagged() {
    let Some(reports) = reports("stations_synop_20190217_20190220.nc", 0..48) else {
        eprintln!("SQUALL_DATA is not set: skipped");
        return;
    };
    let started = Instant::now();
    let latest = judge(&reports);
    let seconds = started.elapsed().as_secs_f64();
    let given: usize = reports.iter().flatten().map(|report| report.readings.len()).sum();
    eprintln!("{given} readings in {seconds:.1} s");
    for quantity in Quantity::ALL {
        for check in [Check::Range, Check::Step, Check::Persistence, Check::Buddy] {
            eprintln!("{} {}: {:?}", quantity.name(), check.name(), counts(&latest, *quantity, check));
        }
    }
    let derived = |key: &&ReadingKey| matches!(key.quantity, Quantity::EastwardWind | Quantity::NorthwardWind);
    assert_eq!(latest.keys().filter(|key| !derived(key)).count(), given, "no reading is lost");
    for quantity in [Quantity::WindSpeed, Quantity::RainRate] {
        let overall = |judged: &JudgedReading| judged.reading.flags.overall();
        let of: Vec<Verdict> =
            latest.iter().filter(|(key, _)| key.quantity == quantity).map(|(_, j)| overall(j)).collect();
        let share = |worst: Verdict| of.iter().filter(|v| **v >= worst).count() as f64 / of.len() as f64;
        assert!((1e-4..0.03).contains(&share(Verdict::Suspect)), "{} {}", quantity.name(), share(Verdict::Suspect));
        assert!(share(Verdict::Fail) < 0.005, "{} {}", quantity.name(), share(Verdict::Fail));
    }
}

/// Three days of June 2016, in which one of 134 gauges in private gardens runs full again and again, is stuck, and says
/// twice as much after a gap. How many readings have which verdict was counted by another program, from the numbers of
/// the file.
#[test]
fn private_gauges_have_one_that_is_stuck_and_full_and_it_alone_is_flagged() {
    let Some(reports) = reports("gauges_amsterdam_pws_2016_2018.nc", 14_400..15_264) else {
        eprintln!("SQUALL_DATA is not set: skipped");
        return;
    };
    let latest = judge(&reports);
    let of = |check: Check| counts(&latest, Quantity::RainRate, check);
    let (good, suspect, fail, not) = (Verdict::Good, Verdict::Suspect, Verdict::Fail, Verdict::NotEvaluated);
    assert_eq!(latest.len(), 65_707, "each reading once");
    assert_eq!(of(Check::Range), BTreeMap::from([(good, 65_107), (suspect, 593), (fail, 7)]));
    // What is impossible is no evidence of anything else.
    assert_eq!(of(Check::Persistence), BTreeMap::from([(good, 65_488), (suspect, 212), (not, 7)]));
    // The file does not say where the gauges are: nobody has neighbours, and a gauge that always says 0 stays good.
    assert_eq!(of(Check::Buddy), BTreeMap::from([(not, 65_707)]));
    let flagged = latest.iter().filter(|(_, judged)| judged.reading.flags.overall() >= suspect);
    let stations: BTreeSet<&str> = flagged.map(|(key, _)| &*key.station).collect();
    assert_eq!(stations, BTreeSet::from(["ams105"]));
}
