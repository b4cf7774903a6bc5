//! From events to forecasts: what a configuration asks of the condition is trained and is there when it forecasts.

use std::sync::Arc;

use ndarray::Array3;
use squall_fields::{Axis, Cadence, Ensemble, Frame, Grid, InputRef, LeadTime, ValidTime, Variable, Window};
use tch::{Device, Kind};

use super::augment::Reading;
use super::domains::DomainsConfig;
use super::ensemble::EnsembleLoss;
use super::tuning::TuningConfig;
use super::{Archive, Checkpoint, Event, Parent, Task, Trainer};
use crate::diffusion::forecaster::{DiffusionForecaster, Options};
use crate::weights::{self, Metadata};
use crate::{Forecaster, Request};

mod distill;
mod spectrum;
mod stages;

/// Showers that move east, and a wind that says where they will be; a corner is always missing.
fn event() -> Event {
    showers(1.0)
}

/// The same, as a radar sees it that measures so many times as much.
fn showers(strength: f32) -> Event {
    let axis = |step| Axis { first: 0.0, step, len: 48 };
    let grid = Arc::new(Grid { proj: String::new(), wkt: None, x: axis(1000.0), y: axis(-1000.0) });
    let frame = |t: usize| {
        let value = |(v, y, x): (usize, usize, usize)| {
            let shower = |t: f32| (8.0 * (((x as f32 - 2.0 * t) / 9.0).sin() * (y as f32 / 7.0).cos()) - 2.0).max(0.0);
            match v {
                _ if y < 4 && x < 4 => f32::NAN,
                0 => strength * shower(t as f32),
                _ => shower(t as f32 + 2.0) - 2.0,
            }
        };
        Frame {
            grid: grid.clone(),
            slot: ValidTime::from_unix_seconds(300 * t as i64),
            variables: [Variable::RainRate, Variable::XWind].into(),
            values: Array3::from_shape_fn((2, 48, 48), value),
            quality: None,
            input: InputRef { topic: "test".into(), partition: 0, offset: t as i64, digest: "".into() },
        }
    };
    let frames: Vec<Arc<Frame>> = (0..10).map(|t| Arc::new(frame(t))).collect();
    Event::new("showers", Cadence::every_seconds(300).unwrap(), &frames).unwrap()
}

/// A task whose model has these entries beside those that all have.
fn task(model: serde_json::Value) -> Task {
    let mut task = serde_json::json!({
        "model": {
            "name": "test", "cadence_seconds": 300, "spacing_m": [900, 1100], "context": 2, "leads": 3,
            "first_guess": "extrapolation", "target": "velocity", "tiling": {"tile": [32, 32], "overlap": 8},
            "residual": {"factor": []}, "sampler": {"solver": {"method": "dpm2m", "grid": "uniform-lambda", "steps": 2}},
            "network": {"channels": 32, "mult": [1], "res_blocks": 1, "attention": [], "heads": 2, "patch": 4}
        },
        "training": {
            "steps": 30, "batch": 2, "ema": 0.9, "crop": {"size": 32, "stride": 8, "most_missing": 0.3},
            "optimizer": {"learning_rate": 2e-3, "warm_up": 5}
        }
    });
    for (key, value) in model.as_object().unwrap() {
        match value {
            serde_json::Value::Object(entries) if key == "network" => {
                task["model"][key].as_object_mut().unwrap().extend(entries.clone());
            }
            value => task["model"][key] = value.clone(),
        }
    }
    serde_json::from_value(task).unwrap()
}

