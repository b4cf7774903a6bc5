//! Students of few steps, from the teacher's weights to a model.

use super::super::distill::DistillConfig;
use super::*;
use crate::network::config::UNET_PREFIX;

/// A task whose model sees the wind that says where rain will be, with so many steps of a sampler.
fn of_steps(steps: usize) -> Task {
    let mut task = task(serde_json::json!({
        "variables": ["rain_rate"], "transforms": [{"rain": {"dry_below_mm_h": 0.05}}], "missing_guess": "dry",
        "extra": [{"variable": {"name": "x_wind", "transform": {"scale": {"by": 10.0}}}}],
        "network": {"in_channels": 5, "out_channels": 1},
        "sampler": {"solver": {"method": "ddim", "grid": "uniform-t", "steps": steps}}
    }));
    task.training.batch = 3;
    task
}

/// A model that has learnt a little.
fn teacher(archive: &Archive) -> Trainer {
    let mut teacher = Trainer::new(of_steps(8), archive, Device::Cpu).unwrap();
    for _ in 0..20 {
        teacher.step(archive).unwrap();
    }
    teacher
}

/// A task for a student of so many steps, in the units of its teacher.
fn of_student(teacher: &Trainer, steps: usize) -> Task {
    let mut task = of_steps(steps);
    task.model.residual.clone_from(&teacher.task().model.residual);
    task.training.distill = Some(DistillConfig { teacher_steps: 4, ..DistillConfig::default() });
    task.training.optimizer.learning_rate = 5e-4;
    task
}

#[test]
fn a_student_comes_nearer_to_its_teacher_who_stays_as_he_is_and_resumes_exactly() {
    let archive = Archive::new(vec![event()], &of_steps(8), 1).unwrap();
    let teacher = teacher(&archive);
    let task = of_student(&teacher, 2);
    let mut student = Trainer::new(task.clone(), &archive, Device::Cpu).unwrap();
    let error = student.step(&archive).unwrap_err().to_string();
    assert!(error.contains("--from"), "{error}");
    student.start_from(&teacher.averaged()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let before = student.validation_loss(&archive, 4);
    assert!(before > 0.0, "two steps of it are not four of its teacher");
    let mut losses = Vec::new();
    for step in 0..40 {
        if step == 36 {
            student.checkpoint().save(&path).unwrap();
        }
        losses.push(student.step(&archive).unwrap());
    }
    let after = student.validation_loss(&archive, 4);
    assert!(after < 0.9 * before, "{before} -> {after}");
    let (taught, learnt) = (student.checkpoint().group("teacher"), student.checkpoint().group("weights"));
    let is_of_network = |name: &String| name.strip_prefix(UNET_PREFIX).is_some_and(|rest| rest.starts_with('.'));
    assert!(!taught.is_empty() && taught.len() == learnt.keys().filter(|name| is_of_network(name)).count());
    assert!(taught.iter().all(|(name, weight)| *weight == teacher.averaged()[name]));
    assert!(taught.iter().any(|(name, weight)| *weight != learnt[name]));

    let mut resumed = Trainer::resume(&Checkpoint::load(&path, &task.model).unwrap(), &archive, Device::Cpu).unwrap();
    for expected in &losses[36..] {
        assert_eq!(resumed.step(&archive).unwrap(), *expected);
    }
    assert!(resumed.averaged().iter().all(|(name, weight)| *weight == student.averaged()[name]));
}

#[test]
fn beside_the_crps_of_members_the_teacher_counts_by_its_weight() {
    let archive = Archive::new(vec![event()], &of_steps(8), 1).unwrap();
    let teacher = teacher(&archive);
    let loss = |judged: bool, weight: Option<f64>| {
        let mut task = of_student(&teacher, 1);
        task.training.loss.ensemble = judged.then(EnsembleLoss::default);
        task.training.distill = weight.map(|weight| DistillConfig { teacher_steps: 4, weight });
        let mut student = Trainer::new(task, &archive, Device::Cpu).unwrap();
        student.start_from(&teacher.averaged()).unwrap();
        student.step(&archive).unwrap().loss
    };
    let (members, taught) = (loss(true, None), loss(false, Some(1.0)));
    let (both, more) = (loss(true, Some(1.0)), loss(true, Some(3.0)));
    assert!(members > 0.0 && taught > 0.0);
    for (found, expected) in [(both, members + taught), (more, members + 3.0 * taught)] {
        assert!((found - expected).abs() < 1e-4 * expected, "{found} {expected}");
    }
}
