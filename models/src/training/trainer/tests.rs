//! Training as a loop: it learns, resumes, and counts as it should.

use std::sync::Arc;

use ndarray::Array3;
use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, ValidTime, Variable};

use super::*;
use crate::diffusion::ProcessConfig;
use crate::training::Event;
use crate::training::tuning::TuningConfig;

/// Showers that move east, a frame every 5 minutes.
fn event(frames: usize) -> Event {
    let axis = |step| Axis { first: 0.0, step, len: 64 };
    let grid = Arc::new(Grid { proj: String::new(), wkt: None, x: axis(1000.0), y: axis(-1000.0) });
    let value = |t: usize, y: usize, x: usize| {
        let phase = (x as f32 - 2.0 * t as f32) / 9.0;
        (8.0 * (phase.sin() * (y as f32 / 7.0).cos()) - 2.0).max(0.0)
    };
    let frame = |t: usize| Frame {
        grid: grid.clone(),
        slot: ValidTime::from_unix_seconds(300 * t as i64),
        variables: [Variable::RainRate].into(),
        values: Array3::from_shape_fn(
            (1, 64, 64),
            |(_, y, x)| if (y, x) == (3, 5) { f32::NAN } else { value(t, y, x) },
        ),
        quality: None,
        input: InputRef { topic: "test".into(), partition: 0, offset: t as i64, digest: "".into() },
    };
    let frames: Vec<Arc<Frame>> = (0..frames).map(|t| Arc::new(frame(t))).collect();
    Event::new("showers", Cadence::every_seconds(300).unwrap(), &frames).unwrap()
}

fn task(precision: &str) -> Task {
    let text = format!(
        r#"{{"model": {{"name": "test", "variables": ["rain_rate"], "cadence_seconds": 300, "spacing_m": [900, 1100],
        "context": 2, "leads": 3, "transforms": [{{"rain": {{"dry_below_mm_h": 0.05}}}}],
        "first_guess": "persistence", "target": "velocity", "tiling": {{"tile": [32, 32], "overlap": 8}},
        "residual": {{"factor": [], "local": {{"floor": 0.1, "radius": 1.0, "growth": 1.0}}}},
        "network": {{"in_channels": 4, "out_channels": 1, "channels": 32, "mult": [1, 1], "res_blocks": 1,
        "attention": [], "heads": 2, "patch": 4}}}},
        "training": {{"steps": 40, "batch": 2, "accumulate": 2, "precision": "{precision}",
        "condition_dropout": 0.2, "ema": 0.9, "augment": true, "crop": {{"size": 32, "stride": 8}},
        "optimizer": {{"learning_rate": 2e-3, "warm_up": 5}}}}}}"#
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn training_lowers_the_loss_and_resumes_exactly() {
    let task = task("f32");
    let archive = Archive::new(vec![event(12)], &task, 1).unwrap();
    let mut whole = Trainer::new(task.clone(), &archive, Device::Cpu).unwrap();
    let before = whole.validation_loss(&archive, 4);
    let mut losses = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for step in 0..40 {
        if step == 34 {
            whole.checkpoint().save(&path).unwrap();
        }
        losses.push(whole.step(&archive).unwrap());
    }
    let after = whole.validation_loss(&archive, 4);
    assert!(after < 0.9 * before, "{before} -> {after}");

    let mut resumed = Trainer::resume(&Checkpoint::load(&path, &task.model).unwrap(), &archive, Device::Cpu).unwrap();
    for expected in &losses[34..] {
        assert_eq!(resumed.step(&archive).unwrap(), *expected);
    }
    assert!(resumed.averaged().iter().all(|(name, w)| *w == whole.averaged()[name]));
}

#[test]
fn sixteen_bits_follow_thirty_two() {
    let archive = Archive::new(vec![event(12)], &task("f32"), 1).unwrap();
    let loss = |precision| {
        let mut trainer = Trainer::new(task(precision), &archive, Device::Cpu).unwrap();
        (0..3).map(|_| trainer.step(&archive).unwrap().loss).collect::<Vec<_>>()
    };
    for (a, b) in loss("f32").iter().zip(loss("bf16")) {
        assert!((a - b).abs() < 0.05 * a, "{a} {b}");
    }
}

