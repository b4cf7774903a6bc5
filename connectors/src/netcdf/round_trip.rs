//! What is written is read back.

use std::sync::Arc;

use ndarray::{Array2, Array3, Array4, ArrayView4};
use proptest::prelude::*;
use squall_fields::random::Philox;
use squall_fields::{
    Axis, Degradation, Ensemble, Forecast, ForecastId, Frame, Grid, InputRef, IssueTime, KnowledgeTime, LeadTime,
    Provenance, ValidTime, Variable,
};
use squall_operators::products::{self, LevelSetting, ProductsConfig};

use super::create::{Step, as_stored};
use super::*;
use crate::options::{Limits, ReadOptions};

/// Every kind of reference system.
pub(crate) const SYSTEMS: [&str; 6] = [
    "+proj=stere +lon_0=25 +lat_0=90 +lat_ts=60 +a=6371288 +b=6371288 +x_0=380886.310 +y_0=3395677.920 +units=m",
    "EPSG:21781",
    "EPSG:3067",
    "EPSG:4326",
    "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18",
    "",
];

pub(crate) fn grid(proj: &str, rows: usize, columns: usize) -> Arc<Grid> {
    let (x, y, step) = match proj {
        "EPSG:4326" | "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18" => (5.0, 10.0, 0.01),
        "EPSG:21781" => (500_000.0, 250_000.0, 1000.0),
        _ => (300_000.0, 900_000.0, 1000.0),
    };
    let (x, y) = (Axis { first: x, step, len: columns }, Axis { first: y, step: -step, len: rows });
    Arc::new(Grid { proj: proj.to_owned(), wkt: None, x, y })
}

pub(crate) fn frame(proj: &str, variables: &[Variable], rows: usize, columns: usize, seed: u64) -> Frame {
    let random = Philox::new(seed, 1);
    let value = |i: usize| match random.uniform(i as u64) {
        u if u < 0.1 => f32::NAN,
        u if u < 0.5 => 0.0,
        u => (40.0 * (u - 0.5)) as f32,
    };
    let cells = rows * columns;
    let values = (0..variables.len() * cells).map(value).collect();
    let input = InputRef { topic: Arc::from("test"), partition: 0, offset: 0, digest: Arc::from("") };
    Frame {
        grid: grid(proj, rows, columns),
        slot: ValidTime::from_unix_seconds(1_475_073_900),
        variables: variables.into(),
        values: Array3::from_shape_vec((variables.len(), rows, columns), values).unwrap(),
        quality: None,
        input,
    }
}

fn equal(a: &Array2<f32>, b: &Array2<f32>, tolerance: f32) -> bool {
    a.dim() == b.dim() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance || (a.is_nan() && b.is_nan()))
}

fn plane(frame: &Frame, index: usize) -> Array2<f32> {
    frame.values.index_axis(ndarray::Axis(0), index).to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn frames(
        system in 0..SYSTEMS.len(), rows in 2usize..40, columns in 2usize..40, seed: u64,
        south_first: bool, float: bool, wind: bool, quality: bool,
    ) {
        let variables = if wind { &[Variable::XWind, Variable::YWind][..] } else { &[Variable::RainRate] };
        let mut frame = frame(SYSTEMS[system], variables, rows, columns, seed);
        if quality {
            frame.quality = Some(Array2::from_shape_fn((rows, columns), |(y, x)| (y * x % 11) as f32 / 10.0));
        }
        let options = WriteOptions {
            rows: if south_first { RowOrder::SouthFirst } else { RowOrder::NorthFirst },
            storage: if float { Storage::Float } else { Storage::Packed },
            ..WriteOptions::default()
        };
        let bytes = frame_bytes(&frame, &options).unwrap();
        prop_assert_eq!(&bytes, &frame_bytes(&frame, &options).unwrap());
        let back = Reader::from_bytes(&bytes, &ReadOptions::default()).unwrap().frame(0).unwrap();
        prop_assert!(back.grid.is_same(&frame.grid), "{:?} {:?}", back.grid, frame.grid);
        prop_assert_eq!(back.slot, frame.slot);
        prop_assert_eq!(&back.variables, &frame.variables);
        for index in 0..variables.len() {
            let written = plane(&frame, index);
            let expected = if float { written } else { as_stored(&written, Step { scale: 0.01, offset: 0.0 }) };
            prop_assert!(equal(&plane(&back, index), &expected, 1e-6));
        }
        prop_assert_eq!(back.quality.is_some(), quality);
        if let (Some(a), Some(b)) = (&back.quality, &frame.quality) {
            prop_assert!(equal(a, b, 1e-4));
        }
    }
}

