//! Losses that see more than cells, in a training.

use super::*;

fn rain(solver: serde_json::Value) -> Task {
    task(serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}], "missing_guess": "dry",
        "extra": [{"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
        "network": {"in_channels": 5, "out_channels": 1}, "sampler": {"solver": solver}
    }))
}

fn denoiser() -> Task {
    rain(serde_json::json!({"method": "dpm2m", "grid": "uniform-lambda", "steps": 2}))
}

fn of_one_step() -> Task {
    let mut task = rain(serde_json::json!({"method": "ddim", "grid": "uniform-t", "steps": 1}));
    task.training.loss.ensemble = Some(EnsembleLoss::default());
    task
}

/// The losses of the first steps, and the validation loss behind them.
fn losses(task: Task) -> (Vec<f64>, f64) {
    let archive = Archive::new(vec![event()], &task, 1).unwrap();
    let mut trainer = Trainer::new(task, &archive, Device::Cpu).unwrap();
    let losses = (0..4).map(|_| trainer.step(&archive).unwrap().loss).collect();
    (losses, trainer.validation_loss(&archive, 2))
}

#[test]
fn without_its_weight_the_spectrum_changes_nothing_and_with_it_counts_by_it() {
    for task in [denoiser(), of_one_step()] {
        let with = |spectrum: f64| {
            let mut task = task.clone();
            task.training.loss.spectrum = spectrum;
            losses(task)
        };
        // As the configuration was before there was such a thing.
        let mut old = serde_json::to_value(&task).unwrap();
        let loss = old["training"]["loss"].as_object_mut().unwrap();
        assert!(loss.remove("spectrum").is_some() && loss.remove("scales").is_some());
        let none = with(0.0);
        assert_eq!(losses(serde_json::from_value(old).unwrap()), none);
        // Of the first step, before any weight has changed.
        let (once, twice) = (with(0.1).0[0] - none.0[0], with(0.2).0[0] - none.0[0]);
        assert!(once > 0.0 && (twice / once - 2.0).abs() < 1e-2, "{once} {twice}");
    }
}

#[test]
fn a_denoiser_that_sees_squares_and_the_spectrum_learns() {
    let mut task = denoiser();
    task.training.loss.spectrum = 0.05;
    task.training.loss.scales = vec![1, 4];
    let mut model = trained(task, event());
    let rain = forecast(&mut model, event().window(3, 2)).remove(0).values;
    assert!(rain.iter().any(|value| *value > 1.0));
}

#[test]
fn what_no_loss_can_see_is_said() {
    let mut task = of_one_step();
    task.training.loss.scales = vec![1, 64];
    task.training.loss.spectrum = -1.0;
    let faults = task.faults().join("; ");
    for part in ["in 1 to the crop's 32", "loss.spectrum is at least 0", "scales of its own"] {
        assert!(faults.contains(part), "{part}: {faults}");
    }
}