/// Trains, and opens what came of it; the validation loss must have fallen.
fn trained(task: Task, event: Event) -> DiffusionForecaster {
    let steps = task.training.steps;
    let archive = Archive::new(vec![event], &task, 1).unwrap();
    let mut trainer = Trainer::new(task, &archive, Device::Cpu).unwrap();
    let before = trainer.validation_loss(&archive, 4);
    for _ in 0..steps {
        trainer.step(&archive).unwrap();
    }
    let after = trainer.validation_loss(&archive, 4);
    assert!(after < 0.95 * before, "{before} -> {after}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    weights::save(&path, &Metadata::of(trainer.task().model.clone()), &trainer.averaged(), Kind::Float).unwrap();
    DiffusionForecaster::open(&path, &Options { precision: crate::device::Precision::F32, ..Default::default() })
        .unwrap()
}

fn forecast(model: &mut DiffusionForecaster, window: Window) -> Vec<Ensemble> {
    let leads: Vec<LeadTime> = window.cadence.leads(3);
    let request = Request { stream: "test".into(), window: Arc::new(window), leads, members: 1, steps: None };
    model.forecast(&[request]).remove(0).unwrap().ensembles
}

/// The window with another value of a variable in some cells of its newest frame.
fn changed(mut window: Window, variable: usize, change: impl Fn(f32) -> f32) -> Window {
    let newest = Arc::make_mut(window.frames.last_mut().unwrap().as_mut().unwrap());
    newest.values.index_axis_mut(ndarray::Axis(0), variable).mapv_inplace(change);
    window
}

#[test]
fn extra_channels_are_trained_and_seen_by_forecasts() {
    let mut model = trained(
        task(serde_json::json!({
            "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}], "missing_guess": "masked",
            "extra": [{"lead_time": {}}, {"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
            "network": {"in_channels": 7, "out_channels": 1}
        })),
        event(),
    );
    assert_eq!(model.coordinates().variables, [vec![Variable::RainRate, Variable::XWind]]);
    let window = event().window(3, 2);
    let rain = forecast(&mut model, window.clone());
    assert_eq!((rain.len(), rain[0].variable, rain[0].values.dim()), (1, Variable::RainRate, (1, 3, 48, 48)));
    for ((_, _, y, x), value) in rain[0].values.indexed_iter() {
        assert_eq!(value.is_nan(), y < 4 && x < 4);
    }
    let other = forecast(&mut model, changed(window.clone(), 1, |wind| -wind));
    // Cells that are dry in both say nothing.
    let differ = rain[0].values.iter().zip(&other[0].values).filter(|(a, b)| a.is_finite() && a != b).count();
    assert!(differ > 100, "the wind is not looked at: {differ} cells differ");
    // A window without the further variable is refused.
    let mut without = window;
    for frame in without.frames.iter_mut().flatten() {
        let frame = Arc::make_mut(frame);
        frame.variables = [Variable::RainRate].into();
        frame.values = frame.values.slice(ndarray::s![..1, .., ..]).to_owned();
    }
    let request = Request {
        leads: without.cadence.leads(3),
        stream: "t".into(),
        window: without.into(),
        members: 1,
        steps: None,
    };
    assert!(model.forecast(&[request]).remove(0).unwrap_err().to_string().contains("no x_wind"));
}

#[test]
fn several_variables_are_extrapolated_trained_and_forecast() {
    let mut model = trained(
        task(serde_json::json!({
            "variables": ["rain_rate", "x_wind"],
            "transforms": [{"rain": {"dry_below_mm_h": 0.05}}, {"scale": {"by": 10.0}}], "missing_guess": "dry",
            "network": {"in_channels": 6, "out_channels": 2}
        })),
        event(),
    );
    let ensembles = forecast(&mut model, event().window(3, 2));
    let variables: Vec<Variable> = ensembles.iter().map(|e| e.variable).collect();
    assert_eq!(variables, [Variable::RainRate, Variable::XWind]);
    assert!(ensembles[1].values.iter().any(|v| *v < -0.5), "a wind has both signs");
}

#[test]
fn a_coarser_crop_has_the_means_of_four_cells_and_a_stronger_one_more_rain() {
    let mut task = task(serde_json::json!({
        "variables": ["rain_rate", "x_wind"], "missing_guess": "dry",
        "transforms": [{"rain": {"dry_below_mm_h": 0.05}}, {"scale": {"by": 10.0}}],
        "network": {"in_channels": 6, "out_channels": 2}
    }));
    (task.training.crop.size, task.training.crop.stride) = (16, 8);
    let archive = Archive::new(vec![event()], &task, 1).unwrap();
    let transforms = &task.model.transforms;
    // Of the newest frame of a crop that holds its place in the event's: its first place.
    let at = |reading: Reading, variable: i64, y: i64, x: i64| {
        let crop = archive.draw(None, 0.0, reading);
        assert_eq!((crop.history.size(), crop.guesses[0].size()), (vec![2, 2, 16, 16], vec![3, 2, 16, 16]));
        let value = crop.history.double_value(&[1, variable, y, x]) as f32;
        transforms[variable as usize].inverse(value)
    };
    let plain = |variable, y, x| at(Reading::PLAIN, variable, y, x);
    for (variable, y, x) in [(0, 4, 5), (1, 6, 2), (1, 5, 3)] {
        let cells = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| plain(variable, 2 * y + dy, 2 * x + dx));
        let mean = cells.iter().sum::<f32>() / 4.0;
        let coarse = at(Reading { zoom: 2, factor: 1.0 }, variable, y, x);
        assert!((coarse - mean).abs() < 0.06 + 0.01 * mean.abs(), "{coarse} {mean}");
        let strong = at(Reading { zoom: 1, factor: 1.5 }, variable, y, x);
        let expected = if variable == 0 { 1.5 * plain(0, y, x) } else { plain(1, y, x) };
        assert!((strong - expected).abs() < 0.06 + 0.01 * expected.abs(), "{strong} {expected}");
    }
    task.training.crop.zoom = 1.5;
    assert!(task.faults().join("; ").contains("crop.zoom"));
}

#[test]
fn events_must_hold_what_a_model_takes() {
    let task = task(serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}],
        "network": {"in_channels": 4, "out_channels": 1}
    }));
    let error = Archive::new(vec![event()], &task, 1).unwrap_err().to_string();
    assert_eq!(error, "training data: showers: expected rain_rate, got rain_rate, x_wind");
}