#[test]
fn gradients_of_sixteen_bits_are_summed_in_thirty_two() {
    let mut task = task("bf16");
    task.training.accumulate = 6;
    let archive = Archive::new(vec![event(12)], &task, 1).unwrap();
    let mut trainer = Trainer::new(task, &archive, Device::Cpu).unwrap();
    // One step, so that no layer starts from zero.
    trainer.step(&archive).unwrap();
    let (mut together, mut alone) = (BTreeMap::new(), Vec::new());
    for index in 6..12 {
        trainer.part(&archive, index, &mut together);
        let mut one = BTreeMap::new();
        trainer.part(&archive, index, &mut one);
        alone.push(one);
    }
    let mut finer = false;
    for (name, sum) in &together {
        assert_eq!(sum.kind(), Kind::Float);
        let of_parts = alone.iter().map(|part| part[name].shallow_clone()).reduce(|a, b| a + b).unwrap();
        assert_eq!(*sum, of_parts, "{name}");
        finer |= *sum != sum.to_kind(Kind::BFloat16).to_kind(Kind::Float);
    }
    assert!(finer, "the sums have no more digits than bf16");
}

/// The loss of a batch as it is written in a publication: the mean of weighted squares, value by value.
fn by_hand(trainer: &Trainer, batch: &Batch) -> f64 {
    let output = trainer.networks.denoiser.forward(&batch.input, &step_tensor(&batch.steps, Device::Cpu));
    let flat = |x: &Tensor| Vec::<f32>::try_from(x.contiguous().reshape([-1])).unwrap();
    let (output, target) = (flat(&output), flat(&batch.target));
    let weight = flat(&batch.weight.expand_as(&batch.target));
    let values = output.iter().zip(&target).zip(&weight);
    let (sum, total) = values.fold((0.0, 0.0), |(sum, total), ((output, target), weight)| {
        let (error, weight) = (f64::from(output - target), f64::from(*weight));
        (sum + weight * error * error, total + weight)
    });
    sum / total
}

#[test]
fn the_loss_of_tuning_is_the_mean_of_the_data_and_a_share_of_the_mean_of_the_bank() {
    let mut task = task("f32");
    (task.training.batch, task.training.accumulate) = (5, 1);
    task.training.tuning = Some(TuningConfig { bank: 3, share: 0.4, weight: 0.3, power: 1.0 });
    let archive = Archive::new(vec![event(12)], &task, 1).unwrap();
    let mut trainer = Trainer::new(task, &archive, Device::Cpu).unwrap();
    let (task, weights) = (trainer.task().clone(), trainer.averaged());
    trainer.start_from(&weights).unwrap();
    // A few steps, so that no layer is zero.
    for _ in 0..3 {
        trainer.step(&archive).unwrap();
    }
    for index in 3..6 {
        let (data, bank) = tch::no_grad(|| {
            let data = batch::assemble(&task, &trainer.process, &trainer.networks, &archive, index, Device::Cpu);
            let bank = tuning::batch_of(&task, &trainer.process, trainer.bank.as_ref().unwrap(), index).unwrap();
            ((data.steps.len(), by_hand(&trainer, &data)), (bank.steps.clone(), by_hand(&trainer, &bank), bank))
        });
        assert_eq!((data.0, bank.0.len()), (3, 2));
        // Behind the noise the bank is the bank, and it is seen without a condition.
        let batch = &bank.2;
        assert_eq!(batch.input.narrow(2, 1, 3).abs().max().double_value(&[]), 0.0);
        for (i, step) in bank.0.iter().enumerate() {
            let (at, i) = (trainer.process.schedule.at(*step), i as i64);
            let clean =
                batch.input.narrow(0, i, 1).narrow(2, 0, 1) * at.alpha - batch.target.narrow(0, i, 1) * at.sigma;
            let nearest = (trainer.bank.as_ref().unwrap() - clean).abs().amax([1i64, 2, 3, 4].as_slice(), false).min();
            let nearest = nearest.double_value(&[]);
            assert!(nearest < 1e-4, "{step}: {nearest}");
        }
        let expected = data.1 + 0.3 * bank.1;
        let found = trainer.step(&archive).unwrap().loss;
        assert!((found - expected).abs() < 1e-4 * expected, "{found} for {} and {}", data.1, bank.1);
    }
}

#[test]
fn faults_are_named_together() {
    let mut wrong = task("f32");
    wrong.training.crop.size = 30;
    wrong.model.process = ProcessConfig::Dynamical { ratio: 1.0 };
    let archive = Archive::new(vec![event(12)], &task("f32"), 1).unwrap();
    let error = Trainer::new(wrong, &archive, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("crop of 30") && error.contains("ratio 1"), "{error}");
}
