//! What a configuration of a training on series means, and what is made of readings.

use std::path::Path;
use std::sync::Arc;

use squall_fields::{Cadence, IssueTime, Quantity, ValidTime};
use squall_models::series::SeriesSpec;

use super::data::thinned;
use super::*;
use crate::config::Layers;

/// The configuration that comes with the program.
fn shipped() -> Layers {
    Layers::from_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/train-gpd-wind.toml")).unwrap()
}

fn faults(layers: &Layers) -> String {
    SeriesRun::load(layers).map_or_else(|faults| faults.to_string(), |_| String::new())
}

#[test]
fn a_configuration_of_series_is_what_it_prints() {
    let run = SeriesRun::load(&shipped()).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!((run.series.quantity, run.series.cadence_seconds), (Quantity::WindSpeed, 3600));
    let printed = run.to_toml();
    let again = SeriesRun::load(&Layers::from_text("printed.toml", &printed));
    assert_eq!(again.unwrap_or_else(|faults| panic!("{faults}\n{printed}")), run);
}

#[test]
fn later_layers_win_and_a_file_may_be_a_part_of_one() {
    let variables = [("SQUALL_SERIES__TRAINING__STEPS".to_owned(), "7".to_owned())];
    let part = r#"data.validation=[{ file = "a.nc", from = "2018-10-13T09:00:00Z", stations = ["EWR", "JFK"] }]"#;
    let run = SeriesRun::load(&shipped().environment(variables).set("series.sampler.repeats=1").set(part)).unwrap();
    assert_eq!((run.training.steps, run.series.sampler.repeats), (7, 1));
    let file = &run.data.validation[0];
    assert!(file.part.from.is_some() && file.part.until.is_none() && file.stations == ["EWR", "JFK"], "{file:?}");
    let again = SeriesRun::load(&Layers::from_text("printed.toml", &run.to_toml()));
    assert_eq!(again.unwrap_or_else(|faults| panic!("{faults}")), run);
}

#[test]
fn every_fault_is_reported_at_once() {
    let layers =
        ["series.widht=3", "series.variable=wind", "series.network.layers=0", "training.epochs=3", "data.train=[]"];
    let said = faults(&layers.into_iter().fold(shipped(), |layers, set| layers.set(set)));
    for part in ["series.widht", "series.variable", "training.epochs", "expected at least one file"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let said = faults(&shipped().set("series.network.layers=0").set("training.ema=1.5"));
    assert!(said.contains("1 to 256 layers") && said.contains("ema lies in 0 to 1"), "{said}");
    let said = faults(&Layers::from_text("empty.toml", ""));
    for part in
        ["output is missing", "expected [series] with name", "expected [data] with train", "training is missing"]
    {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

fn hours(hour: i64) -> ValidTime {
    ValidTime::from_unix_seconds(3600 * hour)
}

fn spec() -> SeriesSpec {
    SeriesRun::load(&shipped().set("series.context=3").set("series.leads=2")).unwrap().series
}

#[test]
fn cases_have_no_gap_and_lie_on_the_issue_times() {
    let hourly = Cadence::every_seconds(3600).unwrap();
    let readings = Readings {
        stretches: vec![
            (Arc::from("a"), hours(1), (1..10).map(|hour| hour as f32).collect()),
            (Arc::from("b"), hours(0), vec![0.0; 4]),
        ],
        names: Vec::new(),
    };
    let cases = readings.cases(&spec(), hourly, Cadence::every_seconds(7200).unwrap());
    let issued: Vec<i64> = cases.iter().map(|case| case.issue_time.unix_seconds() / 3600).collect();
    assert_eq!(issued, [4, 6], "3 known hours up to it, 2 after it, at even hours");
    assert_eq!((&cases[0].past[..], &cases[0].future[..]), (&[2.0, 3.0, 4.0][..], &[5.0, 6.0][..]));
    let at = |hour: i64| readings.at(IssueTime::from_unix_seconds(3600 * hour), &spec(), hourly);
    let newest = at(3);
    let stations: Vec<&str> = newest.iter().map(|case| &*case.station).collect();
    assert_eq!(stations, ["a", "b"]);
    assert_eq!((newest[0].past.clone(), newest[1].past.len()), (vec![1.0, 2.0, 3.0], 3));
    assert!(at(1).is_empty() && at(10).is_empty() && at(-5).is_empty());
    assert_eq!((at(9).len(), readings.longest()), (1, 9), "what comes afterwards need not be known");
}

#[test]
fn of_many_cases_the_same_are_drawn_each_time_in_their_order() {
    let case = |hour| Case { station: "a".into(), issue_time: hours(hour).into(), past: vec![], future: vec![] };
    let all: Vec<Case> = (0..100).map(case).collect();
    let some = thinned(all.clone(), 10);
    assert!(some.len() == 10 && some == thinned(all.clone(), 10) && some.is_sorted_by_key(|case| case.issue_time));
    assert_eq!(thinned(all.clone(), 100), all);
}

#[test]
fn quantiles_are_members() {
    let members = [3.0, 1.0, 2.0, 5.0, 4.0];
    assert_eq!([0.0, 0.5, 1.0].map(|share| judge::quantile(&members, share)), [1.0, 3.0, 5.0]);
}
