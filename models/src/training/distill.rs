//! Progressive distillation (Salimans and Ho 2022): a student says in one step what its teacher says in several.
//!
//! The teacher is the model that the training starts from, and stays as it is. From a noised clip at an instant that
//! the student's solver visits it takes several steps of its own, without noise, to the student's next instant. The
//! student, which starts with the teacher's weights, learns the clean clip from which one step would end there. The
//! publication halves the number of steps again and again, each student the next one's teacher; a teacher may have more
//! than two steps here for one of the student.
//!
//! A student is its teacher with fewer evaluations and no better; what it loses is detail and spread. Beside the almost
//! fair CRPS of a model of one step ([`super::ensemble`]) it keeps members near those of the teacher.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, nn};

use super::TrainingError;
use super::batch::Batch;
use super::config::{Precision, Task};
use super::loss::clean_of;
use crate::ModelSpec;
use crate::diffusion::denoiser::{Condition, Denoiser, NetworkDenoiser};
use crate::diffusion::process::{Process, step_tensor};
use crate::diffusion::solver::{Ddim, Solver};
use crate::diffusion::{Grid, Guidance, Instant, Method, Residual, SolverConfig};
use crate::network::VideoUNet;
use crate::network::config::UNET_PREFIX;
use crate::weights;

/// With more steps than these a student saves little, and a teacher's steps would fall on the same instants.
const MOST: (usize, usize) = (8, 256);

/// How a student is taught. How many steps it has the model's sampler says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistillConfig {
    /// Steps of the teacher from noise to data: a multiple of the student's.
    pub teacher_steps: usize,
    /// What the distance to the teacher counts beside `loss.ensemble`; without that it is the loss.
    pub weight: f64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self { teacher_steps: 8, weight: 1.0 }
    }
}

impl DistillConfig {
    /// What is wrong with it for a task, one sentence each.
    pub(super) fn faults(&self, task: &Task) -> Vec<String> {
        let Task { model, training } = task;
        let (solver, mut faults) = (&model.sampler.solver, Vec::new());
        if solver.steps == 0 || solver.steps > MOST.0 {
            faults.push(format!("distill teaches 1 to {} steps of model.sampler.solver, not {}", MOST.0, solver.steps));
        } else if !(2 * solver.steps..=MOST.1).contains(&self.teacher_steps)
            || !self.teacher_steps.is_multiple_of(solver.steps)
        {
            let (teacher, student, most) = (self.teacher_steps, solver.steps, MOST.1);
            let needed = format!("a multiple of the student's {student} (model.sampler.solver.steps)");
            faults.push(format!("distill.teacher_steps is {needed} from {} to {most}, not {teacher}", 2 * student));
        }
        if solver.method != Method::Ddim || solver.grid != Grid::UniformT || model.sampler.guidance != Guidance::None {
            let needed = "solver.method = \"ddim\" and solver.grid = \"uniform-t\", without guidance";
            faults.push(format!("distill needs model.sampler with {needed}"));
        }
        if !(self.weight > 0.0 && self.weight.is_finite()) {
            faults.push("distill.weight must be above 0".to_owned());
        }
        if model.predictor.is_some() || model.autoencoder.is_some() {
            faults.push("distill is of models without predictor and autoencoder, whose stages it has not".to_owned());
        }
        if training.domains.is_some() || training.tuning.is_some() {
            faults.push("distill has one teacher: neither domains nor tuning go with it".to_owned());
        }
        if training.loss.ensemble.is_none() && (training.loss.scales != [1] || training.loss.spectrum > 0.0) {
            faults.push("a student is judged by its teacher: loss.scales and loss.spectrum have no say".to_owned());
        }
        faults
    }
}

