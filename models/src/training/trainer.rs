//! The loop: batch, forward, backward, step, average.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Device, Kind, Tensor, nn};

use super::TrainingError;
use super::average::Average;
use super::batch::{self, Batch};
use super::checkpoint::Checkpoint;
use super::config::{Precision, Task};
use super::data::Archive;
use super::domains::{self, Phase};
use super::ensemble;
use super::loss::weighted_square;
use super::optimizer::AdamW;
use super::tuning;
use crate::diffusion::process::{Process, step_tensor};
use crate::network::config::UNET_PREFIX;
use crate::network::{VideoUNet, init};
use crate::weights;

/// Crops that a residual's scale is fitted to.
const FIT_CROPS: u64 = 96;

/// The parameter whose size follows the channels that a network takes.
const INPUT: &str = "input_blocks.0.0.weight";

/// Name of the bank of tuning in its group of a checkpoint.
const CLIPS: &str = "clips";

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Number of the step, from 0.
    pub step: u64,
    /// Mean loss of its batches.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
}

/// A network in training.
///
/// Parameters, their average and the optimizer's state are f32; the network computes in its own copy of the
/// parameters, of the type that [`Precision`] says, which is renewed after every step.
#[derive(Debug)]
pub struct Trainer {
    task: Task,
    device: Device,
    process: Process,
    network: VideoUNet,
    working: BTreeMap<String, Tensor>,
    parameters: BTreeMap<String, Tensor>,
    average: Average,
    /// Those that have heads of their own.
    domains: Vec<Arc<str>>,
    /// What tuning keeps of the model as it was.
    bank: Option<Tensor>,
    optimizer: AdamW,
    step: u64,
}

impl Trainer {
    /// From starting values. An empty residual scale is fitted to crops of the archive.
    ///
    /// # Errors
    /// [`TrainingError::Config`] with every fault.
    pub fn new(mut task: Task, archive: &Archive, device: Device) -> Result<Self, TrainingError> {
        let faults = task.faults();
        if !faults.is_empty() {
            return Err(TrainingError::Config(faults));
        }
        let pairs = match &task.model.residual {
            Some(residual) if residual.factor.is_empty() => batch::pairs(&task, archive, FIT_CROPS),
            _ => Vec::new(),
        };
        if let Some(residual) = task.model.residual.as_mut().filter(|_| !pairs.is_empty()) {
            residual.fit(&pairs);
        }
        let mut store = nn::VarStore::new(device);
        let network = VideoUNet::new(&weights::at(&store, UNET_PREFIX), &task.model.network);
        init::initialise(&store, task.training.seed);
        let mut parameters = copies(&store);
        let domains: Vec<Arc<str>> = match &task.training.domains {
            Some(_) => archive.domains().cloned().collect(),
            None => Vec::new(),
        };
        if domains.iter().any(|domain| domain.is_empty()) {
            let lacks = "training.domains needs the domain of each file of data.train";
            return Err(TrainingError::Config(vec![lacks.to_owned()]));
        }
        let heads: Vec<_> = domains.iter().flat_map(|domain| heads_of(&parameters, domain)).collect();
        parameters.extend(heads);
        if task.training.precision == Precision::Bf16 {
            store.bfloat16();
        }
        let working: BTreeMap<String, Tensor> = store.variables().into_iter().collect();
        let optimizer = AdamW::new(task.training.optimizer.clone(), &parameters);
        let average = Average::new(task.training.average(), &parameters);
        let process = Process::new(task.model.process).with_target(task.model.target);
        let (bank, step) = (None, 0);
        Ok(Self { task, device, process, network, working, parameters, average, domains, bank, optimizer, step })
    }

    /// Goes on from a checkpoint; the next losses are those of a run that was never stopped.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] if it holds other parameters than the configuration in it says.
    pub fn resume(checkpoint: &Checkpoint, archive: &Archive, device: Device) -> Result<Self, TrainingError> {
        let mut trainer = Self::new(checkpoint.task.clone(), archive, device)?;
        checkpoint.restore("weights", &mut trainer.parameters)?;
        checkpoint.restore("ema", trainer.average.weights_mut())?;
        checkpoint.restore("adam_mean", &mut trainer.optimizer.mean)?;
        checkpoint.restore("adam_square", &mut trainer.optimizer.square)?;
        if trainer.task.training.tuning.is_some() {
            let bank = checkpoint.group("bank").remove(CLIPS);
            trainer.bank = bank.map(|clips| clips.to_device(device));
        }
        trainer.step = checkpoint.step;
        trainer.renew_working();
        Ok(trainer)
    }

