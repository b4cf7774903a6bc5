//! What precision-weighted guidance and its map are worth, on events that the shipped rain model was trained on.

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use ndarray::{Array2, Array3, Array4, Axis};
use squall_fields::{Cadence, Frame};
use squall_models::diffusion::{DiffusionForecaster, Guidance, Options, PrecisionConfig, SamplerConfig, first_guess};
use squall_models::scores::{Crps, common, spearman};
use squall_models::training::validate::{self, Case};
use squall_models::training::{self};
use squall_models::{Forecaster, ModelSpec, Request, weights};
use tch::Tensor;

const MEMBERS: usize = 8;
const SIDE: usize = 128;
const FILES: [&str; 2] = ["radar_fmi_20160928.nc", "radar_mch_20170131.nc"];
/// Every so many cells along each axis take part in a rank correlation.
const SPARSE: usize = 3;

fn cases(file: &str, count: usize) -> Vec<Case> {
    let event = support::Event::read(file).expect("SQUALL_DATA names the folder of the data");
    let last = event.rates.dim().0 - 1;
    let frames = (3..=last).step_by(4).flat_map(|newest| event.request(newest, 1, 1).window.frames.clone());
    let frames: Vec<Arc<Frame>> = frames.flatten().collect();
    let event = training::Event::new(file, Cadence::every_seconds(300).unwrap(), &frames).unwrap();
    validate::cases(&[event], 4, 12, SIDE, count).unwrap()
}

/// The sampler of the file with other guidance, in so many steps.
fn sampler(spec: &ModelSpec, steps: usize, change: impl Fn(&mut PrecisionConfig)) -> SamplerConfig {
    let mut config = PrecisionConfig { queue: 2, first_step: steps - 3, last_step: steps - 2, ..Default::default() };
    change(&mut config);
    let mut sampler = SamplerConfig { guidance: Guidance::Precision(config), ..spec.sampler.clone() };
    sampler.solver.steps = steps;
    sampler
}

/// Scale of the residual `[lead, y, x]`, and the transform, both of the model's only variable.
fn scale(spec: &ModelSpec, case: &Case) -> Array3<f32> {
    let transformed = |values: Vec<f32>, frames: usize| {
        let values: Vec<f32> = values.into_iter().map(|v| spec.transforms[0].forward(v)).collect();
        Tensor::from_slice(&values).reshape([1, frames as i64, 1, SIDE as i64, SIDE as i64])
    };
    let guess = spec.first_guess.fields(&case.window, &spec.variables, spec.leads).unwrap().unwrap();
    let past: Vec<f32> = case.window.frames.iter().flatten().flat_map(|f| f.values.iter().copied()).collect();
    let guess = transformed(guess.into_iter().collect(), spec.leads);
    let guess = first_guess::complete(&guess, &transformed(past, spec.context));
    let scale = spec.residual.as_ref().unwrap().scale(&guess).contiguous().view(-1);
    Array3::from_shape_vec((spec.leads, SIDE, SIDE), Vec::try_from(scale).unwrap()).unwrap()
}

fn forecast(model: &mut DiffusionForecaster, case: &Case, leads: usize) -> (Array4<f32>, Option<Array3<f32>>) {
    let request = Request {
        stream: "guidance".into(),
        window: case.window.clone(),
        leads: case.window.cadence.leads(leads),
        members: MEMBERS,
        steps: None,
    };
    let mut prediction = model.forecast(&[request]).remove(0).unwrap();
    (prediction.ensembles.remove(0).values, prediction.precision)
}

/// Rank correlations over sparse cells of all cases and leads.
#[derive(Default)]
struct Ranks {
    pairs: [Vec<(f32, f32)>; 4],
}

impl Ranks {
    const NAMES: [&str; 4] =
        ["map, error", "scale, error", "map / scale, error", "map / scale, error / scale (transformed)"];

