//! Properties of sampling that operations rest on.

use std::collections::BTreeMap;
use std::sync::Arc;

use squall_fields::{Axis as GridAxis, Frame, Grid, InputRef, IssueTime, LeadTime, ValidTime, Window};
use tch::{Device, Kind, nn};

use super::*;
use crate::baselines::Extrapolation;
use crate::diffusion::extra::Extra;
use crate::diffusion::guidance::{Guidance, PrecisionConfig};
use crate::diffusion::residual::{Local, Residual};
use crate::diffusion::{FirstGuess, History, MissingGuess};
use crate::diffusion::{Method, ProcessConfig, SolverConfig, Target, Transform, schedule};
use crate::network::config::AUTOENCODER_PREFIX;
use crate::network::{Autoencoder, UNetConfig, init};
use crate::weights::{self, at};

mod latent;

fn spec() -> ModelSpec {
    let mut network = UNetConfig::tiny(1);
    network.attention = vec![2];
    let solver = SolverConfig { method: Method::Dpm2m, grid: schedule::Grid::UniformLambda, steps: 4 };
    ModelSpec {
        name: "test".to_owned(),
        variables: vec![Variable::RainRate],
        transforms: vec![Transform::of(Variable::RainRate)],
        cadence_seconds: 300,
        spacing_m: (1000.0, 2000.0),
        context: 2,
        leads: 3,
        network,
        predictor: None,
        autoencoder: None,
        process: ProcessConfig::Dynamical { ratio: 0.5 },
        target: Target::Velocity,
        first_guess: FirstGuess::Persistence,
        missing_guess: MissingGuess::Zero,
        history: History::Frames,
        extra: Vec::new(),
        residual: Some(Residual {
            factor: vec![0.3],
            local: Some(Local { floor: 0.02, floor_growth: 0.0, radius: 1.0, growth: 1.0 }),
            limit: 5.0,
        }),
        tiling: Tiling { tile: (16, 16), overlap: 4 },
        sampler: SamplerConfig { solver, guidance: Guidance::None, mean: false },
    }
}

fn metadata() -> Metadata {
    Metadata::of(spec())
}

fn forecaster(metadata: &Metadata, options: &Options) -> DiffusionForecaster {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let store = nn::VarStore::new(Device::Cpu);
    weights::networks(&store, &metadata.spec);
    if let Some(config) = &metadata.spec.autoencoder {
        Autoencoder::new(&at(&store, AUTOENCODER_PREFIX), config);
    }
    init::fill_by_hash(&store);
    let tensors: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
    weights::save(&path, metadata, &tensors, Kind::Float).unwrap();
    DiffusionForecaster::open(&path, &Options { precision: Precision::F32, ..options.clone() }).unwrap()
}

/// Two frames of a shower that moves; a corner is always missing.
fn request(rows: usize, columns: usize, members: usize, wet: bool) -> Request {
    let grid = Arc::new(Grid {
        proj: String::new(),
        wkt: None,
        x: GridAxis { first: 0.0, step: 1000.0, len: columns },
        y: GridAxis { first: 0.0, step: -1000.0, len: rows },
    });
    let cadence = Cadence::every_seconds(300).unwrap();
    let frame = |i: usize| {
        let values = Array3::from_shape_fn((1, rows, columns), |(_, y, x)| {
            let distance = (y as f32 - 7.0).powi(2) + (x as f32 - 6.0 - i as f32).powi(2);
            if y < 3 && x < 3 {
                return f32::NAN;
            }
            if wet { 12.0 * (-distance / 20.0).exp() } else { 0.0 }
        });
        let input = InputRef { topic: "t".into(), partition: 0, offset: i as i64, digest: "".into() };
        let slot = ValidTime::from_unix_seconds(300 * i as i64);
        let variables = Arc::from([Variable::RainRate]);
        Some(Arc::new(Frame { grid: grid.clone(), slot, variables, values, quality: None, input }))
    };
    let window = Window {
        issue_time: IssueTime::from_unix_seconds(300),
        cadence,
        frames: vec![frame(0), frame(1)],
        steering: None,
    };
    Request { stream: "test".into(), window: Arc::new(window), leads: cadence.leads(3), members, steps: None }
}

fn values(forecaster: &mut DiffusionForecaster, request: Request) -> Array4<f32> {
    let mut answers = forecaster.forecast(&[request]);
    answers.remove(0).unwrap().ensembles.remove(0).values
}

