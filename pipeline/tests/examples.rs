//! The example of the library runs, and says what `squall forecast` writes.
//!
//! `cargo test` builds it beside this test, unless it is told to build this one test alone.

use std::path::{Path, PathBuf};
use std::process::Command;

fn run(program: &Path, arguments: &[&str]) -> String {
    assert!(program.exists(), "{} is not built: cargo build --release --examples", program.display());
    let output = Command::new(program).env_remove("RUST_LOG").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The share of cells with 1 mm/h or more at each lead, over all members of a forecast's file, in percent.
fn shares(path: &Path) -> Vec<f64> {
    let file = netcdf::open(path).unwrap();
    let variable = file.variable("lwe_precipitation_rate").unwrap();
    let number = |key: &str| match variable.attribute_value(key).unwrap().unwrap() {
        netcdf::AttributeValue::Float(value) => f64::from(value),
        netcdf::AttributeValue::Double(value) => value,
        netcdf::AttributeValue::Short(value) => f64::from(value),
        other => panic!("{key} is {other:?}"),
    };
    let (scale, fill) = (number("scale_factor"), number("_FillValue"));
    let raw = variable.get::<f64, _>(..).unwrap();
    let share = |lead: ndarray::ArrayViewD<'_, f64>| {
        let seen: Vec<f64> = lead.iter().copied().filter(|raw| *raw != fill).collect();
        // Half a step of the packing below the threshold still counts.
        100.0 * seen.iter().filter(|raw| (*raw + 0.5) * scale >= 1.0).count() as f64 / seen.len() as f64
    };
    raw.axis_iter(ndarray::Axis(1)).map(share).collect()
}

#[test]
fn a_forecast_from_files_is_the_forecast_of_the_program() {
    let squall = Path::new(env!("CARGO_BIN_EXE_squall"));
    let example: PathBuf = squall.parent().expect("a folder").join("examples/forecast_from_files");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/demo.toml").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let (storm, output) = (place("storm.nc"), place("out"));
    run(squall, &["simulate", "--output", &storm, "--frames", "4", "--size", "64x64"]);
    let written = run(squall, &["forecast", &config, "--input", &storm, "--output", &output]);
    let expected = shares(Path::new(written.trim()));

    let text = run(&example, &[&config, &storm]);
    let said: Vec<f64> =
        text.lines().skip(1).filter_map(|line| line.split_once(": ")?.1.split(' ').next()?.parse().ok()).collect();
    assert_eq!((said.len(), expected.len()), (12, 12), "{text}");
    for (said, expected) in said.iter().zip(&expected) {
        assert!((said - expected).abs() < 0.3, "{said} and not {expected}:\n{text}");
    }
    assert!(said[0] > 0.0 && text.contains("degraded: false"), "{text}");
}