/// What a teacher, as its file describes it, and its student must have in common and have not.
///
/// Its answers would mean something else to the student, or it would not understand what it is asked.
pub fn differences(student: &ModelSpec, teacher: &ModelSpec) -> Vec<String> {
    // Numbers that went through text may differ in their last digit.
    let rounded = |residual: &Option<Residual>| {
        let mut residual = residual.clone();
        if let Some(residual) = &mut residual {
            residual.factor.iter_mut().for_each(|factor| *factor = (*factor * 1e6).round());
        }
        residual
    };
    let same = [
        ("variables", student.variables == teacher.variables),
        ("transforms", student.transforms == teacher.transforms),
        ("cadence", student.cadence_seconds == teacher.cadence_seconds),
        ("context", student.context == teacher.context),
        ("leads", student.leads == teacher.leads),
        ("network", student.network == teacher.network),
        ("process", student.process == teacher.process),
        ("target", student.target == teacher.target),
        ("first_guess", student.first_guess == teacher.first_guess),
        ("missing_guess", student.missing_guess == teacher.missing_guess),
        ("history", student.history == teacher.history),
        ("extra", student.extra == teacher.extra),
        ("residual", rounded(&student.residual) == rounded(&teacher.residual)),
    ];
    let differ = same.iter().filter(|(_, is_same)| !is_same);
    differ.map(|(name, _)| format!("model.{name} of the student is not that of its teacher {}", teacher.name)).collect()
}

/// The diffusion index of the student's solver at a uniform number.
pub(super) fn step(task: &Task, process: &Process, uniform: f64) -> usize {
    let instants = process.schedule.grid(task.model.sampler.solver.grid, task.model.sampler.solver.steps);
    let number = ((uniform * instants.len() as f64) as usize).min(instants.len().saturating_sub(1));
    instants.get(number).and_then(|at| at.step).unwrap_or(0)
}

/// The model as it was when the training began.
#[derive(Debug)]
pub(super) struct Teacher {
    store: nn::VarStore,
    network: VideoUNet,
}

impl Teacher {
    /// With the weights of a task's denoiser, by name; none if the task distills nothing.
    pub(super) fn of(
        task: &Task,
        weights: &BTreeMap<String, Tensor>,
        device: Device,
    ) -> Result<Option<Self>, TrainingError> {
        if task.training.distill.is_none() {
            return Ok(None);
        }
        let mut store = nn::VarStore::new(device);
        let network = VideoUNet::new(&weights::at(&store, UNET_PREFIX), &task.model.network);
        for (name, mut parameter) in store.variables() {
            match weights.get(&name) {
                Some(value) if value.size() == parameter.size() => tch::no_grad(|| parameter.copy_(value)),
                _ => {
                    return Err(TrainingError::Weights(format!("the teacher has no {name} of {:?}", parameter.size())));
                }
            }
        }
        store.freeze();
        if task.training.precision == Precision::Bf16 {
            store.bfloat16();
        }
        Ok(Some(Self { store, network }))
    }

    /// Its weights, by name.
    pub(super) fn weights(&self) -> BTreeMap<String, Tensor> {
        self.store.variables().into_iter().collect()
    }

    /// How far what a student says of a batch is from what it would have to say.
    pub(super) fn loss(&self, student: &VideoUNet, process: &Process, task: &Task, batch: &Batch) -> Tensor {
        let output = student.forward(&batch.input, &step_tensor(&batch.steps, batch.input.device()));
        let teacher_steps = task.training.distill.as_ref().map_or(1, |distill| distill.teacher_steps);
        let teacher = NetworkDenoiser { network: &self.network, process };
        distance(&teacher, process, &task.model.sampler.solver, teacher_steps, &output, batch)
    }
}

