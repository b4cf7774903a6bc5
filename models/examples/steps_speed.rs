//! How fast and how good STEPS is on the middle start of a real event, beside pysteps on the same frames and cores.
//!
//! `SQUALL_DATA=... cargo run --release -p squall-models --example steps_speed -- FILE MEMBERS LEADS [PYTHON]`, where
//! PYTHON is an interpreter that has pysteps, opencv, dask, pyfftw and netCDF4 (`make bench-baselines` has one). Prints a
//! line of JSON for each program, as `steps_pysteps.py` does, and how many times faster this one is.

#[path = "../tests/support/mod.rs"]
mod support;
mod usage;

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use squall_models::{Forecaster, baselines::Steps};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (file, members, leads, python) = match &arguments[..] {
        [file, members, leads] => (file, members, leads, None),
        [file, members, leads, python] => (file, members, leads, Some(python)),
        _ => return Err("expected steps_speed FILE MEMBERS LEADS [PYTHON]".into()),
    };
    let Some(ours) = squall(file, members.parse()?, leads.parse()?) else { return Ok(()) };
    println!("{ours}");
    if let Some(python) = python {
        let theirs = pysteps(python, file, members, leads)?;
        println!("{theirs}");
        let times = |what: &str| theirs[what].as_f64().zip(ours[what].as_f64()).map_or(f64::NAN, |(a, b)| a / b);
        println!(
            "{file}: {:.1} times as fast as pysteps by wall time, {:.1} times by CPU time, 1/{:.1} of its memory",
            times("wall_s"),
            times("cpu_s"),
            times("peak_mb")
        );
    }
    Ok(())
}

/// The same of Squall as `steps_pysteps.py` prints; `None` without data.
fn squall(file: &str, members: usize, leads: usize) -> Option<Value> {
    let mut event = support::Event::read(file)?;
    let newest = event.middle();
    let request = event.request(newest, leads, members);
    let observed: Vec<_> = (1..=leads).map(|lead| event.field(newest + lead)).collect();
    event.rates = ndarray::Array3::zeros((0, 0, 0));
    usage::forget_peak();
    let (wall, cpu) = (Instant::now(), usage::cpu_seconds());
    let prediction = Steps::default().forecast(&[request]).remove(0).expect("a forecast");
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), usage::cpu_seconds() - cpu);
    let peak = usage::peak_mb();
    let round = |value: f64| (value * 1e5).round() / 1e5;
    let values = &prediction.ensembles[0].values;
    let crps: Vec<f64> =
        observed.iter().enumerate().map(|(lead, field)| round(support::crps(values, lead, field))).collect();
    Some(json!({
        "program": "squall", "file": file, "members": members, "leads": leads, "wall_s": round(wall), "cpu_s": round(cpu),
        "peak_mb": peak.round(), "crps": crps,
    }))
}

fn pysteps(python: &str, file: &str, members: &str, leads: &str) -> Result<Value, Box<dyn Error>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/steps_pysteps.py");
    let data = support::data(file).ok_or("SQUALL_DATA is not set")?;
    let output = Command::new(python).arg(script).arg(data).args([members, leads]).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("pysteps ended with {}: {}", output.status, said.trim_end()).into());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.starts_with('{')).ok_or("pysteps printed no result")?;
    Ok(serde_json::from_str(line)?)
}
