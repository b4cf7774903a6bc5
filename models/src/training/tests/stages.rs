//! Networks beside the denoiser, each trained in a stage of its own, and frames of the past as channels.

use super::super::stages::Stage;
use super::*;
use crate::diffusion::FirstGuess;

/// What it learns when the network sees the wind that says where rain will be.
fn of_wind(more: serde_json::Value) -> serde_json::Value {
    let mut model = serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}], "missing_guess": "dry",
        "extra": [{"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}]
    });
    model.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    model
}

#[test]
fn frames_of_the_past_as_channels_are_trained_and_seen_by_forecasts() {
    // Rain, guess, two masks, wind, and two frames of rain with masks.
    let mut model = trained(
        task(of_wind(serde_json::json!({
            "history": "channels", "network": {"in_channels": 9, "out_channels": 1}
        }))),
        event(),
    );
    let window = event().window(3, 2);
    let rain = forecast(&mut model, window.clone()).remove(0).values;
    assert_eq!(rain.dim(), (1, 3, 48, 48));
    assert!(rain.indexed_iter().all(|((_, _, y, x), value)| value.is_nan() == (y < 4 && x < 4)));
    let mut other = window;
    let oldest = Arc::make_mut(other.frames[0].as_mut().unwrap());
    // Beyond where the motion could tell.
    oldest.values[[0, 40, 40]] += 30.0;
    let other = forecast(&mut model, other).remove(0).values;
    assert!(rain.iter().zip(&other).any(|(a, b)| a.is_finite() && a != b), "the past is not looked at");

    let mut task = task(of_wind(serde_json::json!({
        "history": "channels", "process": {"kind": "dynamical", "ratio": 0.5},
        "network": {"in_channels": 5, "out_channels": 1}
    })));
    task.training.steps = 1;
    let faults = task.faults().join("; ");
    assert!(faults.contains("5 more need 9 channels in") && faults.contains("dynamical"), "{faults}");
}