/// `sum(weight * snr * (clean - wanted)^2) / sum(weight)` of a student's output: the published loss in x-space, with
/// the signal-to-noise ratio cut off below 1, else noisy instants would hardly count.
fn distance(
    teacher: &dyn Denoiser,
    process: &Process,
    solver: &SolverConfig,
    teacher_steps: usize,
    output: &Tensor,
    batch: &Batch,
) -> Tensor {
    let (channels, all) = (output.size()[2], batch.input.size()[2]);
    let mut sum = output.sum(Kind::Float) * 0.0;
    for pair in solver.instants(&process.schedule).windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        let samples = (0i64..).zip(&batch.steps).filter(|(_, step)| from.step == Some(**step));
        let samples: Vec<i64> = samples.map(|(sample, _)| sample).collect();
        if samples.is_empty() {
            continue;
        }
        let samples = crate::device::sent(&Tensor::from_slice(&samples), output.device());
        let of = |values: &Tensor| values.index_select(0, &samples);
        let input = of(&batch.input);
        let x = input.narrow(2, 0, channels);
        let condition = Condition { channels: input.narrow(2, channels, all - channels) };
        let wanted = tch::no_grad(|| {
            let y = process.from_network(&x, from);
            let way = way(process, from, to, teacher_steps / solver.steps.max(1));
            wanted(&y, &arrival(teacher, process, &condition, &y, &way), from, to)
        });
        let square = (clean_of(process, of(output), &x, from) - wanted).square() * of(&batch.weight);
        sum += square.sum(Kind::Float) * (from.alpha / from.sigma).powi(2).max(1.0);
    }
    sum / batch.weight.expand_as(output).sum(Kind::Float).clamp_min(1e-6)
}

/// The instants of so many steps of a teacher for one of the student, evenly in the index.
fn way(process: &Process, from: &Instant, to: &Instant, count: usize) -> Vec<Instant> {
    let (first, last) = (from.step.unwrap_or(0), to.step.unwrap_or(0));
    let passed = |i: usize| process.schedule.at(first - i * first.saturating_sub(last) / count.max(1));
    (0..count.max(1)).map(passed).chain([*to]).collect()
}

/// Where a teacher ends that takes these steps from the state `y`.
fn arrival(teacher: &dyn Denoiser, process: &Process, condition: &Condition, y: &Tensor, way: &[Instant]) -> Tensor {
    way.windows(2).fold(y.shallow_clone(), |y, pair| {
        let (from, to) = (&pair[0], &pair[1]);
        let noise = teacher.noise(&process.to_network(&y, from), from, condition);
        Ddim.step(&y, &process.from_network(&noise, from), from, to)
    })
}

