//! Every variant that producers write, read back.

use ndarray::Array2;
use squall_fields::{Frame, InputRef, Variable};

use super::read::UNDETECT_DBZ;
use super::*;
use crate::netcdf::round_trip::{SYSTEMS, frame};
use crate::options::ReadOptions;

fn input() -> InputRef {
    InputRef { topic: "t".into(), partition: 1, offset: 2, digest: "d".into() }
}

fn close(a: &Frame, b: &Frame, tolerance: f32) -> bool {
    a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() <= tolerance || (a.is_nan() && b.is_nan()))
}

#[test]
fn every_variant() {
    let bits = |n: u32, bit: u32| n >> bit & 1 == 1;
    for n in 0..64 {
        let system = SYSTEMS[n as usize % 5];
        let mut frame = frame(system, &[Variable::RainRate], 31, 17, u64::from(n));
        if bits(n, 0) {
            frame.quality = Some(Array2::from_shape_fn((31, 17), |(y, x)| (y * x % 11) as f32 / 10.0));
        }
        let options = OdimWriteOptions {
            quantity: if bits(n, 1) { Quantity::Acrr } else { Quantity::Rate },
            interval_seconds: if bits(n, 1) { 900 } else { 300 },
            where_in_dataset: bits(n, 2),
            projected_corner: bits(n, 2) && bits(n, 0),
            what_in_dataset: bits(n, 3),
            variable_length_texts: bits(n, 4),
            packed: bits(n, 5),
            nodes: vec!["bejab".into(), "fikor".into()],
            ..OdimWriteOptions::default()
        };
        let bytes = write_bytes(&frame, &options).unwrap();
        assert_eq!(bytes, write_bytes(&frame, &options).unwrap());
        let odim = read_bytes(&bytes, &ReadOptions::of(&[Variable::RainRate]), input()).unwrap();
        assert!(odim.frame.grid.is_same(&frame.grid), "{options:?}\n{:?}\n{:?}", odim.frame.grid, frame.grid);
        assert_eq!((odim.frame.slot, &odim.frame.input), (frame.slot, &input()));
        assert_eq!(odim.nodes, ["bejab", "fikor"]);
        assert_eq!(odim.start, Some(frame.slot.plus_seconds(-options.interval_seconds)));
        // A quarter of an hour in steps of 0.01 mm is 0.04 mm/h, and what rains at all is at least one step.
        assert!(close(&odim.frame, &frame, if options.packed { 0.041 } else { 1e-4 }), "{options:?}");
        assert_eq!(odim.frame.quality.is_some(), frame.quality.is_some());
        if let (Some(a), Some(b)) = (&odim.frame.quality, &frame.quality) {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.002));
        }
    }
}

#[test]
fn reflectivity_and_rain_rate() {
    let mut dbz = frame(SYSTEMS[0], &[Variable::Reflectivity], 20, 20, 1);
    dbz.values.mapv_inplace(|v| if v == 0.0 { UNDETECT_DBZ } else { v });
    let options = OdimWriteOptions { quantity: Quantity::Dbzh, ..OdimWriteOptions::default() };
    let bytes = write_bytes(&dbz, &options).unwrap();
    let own = read_bytes(&bytes, &ReadOptions::default(), input()).unwrap();
    assert_eq!(own.frame.variables[..], [Variable::Reflectivity]);
    assert!(close(&own.frame, &dbz, 0.006));
    let wanted = ReadOptions::of(&[Variable::RainRate]);
    let rate = read_bytes(&bytes, &wanted, input()).unwrap().frame;
    for (dbz, rate) in own.frame.values.iter().zip(&rate.values) {
        let expected = if *dbz < wanted.no_echo_dbz { 0.0 } else { wanted.z_relation.rain_rate_mm_h(*dbz) };
        assert!((rate - expected).abs() < 1e-4 * expected.max(1.0) || (dbz.is_nan() && rate.is_nan()), "{dbz} {rate}");
    }
}

#[test]
fn a_composite_of_opera() {
    // Geometry and corners (six digits) as in OPERA's composites of 2024.
    let mut opera = frame(SYSTEMS[0], &[Variable::RainRate], 220, 190, 3);
    let proj = "+proj=laea +lat_0=55 +lon_0=10 +x_0=1950000 +y_0=-2100000 +units=m +ellps=WGS84";
    let axis = |first: f64, step: f64, len| squall_fields::Axis { first, step, len };
    opera.grid = std::sync::Arc::new(squall_fields::Grid {
        proj: proj.into(),
        wkt: None,
        x: axis(10_000.0, 20_000.0, 190),
        y: axis(-10_000.0, -20_000.0, 220),
    });
    let options = OdimWriteOptions { quantity: Quantity::Acrr, packed: false, ..OdimWriteOptions::default() };
    let odim = read_bytes(&write_bytes(&opera, &options).unwrap(), &ReadOptions::default(), input()).unwrap();
    assert_eq!((odim.quantity.as_str(), odim.source.as_str()), ("ACRR", "ORG:247"));
    assert!(odim.frame.grid.is_same(&opera.grid), "{:?}", odim.frame.grid);
    assert!(close(&odim.frame, &opera, 1e-4));
}