    fn add(
        &mut self,
        spec: &ModelSpec,
        map: &Array3<f32>,
        scale: &Array3<f32>,
        mean: &Array3<f32>,
        truth: &Array3<f32>,
    ) {
        let transform = |value: f32| spec.transforms[0].forward(value);
        for ((lead, y, x), map) in map.indexed_iter().filter(|((_, y, x), _)| y % SPARSE == 0 && x % SPARSE == 0) {
            let (mean, truth, scale) = (mean[[lead, y, x]], truth[[lead, y, x]], scale[[lead, y, x]]);
            let wet = mean.max(truth) >= 0.1;
            if wet && mean.is_finite() && truth.is_finite() && map.is_finite() {
                let (error, transformed) = ((mean - truth).abs(), (transform(mean) - transform(truth)).abs());
                let pairs = [(*map, error), (scale, error), (map / scale, error), (map / scale, transformed / scale)];
                self.pairs.iter_mut().zip(pairs).for_each(|(all, pair)| all.push(pair));
            }
        }
    }
}

/// `cargo test --release -p squall-models --test guidance -- --ignored --nocapture`; minutes.
#[test]
#[ignore = "measures, for docs/models.md"]
fn guidance_beside_none_and_the_map_beside_the_scale() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("weights/cogdpm-rain.safetensors");
    let spec = weights::describe(&path).unwrap().metadata.spec;
    let none = |config: &mut PrecisionConfig| (config.u_min, config.u_max) = (1.0, 1.0);
    let narrow = |config: &mut PrecisionConfig| (config.u_min, config.u_max) = (0.9, 1.2);
    let samplers = [
        ("none, 8 evaluations", sampler(&spec, 8, none)),
        ("none, 10 evaluations", sampler(&spec, 10, none)),
        ("0.9 to 1.2 in steps 6 and 7 of 8, 10 evaluations", sampler(&spec, 8, narrow)),
        ("0.5 to 2 in steps 6 and 7 of 8, 10 evaluations", sampler(&spec, 8, |_| ())),
    ];
    let open = |sampler: &SamplerConfig| {
        DiffusionForecaster::open(&path, &Options { sampler: Some(sampler.clone()), ..Default::default() }).unwrap()
    };
    let mut models: Vec<DiffusionForecaster> = samplers.iter().map(|(_, sampler)| open(sampler)).collect();
    let mut ranks = Ranks::default();
    for file in FILES {
        let cases = cases(file, 2);
        let mut scores = vec![vec![Crps::default(); spec.leads]; models.len()];
        for case in &cases {
            let predictions: Vec<_> = models.iter_mut().map(|model| forecast(model, case, spec.leads)).collect();
            let mut truth = Array3::zeros((spec.leads, SIDE, SIDE));
            for lead in 0..spec.leads {
                let observed = case.truth[lead].values.index_axis(Axis(0), 0);
                let members = |i: usize| predictions[i].0.index_axis(Axis(1), lead);
                let observed: Array2<f32> = common(observed, (0..models.len()).map(members)).to_owned();
                for (i, scores) in scores.iter_mut().enumerate() {
                    scores[lead].add(members(i), observed.view());
                }
                truth.index_axis_mut(Axis(0), lead).assign(&observed);
            }
            let (values, map) = &predictions[0];
            let mean = values.mean_axis(Axis(0)).unwrap();
            ranks.add(&spec, map.as_ref().unwrap(), &scale(&spec, case), &mean, &truth);
        }
        println!("{file}: {} cases, CRPS at 5, 15, 30, 60 min and the mean over leads", cases.len());
        for ((name, _), scores) in samplers.iter().zip(&scores) {
            let values: Vec<f64> = scores.iter().map(|score| score.biased().unwrap()).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            println!("  {name}: {:.4} {:.4} {:.4} {:.4}; {mean:.4}", values[0], values[2], values[5], values[11]);
        }
    }
    println!("rank correlations where it rains or rain is forecast:");
    for (name, pairs) in Ranks::NAMES.iter().zip(&ranks.pairs) {
        let value = spearman(pairs.iter().copied()).unwrap();
        println!("  {name}: {value:.3} of {} cells", pairs.len());
        assert!(value.is_finite());
    }
}
