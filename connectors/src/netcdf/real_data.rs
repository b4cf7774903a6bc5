//! Every gridded file of the real data, against statistics made with netCDF4-python and numpy.

use std::path::PathBuf;

use squall_fields::Variable;

use super::Reader;
use crate::options::ReadOptions;

/// File, fields, first and last slot, rows, columns, and of the first field (of rain rate,
/// reflectivity or the first wind component): missing cells, mean, maximum, mean of the northern half.
type Golden = (&'static str, usize, i64, i64, usize, usize, usize, f64, f64, f64);

const GOLDEN: &[Golden] = &include!("golden.in");

/// A file of the real data, if there is any.
pub(crate) fn real_file(name: &str) -> Option<PathBuf> {
    match std::env::var_os("SQUALL_DATA") {
        Some(folder) => Some(PathBuf::from(folder).join(name)),
        None => {
            eprintln!("SQUALL_DATA is not set: skipped");
            None
        }
    }
}

fn mean(values: impl Iterator<Item = f32>) -> f64 {
    let (sum, n) = values.filter(|v| v.is_finite()).fold((0.0, 0), |(s, n), v| (s + f64::from(v), n + 1));
    sum / f64::from(n)
}

#[test]
fn every_file_gives_the_known_statistics() {
    for (name, count, first, last, rows, columns, missing, average, maximum, northern) in GOLDEN {
        let Some(path) = real_file(name) else { return };
        let reader = Reader::open(&path, &ReadOptions::default()).unwrap();
        assert_eq!((reader.len(), reader.grid().shape()), (*count, (*rows, *columns)), "{name}");
        assert_eq!(reader.slots()[0].unix_seconds(), *first, "{name}");
        assert_eq!(reader.slots()[count - 1].unix_seconds(), *last, "{name}");
        assert!(reader.grid().is_north_first(), "{name}");
        let frame = reader.frame(0).unwrap();
        let plane = frame.values.index_axis(ndarray::Axis(0), 0);
        assert_eq!(plane.iter().filter(|v| v.is_nan()).count(), *missing, "{name}");
        assert!((mean(plane.iter().copied()) - average).abs() < 2e-5, "{name}: {}", mean(plane.iter().copied()));
        let north = plane.slice(ndarray::s![..rows / 2, ..]);
        assert!((mean(north.iter().copied()) - northern).abs() < 2e-5, "{name}: {}", mean(north.iter().copied()));
        let max = plane.iter().copied().filter(|v| v.is_finite()).fold(f32::MIN, f32::max);
        assert!((f64::from(max) - maximum).abs() < 1e-3, "{name}: {max}");
        assert_eq!(frame.variables.len(), if name.starts_with("wind") { 2 } else { 1 });
    }
}

#[test]
fn places_agree_with_the_two_dimensional_coordinates_of_the_file() {
    let Some(path) = real_file("radar_mch_20150515.nc") else { return };
    let reader = Reader::open(&path, &ReadOptions::default()).unwrap();
    // Bern's old observatory is the origin (600 000, 200 000) of the Swiss grid.
    let (row, column) = reader.grid().cell_of(46.951_08, 7.438_63).unwrap();
    assert!((row - 279.5).abs() < 0.01 && (column - 344.5).abs() < 0.01, "{row} {column}");
}

#[test]
fn reflectivity_becomes_a_rain_rate() {
    let Some(path) = real_file("radar_fmi250m_20160928_dbz.nc") else { return };
    let dbz = Reader::open(&path, &ReadOptions::default()).unwrap();
    assert_eq!(dbz.variables()[..], [Variable::Reflectivity]);
    let options = ReadOptions::of(&[Variable::RainRate]);
    let rate = Reader::open(&path, &options).unwrap();
    let (dbz, rate) = (dbz.frame(3).unwrap(), rate.frame(3).unwrap());
    for (dbz, rate) in dbz.values.iter().zip(&rate.values) {
        let expected = if *dbz < options.no_echo_dbz { 0.0 } else { options.z_relation.rain_rate_mm_h(*dbz) };
        assert!(*rate == expected || (dbz.is_nan() && rate.is_nan()), "{dbz} {rate} {expected}");
    }
}

#[test]
fn bytes_give_what_the_file_gives() {
    let Some(path) = real_file("radar_openmrg_20150827.nc") else { return };
    let bytes = std::fs::read(&path).unwrap();
    let options = ReadOptions::default();
    let (file, memory) = (Reader::open(&path, &options).unwrap(), Reader::from_bytes(&bytes, &options).unwrap());
    for index in [0, 7, 144] {
        let (a, b) = (file.frame(index).unwrap(), memory.frame(index).unwrap());
        assert_eq!((a.input.digest, a.slot, &a.grid), (b.input.digest, b.slot, &b.grid));
    }
    assert!(file.frame(145).unwrap_err().to_string().contains("145"));
}
