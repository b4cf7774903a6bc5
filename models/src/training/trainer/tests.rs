//! Training as a loop: it learns, resumes, and counts as it should.

use std::sync::Arc;

use ndarray::Array3;
use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, ValidTime, Variable};

use super::super::batch::Crops;
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
    let none = || Gradients::none(&trainer.parameters);
    let (mut together, mut alone) = (none(), [(); 6].map(|()| none()));
    for (index, one) in (6..12).zip(&mut alone) {
        let _ = trainer.part(&archive, index, &mut together);
        let _ = trainer.part(&archive, index, one);
    }
    let mut finer = false;
    for name in trainer.parameters.named().keys() {
        let Some(sum) = together.get(name) else { continue };
        assert_eq!(sum.kind(), Kind::Float);
        let of_parts = alone.iter().map(|part| part.get(name).unwrap().shallow_clone()).reduce(|a, b| a + b).unwrap();
        assert_eq!(*sum, of_parts, "{name}");
        finer |= *sum != sum.to_kind(Kind::BFloat16).to_kind(Kind::Float);
    }
    assert!(finer, "the sums have no more digits than bf16");
}

#[test]
fn batches_drawn_ahead_are_those_drawn_in_place_and_end_with_the_trainer() {
    let archive = Archive::new(vec![event(12)], &task("f32"), 1).unwrap();
    let mut trainer = Trainer::new(task("f32"), &archive, Device::Cpu).unwrap();
    assert_eq!(archive.holders(), 1);
    let wanted = |trainer: &Trainer, index| batch::order(&trainer.task, &archive, index);
    let same = |a: &Crops, b: &Crops| {
        let bits = |x: &Tensor| x.nan_to_num(-7.0, None, None);
        let parts = |crops: &Crops| {
            let all = [&crops.history, &crops.future, &crops.beside].into_iter().chain(&crops.guesses);
            all.map(bits).collect::<Vec<_>>()
        };
        parts(a) == parts(b) && a.density == b.density && a.moved.is_none() && b.moved.is_none()
    };
    for step in 0..3 {
        let report = trainer.step(&archive).unwrap();
        // Of two batches a step the next is on its way.
        let next = wanted(&trainer, 2 * (step + 1));
        let ready = trainer.ahead.take(&archive, &next);
        let ahead = ready.at_hand(&next).unwrap();
        assert!(same(&ahead, &batch::drawn(&trainer.task.training, &archive, &next)), "{step}");
        assert!(ready.at_hand(&wanted(&trainer, 0)).is_none() && archive.at_hand(&next).is_none());
        // A trainer that has drawn nothing ahead gives the same losses.
        let mut fresh = Trainer::resume(&trainer.checkpoint(), &archive, Device::Cpu).unwrap();
        assert!(fresh.ahead.take(&archive, &next).at_hand(&next).is_none());
        let mut other = Trainer::new(task("f32"), &archive, Device::Cpu).unwrap();
        let reports: Vec<StepReport> = (0..=step).map(|_| other.step(&archive).unwrap()).collect();
        assert_eq!((reports[step as usize], fresh.step(&archive).unwrap()), (report, other.step(&archive).unwrap()));
        // What was asked for last is drawn, and is not what the trainer needs now.
        let far = wanted(&trainer, 60);
        trainer.ahead.ask(&archive, &trainer.task.training, far, Device::Cpu);
    }
    assert!(archive.holders() > 1);
    drop(trainer);
    assert_eq!(archive.holders(), 1);
}

#[test]
fn a_loss_that_is_no_number_changes_nothing() {
    let archive = Archive::new(vec![event(12)], &task("f32"), 1).unwrap();
    let mut trainer = Trainer::new(task("f32"), &archive, Device::Cpu).unwrap();
    trainer.step(&archive).unwrap();
    let name = format!("{UNET_PREFIX}.{INPUT}");
    let _ = tch::no_grad(|| trainer.parameters.named_mut().get_mut(&name).unwrap().fill_(f64::NAN));
    trainer.renew_working();
    let before = (trainer.parameters.copied(), trainer.optimizer.counts());
    let error = trainer.step(&archive).unwrap_err();
    assert!(matches!(error, TrainingError::Diverged { step: 1, loss } if loss.is_nan()), "{error}");
    let known = |flat: &Flat| flat.named().values().map(|x| x.nan_to_num(7.0, None, None)).collect::<Vec<_>>();
    assert_eq!(known(&trainer.parameters), known(&before.0));
    assert_eq!((trainer.optimizer.counts(), trainer.steps_done()), (before.1, 1));
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