/// The clean frames that a student must see in the state `y` to go to `arrival` in one step:
/// `(arrival - (sigma_s / sigma_t) y) / (alpha_s - (sigma_s / sigma_t) alpha_t)`.
fn wanted(y: &Tensor, arrival: &Tensor, from: &Instant, to: &Instant) -> Tensor {
    let left = to.sigma / from.sigma;
    (arrival - y * left) / (to.alpha - from.alpha * left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diffusion::ProcessConfig;
    use crate::diffusion::solver::clean;

    /// What an ideal network says of a state of data that are N(0.7, 0.4^2).
    struct Normal;

    impl Denoiser for Normal {
        fn noise(&self, x: &Tensor, at: &Instant, _condition: &Condition) -> Tensor {
            let variance = (at.alpha * 0.4).powi(2) + at.sigma.powi(2);
            (x - at.alpha * 0.7) * (at.sigma / variance)
        }
    }

    fn at(alpha: f64, sigma: f64) -> Instant {
        Instant { step: None, alpha, sigma, g: 1.0 }
    }

    #[test]
    fn what_is_wanted_is_that_from_which_one_step_ends_where_two_did() {
        let process = Process::new(ProcessConfig::Plain {});
        let y = Tensor::ones([1, 1, 1, 1, 1], (Kind::Double, Device::Cpu));
        let condition = Condition { channels: y.shallow_clone() };
        let (from, between, to) = (at(0.6, 0.8), at(0.8, 0.6), at(0.96, 0.28));
        // By hand. At (0.6, 0.8) the noise is (1 - 0.42) 0.8 / 0.6976 = 0.665138, the clean value 0.779817: the state
        // is 0.8 * 0.779817 + 0.6 * 0.665138 = 1.022936. There the noise is (1.022936 - 0.56) 0.6 / 0.4624 = 0.600695,
        // the clean value 0.828148: the state is 0.96 * 0.828148 + 0.28 * 0.600695 = 0.963217. One step from 1 has 0.35
        // of its noise left: (0.963217 - 0.35) / (0.96 - 0.21) = 0.817623.
        let arrival = arrival(&Normal, &process, &condition, &y, &[from, between, to]);
        let wanted = wanted(&y, &arrival, &from, &to);
        for (found, expected) in [(&arrival, 0.963_217), (&wanted, 0.817_623)] {
            let found = found.double_value(&[0, 0, 0, 0, 0]);
            assert!((found - expected).abs() < 2e-6, "{found} {expected}");
        }
        let noise = (&y - &wanted * from.alpha) / from.sigma;
        let step = Ddim.step(&y, &noise, &from, &to);
        assert!((step - &arrival).abs().max().double_value(&[]) < 1e-12);
        // The way to the clean end leaves nothing of the noise.
        assert_eq!(super::wanted(&y, &arrival, &from, &Instant::CLEAN), arrival);
    }

    #[test]
    fn a_teacher_visits_the_instants_of_its_own_sampler() {
        for process in [ProcessConfig::Plain {}, ProcessConfig::Flow {}].map(Process::new) {
            let of = |steps| SolverConfig { method: Method::Ddim, grid: Grid::UniformT, steps };
            for (student, teacher) in [(1, 8), (2, 8), (4, 8)] {
                let (steps, own) = (of(student).instants(&process.schedule), of(teacher).instants(&process.schedule));
                let mut visited = vec![steps[0]];
                for pair in steps.windows(2) {
                    visited.extend(&way(&process, &pair[0], &pair[1], teacher / student)[1..]);
                }
                assert_eq!(visited.len(), own.len());
                let numbers = |instants: &[Instant]| instants.iter().map(|at| at.step.unwrap_or(0)).collect::<Vec<_>>();
                // But for how halves are rounded.
                let near = numbers(&visited).iter().zip(numbers(&own)).all(|(a, b)| a.abs_diff(b) <= 1);
                assert!(near, "{:?} {:?}", numbers(&visited), numbers(&own));
                assert!(visited.windows(2).all(|pair| pair[0].sigma > pair[1].sigma));
            }
        }
    }

    #[test]
    fn a_student_that_equals_several_steps_loses_nothing_and_an_error_counts_by_the_signal() {
        let solver = SolverConfig { method: Method::Ddim, grid: Grid::UniformT, steps: 2 };
        for process in
            [ProcessConfig::Plain {}, ProcessConfig::Flow {}, ProcessConfig::Dynamical { ratio: 0.5 }].map(Process::new)
        {
            let instants = solver.instants(&process.schedule);
            let steps = vec![instants[1].step.unwrap(), instants[0].step.unwrap(), instants[1].step.unwrap()];
            let x = (Tensor::arange(24, (Kind::Float, Device::Cpu)) * 0.7).sin().reshape([3, 2, 1, 2, 2]);
            let missing = x.ones_like();
            let _ = missing.narrow(3, 0, 1).fill_(0.0);
            let beside = x.zeros_like();
            let batch = Batch {
                input: Tensor::cat(&[&x, &beside], 2),
                steps: steps.clone(),
                target: x.zeros_like(),
                weight: missing,
                wanted: None,
            };
            // What a network that predicts noise would have to say of each sample.
            let perfect: Vec<Tensor> = (0i64..)
                .zip(&steps)
                .map(|(i, step)| {
                    let number = instants.iter().position(|at| at.step == Some(*step)).unwrap();
                    let (from, to) = (&instants[number], &instants[number + 1]);
                    let y = process.from_network(&x.narrow(0, i, 1), from);
                    let condition = Condition { channels: beside.narrow(0, i, 1) };
                    let way = way(&process, from, to, 3);
                    let wanted = wanted(&y, &arrival(&Normal, &process, &condition, &y, &way), from, to);
                    process.to_network(&((y - wanted * from.alpha) / from.sigma), from)
                })
                .collect();
            let perfect = Tensor::cat(&perfect, 0);
            let of = |output: &Tensor| distance(&Normal, &process, &solver, 6, output, &batch).double_value(&[]);
            let none = of(&perfect);
            assert!(none < 1e-6, "{:?}: {none}", process.config);
            // The same error of the noise in every frame of the first one, in x-space.
            let error = perfect.zeros_like();
            let _ = error.narrow(1, 0, 1).fill_(0.01);
            // Wherever it is missing it does not count, so half of each sample's cells do.
            let expected: f64 = steps
                .iter()
                .map(|step| {
                    let at = process.schedule.at(*step);
                    let square = |noise: &Tensor| {
                        let noise = process.from_network(noise, &at);
                        let zero = noise.zeros_like();
                        let off = clean(&zero, &noise, &at).square() * batch.weight.narrow(0, 0, 1);
                        off.sum(Kind::Double).double_value(&[])
                    };
                    square(&error.narrow(0, 0, 1)) * (at.alpha / at.sigma).powi(2).max(1.0)
                })
                .sum::<f64>()
                / 12.0;
            let found = of(&(&perfect + &error));
            assert!((found / expected - 1.0).abs() < 0.01, "{:?}: {found} {expected}", process.config);
        }
    }

    #[test]
    fn steps_are_those_of_the_student_alone() {
        let mut task: Task = serde_json::from_value(serde_json::json!({
            "model": {"name": "test", "variables": ["x_wind"], "transforms": [{"scale": {"by": 10.0}}],
                "cadence_seconds": 300, "spacing_m": [900, 1100], "context": 1, "leads": 1,
                "tiling": {"tile": [4, 4], "overlap": 0}, "network": {"in_channels": 4, "out_channels": 1,
                "channels": 32, "mult": [1], "res_blocks": 1, "attention": [], "heads": 2},
                "sampler": {"solver": {"method": "ddim", "grid": "uniform-t", "steps": 4}}},
            "training": {"steps": 1, "crop": {"size": 4}, "distill": {}}
        }))
        .unwrap();
        let process = Process::new(ProcessConfig::Plain {});
        let drawn = [0.0, 0.26, 0.5, 0.99, 1.0].map(|uniform| step(&task, &process, uniform));
        assert_eq!(drawn, [981, 736, 491, 246, 246]);
        let own = |task: &Task| task.training.distill.as_ref().unwrap().faults(task);
        assert_eq!(own(&task), Vec::<String>::new());

        let teacher = ModelSpec { name: "teacher".to_owned(), spacing_m: (1.0, 2.0), ..task.model.clone() };
        assert_eq!(differences(&task.model, &teacher), Vec::<String>::new());
        let other = ModelSpec { leads: 2, process: ProcessConfig::Flow {}, ..teacher };
        assert_eq!(differences(&task.model, &other).len(), 2);

        task.model.sampler.solver = SolverConfig { method: Method::Dpm2m, grid: Grid::UniformT, steps: 3 };
        task.training.distill = Some(DistillConfig { teacher_steps: 8, weight: 0.0 });
        task.training.tuning = Some(crate::training::tuning::TuningConfig::default());
        task.training.loss.spectrum = 0.1;
        let faults = task.faults().join("; ");
        for part in ["multiple of the student's 3", "\"ddim\"", "above 0", "nor tuning", "have no say"] {
            assert!(faults.contains(part), "{part}: {faults}");
        }
    }
}
