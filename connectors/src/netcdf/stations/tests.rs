use ::netcdf::{AttributeValue, FileMut};
use squall_fields::Quantity;

use super::super::real_data::real_file;
use super::*;
use crate::netcdf::create::to_path;

/// Name, dimensions, values, attributes.
type Made<'a> = (&'a str, &'a [&'a str], &'a [f64], &'a [(&'a str, &'a str)]);

/// A file with a variable for each of these: name, dimensions, values, attributes.
fn file(lengths: &[(&str, usize)], variables: &[Made<'_>], ids: &str) -> tempfile::TempPath {
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    to_path(&path, |draft| {
        let file: &mut FileMut = &mut draft.file;
        for (name, length) in lengths {
            file.add_dimension(name, *length).unwrap();
        }
        for (name, dimensions, values, attributes) in variables {
            let mut variable = file.add_variable::<f64>(name, dimensions).unwrap();
            for (key, value) in *attributes {
                variable.put_attribute(key, AttributeValue::Str((*value).to_owned())).unwrap();
            }
            variable.put_values(values, ..).unwrap();
        }
        if !ids.is_empty() {
            let mut variable = file.add_string_variable("station_id", &["station"]).unwrap();
            variable.put_attribute("cf_role", "timeseries_id").unwrap();
            for (at, id) in ids.split(' ').enumerate() {
                variable.put_string(id, at).unwrap();
            }
        }
        Ok(())
    })
    .unwrap();
    path
}

const LENGTHS: &[(&str, usize)] = &[("station", 2), ("time", 3), ("bnds", 2)];
const TIME: Made<'_> =
    ("time", &["time"], &[0.0, 10.0, 20.0], &[("units", "minutes since 2019-02-17"), ("standard_name", "time")]);
const LAT: Made<'_> = ("lat", &["station"], &[60.0, f64::NAN], &[]);
const LON: Made<'_> = ("lon", &["station"], &[25.0, 26.0], &[]);
const NAN: f64 = f64::NAN;
const SIX: &[f64] = &[1.0, 2.0, NAN, 4.0, NAN, NAN];

fn open(path: &Path) -> Result<StationSeries, FileError> {
    StationSeries::open(path, &Limits::default())
}

fn noted(series: &StationSeries) -> String {
    series.notes().iter().map(|note| format!("{note}\n")).collect()
}

/// Station, quantity, period and value of every reading at a time.
fn readings(series: &StationSeries, index: usize) -> Vec<(String, Quantity, Option<u32>, f32)> {
    let reports = series.reports(index).unwrap();
    let of = |report: &StationReport| -> Vec<_> {
        let id = report.station.id.to_string();
        report.readings.iter().map(|r| (id.clone(), r.quantity, r.period_seconds, r.value)).collect()
    };
    reports.iter().flat_map(of).collect()
}

#[test]
fn what_a_file_does_not_say_is_assumed_and_said() {
    let rain: &[(&str, &str)] = &[("units", "mm"), ("standard_name", "rainfall_amount")];
    let speed: &[(&str, &str)] = &[("units", "knot")];
    let path = file(
        LENGTHS,
        &[
            TIME,
            LAT,
            LON,
            ("rain", &["station", "time"], SIX, rain),
            ("rain_1h", &["station", "time"], SIX, rain),
            ("rain_60min", &["station", "time"], SIX, rain),
            ("wind_speed", &["time", "station"], SIX, speed),
            ("gust", &["time", "station"], SIX, &[("standard_name", "wind_speed_of_gust"), ("units", "m s-1")]),
            ("wind_dir", &["time", "station"], SIX, &[]),
            ("eastward_wind", &["time", "station"], SIX, &[("units", "furlong")]),
            ("strange", &["time", "station"], SIX, &[("units", "m s-1")]),
        ],
        "a b",
    );
    let series = open(&path).unwrap();
    assert_eq!(series.stations()[0].place.unwrap().latitude(), 60.0);
    assert_eq!(series.stations()[1].place, None);
    let (a, b) = ("a".to_owned(), "b".to_owned());
    let knots = |n: f32| n * 1852.0 / 3600.0;
    let (ten, hour) = (Some(600), Some(3600));
    let first = readings(&series, 0);
    let expected = [
        (a.clone(), Quantity::RainRate, ten, 6.0),
        (a.clone(), Quantity::RainRate, hour, 1.0),
        (a.clone(), Quantity::WindSpeed, None, knots(1.0)),
        (b.clone(), Quantity::RainRate, ten, 24.0),
        (b.clone(), Quantity::RainRate, hour, 4.0),
        (b.clone(), Quantity::WindSpeed, None, knots(2.0)),
    ];
    assert_eq!(first.len(), expected.len(), "{first:?}");
    for (found, expected) in first.iter().zip(&expected) {
        assert_eq!((&found.0, found.1, found.2), (&expected.0, expected.1, expected.2));
        assert!((found.3 - expected.3).abs() < 1e-5, "{found:?}");
    }
    // What is missing is not reported, and neither is a station without anything.
    assert_eq!(readings(&series, 2), []);
    assert!(matches!(series.reports(3), Err(FileError::NoField { index: 3, count: 3 })));
    let notes = noted(&series);
    for said in [
        "interval: rain gathers 10 min, by the step of the file's times, for nothing says so",
        "interval: rain_1h gathers 1 h, by its name",
        "skipped: rain_60min: rain_1h is the same quantity over the same period",
        "names: wind_speed is the wind_speed, by its name alone",
        "skipped: gust: wind_speed_of_gust is no rain and no wind",
        "skipped: wind_dir: it has no units",
        "skipped: eastward_wind: expected a unit",
        "skipped: strange: it has no standard_name",
        "places: 1 of 2 stations have no place",
    ] {
        assert!(notes.contains(said), "{said} in\n{notes}");
    }
}

#[test]
fn bounds_say_over_what_an_amount_was_gathered() {
    let time: &[(&str, &str)] = &[("units", "minutes since 2019-02-17"), ("bounds", "time_bnds")];
    let bounds: &[f64] = &[-60.0, 0.0, -50.0, 10.0, -40.0, 20.0];
    let rain: &[(&str, &str)] = &[("units", "kg m-2"), ("standard_name", "precipitation_amount")];
    let path = file(
        LENGTHS,
        &[
            ("time", &["time"], TIME.2, time),
            ("time_bnds", &["time", "bnds"], bounds, &[]),
            ("rain_5min", &["station", "time"], SIX, rain),
        ],
        "a b",
    );
    assert_eq!(readings(&open(&path).unwrap(), 1), [("a".to_owned(), Quantity::RainRate, Some(3600), 2.0)]);
}

#[test]
fn a_file_that_is_none_of_stations_is_refused_with_what_it_has() {
    let speed: &[(&str, &str)] = &[("units", "m s-1"), ("standard_name", "wind_speed")];
    let said = |path: &Path| open(path).unwrap_err().to_string();
    let twice = file(LENGTHS, &[TIME, ("ff", &["station", "time"], SIX, speed)], "a a");
    assert!(said(&twice).contains("\"a\" twice"));
    let none = file(LENGTHS, &[TIME, ("ff", &["station", "time"], SIX, speed)], "a ");
    assert!(said(&none).contains("number 1 has none"), "{}", said(&none));
    let nothing = file(LENGTHS, &[TIME, LAT], "a b");
    assert!(said(&nothing).contains("expected a variable that gives rain or wind [station, time] with a unit"));
    let no_time = file(LENGTHS, &[("ff", &["station", "time"], SIX, speed)], "a b");
    assert!(said(&no_time).contains("time"), "{}", said(&no_time));
    let grid = file(&[("x", 2), ("time", 3)], &[("time", &["time"], TIME.2, TIME.3)], "");
    assert!(said(&grid).contains("cf_role timeseries_id"));
    let numbered = file(LENGTHS, &[TIME, ("ff", &["station", "time"], SIX, speed)], "");
    let series = open(&numbered).unwrap();
    assert_eq!(&*series.stations()[1].id, "1");
    assert!(noted(&series).contains("numbered from 0"));
    let limits = Limits { max_cells: 5, ..Limits::default() };
    assert!(
        matches!(StationSeries::open(&numbered, &limits), Err(FileError::In { error, .. }) if error.to_string().contains('5'))
    );
    let text = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(text.path(), "neither").unwrap();
    assert!(said(text.path()).contains("NetCDF"));
    assert!(matches!(open(Path::new("/nowhere/a.nc")), Err(FileError::Io { .. })));
}

type Golden = (&'static str, usize, usize, usize, usize, Quantity, Option<u32>, usize, f64);

/// File, stations, stations with a place, times, readings, and of the rain over the shortest period or else the wind:
/// how many values and their mean, by netCDF4-python and numpy.
const REAL: &[Golden] = &include!("golden.in");

#[test]
fn every_real_file_gives_the_known_statistics() {
    for (name, stations, placed, times, all, quantity, period, count, mean) in REAL {
        let Some(path) = real_file(name) else { return };
        let series = open(&path).unwrap();
        assert_eq!((series.stations().len(), series.times().len()), (*stations, *times), "{name}");
        assert_eq!(series.stations().iter().filter(|s| s.place.is_some()).count(), *placed, "{name}");
        let (mut found, mut of, mut sum) = (0, 0, 0.0);
        for index in 0..*times {
            for report in series.reports(index).unwrap() {
                found += report.readings.len();
                if let Some(value) = report.value(*quantity, *period) {
                    (of, sum) = (of + 1, sum + f64::from(value));
                }
            }
        }
        assert_eq!((found, of), (*all, *count), "{name}");
        assert!((sum / of as f64 / mean - 1.0).abs() < 1e-4, "{name}: {}", sum / of as f64);
    }
}