#[test]
fn many_slots_of_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive.nc");
    let frames: Vec<Frame> = (0..5)
        .map(|i| {
            let mut frame = frame(SYSTEMS[0], &[Variable::RainRate], 30, 20, i);
            frame.slot = frame.slot.plus_seconds(300 * i as i64);
            frame
        })
        .collect();
    write_frames(&path, &frames, "Five frames", &WriteOptions { storage: Storage::Float, ..Default::default() })
        .unwrap();
    let reader = Reader::open(&path, &ReadOptions::default()).unwrap();
    assert_eq!(reader.len(), 5);
    for (index, frame) in frames.iter().enumerate() {
        let back = reader.frame(index).unwrap();
        assert_eq!((back.slot, &back.grid), (frame.slot, &frame.grid));
        assert!(equal(&plane(&back, 0), &plane(frame, 0), 0.0));
    }
    let other = frame(SYSTEMS[1], &[Variable::RainRate], 30, 20, 9);
    let error = write_frames(&path, &[frames[0].clone(), other], "Two grids", &WriteOptions::default()).unwrap_err();
    assert!(error.to_string().contains("one grid"), "{error}");
}

/// Two variables of three members, with missing values, and a precision map.
pub(crate) fn forecast(proj: &str, rows: usize, columns: usize) -> Forecast {
    let (members, leads) = (3, 2);
    let values = |seed: u64, n: usize, top: f64| {
        let random = Philox::new(seed, 2);
        let value = |i: usize| match random.uniform(i as u64) {
            u if u > 0.95 => f32::NAN,
            u => ((u * top * 100.0).round() / 100.0) as f32,
        };
        let values = (0..n * leads * rows * columns).map(value).collect();
        Array4::from_shape_vec((n, leads, rows, columns), values).unwrap()
    };
    let ensemble = |variable, seed, top| Ensemble { variable, values: values(seed, members, top) };
    let input = InputRef { topic: Arc::from("obs"), partition: 2, offset: 41, digest: Arc::from("ab12") };
    Forecast {
        id: ForecastId {
            stream: Arc::from("radar"),
            model_digest: Arc::from("0123456789abcdef"),
            issue_time: IssueTime::from_unix_seconds(1_475_073_900),
            revision: 1,
        },
        known_at: KnowledgeTime::from_unix_ms(1_475_073_950_000),
        grid: grid(proj, rows, columns),
        leads: vec![LeadTime::from_seconds(300), LeadTime::from_seconds(600)],
        ensembles: vec![ensemble(Variable::RainRate, 1, 20.0), ensemble(Variable::XWind, 3, 400.0)],
        precision: Some(values(2, 1, 1.0).index_axis_move(ndarray::Axis(0), 0)),
        provenance: Provenance {
            inputs: vec![input],
            window_mask: vec![true, false, true],
            seed: u64::MAX - 1,
            model: "extrapolation".into(),
            code_version: "0.1.0".into(),
            device: "cpu avx2 f32".into(),
            degraded: vec![Degradation::MissingFrames { slots: vec![ValidTime::from_unix_seconds(1_475_073_600)] }],
            identical_members: true,
        },
        trace: None,
    }
}

/// Everything, at levels that are exact in decimals only.
pub(crate) fn all_products() -> ProductsConfig {
    let levels =
        |setting: &LevelSetting| if setting.name == "quantiles" { vec![0.1, 0.5, 0.9] } else { vec![0.1, 1.0] };
    ProductsConfig::new(products::ALL, levels)
}

/// Equal but for packing into steps; missing where the other is.
fn close(a: &ArrayView4<'_, f32>, b: &ArrayView4<'_, f32>, step: f32) -> bool {
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 0.51 * step || (a.is_nan() && b.is_nan());
    a.dim() == b.dim() && a.iter().zip(b).all(near)
}

