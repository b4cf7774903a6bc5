//! The trained models of the repository load, fit the streams that they are for, and sample.

use std::path::PathBuf;
use std::sync::Arc;

use ndarray::Array3;
use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, IssueTime, ValidTime, Variable, Window};
use squall_models::diffusion::{DiffusionForecaster, Options, ProcessConfig};
use squall_models::{Context, Forecaster, Prediction, Request, weights};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("weights").join(name)
}

fn context(variables: &[Variable], seconds: u32, leads: usize) -> Context {
    let cadence = Cadence::every_seconds(seconds).unwrap();
    Context {
        stream: "test".into(),
        variables: variables.to_vec(),
        cadence,
        grid: None,
        window_frames: 4,
        leads,
        members: 2,
    }
}

/// Two members of a field of 64 x 64 cells of `value(frame, variable, y, x)`, sampled in three steps.
fn sample(
    name: &str,
    context: &Context,
    spacing: f64,
    value: impl Fn(usize, usize, usize, usize) -> f32,
) -> Prediction {
    let mut options = Options::default();
    let mut sampler = weights::describe(&path(name)).unwrap().metadata.spec.sampler;
    sampler.solver.steps = 3;
    options.sampler = Some(sampler);
    let mut model = DiffusionForecaster::open(&path(name), &options).unwrap();
    model.check(context).unwrap();
    let axis = |step| Axis { first: 0.0, step, len: 64 };
    let grid = Arc::new(Grid { proj: "+proj=laea +units=m".into(), wkt: None, x: axis(spacing), y: axis(-spacing) });
    let frame = |t: usize| Frame {
        grid: grid.clone(),
        slot: ValidTime::from_unix_seconds(t as i64 * context.cadence.step_seconds()),
        variables: context.variables.clone().into(),
        values: Array3::from_shape_fn((context.variables.len(), 64, 64), |(c, y, x)| value(t, c, y, x)),
        quality: None,
        input: InputRef { topic: "test".into(), partition: 0, offset: 0, digest: "".into() },
    };
    let window = Window {
        issue_time: IssueTime::from_unix_seconds(3 * context.cadence.step_seconds()),
        cadence: context.cadence,
        frames: (0..4).map(|t| Some(Arc::new(frame(t)))).collect(),
        steering: None,
    };
    let request = Request {
        stream: "test".into(),
        window: Arc::new(window),
        leads: context.cadence.leads(context.leads),
        members: context.members,
        steps: None,
    };
    model.forecast(&[request]).remove(0).unwrap()
}

#[test]
fn cogdpm_samples_rain() {
    let context = context(&[Variable::RainRate], 300, 12);
    let shower = |t: usize, _, y: usize, x: usize| {
        let (dx, dy) = (x as f32 - 24.0 - 2.0 * t as f32, y as f32 - 30.0);
        15.0 * (-(dx * dx + dy * dy) / 80.0).exp()
    };
    let prediction = sample("cogdpm-rain.safetensors", &context, 1000.0, shower);
    let rain = &prediction.ensembles[0].values;
    assert_eq!(rain.dim(), (2, 12, 64, 64));
    assert!(rain.iter().all(|v| (0.0..=128.5).contains(v)));
    assert!(rain.iter().any(|v| *v > 1.0), "the shower is gone");
    assert_ne!(rain.index_axis(ndarray::Axis(0), 0), rain.index_axis(ndarray::Axis(0), 1));
    let precision = prediction.precision.expect("a guided model gives a map");
    assert!(precision.iter().all(|v| v.is_finite() && *v >= 0.0));
}

#[test]
fn dydiff_samples_wind() {
    let context = context(&[Variable::EastwardWind, Variable::NorthwardWind], 10_800, 8);
    let swirl = |t: usize, c: usize, y: usize, x: usize| {
        let phase = (x as f32 - t as f32) / 10.0 + c as f32;
        12.0 * phase.sin() * (y as f32 / 14.0).cos()
    };
    let prediction = sample("dydiff-wind.safetensors", &context, 100_000.0, swirl);
    for ensemble in &prediction.ensembles {
        assert_eq!(ensemble.values.dim(), (2, 8, 64, 64));
        assert!(ensemble.values.iter().all(|v| v.abs() < 80.0));
    }
}

#[test]
fn what_a_model_was_not_made_for_is_refused() {
    let wrong = context(&[Variable::RainRate], 600, 13);
    let model = DiffusionForecaster::open(&path("cogdpm-rain.safetensors"), &Options::default()).unwrap();
    let refusal = model.check(&wrong).unwrap_err().to_string();
    assert!(refusal.contains("300 s") && refusal.contains("at most 12 leads"), "{refusal}");
}

#[test]
fn the_files_are_small_and_say_where_they_come_from() {
    for name in ["cogdpm-rain.safetensors", "dydiff-wind.safetensors"] {
        let found = weights::describe(&path(name)).unwrap();
        assert!(found.bytes < 20_000_000, "{name}: {} bytes", found.bytes);
        assert!(!found.metadata.training_data.is_empty() && !found.metadata.training.is_empty(), "{name}");
    }
}

/// The digest keys the random numbers of every forecast: files that were shipped keep theirs.
#[test]
fn the_shipped_files_say_their_process_and_keep_their_digest() {
    for (name, process, digest) in [
        (
            "cogdpm-rain.safetensors",
            ProcessConfig::Plain {},
            "a57d1de00fae4b2084c949efca63eb172dcb4405154de4cf79e4eabcbb70f350",
        ),
        (
            "dydiff-wind.safetensors",
            ProcessConfig::Dynamical { ratio: 0.5 },
            "788bd9f32a51d5e40cf0c7905cf655a9b26f683677a1ff94dd6fd93c96c12912",
        ),
    ] {
        let found = weights::describe(&path(name)).unwrap();
        assert_eq!((found.metadata.spec.process, found.digest.as_str()), (process, digest), "{name}");
        let model = DiffusionForecaster::open(&path(name), &Options::default()).unwrap();
        assert_eq!(model.digest(), digest);
    }
}
