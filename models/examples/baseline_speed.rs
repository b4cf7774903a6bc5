//! How fast the baselines are, beside pysteps on the same frames in the same run.
//!
//! `SQUALL_DATA=... cargo run --release -p squall-models --example baseline_speed [PYTHON]`, where PYTHON is an
//! interpreter that has pysteps, opencv and netCDF4. Prints wall and CPU seconds (of all threads), the best of three runs:
//! on a machine that does other work as well, compare CPU seconds.

#[path = "../tests/support/mod.rs"]
mod support;

use std::{hint::black_box, process::Command, time::Instant};

use squall_models::baselines::{
    advection::extrapolate,
    motion::{MotionParams, estimate},
};

const FILE: &str = "radar_fmi_20160928.nc";
const LEADS: u8 = 12;

/// The same two stages in Python.
const PYSTEPS: &str = r#"
import sys, time, netCDF4, numpy as np
from pysteps import motion, nowcasts
lk, extrapolation = motion.get_method("LK"), nowcasts.get_method("extrapolation")
newest, leads = int(sys.argv[2]), int(sys.argv[3])
rain = np.ma.filled(netCDF4.Dataset(sys.argv[1])["rainfall_rate"][newest - 3 : newest + 1].astype("f4"), np.nan)
decibel = np.where(rain >= 0.1, 10 * np.log10(np.maximum(rain, 1e-6)), -15)
decibel[~np.isfinite(rain)] = np.nan
def best(name, stage):
    runs = []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        out = stage()
        runs.append((time.perf_counter() - wall, time.process_time() - cpu))
    print("RESULT", name, *np.min(runs, axis=0))
    return out
velocity = best("motion", lambda: lk(decibel))
best("advection", lambda: extrapolation(rain[-1], velocity, leads))
"#;

/// CPU seconds of this process so far, user and system, in steps of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn best<T>(mut stage: impl FnMut() -> T) -> [f64; 2] {
    let mut least = [f64::INFINITY; 2];
    for _ in 0..3 {
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        black_box(stage());
        least = [least[0].min(wall.elapsed().as_secs_f64()), least[1].min(cpu_seconds() - cpu)];
    }
    least
}

fn main() {
    let Some(event) = support::Event::read(FILE) else { return };
    let newest = event.middle();
    let frames: Vec<_> = (newest - 3..=newest).map(|index| event.field(index)).collect();
    let timed: Vec<_> = frames.iter().enumerate().map(|(t, field)| (t as f64, field.view())).collect();
    let Some(motion) = estimate(&timed, &MotionParams::default()) else { return };
    let steps: Vec<f32> = (1..=LEADS).map(f32::from).collect();
    let ours = [
        ("motion", best(|| estimate(&timed, &MotionParams::default()))),
        ("advection", best(|| extrapolate(frames[3].view(), &motion, &steps))),
    ];
    let theirs = std::env::args().nth(1).map(|python| pysteps(&python, newest)).unwrap_or_default();
    println!("{:<10} {:>8} {:>8} {:>12} {:>12} {:>6}", "", "wall s", "cpu s", "pysteps wall", "pysteps cpu", "ratio");
    for (name, [wall, cpu]) in ours {
        match theirs.iter().find(|(stage, _)| stage == name) {
            Some((_, [w, c])) => println!("{name:<10} {wall:8.3} {cpu:8.3} {w:12.3} {c:12.3} {:6.1}", c / cpu),
            None => println!("{name:<10} {wall:8.3} {cpu:8.3}"),
        }
    }
}

/// Wall and CPU seconds of each stage.
fn pysteps(python: &str, newest: usize) -> Vec<(String, [f64; 2])> {
    let file = support::data(FILE).unwrap_or_default();
    let mut command = Command::new(python);
    command.args(["-c", PYSTEPS]).arg(file).args([newest.to_string(), LEADS.to_string()]);
    let output = command.output().expect("the interpreter that was named runs");
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let line = |line: &str| -> Option<(String, [f64; 2])> {
        let mut words = line.strip_prefix("RESULT ")?.split(' ');
        Some((words.next()?.to_owned(), [words.next()?.parse().ok()?, words.next()?.parse().ok()?]))
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(line).collect()
}