#[test]
fn forecasts() {
    for proj in SYSTEMS {
        let forecast = forecast(proj, 11, 13);
        let made = products::products(&forecast, &all_products());
        let options = WriteOptions::default();
        let bytes = forecast_bytes(&forecast, &made, &options).unwrap();
        assert_eq!(bytes, forecast_bytes(&forecast, &made, &options).unwrap(), "{proj}");
        let Stored { forecast: back, products } = forecast_from_bytes(&bytes, &Limits::default()).unwrap();
        assert_eq!((&back.id, back.known_at, &back.leads), (&forecast.id, forecast.known_at, &forecast.leads));
        assert_eq!(back.provenance, forecast.provenance);
        assert!(back.grid.is_same(&forecast.grid), "{proj}");
        for (back, written) in back.ensembles.iter().zip(&forecast.ensembles) {
            assert_eq!(back.variable, written.variable);
            assert!(close(&back.values.view(), &written.values.view(), 0.0123), "{proj}");
        }
        let bits = |map: &Array3<f32>| map.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(back.precision.as_ref().map(bits), forecast.precision.as_ref().map(bits));
        let computed: Vec<_> = made.iter().filter(|f| f.product.is_computed()).collect();
        assert_eq!(products.len(), computed.len());
        for (back, written) in products.iter().zip(computed) {
            let what = format!("{proj}: {:?} of {:?}", written.product, written.variable);
            assert_eq!(
                (back.product, back.variable, &back.levels),
                (written.product, written.variable, &written.levels)
            );
            let step = if *back.product == products::PROBABILITIES { 0.0 } else { 0.0123 };
            assert!(close(&back.values.view(), &written.values.view(), step), "{what}");
        }
    }
}

#[test]
fn a_file_holds_what_is_wanted_and_nothing_else() {
    let forecast = forecast("EPSG:3067", 6, 7);
    let wanted = ProductsConfig::new([&products::PROBABILITIES], |_| vec![1.0]);
    let made = products::products(&forecast, &wanted);
    let bytes = forecast_bytes(&forecast, &made, &WriteOptions::default()).unwrap();
    let back = forecast_from_bytes(&bytes, &Limits::default()).unwrap();
    assert!(back.forecast.ensembles.is_empty() && back.forecast.precision.is_some());
    let names: Vec<_> = back.products.iter().map(|field| (field.product.name, field.variable)).collect();
    assert_eq!(names, [("probabilities", Some(Variable::RainRate)), ("probabilities", Some(Variable::XWind))]);
    let error = forecast_bytes(&forecast, &[], &WriteOptions::default()).unwrap_err();
    assert!(error.to_string().contains("at least one product"), "{error}");
}

#[test]
fn a_shape_that_does_not_fit_is_refused() {
    let mut forecast = forecast("EPSG:4326", 5, 6);
    let other = forecast.clone();
    let made = products::products(&other, &all_products());
    forecast.leads.pop();
    let error = forecast_bytes(&forecast, &made, &WriteOptions::default()).unwrap_err();
    assert!(error.to_string().contains("expected the shape (3, 1, 5, 6), got (3, 2, 5, 6)"), "{error}");
}

/// A child inherits what the library has open, and with it the library's lock.
#[test]
fn a_file_is_made_while_other_processes_start() {
    let over = std::sync::atomic::AtomicBool::new(false);
    let frame = frame("EPSG:3067", &[Variable::RainRate], 8, 8, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut children = Vec::new();
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                children.extend(std::process::Command::new("sleep").arg("30").spawn());
                if children.len() > 200 {
                    children.drain(..).for_each(|mut child| {
                        let _ = (child.kill(), child.wait());
                    });
                }
            }
            for mut child in children {
                let _ = (child.kill(), child.wait());
            }
        });
        let made: Vec<_> = (0..100).map(|_| frame_bytes(&frame, &WriteOptions::default())).collect();
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        let first = made[0].as_ref().unwrap();
        assert!(made.iter().all(|bytes| bytes.as_ref().unwrap() == first));
    });
}

/// On the threads that also compute the places of cells: one that waited for another would wait for itself.
#[test]
fn files_of_one_new_grid_are_made_beside_each_other() {
    use rayon::prelude::*;

    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Grids that no other test has, each large enough to be shared among threads.
        for rows in 301..304 {
            let forecast = forecast("+proj=utm +zone=35", rows, 97);
            let made = products::products(&forecast, &all_products());
            let bytes = |_| forecast_bytes(&forecast, &made, &WriteOptions::default()).unwrap();
            let files: Vec<Vec<u8>> = (0..8).into_par_iter().map(bytes).collect();
            assert!(files.iter().all(|file| *file == files[0]));
        }
        done.send(()).unwrap();
    });
    ended.recv_timeout(std::time::Duration::from_secs(60)).expect("files that wait for each other");
}