/// Equal to the last bit, NaN with NaN.
fn same_bits(a: ndarray::ArrayView3<f32>, b: ndarray::ArrayView3<f32>) -> bool {
    a.dim() == b.dim() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// A model whose members start from those of STEPS, in so many units of their scale, with a window that STEPS can take.
fn of_steps(limit: f64) -> (DiffusionForecaster, Request) {
    let mut metadata = metadata();
    let spec = &mut metadata.spec;
    (spec.context, spec.first_guess, spec.extra) = (3, FirstGuess::Steps, vec![Extra::Extrapolation {}]);
    (spec.network.in_channels, spec.missing_guess) = (5, MissingGuess::Dry);
    spec.residual = Some(Residual { factor: vec![0.3], local: None, limit });
    assert_eq!(spec.faults(), Vec::<String>::new());
    let mut request = request(24, 24, 3, true);
    let window = Arc::make_mut(&mut request.window);
    let mut older = (**window.frames[0].as_ref().unwrap()).clone();
    older.slot = ValidTime::from_unix_seconds(-300);
    window.frames.insert(0, Some(Arc::new(older)));
    (forecaster(&metadata, &Options::default()), request)
}

#[test]
fn a_model_is_warmed_up_for_the_tiles_it_will_see_and_forecasts_as_if_it_were_cold() {
    let mut metadata = metadata();
    metadata.spec.sampler.guidance = Guidance::Precision(PrecisionConfig::default());
    let (mut cold, mut warm) = (forecaster(&metadata, &Options::default()), forecaster(&metadata, &Options::default()));
    let request = request(10, 24, 1, true);
    let context = Context {
        stream: "test".into(),
        variables: vec![Variable::RainRate],
        cadence: request.window.cadence,
        grid: request.window.newest().map(|frame| frame.grid.clone()),
        window_frames: 2,
        leads: 3,
        members: 1,
    };
    assert_eq!(warm.tile_sizes(), [(16, 16)]);
    warm.prepare_for(&Context { grid: None, ..context.clone() });
    assert_eq!(warm.tile_sizes(), [(16, 16)]);
    warm.prepare_for(&context);
    let own = warm.tiles((10, 24)).tile;
    assert!(own.0 < 16 && warm.tile_sizes().contains(&own) && warm.tile_sizes().len() == 2);
    warm.warm_up();
    let (a, b) = (values(&mut cold, request.clone()), values(&mut warm, request));
    assert!(a.outer_iter().zip(b.outer_iter()).all(|(a, b)| same_bits(a, b)));
}

#[test]
fn each_member_starts_from_that_of_steps_with_its_number_or_of_the_extrapolation() {
    let (mut model, mut request) = of_steps(0.0);
    let of = |mut baseline: Box<dyn Forecaster>, request: &Request| {
        baseline.forecast(std::slice::from_ref(request)).remove(0).unwrap().ensembles.remove(0).values
    };
    let compare = |members: &Array4<f32>, guesses: &Array4<f32>| {
        let known: Vec<_> = members.iter().zip(guesses).filter(|(a, b)| a.is_finite() && b.is_finite()).collect();
        assert!(known.len() > members.len() / 2 && known.iter().any(|(a, _)| **a > 2.0));
        // What is below 0.05 mm/h is dry to the model.
        assert!(known.iter().all(|(a, b)| (*a - *b).abs() <= 0.051 + 2e-3 * **b));
    };
    let members = values(&mut model, request.clone());
    compare(&members, &of(Box::<Steps>::default(), &request));
    assert!(members.index_axis(Axis(0), 0) != members.index_axis(Axis(0), 1));
    assert_ne!(model.digest(), model.model.digest, "STEPS is a part of it");
    // STEPS cannot be run with a frame missing.
    Arc::make_mut(&mut request.window).frames[1] = None;
    compare(&values(&mut model, request.clone()), &of(Box::<Extrapolation>::default(), &request));
}

#[test]
fn a_member_with_a_first_guess_of_its_own_does_not_depend_on_the_others() {
    let (mut model, request) = of_steps(5.0);
    let three = values(&mut model, request.clone());
    let two = values(&mut model, Request { members: 2, ..request.clone() });
    (0..2).for_each(|m| assert!(same_bits(two.index_axis(Axis(0), m), three.index_axis(Axis(0), m))));
    assert!(!same_bits(three.index_axis(Axis(0), 0), three.index_axis(Axis(0), 1)));
}

#[test]
fn fewer_steps_are_those_of_a_model_that_is_set_to_take_them_and_never_more() {
    let mut full = forecaster(&metadata(), &Options::default());
    let asked = |steps| Request { steps: Some(steps), ..request(16, 16, 1, true) };
    let all = values(&mut full, request(16, 16, 1, true));
    let (two, more) = (values(&mut full, asked(2)), values(&mut full, asked(9)));
    let same = |a: &Array4<f32>, b: &Array4<f32>| same_bits(a.index_axis(Axis(0), 0), b.index_axis(Axis(0), 0));
    assert_eq!(full.steps(), Some(4));
    assert!(!same(&all, &two) && same(&all, &more));
    // Side by side in one call, each has its own.
    let mut together = full.forecast(&[asked(2), request(16, 16, 1, true)]).into_iter();
    let mut next = || together.next().unwrap().unwrap().ensembles.remove(0).values;
    assert!(same(&two, &next()) && same(&all, &next()));
}

#[test]
fn a_member_does_not_change_with_the_ensemble_or_the_batch() {
    for batch in [1, 3] {
        let mut forecaster = forecaster(&metadata(), &Options { batch, ..Default::default() });
        let many = values(&mut forecaster, request(16, 16, 5, true));
        let few = values(&mut forecaster, request(16, 16, 2, true));
        for member in 0..2 {
            let (a, b) = (many.index_axis(Axis(0), member), few.index_axis(Axis(0), member));
            assert!(same_bits(a, b), "batch {batch}, member {member}");
        }
        assert!(!same_bits(many.index_axis(Axis(0), 0), many.index_axis(Axis(0), 1)), "members differ");
    }
}

/// Requests of two streams of which each fills a batch in part, as a GPU takes them.
#[test]
fn members_of_several_requests_share_batches() {
    let options = Options { batch: 3, ..Default::default() };
    let other = |members| Request { stream: "other".into(), ..request(16, 16, members, true) };
    let alone = [
        values(&mut forecaster(&metadata(), &options), request(16, 16, 2, true)),
        values(&mut forecaster(&metadata(), &options), other(3)),
    ];
    let requests = [request(16, 16, 2, true), request(16, 16, 1, false), other(3)];
    for mixes in [false, true] {
        let mut forecaster = forecaster(&metadata(), &options);
        forecaster.mixes = mixes;
        let together: Vec<Array4<f32>> =
            forecaster.forecast(&requests).into_iter().map(|a| a.unwrap().ensembles.remove(0).values).collect();
        for (alone, together) in alone.iter().zip([&together[0], &together[2]]) {
            assert_eq!(alone.dim(), together.dim());
            let near = |(a, b): (&f32, &f32)| a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-3 * (1.0 + a.abs());
            assert!(alone.iter().zip(together).all(near));
            let same = || alone.outer_iter().zip(together.outer_iter()).all(|(a, b)| same_bits(a, b));
            assert!(mixes || same(), "to the last bit on a CPU");
        }
    }
}

#[test]
fn other_requests_and_a_restart_change_nothing() {
    let mut first = forecaster(&metadata(), &Options::default());
    let alone = values(&mut first, request(20, 16, 1, true));
    let mut second = forecaster(&metadata(), &Options::default());
    let mut answers = second.forecast(&[request(16, 16, 2, true), request(20, 16, 1, true)]);
    let together = answers.remove(1).unwrap().ensembles.remove(0).values;
    assert!(same_bits(alone.index_axis(Axis(0), 0), together.index_axis(Axis(0), 0)));
    assert_eq!(first.digest(), second.digest());
}

#[test]
fn any_size_of_domain_and_missing_stays_missing() {
    let mut forecaster = forecaster(&metadata(), &Options::default());
    for (rows, columns) in [(5, 7), (16, 16), (21, 40)] {
        let values = values(&mut forecaster, request(rows, columns, 2, true));
        assert_eq!(values.dim(), (2, 3, rows, columns));
        for ((_, _, y, x), v) in values.indexed_iter() {
            assert_eq!(v.is_nan(), y < 3 && x < 3, "{y} {x}: {v}");
            assert!(v.is_nan() || (0.0..=128.0).contains(v));
        }
    }
}

#[test]
fn around_a_domain_that_fills_no_tile_a_missing_first_guess_is_dry() {
    for (missing_guess, mm_h) in [(MissingGuess::Zero, 10.36), (MissingGuess::Dry, 0.0), (MissingGuess::Masked, 0.0)] {
        let mut metadata = metadata();
        metadata.spec.missing_guess = missing_guess;
        metadata.spec.network.in_channels += i64::from(missing_guess == MissingGuess::Masked);
        assert_eq!(metadata.spec.faults(), Vec::<String>::new());
        let model = forecaster(&metadata, &Options::default());
        let request = request(5, 7, 1, true);
        let prepared = model.prepare(&request, model.frames(&request.window).unwrap()).unwrap();
        assert_eq!(prepared.domain, (6, 8), "a row and a column more");
        // Of a future frame: the first guess, two masks, and whether the first guess is known.
        let seen = model.start(&prepared, 0).condition.channels.narrow(1, 2, 3);
        for (lead, y, x) in (0..3).flat_map(|lead| (0..48).map(move |cell| (lead, cell / 8, cell % 8))) {
            let is_known = y < 5 && x < 7 && !(y < 3 && x < 3);
            let rain = metadata.spec.transforms[0].inverse(seen.double_value(&[0, lead, 0, y, x]) as f32);
            let is_right = if is_known { rain > 0.1 } else { (rain - mm_h).abs() < 0.02 };
            assert!(is_right, "{missing_guess:?} {lead} {y} {x}: {rain} mm/h");
            if missing_guess == MissingGuess::Masked {
                assert_eq!(seen.double_value(&[0, lead, 3, y, x]), f64::from(u8::from(is_known)), "{lead} {y} {x}");
            }
        }
    }
}

#[test]
fn a_missing_frame_is_tolerated_and_a_missing_window_refused() {
    let mut forecaster = forecaster(&metadata(), &Options::default());
    let mut one = request(16, 16, 1, true);
    Arc::make_mut(&mut one.window).frames[0] = None;
    assert_eq!(values(&mut forecaster, one.clone()).dim(), (1, 3, 16, 16));
    Arc::make_mut(&mut one.window).frames[1] = None;
    let error = forecaster.forecast(&[one]).remove(0).unwrap_err().to_string();
    assert!(error.contains("every frame is missing"), "{error}");
}

#[test]
fn a_dry_window_gives_zeros_without_the_network() {
    // Weights that would give NaN if they were used.
    let mut forecaster = forecaster(&metadata(), &Options::default());
    forecaster.sampler.process.schedule.alpha_bar = vec![f64::NAN; 1000];
    let values = values(&mut forecaster, request(16, 16, 3, false));
    for ((_, _, y, x), v) in values.indexed_iter() {
        assert!(if y < 3 && x < 3 { v.is_nan() } else { *v == 0.0 });
    }
}

#[test]
fn a_lead_that_the_model_does_not_give_is_refused() {
    let mut forecaster = forecaster(&metadata(), &Options::default());
    let mut later = request(16, 16, 1, true);
    later.leads = vec![LeadTime::from_seconds(600)];
    assert_eq!(values(&mut forecaster, later.clone()).dim(), (1, 1, 16, 16));
    for seconds in [450, 1200, 0, -300] {
        later.leads = vec![LeadTime::from_seconds(seconds)];
        assert!(forecaster.forecast(&[later.clone()]).remove(0).is_err(), "{seconds}");
    }
}

#[test]
fn guided_models_give_a_precision_map() {
    let guidance = Guidance::Precision(PrecisionConfig { strength: 1.5, queue: 2, ..Default::default() });
    let sampler = SamplerConfig { guidance, ..spec().sampler };
    let options = Options { sampler: Some(sampler), ..Default::default() };
    let mut guided = forecaster(&metadata(), &options);
    let plain = forecaster(&metadata(), &Options::default());
    assert_ne!(guided.digest(), plain.digest(), "how it samples is part of what it is");
    let precision = guided.forecast(&[request(20, 18, 2, true)]).remove(0).unwrap().precision.unwrap();
    assert_eq!(precision.dim(), (3, 20, 18));
    let known: Vec<f32> = precision.iter().copied().filter(|v| v.is_finite()).collect();
    assert_eq!(known.len(), precision.len() - 3 * 9);
    assert!(known.iter().all(|v| *v >= 0.0) && known.iter().any(|v| *v > 0.0));
}

#[test]
fn it_says_what_it_takes_and_refuses_the_rest() {
    let forecaster = forecaster(&metadata(), &Options::default());
    let request = request(16, 16, 1, true);
    let context = crate::Context {
        stream: "test".into(),
        variables: vec![Variable::RainRate],
        cadence: request.window.cadence,
        grid: Some(request.window.frames[0].as_ref().unwrap().grid.clone()),
        window_frames: 2,
        leads: 3,
        members: 8,
    };
    forecaster.check(&context).unwrap();
    let mut grid = (**context.grid.as_ref().unwrap()).clone();
    (grid.x.step, grid.y.step) = (5000.0, -5000.0);
    let other = crate::Context {
        variables: vec![Variable::XWind],
        cadence: Cadence::every_seconds(600).unwrap(),
        grid: Some(Arc::new(grid)),
        leads: 4,
        ..context
    };
    let error = forecaster.check(&other).unwrap_err().to_string();
    for part in ["takes variables rain_rate", "300 s", "at most 3 leads", "1000 to 2000 m, the grid has 5000 m"] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
