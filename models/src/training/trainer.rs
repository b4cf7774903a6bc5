//! The loop: batch, forward, backward, step, average.

use std::collections::BTreeMap;
use std::sync::Arc;

use tch::{Device, Kind, Tensor, nn};

use super::TrainingError;
use super::ahead::Ahead;
use super::average::Average;
use super::batch::{self, Batch};
use super::checkpoint::{Checkpoint, Parent};
use super::config::{Precision, Task};
use super::data::Archive;
use super::distill::Teacher;
use super::domains::{self, Phase};
use super::ensemble;
use super::flat::{Flat, Gradients};
use super::loss;
use super::optimizer::AdamW;
use super::stages::{self, Networks, Stage};
use super::tuning;
use crate::diffusion::process::{Process, step_tensor};
use crate::network::config::{AUTOENCODER_PREFIX, UNET_PREFIX};
use crate::network::{Autoencoder, init};
use crate::weights;

mod heads;
mod working;

use working::Working;

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
/// Parameters, their average and the optimizer's state are f32, each in one buffer; the network computes in its own copy of the
/// parameters, of the type that [`Precision`] says, which is renewed after every step. While it computes, a thread cuts the
/// crops of the next batch.
#[derive(Debug)]
pub struct Trainer {
    task: Task,
    device: Device,
    process: Process,
    networks: Networks,
    working: Working,
    parameters: Flat,
    average: Average,
    /// Those that have heads of their own.
    domains: Vec<Arc<str>>,
    /// What tuning keeps of the model as it was.
    bank: Option<Tensor>,
    /// What a student learns from.
    teacher: Option<Teacher>,
    parent: Option<Parent>,
    optimizer: AdamW,
    ahead: Ahead,
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
        let (denoiser, predictor) = weights::networks(&store, &task.model);
        // Latents have one meaning for all: they are computed in f32.
        let exact = nn::VarStore::new(device);
        let autoencoder = task.model.autoencoder.as_ref();
        let autoencoder = autoencoder.map(|sizes| Autoencoder::new(&weights::at(&exact, AUTOENCODER_PREFIX), sizes));
        let networks = Networks { denoiser, predictor, autoencoder };
        [&store, &exact].into_iter().for_each(|store| init::initialise(store, task.training.seed));
        // As they lie in their buffer: those of a store side by side, heads of domains behind them.
        let mut parameters = copies(&exact);
        parameters.extend(copies(&store));
        let domains: Vec<Arc<str>> = match &task.training.domains {
            Some(_) => archive.domains().cloned().collect(),
            None => Vec::new(),
        };
        if domains.iter().any(|domain| domain.is_empty()) {
            let lacks = "training.domains needs the domain of each file of data.train";
            return Err(TrainingError::Config(vec![lacks.to_owned()]));
        }
        let common: BTreeMap<String, Tensor> =
            parameters.iter().map(|(name, value)| (name.clone(), value.shallow_clone())).collect();
        parameters.extend(domains.iter().flat_map(|domain| heads::heads_of(&common, domain)));
        let parameters = Flat::ordered(&parameters);
        if task.training.precision == Precision::Bf16 {
            store.bfloat16();
        }
        let working = Working::new([&exact, &store], &parameters);
        let optimizer = AdamW::new(task.training.optimizer.clone(), &parameters);
        let average = Average::new(task.training.average(), &parameters);
        let process = Process::new(task.model.process).with_target(task.model.target);
        let (bank, teacher, parent, step) = (None, None, None, 0);
        Ok(Self {
            task,
            device,
            process,
            networks,
            working,
            parameters,
            average,
            domains,
            bank,
            teacher,
            parent,
            optimizer,
            ahead: Ahead::default(),
            step,
        })
    }

    /// Goes on from a checkpoint; the next losses are those of a run that was never stopped.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] if it holds other parameters than the configuration in it says.
    pub fn resume(checkpoint: &Checkpoint, archive: &Archive, device: Device) -> Result<Self, TrainingError> {
        let mut trainer = Self::new(checkpoint.task.clone(), archive, device)?;
        checkpoint.restore("weights", trainer.parameters.named_mut())?;
        checkpoint.restore("ema", trainer.average.weights_mut())?;
        checkpoint.restore("adam_mean", trainer.optimizer.mean.named_mut())?;
        checkpoint.restore("adam_square", trainer.optimizer.square.named_mut())?;
        trainer.optimizer.restore_counts(&checkpoint.group("adam_count"), checkpoint.step);
        if trainer.task.training.tuning.is_some() {
            let bank = checkpoint.group("bank").remove(CLIPS);
            trainer.bank = bank.map(|clips| clips.to_device(device));
        }
        trainer.teacher = Teacher::of(&trainer.task, &checkpoint.group("teacher"), device)?;
        trainer.step = checkpoint.step;
        trainer.parent.clone_from(&checkpoint.parent);
        trainer.renew_working();
        Ok(trainer)
    }

    /// Starts from the weights of another model, by name. Where it took fewer channels, the further ones count nothing yet; what it
    /// has no predictive stream or autoencoder for starts as without it.
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
                (None, _) if !name.starts_with(UNET_PREFIX) => Ok((name.clone(), parameter.shallow_clone())),
                _ => {
                    let found = size.map_or_else(|| "nothing".to_owned(), |size| format!("{size:?}"));
                    Err(TrainingError::Weights(format!("{name} is {found}, {expected:?} was expected")))
                }
            }
        };
        let fitted = self.parameters.named().iter().map(fitted).collect::<Result<BTreeMap<_, _>, _>>()?;
        copy_into(self.parameters.named_mut(), &fitted);
        self.average = Average::new(self.task.training.average(), &self.parameters);
        self.renew_working();
        self.bank = tuning::bank(&self.networks.denoiser, &self.process, &self.task, self.device);
        self.teacher = Teacher::of(&self.task, self.parameters.named(), self.device)?;
        Ok(())
    }

    /// Says whose weights [`Trainer::start_from`] started from; checkpoints keep it.
    pub fn descends_from(&mut self, parent: Parent) {
        self.parent = Some(parent);
    }

    /// Whose weights it started from, if anybody said so.
    pub fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// All that is needed to go on.
    pub fn checkpoint(&self) -> Checkpoint {
        let mut checkpoint = Checkpoint::new(self.task.clone(), self.step);
        checkpoint.parent.clone_from(&self.parent);
        checkpoint.add("weights", self.parameters.named());
        checkpoint.add("ema", self.average.weights());
        checkpoint.add("adam_mean", self.optimizer.mean.named());
        checkpoint.add("adam_square", self.optimizer.square.named());
        checkpoint.add("adam_count", &self.optimizer.counts());
        if let Some(bank) = &self.bank {
            checkpoint.add("bank", &BTreeMap::from([(CLIPS.to_owned(), bank.shallow_clone())]));
        }
        if let Some(teacher) = &self.teacher {
            checkpoint.add("teacher", &teacher.weights());
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

    /// The stage of the step that was done last, or of the first.
    pub fn stage(&self) -> Stage {
        self.stage_of(self.step.saturating_sub(1))
    }

    fn stage_of(&self, step: u64) -> Stage {
        self.task.training.stages.of(&self.task.model, step, self.task.training.steps)
    }

    /// One step of the optimizer.
    ///
    /// The program reads from the device once: the losses and the norm of the gradient, together, when the backward passes are
    /// queued and before any parameter changes. Behind that it only queues.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`] if the loss is no number.
    pub fn step(&mut self, archive: &Archive) -> Result<StepReport, TrainingError> {
        if self.task.training.tuning.is_some() && self.bank.is_none() {
            let without = "tuning needs the weights of a trained model to start from (squall train --from)";
            return Err(TrainingError::Config(vec![without.to_owned()]));
        }
        if self.task.training.distill.is_some() && self.teacher.is_none() {
            let without = "distill needs the weights of a teacher to start from (squall train --from)";
            return Err(TrainingError::Config(vec![without.to_owned()]));
        }
        let (step, parts) = (self.step, self.task.training.accumulate as u64);
        if self.task.training.domains.as_ref().is_some_and(|d| d.first(self.task.training.steps) == step) {
            self.part_heads();
        }
        let mut gradients = Gradients::none(&self.parameters);
        let of_parts = (step * parts..(step + 1) * parts).map(|index| self.part(archive, index, &mut gradients));
        let mut unread: Vec<Tensor> = of_parts.collect();
        unread.push(gradients.norm());
        let mut numbers = read(&unread);
        let gradient_norm = numbers.pop().unwrap_or_default();
        let loss: f64 = numbers.iter().sum();
        if !loss.is_finite() {
            return Err(TrainingError::Diverged { step, loss });
        }
        let learning_rate = self.task.training.learning_rate(step);
        self.optimizer.step(&mut self.parameters, &gradients, gradient_norm, learning_rate);
        self.average.update(&self.parameters, step);
        self.step += 1;
        if self.stage_of(step) != self.stage_of(self.step) {
            self.end_stage(self.stage_of(step));
        }
        self.renew_working();
        if self.stage_of(step) == Stage::Autoencoder && self.stage_of(self.step) != Stage::Autoencoder {
            self.fit_scale(archive);
        }
        Ok(StepReport { step, loss, gradient_norm, learning_rate })
    }

    /// Mean loss of the averaged weights over the first `count` batches of an archive: the same ones each time.
    pub fn validation_loss(&mut self, archive: &Archive, count: u64) -> f64 {
        let averaged = self.averaged();
        copy_into(self.working.variables_mut(), &averaged);
        let mut task = self.task.clone();
        task.training.domains = None;
        task.training.condition_dropout = 0.0;
        task.training.tuning = None;
        let loss = tch::no_grad(|| {
            let of = |index| self.loss(&task, self.stage(), archive, index);
            (0..count).map(|index| of(index).double_value(&[])).sum::<f64>() / count.max(1) as f64
        });
        self.renew_working();
        loss
    }

    /// The loss of a batch, by its number.
    fn loss(&self, task: &Task, stage: Stage, archive: &Archive, index: u64) -> Tensor {
        let (networks, process, device) = (&self.networks, &self.process, self.device);
        match stage {
            Stage::Autoencoder => return stages::reconstruction(networks, task, archive, index, device),
            Stage::Predictor => return stages::prediction(networks, task, archive, index, device),
            Stage::Denoiser => {}
        }
        let batch = || batch::assemble(task, process, networks, archive, index, device);
        let taught = self.teacher.as_ref().map(|teacher| teacher.loss(&networks.denoiser, process, task, &batch()));
        if task.training.loss.ensemble.is_some() {
            let judged = ensemble::loss(networks, process, task, archive, index, device);
            return match (taught, &task.training.distill) {
                (Some(taught), Some(distill)) => judged + taught * distill.weight,
                _ => judged,
            };
        }
        if let Some(taught) = taught {
            return taught;
        }
        let loss = self.loss_of(&batch());
        let bank = self.bank.as_ref().and_then(|bank| tuning::batch_of(task, &self.process, bank, index));
        match (bank, &task.training.tuning) {
            (Some(bank), Some(tuning)) => loss + self.loss_of(&bank) * tuning.weight,
            _ => loss,
        }
    }

    fn loss_of(&self, batch: &Batch) -> Tensor {
        let output = self.networks.denoiser.forward(&batch.input, &step_tensor(&batch.steps, self.device));
        loss::of_denoiser(&self.task, &self.process, &output, batch)
    }

    /// Adds the gradient of one of the batches of a step, by its number, to the sums in f32; gives its part of the loss, which
    /// nobody has waited for.
    ///
    /// Left to itself libtorch sums in the type of the working copy: in bf16 a gradient of less than 1/256 of the sum so
    /// far would be lost.
    fn part(&mut self, archive: &Archive, index: u64, sums: &mut Gradients) -> Tensor {
        let domain = domains::of_batch(&self.task, archive, index).and_then(|i| archive.domains().nth(i).cloned());
        if let Some(domain) = &domain {
            self.take_head(domain);
        }
        let archive = &self.at_hand(archive, index);
        let alone = self.phase(index / self.task.training.accumulate as u64) == Phase::HeadsAlone;
        let stage = self.stage_of(self.step);
        let loss = self.loss(&self.task, stage, archive, index) / self.task.training.accumulate as f64;
        let trains = |name: &str| stage.trains(name) && (domains::is_of_head(name) || !alone);
        let trained = self.working.variables().iter().filter(|(name, _)| trains(name));
        let (names, parameters): (Vec<&String>, Vec<&Tensor>) = trained.unzip();
        let found = Tensor::run_backward(&[&loss], &parameters, false, false);
        let name_of = |name: &String| match &domain {
            Some(domain) if domains::is_of_head(name) => domains::of_domain(name, domain),
            _ => name.clone(),
        };
        let found = names.into_iter().zip(found).filter(|(_, gradient)| gradient.defined());
        sums.add(found.map(|(name, gradient)| (name_of(name), gradient)));
        loss.detach()
    }

    /// The archive with the crops of a batch at hand, if they were drawn ahead. Those of the next batch are drawn from now on.
    fn at_hand(&mut self, archive: &Archive, index: u64) -> Archive {
        let order = |index| batch::order(&self.task, archive, index);
        let ready = self.ahead.take(archive, &order(index));
        let training = &self.task.training;
        if index + 1 < training.steps * training.accumulate as u64 {
            self.ahead.ask(archive, training, order(index + 1), self.device);
        }
        ready
    }

    /// What a stage has trained is its averaged weights from now on.
    fn end_stage(&mut self, stage: Stage) {
        let averaged = self.average.weights().iter().filter(|(name, _)| stage.trains(name));
        let averaged: BTreeMap<_, _> = averaged.map(|(name, weight)| (name.clone(), weight.copy())).collect();
        copy_into(self.parameters.named_mut(), &averaged);
    }

    /// Fits the scale of the latent space, unless the configuration has one.
    fn fit_scale(&mut self, archive: &Archive) {
        let Some(autoencoder) = &mut self.networks.autoencoder else { return };
        if autoencoder.config().scale == 0.0 {
            let scale = stages::fitted_scale(autoencoder, &self.task, archive, self.device);
            autoencoder.set_scale(scale);
            self.task.model.autoencoder = Some(autoencoder.config().clone());
        }
    }

    fn renew_working(&mut self) {
        self.working.renew(&self.parameters);
    }
}

/// Whether weights of the second size take more channels than those of the first, and differ in nothing else.
fn takes_more(size: &[i64], wider: &[i64]) -> bool {
    size.len() == wider.len() && size.len() > 1 && size[1] < wider[1] && size[0] == wider[0] && size[2..] == wider[2..]
}

/// In the order of their names.
fn copies(store: &nn::VarStore) -> Vec<(String, Tensor)> {
    let mut copies: Vec<_> = store.variables().into_iter().map(|(name, p)| (name, p.detach().copy())).collect();
    copies.sort_by(|(a, _), (b, _)| a.cmp(b));
    copies
}

/// Numbers of the device in one transfer.
fn read(numbers: &[Tensor]) -> Vec<f64> {
    let numbers: Vec<Tensor> = numbers.iter().map(|number| number.to_kind(Kind::Float)).collect();
    let together = Tensor::stack(&numbers, 0);
    let mut values = vec![0f32; numbers.len()];
    let count = values.len();
    together.copy_data(&mut values, count);
    values.into_iter().map(f64::from).collect()
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
mod tests;
