//! Baselines on real radar events, against scores published for a reference implementation of the same methods.

mod support;

use ndarray::{Array2, ArrayView2, ArrayView3};
use squall_models::{
    Forecaster,
    baselines::{Extrapolation, LagrangianProbability, Persistence, Steps},
    scores::Crps,
};
use support::Event;

/// File, then CSI at leads 1, 6, 12 and 20 of persistence and of Lucas–Kanade extrapolation (pysteps 1.21).
type Row = (&'static str, [f64; 4], [f64; 4]);

const EVENTS: [Row; 5] = [
    ("radar_fmi_20160928.nc", [0.469, 0.266, 0.190, 0.128], [0.647, 0.391, 0.252, 0.195]),
    ("radar_fmi_20170509.nc", [0.242, 0.019, 0.033, 0.024], [0.462, 0.164, 0.080, 0.022]),
    ("radar_mch_20150515.nc", [0.694, 0.353, 0.295, 0.323], [0.780, 0.415, 0.263, 0.209]),
    ("radar_mch_20170131.nc", [0.592, 0.270, 0.244, 0.187], [0.767, 0.397, 0.250, 0.190]),
    ("radar_dpc_20250416.nc", [0.565, 0.278, 0.213, 0.158], [0.697, 0.380, 0.272, 0.195]),
];
const LEADS: [usize; 4] = [1, 6, 12, 20];

/// Critical success index of exceeding 1 mm/h, over cells that are valid in both.
fn csi(forecast: ArrayView2<'_, f32>, observed: ArrayView2<'_, f32>) -> f64 {
    let (mut hits, mut events) = (0u32, 0u32);
    for (f, o) in forecast.iter().zip(observed).filter(|(f, o)| f.is_finite() && o.is_finite()) {
        hits += u32::from(*f > 1.0 && *o > 1.0);
        events += u32::from(*f > 1.0 || *o > 1.0);
    }
    f64::from(hits) / f64::from(events)
}

fn scores(event: &Event, model: &mut dyn Forecaster) -> [f64; 4] {
    let newest = event.middle();
    let prediction = model.forecast(&[event.request(newest, 20, 1)]).remove(0).expect("a forecast");
    LEADS.map(|lead| {
        let values = &prediction.ensembles[0].values;
        csi(values.slice(ndarray::s![0, lead - 1, .., ..]), event.field(newest + lead).view())
    })
}

#[test]
fn persistence_and_extrapolation_score_as_published() {
    for (file, persistence, extrapolation) in EVENTS {
        let Some(event) = Event::read(file) else { return };
        let ours = scores(&event, &mut Persistence::default());
        println!("{file} persistence   {ours:.3?}");
        for (lead, (ours, published)) in LEADS.iter().zip(ours.iter().zip(persistence)) {
            assert!((ours - published).abs() < 0.005, "{file} lead {lead}: {ours} for {published}");
        }
        let ours = scores(&event, &mut Extrapolation::default());
        println!("{file} extrapolation {ours:.3?} for {extrapolation:.3?}");
        for (lead, (ours, published)) in LEADS.iter().zip(ours.iter().zip(extrapolation)) {
            assert!(*ours > published - 0.03, "{file} lead {lead}: {ours} for {published}");
        }
    }
}

#[test]
fn ensembles_beat_their_control() {
    let Some(event) = Event::read("radar_fmi_20160928.nc") else { return };
    let (newest, lead) = (event.middle(), 6);
    let mut models: [Box<dyn Forecaster>; 2] =
        [Box::new(Extrapolation::default()), Box::new(LagrangianProbability::default())];
    for model in &mut models {
        let prediction = model.forecast(&[event.request(newest, lead, 10)]).remove(0).expect("a forecast");
        let members = prediction.ensembles[0].values.slice(ndarray::s![.., lead - 1, .., ..]);
        // Both are scored where every member has a value.
        let mut observed = event.field(newest + lead);
        members.outer_iter().for_each(|member| observed.zip_mut_with(&member, |o, m| *o += 0.0 * m));
        let crps = |members: ArrayView3<'_, f32>| {
            let mut crps = Crps::default();
            crps.add(members, observed.view());
            crps.biased().expect("valid cells")
        };
        let (control, ensemble) = (crps(members.slice(ndarray::s![..1, .., ..])), crps(members));
        println!("{}: CRPS at 30 min {control:.4} (control) {ensemble:.4} (10 members)", model.name());
        assert!(ensemble < 0.9 * control, "{}: {ensemble} against {control}", model.name());
    }
}