    /// Starts from the weights of another model, by name. Where it took fewer channels, the further ones count nothing yet.
    ///
    /// # Errors
    /// [`TrainingError::Weights`] if it has other parameters.
    pub fn start_from(&mut self, weights: &BTreeMap<String, Tensor>) -> Result<(), TrainingError> {
        let inputs = format!("{UNET_PREFIX}.{INPUT}");
        let fitted = |(name, parameter): (&String, &Tensor)| {
            let plain = domains::of_all(name);
            let (found, expected) = (weights.get(plain), parameter.size());
            let size = found.map(Tensor::size);
            match (found, &size) {
                (Some(found), Some(size)) if *size == expected => Ok((name.clone(), found.shallow_clone())),
                (Some(found), Some(size)) if plain == inputs && takes_more(size, &expected) => {
                    let wider = parameter.zeros_like();
                    tch::no_grad(|| wider.narrow(1, 0, size[1]).copy_(found));
                    Ok((name.clone(), wider))
                }
                _ => {
                    let found = size.map_or_else(|| "nothing".to_owned(), |size| format!("{size:?}"));
                    Err(TrainingError::Weights(format!("{name} is {found}, {expected:?} was expected")))
                }
            }
        };
        let fitted = self.parameters.iter().map(fitted).collect::<Result<BTreeMap<_, _>, _>>()?;
        copy_into(&mut self.parameters, &fitted);
        self.average = Average::new(self.task.training.average(), &self.parameters);
        self.renew_working();
        self.bank = tuning::bank(&self.network, &self.process, &self.task, self.device);
        Ok(())
    }

    /// All that is needed to go on.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::new(self.task.clone(), self.step);
        checkpoint.add("weights", &self.parameters);
        checkpoint.add("ema", self.average.weights());
        checkpoint.add("adam_mean", &self.optimizer.mean);
        checkpoint.add("adam_square", &self.optimizer.square);
        if let Some(bank) = &self.bank {
            checkpoint.add("bank", &BTreeMap::from([(CLIPS.to_owned(), bank.shallow_clone())]));
        }
        checkpoint
    }

    /// What is trained and how, with what was fitted.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The averaged weights, f32, by name; where domains have heads of their own, with the mean of these.
    pub fn averaged(&self) -> BTreeMap<String, Tensor> {
        let weights = self.average.weights();
        let parted = self.phase(self.step) != Phase::Together;
        let of = |name: &String, weight: &Tensor| {
            let heads: Vec<Tensor> = match parted && domains::is_of_head(name) {
                true => self.domains.iter().map(|d| weights[&domains::of_domain(name, d)].shallow_clone()).collect(),
                false => Vec::new(),
            };
            if heads.is_empty() { weight.shallow_clone() } else { Tensor::stack(&heads, 0).mean_dim(0, false, Kind::Float) }
        };
        let plain = weights.iter().filter(|(name, _)| domains::of_all(name) == *name);
        plain.map(|(name, weight)| (name.clone(), of(name, weight))).collect()
    }

    /// The averaged weights of each domain that has a head of its own.
    pub fn averaged_by_domain(&self) -> Vec<(Arc<str>, BTreeMap<String, Tensor>)> {
        let (weights, parted) = (self.average.weights(), self.phase(self.step) != Phase::Together);
        let of = |domain: &Arc<str>| {
            let head = |name: &String| weights.get(&domains::of_domain(name, domain)).map(Tensor::shallow_clone);
            let own = |(name, weight): (String, Tensor)| (head(&name).unwrap_or(weight), name);
            let weights = self.averaged().into_iter().map(own).map(|(weight, name)| (name, weight)).collect();
            (domain.clone(), weights)
        };
        self.domains.iter().filter(|_| parted).map(of).collect()
    }

    fn phase(&self, step: u64) -> Phase {
        let training = &self.task.training;
        training.domains.as_ref().map_or(Phase::Together, |domains| domains.phase(step, training.steps))
    }

    /// Each domain's head becomes the common one.
    fn part_heads(&mut self) {
        for domain in &self.domains {
            for weights in [&mut self.parameters, self.average.weights_mut()] {
                let heads = heads_of(weights, domain);
                weights.extend(heads);
            }
        }
    }

    /// One step of the optimizer.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`] if the loss is no number.
    pub fn step(&mut self, archive: &Archive) -> Result<StepReport, TrainingError> {
        if self.task.training.tuning.is_some() && self.bank.is_none() {
            let without = "tuning needs the weights of a trained model to start from (squall train --from)";
            return Err(TrainingError::Config(vec![without.to_owned()]));
        }
        let (step, parts) = (self.step, self.task.training.accumulate as u64);
        if self.task.training.domains.as_ref().is_some_and(|d| d.first(self.task.training.steps) == step) {
            self.part_heads();
        }
        let (mut losses, mut gradients) = (0.0, BTreeMap::new());
        for index in step * parts..(step + 1) * parts {
            losses += self.part(archive, index, &mut gradients);
        }
        if !losses.is_finite() {
            return Err(TrainingError::Diverged { step, loss: losses });
        }
        let learning_rate = self.task.training.learning_rate(step);
        let gradient_norm = self.optimizer.step(&mut self.parameters, &gradients, step, learning_rate);
        self.average.update(&self.parameters, step);
        self.renew_working();
        self.step += 1;
        Ok(StepReport { step, loss: losses, gradient_norm, learning_rate })
    }

    /// Mean loss of the averaged weights over the first `count` batches of an archive: the same ones each time.
    pub fn validation_loss(&mut self, archive: &Archive, count: u64) -> f64 {
        let averaged = self.averaged();
        copy_into(&mut self.working, &averaged);
        let mut task = self.task.clone();
        task.training.domains = None;
        task.training.condition_dropout = 0.0;
        task.training.tuning = None;
        let loss = tch::no_grad(|| {
            let of = |index| self.loss(&task, archive, index);
            (0..count).map(|index| of(index).double_value(&[])).sum::<f64>() / count.max(1) as f64
        });
        self.renew_working();
        loss
    }

    /// The loss of a batch, by its number.
    fn loss(&self, task: &Task, archive: &Archive, index: u64) -> Tensor {
        if task.training.loss.ensemble.is_some() {
            return ensemble::loss(&self.network, &self.process, task, archive, index, self.device);
        }
        let loss = self.loss_of(&batch::assemble(task, &self.process, archive, index, self.device));
        let bank = self.bank.as_ref().and_then(|bank| tuning::batch_of(task, &self.process, bank, index));
        match (bank, &task.training.tuning) {
            (Some(bank), Some(tuning)) => loss + self.loss_of(&bank) * tuning.weight,
            _ => loss,
        }
    }

    fn loss_of(&self, batch: &Batch) -> Tensor {
        let output = self.network.forward(&batch.input, &step_tensor(&batch.steps, self.device));
        weighted_square(&output, &batch.target, &batch.weight)
    }

    /// Adds the gradient of one of the batches of a step, by its number, to the sums in f32; gives its part of the loss.
    ///
    /// Left to itself libtorch sums in the type of the working copy: in bf16 a gradient of less than 1/256 of the sum so
    /// far would be lost.
    fn part(&mut self, archive: &Archive, index: u64, sums: &mut BTreeMap<String, Tensor>) -> f64 {
        let domain = domains::of_batch(&self.task, archive, index).and_then(|i| archive.domains().nth(i).cloned());
        if let Some(domain) = &domain {
            let own = self.working.keys().filter(|name| domains::is_of_head(name));
            let own = own.map(|name| (name.clone(), self.parameters[&domains::of_domain(name, domain)].shallow_clone()));
            let own = own.collect();
            copy_into(&mut self.working, &own);
        }
        let alone = self.phase(index / self.task.training.accumulate as u64) == Phase::HeadsAlone;
        let loss = self.loss(&self.task, archive, index) / self.task.training.accumulate as f64;
        loss.backward();
        tch::no_grad(|| {
            for (name, parameter) in &mut self.working {
                let gradient = parameter.grad();
                let is_of_head = domains::is_of_head(name);
                if gradient.defined() && (is_of_head || !alone) {
                    let name = match &domain {
                        Some(domain) if is_of_head => domains::of_domain(name, domain),
                        _ => name.clone(),
                    };
                    let gradient = gradient.to_kind(Kind::Float);
                    match sums.get_mut(&name) {
                        Some(sum) => drop(sum.g_add_(&gradient)),
                        None => drop(sums.insert(name, gradient.copy())),
                    }
                }
                parameter.zero_grad();
            }
        });
        loss.double_value(&[])
    }

    fn renew_working(&mut self) {
        copy_into(&mut self.working, &self.parameters);
    }
}

