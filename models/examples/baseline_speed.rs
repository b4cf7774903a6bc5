//! How fast extrapolation is, beside pysteps on the same frames in the same run.
//!
//! `SQUALL_DATA=... cargo run --release -p squall-models --example baseline_speed [PYTHON [FILE]...]`, where PYTHON is an
//! interpreter that has pysteps, opencv and netCDF4 (`make bench-baselines` has one). Prints wall and CPU seconds (of all
//! threads), the best of three runs, and peak memory: on a machine that does other work as well, compare CPU seconds.

#[path = "../tests/support/mod.rs"]
mod support;
mod usage;

use std::{hint::black_box, process::Command, time::Instant};

use squall_models::baselines::{
    advection::extrapolate,
    motion::{MotionParams, estimate},
};
use usage::cpu_seconds;

const FILE: &str = "radar_fmi_20160928.nc";
const LEADS: u8 = 12;

/// The same two stages in Python.
const PYSTEPS: &str = r#"
import contextlib, sys, time, netCDF4, numpy as np
from pysteps import motion, nowcasts
lk, extrapolation = motion.get_method("LK"), nowcasts.get_method("extrapolation")
newest, leads = int(sys.argv[2]), int(sys.argv[3])
rain = np.ma.filled(netCDF4.Dataset(sys.argv[1])["rainfall_rate"][newest - 3 : newest + 1].astype("f4"), np.nan)
decibel = np.where(rain >= 0.1, 10 * np.log10(np.maximum(rain, 1e-6)), -15)
decibel[~np.isfinite(rain)] = np.nan
with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")
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
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024
print("RESULT", "peak", peak, peak)
"#;

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
    let mut arguments = std::env::args().skip(1);
    let python = arguments.next();
    let mut files: Vec<String> = arguments.collect();
    if files.is_empty() {
        files.push(FILE.to_owned());
    }
    for file in files {
        compare(&file, python.as_deref());
    }
}

/// Prints a line for each stage of an event, and one for the memory.
fn compare(file: &str, python: Option<&str>) {
    let Some(mut event) = support::Event::read(file) else { return };
    let newest = event.middle();
    let frames: Vec<_> = (newest - 3..=newest).map(|index| event.field(index)).collect();
    event.rates = ndarray::Array3::zeros((0, 0, 0));
    let timed: Vec<_> = frames.iter().enumerate().map(|(t, field)| (t as f64, field.view())).collect();
    let Some(motion) = estimate(&timed, &MotionParams::default()) else { return };
    let steps: Vec<f32> = (1..=LEADS).map(f32::from).collect();
    usage::forget_peak();
    let mut ours = vec![
        ("motion", best(|| estimate(&timed, &MotionParams::default()))),
        ("advection", best(|| extrapolate(frames[3].view(), &motion, &steps))),
    ];
    // In the place of both times.
    ours.push(("peak", [usage::peak_mb(); 2]));
    let theirs = python.map(|python| pysteps(python, file, newest)).unwrap_or_default();
    let (rows, columns) = frames[3].dim();
    println!("{file}, {rows} x {columns} cells, {LEADS} leads");
    println!(
        "{:<10} {:>10} {:>10} {:>14} {:>14} {:>14} {:>6}",
        "", "wall s", "cpu s", "pysteps wall s", "pysteps cpu s", "times: wall", "cpu"
    );
    for (name, [wall, cpu]) in ours {
        let label = if name == "peak" { "peak, MB" } else { name };
        match theirs.iter().find(|(stage, _)| stage == name) {
            Some((_, [w, c])) => {
                println!("{label:<10} {wall:10.3} {cpu:10.3} {w:14.3} {c:14.3} {:14.1} {:6.1}", w / wall, c / cpu)
            }
            None => println!("{label:<10} {wall:10.3} {cpu:10.3}"),
        }
    }
}

/// Wall and CPU seconds of each stage, and twice the peak memory in MB.
fn pysteps(python: &str, file: &str, newest: usize) -> Vec<(String, [f64; 2])> {
    let path = support::data(file).unwrap_or_default();
    let mut command = Command::new(python);
    command.args(["-c", PYSTEPS]).arg(path).args([newest.to_string(), LEADS.to_string()]);
    let output = command.output().expect("the interpreter that was named runs");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let line = |line: &str| -> Option<(String, [f64; 2])> {
        let mut words = line.strip_prefix("RESULT ")?.split(' ');
        Some((words.next()?.to_owned(), [words.next()?.parse().ok()?, words.next()?.parse().ok()?]))
    };
    String::from_utf8_lossy(&output.stdout).lines().filter_map(line).collect()
}