#[test]
fn a_model_of_one_step_learns_from_its_members_together() {
    let mut task = task(serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}], "missing_guess": "dry",
        "extra": [{"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
        "network": {"in_channels": 5, "out_channels": 1},
        "sampler": {"solver": {"method": "ddim", "grid": "uniform-lambda", "steps": 1}}
    }));
    let judged = EnsembleLoss { scales: vec![1, 4], of_field: 0.1, ..EnsembleLoss::default() };
    task.training.loss.ensemble = Some(judged.clone());
    task.training.steps = 120;
    let mut model = trained(task.clone(), event());
    assert_eq!(model.steps(), Some(1));
    let window = event().window(3, 2);
    let leads: Vec<LeadTime> = window.cadence.leads(3);
    let request = Request { stream: "test".into(), window: Arc::new(window), leads, members: 2, steps: None };
    let rain = model.forecast(&[request]).remove(0).unwrap().ensembles.remove(0).values;
    let (a, b) = (rain.index_axis(ndarray::Axis(0), 0), rain.index_axis(ndarray::Axis(0), 1));
    assert!(a != b, "noise means nothing to it");

    task.model.sampler.solver.steps = 2;
    task.training.loss.ensemble = Some(EnsembleLoss { members: 1, scales: vec![64], ..judged });
    let faults = task.faults().join("; ");
    for part in ["at least 2 members", "scales", "solver.steps = 1"] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
}

#[test]
fn members_are_trained_with_first_guesses_of_their_own() {
    let mut task = task(serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}], "missing_guess": "dry",
        "context": 3, "first_guess": "steps",
        "extra": [{"extrapolation": {}}, {"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
        "network": {"in_channels": 6, "out_channels": 1},
        "sampler": {"solver": {"method": "ddim", "grid": "uniform-lambda", "steps": 1}}
    }));
    task.training.loss.ensemble = Some(EnsembleLoss::default());
    task.training.steps = 60;
    let archive = Archive::new(vec![event()], &task, 1).unwrap();
    let crop = archive.draw(None, 0.5, Reading::PLAIN);
    assert_eq!(crop.guesses.len(), 2);
    assert_ne!(crop.guesses[0], crop.guesses[1]);
    assert!(crop.moved.is_some_and(|moved| moved.size() == crop.future.size() && moved != crop.guesses[0]));
    let mut model = trained(task.clone(), event());
    let known = forecast(&mut model, event().window(3, 3)).remove(0).values.iter().filter(|v| v.is_finite()).count();
    assert!(known > 3 * 48 * 48 * 9 / 10, "{known}");

    task.model.context = 2;
    task.model.variables = vec![Variable::XWind];
    let faults = task.faults().join("; ");
    assert!(faults.contains("rain alone") && faults.contains("3 frames of context"), "{faults}");
}