/// Whether weights of the second size take more channels than those of the first, and differ in nothing else.
fn takes_more(size: &[i64], wider: &[i64]) -> bool {
    size.len() == wider.len() && size.len() > 1 && size[1] < wider[1] && size[0] == wider[0] && size[2..] == wider[2..]
}

/// The parameters of the common head, as those of a domain.
fn heads_of(parameters: &BTreeMap<String, Tensor>, domain: &Arc<str>) -> BTreeMap<String, Tensor> {
    let common = parameters.iter().filter(|(name, _)| domains::of_all(name) == *name && domains::is_of_head(name));
    common.map(|(name, value)| (domains::of_domain(name, domain), value.copy())).collect()
}

fn copies(store: &nn::VarStore) -> BTreeMap<String, Tensor> {
    store.variables().into_iter().map(|(name, p)| (name, p.detach().copy())).collect()
}

fn copy_into(into: &mut BTreeMap<String, Tensor>, from: &BTreeMap<String, Tensor>) {
    tch::no_grad(|| {
        for (name, tensor) in into.iter_mut() {
            if let Some(value) = from.get(name) {
                tensor.copy_(value);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::Array3;
    use squall_fields::{Axis, Cadence, Frame, Grid, InputRef, ValidTime, Variable};

    use super::*;
    use crate::diffusion::ProcessConfig;
    use crate::training::data::Event;

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

        let mut resumed =
            Trainer::resume(&Checkpoint::load(&path, &task.model).unwrap(), &archive, Device::Cpu).unwrap();
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

    #[test]
    fn faults_are_named_together() {
        let mut wrong = task("f32");
        wrong.training.crop.size = 30;
        wrong.model.process = ProcessConfig::Dynamical { ratio: 1.0 };
        let archive = Archive::new(vec![event(12)], &task("f32"), 1).unwrap();
        let error = Trainer::new(wrong, &archive, Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("crop of 30") && error.contains("ratio 1"), "{error}");
    }
}