#[test]
fn what_is_no_composite_is_refused() {
    let wind = frame(SYSTEMS[0], &[Variable::XWind], 5, 5, 1);
    assert!(write_bytes(&wind, &OdimWriteOptions::default()).unwrap_err().to_string().contains("rain_rate"));
    let bytes = write_bytes(&frame(SYSTEMS[0], &[Variable::RainRate], 5, 5, 1), &OdimWriteOptions::default()).unwrap();
    let error = read_bytes(&bytes, &ReadOptions::of(&[Variable::XWind]), input()).unwrap_err();
    assert!(error.to_string().contains("RATE"), "{error}");
    let error = read_bytes(b"GRIB", &ReadOptions::default(), input()).unwrap_err();
    assert!(error.to_string().contains("HDF5"), "{error}");
}

/// A composite of rain, 20 x 30 cells of 1 km, after a change.
fn edited(change: impl Fn(&hdf5_metno::File)) -> Vec<u8> {
    let mut rain = frame(SYSTEMS[0], &[Variable::RainRate], 20, 30, 1);
    rain.quality = Some(Array2::from_elem((20, 30), 0.5));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edited.h5");
    std::fs::write(&path, write_bytes(&rain, &OdimWriteOptions::default()).unwrap()).unwrap();
    let file = hdf5_metno::File::open_rw(&path).unwrap();
    change(&file);
    file.close().unwrap();
    std::fs::read(&path).unwrap()
}

/// Puts a number, or a text, in the place of an attribute.
fn set<T: hdf5_metno::H5Type>(file: &hdf5_metno::File, group: &str, name: &str, value: &T) {
    let group = file.group(group).unwrap();
    let _ = group.delete_attr(name);
    group.new_attr::<T>().create(name).unwrap().write_scalar(value).unwrap();
}

fn read(bytes: &[u8]) -> Result<Odim, String> {
    read_bytes(bytes, &ReadOptions::of(&[Variable::RainRate]), input()).map_err(|error| error.to_string())
}

#[test]
fn a_quality_that_is_broken_costs_the_quality() {
    let whole = read(&edited(|_| {})).unwrap();
    assert!(whole.frame.quality.is_some() && whole.notes.skipped().count() == 0);
    let broken: [fn(&hdf5_metno::File); 3] = [
        |file| file.unlink("dataset1/data1/quality1/data").unwrap(),
        |file| {
            file.unlink("dataset1/data1/quality1/data").unwrap();
            let group = file.group("dataset1/data1/quality1").unwrap();
            group.new_dataset::<u8>().shape((3, 3)).create("data").unwrap();
        },
        |file| {
            set(
                file,
                "dataset1/data1/quality1/what",
                "gain",
                &hdf5_metno::types::FixedAscii::<8>::from_ascii("x").unwrap(),
            )
        },
    ];
    for change in broken {
        let odim = read(&edited(change)).unwrap();
        assert!(odim.frame.quality.is_none() && close(&odim.frame, &whole.frame, 0.0));
        let skipped: Vec<&str> = odim.notes.skipped().collect();
        assert!(skipped.len() == 1 && skipped[0].starts_with("dataset1/data1/quality1: "), "{skipped:?}");
    }
}

#[test]
fn the_corners_decide_where_the_scale_contradicts_them() {
    let whole = read(&edited(|_| {})).unwrap().frame.grid;
    for scale in [1.0, 3000.0] {
        let odim = read(&edited(|file| set(file, "where", "xscale", &scale))).unwrap();
        assert!(odim.frame.grid.is_same(&whole), "{:?}", odim.frame.grid);
        assert!(odim.notes.iter().any(|note| note.text.contains("contradicts the corners")), "{:?}", odim.notes);
    }
    let moved = read(&edited(|file| set(file, "where", "UL_lon", &10.0))).unwrap_err();
    assert!(moved.contains("corners"), "{moved}");
}

#[test]
fn packing_that_cannot_be_understood_is_refused_by_name() {
    let text = hdf5_metno::types::FixedAscii::<8>::from_ascii("much").unwrap();
    assert!(read(&edited(|file| set(file, "dataset1/data1/what", "gain", &text))).unwrap_err().contains("gain"));
    assert!(read(&edited(|file| set(file, "dataset1/data1/what", "gain", &0.0))).unwrap_err().contains("gain"));
    assert!(
        read(&edited(|file| set(file, "dataset1/data1/what", "offset", &f64::NAN))).unwrap_err().contains("offset")
    );
}