/// File, members, runs, then the CRPS in mm/h at leads 1, 3 and 6 of STEPS by pysteps 1.21.5, the mean of two or three
/// seeds (of one for the last event), over the cells that are further than [`REACH`] from any missing cell of the
/// newest frame and from the border. `models/benches/steps_reference.py` makes a row.
///
/// Over cells where every member has a value, as before, programs cannot be compared: a member that moves far
/// empties cells at the inflow, and what is left depends on the draws.
const STEPS: [(&str, usize, usize, [f64; 3]); 5] = [
    ("radar_mch_20150515.nc", 24, 4, [0.09643, 0.19649, 0.28707]),
    ("radar_mch_20170131.nc", 10, 4, [0.09607, 0.19630, 0.28280]),
    ("radar_fmi_20170509.nc", 10, 4, [0.02986, 0.04717, 0.05815]),
    ("radar_fmi_20160928.nc", 10, 4, [0.08020, 0.11977, 0.15124]),
    ("radar_dpc_20250416.nc", 6, 4, [0.14253, 0.21529, 0.28380]),
];

/// Cells.
const REACH: usize = 60;

/// A field without the cells that are within [`REACH`] of a missing cell of another, or of the border.
fn inside(field: ArrayView2<'_, f32>, newest: ArrayView2<'_, f32>) -> Array2<f32> {
    let (rows, columns) = newest.dim();
    // Places of missing cells before each corner.
    let mut before = Array2::<u32>::zeros((rows + 1, columns + 1));
    for ((y, x), value) in newest.indexed_iter() {
        before[[y + 1, x + 1]] =
            before[[y, x + 1]] + before[[y + 1, x]] - before[[y, x]] + u32::from(!value.is_finite());
    }
    Array2::from_shape_fn((rows, columns), |(y, x)| {
        let is_in = y >= REACH && x >= REACH && y + REACH < rows && x + REACH < columns;
        let missing = || {
            let (top, left, bottom, right) = (y - REACH, x - REACH, y + REACH + 1, x + REACH + 1);
            before[[bottom, right]] + before[[top, left]] - before[[top, right]] - before[[bottom, left]]
        };
        if is_in && missing() == 0 { field[[y, x]] } else { f32::NAN }
    })
}

/// Mean and its standard error.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (variance / n).sqrt())
}

#[test]
fn steps_scores_no_worse_than_the_reference() {
    for (file, members, runs, reference) in STEPS {
        let Some(event) = Event::read(file) else { return };
        let newest = event.middle();
        let mut crps = [const { Vec::new() }; 3];
        for run in 0..runs {
            let mut request = event.request(newest, 6, members);
            request.stream = format!("run {run}").into();
            let prediction = Steps::default().forecast(&[request]).remove(0).expect("a forecast");
            for (crps, lead) in crps.iter_mut().zip([1, 3, 6]) {
                let observed = inside(event.field(newest + lead).view(), event.field(newest).view());
                crps.push(support::crps(&prediction.ensembles[0].values, lead - 1, &observed));
            }
        }
        for (crps, reference) in crps.iter().zip(reference) {
            let (mean, error) = mean(crps);
            println!("{file} STEPS CRPS {mean:.4} +- {error:.4} for {reference:.4}");
            // Not worse by more than 2 %, as far as so few runs can tell.
            assert!(mean - 2.0 * error <= 1.02 * reference, "{file}: {mean} +- {error} for {reference}");
        }
    }
}