/// The steps of a trainer, saved after some of them; a run that goes on from there gives the same losses and weights.
fn resumes_exactly(task: &Task, saved_after: u64) -> Trainer {
    let archive = Archive::new(vec![event()], task, 1).unwrap();
    let mut trainer = Trainer::new(task.clone(), &archive, Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut losses = Vec::new();
    for step in 0..task.training.steps {
        if step == saved_after {
            trainer.checkpoint().save(&path).unwrap();
        }
        losses.push(trainer.step(&archive).unwrap());
    }
    let checkpoint = Checkpoint::load(&path, &task.model).unwrap();
    let mut resumed = Trainer::resume(&checkpoint, &archive, Device::Cpu).unwrap();
    for expected in &losses[saved_after as usize..] {
        assert_eq!(resumed.step(&archive).unwrap(), *expected);
    }
    assert!(resumed.averaged().iter().all(|(name, weight)| *weight == trainer.averaged()[name]));
    trainer
}

#[test]
fn a_predictive_stream_is_trained_first_then_left_as_it_is_and_its_mean_is_a_forecast() {
    let mut task = task(of_wind(serde_json::json!({
        // Of 32 channels a cell of 16 pixels, 2 a pixel.
        "first_guess": "persistence", "predictor": {"in_channels": 4, "out_channels": 1, "channels": 32, "mult": [1], "res_blocks": 1, "attention": [],
            "heads": 2, "patch": 4},
        "network": {"in_channels": 8, "out_channels": 1}
    })));
    task.training.steps = 120;
    task.training.stages.predictor = 0.75;
    let archive = Archive::new(vec![event()], &task, 1).unwrap();
    let mut trainer = Trainer::new(task.clone(), &archive, Device::Cpu).unwrap();
    let (mut losses, mut halfway) = (vec![trainer.validation_loss(&archive, 4)], None);
    for step in 0..120 {
        assert_eq!(trainer.stage(), if step <= 90 { Stage::Predictor } else { Stage::Denoiser });
        if step == 90 {
            losses.push(trainer.validation_loss(&archive, 4));
            halfway = Some(trainer.checkpoint().group("weights"));
        }
        trainer.step(&archive).unwrap();
    }
    assert!(losses[1] < 0.9 * losses[0], "{losses:?}");
    let (halfway, end) = (halfway.unwrap(), trainer.checkpoint().group("weights"));
    for (name, weight) in &end {
        assert_eq!(*weight == halfway[name], name.starts_with("predictor."), "{name}");
    }
    assert!(trainer.averaged().iter().filter(|(n, _)| n.starts_with("predictor.")).all(|(n, w)| *w == end[n]));

    // The mean is a forecast: the same for every member, nearer to what comes than the first guess.
    let folder = tempfile::tempdir().unwrap();
    let of = |mean: bool| {
        let path = folder.path().join("model.safetensors");
        let mut metadata = Metadata::of(trainer.task().model.clone());
        metadata.spec.sampler.mean = mean;
        weights::save(&path, &metadata, &trainer.averaged(), Kind::Float).unwrap();
        let options = Options { precision: crate::device::Precision::F32, ..Default::default() };
        let window = event().window(3, 2);
        let leads: Vec<LeadTime> = window.cadence.leads(3);
        let request = Request { stream: "test".into(), window: Arc::new(window), leads, members: 2, steps: None };
        let mut model = DiffusionForecaster::open(&path, &options).unwrap();
        model.forecast(&[request]).remove(0).unwrap().ensembles.remove(0).values
    };
    let members = |values: &ndarray::Array4<f32>| {
        let member = |i| values.index_axis(ndarray::Axis(0), i).iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        (member(0), member(1))
    };
    let (mean, sampled) = (of(true), of(false));
    let (a, b) = members(&mean);
    assert_eq!(a, b);
    let (c, d) = members(&sampled);
    assert!(c != d && c != a);
    let truth = |lead: usize| event().frame(5 + lead).values;
    let error = |forecast: &ndarray::ArrayView3<f32>| {
        let cells = forecast.indexed_iter().filter(|(_, v)| v.is_finite());
        cells.map(|((lead, y, x), v)| (v - truth(lead)[[0, y, x]]).abs()).filter(|e| e.is_finite()).sum::<f32>()
    };
    let guess = FirstGuess::Persistence.fields(&event().window(3, 2), &[Variable::RainRate], 3).unwrap().unwrap();
    let guess = guess.index_axis_move(ndarray::Axis(1), 0);
    let (of_mean, of_guess) = (error(&mean.index_axis(ndarray::Axis(0), 0)), error(&guess.view()));
    assert!(of_mean < of_guess, "{of_mean} {of_guess}");

    task.training.steps = 8;
    resumes_exactly(&task, 3);
    resumes_exactly(&task, 6);
    task.model.predictor = None;
    task.model.sampler.mean = true;
    assert!(task.faults().join("; ").contains("sampler.mean"));
}

#[test]
fn a_latent_space_is_trained_before_what_is_diffused_in_it() {
    let mut task = task(serde_json::json!({
        "variables": ["rain_rate", "x_wind"],
        "transforms": [{"rain": {"dry_below_mm_h": 0.05}}, {"scale": {"by": 10.0}}],
        "missing_guess": "zero", "residual": null, "tiling": {"tile": [16, 16], "overlap": 4},
        "autoencoder": {"in_channels": 2, "channels": 32, "mult": [1, 1], "res_blocks": 1, "latent_channels": 2},
        "network": {"in_channels": 6, "out_channels": 2, "patch": 2}
    }));
    task.training.steps = 80;
    task.training.stages.autoencoder = 0.5;
    let archive = Archive::new(vec![event()], &task, 1).unwrap();
    let mut trainer = Trainer::new(task.clone(), &archive, Device::Cpu).unwrap();
    let mut losses = vec![trainer.validation_loss(&archive, 4)];
    for step in 0..80 {
        assert_eq!(trainer.stage(), if step <= 40 { Stage::Autoencoder } else { Stage::Denoiser });
        if step == 40 || step == 41 {
            losses.push(trainer.validation_loss(&archive, 4));
        }
        trainer.step(&archive).unwrap();
    }
    losses.push(trainer.validation_loss(&archive, 4));
    assert!(losses[1] < 0.5 * losses[0] && losses[3] < 0.9 * losses[2], "{losses:?}");
    let sizes = trainer.task().model.autoencoder.clone().unwrap();
    assert!(sizes.scale > 0.0, "the scale was not fitted");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    weights::save(&path, &Metadata::of(trainer.task().model.clone()), &trainer.averaged(), Kind::Float).unwrap();
    let options = Options { precision: crate::device::Precision::F32, ..Default::default() };
    let mut model = DiffusionForecaster::open(&path, &options).unwrap();
    let ensembles = forecast(&mut model, event().window(3, 2));
    assert_eq!((ensembles.len(), ensembles[0].values.dim()), (2, (1, 3, 48, 48)));
    assert!(ensembles[0].values.iter().any(|v| *v > 1.0), "there is rain");

    task.training.steps = 8;
    resumes_exactly(&task, 2);
    resumes_exactly(&task, 4);
    task.training.stages.autoencoder = 0.0;
    assert!(task.faults().join("; ").contains("autoencoder.scale"));
}
