//! How fast and how good STEPS is on the middle start of a real event, one line of JSON as `steps_pysteps.py` prints.
//!
//! `SQUALL_DATA=... cargo run --release -p squall-models --example steps_speed -- FILE MEMBERS LEADS`

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use squall_models::{Forecaster, baselines::Steps};

/// CPU seconds of this process so far, user and system, in steps of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Most memory that this process has held, in MB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    peak.unwrap_or(f64::NAN) / 1024.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, members, leads] = &arguments[..] else { panic!("usage: steps_speed FILE MEMBERS LEADS") };
    let (members, leads) = (members.parse().expect("a number"), leads.parse().expect("a number"));
    let Some(mut event) = support::Event::read(file) else { return };
    let newest = event.middle();
    let request = event.request(newest, leads, members);
    let observed: Vec<_> = (1..=leads).map(|lead| event.field(newest + lead)).collect();
    event.rates = ndarray::Array3::zeros((0, 0, 0));
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let prediction = Steps::default().forecast(&[request]).remove(0).expect("a forecast");
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let peak = peak_mb();
    let crps: Vec<String> = (observed.iter().enumerate())
        .map(|(lead, field)| format!("{:.5}", support::crps(&prediction.ensembles[0].values, lead, field)))
        .collect();
    println!(
        "{{\"file\": \"{file}\", \"members\": {members}, \"leads\": {leads}, \"wall_s\": {wall:.3}, \"cpu_s\": {cpu:.3}, \
         \"peak_mb\": {peak:.0}, \"crps\": [{}]}}",
        crps.join(", ")
    );
}