#[test]
fn training_starts_from_the_weights_of_another_model() {
    let rain = serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}],
        "extra": [{"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
        "network": {"in_channels": 5, "out_channels": 1}
    });
    let first = task(rain.clone());
    let archive = Archive::new(vec![event()], &first, 1).unwrap();
    let mut teacher = Trainer::new(first.clone(), &archive, Device::Cpu).unwrap();
    for _ in 0..5 {
        teacher.step(&archive).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    weights::save(&path, &Metadata::of(teacher.task().model.clone()), &teacher.averaged(), Kind::Float).unwrap();

    let (metadata, parameters) = weights::read(&path).unwrap();
    assert_eq!(metadata.spec, teacher.task().model);
    let mut seeded = first;
    seeded.training.seed = 9;
    let mut pupil = Trainer::new(seeded.clone(), &archive, Device::Cpu).unwrap();
    pupil.start_from(&parameters).unwrap();
    assert!(pupil.averaged().iter().all(|(name, tensor)| *tensor == teacher.averaged()[name]));

    // A run that goes on knows what its parent had learnt from.
    let parent = Parent { name: "teacher".to_owned(), training_data: vec!["a storm".to_owned()] };
    pupil.descends_from(parent.clone());
    let kept = folder.path().join("checkpoint.safetensors");
    pupil.checkpoint().save(&kept).unwrap();
    let checkpoint = Checkpoint::load(&kept, &pupil.task().model).unwrap();
    let resumed = Trainer::resume(&checkpoint, &archive, Device::Cpu).unwrap();
    assert_eq!((resumed.parent(), teacher.parent()), (Some(&parent), None));

    // A network that takes more starts as the one that takes less.
    let mut wider = seeded.clone();
    wider.model.extra.push(crate::diffusion::extra::Extra::LeadTime {});
    wider.model.network.in_channels = 6;
    let mut wider = Trainer::new(wider, &archive, Device::Cpu).unwrap();
    wider.start_from(&parameters).unwrap();
    let (narrow, wide) = (pupil.validation_loss(&archive, 2), wider.validation_loss(&archive, 2));
    assert!((narrow - wide).abs() < 1e-5 * narrow, "{narrow} {wide}");

    seeded.model.network.channels = 64;
    let error = Trainer::new(seeded, &archive, Device::Cpu).unwrap().start_from(&parameters).unwrap_err();
    assert!(error.to_string().starts_with("weights to start from: "), "{error}");
}

