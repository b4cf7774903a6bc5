//! Speed of the baselines on a storm of the size of the Finnish composite (1226 x 760 cells).
//!
//! `SQUALL_DATA` set: on the real event of 2016-09-28, otherwise on made-up rain.

#[path = "../tests/support/mod.rs"]
mod support;

use divan::Bencher;
use ndarray::Array2;
use squall_models::{
    Forecaster,
    baselines::{
        Extrapolation, LagrangianProbability,
        advection::extrapolate,
        motion::{MotionParams, estimate},
    },
};
use support::Event;

fn main() {
    divan::main();
}

/// Four frames of rain.
fn frames() -> Vec<Array2<f32>> {
    if let Some(event) = Event::read("radar_fmi_20160928.nc") {
        let newest = event.middle();
        return (newest - 3..=newest).map(|index| event.field(index)).collect();
    }
    let rain = |t: f32| {
        Array2::from_shape_fn((1226, 760), |(y, x)| {
            let (x, y) = (x as f32 - 2.0 * t, y as f32 + 3.0 * t);
            (8.0 * (x / 17.0).sin() * (y / 13.0).cos() + 4.0 * ((x + y) / 5.0).sin() - 3.0).max(0.0)
        })
    };
    (0..4).map(|t| rain(t as f32)).collect()
}

#[divan::bench(sample_count = 10)]
fn motion_of_four_frames(bencher: Bencher<'_, '_>) {
    let frames = frames();
    let timed: Vec<_> = frames.iter().enumerate().map(|(t, f)| (t as f64, f.view())).collect();
    bencher.bench(|| estimate(&timed, &MotionParams::default()));
}

#[divan::bench(sample_count = 10)]
fn advection_of_12_leads(bencher: Bencher<'_, '_>) {
    let frames = frames();
    let timed: Vec<_> = frames.iter().enumerate().map(|(t, f)| (t as f64, f.view())).collect();
    let motion = estimate(&timed, &MotionParams::default()).expect("rain that moves");
    let steps: Vec<f32> = (1..=12).map(|t| t as f32).collect();
    bencher.bench(|| extrapolate(frames[3].view(), &motion, &steps));
}

#[divan::bench(args = [1, 8], sample_count = 5)]
fn ensemble_of_12_leads(bencher: Bencher<'_, '_>, members: usize) {
    let Some(event) = Event::read("radar_fmi_20160928.nc") else { return };
    let request = event.request(event.middle(), 12, members);
    bencher.bench(|| Extrapolation::default().forecast(std::slice::from_ref(&request)));
}

#[divan::bench(sample_count = 10)]
fn lagrangian_probability_of_12_leads(bencher: Bencher<'_, '_>) {
    let Some(event) = Event::read("radar_fmi_20160928.nc") else { return };
    let request = event.request(event.middle(), 12, 1);
    let model = LagrangianProbability::default();
    bencher.bench(|| model.exceedance(&request.window, &request.leads, &[0.1, 1.0, 5.0]));
}