#[test]
fn flows_train_and_forecast_like_diffusion() {
    for process in [serde_json::json!({"kind": "flow"}), serde_json::json!({"kind": "poisson", "dimensions": 128})] {
        let mut model = trained(
            task(serde_json::json!({
                "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}], "process": process,
                "extra": [{"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
                "network": {"in_channels": 5, "out_channels": 1}
            })),
            event(),
        );
        let rain = forecast(&mut model, event().window(3, 2)).remove(0).values;
        let known = rain.iter().filter(|value| value.is_finite()).count();
        assert!(known > rain.len() * 9 / 10 && rain.iter().any(|value| *value > 1.0), "{process}: {known}");
    }
}

#[test]
fn domains_share_a_backbone_and_have_heads_of_their_own() {
    let mut task = task(serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}],
        "extra": [{"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
        "network": {"in_channels": 5, "out_channels": 1}
    }));
    task.training.domains = Some(DomainsConfig { heads_from: 0.2, heads_alone_from: 0.6 });
    let events = || vec![showers(3.0).of_domain("wet"), showers(0.3).of_domain("dry")];
    let archive = Archive::new(events(), &task, 1).unwrap();
    let names: Vec<&str> = archive.domains().map(AsRef::as_ref).collect();
    assert_eq!(names, ["dry", "wet"]);
    let crops = |domain| (0..40).map(move |i| (domain, f64::from(i) / 40.0));
    let wettest = |(domain, uniform)| {
        let history = archive.draw(Some(domain), uniform, Reading::PLAIN).history;
        history.nan_to_num(-1.0, None, None).max().double_value(&[])
    };
    let most = |domain| crops(domain).map(wettest).fold(-1.0, f64::max);
    assert!(most(0) + 0.1 < most(1), "{} {}", most(0), most(1));

    let mut trainer = Trainer::new(task.clone(), &archive, Device::Cpu).unwrap();
    let weights = |trainer: &Trainer| trainer.checkpoint().group("weights");
    let head = |domain: &str| format!("{}.out.2.weight{domain}", crate::network::config::UNET_PREFIX);
    let (folder, mut losses) = (tempfile::tempdir().unwrap(), Vec::new());
    let path = folder.path().join("checkpoint.safetensors");
    let mut parted = None;
    for step in 0..30 {
        match step {
            6 => {
                assert!(trainer.averaged_by_domain().is_empty());
                assert_eq!(trainer.averaged()[&head("")], trainer.checkpoint().averaged()[&head("")]);
            }
            14 => trainer.checkpoint().save(&path).unwrap(),
            18 => parted = Some(weights(&trainer)),
            _ => {}
        }
        losses.push(trainer.step(&archive).unwrap());
    }
    let (parted, end) = (parted.unwrap(), weights(&trainer));
    for (name, value) in &end {
        let of_domain = name.contains('@');
        assert_eq!(*value != parted[name], of_domain, "{name}: heads alone are trained at last");
    }
    assert!(end[&head("@dry")] != end[&head("@wet")] && parted[&head("@dry")] != parted[&head("@wet")]);
    let by_domain = trainer.averaged_by_domain();
    let mean = (&by_domain[0].1[&head("")] + &by_domain[1].1[&head("")]) / 2.0;
    let apart = (&trainer.averaged()[&head("")] - mean).abs().max().double_value(&[]);
    assert!(by_domain.len() == 2 && apart < 1e-6, "{apart}");
    assert!(by_domain.iter().all(|(_, weights)| weights.keys().all(|name| !name.contains('@'))));

    let mut resumed = Trainer::resume(&Checkpoint::load(&path, &task.model).unwrap(), &archive, Device::Cpu).unwrap();
    for expected in &losses[14..] {
        assert_eq!(resumed.step(&archive).unwrap(), *expected);
    }
    let nameless = Archive::new(vec![event()], &task, 1).unwrap();
    let error = Trainer::new(task, &nameless, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("the domain of each file"), "{error}");
}

#[test]
fn tuning_learns_new_data_beside_a_bank_of_the_old_model_and_resumes_exactly() {
    let mut of_teacher = task(serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}],
        "extra": [{"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
        "network": {"in_channels": 5, "out_channels": 1}
    }));
    of_teacher.training.condition_dropout = 0.2;
    let archive = Archive::new(vec![event()], &of_teacher, 1).unwrap();
    let mut teacher = Trainer::new(of_teacher.clone(), &archive, Device::Cpu).unwrap();
    for _ in 0..10 {
        teacher.step(&archive).unwrap();
    }
    let mut of_pupil = teacher.task().clone();
    of_pupil.training.tuning = Some(TuningConfig { bank: 3, ..TuningConfig::default() });
    of_pupil.training.beta_average = Some(0.5);
    let mut pupil = Trainer::new(of_pupil.clone(), &archive, Device::Cpu).unwrap();
    let error = pupil.step(&archive).unwrap_err().to_string();
    assert!(error.contains("--from"), "{error}");
    pupil.start_from(&teacher.averaged()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let before = pupil.validation_loss(&archive, 4);
    let mut losses = Vec::new();
    for step in 0..20 {
        if step == 17 {
            pupil.checkpoint().save(&path).unwrap();
        }
        losses.push(pupil.step(&archive).unwrap());
    }
    let after = pupil.validation_loss(&archive, 4);
    assert!(after < before, "{before} -> {after}");
    let checkpoint = Checkpoint::load(&path, &of_pupil.model).unwrap();
    let mut resumed = Trainer::resume(&checkpoint, &archive, Device::Cpu).unwrap();
    for expected in &losses[17..] {
        assert_eq!(resumed.step(&archive).unwrap(), *expected);
    }
    // The bank counts: with another, the losses are others.
    let mut other = of_pupil;
    other.training.tuning = Some(TuningConfig { bank: 3, weight: 0.5, ..TuningConfig::default() });
    let mut other = Trainer::new(other, &archive, Device::Cpu).unwrap();
    other.start_from(&teacher.averaged()).unwrap();
    assert_ne!(other.step(&archive).unwrap().loss, losses[0].loss);
}
